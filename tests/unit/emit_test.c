// What leaves a batch: results in their order, errors as the model wants them, dead letters and their return.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

#include "coordinator/letter.h"
#include "coordinator/redrive.h"

#include <errno.h>

static void test_key_order_holds_over_late_batches(void **state) {
    struct world *w = world_new(1, "'batch.size'='2'");
    w->config.ordered = true;
    world_start(w);
    world_hello(w, "w1", 1, 8);
    world_open(w, "p1");
    world_append(w, "p1", 1, 4);
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = world_dispatch(w, &at), *second = world_dispatch(w, &at);
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
    const struct message_dispatch *again = world_dispatch(w, &at);
    assert_non_null(again);
    world_report(w, "w2", again, OUTCOME_OK, 2, 0);
    world_settle(w);
    (void)first;
    struct buf out;
    world_collect(w, &out);
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

static void test_on_error_fail_stops_with_the_first_error(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='0', 'on.error'='fail'", 1);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_BAD_REQUEST, 0, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].n_outs, 1);
    assert_null(world_dispatch(w, &at));
    assert_string_equal(w->core->pools->stopped, "fatal-request");
    world_free(w);
}

static void test_dead_letters_only(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'max.retries'='0', 'on.error'='dead-letter'", 8);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_BAD_REQUEST, 0, 0);
    world_settle(w);
    assert_int_equal(w->partitions[0].n_dead, 1);
    assert_int_equal(w->partitions[0].n_outs, 0);
    assert_int_equal(w->partitions[0].n_batches, 0);
    world_free(w);
}

// redrive_cases: whether the record left as an error row decides whose result the next one is.
static const struct {
    const char *on_error;
    bool has_row;
} redrive_cases[] = {{"dead-letter", false}, {"error-row", true}};

static void test_a_redriven_letter_is_a_record_again(void **state) {
    for (size_t i = 0; i < 2; i++) {
        char options[128];
        snprintf(options, sizeof(options), "'batch.size'='1', 'on.error'='%s'", redrive_cases[i].on_error);
        struct world *w = world_start_with(1, options, 8);
        struct error why = {0};
        world_append(w, "p1", 1, 1);
        world_settle(w);
        size_t at = 0;
        world_report(w, "w1", world_dispatch(w, &at), OUTCOME_BAD_REQUEST, 0, 0);
        world_settle(w);
        struct world_partition *p = &w->partitions[0];
        struct letter letter;
        assert_int_equal(letter_unpack(p->letter, &letter), 0);
        assert_int_equal(letter.outcome, OUTCOME_BAD_REQUEST);
        assert_int_equal(letter.has_row, redrive_cases[i].has_row);
        assert_int_equal(letter.seq, 1);
        assert_int_equal(redrive_letter(w->core, w->now_us, 0, SLICE_LIT("1-0"), SLICE_LIT("junk"), &why),
                         -EPROTO);
        assert_int_equal(redrive_letter(w->core, w->now_us, 0, SLICE_LIT("1-0"), p->letter, &why), 0);
        assert_int_equal(p->n_dead, 1); // until the write
        world_settle(w);
        assert_int_equal(p->n_dead, 0);
        assert_int_equal(p->n_batches, 1);
        world_report(w, "w1", world_dispatch(w, &at), OUTCOME_OK, 1, 0);
        world_settle(w);
        assert_int_equal(p->n_batches, 0);
        struct buf results;
        buf_init(&results, 1 << 20);
        world_results(w, &results);
        assert_int_equal(count_text(&results, "\"seq\":1"), 1); // one result a sequence
        assert_int_equal(count_text(&results, "row 1"), 1);
        buf_free(&results);
        world_free(w);
    }
}

static void test_a_letter_of_a_model_that_is_gone_stays(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'on.error'='dead-letter'", 8);
    struct error why = {0};
    struct letter letter = {.model = SLICE_LIT("gone"), .revision = 1, .values = SLICE_LIT("\x90")};
    struct buf blob;
    buf_init(&blob, 1000);
    assert_int_equal(letter_pack(&letter, &blob), 0);
    assert_int_equal(redrive_letter(w->core, w->now_us, 0, SLICE_LIT("1-0"), buf_slice(&blob), &why),
                     -ENOENT);
    assert_non_null(strstr(why.text, "gone"));
    for (size_t n = 0; n < blob.n; n++) { // cut anywhere
        assert_int_equal(letter_unpack((struct slice){blob.p, n}, &letter), -EPROTO);
    }
    buf_free(&blob);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_order_holds_over_late_batches),
        cmocka_unit_test(test_on_error_fail_stops_with_the_first_error),
        cmocka_unit_test(test_dead_letters_only),
        cmocka_unit_test(test_a_redriven_letter_is_a_record_again),
        cmocka_unit_test(test_a_letter_of_a_model_that_is_gone_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
