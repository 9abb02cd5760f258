// The life of batch jobs by the clock of the test: states, counts, orders, ends.
#include "common/json.h"
#include "batch_jobs_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define MS    INT64_C(1000)
#define START (1000 * MS)

// input_of makes n lines; the caller frees.
static char *input_of(int n) {
    struct buf b = {.max = 1 << 20};
    int rc = 0;
    for (int i = 0; i < n; i++) {
        rc |= buf_addf(
            &b,
            "{\"custom_id\":\"r%d\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":"
            "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Is it good? "
            "%d\"}]}}\n",
            i, i);
    }
    assert_int_equal(rc, 0);
    return buf_take(&b);
}

static struct batch_job *add(struct batch_jobs_world *w, int n_lines) {
    char *input = input_of(n_lines);
    struct batch_job *job = batch_jobs_world_add(w, &openai_batch, slice_of(input), START);
    free(input);
    return job;
}

// step lets jobs go on until they have nothing to do at this time.
static void step(struct batch_jobs_world *w, int64_t ms) {
    for (int i = 0; i < 100; i++) {
        (void)batch_jobs_step(&w->jobs, START + ms * MS, 1000 * MS);
    }
}

static void a_job_goes_through_its_states_by_the_clock(void **state) {
    struct batch_jobs_world w;
    batch_jobs_world_init(&w, 1000);
    struct batch_job *job = add(&w, 100);
    static const struct {
        int64_t ms;
        enum batch_state state;
        uint64_t n_done;
    } cases[] = {{0, BATCH_VALIDATING, 0},     {99, BATCH_VALIDATING, 0},
                 {100, BATCH_RUNNING, 0},      {500, BATCH_RUNNING, 50},
                 {899, BATCH_RUNNING, 99},     {900, BATCH_FINALIZING, 100},
                 {999, BATCH_FINALIZING, 100}, {1000, BATCH_COMPLETED, 100}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        step(&w, cases[i].ms);
        if (job->state != cases[i].state || job->n_done != cases[i].n_done) {
            fail_msg("at %d ms: state %d, %d done", (int)cases[i].ms, (int)job->state,
                     (int)job->n_done);
        }
    }
    assert_int_equal(job->n_succeeded, 100);
    assert_null(job->input);
    assert_null(job->at);
    assert_null(job->results[0]); // it is a file now
    assert_non_null(files_find(&w.files, slice_of(job->output_id), 7, START));
    assert_null(files_find(&w.files, slice_of(job->output_id), 8, START));
    assert_string_equal(job->error_id, "");
    batch_jobs_world_free(&w);
}

static void a_job_is_cancelled_in_any_state(void **state) {
    static const struct {
        int64_t cancel_ms, end_ms;
        uint64_t n_answered;
    } cases[] = {{0, 100, 0}, {50, 150, 0}, {500, 600, 50}, {950, 1050, 100}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct batch_jobs_world w;
        batch_jobs_world_init(&w, 1000);
        struct batch_job *job = add(&w, 100);
        if (cases[i].cancel_ms > 0) {
            step(&w, 0);
            step(&w, 100 < cases[i].cancel_ms ? 100 : 0);
            step(&w, cases[i].cancel_ms);
        }
        assert_int_equal(batch_jobs_cancel(job, START + cases[i].cancel_ms * MS), 0);
        assert_int_equal(batch_jobs_cancel(job, START + cases[i].cancel_ms * MS + 1), 0);
        step(&w, cases[i].end_ms - 1);
        assert_int_equal(job->state, BATCH_CANCELLING);
        step(&w, cases[i].end_ms);
        assert_int_equal(job->state, BATCH_CANCELLED);
        assert_int_equal(job->n_succeeded, cases[i].n_answered);
        assert_int_equal(job->n_cancelled, 100 - cases[i].n_answered);
        assert_int_equal(batch_jobs_cancel(job, START), -EALREADY);
        batch_jobs_world_free(&w);
    }
}

// order_of reads the ids of a job's results, "r5 r0 ...".
static void order_of(struct batch_jobs_world *w, const struct batch_job *job, char *into,
                     size_t size) {
    struct file *file = files_find(&w->files, slice_of(job->output_id), 7, START);
    struct spool_window window = {0};
    struct slice line;
    assert_non_null(file);
    into[0] = '\0';
    for (uint64_t at = 0; spool_line(file->spool, &window, at, 100000, &line) == 1;
         at += line.n + 1) {
        struct json_object *row = NULL;
        assert_int_equal(json_parse(line, &row, NULL), 0);
        size_t n = strlen(into);
        snprintf(into + n, size - n, "%.*s ", SLICE_FMT(json_text(json_get(row, "custom_id"))));
        json_object_put(row);
    }
    spool_window_free(&window);
}

static void a_shuffle_has_every_line_once(void **state) {
    for (int n = 1; n <= 40; n++) {
        struct batch_jobs_world w;
        char order[400], id[16];
        batch_jobs_world_init(&w, 0);
        assert_int_equal(batch_faults_add(&w.jobs.faults, "shuffle=1", NULL), 0);
        struct batch_job *job = add(&w, n);
        step(&w, 0);
        assert_int_equal(job->state, BATCH_COMPLETED);
        order_of(&w, job, order, sizeof(order));
        for (int i = 0; i < n; i++) {
            snprintf(id, sizeof(id), "r%d ", i);
            const char *at = strstr(order, id);
            if (at == NULL || strstr(at + 1, id) != NULL) {
                fail_msg("of %d lines, %s comes not once: %s", n, id, order);
            }
        }
        assert_true(n < 2 || strncmp(order, "r0 ", 3) != 0);
        batch_jobs_world_free(&w);
    }
}

static void a_queue_is_full_for_one_owner_and_model(void **state) {
    struct batch_jobs_world w;
    batch_jobs_world_init(&w, 1000);
    struct batch_job *first = add(&w, 10);
    w.options.batch_enqueued_tokens = (int64_t)first->enqueued_tokens * 2 - 1;
    step(&w, 0);
    uint64_t n = first->enqueued_tokens;
    assert_true(n > 100);
    assert_true(batch_jobs_queue_is_full(&w.jobs, 7, "m", n, NULL));
    assert_false(batch_jobs_queue_is_full(&w.jobs, 7, "m", n - 1, NULL));
    assert_false(batch_jobs_queue_is_full(&w.jobs, 7, "m", n, first));
    assert_false(batch_jobs_queue_is_full(&w.jobs, 8, "m", n, NULL));
    assert_false(batch_jobs_queue_is_full(&w.jobs, 7, "other", n, NULL));
    struct batch_job *second = add(&w, 10);
    step(&w, 100);
    assert_int_equal(first->state, BATCH_RUNNING);
    assert_int_equal(second->state, BATCH_FAILED);
    assert_string_equal(second->errors[0].code, "token_limit_exceeded");
    first->is_hurried = true;
    step(&w, 101);
    assert_int_equal(first->state, BATCH_COMPLETED);
    assert_false(batch_jobs_queue_is_full(&w.jobs, 7, "m", n, NULL));
    batch_jobs_world_free(&w);
}

static void only_the_first_errors_are_kept(void **state) {
    struct batch_jobs_world w;
    batch_jobs_world_init(&w, 0);
    struct batch_job *job = batch_jobs_world_add(
        &w, &openai_batch, SLICE_LIT("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n"), START);
    step(&w, 0);
    assert_int_equal(job->state, BATCH_FAILED);
    assert_int_equal(job->n_errors, BATCH_ERRORS_MAX);
    assert_int_equal(job->errors[9].line, 10);
    batch_jobs_world_free(&w);
}

static void many_ids_are_told_apart(void **state) {
    struct batch_jobs_world w;
    batch_jobs_world_init(&w, 0);
    char *input = input_of(3000);
    size_t n = strlen(input);
    struct buf twice = {.max = 1 << 20};
    int rc = buf_add_slice(&twice, slice_of(input));
    rc = rc != 0 ? rc : buf_add_slice(&twice, slice_sub(slice_of(input), 0, n / 3000));
    assert_int_equal(rc, 0);
    struct batch_job *job = batch_jobs_world_add(&w, &openai_batch, slice_of(input), START);
    struct batch_job *other = batch_jobs_world_add(&w, &openai_batch, buf_slice(&twice), START);
    job->faults[BATCH_FAULT_NO_FILES] = true; // the lines need not be answered
    step(&w, 0);
    step(&w, 0);
    step(&w, 0);
    assert_int_equal(job->n_errors, 0);
    assert_true(other->n_errors >= 1);
    assert_int_equal(other->errors[0].line, 3001);
    assert_string_equal(other->errors[0].code, "duplicate_custom_id");
    buf_free(&twice);
    free(input);
    batch_jobs_world_free(&w);
}

static void faults_are_read_with_how_many_times(void **state) {
    struct batch_faults f;
    static const char *const bad[] = {"expire",    "=1",        "expire=",    "expire=2",
                                      "expire=-1", "expire=1*", "expire=1*x", "expire=1*-1",
                                      "nothing=1", "expire=1 ", "expire=nan"};
    batch_faults_init(&f);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (batch_faults_add(&f, bad[i], NULL) != -EINVAL) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    assert_int_equal(batch_faults_add(&f, "expire=100%*2", NULL), 0);
    assert_true(batch_fault_hits(&f, BATCH_FAULT_EXPIRE, 1, 1));
    assert_true(batch_fault_hits(&f, BATCH_FAULT_EXPIRE, 1, 2));
    assert_false(batch_fault_hits(&f, BATCH_FAULT_EXPIRE, 1, 3));
    assert_int_equal(batch_faults_add(&f, "row-twice=0.25", NULL), 0);
    int n = 0;
    for (uint64_t i = 0; i < 4000; i++) {
        n += batch_fault_hits(&f, BATCH_FAULT_ROW_TWICE, 1, i);
    }
    assert_in_range(n, 900, 1100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_goes_through_its_states_by_the_clock),
        cmocka_unit_test(a_job_is_cancelled_in_any_state),
        cmocka_unit_test(a_shuffle_has_every_line_once),
        cmocka_unit_test(a_queue_is_full_for_one_owner_and_model),
        cmocka_unit_test(only_the_first_errors_are_kept),
        cmocka_unit_test(many_ids_are_told_apart),
        cmocka_unit_test(faults_are_read_with_how_many_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
