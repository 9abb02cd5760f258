// Answers of calls that were given up: used if they are the first, dropped if not, and paid for once.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

static void test_late_answer_of_a_lost_worker_is_used(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2', 'worker.lost.ms'='5000'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    for (int i = 0; i < 12; i++) { // silent for 6 s
        world_pass(w, 500);
    }
    assert_int_equal(w->status.workers_lost, 1);
    assert_int_equal(w->status.calls_ambiguous, 1);
    world_report(w, "w1", d, OUTCOME_OK, 2, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 2);
    assert_true(slice_is(world_refused(w, "w1")->code, "unknown-worker"));
    world_hello(w, "w2", 1, 4);
    world_settle(w);
    at = 0;
    assert_null(world_find(w, &at, "w2", MESSAGE_DISPATCH)); // nothing is left to be asked
    world_free(w);
}

static void test_second_answer_is_dropped(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2', 'worker.lost.ms'='5000'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    for (int i = 0; i < 12; i++) {
        world_pass(w, 500);
    }
    world_hello(w, "w2", 1, 4);
    world_settle(w);
    at = 0;
    world_report(w, "w2", &world_find(w, &at, "w2", MESSAGE_DISPATCH)->dispatch, OUTCOME_OK, 2, 0);
    world_settle(w);
    world_report(w, "w1", d, OUTCOME_OK, 2, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 2);
    assert_int_equal(w->status.results_ok, 2);
    assert_int_equal(w->status.answers_dropped, 1);
    world_free(w);
}

static void test_cost_of_a_call_is_counted_once(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2', 'worker.lost.ms'='5000', 'cost.input'='10', "
                               "'cost.output'='0'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    for (int i = 0; i < 12; i++) {
        world_pass(w, 500);
    }
    world_report(w, "w1", d, OUTCOME_OK, 1, 0); // late: real money
    world_report(w, "w1", d, OUTCOME_OK, 1, 0); // the same again: its TAKEN was lost
    world_settle(w);
    assert_int_equal(w->status.input_tokens, 100);
    assert_true(w->status.cost > 0.00099 && w->status.cost < 0.00101);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_answer_of_a_lost_worker_is_used),
        cmocka_unit_test(test_second_answer_is_dropped),
        cmocka_unit_test(test_cost_of_a_call_is_counted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
