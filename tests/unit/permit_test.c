// Arguments and replies of permit_sync.lua as text.
#include "coordinator/permit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_arguments_come_in_the_order_of_the_script(void **state) {
    struct permit_request r = {.number = 7, .n_want = 3, .span_us = 250000, .ahead_us = 500000, .calls_limit = 9,
                               .calls_want = 4, .calls_held = 2, .calls_ms = 1000, .elapsed_us = -1,
                               .block_us = 5, .cut = true, .day_offset_min = 480};
    r.of[LIMIT_TOKENS] = (struct permit_kind){
        .limit = 60000, .said = 50000, .share = 0.5, .back = 1.25, .owed = 7, .largest = 300, .want = 900};
    static const char *const want[] = {"7", "3", "250000", "500000", "9", "4", "2", "1000", "-1", "5", "1", "7"};
    static const char *const tokens[] = {"tokens", "60000", "50000", "w", "0.500000", "1.250000", "7.000000", "300.000000",
                                         "900.000000"};
    struct buf text;
    struct slice args[PERMIT_ARGS_MAX];
    buf_init(&text, 8192);
    assert_int_equal(permit_args(&r, &text, args), PERMIT_ARGS_MAX);
    for (size_t i = 0; i < 12; i++) {
        assert_true(slice_is(args[i], want[i]));
    }
    for (size_t i = 0; i < 9; i++) {
        assert_true(slice_is(args[12 + 9 * LIMIT_TOKENS + i], tokens[i]));
    }
    assert_true(slice_is(args[12 + 9 * LIMIT_REQUESTS_DAY + 3], "d480"));
    r.is_bucket = true;
    r.day_offset_min = -1;
    buf_clear(&text);
    (void)permit_args(&r, &text, args);
    assert_true(slice_is(args[12 + 3], "b"));
    assert_true(slice_is(args[12 + 9 * LIMIT_TOKENS_DAY + 3], "e"));
    buf_free(&text);
}

static void test_a_reply_is_read(void **state) {
    struct permit_reply r;
    assert_true(permit_reply_parse(
        SLICE_LIT("12 -300 2000000 4 1500 0.7000 2 requests 600 -11.500 12.000 70.000 tokens-day 1000 998.000 2.500 9.000"), &r));
    assert_int_equal(r.n, 12);
    assert_int_equal(r.delay_us, -300);
    assert_int_equal(r.duration_us, 2000000);
    assert_int_equal(r.calls, 4);
    assert_int_equal(r.blocked_us, 1500);
    assert_true(r.scale == 0.7);
    assert_int_equal(r.of[LIMIT_REQUESTS].limit, 600);
    assert_true(r.of[LIMIT_REQUESTS].level == -11.5 && r.of[LIMIT_REQUESTS].granted == 12);
    assert_true(r.of[LIMIT_REQUESTS].spent == 70);
    assert_true(r.of[LIMIT_TOKENS_DAY].level == 998 && r.of[LIMIT_TOKENS_DAY].granted == 2.5);
    assert_int_equal(r.of[LIMIT_TOKENS].limit, 0);
}

static const struct {
    const char *says;
    struct slice text;
} bads[] = {
    {"empty", SLICE_LIT("")},
    {"a number is missing", SLICE_LIT("1 0 0 0 0 1")},
    {"a word for a number", SLICE_LIT("1 0 zero 0 0 1 0")},
    {"less than no calls", SLICE_LIT("-1 0 0 0 0 1 0")},
    {"lasts less than no time", SLICE_LIT("1 0 -5 0 0 1 0")},
    {"a kind that does not exist", SLICE_LIT("1 0 0 0 0 1 1 thoughts 1 1 1 1")},
    {"fewer kinds than it says", SLICE_LIT("1 0 0 0 0 1 2 requests 1 1 1 1")},
    {"more kinds than it says", SLICE_LIT("1 0 0 0 0 1 0 requests 1 1 1 1")},
    {"more kinds than there are", SLICE_LIT("1 0 0 0 0 1 1000000000")},
    {"no number", SLICE_LIT("1 0 0 0 0 nan 0")},
    {"without end", SLICE_LIT("1 0 0 0 0 1 1 requests 1 inf 1 1")},
    {"past all time", SLICE_LIT("1 9223372036854775807 0 0 0 1 0")},
    {"a zero byte within", SLICE_LIT("1 0 0 0 0 1 0\0 more")},
};

static void test_what_is_no_reply_is_refused(void **state) {
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        struct permit_reply r;
        if (permit_reply_parse(bads[i].text, &r)) {
            fail_msg("taken for a reply: %s", bads[i].says);
        }
    }
    char text[3000];
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = "1 "[i % 2];
    }
    struct permit_reply r;
    assert_false(permit_reply_parse((struct slice){.p = text, .n = sizeof(text)}, &r));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_come_in_the_order_of_the_script),
        cmocka_unit_test(test_a_reply_is_read),
        cmocka_unit_test(test_what_is_no_reply_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
