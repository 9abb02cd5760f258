// What becomes of records that a call did not answer: a table of cases.
#include "coordinator/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct row {
    const char *says;
    struct retry_case c;
    int fallback;
    enum retry_action want;
    int want_tries;
};

#define CASE(o, asked, left, ...) \
    {.outcome = OUTCOME_##o, .n_asked = asked, .n_left = left, .draw = 0.5, __VA_ARGS__}

static const struct row rows[] = {
    {"missing records are asked again whole once", CASE(OK, 20, 2), 0, RETRY_SAME, 0},
    {"missing again: halved", CASE(MISSING, 2, 2, .reasked = true), 0, RETRY_HALVES, 0},
    {"missing again though some came: halved", CASE(MISSING, 4, 2, .reasked = true), 0, RETRY_HALVES, 0},
    {"all are missing: halved at once", CASE(OK, 20, 20), 0, RETRY_HALVES, 0},
    {"missing alone: a try", CASE(MISSING, 1, 1), 0, RETRY_SAME, 1},
    {"missing alone with no try left: given up", CASE(MISSING, 1, 1, .tries = 3), 0, RETRY_GIVE_UP, 3},
    {"bad value of one in a batch: asked again", CASE(BAD_VALUE, 5, 1), 0, RETRY_SAME, 0},
    {"bad values of a whole batch: asked again with the reason", CASE(BAD_VALUE, 5, 5, .corrects = true), 0, RETRY_SAME, 0},
    {"a bad value alone, with no try left: asked again with the reason", CASE(BAD_VALUE, 1, 1, .tries = 3, .corrects = true), 0, RETRY_SAME, 3},
    {"unreadable batch: halved", CASE(UNREADABLE, 20, 20), FALLBACK_SPLIT, RETRY_HALVES, 0},
    {"unreadable batch, strategy single", CASE(UNREADABLE, 20, 20), FALLBACK_SINGLE, RETRY_SINGLES, 0},
    {"unreadable batch, strategy retry", CASE(EMPTY, 20, 20), FALLBACK_RETRY, RETRY_SAME, 1},
    {"unreadable batch, strategy retry, none left", CASE(EMPTY, 20, 20, .tries = 3), FALLBACK_RETRY,
     RETRY_GIVE_UP, 3},
    {"unreadable batch, strategy fail", CASE(SHIFTED, 20, 20), FALLBACK_FAIL, RETRY_GIVE_UP, 0},
    {"truncated: halved", CASE(TRUNCATED, 20, 5), 0, RETRY_HALVES, 0},
    {"missing alone after something else went wrong: no further try",
     CASE(MISSING, 1, 1, .tries = 3, .new_kind = true), 0, RETRY_SAME, 3},
    {"truncated alone: a try", CASE(TRUNCATED, 1, 1), 0, RETRY_SAME, 1},
    {"truncated alone to the end: given up", CASE(TRUNCATED, 1, 1, .tries = 3), 0, RETRY_GIVE_UP, 3},
    {"too large: halved", CASE(TOO_LARGE, 8, 8), 0, RETRY_HALVES, 0},
    {"too large alone: given up", CASE(TOO_LARGE, 1, 1), 0, RETRY_GIVE_UP, 0},
    {"filtered batch: halved to the guilty one", CASE(FILTERED, 8, 8), 0, RETRY_HALVES, 0},
    {"filtered alone: given up", CASE(FILTERED, 1, 1), 0, RETRY_GIVE_UP, 0},
    {"provider failed: again after a while", CASE(TRANSIENT, 8, 8), 0, RETRY_SAME, 1},
    {"provider failed to the end: halves, one may be guilty", CASE(TRANSIENT, 8, 8, .tries = 3), 0,
     RETRY_HALVES, 3},
    {"provider failed to the end alone: given up", CASE(TRANSIENT, 1, 1, .tries = 3), 0, RETRY_GIVE_UP, 3},
    {"nobody there to the end: given up whole", CASE(UNREACHABLE, 8, 8, .tries = 3), 0, RETRY_GIVE_UP, 3},
    {"provider is out: again, no try", CASE(TRANSIENT, 8, 8, .tries = 3, .out_ms = 900), 0, RETRY_SAME, 3},
    {"nobody there while the provider is out: again, no try",
     CASE(UNREACHABLE, 1, 1, .tries = 3, .out_ms = 900), 0, RETRY_SAME, 3},
    {"timed out for the second time while the provider is out: not billed a third time",
     CASE(TIMED_OUT, 1, 1, .ambiguous = true, .n_ambiguous = 1, .out_ms = 900), 0, RETRY_GIVE_UP, 0},
    {"429: the pool waits, no try", CASE(RATE_LIMITED, 8, 8, .tries = 3), 0, RETRY_POOL, 3},
    {"unsent: again, no try", CASE(UNSENT, 8, 8, .tries = 3), 0, RETRY_SAME, 3},
    {"401: the pool stops", CASE(AUTH, 8, 8), 0, RETRY_STOP, 0},
    {"worker lost: once more", CASE(WORKER_LOST, 8, 8, .ambiguous = true), 0, RETRY_SAME, 0},
    {"worker lost, and an earlier call timed out: once more all the same",
     CASE(WORKER_LOST, 8, 8, .ambiguous = true, .n_ambiguous = 1), 0, RETRY_SAME, 0},
    {"worker lost twice: halves, a record may crash its reader",
     CASE(WORKER_LOST, 8, 8, .ambiguous = true, .n_lost = 1), 0, RETRY_HALVES, 0},
    {"a half loses a third worker: halved again",
     CASE(WORKER_LOST, 4, 4, .ambiguous = true, .n_lost = 2), 0, RETRY_HALVES, 0},
    {"a record alone lost two workers: once more", CASE(WORKER_LOST, 1, 1, .ambiguous = true, .n_lost = 1),
     0, RETRY_SAME, 0},
    {"a record alone lost three workers: given up",
     CASE(WORKER_LOST, 1, 1, .ambiguous = true, .n_lost = 2), 0, RETRY_GIVE_UP, 0},
    {"timed out after a lost worker: once more",
     CASE(TIMED_OUT, 8, 8, .ambiguous = true, .n_lost = 1), 0, RETRY_SAME, 1},
};

static void test_rows(void **state) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct model_options o = {
            .max_retries = 3, .ambiguous_retries = 1, .fallback_strategy = r->fallback};
        struct retry_decision d = retry_decide(&o, &r->c);
        if (d.action != r->want || d.tries != r->want_tries) {
            fail_msg("%s: got action %d tries %d, want %d and %d", r->says, d.action, d.tries, r->want,
                     r->want_tries);
        }
    }
}

static void test_back_off_has_full_jitter_and_a_cap(void **state) {
    struct model_options o = {.max_retries = 50, .ambiguous_retries = 1};
    int64_t want_most[] = {500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};
    for (int tries = 0; tries < 8; tries++) {
        struct retry_case c = CASE(TRANSIENT, 1, 1, .tries = tries);
        c.draw = 0.999999;
        int64_t most = retry_decide(&o, &c).delay_ms;
        c.draw = 0;
        assert_int_equal(retry_decide(&o, &c).delay_ms, 0);
        assert_in_range(most, want_most[tries] - 1, want_most[tries]);
    }
    struct retry_case asked = CASE(TRANSIENT, 1, 1, .retry_after_ms = 7000);
    assert_int_equal(retry_decide(&o, &asked).delay_ms, 7000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_back_off_has_full_jitter_and_a_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
