// Answers of calls that were given up: used if they are the first, dropped if not, and paid for once.
// Against a store and peers that are a few arrays (core_world.h).
#include "late_world.h"

static size_t n_marks(const struct world *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->partitions[0].n_marks; i++) {
        n += w->partitions[0].marks[i].id != 0;
    }
    return n;
}

static void test_late_answer_of_a_lost_worker_is_used(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2', 'worker.lost.ms'='5000'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    world_silence(w);
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
    world_silence(w);
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
    world_silence(w);
    world_report(w, "w1", d, OUTCOME_OK, 1, 0); // late: real money
    world_report(w, "w1", d, OUTCOME_OK, 1, 0); // the same again: its TAKEN was lost
    world_settle(w);
    assert_int_equal(w->status.input_tokens, 100);
    assert_true(w->status.cost > 0.00099 && w->status.cost < 0.00101);
    world_free(w);
}

// outlived: a call is out, and another one of a coordinator before answers its record, so that its batch is finished.
static struct world *outlived(struct message_dispatch *d, char **records) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'cost.input'='10', 'cost.output'='0'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    *d = world_call_of(w, "w1", records);
    struct message_dispatch other = *d;
    other.call += 7;
    world_report(w, "w9", &other, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].n_batches, 0);
    assert_int_equal(n_marks(w), 1);
    world_restart(w);
    return w;
}

static void test_a_call_that_outlived_its_batch_is_counted_by_the_next_coordinator(void **state) {
    struct message_dispatch d;
    char *records;
    struct world *w = outlived(&d, &records);
    world_settle(w);
    assert_int_equal(w->status.calls_ambiguous, 0); // in the grace
    world_pass(w, 3600);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_crash, 1);
    world_restart(w); // counted once
    world_pass(w, 3600);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_crash, 1);
    world_hello_holding(w, "w1", &d, 1); // and its answer may come however late
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0);
    world_report(w, "w1", &d, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    assert_int_equal(w->status.resolved_crash, 1);
    assert_int_equal(w->status.input_tokens, 100); // paid for by who asked for it
    assert_int_equal(n_marks(w), 0);
    free(records);
    world_free(w);
}

static void test_a_call_that_outlived_its_batch_is_not_counted_when_its_report_comes(void **state) {
    struct message_dispatch d;
    char *records;
    struct world *w = outlived(&d, &records);
    world_hello_holding(w, "w1", &d, 1);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0); // its REPORT is wanted
    for (int i = 0; i < 8; i++) { // past the grace
        world_pass(w, 500);
        world_message(w, "w1", (struct message){.kind = MESSAGE_PING});
    }
    world_settle(w);
    world_report(w, "w1", &d, OUTCOME_OK, 1, 0);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0); // before that is durable
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    assert_int_equal(w->status.calls_ambiguous, 0);
    assert_int_equal(n_marks(w), 0);
    free(records);
    world_free(w);
}

static void test_an_answer_after_a_restart_resolves_what_was_counted_before(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='1000'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    world_silence(w);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_lost, 1);
    world_restart(w);
    assert_int_equal(w->status.ambiguous_lost, 1);
    world_hello_holding(w, "w1", &d, 1);
    world_report(w, "w1", &d, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->status.results_ok, 1);
    assert_int_equal(w->status.resolved_lost, 1);
    assert_int_equal(n_marks(w), 0);
    free(records);
    world_free(w);
}

static void test_what_its_worker_never_got_is_resolved_after_a_restart(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='1000'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    world_silence(w);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_lost, 1);
    world_restart(w);
    world_hello(w, "w2", 1, 1); // another process knows nothing of it
    world_settle(w);
    assert_int_equal(w->status.resolved_lost, 0);
    world_hello(w, "w1", 1, 1);
    world_settle(w);
    assert_int_equal(w->status.resolved_lost, 1);
    world_free(w);
}

static void test_a_call_is_counted_once_though_its_worker_did_not_hear_taken(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='1000'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    struct message timeout = {.kind = MESSAGE_REPORT,
                              .report = {.batch = d.batch, .call = d.call, .sent = true,
                                         .outcome = slice_of(outcome_of(OUTCOME_TIMED_OUT)->text)}};
    world_message(w, "w1", timeout);
    world_turn(w);
    world_confirm(w); // durable, and then the coordinator is killed
    world_restart(w);
    assert_int_equal(w->status.ambiguous_timeout, 1);
    world_hello_holding(w, "w1", &d, 1);
    world_message(w, "w1", timeout);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_timeout, 1);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    free(records);
    world_free(w);
}

static void test_word_that_it_was_not_sent_is_durable_before_taken(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    struct message unsent = {.kind = MESSAGE_REPORT,
                             .report = {.batch = d.batch, .call = d.call,
                                        .outcome = slice_of(outcome_of(OUTCOME_UNSENT)->text)}};
    world_message(w, "w1", unsent);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    world_restart(w);
    world_hello_holding(w, "w1", &d, 1); // it did not hear that
    world_message(w, "w1", unsent);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1); // though nothing is to be written
    world_pass(w, 3600);
    world_settle(w);
    assert_int_equal(w->status.calls_ambiguous, 0);
    free(records);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_answer_of_a_lost_worker_is_used),
        cmocka_unit_test(test_second_answer_is_dropped),
        cmocka_unit_test(test_cost_of_a_call_is_counted_once),
        cmocka_unit_test(test_a_call_that_outlived_its_batch_is_counted_by_the_next_coordinator),
        cmocka_unit_test(test_a_call_that_outlived_its_batch_is_not_counted_when_its_report_comes),
        cmocka_unit_test(test_an_answer_after_a_restart_resolves_what_was_counted_before),
        cmocka_unit_test(test_what_its_worker_never_got_is_resolved_after_a_restart),
        cmocka_unit_test(test_a_call_is_counted_once_though_its_worker_did_not_hear_taken),
        cmocka_unit_test(test_word_that_it_was_not_sent_is_durable_before_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
