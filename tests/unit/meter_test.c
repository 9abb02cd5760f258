// The simulator's meters against a naive model that remembers every use, and a table of cases.
#include "tests/provider/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SECOND   INT64_C(1000000)
#define MINUTE   (60 * SECOND)
#define START_US INT64_C(1764000000123457)
#define USES_MAX 600

// --- the naive model: all uses there ever were ----------------------------------------------------

struct naive {
    enum meter_mode mode;
    int64_t most, burst_us;
    int64_t at_us[USES_MAX], n[USES_MAX];
    size_t n_uses;
};

// came is what a bucket was given from one time to another, times the window.
static __int128 came(const struct naive *m, int64_t from_us, int64_t to_us) {
    int64_t us = m->mode == METER_BUCKET ? to_us - from_us : (to_us / SECOND - from_us / SECOND) * SECOND;
    return (__int128)m->most * us;
}

static __int128 naive_full(const struct naive *m) {
    __int128 full = (__int128)m->most * m->burst_us;
    return full > MINUTE ? full : MINUTE;
}

// naive_level: a bucket that was full at some use, or is full now, has what came since less what was
// used since; the least of all these is true. No recurrence is shared with the meter.
static __int128 naive_level(const struct naive *m, int64_t now_us) {
    __int128 least = naive_full(m), since = 0;
    for (size_t i = m->n_uses; i-- > 0;) {
        since += (__int128)m->n[i] * MINUTE;
        __int128 level = naive_full(m) + came(m, m->at_us[i], now_us) - since;
        least = level < least ? level : least;
    }
    return least;
}

static int64_t naive_used(const struct naive *m, int64_t now_us) {
    int64_t sum = 0;
    for (size_t i = 0; i < m->n_uses; i++) {
        bool counts = m->mode == METER_FIXED ? m->at_us[i] / MINUTE == now_us / MINUTE
                                             : now_us - m->at_us[i] < MINUTE;
        sum += counts ? m->n[i] : 0;
    }
    return sum;
}

static bool naive_has_level(const struct naive *m) {
    return m->mode == METER_BUCKET || m->mode == METER_PER_SECOND;
}

static bool naive_fits(const struct naive *m, int64_t n, int64_t now_us) {
    if (n > m->most) {
        return false;
    }
    if (!naive_has_level(m)) {
        return naive_used(m, now_us) + n <= m->most;
    }
    __int128 wanted = (__int128)n * MINUTE;
    return naive_level(m, now_us) >= (wanted < naive_full(m) ? wanted : naive_full(m));
}

static bool naive_is_full(const struct naive *m, int64_t now_us) {
    return naive_has_level(m) ? naive_level(m, now_us) == naive_full(m) : naive_used(m, now_us) == 0;
}

static int64_t naive_left(const struct naive *m, int64_t now_us) {
    return naive_has_level(m) ? (int64_t)(naive_level(m, now_us) / MINUTE) : m->most - naive_used(m, now_us);
}

// --- random use ----------------------------------------------------------------------------------

static uint64_t state;

static int64_t draw(int64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (int64_t)(state % (uint64_t)below);
}

static int64_t draw_step(void) {
    static const int64_t most[] = {1, 1000, 200000, 3 * SECOND, 20 * SECOND, 90 * SECOND};
    return draw(10) == 0 ? 0 : draw(most[draw(6)] + 1);
}

static int64_t draw_units(int64_t most) {
    switch (draw(8)) {
    case 0:
        return 0;
    case 1:
        return most + draw(3) - 1;
    case 2:
        return draw(most + 1);
    default:
        return 1 + draw(most / 20 + 1);
    }
}

static void compare(struct meter *m, const struct naive *naive, int64_t n, int64_t now_us) {
    assert_int_equal(meter_left(m, now_us), naive_left(naive, now_us));
    assert_int_equal(meter_fits(m, n, now_us), naive_fits(naive, n, now_us));
    int64_t wait_us = meter_wait_us(m, n, now_us), full_us = meter_full_us(m, now_us);
    if (n > naive->most) {
        assert_int_equal(wait_us, -1);
    } else {
        assert_true(naive_fits(naive, n, now_us + wait_us));
        assert_true(wait_us == 0 || !naive_fits(naive, n, now_us + wait_us - 1));
    }
    assert_true(naive_is_full(naive, now_us + full_us));
    assert_true(full_us == 0 || !naive_is_full(naive, now_us + full_us - 1));
}

static void use_at_random(enum meter_mode mode, int64_t most, int64_t burst_us) {
    struct naive naive = {.mode = mode, .most = most, .burst_us = burst_us};
    struct meter m;
    int64_t now_us = START_US;
    meter_init(&m, mode, most, MINUTE, burst_us, now_us);
    while (naive.n_uses < USES_MAX) {
        int64_t n = draw_units(most);
        compare(&m, &naive, n, now_us);
        if (meter_fits(&m, n, now_us) || (n <= most && draw(10) == 0)) { // some go over: charged afterwards
            meter_add(&m, n, now_us);
            naive.at_us[naive.n_uses] = now_us;
            naive.n[naive.n_uses++] = n;
        }
        now_us += draw_step();
    }
    meter_free(&m);
}

static void test_random_use_is_as_in_the_naive_model(void **unused) {
    static const int64_t limits[] = {1, 7, 600, 30000, METER_MOST};
    static const int64_t bursts[] = {1, 500000, 2 * SECOND, MINUTE};
    for (int mode = 0; mode < METER_MODES; mode++) {
        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
            for (size_t b = 0; b < sizeof(bursts) / sizeof(bursts[0]); b++) {
                state = (uint64_t)mode * 1000 + i * 10 + b + 1;
                use_at_random((enum meter_mode)mode, limits[i], bursts[b]);
            }
        }
    }
}

// --- cases ---------------------------------------------------------------------------------------

// What fits at once at a time after the start that is the beginning of a minute, one unit each.
struct flood {
    const char *says;
    enum meter_mode mode;
    int64_t burst_us, at_us[4];
    int64_t fits[4]; // -1: no more times
};

static const struct flood floods[] = {
    {"a bucket of a minute gives all at once, then as it comes", METER_BUCKET, MINUTE,
     {0, SECOND, 2 * SECOND, 2 * MINUTE}, {600, 10, 10, 600}},
    {"a small bucket gives little at once", METER_BUCKET, SECOND / 2,
     {0, SECOND / 10, 10 * SECOND, MINUTE}, {5, 1, 5, 5}},
    {"a fixed window gives all again when the next begins", METER_FIXED, MINUTE,
     {0, MINUTE - 1, MINUTE, 2 * MINUTE + 5}, {600, 0, 600, 600}},
    {"a log gives again what is a minute old", METER_SLIDING, MINUTE,
     {0, MINUTE - 1, MINUTE, 2 * MINUTE - 1}, {600, 0, 600, 0}},
    {"seconds give two of theirs at first, then one each", METER_PER_SECOND, 2 * SECOND,
     {0, SECOND - 1, SECOND, 10 * SECOND}, {20, 0, 10, 20}},
};

static void test_a_flood_gets_what_the_mode_gives(void **unused) {
    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        const struct flood *f = &floods[i];
        int64_t start = START_US - START_US % MINUTE;
        struct meter m;
        meter_init(&m, f->mode, 600, MINUTE, f->burst_us, start);
        for (size_t k = 0; k < 4; k++) {
            int64_t n = 0;
            for (; meter_fits(&m, 1, start + f->at_us[k]); n++) {
                meter_add(&m, 1, start + f->at_us[k]);
            }
            if (n != f->fits[k]) {
                fail_msg("%s: time %zu: got %lld, want %lld", f->says, k, (long long)n,
                         (long long)f->fits[k]);
            }
        }
        meter_free(&m);
    }
}

static void test_a_changed_limit_keeps_what_was_used(void **unused) {
    for (int mode = 0; mode < METER_MODES; mode++) {
        struct meter m;
        int64_t start = START_US - START_US % MINUTE;
        meter_init(&m, (enum meter_mode)mode, 600, MINUTE, MINUTE, start);
        meter_add(&m, 500, start);
        meter_set(&m, 300, start);
        bool has_level = mode == METER_BUCKET || mode == METER_PER_SECOND;
        assert_int_equal(meter_left(&m, start), has_level ? 100 : -200);
        meter_set(&m, 0, start);
        assert_true(meter_fits(&m, INT64_C(1) << 40, start));
        assert_true(meter_left(&m, start) == INT64_MAX);
        meter_set(&m, 50, start + 2 * MINUTE);
        assert_int_equal(meter_left(&m, start + 2 * MINUTE), 50);
        meter_free(&m);
    }
}

static void test_a_time_before_the_last_counts_as_the_last(void **unused) {
    for (int mode = 0; mode < METER_MODES; mode++) {
        struct meter m;
        meter_init(&m, (enum meter_mode)mode, 60, MINUTE, 2 * SECOND, START_US);
        meter_add(&m, 2, START_US + MINUTE);
        int64_t left = meter_left(&m, START_US + MINUTE);
        assert_int_equal(meter_left(&m, START_US), left);
        meter_free(&m);
    }
}

static void test_modes_have_names(void **unused) {
    assert_int_equal(meter_mode_find(SLICE_LIT("bucket")), METER_BUCKET);
    assert_int_equal(meter_mode_find(SLICE_LIT("fixed-window")), METER_FIXED);
    assert_int_equal(meter_mode_find(SLICE_LIT("sliding-log")), METER_SLIDING);
    assert_int_equal(meter_mode_find(SLICE_LIT("per-second")), METER_PER_SECOND);
    assert_int_equal(meter_mode_find(SLICE_LIT("buckets")), METER_MODES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_use_is_as_in_the_naive_model),
        cmocka_unit_test(test_a_flood_gets_what_the_mode_gives),
        cmocka_unit_test(test_a_changed_limit_keeps_what_was_used),
        cmocka_unit_test(test_a_time_before_the_last_counts_as_the_last),
        cmocka_unit_test(test_modes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
