// What a record gets when its model could not answer it: the default, or another model's answer.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

#include "coordinator/letter.h"

// results_with_meta lists the outbox as JSON Lines; free it.
static struct buf results_with_meta(struct world *w) {
    struct buf out;
    buf_init(&out, 1 << 20);
    for (uint32_t i = 0; i < w->config.n_partitions; i++) {
        for (size_t j = 0; j < w->partitions[i].n_outs; j++) {
            struct slice blob = {.p = w->partitions[i].outs[j].blob, .n = w->partitions[i].outs[j].n};
            long n = result_blob_count(blob);
            assert_true(n > 0);
            assert_int_equal(result_blob_expand(blob, 0, (size_t)n, RESULT_JSON, true, &out), 0);
        }
    }
    return out;
}

static const struct message_dispatch *next_dispatch(struct world *w, size_t *at) {
    struct message *m = world_find(w, at, NULL, MESSAGE_DISPATCH);
    return m != NULL ? &m->dispatch : NULL;
}

static void expect(const struct buf *out, const char *text) {
    if (out->p == NULL || strstr(out->p, text) == NULL) {
        fail_msg("got %s want %s", out->p != NULL ? out->p : "nothing", text);
    }
}

// ---- The default ----------------------------------------------------------------------------------

static void test_a_default_stands_for_an_error(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2', 'default.value'='no idea'", 8);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    for (const struct message_dispatch *d; (d = next_dispatch(w, &at)) != NULL;) {
        bool refused = d->count > 1 || memmem(d->records.p, d->records.n, "row 1", 5) != NULL;
        world_report(w, "w1", d, refused ? OUTCOME_FILTERED : OUTCOME_OK, refused ? 0 : 1, 0);
        world_settle(w);
    }
    struct buf out = results_with_meta(w);
    assert_int_equal(count_text(&out, "\"error\":null"), 2);
    expect(&out, "\"sentiment\":\"no idea\",\"error\":null");
    expect(&out, "\"default\":{\"code\":\"filtered\",\"message\":\"the provider's content filter refused\"}}");
    assert_int_equal(count_text(&out, "\"default\""), 1);
    expect(&out, "\"sentiment\":\"row 2\",\"error\":null");
    buf_free(&out);
    assert_int_equal(w->status.results_ok, 2);
    assert_int_equal(w->status.results_default, 1);
    assert_int_equal(w->status.results_error, 0);
    assert_int_equal(w->core->n_records, 0);
    // It is a dead letter too, so that it can be asked again.
    struct letter letter;
    assert_int_equal(w->partitions[0].n_dead, 1);
    assert_int_equal(letter_unpack(w->partitions[0].letter, &letter), 0);
    assert_int_equal(letter.outcome, OUTCOME_FILTERED);
    assert_true(letter.has_row);
    world_free(w);
}

static void test_a_row_that_is_no_record_has_no_default(void **state) {
    struct world *w = world_start_with(1, "'default.value'='no idea', 'null.input'='error'", 8);
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 1,
                                                       .records = SLICE_LIT("{\"text\":null}")}});
    world_settle(w);
    struct buf out = results_with_meta(w);
    expect(&out, "\"sentiment\":null,\"error\":{\"code\":\"bad-record\"");
    buf_free(&out);
    world_free(w);
}

static void test_a_default_that_waits_for_its_turn_is_durable(void **state) {
    struct world *w = world_new(1, "'batch.size'='1', 'max.retries'='0', 'default.value'='no idea'");
    w->config.ordered = true;
    world_start(w);
    world_hello(w, "w1", 1, 8);
    world_open(w, "p1");
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = next_dispatch(w, &at), *second = next_dispatch(w, &at);
    assert_non_null(second);
    (void)first;
    world_report(w, "w1", second, OUTCOME_TRUNCATED, 0, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 0); // the first one is to go before it
    world_crash(w);
    world_start(w);
    world_pass(w, 4000);
    world_hello(w, "w1", 2, 8);
    world_settle(w);
    at = 0;
    const struct message_dispatch *again = next_dispatch(w, &at);
    assert_non_null(again);
    world_report(w, "w1", again, OUTCOME_OK, 1, 0);
    world_settle(w);
    struct buf out = results_with_meta(w);
    assert_int_equal(w->partitions[0].oseq, 2);
    expect(&out, "\"seq\":2,\"sentiment\":\"no idea\",\"error\":null");
    expect(&out, "\"default\":{\"code\":\"truncated\",\"message\":\"the answer ended at the token limit\"}}");
    buf_free(&out);
    world_free(w);
}

// ---- Another model --------------------------------------------------------------------------------

// start_with_models opens a world whose model m has the options, and beside it the model b.
static struct world *start_with_models(const char *m, const char *b, uint64_t credit) {
    struct world *w = world_new(1, m);
    world_add_model(w, "b", b);
    world_start(w);
    world_hello(w, "w1", 1, credit);
    world_open(w, "p1");
    return w;
}

static void report_all(struct world *w, size_t *at, enum outcome of_m, enum outcome of_b) {
    for (const struct message_dispatch *d; (d = next_dispatch(w, at)) != NULL;) {
        enum outcome outcome = slice_is(d->model, "m") ? of_m : of_b;
        world_report(w, "w1", d, outcome, outcome == OUTCOME_OK ? d->count : 0, 0);
        world_settle(w);
    }
}

static void test_what_one_model_refuses_another_is_asked(void **state) {
    struct world *w = start_with_models("'batch.size'='4', 'fallback.model'='b', 'price.call'='1'",
                                        "'batch.size'='4', 'price.call'='2'", 8);
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0, n_b = 0;
    for (const struct message_dispatch *d; (d = next_dispatch(w, &at)) != NULL;) {
        bool refused = slice_is(d->model, "m") && memmem(d->records.p, d->records.n, "row 3", 5) != NULL;
        world_report(w, "w1", d, refused ? OUTCOME_FILTERED : OUTCOME_OK, refused ? 0 : d->count, 0);
        world_settle(w);
        if (slice_is(d->model, "b")) {
            n_b++;
            assert_int_equal(d->count, 1);
        }
    }
    assert_int_equal(n_b, 1);
    struct buf out = results_with_meta(w);
    assert_int_equal(count_text(&out, "\"error\":null"), 4);
    assert_int_equal(count_text(&out, "\"fallback\""), 1);
    expect(&out, "\"seq\":3,\"sentiment\":\"row 3\",\"error\":null,\"meta\":{\"model\":\"b\",\"revision\":1,");
    expect(&out, "\"attempts\":4,"); // of 4, of 2, of 1, and of the other model
    expect(&out, "\"cost\":3.75,"); // 1/4 + 1/2 + 1 + 2
    expect(&out, "\"fallback\":{\"model\":\"m\",\"revision\":1,\"code\":\"filtered\",\"message\":"
                 "\"the provider's content filter refused\"}}");
    buf_free(&out);
    assert_int_equal(w->status.records_handed_on, 1);
    assert_int_equal(w->status.dead_letters, 0);
    assert_int_equal(w->core->n_records, 0);
    assert_int_equal(w->core->n_bytes, 0);
    assert_int_equal(w->partitions[0].n_batches, 0);
    world_free(w);
}

// What the model does with each call, and whether another is asked then.
static const struct {
    const char *says;
    enum outcome outcome;
    bool hands_on;
} ends[] = {
    {"a filter", OUTCOME_FILTERED, true},
    {"a bad request", OUTCOME_BAD_REQUEST, true},
    {"a prompt that is too long", OUTCOME_TOO_LARGE, true},
    {"an answer that is cut", OUTCOME_TRUNCATED, true},
    {"an answer that nobody can read", OUTCOME_UNREADABLE, true},
    {"no item", OUTCOME_OK, true},
    {"a model that is not there", OUTCOME_NO_SUCH_MODEL, true},
    {"wrong credentials", OUTCOME_AUTH, false},
    {"no quota", OUTCOME_QUOTA, false},
    {"options that do not work", OUTCOME_BAD_CONFIG, false},
};

static void test_which_errors_hand_on(void **state) {
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct world *w = start_with_models("'batch.size'='2', 'max.retries'='0', 'fallback.model'='b'", "", 8);
        world_append(w, "p1", 1, 2);
        world_settle(w);
        size_t at = 0;
        for (const struct message_dispatch *d; (d = next_dispatch(w, &at)) != NULL;) {
            bool is_b = slice_is(d->model, "b");
            world_report(w, "w1", d, is_b ? OUTCOME_OK : ends[i].outcome, is_b ? d->count : 0, 0);
            world_settle(w);
        }
        if (w->status.records_handed_on != (ends[i].hands_on ? 2 : 0)) {
            fail_msg("%s: %d records handed on", ends[i].says, (int)w->status.records_handed_on);
        }
        assert_int_equal(w->status.results_ok, ends[i].hands_on ? 2 : 0);
        assert_int_equal(w->status.results_error, 0); // a pool that has stopped keeps its records
        assert_true((w->core->pools->stopped != NULL) == !ends[i].hands_on);
        world_free(w);
    }
}

static void test_tries_are_spent_before_another_model_is_asked(void **state) {
    struct world *w = start_with_models("'max.retries'='2', 'fallback.model'='b'", "'max.retries'='1'", 8);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0, n_m = 0, n_b = 0;
    for (int i = 0; i < 20; i++) {
        const struct message_dispatch *d = next_dispatch(w, &at);
        if (d != NULL) {
            n_m += slice_is(d->model, "m");
            n_b += slice_is(d->model, "b");
            world_report(w, "w1", d, OUTCOME_UNREADABLE, 0, 0);
        }
        world_pass(w, 31000);
        world_hello(w, "w1", (uint64_t)i + 2, 8);
        world_settle(w);
    }
    assert_int_equal(n_m, 3);
    assert_int_equal(n_b, 2);
    struct buf out = results_with_meta(w); // the last one's error, the first one's beside it
    expect(&out, "\"error\":{\"code\":\"unreadable\",\"message\":\"the answer is not in the response format\",\"attempts\":5}");
    expect(&out, "\"meta\":{\"model\":\"b\"");
    expect(&out, "\"fallback\":{\"model\":\"m\"");
    buf_free(&out);
    struct letter letter;
    assert_int_equal(letter_unpack(w->partitions[0].letter, &letter), 0);
    assert_true(slice_is(letter.model, "m")); // asked again, it begins with its own
    world_free(w);
}

static void test_a_chain_ends_with_the_default(void **state) {
    struct world *w = start_with_models("'fallback.model'='b', 'default.value'='none', 'batch.size'='3'",
                                        "'fallback.model'='c', 'batch.size'='2'", 8);
    world_add_model(w, "c", "'default.value'='never'");
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    report_all(w, &at, OUTCOME_NO_SUCH_MODEL, OUTCOME_NO_SUCH_MODEL);
    struct buf out = results_with_meta(w);
    assert_int_equal(w->status.records_handed_on, 6);
    // The last of the chain has no other: its pool stops.
    assert_int_equal(w->partitions[0].oseq, 0);
    buf_free(&out);
    world_free(w);

    w = start_with_models("'fallback.model'='b', 'default.value'='none', 'batch.size'='3'",
                          "'fallback.model'='c', 'batch.size'='2'", 8);
    world_add_model(w, "c", "'default.value'='never'");
    world_append(w, "p1", 1, 3);
    world_settle(w);
    at = 0;
    report_all(w, &at, OUTCOME_FILTERED, OUTCOME_FILTERED);
    out = results_with_meta(w);
    assert_int_equal(count_text(&out, "\"sentiment\":\"none\""), 3);
    assert_int_equal(count_text(&out, "\"meta\":{\"model\":\"c\""), 3);
    assert_int_equal(count_text(&out, "\"fallback\":{\"model\":\"m\""), 3);
    assert_int_equal(count_text(&out, "\"default\":{\"code\":\"filtered\""), 3);
    buf_free(&out);
    world_free(w);
}

// Models that cannot be used, and the sentence of the error.
static const struct {
    const char *says, *m, *b, *want;
} misfits[] = {
    {"it is not there", "'fallback.model'='x'", "", "refused; fallback.model 'x' does not exist"},
    {"it is itself", "'fallback.model'='m'", "", "refused; fallback.model 'm' leads back to itself"},
    {"it has other columns", "'fallback.model'='wide'", "",
     "refused; fallback.model: model 'wide' has 2 INPUT columns, want the same 1"},
};

static void test_a_model_that_cannot_be_used_is_named_in_the_error(void **state) {
    for (size_t i = 0; i < sizeof(misfits) / sizeof(misfits[0]); i++) {
        struct world *w = start_with_models(misfits[i].m, misfits[i].b, 8);
        struct error why = {0};
        assert_int_equal(model_sql_parse(SLICE_LIT("CREATE MODEL wide INPUT (text STRING, n INT) OUTPUT (sentiment STRING) WITH "
                                                   "('provider'='openai', 'endpoint'='http://h', 'model'='x')"),
                                         "test", &w->models[w->n_models], &why), 0);
        w->models[w->n_models++].items[0].model->revision = 1;
        world_append(w, "p1", 1, 1);
        world_settle(w);
        size_t at = 0;
        report_all(w, &at, OUTCOME_FILTERED, OUTCOME_FILTERED);
        struct buf out = results_with_meta(w);
        expect(&out, misfits[i].want);
        buf_free(&out);
        world_free(w);
    }
}

static void test_a_cycle_ends(void **state) {
    struct world *w = start_with_models("'fallback.model'='b'", "'fallback.model'='m'", 8);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    report_all(w, &at, OUTCOME_FILTERED, OUTCOME_FILTERED);
    struct buf out = results_with_meta(w);
    expect(&out, "fallback.model 'm' leads back to itself");
    buf_free(&out);
    world_free(w);
}

// after_a_crash loses the core, starts the next one and lets the grace pass.
static void after_a_crash(struct world *w, uint64_t incarnation) {
    world_crash(w);
    world_start(w);
    world_pass(w, 4000);
    world_hello(w, "w1", incarnation, 8);
    world_settle(w);
}

static void test_a_restart_goes_on_with_the_model_that_was_asked(void **state) {
    struct world *w = start_with_models("'batch.size'='2', 'fallback.model'='b'", "", 8);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", next_dispatch(w, &at), OUTCOME_NO_SUCH_MODEL, 0, 0);
    // Killed before anything of it is durable: the first model is asked again.
    world_turn(w);
    after_a_crash(w, 2);
    at = 0;
    const struct message_dispatch *d = next_dispatch(w, &at);
    assert_true(slice_is(d->model, "m"));
    assert_int_equal(d->count, 2);
    world_report(w, "w1", d, OUTCOME_NO_SUCH_MODEL, 0, 0);
    world_settle(w);
    d = next_dispatch(w, &at);
    assert_true(slice_is(d->model, "b"));
    assert_int_equal(d->count, 1); // as its own batch.size says
    assert_int_equal(number_level(d->call), 1);
    // Killed with its calls out, while the model has a later revision: what was asked is asked.
    world_add_model(w, "b", "'batch.size'='3'");
    w->models[w->n_models - 1].items[0].model->revision = 2;
    after_a_crash(w, 3);
    at = 0;
    size_t n = 0;
    for (; (d = next_dispatch(w, &at)) != NULL; n++) {
        assert_true(slice_is(d->model, "b"));
        assert_int_equal(d->revision, 1);
        assert_int_equal(d->count, 1);
        world_report(w, "w1", d, OUTCOME_OK, 1, 0);
        world_settle(w);
    }
    assert_int_equal(n, 2);
    struct buf out = results_with_meta(w);
    assert_int_equal(count_text(&out, "\"meta\":{\"model\":\"b\",\"revision\":1,"), 2);
    assert_int_equal(count_text(&out, "\"fallback\":{\"model\":\"m\",\"revision\":1,\"code\":\"model-not-found\""), 2);
    assert_int_equal(w->partitions[0].oseq, 2);
    buf_free(&out);
    world_free(w);
}

static void test_a_late_answer_of_the_first_model_is_used(void **state) {
    struct world *w = start_with_models("'batch.size'='2', 'fallback.model'='b', 'request.timeout.ms'='1000', "
                                        "'worker.lost.ms'='0', 'ambiguous.retries'='1'", "", 8);
    world_hello(w, "w2", 1, 8);
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = next_dispatch(w, &at);
    const char *route = w->sent[at - 1].route;
    // Its worker is lost, another is asked and told that there is no such model, and so the next model is asked.
    world_pass(w, 900);
    world_message(w, route[1] == '1' ? "w2" : "w1", (struct message){.kind = MESSAGE_PING, .ping = {.worker = true}});
    world_pass(w, 2400);
    world_settle(w);
    world_pass(w, 600);
    world_settle(w);
    const struct message_dispatch *again = next_dispatch(w, &at);
    assert_non_null(again);
    assert_true(slice_is(again->model, "m"));
    world_report(w, w->sent[at - 1].route, again, OUTCOME_NO_SUCH_MODEL, 0, 0);
    world_settle(w);
    const struct message_dispatch *other = next_dispatch(w, &at);
    assert_true(slice_is(other->model, "b"));
    world_report(w, route, first, OUTCOME_OK, 2, 0);
    world_settle(w);
    struct buf out = results_with_meta(w);
    assert_int_equal(w->partitions[0].oseq, 2);
    assert_int_equal(count_text(&out, "\"meta\":{\"model\":\"m\""), 2);
    buf_free(&out);
    world_free(w);
}

static void test_order_is_kept_over_models(void **state) {
    struct world *w = world_new(1, "'batch.size'='1', 'fallback.model'='b'");
    w->config.ordered = true;
    world_add_model(w, "b", "");
    world_start(w);
    world_hello(w, "w1", 1, 8);
    world_open(w, "p1");
    world_append(w, "p1", 1, 2);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *one = next_dispatch(w, &at), *two = next_dispatch(w, &at);
    world_report(w, "w1", one, OUTCOME_FILTERED, 0, 0);
    world_report(w, "w1", two, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].oseq, 0);
    after_a_crash(w, 2);
    at = 0;
    const struct message_dispatch *other = next_dispatch(w, &at);
    assert_true(slice_is(other->model, "b"));
    world_report(w, "w1", other, OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_null(next_dispatch(w, &at));
    struct buf out = results_with_meta(w);
    const char *first = strstr(out.p, "\"seq\":1"), *second = strstr(out.p, "\"seq\":2");
    assert_true(first != NULL && second != NULL && first < second);
    buf_free(&out);
    world_free(w);
}

static void test_what_a_submission_says_of_money_goes_along(void **state) {
    struct world *w = world_new(1, "'fallback.model'='b', 'price.call'='1'");
    world_add_model(w, "b", "'price.call'='2', 'tenant'='other'");
    world_start(w);
    world_hello(w, "w1", 1, 8);
    // {"budget.usd": "2.5", "tenant": "t", "temperature": "0"}
    struct slice options = SLICE_LIT("\x83\xaa" "budget.usd\xa3" "2.5\xa6" "tenant\xa1t\xab" "temperature\xa1" "0");
    world_message(w, "p1", (struct message){.kind = MESSAGE_OPEN,
                                            .open = {.producer = SLICE_LIT("p1"), .model = SLICE_LIT("m"), .options = options}});
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *d = next_dispatch(w, &at);
    assert_non_null(d);
    world_report(w, "w1", d, OUTCOME_FILTERED, 0, 0);
    world_settle(w);
    // 1 of 2.5 is spent: the other model's call, of 2, is not made.
    assert_null(next_dispatch(w, &at));
    struct group *other = NULL;
    for (struct group *g = w->core->groups; g != NULL; g = g->hh.next) {
        other = strcmp(g->model->name, "b") == 0 ? g : other;
    }
    assert_non_null(other);
    assert_string_equal(other->model->options.tenant, "t");
    assert_string_equal(other->model->options.budget_name, "m");
    assert_true(other->model->options.temperature != 0); // not given
    world_free(w);
}

static void test_numbers_of_calls_tell_their_level(void **state) {
    struct world *w = world_new(1, "");
    world_start(w);
    world_open(w, "p1");
    struct batch *b = batch_new(1, &w->core->groups->lanes[0], 0);
    b->last_call = 5u << 20 | (NUMBER_COUNT_MASK - 1);
    assert_int_equal(batch_number_after(b), 5u << 20 | NUMBER_COUNT_MASK);
    assert_int_equal(number_level(batch_next_number(b, 3)), 3);
    assert_int_equal(batch_next_number(b, 0), (6u << 20) + 1); // in the next epoch's
    uint32_t number = batch_next_number(b, 2);
    assert_int_equal(number_level(number), 2);
    batch_seen_number(b, (7u << 20) + (2u << NUMBER_LEVEL_SHIFT) + 9);
    assert_int_equal(batch_next_number(b, 0), (7u << 20) + 10);
    batch_free(b);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_default_stands_for_an_error),
        cmocka_unit_test(test_a_row_that_is_no_record_has_no_default),
        cmocka_unit_test(test_a_default_that_waits_for_its_turn_is_durable),
        cmocka_unit_test(test_what_one_model_refuses_another_is_asked),
        cmocka_unit_test(test_which_errors_hand_on),
        cmocka_unit_test(test_tries_are_spent_before_another_model_is_asked),
        cmocka_unit_test(test_a_chain_ends_with_the_default),
        cmocka_unit_test(test_a_model_that_cannot_be_used_is_named_in_the_error),
        cmocka_unit_test(test_a_cycle_ends),
        cmocka_unit_test(test_a_restart_goes_on_with_the_model_that_was_asked),
        cmocka_unit_test(test_a_late_answer_of_the_first_model_is_used),
        cmocka_unit_test(test_order_is_kept_over_models),
        cmocka_unit_test(test_what_a_submission_says_of_money_goes_along),
        cmocka_unit_test(test_numbers_of_calls_tell_their_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
