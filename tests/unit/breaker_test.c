// The circuit breaker: calls and times in, what may be sent out.
#include "coordinator/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECOND_US INT64_C(1000000)

// One letter a call: a answered, f failed, o out, x nobody there, r refused for its rate, n no news.
static bool hear(struct breaker *b, char call, bool tried, int64_t now_us) {
    enum breaker_news news = call == 'a'   ? BREAKER_ANSWERED
                             : call == 'f' ? BREAKER_FAILED
                             : call == 'o' ? BREAKER_OUT
                             : call == 'x' ? BREAKER_NOBODY
                             : call == 'r' ? BREAKER_REFUSED
                                           : BREAKER_NOTHING;
    return breaker_heard(b, news, tried, 0.5, now_us);
}

static const struct {
    const char *says, *calls;
    int64_t apart_ms;
    bool opens;
} rows[] = {
    {"half of 20 failed", "afafafafafafafafafaf", 10, true},
    {"half of 18 failed", "afafafafafafafafaf", 10, false},
    {"fewer than half of 20 failed", "aafafafafafafafafafa", 10, false},
    {"20 failed at once", "ffffffffffffffffffff", 0, true},
    {"nobody is there, and nobody ever was", "xxxxxxxxxxxxxxxxxxxxxxxx", 0, false},
    {"nobody is there any more", "fxxx", 0, true},
    {"three in a row that are nobody's fault", "aaaaaaaaaooo", 10, true},
    {"two in a row, answered, two in a row", "aooaoo", 10, false},
    {"three in a row, one of them of unknown cause", "aofo", 10, false},
    {"those refused for their rate are not counted", "ffffffffffrrrrrrrrrr", 10, false},
    {"a refusal for the rate does not end a row", "aoroo", 10, true},
    {"those that were not sent are not counted", "ffffffffffnnnnnnnnnn", 10, false},
    {"half of 20 failed, over more than 30 s", "afafafafafafafafafaf", 2000, false},
    {"a failure now and then", "afafafafafafafafafafafafafafafafafafafaf", 40000, false},
};

static void test_when_it_opens(void **state) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct breaker b = {0};
        int64_t now_us = 1000 * SECOND_US;
        bool opened = false;
        for (const char *c = rows[i].calls; *c != '\0'; c++, now_us += rows[i].apart_ms * 1000) {
            opened = hear(&b, *c, false, now_us) || opened;
        }
        if (opened != rows[i].opens || (b.state == BREAKER_OPEN) != opened) {
            fail_msg("%s: it %s", rows[i].says, opened ? "opened" : "did not open");
        }
    }
}

static int64_t open_it(struct breaker *b, int64_t now_us) {
    hear(b, 'a', false, now_us);
    for (int i = 0; i < BREAKER_ROW; i++) {
        hear(b, 'o', false, now_us);
    }
    assert_int_equal(b->state, BREAKER_OPEN);
    return now_us;
}

static void test_one_call_tries_and_waits_double(void **state) {
    struct breaker b = {0};
    int64_t now_us = open_it(&b, SECOND_US), wait_us = BREAKER_FIRST_WAIT_MS * 500;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(breaker_room(&b, now_us + wait_us - 1), 0);
        assert_true(breaker_wait_ms(&b, now_us) >= wait_us / 1000);
        now_us += wait_us;
        assert_int_equal(breaker_room(&b, now_us), 1);
        breaker_sent(&b, now_us);
        assert_int_equal(breaker_room(&b, now_us), 0); // one is enough
        assert_false(hear(&b, 'a', false, now_us));    // sent before it opened
        assert_int_equal(breaker_room(&b, now_us), 0);
        assert_false(hear(&b, 'f', true, now_us));
        wait_us = wait_us * 2 < BREAKER_MOST_WAIT_MS * 500 ? wait_us * 2 : BREAKER_MOST_WAIT_MS * 500;
    }
    now_us += wait_us;
    breaker_sent(&b, now_us);
    assert_true(hear(&b, 'a', true, now_us));
    assert_int_equal(breaker_room(&b, now_us), INT64_MAX);
    assert_int_equal(breaker_wait_ms(&b, now_us), 0);
}

static void test_one_that_is_gone_lets_another_try(void **state) {
    struct breaker b = {0};
    int64_t now_us = open_it(&b, SECOND_US) + SECOND_US;
    breaker_sent(&b, now_us);
    breaker_again(&b, now_us);
    assert_int_equal(breaker_room(&b, now_us), 1);
    breaker_sent(&b, now_us);
    assert_false(hear(&b, 'n', true, now_us)); // came back unsent
    assert_int_equal(breaker_room(&b, now_us), 1);
    breaker_sent(&b, now_us);
    assert_true(hear(&b, 'r', true, now_us)); // it is there, and asks to wait
}

static void test_what_opens_again_soon_goes_on_with_its_wait(void **state) {
    struct breaker b = {0};
    int64_t now_us = open_it(&b, SECOND_US) + SECOND_US;
    breaker_sent(&b, now_us);
    hear(&b, 'f', true, now_us);
    now_us += 10 * SECOND_US;
    breaker_sent(&b, now_us);
    hear(&b, 'a', true, now_us);
    open_it(&b, now_us + SECOND_US);
    assert_int_equal(b.wait_ms, 4 * BREAKER_FIRST_WAIT_MS);
    now_us += 20 * SECOND_US;
    breaker_sent(&b, now_us);
    hear(&b, 'a', true, now_us);
    open_it(&b, now_us + BREAKER_WINDOW_US);
    assert_int_equal(b.wait_ms, BREAKER_FIRST_WAIT_MS);
}

static void test_after_an_hour_failures_cost_tries(void **state) {
    struct breaker b = {0};
    int64_t now_us = open_it(&b, SECOND_US);
    assert_true(breaker_wait_ms(&b, now_us + BREAKER_PATIENCE_US) > 0);
    assert_int_equal(breaker_wait_ms(&b, now_us + BREAKER_PATIENCE_US + 1), 0);
}

static void test_news_of_reports(void **state) {
    static const struct {
        enum outcome outcome;
        bool sent;
        int status;
        enum breaker_news want;
    } cases[] = {
        {OUTCOME_OK, true, 200, BREAKER_ANSWERED},        {OUTCOME_UNREADABLE, true, 200, BREAKER_ANSWERED},
        {OUTCOME_FILTERED, true, 400, BREAKER_ANSWERED},  {OUTCOME_AUTH, true, 401, BREAKER_ANSWERED},
        {OUTCOME_AUTH, false, 0, BREAKER_NOTHING},        {OUTCOME_UNSENT, false, 0, BREAKER_NOTHING},
        {OUTCOME_WORKER_LOST, true, 0, BREAKER_NOTHING},  {OUTCOME_RATE_LIMITED, true, 429, BREAKER_REFUSED},
        {OUTCOME_TRANSIENT, true, 500, BREAKER_FAILED},   {OUTCOME_TRANSIENT, true, 503, BREAKER_OUT},
        {OUTCOME_UNREACHABLE, false, 0, BREAKER_NOBODY},     {OUTCOME_TIMED_OUT, true, 0, BREAKER_FAILED},
        {OUTCOME_BROKEN, true, 200, BREAKER_FAILED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(breaker_news_of(cases[i].outcome, cases[i].sent, cases[i].status), cases[i].want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_it_opens),
        cmocka_unit_test(test_one_call_tries_and_waits_double),
        cmocka_unit_test(test_one_that_is_gone_lets_another_try),
        cmocka_unit_test(test_what_opens_again_soon_goes_on_with_its_wait),
        cmocka_unit_test(test_after_an_hour_failures_cost_tries),
        cmocka_unit_test(test_news_of_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
