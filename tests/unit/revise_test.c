// A changed model and the records that wait: they go on with the new revision where it asks the same.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

#define FIRST "'batch.size'='1', 'max.retries'='0', 'worker.lost.ms'='1000', 'api_key'='${A}'"

// change makes the next revision of the model, as CREATE OR REPLACE does.
static void change(struct world *w, const char *options) {
    world_add_model(w, "m", options);
    struct statements *newest = &w->models[w->n_models - 1];
    newest->items[0].model->revision = (uint32_t)w->n_models;
    core_models_changed(w->core, w->now_us);
    world_settle(w);
}

// stopped: six records, the first of which was refused for its credential.
static struct world *stopped(size_t *at) {
    struct world *w = world_start_with(2, FIRST, 1);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    world_report(w, "w1", world_dispatch(w, at), OUTCOME_AUTH, 0, 0);
    world_settle(w);
    assert_null(world_dispatch(w, at));
    assert_non_null(w->core->pools->stopped);
    return w;
}

// answer_all answers whatever is asked, and returns how many calls there were; each must be of this revision.
static size_t answer_all(struct world *w, size_t *at, uint64_t revision) {
    size_t n = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, at)) != NULL; n++) {
        assert_int_equal(d->revision, revision);
        world_report(w, "w1", d, OUTCOME_OK, d->count, 0);
        world_settle(w);
    }
    return n;
}

static void test_a_new_credential_is_for_records_that_wait_too(void **state) {
    size_t at = 0;
    struct world *w = stopped(&at);
    change(w, "'batch.size'='1', 'max.retries'='0', 'worker.lost.ms'='2000', 'api_key'='${B}', 'limit.concurrency'='5'");
    assert_int_equal(answer_all(w, &at, 2), 6);
    assert_int_equal(w->status.results_ok, 6);
    struct buf out;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < w->config.n_partitions; i++) {
        for (size_t k = 0; k < w->partitions[i].n_outs; k++) {
            struct slice blob = {.p = w->partitions[i].outs[k].blob, .n = w->partitions[i].outs[k].n};
            assert_int_equal(result_blob_expand(blob, 0, (size_t)result_blob_count(blob), RESULT_JSON, true, &out), 0);
        }
    }
    assert_int_equal(count_text(&out, "\"model\":\"m\",\"revision\":2"), 6); // and the results say so
    buf_free(&out);
    assert_int_equal(w->core->n_ready[PRIORITY_NORMAL], 0);
    for (const struct pool *pool = w->core->pools; pool != NULL; pool = pool->hh.next) {
        assert_int_equal(pool->n_ready + pool->n_inflight + pool->n_due, 0);
    }
    for (const struct group *group = w->core->groups; group != NULL; group = group->hh.next) {
        assert_int_equal(group->n_calls, 0);
    }
    world_free(w);
}

static void test_what_asks_something_else_is_for_new_records_only(void **state) {
    static const struct {
        const char *name, *options;
    } cases[] = {
        {"a prompt", FIRST ", 'system.prompt'='Be brief.'"},
        {"a partial", FIRST ", 'template.x'='y'"},
        {"a parameter", FIRST ", 'temperature'='1'"},
        {"what becomes of errors", FIRST ", 'on.error'='dead-letter'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t at = 0;
        struct world *w = stopped(&at);
        change(w, cases[i].options);
        size_t n = answer_all(w, &at, 1);
        if (n != 6) {
            fail_msg("%s: %zu calls of the first revision", cases[i].name, n);
        }
        world_append(w, "p1", 7, 1);
        world_settle(w);
        assert_int_equal(answer_all(w, &at, 2), 1);
        world_free(w);
    }
}

static void test_the_newest_that_asks_the_same_counts(void **state) {
    size_t at = 0;
    struct world *w = stopped(&at);
    world_add_model(w, "m", "'batch.size'='1', 'max.retries'='0', 'api_key'='${B}'");
    w->models[1].items[0].model->revision = 2;
    change(w, FIRST ", 'system.prompt'='Be brief.'");
    assert_int_equal(answer_all(w, &at, 2), 6);
    world_free(w);
}

static void test_a_call_at_a_worker_ends_as_it_is(void **state) {
    struct world *w = world_start_with(1, FIRST, 1);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch first = *world_dispatch(w, &at);
    assert_int_equal(first.revision, 1);
    change(w, "'batch.size'='1', 'max.retries'='0', 'api_key'='${B}'");
    world_report(w, "w1", &first, OUTCOME_AUTH, 0, 0); // stops the pool that it was made for
    world_settle(w);
    assert_int_equal(answer_all(w, &at, 2), 2); // neither the other one nor its own record waits there
    assert_int_equal(w->status.results_ok, 2);
    world_free(w);
}

static void test_a_restart_goes_on_with_the_new_revision(void **state) {
    size_t at = 0;
    struct world *w = stopped(&at);
    world_crash(w);
    world_add_model(w, "m", "'batch.size'='1', 'max.retries'='0', 'api_key'='${B}'");
    w->models[1].items[0].model->revision = 2;
    world_start(w);
    world_pass(w, 3600);
    world_hello(w, "w1", 1, 1);
    world_settle(w);
    at = 0;
    assert_int_equal(answer_all(w, &at, 2), 6);
    assert_int_equal(w->status.results_ok, 6);
    world_free(w);
}

static void test_an_open_batch_goes_on_with_the_new_revision(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='10', 'batch.timeout.ms'='60000', 'api_key'='${A}'", 1);
    world_append(w, "p1", 1, 3); // waits for more
    world_settle(w);
    size_t at = 0;
    assert_null(world_dispatch(w, &at));
    change(w, "'batch.size'='10', 'batch.timeout.ms'='60000', 'api_key'='${B}'");
    assert_int_equal(answer_all(w, &at, 2), 1);
    assert_int_equal(w->status.results_ok, 3);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_credential_is_for_records_that_wait_too),
        cmocka_unit_test(test_what_asks_something_else_is_for_new_records_only),
        cmocka_unit_test(test_the_newest_that_asks_the_same_counts),
        cmocka_unit_test(test_a_call_at_a_worker_ends_as_it_is),
        cmocka_unit_test(test_a_restart_goes_on_with_the_new_revision),
        cmocka_unit_test(test_an_open_batch_goes_on_with_the_new_revision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
