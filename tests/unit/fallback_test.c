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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_default_stands_for_an_error),
        cmocka_unit_test(test_a_row_that_is_no_record_has_no_default),
        cmocka_unit_test(test_a_default_that_waits_for_its_turn_is_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
