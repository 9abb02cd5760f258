// Calls that may be out: marked before they go, counted when nobody brings them, resolved when somebody does.
// Against a store and peers that are a few arrays (core_world.h).
#include "coordinator/marks.h"
#include "late_world.h"

static const char one_each[] = "'batch.size'='1', 'batch.timeout.ms'='100'";

// count_out counts the calls that Redis has as out.
static void add_mark(void *arg, const struct mark *mark) {
    *(size_t *)arg += mark->is_out;
}

static size_t count_out(const struct world *w) {
    size_t n = 0;
    for (uint32_t i = 0; i < w->config.n_partitions; i++) {
        for (size_t k = 0; k < w->partitions[i].n_marks; k++) {
            const struct world_batch *m = &w->partitions[i].marks[k];
            if (m->id != 0) {
                marks_each((struct slice){.p = m->blob, .n = m->n}, add_mark, &n);
            }
        }
    }
    return n;
}

static void test_a_call_goes_only_once_its_mark_is_durable(void **state) {
    struct world *w = world_start_with(4, one_each, 3);
    world_append(w, "p1", 1, 9);
    while (w->n_writes > 0 || world_count(w, "w1", MESSAGE_DISPATCH) < 3) {
        world_turn(w);
        assert_true(world_count(w, "w1", MESSAGE_DISPATCH) <= count_out(w));
        world_confirm(w);
    }
    assert_true(count_out(w) >= 3);
    assert_true(count_out(w) < 9); // those that wait for a worker are not marked
    world_free(w);
}

static void test_a_new_batch_brings_its_mark_in_its_own_write(void **state) {
    struct world *w = world_start_with(1, one_each, 64);
    world_append(w, "p1", 1, 5);
    world_turn(w);
    assert_int_equal(w->n_writes, 1);
    world_confirm(w);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 5);
    assert_int_equal(w->n_writes, 0);
    world_answer_all(w);
    assert_int_equal(count_out(w), 0);
    world_free(w);
}

static void test_what_nobody_names_after_a_crash_is_counted_once(void **state) {
    struct world *w = world_start_with(2, one_each, 2);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    size_t n_out = count_out(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 2);
    world_restart(w);
    world_settle(w);
    assert_int_equal(w->status.calls_ambiguous, 0); // in the grace
    world_pass(w, 3100);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_crash, n_out);
    assert_int_equal(w->status.calls_ambiguous, n_out);
    world_restart(w); // the tally is durable, and what was counted is not marked any more
    world_pass(w, 3100);
    world_settle(w);
    assert_int_equal(w->status.calls_ambiguous, n_out);
    world_hello(w, "w2", 1, 64);
    world_settle(w);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 6); // and all are asked again
    world_free(w);
}

static void test_an_answer_after_the_grace_resolves(void **state) {
    struct world *w = world_start_with(1, one_each, 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    world_crash(w);
    world_start(w);
    world_pass(w, 3100);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_crash, 1);
    assert_int_equal(w->status.ambiguous_resolved, 0);
    world_report(w, "w1", &d, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->status.resolved_crash, 1);
    assert_int_equal(w->status.calls_ambiguous, 1); // never falls
    assert_int_equal(w->status.results_ok, 1);
    free(records);
    world_free(w);
}

static void test_without_ambiguous_retries_its_record_ends(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'ambiguous.retries'='0'", 1);
    world_append(w, "p1", 1, 2); // the second waits for the worker
    world_settle(w);
    world_crash(w);
    world_start(w);
    world_pass(w, 3100);
    world_settle(w);
    assert_int_equal(w->status.results_error, w->status.ambiguous_crash);
    assert_true(w->status.ambiguous_crash >= 1);
    world_free(w);
}

static void test_lost_workers_are_counted_over_restarts(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='1000'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    for (int i = 0; i < 3 && w->status.results_error == 0; i++) {
        for (int k = 0; k < 12; k++) { // its worker falls silent, and is lost
            world_pass(w, 500);
            world_settle(w);
        }
        world_crash(w);
        world_start(w);
        char name[16];
        snprintf(name, sizeof(name), "n%d", i);
        world_hello(w, name, 1, 1);
        world_pass(w, 3100);
        world_hello(w, name, 1, 1);
        world_settle(w);
        world_pass(w, 100);
        world_settle(w);
    }
    assert_int_equal(w->status.results_error, 1); // worker-lost: after three, not three a coordinator
    world_free(w);
}

static void test_what_an_answer_left_goes_under_a_mark_of_its_own(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='3'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    world_hello(w, "w2", 1, 1);
    world_report(w, "w1", &d, OUTCOME_OK, 2, 0); // one is missing
    world_turn(w);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH) + world_count(w, "w1", MESSAGE_DISPATCH), 1);
    world_confirm(w);
    world_turn(w);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH) + world_count(w, "w1", MESSAGE_DISPATCH), 2);
    world_restart(w); // before anything of the second call; and the first worker has not seen its TAKEN
    world_hello_holding(w, "w1", &d, 3);
    world_settle(w);
    world_report(w, "w1", &d, OUTCOME_OK, 2, 0);
    world_settle(w);
    world_pass(w, 3100);
    world_settle(w);
    assert_int_equal(w->status.ambiguous_crash, 1); // that w1 names its call says nothing of the second
    free(records);
    world_free(w);
}

static void test_a_batch_that_ends_counts_what_nobody_has_named(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    world_crash(w);
    world_start(w);
    struct message_dispatch other = d; // of a coordinator before
    other.call += 7;
    world_report(w, "w9", &other, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->status.results_ok, 1);
    assert_int_equal(w->status.ambiguous_crash, 1);
    world_hello_holding(w, "w1", &d, 1);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0); // its REPORT is wanted
    world_report(w, "w1", &d, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->status.resolved_crash, 1);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    free(records);
    world_free(w);
}

static void test_a_hello_that_crosses_a_call_says_nothing_of_it(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='1000'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    char *records;
    struct message_dispatch d = world_call_of(w, "w1", &records);
    struct message_dispatch other = d; // another one answers
    other.call += 7;
    world_report(w, "w9", &other, OUTCOME_OK, 1, 0);
    world_settle(w);
    world_hello(w, "w1", 1, 1); // once more, on the same connection: written before the call came
    world_settle(w);
    for (int k = 0; k < 12; k++) { // and then it is lost with it
        world_pass(w, 500);
        world_settle(w);
    }
    assert_int_equal(w->status.ambiguous_lost, 1);
    free(records);
    world_free(w);
}

static void test_damaged_marks_are_passed_over(void **state) {
    static const char *const blobs[] = {"", "\x91", "\x91\x97\xc3\x01", "\x91\x91\x01", "\xc1", "\x91\x97\xc3\x01\x00\x00\x00\xc2\x01"};
    for (size_t i = 0; i < sizeof(blobs) / sizeof(blobs[0]); i++) {
        size_t n = 0;
        marks_each((struct slice){.p = blobs[i], .n = strlen(blobs[i])}, add_mark, &n);
        assert_int_equal(n, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_goes_only_once_its_mark_is_durable),
        cmocka_unit_test(test_a_new_batch_brings_its_mark_in_its_own_write),
        cmocka_unit_test(test_what_nobody_names_after_a_crash_is_counted_once),
        cmocka_unit_test(test_an_answer_after_the_grace_resolves),
        cmocka_unit_test(test_without_ambiguous_retries_its_record_ends),
        cmocka_unit_test(test_lost_workers_are_counted_over_restarts),
        cmocka_unit_test(test_what_an_answer_left_goes_under_a_mark_of_its_own),
        cmocka_unit_test(test_a_batch_that_ends_counts_what_nobody_has_named),
        cmocka_unit_test(test_a_hello_that_crosses_a_call_says_nothing_of_it),
        cmocka_unit_test(test_damaged_marks_are_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
