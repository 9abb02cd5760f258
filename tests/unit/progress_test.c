// The live line fits its terminal, and the summary says what a person wants to know.
#include "client/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct progress_view half = {
    .done = 1500, .total = 3000, .total_is_exact = true, .seconds = 75, .rate = 100,
    .calls = 75, .errors = 1, .cost_known = true, .cost = 0.125,
};

static void test_lines(void **state) {
    struct {
        const char *name;
        struct progress_view view;
        size_t width;
        const char *want;
    } cases[] = {
        {"a plain line has everything", half, 0,
         "1m15s  1,500/3,000 50%  100/s  ETA 15s  75 calls  1 error  $0.1250"},
        {"a wide terminal has a bar", half, 100,
         "[############------------] 1,500/3,000 50%  100/s  ETA 15s  75 calls  1 error  $0.1250"},
        {"a narrower one a shorter bar", half, 70,
         "[####----] 1,500/3,000 50%  100/s  ETA 15s  75 calls  1 error  $0.1250"},
        {"a narrow one the beginning", half, 30, "1,500/3,000 50%  100/s  ETA 1"},
        {"a total that is a guess says so", {.done = 1, .total = 1000}, 0,
         "0s  1/~1,000 0%  0/s  0 calls  0 errors"},
        {"no total, a reason to wait", {.done = 1, .waiting = "no worker"}, 0,
         "0s  1  0/s  0 calls  0 errors  (no worker)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct buf out;
        buf_init(&out, 1024);
        assert_int_equal(progress_line(&cases[i].view, cases[i].width, &out), 0);
        if (cases[i].width > 0) {
            assert_true(out.n <= cases[i].width);
        }
        if (strncmp(out.p, cases[i].want, strlen(cases[i].want)) != 0) {
            print_message("%s: %s\n", cases[i].name, out.p);
        }
        assert_int_equal(strncmp(out.p, cases[i].want, strlen(cases[i].want)), 0);
        buf_free(&out);
    }
}

static void test_cut_leaves_whole_characters(void **state) {
    struct progress_view view = {.done = 1, .waiting = "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"};
    for (size_t width = 30; width < 50; width++) {
        struct buf out;
        buf_init(&out, 1024);
        assert_int_equal(progress_line(&view, width, &out), 0);
        assert_true(out.n <= width && slice_utf8_error(buf_slice(&out)) < 0);
        buf_free(&out);
    }
}

static void test_summary(void **state) {
    struct progress_code codes[] = {{"filtered", 2}, {"bad-record", 1}};
    struct progress_summary s = {
        .ended = "finished", .model = "m (openai gpt)", .rows = 3003, .ok = 3000, .codes = codes,
        .n_codes = 2, .asked = 3002, .calls = 151, .calls_failed = 1, .retries = 1, .outages = 2, .outage_seconds = 8.25,
        .input_tokens = 1234567, .output_tokens = 89, .cost = 1.5,
        .price = "price of gpt as of 2026-01-02", .seconds = 2, .output = "out.jsonl",
    };
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(progress_summary_text(&s, &out), 0);
    assert_string_equal(out.p,
                        "headrace: m (openai gpt): finished\n"
                        "  records   3,003, 3,000 with a value\n"
                        "  errors    3 (2 filtered, 1 bad-record)\n"
                        "  calls     151 for 3,000 records: 2,849 saved (95.0 %); 1 failed, 1 tried again\n"
                        "  outages   2: calls waited 8.2 s for the provider\n"
                        "  tokens    1,234,567 in, 89 out\n"
                        "  cost      $1.5000, $0.4997 per 1,000 records (price of gpt as of 2026-01-02)\n"
                        "  time      2.0 s, 1,501 records/s\n"
                        "  result    out.jsonl\n");
    buf_clear(&out);
    s.unpriced = s.ambiguous = 3;
    s.timed_out = 2;
    s.lost = 1;
    s.missing = 300;
    s.has_more = true;
    assert_int_equal(progress_summary_text(&s, &out), 0);
    assert_non_null(strstr(out.p, "2026-01-02), and 3 calls of unknown cost\n"));
    assert_non_null(strstr(out.p, "\n  missing   300 rows read and not in the output; the input goes on"));
    assert_non_null(strstr(out.p, "  ambiguous 3 calls may have been billed without an answer: 2 timed out, "
                                  "0 cut off, 1 lost with a worker, 0 with a coordinator\n"));
    buf_clear(&out);
    s.price = NULL;
    assert_int_equal(progress_summary_text(&s, &out), 0);
    assert_non_null(strstr(out.p, "cost      unknown (no price of this model is known)\n"));
    assert_non_null(strstr(out.p, "ambiguous 3 calls"));
    buf_clear(&out);
    s.ok = 0;
    assert_int_equal(progress_summary_text(&s, &out), 0);
    assert_null(strstr(out.p, "saved"));
    buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_cut_leaves_whole_characters),
        cmocka_unit_test(test_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
