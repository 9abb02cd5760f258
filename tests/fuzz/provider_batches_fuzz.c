// Any input of a job: the first byte says of which API, and what becomes of the job. It ends; if it
// ran, every line has ended once, and every result is one line of JSON.
#include "common/json.h"
#include "tests/unit/batch_jobs_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_results(struct spool *spool, uint64_t *n) {
    struct spool_window window = {0};
    struct slice line;
    for (uint64_t at = 0; spool_line(spool, &window, at, 1 << 26, &line) == 1; at += line.n + 1) {
        struct json_object *row = NULL;
        int rc = json_parse(line, &row, NULL);
        assert(rc == 0 && json_object_is_type(row, json_type_object));
        json_object_put(row);
        ++*n;
    }
    spool_window_free(&window);
}

static void check(struct batch_jobs_world *w, const struct batch_job *job) {
    uint64_t n = 0;
    const struct file *file;
    assert(batch_jobs_is_ended(job) && job->input == NULL && job->at == NULL);
    for (file = w->files.list; file != NULL; file = file->next) {
        check_results(file->spool, &n);
    }
    for (int i = 0; i < 2; i++) {
        if (job->results[i] != NULL) {
            check_results(job->results[i], &n);
        }
    }
    assert(job->state == BATCH_FAILED ? job->n_errors > 0 && n == 0 : job->n_done == job->n_rows);
    assert(job->state != BATCH_COMPLETED || n == job->n_rows);
    assert(job->n_succeeded + job->n_errored + job->n_cancelled + job->n_expired ==
           (job->state == BATCH_FAILED ? 0 : job->n_rows));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct batch_kind *const kinds[] = {&openai_batch, &azure_batch, &gemini_batch,
                                                     &gemini_batch};
    if (size == 0) {
        return 0;
    }
    struct batch_jobs_world w;
    batch_jobs_world_init(&w, 0);
    w.options.lenient = (data[0] & 4) != 0;
    w.options.batch_rows = (data[0] & 8) != 0 ? 3 : 0;
    struct batch_job *job = batch_jobs_world_add(
        &w, kinds[data[0] & 3], (struct slice){.p = (const char *)data + 1, .n = size - 1}, 1);
    job->is_inline = (data[0] & 3) == 3;
    job->faults[BATCH_FAULT_SHUFFLE] = (data[0] & 16) != 0;
    job->faults[BATCH_FAULT_EXPIRE] = (data[0] & 32) != 0;
    job->faults[BATCH_FAULT_CANCELLED] = (data[0] & 96) == 64;
    while (batch_jobs_step(&w.jobs, 1, 1000000)) {
    }
    check(&w, job);
    batch_jobs_world_free(&w);
    return 0;
}
