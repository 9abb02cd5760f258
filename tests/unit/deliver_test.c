// From the outbox to consumers.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

static void test_consumer_gets_its_credit_and_what_it_did_not_ack_again(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2'", 64);
    world_subscribe(w, "c1", 3);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    world_answer_all(w);
    size_t at = 0, n = 0;
    uint64_t next = 1;
    for (struct message *m; (m = world_find(w, &at, "c1", MESSAGE_RESULTS)) != NULL;) {
        assert_int_equal(m->results.first_oseq, next);
        next += m->results.count;
        n += m->results.count;
    }
    assert_int_equal(n, 3);
    world_message(w, "c1", (struct message){.kind = MESSAGE_ACK, .ack = {.partition = 0, .upto = 2}});
    world_settle(w);
    world_pass(w, 20);
    assert_int_equal(w->partitions[0].trimmed, 2);
    world_subscribe(w, "c2", 10); // connects again
    world_settle(w);
    at = 0;
    assert_int_equal(world_find(w, &at, "c2", MESSAGE_RESULTS)->results.first_oseq, 3);
    size_t again = 0;
    at = 0;
    for (struct message *m; (m = world_find(w, &at, "c2", MESSAGE_RESULTS)) != NULL;) {
        again += m->results.count;
    }
    assert_int_equal(again, 4);
    assert_true(slice_is(world_refused(w, "c1")->code, "superseded"));
    world_free(w);
}

static void test_a_late_subscribe_of_an_earlier_start_supersedes_nobody(void **state) {
    static const struct {
        const char *name;
        uint64_t first, second;
        const char *want; // who is refused
    } cases[] = {
        {"a later start takes over", 5, 6, "r1"},
        {"an earlier one comes late", 6, 5, "r2"},
        {"one that does not tell takes over", 6, 0, "r1"},
        {"the same start from another connection takes over", 6, 6, "r1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *w = world_start_with(1, "", 64);
        const uint64_t starts[2] = {cases[i].first, cases[i].second};
        for (int k = 0; k < 2; k++) {
            const char *route = k == 0 ? "r1" : "r2";
            world_message(w, route, (struct message){.kind = MESSAGE_SUBSCRIBE,
                                                     .subscribe = {.consumer = SLICE_LIT("c"), .credit = 1,
                                                                   .incarnation = starts[k]}});
            world_settle(w);
        }
        const struct message_refused *refused = world_refused(w, cases[i].want);
        if (refused == NULL || !slice_is(refused->code, "superseded") ||
            world_count(w, NULL, MESSAGE_REFUSED) != 1) {
            fail_msg("%s", cases[i].name);
        }
        world_free(w);
        w = world_start_with(1, "", 64);
        for (int k = 0; k < 2; k++) {
            const char *route = k == 0 ? "r1" : "r2";
            world_message(w, route, (struct message){.kind = MESSAGE_OPEN,
                                                     .open = {.producer = SLICE_LIT("p"),
                                                              .model = SLICE_LIT("m"),
                                                              .incarnation = starts[k]}});
        }
        refused = world_refused(w, cases[i].want);
        if (refused == NULL || !slice_is(refused->code, "superseded")) {
            fail_msg("OPEN: %s", cases[i].name);
        }
        world_free(w);
    }
}

static void test_new_consumer_gets_nothing_before_its_position_is_stored(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2'", 64);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    world_answer_all(w);
    world_settle(w);
    world_subscribe(w, "c1", 10);
    core_turn_end(w->core, w->now_us); // its position is written, and that is not confirmed
    core_turn_end(w->core, w->now_us);
    size_t at = 0;
    assert_null(world_find(w, &at, "c1", MESSAGE_RESULTS));
    world_settle(w);
    at = 0;
    assert_non_null(world_find(w, &at, "c1", MESSAGE_RESULTS));
    world_free(w);
}

static void test_consumer_after_a_restart_is_served_from_the_outbox(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2'", 64);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    world_answer_all(w);
    world_crash(w);
    world_start(w);
    world_subscribe(w, "c1", 10);
    world_settle(w);
    assert_int_equal(w->n_reads, 1);
    struct store_entry entries[2];
    for (size_t i = 0; i < 2; i++) {
        const struct world_out *out = &w->partitions[0].outs[i];
        entries[i] = (struct store_entry){.last_oseq = out->last_oseq,
                                          .blob = {.p = out->blob, .n = out->n}};
    }
    core_outbox_read(w->core, 0, true, entries, 2);
    world_settle(w);
    size_t at = 0, n = 0;
    for (struct message *m; (m = world_find(w, &at, "c1", MESSAGE_RESULTS)) != NULL;) {
        n += m->results.count;
    }
    assert_int_equal(n, 4);
    world_free(w);
}

static void test_full_outbox_stops_calls(void **state) {
    struct world *w = world_new(1, "'batch.size'='1'");
    w->config.max_results = 3;
    world_start(w);
    world_hello(w, "w1", 1, 1);
    world_open(w, "p1");
    world_subscribe(w, "c1", 100);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    world_answer_all(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    world_message(w, "c1", (struct message){.kind = MESSAGE_ACK, .ack = {.partition = 0, .upto = 3}});
    world_settle(w);
    world_settle(w); // room was made at the end of the turn before
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 4);
    world_free(w);
}

static void test_unacked_consumers_take_what_they_can(void **state) {
    struct world *w = world_new(1, "'batch.size'='2'");
    w->config.has_push = true;
    w->push_room = 3;
    world_start(w);
    world_hello(w, "w1", 1, 8);
    const char *rows = "{\"id\":\"a\",\"text\":\"1\"}\n{\"id\":\"b\",\"text\":\"2\"}\n"
                       "{\"id\":\"c\",\"text\":\"3\"}\n{\"id\":\"d\",\"text\":\"4\"}\n";
    core_frame(w->core, w->now_us, slice_of(rows)); // came without acks, too
    world_settle(w);
    world_answer_all(w);
    assert_int_equal(w->n_pushed, 3);
    assert_non_null(strstr(w->pushed[0], "\"id\":\"a\""));
    assert_null(strstr(w->pushed[0], "producer"));
    w->push_room = 5;
    core_push_ready(w->core);
    world_settle(w);
    assert_int_equal(w->n_pushed, 4);
    world_pass(w, 20);
    assert_int_equal(w->partitions[0].trimmed, 4);
    world_free(w);
}

static void ack(struct world *w, uint64_t upto) {
    world_message(w, "c1", (struct message){.kind = MESSAGE_ACK, .ack = {.partition = 0, .upto = upto}});
    world_settle(w);
}

static void test_positions_wait_for_one_another_but_not_for_long(void **state) {
    struct world *w = world_start_with(1, "", 64);
    w->config.max_results = 8;
    world_subscribe(w, "c1", 100);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    world_answer_all(w);
    w->n_positions = 0;
    ack(w, 1); // of six, more than half of what the outbox may have: only stored positions make room
    assert_int_equal(w->n_positions, 1);
    assert_int_equal(w->partitions[0].trimmed, 1);
    ack(w, 3);
    assert_int_equal(w->n_positions, 2); // three are left
    ack(w, 4);
    ack(w, 5);
    assert_int_equal(w->n_positions, 2);
    assert_true(core_next_us(w->core) <= w->now_us + 20000);
    w->now_us = core_next_us(w->core);
    world_settle(w);
    assert_int_equal(w->n_positions, 3);
    assert_int_equal(w->partitions[0].trimmed, 5);
    ack(w, 6);
    assert_int_equal(w->n_positions, 3);
    core_release(w->core); // a coordinator that stops in good order leaves none out
    assert_int_equal(w->n_positions, 4);
    assert_int_equal(w->partitions[0].trimmed, 6);
    world_free(w);
}

// answer_reads answers each question for outbox entries with at most n of them.
static void answer_reads(struct world *w, size_t n) {
    for (size_t rounds = 0; w->n_reads > 0; rounds++) {
        assert_true(rounds < 100);
        uint32_t partition = w->reads[0].partition;
        uint64_t from = w->reads[0].from;
        memmove(&w->reads[0], &w->reads[1], --w->n_reads * sizeof(w->reads[0]));
        struct store_entry entries[64];
        size_t n_entries = 0;
        const struct world_partition *p = &w->partitions[partition];
        for (size_t i = 0; i < p->n_outs && n_entries < n; i++) {
            if (p->outs[i].last_oseq >= from && p->outs[i].last_oseq > p->trimmed) {
                entries[n_entries++] = (struct store_entry){
                    .last_oseq = p->outs[i].last_oseq,
                    .blob = {.p = p->outs[i].blob, .n = p->outs[i].n}};
            }
        }
        core_outbox_read(w->core, partition, true, entries, n_entries);
        world_settle(w);
    }
}

static void test_consumer_far_behind_catches_up(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 64);
    world_append(w, "p1", 1, 50);
    world_settle(w);
    world_answer_all(w);
    world_crash(w);
    world_start(w);
    world_hello(w, "w1", 1, 64);
    world_open(w, "p1");
    world_append(w, "p1", 51, 10); // new results come while it is behind
    world_settle(w);
    world_answer_all(w);
    world_subscribe(w, "c1", 1000);
    world_settle(w);
    answer_reads(w, 7);
    size_t at = 0;
    uint64_t next = 1;
    for (struct message *m; (m = world_find(w, &at, "c1", MESSAGE_RESULTS)) != NULL;) {
        assert_int_equal(m->results.first_oseq, next);
        next += m->results.count;
    }
    assert_int_equal(next, 61);
    world_free(w);
}

// How far a position may be behind what is still kept: results are trimmed once all have acked them, and a position
// is stored a little later, or not at all while a coordinator without --bind-out trims.
static void test_a_position_behind_what_is_kept_goes_on_with_the_oldest_kept(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 64);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    world_answer_all(w);
    static const char *const names[] = {"c", "d"};
    for (size_t i = 0; i < 2; i++) {
        world_message(w, names[i], (struct message){.kind = MESSAGE_SUBSCRIBE,
                                                    .subscribe = {.consumer = slice_of(names[i]), .credit = 10}});
        world_settle(w);
    }
    for (size_t i = 0; i < 2; i++) { // the second acks just before the first's position is stored
        world_message(w, names[i], (struct message){.kind = MESSAGE_ACK, .ack = {.partition = 0, .upto = 2}});
        world_pass(w, 8);
    }
    assert_int_equal(w->partitions[0].trimmed, 2);
    assert_int_equal(w->partitions[0].consumers[1].oseq, 0);
    world_crash(w);
    world_start(w);
    world_message(w, "d", (struct message){.kind = MESSAGE_SUBSCRIBE,
                                           .subscribe = {.consumer = SLICE_LIT("d"), .credit = 10}});
    world_settle(w);
    answer_reads(w, 64);
    size_t at = 0;
    uint64_t next = 3;
    for (struct message *m; (m = world_find(w, &at, "d", MESSAGE_RESULTS)) != NULL;) {
        assert_int_equal(m->results.first_oseq, next);
        next += m->results.count;
    }
    assert_int_equal(next, 5);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_consumer_gets_its_credit_and_what_it_did_not_ack_again),
        cmocka_unit_test(test_a_late_subscribe_of_an_earlier_start_supersedes_nobody),
        cmocka_unit_test(test_new_consumer_gets_nothing_before_its_position_is_stored),
        cmocka_unit_test(test_consumer_after_a_restart_is_served_from_the_outbox),
        cmocka_unit_test(test_consumer_far_behind_catches_up),
        cmocka_unit_test(test_a_position_behind_what_is_kept_goes_on_with_the_oldest_kept),
        cmocka_unit_test(test_full_outbox_stops_calls),
        cmocka_unit_test(test_unacked_consumers_take_what_they_can),
        cmocka_unit_test(test_positions_wait_for_one_another_but_not_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
