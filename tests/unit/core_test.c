// The core as a whole: restart, Redis away, fenced.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

static void test_restart_goes_on_where_it_stopped(void **state) {
    struct world *w = world_start_with(2, "'batch.size'='2'", 1);
    world_append(w, "p1", 1, 9);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_OK, 1, 0); // one record of the first batch
    world_settle(w);
    world_crash(w);
    world_start(w);
    world_open(w, "p1");
    at = 0;
    uint64_t upto = world_find(w, &at, "p1", MESSAGE_OPENED)->opened.upto;
    assert_true(upto <= 9);
    world_append(w, "p1", upto + 1, 9 - upto);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    world_pass(w, 3100); // what workers may still hold is asked again after the grace
    world_hello(w, "w2", 1, 64);
    world_settle(w);
    at = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, &at)) != NULL;) {
        world_report(w, "w2", d, OUTCOME_OK, d->count, 0);
        world_settle(w);
    }
    struct buf out;
    world_collect(w, &out);
    for (int i = 1; i <= 9; i++) {
        char want[64];
        snprintf(want, sizeof(want), "\"seq\":%d,\"sentiment\":\"row %d\"", i, i);
        assert_int_equal(count_text(&out, want), 1);
    }
    assert_int_equal(count_text(&out, "\"error\""), 9);
    buf_free(&out);
    world_free(w);
}

static void test_redis_away_makes_no_calls(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 8);
    core_store_ready(w->core, false);
    world_append(w, "p1", 1, 1);
    world_turn(w);
    assert_int_equal(w->n_writes, 0);
    assert_false(core_wants_frames(w->core));
    core_store_ready(w->core, true);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    world_free(w);
}

static void test_fenced_partition_stops(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 0);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    struct error why = {.text = "epoch 2"};
    core_fenced(w->core, 0, &why);
    world_hello(w, "w1", 1, 8);
    world_turn(w);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 0);
    assert_true(slice_is(world_refused(w, "w1")->code, "stopped"));
    world_free(w);
}

static void test_damaged_batch_stays_where_it_is(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2'", 0);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    w->partitions[0].batches[0].n -= 3;
    world_crash(w);
    world_start(w);
    world_hello(w, "w1", 1, 4);
    world_settle(w);
    assert_int_equal(w->partitions[0].n_batches, 1);
    assert_int_equal(w->core->n_records, 0);
    world_free(w);
}

// A refused row is in the outbox at once. Were older rows of its producer left behind in an open batch,
// the row would come again after a crash, and be refused a second time.
static void test_a_refused_row_takes_older_ones_with_it(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='20'", 0);
    world_append(w, "p1", 1, 2); // waits in an open batch
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 3, .count = 1,
                                                       .records = SLICE_LIT("{\"other\": 1}\n")}});
    world_settle(w);
    world_crash(w);
    world_start(w);
    world_open(w, "p1");
    size_t at = 0;
    assert_int_equal(world_find(w, &at, "p1", MESSAGE_OPENED)->opened.upto, 3);
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "\"seq\":3"), 1);
    buf_free(&out);
    world_free(w);
}

// An old worker's report must not be taken for the report of a call that was made after the restart.
static void test_calls_have_other_numbers_after_a_restart(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    struct message_dispatch before = *world_dispatch(w, &at);
    uint64_t batch = before.batch, call = before.call;
    world_crash(w);
    world_start(w);
    world_hello(w, "w2", 1, 1);
    world_pass(w, 3100);
    world_hello(w, "w2", 1, 1);
    world_settle(w);
    at = 0;
    const struct message_dispatch *again = world_dispatch(w, &at);
    assert_non_null(again);
    assert_int_equal(again->batch, batch);
    assert_int_not_equal(again->call, call);
    world_message(w, "w1", (struct message){.kind = MESSAGE_REPORT,
                                            .report = {.batch = batch, .call = call,
                                                       .outcome = SLICE_LIT("unsent")}});
    world_settle(w);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 1);
    world_free(w);
}

static void test_no_call_past_the_end_of_a_lease(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 8);
    core_leased(w->core, 0, w->now_us + 2000000);
    world_append(w, "p1", 1, 1);
    world_turn(w);
    w->now_us += 2000000; // stopped: another may have taken the partition
    world_confirm(w);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 0);
    core_leased(w->core, 0, w->now_us + 2000000);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart_goes_on_where_it_stopped),
        cmocka_unit_test(test_redis_away_makes_no_calls),
        cmocka_unit_test(test_fenced_partition_stops),
        cmocka_unit_test(test_damaged_batch_stays_where_it_is),
        cmocka_unit_test(test_a_refused_row_takes_older_ones_with_it),
        cmocka_unit_test(test_calls_have_other_numbers_after_a_restart),
        cmocka_unit_test(test_no_call_past_the_end_of_a_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
