// Rows leave in input order or as they come, and no result is acked before its row is written.
#include "client/run_order.h"

#include "common/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct seen {
    char text[512];
};

static void on_write(void *arg, const struct held *held) {
    struct seen *seen = arg;
    strncat(seen->text, held->out, held->n_out);
    strcat(seen->text, " ");
}

static void on_ack(void *arg, uint32_t partition, uint64_t oseq) {
    struct seen *seen = arg;
    char text[64];
    snprintf(text, sizeof(text), "ack%u:%llu ", partition, (unsigned long long)oseq);
    strcat(seen->text, text);
}

static void add(struct run_order *order, uint64_t seq) {
    struct held *held = mem_zalloc(sizeof(*held));
    held->seq = seq;
    held->text = mem_dup_str("input");
    held->n_text = 5;
    run_order_add(order, &held);
    assert_null(held);
}

static void add_bad(struct run_order *order, const char *line) {
    struct held *held = mem_zalloc(sizeof(*held));
    held->out = mem_dup_str(line);
    held->n_out = strlen(line);
    run_order_add(order, &held);
}

static void done(struct run_order *order, uint64_t seq, uint32_t partition, uint64_t oseq) {
    struct held *held = run_order_find(order, seq);
    assert_non_null(held);
    char line[32];
    snprintf(line, sizeof(line), "r%llu", (unsigned long long)seq);
    held->out = mem_dup_str(line);
    held->n_out = strlen(line);
    run_order_done(order, held, partition, oseq);
}

static struct run_order *make(bool ordered, struct seen *seen) {
    struct run_order_handlers handlers = {.write = on_write, .ack = on_ack, .arg = seen};
    return run_order_new(ordered, &handlers);
}

static void test_ordered(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(true, &seen);
    add(order, 1);
    add(order, 2);
    add_bad(order, "bad");
    add(order, 3);
    done(order, 3, 0, 1); // the first result is that of the last row: it waits, and so does its ack
    done(order, 2, 5, 1);
    assert_string_equal(seen.text, "");
    assert_null(run_order_find(order, 3));
    done(order, 1, 0, 2);
    assert_string_equal(seen.text, "r1 r2 ack5:1 bad r3 ack0:2 ");
    assert_int_equal(run_order_held(order), 0);
    assert_int_equal(run_order_held_bytes(order), 0);
    run_order_free(order);
}

static void test_unordered(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(false, &seen);
    add(order, 1);
    add(order, 2);
    add_bad(order, "bad");
    done(order, 2, 0, 1);
    done(order, 1, 0, 2);
    assert_string_equal(seen.text, "bad r2 ack0:1 r1 ack0:2 ");
    run_order_free(order);
}

static void test_rows_far_apart_are_told_apart(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(false, &seen);
    add(order, 7);
    add(order, 7 + 65536);
    add(order, 7 + 2 * 65536);
    done(order, 7 + 65536, 0, 1);
    assert_null(run_order_find(order, 7 + 65536));
    assert_null(run_order_find(order, 7 + 3 * 65536));
    done(order, 7, 0, 2);
    done(order, 7 + 2 * 65536, 0, 3);
    assert_string_equal(seen.text, "r65543 ack0:1 r7 ack0:2 r131079 ack0:3 ");
    run_order_free(order);
}

static void test_unknown_results_are_acked_in_turn(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(true, &seen);
    add(order, 1);
    add(order, 2);
    run_order_done(order, NULL, 0, 7);
    done(order, 2, 0, 8);
    run_order_done(order, NULL, 0, 9);
    assert_string_equal(seen.text, "ack0:7 ");
    done(order, 1, 0, 10);
    assert_string_equal(seen.text, "ack0:7 r1 r2 ack0:10 ");
    run_order_free(order);
}

static void test_flush_skips_what_is_not_done(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(true, &seen);
    add(order, 1);
    add(order, 2);
    add(order, 3);
    done(order, 2, 0, 1);
    run_order_flush(order);
    assert_string_equal(seen.text, "r2 ack0:1 ");
    assert_int_equal(run_order_held(order), 2);
    run_order_free(order); // rows and entries that are left are freed
}

static void test_a_result_that_comes_before_its_row_is_kept(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(true, &seen);
    run_order_keep(order, 2, SLICE_LIT("{\"seq\":2}"), 0, 1);
    run_order_keep(order, 9, SLICE_LIT("{\"seq\":9}"), 0, 2); // of a row that is never read
    assert_null(run_order_kept(order, 1));
    add(order, 1);
    add(order, 2);
    struct kept *kept = run_order_kept(order, 2);
    assert_non_null(kept);
    assert_true(slice_is(kept_json(kept), "{\"seq\":2}"));
    struct held *held = run_order_find(order, 2);
    held->out = mem_dup("2;", 2);
    held->n_out = 2;
    run_order_done_kept(order, held, &kept);
    assert_null(kept);
    assert_null(run_order_kept(order, 2));
    assert_int_equal(run_order_held(order), 2);
    done(order, 1, 0, 3);
    assert_int_equal(run_order_held(order), 0);
    run_order_free(order);
}

static void test_a_kept_result_of_a_written_row_is_only_acked(void **state) {
    struct seen seen = {0};
    struct run_order *order = make(false, &seen);
    run_order_keep(order, 4, SLICE_LIT("{}"), 0, 1);
    struct kept *kept = run_order_kept(order, 4);
    run_order_done_kept(order, NULL, &kept);
    assert_int_equal(run_order_held(order), 0);
    run_order_free(order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordered),
        cmocka_unit_test(test_unordered),
        cmocka_unit_test(test_rows_far_apart_are_told_apart),
        cmocka_unit_test(test_unknown_results_are_acked_in_turn),
        cmocka_unit_test(test_flush_skips_what_is_not_done),
        cmocka_unit_test(test_a_result_that_comes_before_its_row_is_kept),
        cmocka_unit_test(test_a_kept_result_of_a_written_row_is_only_acked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
