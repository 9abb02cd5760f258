// Answers to slots, and what becomes of records without one.
// Against a store and peers that are a few arrays (core_world.h).
#include "late_world.h"

#include <errno.h>

static void test_whole_answer_is_committed_then_taken(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    assert_int_equal(d->count, 4);
    world_report(w, "w1", d, OUTCOME_OK, 4, 0);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_TAKEN), 1);
    assert_int_equal(w->partitions[0].n_batches, 0);
    assert_int_equal(w->partitions[0].oseq, 4);
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "\"error\":null"), 4);
    assert_non_null(strstr(out.p, "\"seq\":3,\"sentiment\":\"row 3\""));
    buf_free(&out);
    assert_int_equal(w->status.results_ok, 4);
    assert_int_equal(w->core->n_records, 0);
    assert_int_equal(w->core->n_bytes, 0);
    world_free(w);
}

static void test_only_missing_records_are_asked_again(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_OK, 3, 0);
    world_settle(w);
    const struct message_dispatch *again = world_dispatch(w, &at);
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

// report_misfit answers the first record of a DISPATCH with a value that does not fit.
static void report_misfit(struct world *w, const struct message_dispatch *d, const char *sentence) {
    struct buf items;
    buf_init(&items, 4096);
    struct slice rest = d->records, values;
    uint64_t slot;
    assert_int_equal(record_next(&rest, &slot, &values), 1);
    assert_int_equal(item_pack(&items, slot, OUTCOME_BAD_VALUE, slice_of(sentence)), 0);
    while (record_next(&rest, &slot, &values) > 0) {
        assert_int_equal(item_pack(&items, slot, OUTCOME_OK, values), 0);
    }
    world_message(w, "w1", (struct message){.kind = MESSAGE_REPORT,
                                            .report = {.batch = d->batch, .call = d->call,
                                                       .outcome = slice_of("ok"),
                                                       .items = buf_slice(&items),
                                                       .http_status = 200, .sent = true}});
    buf_free(&items);
}

static void test_a_misfit_is_asked_again_with_the_reason(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4', 'max.retries'='1'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    assert_int_equal(d->corrections.n, 0);
    report_misfit(w, d, "column 'sentiment': got null, want STRING NOT NULL");
    world_settle(w);
    const struct message_dispatch *again = world_dispatch(w, &at);
    assert_int_equal(again->count, 1);
    struct slice rest = again->corrections, sentence;
    uint64_t slot;
    enum outcome outcome;
    assert_int_equal(item_next(&rest, &slot, &outcome, &sentence), 1);
    assert_int_equal(slot, 0);
    assert_true(slice_is(sentence, "column 'sentiment': got null, want STRING NOT NULL"));
    assert_int_equal(item_next(&rest, &slot, &outcome, &sentence), 0);
    world_report(w, "w1", again, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 4);
    assert_int_equal(w->status.results_ok, 4);
    world_free(w);
}

static void test_a_misfit_is_asked_again_once(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4', 'max.retries'='5'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0, n = 0;
    static const char *const sentences[] = {"first", "second", "third"};
    for (const struct message_dispatch *d; (d = world_dispatch(w, &at)) != NULL; n++) {
        report_misfit(w, d, sentences[n < 2 ? n : 2]);
        world_settle(w);
    }
    assert_int_equal(n, 2);
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "\"error\":null"), 3);
    assert_non_null(strstr(out.p, "\"error\":{\"code\":\"bad-value\",\"message\":\"second\",\"attempts\":2}"));
    buf_free(&out);
    world_free(w);
}

// report_misfits answers each record of a DISPATCH with a value that does not fit.
static void report_misfits(struct world *w, const struct message_dispatch *d) {
    struct buf items;
    buf_init(&items, 4096);
    struct slice rest = d->records, values;
    uint64_t slot;
    while (record_next(&rest, &slot, &values) > 0) {
        assert_int_equal(item_pack(&items, slot, OUTCOME_BAD_VALUE, SLICE_LIT("no")), 0);
    }
    world_message(w, "w1", (struct message){.kind = MESSAGE_REPORT,
                                            .report = {.batch = d->batch, .call = d->call, .outcome = SLICE_LIT("ok"),
                                                       .items = buf_slice(&items), .http_status = 200, .sent = true}});
    buf_free(&items);
}

static void test_a_batch_of_misfits_is_asked_again_whole(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4', 'max.retries'='0'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    report_misfits(w, world_dispatch(w, &at));
    world_settle(w);
    const struct message_dispatch *again = world_dispatch(w, &at);
    assert_int_equal(again->count, 4);
    // What fails on its way is no answer: the reason stands in the next one too.
    world_report(w, "w1", again, OUTCOME_RATE_LIMITED, 0, 0);
    world_settle(w);
    world_pass(w, 31000);
    world_hello(w, "w1", 2, 8);
    world_settle(w);
    again = world_dispatch(w, &at);
    assert_int_equal(again->count, 4);
    assert_true(again->corrections.n > 0);
    report_misfits(w, again);
    world_settle(w);
    assert_null(world_dispatch(w, &at));
    assert_int_equal(w->status.results_error, 4);
    world_free(w);
}

static void test_a_misfit_is_asked_again_without_the_reason(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4', 'response.correct'='off'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    report_misfit(w, world_dispatch(w, &at), "column 'sentiment': got null, want STRING NOT NULL");
    world_settle(w);
    const struct message_dispatch *again = world_dispatch(w, &at);
    assert_int_equal(again->count, 1);
    assert_int_equal(again->corrections.n, 0);
    world_free(w);
}

static void test_useless_answers_are_halved_to_the_guilty_record(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='8', 'max.retries'='0'", 64);
    world_append(w, "p1", 1, 8);
    world_settle(w);
    size_t at = 0;
    size_t n_calls = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, &at)) != NULL; n_calls++) {
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
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "\"error\":null"), 7);
    assert_int_equal(count_text(&out, "\"code\":\"unreadable\""), 1);
    buf_free(&out);
    world_free(w);
}

static void test_a_record_without_answers_ends_as_an_error(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='2'", 64);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0, n = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, &at)) != NULL; n++) {
        world_report(w, "w1", d, OUTCOME_OK, 0, 0);
        world_settle(w);
    }
    assert_int_equal(n, 3); // the first and two more
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "\"code\":\"missing\""), 1);
    assert_int_equal(count_text(&out, "\"attempts\":3"), 1);
    buf_free(&out);
    world_free(w);
}

static void test_rate_limit_makes_the_pool_wait_and_costs_no_try(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='0'", 64);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
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
        world_settle(w);    // its mark first
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
    struct world *w = world_start_with(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_AUTH, 0, 0);
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

static void test_a_stopped_pool_goes_on_by_command(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_QUOTA, 0, 0);
    world_settle(w);
    assert_string_equal(w->core->pools->stopped, "fatal-quota");
    struct buf told;
    buf_init(&told, 4096);
    assert_int_equal(core_resume(w->core, w->now_us, SLICE_LIT("another"), &told), -ENOENT);
    assert_non_null(w->core->pools->stopped);
    buf_clear(&told);
    assert_int_equal(core_resume(w->core, w->now_us, slice_of(w->core->pools->name), &told), 0);
    assert_int_equal(count_text(&told, w->core->pools->name), 1);
    buf_clear(&told);
    assert_int_equal(core_resume(w->core, w->now_us, SLICE_NONE, &told), 0); // it goes on already
    assert_true(slice_is(buf_slice(&told), "{\"resumed\":[]}"));
    buf_free(&told);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 2);
    assert_int_equal(w->core->n_records, 3);
    world_free(w);
}

// lack_credential answers for a worker that has no credential.
static void lack_credential(struct world *w, const char *route, const struct message_dispatch *d) {
    world_message(w, route, (struct message){
                                .kind = MESSAGE_REPORT,
                                .report = {.batch = d->batch, .call = d->call,
                                           .outcome = slice_of(outcome_of(OUTCOME_NO_CREDENTIAL)->text),
                                           .detail = SLICE_LIT("${KEY} is not set")}});
    world_settle(w);
}

static void test_a_worker_without_the_credential_gets_no_more_calls(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='0'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = world_dispatch(w, &at);
    world_hello(w, "w2", 1, 1);
    world_settle(w);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 1);
    lack_credential(w, "w1", first);
    assert_null(w->core->pools->stopped);
    for (size_t n = 1; n <= 3; n++) {
        const struct message_dispatch *d = world_dispatch(w, &at);
        assert_non_null(d);
        world_report(w, "w2", d, OUTCOME_OK, 1, 0);
        world_settle(w);
    }
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 3);
    assert_int_equal(w->status.results_ok, 3);
    world_free(w);
}

static void test_a_credential_that_no_worker_has_stops_the_pool_until_one_comes(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 1);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    lack_credential(w, "w1", world_dispatch(w, &at));
    assert_string_equal(w->core->pools->stopped, "fatal-config");
    assert_string_equal(w->core->pools->stopped_why.text, "${KEY} is not set");
    assert_int_equal(w->core->n_records, 1);
    assert_int_equal(w->status.calls, 0);
    world_hello(w, "w1", 1, 1); // perhaps it has it now
    world_settle(w);
    assert_null(w->core->pools->stopped);
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->status.results_ok, 1);
    world_free(w);
}

static void test_transient_failures_back_off(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='1'", 64);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_TRANSIENT, 0, 0);
    world_settle(w);
    assert_null(world_dispatch(w, &at)); // half of 500 ms by the test's draw
    world_pass(w, 260);
    world_settle(w);
    at = 0;
    (void)world_dispatch(w, &at);
    const struct message_dispatch *second = world_dispatch(w, &at);
    assert_non_null(second);
    world_report(w, "w1", second, OUTCOME_TRANSIENT, 0, 0);
    world_settle(w);
    assert_int_equal(w->status.results_error, 1);
    world_free(w);
}

// fail_all reports every DISPATCH from *at on as one that found nobody; returns how many there were.
static size_t fail_all(struct world *w, size_t *at) {
    size_t n = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, at)) != NULL; n++) {
        struct message_report report = {
            .batch = d->batch, .call = d->call, .outcome = SLICE_LIT("unreachable")};
        world_message(w, "w1", (struct message){.kind = MESSAGE_REPORT, .report = report});
    }
    world_settle(w);
    return n;
}

static void test_an_outage_costs_no_try_and_one_call_looks_whether_it_is_over(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='1'", 64);
    w->draw = 0.02; // of at most 30 s: 0.6 s
    world_append(w, "p1", 1, 12);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_OK, 1, 0);
    assert_int_equal(fail_all(w, &at), 11);
    assert_int_equal(w->status.outages, 1);
    for (int i = 0; i < 20; i++) {
        world_pass(w, 1000);
        world_settle(w);
        assert_int_equal(fail_all(w, &at), 1);
    }
    assert_int_equal(w->status.results_error, 0);
    assert_int_equal(w->core->n_records, 11);
    for (int i = 0; i < 10 && w->core->n_records > 0; i++) {
        world_pass(w, 1000);
        world_settle(w);
        for (const struct message_dispatch *d; (d = world_dispatch(w, &at)) != NULL;) {
            world_report(w, "w1", d, OUTCOME_OK, 1, 0);
            world_settle(w);
        }
    }
    assert_int_equal(w->core->n_records, 0);
    assert_int_equal(w->status.results_ok, 12);
    assert_true(w->status.outage_seconds > 19);
    world_free(w);
}

static void test_what_may_have_been_billed_is_counted(void **state) {
    static const struct {
        const char *name;
        enum outcome outcome;
        bool sent;
        uint64_t http_status;
        uint64_t want;
    } cases[] = {
        {"nothing came back", OUTCOME_BROKEN, true, 0, 1},
        {"the answer was cut in its middle", OUTCOME_BROKEN, true, 200, 1},
        {"the answer did not come to its end in time", OUTCOME_TIMED_OUT, true, 200, 1},
        {"an error was cut in its middle", OUTCOME_BROKEN, true, 500, 0},
        {"nothing was sent", OUTCOME_BROKEN, false, 0, 0},
        {"the provider failed", OUTCOME_TRANSIENT, true, 500, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *w = world_start_with(1, "'batch.size'='1'", 64);
        world_append(w, "p1", 1, 1);
        world_settle(w);
        size_t at = 0;
        const struct message_dispatch *d = world_dispatch(w, &at);
        world_message(w, "w1", (struct message){
            .kind = MESSAGE_REPORT,
            .report = {.batch = d->batch, .call = d->call, .sent = cases[i].sent,
                       .outcome = slice_of(outcome_of(cases[i].outcome)->text),
                       .http_status = cases[i].http_status}});
        world_settle(w);
        if (w->status.calls_ambiguous != cases[i].want) {
            fail_msg("%s: counted %llu", cases[i].name, (unsigned long long)w->status.calls_ambiguous);
        }
        world_free(w);
    }
}

static void test_a_suspect_goes_alone_and_ends_after_three_workers(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'worker.lost.ms'='1000'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 2);
    world_silence(w);
    world_hello(w, "w2", 1, 4);
    world_settle(w);
    world_pass(w, 600); // the back-off
    assert_int_equal(world_count(w, "w2", MESSAGE_DISPATCH), 2);
    world_silence(w);
    world_hello(w, "w3", 1, 4);
    world_settle(w);
    assert_int_equal(world_count(w, "w3", MESSAGE_DISPATCH), 1); // either may be guilty
    size_t at = 0;
    world_report(w, "w3", &world_find(w, &at, "w3", MESSAGE_DISPATCH)->dispatch, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w3", MESSAGE_DISPATCH), 2);
    world_append(w, "p1", 3, 1); // nothing else goes there meanwhile
    world_settle(w);
    assert_int_equal(world_count(w, "w3", MESSAGE_DISPATCH), 2);
    world_silence(w);
    assert_int_equal(w->status.results_ok, 1);
    assert_int_equal(w->status.results_error, 1);
    world_hello(w, "w4", 1, 4);
    world_settle(w);
    assert_int_equal(world_count(w, "w4", MESSAGE_DISPATCH), 1);
    world_free(w);
}

// What is read from a cache and written to it has its own price; all of it is shared over the records.
static void test_a_call_with_caches_and_reasoning_is_charged_and_shared(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2', 'price.input'='10', 'price.output'='20', "
                                          "'price.cached'='1', 'price.write'='12.5'", 4);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = world_dispatch(w, &at);
    struct buf items, out;
    buf_init(&items, 1 << 20);
    buf_init(&out, 1 << 20);
    struct slice rest = d->records, values;
    uint64_t slot;
    while (record_next(&rest, &slot, &values) > 0) {
        assert_int_equal(item_pack(&items, slot, OUTCOME_OK, values), 0);
    }
    world_message(w, "w1", (struct message){
        .kind = MESSAGE_REPORT,
        .report = {.batch = d->batch, .call = d->call, .outcome = slice_of(outcome_of(OUTCOME_OK)->text),
                   .items = buf_slice(&items), .http_status = 200, .sent = true, .usage_known = true,
                   .input_tokens = 1000, .cached_tokens = 500, .cache_write_tokens = 200, .output_tokens = 100,
                   .reasoning_tokens = 60, .service_tier = SLICE_LIT("flex"), .latency_us = 1000}});
    world_settle(w);
    // 300 at 10, 500 at 1, 200 at 12.5, 100 at 20: 8000 of a million
    assert_true(w->status.cost > 0.007999 && w->status.cost < 0.008001);
    assert_int_equal(w->status.cache_write_tokens, 200);
    assert_int_equal(w->status.reasoning_tokens, 60);
    struct slice blob = {.p = w->partitions[0].outs[0].blob, .n = w->partitions[0].outs[0].n};
    assert_int_equal(result_blob_expand(blob, 0, 2, RESULT_JSON, true, &out), 0);
    assert_int_equal(count_text(&out, "\"input_tokens\":500,\"cached_tokens\":250,\"cache_write_tokens\":100,"
                                      "\"output_tokens\":50,\"reasoning_tokens\":30,\"cost\":0.004,"), 2);
    assert_int_equal(count_text(&out, "\"service_tier\":\"flex\""), 2);
    buf_free(&items);
    buf_free(&out);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_answer_is_committed_then_taken),
        cmocka_unit_test(test_only_missing_records_are_asked_again),
        cmocka_unit_test(test_a_misfit_is_asked_again_with_the_reason),
        cmocka_unit_test(test_a_misfit_is_asked_again_once),
        cmocka_unit_test(test_a_batch_of_misfits_is_asked_again_whole),
        cmocka_unit_test(test_a_misfit_is_asked_again_without_the_reason),
        cmocka_unit_test(test_useless_answers_are_halved_to_the_guilty_record),
        cmocka_unit_test(test_a_record_without_answers_ends_as_an_error),
        cmocka_unit_test(test_rate_limit_makes_the_pool_wait_and_costs_no_try),
        cmocka_unit_test(test_refused_credentials_stop_the_pool_and_keep_the_records),
        cmocka_unit_test(test_a_stopped_pool_goes_on_by_command),
        cmocka_unit_test(test_a_worker_without_the_credential_gets_no_more_calls),
        cmocka_unit_test(test_a_credential_that_no_worker_has_stops_the_pool_until_one_comes),
        cmocka_unit_test(test_transient_failures_back_off),
        cmocka_unit_test(test_an_outage_costs_no_try_and_one_call_looks_whether_it_is_over),
        cmocka_unit_test(test_what_may_have_been_billed_is_counted),
        cmocka_unit_test(test_a_call_with_caches_and_reasoning_is_charged_and_shared),
        cmocka_unit_test(test_a_suspect_goes_alone_and_ends_after_three_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
