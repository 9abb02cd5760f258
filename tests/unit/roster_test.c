// Workers come, go, rest and come back.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

static void test_unsent_is_free_and_rests_the_worker(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='0'", 64);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    world_message(w, "w1", (struct message){.kind = MESSAGE_REPORT,
                                            .report = {.batch = d->batch, .call = d->call,
                                                       .outcome = SLICE_LIT("unsent")}});
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    world_hello(w, "w2", 1, 4);
    world_settle(w);
    at = 0;
    assert_non_null(world_find(w, &at, "w2", MESSAGE_DISPATCH));
    assert_int_equal(w->status.results_error, 0);
    world_free(w);
}

// What stood in a buffer while its worker was cut off must not be called later: somebody else has it.
static void test_a_dispatch_says_until_when_it_may_start(void **state) {
    static const struct {
        const char *name;
        const char *options;
        uint64_t want_us;
    } cases[] = {
        {"worker.lost.ms after the worker's last word", "'batch.size'='1', 'worker.lost.ms'='7000'", 5000000 + 7000000},
        {"two heartbeats where that is longer", "'batch.size'='1', 'worker.lost.ms'='0'", 5000000 + 2000000},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *w = world_start_with(1, cases[i].options, 4);
        size_t at = 0;
        world_message(w, "w1", (struct message){.kind = MESSAGE_PING,
                                                .ping = {.worker = true, .time = 5000000}});
        world_append(w, "p1", 1, 1);
        world_settle(w);
        const struct message *m = world_find(w, &at, "w1", MESSAGE_DISPATCH);
        assert_non_null(m);
        assert_int_equal(m->dispatch.not_after, cases[i].want_us);
        world_free(w);
    }
}

static void test_a_ping_of_a_forgotten_worker_is_refused(void **state) {
    struct world *w = world_start_with(1, "", 4);
    struct message ping = {.kind = MESSAGE_PING, .ping = {.worker = true}};
    world_message(w, "w1", ping);
    assert_int_equal(world_count(w, "w1", MESSAGE_PONG), 1);
    for (int i = 0; i < 8; i++) {
        world_pass(w, 500);
    }
    world_message(w, "w1", ping);
    assert_true(slice_is(world_refused(w, "w1")->code, "unknown-worker"));
    ping.ping.worker = false; // anybody else is answered
    world_message(w, "p1", ping);
    assert_int_equal(world_count(w, "p1", MESSAGE_PONG), 1);
    world_free(w);
}

static void test_reconnected_worker_keeps_the_calls_it_holds(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 2);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = world_dispatch(w, &at);
    unsigned char held[] = {0x91, 0x93, 0xCF, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x91, 0x00};
    for (int i = 0; i < 8; i++) {
        held[3 + i] = (unsigned char)(first->batch >> (56 - 8 * i));
    }
    world_message(w, "w1b", (struct message){.kind = MESSAGE_HELLO,
                                             .hello = {.worker = SLICE_LIT("w1"), .incarnation = 1,
                                                       .version = SLICE_LIT("0"), .max_inflight = 2,
                                                       .max_bytes = 1 << 20,
                                                       .held = {.p = (char *)held,
                                                                .n = sizeof(held)}}});
    world_settle(w);
    at = 0;
    const struct message *again = world_find(w, &at, "w1b", MESSAGE_DISPATCH);
    assert_non_null(again); // the one that it never received
    assert_int_not_equal(again->dispatch.batch, first->batch);
    assert_null(world_find(w, &at, "w1b", MESSAGE_DISPATCH));
    assert_int_equal(w->status.calls_ambiguous, 0);
    world_free(w);
}

static void test_two_held_calls_of_one_batch_are_not_made_again(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4'", 4);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *whole = world_dispatch(w, &at);
    world_report(w, "w1", whole, OUTCOME_UNREADABLE, 0, 0); // halved: calls 2 and 3
    world_settle(w);
    struct message_dispatch halves[2] = {*world_dispatch(w, &at), *world_dispatch(w, &at)};
    uint64_t batch = halves[0].batch;
    assert_int_equal(halves[0].count, 2);
    world_crash(w);
    world_start(w);
    struct buf held;
    buf_init(&held, 4096);
    unsigned char head[] = {0x92};
    assert_int_equal(buf_add(&held, head, 1), 0);
    for (int call = 0; call < 2; call++) {
        unsigned char one[] = {0x93, 0xCF, 0, 0, 0, 0, 0, 0, 0, 0, (unsigned char)(call + 2), 0x92,
                               (unsigned char)(2 * call), (unsigned char)(2 * call + 1)};
        for (int i = 0; i < 8; i++) {
            one[2 + i] = (unsigned char)(batch >> (56 - 8 * i));
        }
        assert_int_equal(buf_add(&held, one, sizeof(one)), 0);
    }
    world_message(w, "w1", (struct message){.kind = MESSAGE_HELLO,
                                            .hello = {.worker = SLICE_LIT("w1"), .incarnation = 1,
                                                      .version = SLICE_LIT("0"), .max_inflight = 4,
                                                      .max_bytes = 1 << 20, .held = buf_slice(&held)}});
    buf_free(&held);
    world_settle(w);
    // Both answers come, one after the other: nothing is asked again in between.
    for (int call = 0; call < 2; call++) {
        struct buf records;
        buf_init(&records, 4096);
        for (uint64_t slot = 0; slot < 2; slot++) {
            assert_int_equal(record_pack(&records, 2 * (uint64_t)call + slot, SLICE_LIT("\x91\xA1x")), 0);
        }
        struct message_dispatch d = {.batch = batch, .call = (uint64_t)call + 2, .count = 2,
                                     .records = buf_slice(&records)};
        world_report(w, "w1", &d, OUTCOME_OK, 2, 0);
        buf_free(&records);
        world_settle(w);
        world_pass(w, 1600); // past the grace in the end
        world_message(w, "w1", (struct message){.kind = MESSAGE_PING, .ping = {.worker = true}});
        world_settle(w);
    }
    assert_int_equal(w->partitions[0].oseq, 4);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 0);
    world_free(w);
}

// A worker was lost and its call given to another one; then it comes back and claims it. Its report
// without an answer must not have the records asked a second time beside the call that is under way.
static void test_a_claim_leaves_what_another_worker_was_asked(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='0'", 4);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch first = *world_dispatch(w, &at);
    for (int i = 0; i < 8; i++) {
        world_pass(w, 500); // w1 says nothing
    }
    world_hello(w, "w2", 1, 4);
    for (int i = 0; i < 6; i++) { // past the delay of the repeat
        world_pass(w, 500);
        world_message(w, "w2", (struct message){.kind = MESSAGE_PING, .ping = {.worker = true}});
    }
    world_settle(w);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 1);
    unsigned char held[] = {0x91, 0x93, 0xCF, 0, 0, 0, 0, 0, 0, 0, 0, (unsigned char)first.call, 0x91, 0};
    for (int i = 0; i < 8; i++) {
        held[3 + i] = (unsigned char)(first.batch >> (56 - 8 * i));
    }
    world_message(w, "w1b", (struct message){
        .kind = MESSAGE_HELLO,
        .hello = {.worker = SLICE_LIT("w1"), .incarnation = 1, .version = SLICE_LIT("0"), .max_inflight = 4,
                  .max_bytes = 1 << 20, .held = {.p = (const char *)held, .n = sizeof(held)}}});
    world_settle(w);
    world_message(w, "w1b", (struct message){.kind = MESSAGE_REPORT,
                                             .report = {.batch = first.batch, .call = first.call,
                                                        .outcome = SLICE_LIT("unsent")}});
    world_settle(w);
    world_pass(w, 500);
    assert_int_equal(world_count(w, "w1b", MESSAGE_TAKEN), 1);
    assert_int_equal(world_count(w, "w1b", MESSAGE_DISPATCH), 0);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 1);
    world_free(w);
}

static void test_hostile_claims_reserve_nothing(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 0);
    static const char *const hostile[] = {"\xDD\xFF\xFF\xFF\xFF", "\x91\xDD\x7F\xFF\xFF\xFF", "\x91\x93",
                                          "\xC1"};
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        world_message(w, "w1", (struct message){.kind = MESSAGE_HELLO,
                                                .hello = {.worker = SLICE_LIT("w1"), .incarnation = 1,
                                                          .version = SLICE_LIT("0"), .max_inflight = 1,
                                                          .max_bytes = 1, .held = slice_of(hostile[i])}});
    }
    assert_int_equal(world_count(w, "w1", MESSAGE_WELCOME), 4);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsent_is_free_and_rests_the_worker),
        cmocka_unit_test(test_a_dispatch_says_until_when_it_may_start),
        cmocka_unit_test(test_a_ping_of_a_forgotten_worker_is_refused),
        cmocka_unit_test(test_a_claim_leaves_what_another_worker_was_asked),
        cmocka_unit_test(test_hostile_claims_reserve_nothing),
        cmocka_unit_test(test_two_held_calls_of_one_batch_are_not_made_again),
        cmocka_unit_test(test_reconnected_worker_keeps_the_calls_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
