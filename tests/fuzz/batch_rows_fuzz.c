// A file of answers. Input: provider, whether the rows are elements of an array, the file. Every row that is
// found is read as an answer; none is longer than the file, and the name of each is as it stands.
#include "batch_case.h"

#include "common/json.h"
#include "worker/job_rows.h"

#include <errno.h>

static void read_row(const struct batch_provider *provider, const struct batch_step *step, struct slice row) {
    struct json_object *json = NULL;
    struct batch_answer answer = {0};
    buf_init(&answer.body, 1 << 20);
    if (json_parse(row, &json, NULL) == 0 && json_object_is_type(json, json_type_object) &&
        provider->answer(step, json, &answer) == 0) {
        assert(answer.undone || (answer.status >= 100 && answer.status <= 999));
        assert(batch_name_count(slice_of(answer.name)) <= MODEL_BATCH_MAX);
    }
    json_object_put(json);
    buf_free(&answer.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    struct batch_step step;
    struct job_rows rows;
    struct slice row;
    const struct batch_provider *provider = case_step(data[0] % CASE_PROVIDERS, BATCH_COLLECT, &step);
    struct slice text = case_copy(data + 2, size - 2);
    int rc = job_spool_open(&step.replies, job_spool_folder(""), NULL);
    rc = rc != 0 ? rc : job_spool_add(&step.replies, text);
    rc = rc != 0 ? rc : job_spool_flush(&step.replies);
    assert(rc == 0);
    job_rows_init(&rows, &step.replies, data[1] % 2 == 1 ? "inlinedResponses" : NULL);
    size_t n = 0;
    while ((rc = job_rows_next(&rows, &row)) == 1) {
        n += row.n;
        assert(n <= text.n);
        read_row(provider, &step, row);
    }
    assert(rc == 0 || rc == -EPROTO);
    job_rows_free(&rows);
    batch_step_free(&step);
    free((char *)text.p);
    return 0;
}
