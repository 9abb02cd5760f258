// The core: what it decides when records, answers, writes and failures come in, against a store and
// peers that are a few arrays (core_world.h).
#include "core_world.h"

#define B4 "'batch.size'='4'"

// start opens a world with one worker of `credit` calls and the producer p1.
static struct world *start(uint32_t n_partitions, const char *options, uint64_t credit) {
    struct world *w = world_new(n_partitions, options);
    world_start(w);
    if (credit > 0) {
        world_hello(w, "w1", 1, credit);
    }
    world_open(w, "p1");
    return w;
}

static const struct message_dispatch *dispatch_at(struct world *w, size_t *at) {
    struct message *m = world_find(w, at, NULL, MESSAGE_DISPATCH);
    return m != NULL ? &m->dispatch : NULL;
}

static void results(struct world *w, struct buf *out) {
    buf_init(out, 1 << 24);
    world_results(w, out);
}

static void test_nothing_leaves_before_it_is_durable(void **state) {
    struct world *w = start(1, B4, 8);
    world_append(w, "p1", 1, 4);
    world_turn(w);
    assert_int_equal(w->n_writes, 1);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 0);
    assert_int_equal(world_count(w, NULL, MESSAGE_ACKED), 0);
    world_confirm(w);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    size_t at = 0;
    struct message *acked = world_find(w, &at, "p1", MESSAGE_ACKED);
    assert_non_null(acked);
    assert_int_equal(acked->acked.upto, 4);
    world_free(w);
}

static void test_whole_answer_is_committed_then_taken(void **state) {
    struct world *w = start(1, B4, 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = dispatch_at(w, &at);
    assert_int_equal(d->count, 4);
    world_report(w, "w1", d, OUTCOME_OK, 4, 0);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    assert_int_equal(w->partitions[0].n_batches, 0);
    assert_int_equal(w->partitions[0].oseq, 4);
    struct buf out;
    results(w, &out);
    assert_int_equal(count_text(&out, "\"error\":null"), 4);
    assert_non_null(strstr(out.p, "\"seq\":3,\"sentiment\":\"row 3\""));
    buf_free(&out);
    assert_int_equal(w->status.results_ok, 4);
    assert_int_equal(w->core->n_records, 0);
    assert_int_equal(w->core->n_bytes, 0);
    world_free(w);
}

static void test_only_missing_records_are_asked_again(void **state) {
    struct world *w = start(1, B4, 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_OK, 3, 0);
    world_settle(w);
    const struct message_dispatch *again = dispatch_at(w, &at);
    assert_int_equal(again->count, 1);
    struct slice rest = again->records, values;
    uint64_t slot;
    assert_int_equal(record_next(&rest, &slot, &values), 1);
    assert_int_equal(slot, 3);
    assert_int_equal(w->partitions[0].oseq, 3); // the good ones are out already
    world_report(w, "w1", again, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 4);
    assert_int_equal(w->status.calls_partial, 1);
    assert_int_equal(w->status.retries, 1);
    world_free(w);
}

static void test_useless_answers_are_halved_to_the_guilty_record(void **state) {
    struct world *w = start(1, "'batch.size'='8', 'max.retries'='0'", 64);
    world_append(w, "p1", 1, 8);
    world_settle(w);
    size_t at = 0;
    size_t n_calls = 0;
    for (const struct message_dispatch *d; (d = dispatch_at(w, &at)) != NULL; n_calls++) {
        bool guilty = false; // record 5 spoils every answer that it is part of
        struct slice rest = d->records, values;
        uint64_t slot;
        while (record_next(&rest, &slot, &values) > 0) {
            guilty |= slot == 5;
        }
        world_report(w, "w1", d, guilty ? OUTCOME_UNREADABLE : OUTCOME_OK, guilty ? 0 : d->count, 0);
        world_settle(w);
    }
    assert_int_equal(n_calls, 1 + 2 * 3); // at most 2 log2(8) extra
    struct buf out;
    results(w, &out);
    assert_int_equal(count_text(&out, "\"error\":null"), 7);
    assert_int_equal(count_text(&out, "\"code\":\"unreadable\""), 1);
    buf_free(&out);
    world_free(w);
}

static void test_a_record_without_answers_ends_as_an_error(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'max.retries'='2'", 64);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0, n = 0;
    for (const struct message_dispatch *d; (d = dispatch_at(w, &at)) != NULL; n++) {
        world_report(w, "w1", d, OUTCOME_OK, 0, 0);
        world_settle(w);
    }
    assert_int_equal(n, 3); // the first and two more
    struct buf out;
    results(w, &out);
    assert_int_equal(count_text(&out, "\"code\":\"missing\""), 1);
    assert_int_equal(count_text(&out, "\"attempts\":3"), 1);
    buf_free(&out);
    world_free(w);
}

static void test_credit_bounds_what_a_worker_gets(void **state) {
    struct world *w = start(1, "'batch.size'='1'", 2);
    world_append(w, "p1", 1, 5);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 2);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    world_free(w);
}

static void test_concurrency_limit_bounds_the_pool(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'limit.concurrency'='3'", 64);
    world_append(w, "p1", 1, 10);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    world_free(w);
}

static void test_rate_limit_makes_the_pool_wait_and_costs_no_try(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'max.retries'='0'", 64);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = dispatch_at(w, &at);
    for (int i = 0; i < 5; i++) {
        struct message_report report = {.batch = d->batch, .call = d->call,
                                        .outcome = SLICE_LIT("rate-limited"), .http_status = 429,
                                        .retry_after_ms = 2000, .sent = true};
        world_message(w, "w1", (struct message){.kind = MESSAGE_REPORT, .report = report});
        world_settle(w);
        size_t before = world_count(w, "w1", MESSAGE_DISPATCH);
        world_pass(w, 1900);
        assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), before);
        world_pass(w, 400); // 2000 ms and up to a tenth more
        assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), before + 1);
        at = w->n_sent - 1;
        while (w->sent[at].message.kind != MESSAGE_DISPATCH) {
            at--;
        }
        d = &w->sent[at].message.dispatch;
    }
    assert_int_equal(w->status.calls_rate_limited, 5);
    assert_int_equal(w->status.results_error, 0);
    world_free(w);
}

static void test_refused_credentials_stop_the_pool_and_keep_the_records(void **state) {
    struct world *w = start(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_AUTH, 0, 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    struct buf why;
    buf_init(&why, 4096);
    const char *stopped;
    core_waiting(w->core, w->now_us, &why, &stopped);
    assert_string_equal(stopped, "fatal-auth");
    buf_free(&why);
    assert_int_equal(w->core->n_records, 3);
    core_models_changed(w->core, w->now_us);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 2);
    world_free(w);
}

static void test_transient_failures_back_off(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'max.retries'='1'", 64);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_TRANSIENT, 0, 0);
    world_settle(w);
    assert_null(dispatch_at(w, &at)); // half of 500 ms by the test's draw
    world_pass(w, 260);
    at = 0;
    (void)dispatch_at(w, &at);
    const struct message_dispatch *second = dispatch_at(w, &at);
    assert_non_null(second);
    world_report(w, "w1", second, OUTCOME_TRANSIENT, 0, 0);
    world_settle(w);
    assert_int_equal(w->status.results_error, 1);
    world_free(w);
}

static void test_unsent_is_free_and_rests_the_worker(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'max.retries'='0'", 64);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = dispatch_at(w, &at);
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

static void test_incomplete_batch_goes_after_its_timeout(void **state) {
    struct world *w = start(1, "'batch.size'='20', 'batch.timeout.ms'='300'", 64);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    world_pass(w, 290);
    assert_int_equal(w->n_writes, 0);
    world_pass(w, 20);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(dispatch_at(w, &at)->count, 3);
    world_free(w);
}

static void test_aged_batch_fills_on_while_nobody_can_take_it(void **state) {
    struct world *w = start(1, "'batch.size'='20', 'batch.timeout.ms'='300'", 0);
    world_append(w, "p1", 1, 3);
    world_pass(w, 310);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(world_find(w, &at, "p1", MESSAGE_ACKED)->acked.upto, 3); // durable all the same
    world_append(w, "p1", 4, 17);
    world_settle(w);
    world_hello(w, "w1", 1, 4);
    world_settle(w);
    at = 0;
    assert_int_equal(dispatch_at(w, &at)->count, 20);
    assert_null(dispatch_at(w, &at));
    world_free(w);
}

static void test_flush_does_not_wait(void **state) {
    struct world *w = start(1, "'batch.size'='20', 'batch.timeout.ms'='60000'", 4);
    world_append(w, "p1", 1, 3);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    size_t at = 0;
    assert_int_equal(dispatch_at(w, &at)->count, 3);
    world_free(w);
}

static void test_token_estimate_bounds_a_batch(void **state) {
    // A record is taken for 8 tokens and a quarter of its bytes.
    struct world *w = start(1, "'batch.size'='20', 'batch.max.tokens'='25'", 64);
    world_append(w, "p1", 1, 4);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    size_t at = 0;
    assert_int_equal(dispatch_at(w, &at)->count, 2);
    assert_int_equal(dispatch_at(w, &at)->count, 2);
    world_free(w);
}

static void test_overrides_never_share_a_batch(void **state) {
    struct world *w = start(1, "'batch.size'='2'", 64);
    const char *rows = "{\"fields\":{\"text\":\"a\"}}\n"
                       "{\"fields\":{\"text\":\"b\"},\"options\":{\"temperature\":\"0.5\"}}\n"
                       "{\"fields\":{\"text\":\"c\"}}\n"
                       "{\"fields\":{\"text\":\"d\"},\"options\":{\"temperature\":\"0.5\"}}\n";
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 4,
                                                       .records = slice_of(rows)}});
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = dispatch_at(w, &at), *second = dispatch_at(w, &at);
    assert_int_equal(first->count, 2);
    assert_int_equal(second->count, 2);
    assert_true((first->overrides.n == 0) != (second->overrides.n == 0));
    world_free(w);
}

static void test_acks_are_contiguous_over_groups(void **state) {
    // The second group's batch is full and written; the first row must not stay behind in memory.
    struct world *w = start(1, "'batch.size'='2'", 64);
    const char *rows = "{\"fields\":{\"text\":\"a\"}}\n"
                       "{\"fields\":{\"text\":\"b\"},\"options\":{\"temperature\":\"0.5\"}}\n"
                       "{\"fields\":{\"text\":\"c\"},\"options\":{\"temperature\":\"0.5\"}}\n";
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 3,
                                                       .records = slice_of(rows)}});
    world_settle(w);
    assert_int_equal(w->partitions[0].producers[0].seq, 3);
    size_t at = 0;
    assert_int_equal(world_find(w, &at, "p1", MESSAGE_ACKED)->acked.upto, 3);
    world_free(w);
}

static const struct message_refused *refused_at(struct world *w, const char *route) {
    size_t at = 0;
    struct message *m = world_find(w, &at, route, MESSAGE_REFUSED);
    return m != NULL ? &m->refused : NULL;
}

static void test_gaps_are_refused_and_repeats_skipped(void **state) {
    struct world *w = start(2, "'batch.size'='1'", 64);
    world_append(w, "p1", 1, 3);
    world_append(w, "p1", 2, 4); // 2 and 3 again, 4 and 5 new
    assert_int_equal(w->status.records_in, 5);
    assert_int_equal(w->status.records_skipped, 2);
    world_append(w, "p1", 9, 1);
    const struct message_refused *refused = refused_at(w, "p1");
    assert_true(slice_is(refused->code, "gap"));
    assert_int_equal(refused->expected, 6);
    assert_int_equal(w->status.records_in, 5);
    world_free(w);
}

static void test_memory_bounds_what_producers_may_send(void **state) {
    struct world *w = world_new(1, "'batch.size'='1'");
    w->config.max_bytes = 65536;
    world_start(w);
    world_open(w, "p1");
    size_t at = 0;
    uint64_t limit = world_find(w, &at, "p1", MESSAGE_OPENED)->opened.limit;
    assert_true(limit > 0 && limit <= 65536 / 512);
    world_append(w, "p1", 1, limit + 1);
    assert_true(slice_is(refused_at(w, "p1")->code, "over-limit"));
    assert_int_equal(w->status.records_in, 0);
    world_append(w, "p1", 1, limit);
    world_settle(w);
    assert_int_equal(w->status.records_in, limit);
    world_free(w);
}

static void test_bad_rows_are_results_and_hide_nothing(void **state) {
    struct world *w = start(2, "'batch.size'='1'", 64);
    const char *rows = "{\"text\":\"good\"}\n{\"text\":\n{\"txet\":\"x\"}\n{\"text\":\"good too\"}\n"
                       "{\"fields\":{\"text\":\"x\"},\"model\":\"nobody\"}\n";
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 5,
                                                       .records = slice_of(rows)}});
    world_settle(w);
    assert_int_equal(w->status.records_in, 2);
    struct buf out;
    results(w, &out);
    assert_int_equal(count_text(&out, "\"code\":\"bad-record\""), 2);
    assert_int_equal(count_text(&out, "\"code\":\"no-model\""), 1);
    buf_free(&out);
    size_t at = 0;
    struct message *acked = NULL;
    for (struct message *m; (m = world_find(w, &at, "p1", MESSAGE_ACKED)) != NULL;) {
        acked = m;
    }
    assert_int_equal(acked->acked.upto, 5);
    world_free(w);
}

static void test_late_answer_of_a_lost_worker_is_used(void **state) {
    struct world *w = start(1, "'batch.size'='2', 'worker.lost.ms'='5000'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = dispatch_at(w, &at);
    for (int i = 0; i < 12; i++) { // silent for 6 s
        world_pass(w, 500);
    }
    assert_int_equal(w->status.workers_lost, 1);
    assert_int_equal(w->status.calls_ambiguous, 1);
    world_report(w, "w1", d, OUTCOME_OK, 2, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 2);
    assert_true(slice_is(refused_at(w, "w1")->code, "unknown-worker"));
    world_hello(w, "w2", 1, 4);
    world_settle(w);
    at = 0;
    assert_null(world_find(w, &at, "w2", MESSAGE_DISPATCH)); // nothing is left to be asked
    world_free(w);
}

static void test_second_answer_is_dropped(void **state) {
    struct world *w = start(1, "'batch.size'='2', 'worker.lost.ms'='5000'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = dispatch_at(w, &at);
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
    struct world *w = start(1, "'batch.size'='2', 'worker.lost.ms'='5000', 'cost.input'='10', "
                               "'cost.output'='0'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = dispatch_at(w, &at);
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

static void test_a_ping_of_a_forgotten_worker_is_refused(void **state) {
    struct world *w = start(1, "", 4);
    struct message ping = {.kind = MESSAGE_PING, .ping = {.worker = true}};
    world_message(w, "w1", ping);
    assert_int_equal(world_count(w, "w1", MESSAGE_PONG), 1);
    for (int i = 0; i < 8; i++) {
        world_pass(w, 500);
    }
    world_message(w, "w1", ping);
    assert_true(slice_is(refused_at(w, "w1")->code, "unknown-worker"));
    ping.ping.worker = false; // anybody else is answered
    world_message(w, "p1", ping);
    assert_int_equal(world_count(w, "p1", MESSAGE_PONG), 1);
    world_free(w);
}

static void test_reconnected_worker_keeps_the_calls_it_holds(void **state) {
    struct world *w = start(1, "'batch.size'='1'", 2);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = dispatch_at(w, &at);
    unsigned char held[] = {0x91, 0x92, 0xCF, 0, 0, 0, 0, 0, 0, 0, 0, 0x01};
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

static void test_restart_goes_on_where_it_stopped(void **state) {
    struct world *w = start(2, "'batch.size'='2'", 1);
    world_append(w, "p1", 1, 9);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_OK, 1, 0); // one record of the first batch
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
    for (const struct message_dispatch *d; (d = dispatch_at(w, &at)) != NULL;) {
        world_report(w, "w2", d, OUTCOME_OK, d->count, 0);
        world_settle(w);
    }
    struct buf out;
    results(w, &out);
    for (int i = 1; i <= 9; i++) {
        char want[64];
        snprintf(want, sizeof(want), "\"seq\":%d,\"sentiment\":\"row %d\"", i, i);
        assert_int_equal(count_text(&out, want), 1);
    }
    assert_int_equal(count_text(&out, "\"error\""), 9);
    buf_free(&out);
    world_free(w);
}

static void test_key_order_holds_over_late_batches(void **state) {
    struct world *w = world_new(1, "'batch.size'='2'");
    w->config.ordered = true;
    world_start(w);
    world_hello(w, "w1", 1, 8);
    world_open(w, "p1");
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = dispatch_at(w, &at), *second = dispatch_at(w, &at);
    world_report(w, "w1", second, OUTCOME_OK, 2, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 0);           // waits for the first batch,
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1); // durable all the same
    world_crash(w);
    world_start(w); // and kept over a restart
    world_pass(w, 3100);
    world_hello(w, "w2", 1, 8);
    world_settle(w);
    at = 0;
    const struct message_dispatch *again = dispatch_at(w, &at);
    assert_non_null(again);
    world_report(w, "w2", again, OUTCOME_OK, 2, 0);
    world_settle(w);
    (void)first;
    struct buf out;
    results(w, &out);
    assert_int_equal(count_text(&out, "\"error\":null"), 4);
    for (int i = 1; i < 4; i++) {
        char one[32], two[32];
        snprintf(one, sizeof(one), "\"row %d\"", i);
        snprintf(two, sizeof(two), "\"row %d\"", i + 1);
        assert_true(strstr(out.p, one) < strstr(out.p, two));
    }
    buf_free(&out);
    world_free(w);
}

static void subscribe(struct world *w, const char *route, uint64_t credit) {
    world_message(w, route, (struct message){.kind = MESSAGE_SUBSCRIBE,
                                             .subscribe = {.consumer = SLICE_LIT("c"), .credit = credit}});
}

static void answer_all(struct world *w) {
    size_t at = 0;
    for (const struct message_dispatch *d; (d = dispatch_at(w, &at)) != NULL;) {
        world_report(w, "w1", d, OUTCOME_OK, d->count, 0);
        world_settle(w);
    }
}

static void test_consumer_gets_its_credit_and_what_it_did_not_ack_again(void **state) {
    struct world *w = start(1, "'batch.size'='2'", 64);
    subscribe(w, "c1", 3);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    answer_all(w);
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
    assert_int_equal(w->partitions[0].trimmed, 2);
    subscribe(w, "c2", 10); // connects again
    world_settle(w);
    at = 0;
    assert_int_equal(world_find(w, &at, "c2", MESSAGE_RESULTS)->results.first_oseq, 3);
    size_t again = 0;
    at = 0;
    for (struct message *m; (m = world_find(w, &at, "c2", MESSAGE_RESULTS)) != NULL;) {
        again += m->results.count;
    }
    assert_int_equal(again, 4);
    assert_true(slice_is(refused_at(w, "c1")->code, "superseded"));
    world_free(w);
}

static void test_consumer_after_a_restart_is_served_from_the_outbox(void **state) {
    struct world *w = start(1, "'batch.size'='2'", 64);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    answer_all(w);
    world_crash(w);
    world_start(w);
    subscribe(w, "c1", 10);
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
    subscribe(w, "c1", 100);
    world_append(w, "p1", 1, 6);
    world_settle(w);
    answer_all(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    world_message(w, "c1", (struct message){.kind = MESSAGE_ACK, .ack = {.partition = 0, .upto = 3}});
    world_settle(w);
    world_turn(w); // room was made at the end of the turn before
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
    answer_all(w);
    assert_int_equal(w->n_pushed, 3);
    assert_non_null(strstr(w->pushed[0], "\"id\":\"a\""));
    assert_null(strstr(w->pushed[0], "producer"));
    w->push_room = 5;
    core_push_ready(w->core);
    world_settle(w);
    assert_int_equal(w->n_pushed, 4);
    assert_int_equal(w->partitions[0].trimmed, 4);
    world_free(w);
}

static void test_redis_away_makes_no_calls(void **state) {
    struct world *w = start(1, "'batch.size'='1'", 8);
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
    struct world *w = start(1, "'batch.size'='1'", 0);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    struct error why = {.text = "epoch 2"};
    core_fenced(w->core, 0, &why);
    world_hello(w, "w1", 1, 8);
    world_turn(w);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 0);
    assert_true(slice_is(refused_at(w, "w1")->code, "starting"));
    world_free(w);
}

static void test_on_error_fail_stops_with_the_first_error(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'max.retries'='0', 'on.error'='fail'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_BAD_REQUEST, 0, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].n_outs, 1);
    assert_null(dispatch_at(w, &at));
    assert_string_equal(w->core->pools->stopped, "fatal-request");
    world_free(w);
}

static void test_dead_letters_only(void **state) {
    struct world *w = start(1, "'batch.size'='1', 'max.retries'='0', 'on.error'='dead-letter'", 8);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", dispatch_at(w, &at), OUTCOME_BAD_REQUEST, 0, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].n_dead, 1);
    assert_int_equal(w->partitions[0].n_outs, 0);
    assert_int_equal(w->partitions[0].n_batches, 0);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_leaves_before_it_is_durable),
        cmocka_unit_test(test_whole_answer_is_committed_then_taken),
        cmocka_unit_test(test_only_missing_records_are_asked_again),
        cmocka_unit_test(test_useless_answers_are_halved_to_the_guilty_record),
        cmocka_unit_test(test_a_record_without_answers_ends_as_an_error),
        cmocka_unit_test(test_credit_bounds_what_a_worker_gets),
        cmocka_unit_test(test_concurrency_limit_bounds_the_pool),
        cmocka_unit_test(test_rate_limit_makes_the_pool_wait_and_costs_no_try),
        cmocka_unit_test(test_refused_credentials_stop_the_pool_and_keep_the_records),
        cmocka_unit_test(test_transient_failures_back_off),
        cmocka_unit_test(test_unsent_is_free_and_rests_the_worker),
        cmocka_unit_test(test_incomplete_batch_goes_after_its_timeout),
        cmocka_unit_test(test_aged_batch_fills_on_while_nobody_can_take_it),
        cmocka_unit_test(test_flush_does_not_wait),
        cmocka_unit_test(test_token_estimate_bounds_a_batch),
        cmocka_unit_test(test_overrides_never_share_a_batch),
        cmocka_unit_test(test_acks_are_contiguous_over_groups),
        cmocka_unit_test(test_gaps_are_refused_and_repeats_skipped),
        cmocka_unit_test(test_memory_bounds_what_producers_may_send),
        cmocka_unit_test(test_bad_rows_are_results_and_hide_nothing),
        cmocka_unit_test(test_late_answer_of_a_lost_worker_is_used),
        cmocka_unit_test(test_second_answer_is_dropped),
        cmocka_unit_test(test_cost_of_a_call_is_counted_once),
        cmocka_unit_test(test_a_ping_of_a_forgotten_worker_is_refused),
        cmocka_unit_test(test_reconnected_worker_keeps_the_calls_it_holds),
        cmocka_unit_test(test_restart_goes_on_where_it_stopped),
        cmocka_unit_test(test_key_order_holds_over_late_batches),
        cmocka_unit_test(test_consumer_gets_its_credit_and_what_it_did_not_ack_again),
        cmocka_unit_test(test_consumer_after_a_restart_is_served_from_the_outbox),
        cmocka_unit_test(test_full_outbox_stops_calls),
        cmocka_unit_test(test_unacked_consumers_take_what_they_can),
        cmocka_unit_test(test_redis_away_makes_no_calls),
        cmocka_unit_test(test_fenced_partition_stops),
        cmocka_unit_test(test_on_error_fail_stops_with_the_first_error),
        cmocka_unit_test(test_dead_letters_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
