// The simulator's pools of limits: random requests against a naive model, and cases.
#include "tests/provider/quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define SECOND   INT64_C(1000000)
#define MINUTE   (60 * SECOND)
#define DAY      (10 * MINUTE)
#define START_US (INT64_C(1764000000) * SECOND)
#define CALLS    1500

static uint64_t state;

static int64_t draw(int64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (int64_t)(state % (uint64_t)below);
}

// --- the naive model: every charge there ever was -------------------------------------------------

struct charge {
    int64_t at_us, requests, input, output;
};

struct naive {
    struct charge charges[3 * CALLS];
    size_t n;
};

static int64_t counted(enum limit_kind kind, const struct charge *c) {
    return kind == LIMIT_OF_REQUESTS ? c->requests
           : kind == LIMIT_OF_INPUT  ? c->input
           : kind == LIMIT_OF_OUTPUT ? c->output
                                     : c->input + c->output;
}

static int64_t naive_used(const struct naive *naive, int limit, int64_t now_us) {
    int64_t sum = 0;
    for (size_t i = 0; i < naive->n; i++) {
        const struct charge *c = &naive->charges[i];
        bool inside = quota_rows[limit].window == LIMIT_A_DAY ? c->at_us / DAY == now_us / DAY
                                                              : now_us - c->at_us < MINUTE;
        sum += inside ? counted(quota_rows[limit].kind, c) : 0;
    }
    return sum;
}

static bool naive_refuses(const struct naive *naive, const struct quota_config *config, int limit,
                          const struct charge *ask, int64_t now_us) {
    int64_t n = counted(quota_rows[limit].kind, ask);
    return naive_used(naive, limit, now_us) + (n > 0 ? n : 1) > config->most[limit];
}

// ask_at_random runs calls against both; each ends, late or early charged, before the next but few.
static void ask_at_random(const struct quota_config *config) {
    struct naive *naive = calloc(1, sizeof(*naive));
    struct quota quota;
    int64_t now_us = START_US, n_admitted = 0, n_refused = 0;
    quota_init(&quota, config);
    struct quota_pool *pool = quota_pool(&quota, 1, SLICE_LIT("m"), now_us);
    for (int i = 0; i < CALLS; i++) {
        struct quota_ask ask = {.input_tokens = draw(2000), .most_output = draw(3) * 500};
        struct charge charge = {.at_us = now_us,
                                .requests = 1,
                                .input = ask.input_tokens,
                                .output = config->charge_max ? ask.most_output : 0};
        bool refused = false;
        for (int k = 0; k < LIMIT_CONCURRENCY; k++) {
            refused |= naive_refuses(naive, config, k, &charge, now_us);
        }
        int64_t early = 0;
        struct quota_refusal why = {0};
        assert_int_equal(quota_admit(&quota, pool, &ask, now_us, &early, &why), !refused);
        if (refused) {
            n_refused++;
            assert_true(naive_refuses(naive, config, (int)why.limit, &charge, now_us));
            if (config->count_refused) {
                naive->charges[naive->n++] = (struct charge){.at_us = now_us, .requests = 1};
            }
        } else {
            n_admitted++;
            assert_int_equal(early, charge.output);
            naive->charges[naive->n++] = charge;
            int64_t output = draw(600), late = early > 0 ? 0 : output;
            now_us += draw(SECOND / 2);
            assert_int_equal(quota_end(&quota, pool, early, output, now_us), late);
            naive->charges[naive->n++] = (struct charge){.at_us = now_us, .output = late};
        }
        for (int k = 0; k < LIMIT_CONCURRENCY; k++) {
            int64_t left = config->most[k] - naive_used(naive, k, now_us);
            assert_int_equal(quota_left(&quota, pool, (enum limit)k, now_us), left > 0 ? left : 0);
        }
        now_us += draw(i % 200 < 100 ? SECOND / 2 : 8 * SECOND); // too fast, then too slow
    }
    assert_true(n_admitted > 100 && n_refused > 100);
    assert_int_equal(pool->n_admitted, n_admitted);
    assert_int_equal(pool->n_refused, n_refused);
    quota_free(&quota);
    free(naive);
}

static void test_random_requests_are_as_in_the_naive_model(void **unused) {
    for (int i = 0; i < 4; i++) {
        struct quota_config config = {
            .mode = METER_SLIDING,
            .day_us = DAY,
            .most = {[LIMIT_RPM] = 40, [LIMIT_TPM] = 45000, [LIMIT_ITPM] = 35000, [LIMIT_OTPM] = 15000,
                     [LIMIT_RPD] = 300, [LIMIT_TPD] = 330000},
            .charge_max = (i & 1) != 0,
            .count_refused = (i & 2) != 0,
        };
        state = (uint64_t)i + 77;
        ask_at_random(&config);
    }
}

// --- cases ---------------------------------------------------------------------------------------

static bool admit(struct quota *quota, uint64_t key, const char *model, int64_t now_us) {
    struct quota_ask ask = {.input_tokens = 10};
    struct quota_refusal why;
    int64_t early;
    return quota_admit(quota, quota_pool(quota, key, slice_of(model), now_us), &ask, now_us, &early, &why);
}

static void test_pools_are_apart_as_configured(void **unused) {
    static const struct {
        bool by_key, by_model;
        int admitted; // of two keys with two models, one request each
    } cases[] = {{false, false, 1}, {true, false, 2}, {false, true, 2}, {true, true, 4}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct quota quota;
        struct quota_config config = {.most = {[LIMIT_RPM] = 1},
                                      .by_key = cases[i].by_key,
                                      .by_model = cases[i].by_model,
                                      .day_us = DAY};
        quota_init(&quota, &config);
        int n = admit(&quota, 1, "a", START_US) + admit(&quota, 1, "b", START_US) +
                admit(&quota, 2, "a", START_US) + admit(&quota, 2, "b", START_US);
        assert_int_equal(n, cases[i].admitted);
        quota_free(&quota);
    }
}

static void test_the_longest_wait_is_told(void **unused) {
    struct quota quota;
    struct quota_config config = {
        .mode = METER_BUCKET, .most = {[LIMIT_RPM] = 60, [LIMIT_TPM] = 6000, [LIMIT_RPD] = 1}, .day_us = DAY};
    struct quota_ask ask = {.input_tokens = 6000}, over = {.input_tokens = 6001};
    struct quota_refusal why = {0};
    int64_t early;
    quota_init(&quota, &config);
    struct quota_pool *pool = quota_pool(&quota, 1, SLICE_LIT("m"), START_US);
    assert_true(quota_admit(&quota, pool, &ask, START_US, &early, &why));
    assert_false(quota_admit(&quota, pool, &ask, START_US, &early, &why));
    assert_int_equal(why.limit, LIMIT_RPD); // longer than the minute for tokens
    assert_int_equal(why.wait_us, DAY - START_US % DAY);
    quota_set(&quota, LIMIT_RPD, 0, START_US);
    assert_false(quota_admit(&quota, pool, &ask, START_US, &early, &why));
    assert_int_equal(why.limit, LIMIT_TPM);
    assert_int_equal(why.wait_us, MINUTE);
    assert_int_equal(why.used, 6000);
    assert_false(quota_admit(&quota, pool, &over, START_US, &early, &why));
    assert_int_equal(why.wait_us, -1);
    quota_free(&quota);
}

static void test_a_refused_request_never_draws_a_bucket_below_zero(void **unused) {
    struct quota quota;
    struct quota_config config = {.mode = METER_BUCKET,
                                  .most = {[LIMIT_RPM] = 60, [LIMIT_TPM] = 15},
                                  .count_refused = true,
                                  .day_us = DAY};
    quota_init(&quota, &config);
    int n = 0;
    for (int i = 0; i < 200; i++) {
        n += admit(&quota, 1, "m", START_US);
    }
    assert_int_equal(n, 1); // the tokens refuse the others, which count as requests
    struct quota_pool *pool = quota_pool(&quota, 1, SLICE_LIT("m"), START_US);
    assert_int_equal(quota_left(&quota, pool, LIMIT_RPM, START_US), 0);
    assert_int_equal(quota_left(&quota, pool, LIMIT_RPM, START_US + SECOND), 1);
    quota_free(&quota);
}

static void test_requests_at_once_are_counted_until_they_end(void **unused) {
    struct quota quota;
    struct quota_config config = {.most = {[LIMIT_CONCURRENCY] = 2}, .day_us = DAY};
    quota_init(&quota, &config);
    struct quota_pool *pool = quota_pool(&quota, 1, SLICE_LIT("m"), START_US);
    assert_true(admit(&quota, 1, "m", START_US) && admit(&quota, 1, "m", START_US));
    assert_false(admit(&quota, 1, "m", START_US + MINUTE));
    quota_end(&quota, pool, 0, 5, START_US + MINUTE);
    assert_true(admit(&quota, 1, "m", START_US + MINUTE));
    quota_free(&quota);
}

static void test_a_stranger_spends_evenly_and_no_more_than_there_is(void **unused) {
    for (int mode = 0; mode < METER_MODES; mode++) {
        struct quota quota;
        struct quota_config config = {.mode = (enum meter_mode)mode,
                                      .most = {[LIMIT_RPM] = 6000, [LIMIT_TPM] = 600000},
                                      .stranger = 0.3,
                                      .day_us = DAY};
        int64_t spent[LIMIT_COUNT];
        quota_init(&quota, &config);
        struct quota_pool *pool = quota_pool(&quota, 1, SLICE_LIT("m"), START_US);
        quota_left(&quota, pool, LIMIT_RPM, START_US + MINUTE / 2); // looked at twice, or once: the same
        quota_left(&quota, pool, LIMIT_RPM, START_US + 10 * MINUTE);
        quota_take_stranger(pool, spent);
        assert_in_range(spent[LIMIT_RPM], 17999, 18000);
        assert_in_range(spent[LIMIT_TPM], 1799999, 1800000);
        quota_take_stranger(pool, spent);
        assert_int_equal(spent[LIMIT_RPM], 0);
        quota_set_stranger(&quota, 1, START_US + 10 * MINUTE);
        for (int64_t s = 0; s < 120; s++) { // with us beside it: together never more than the limit
            while (admit(&quota, 1, "m", START_US + 10 * MINUTE + s * SECOND)) {
            }
        }
        assert_true(quota_left(&quota, pool, LIMIT_RPM, START_US + 12 * MINUTE) >= 0);
        quota_free(&quota);
    }
}

static void test_a_stranger_is_caught_up_with_after_a_long_silence(void **unused) {
    struct quota quota;
    struct quota_config config = {.mode = METER_BUCKET,
                                  .most = {[LIMIT_RPM] = 600, [LIMIT_RPD] = 1000000},
                                  .stranger = 0.5,
                                  .day_us = INT64_C(86400) * SECOND};
    quota_init(&quota, &config);
    int64_t midnight = START_US - START_US % config.day_us + config.day_us;
    struct quota_pool *pool = quota_pool(&quota, 1, SLICE_LIT("m"), midnight);
    int64_t left = quota_left(&quota, pool, LIMIT_RPD, midnight + config.day_us / 2);
    assert_in_range(left, 749999, 750001); // half of the half
    quota_free(&quota);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_requests_are_as_in_the_naive_model),
        cmocka_unit_test(test_pools_are_apart_as_configured),
        cmocka_unit_test(test_the_longest_wait_is_told),
        cmocka_unit_test(test_a_refused_request_never_draws_a_bucket_below_zero),
        cmocka_unit_test(test_requests_at_once_are_counted_until_they_end),
        cmocka_unit_test(test_a_stranger_spends_evenly_and_no_more_than_there_is),
        cmocka_unit_test(test_a_stranger_is_caught_up_with_after_a_long_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
