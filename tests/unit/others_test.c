// Somebody else spends from the same account: whole clusters against providers that enforce a limit in four ways.
#include "tests/unit/limiter_cluster.h"

struct shared {
    const char *says;
    enum meter_mode mode;
    int64_t rpm, burst_us;
    double part;         // that a stranger spends
    double least, trips; // of the limit, used by both together; of requests to Redis for 1,000 calls
    double most_refused; // of the calls
};

static const struct shared shareds[] = {
    {"a window, alone", METER_FIXED, 600, 1, 0, 0.985, 75, 0},
    {"a log, alone", METER_SLIDING, 600, 1, 0, 0.985, 75, 0},
    {"by the second, alone", METER_PER_SECOND, 600, 2000000, 0, 0.985, 75, 0},
    {"a window, fast, alone", METER_FIXED, 6000, 1, 0, 0.985, 75, 0},
    {"a log, fast, alone", METER_SLIDING, 6000, 1, 0, 0.985, 75, 0},
    {"by the second, fast, alone", METER_PER_SECOND, 6000, 2000000, 0, 0.985, 75, 0},
    {"a window", METER_FIXED, 600, 1, 0.3, 0.95, 100, 0},
    {"a log", METER_SLIDING, 600, 1, 0.3, 0.95, 100, 0},
    {"a bucket", METER_BUCKET, 600, 60000000, 0.3, 0.95, 100, 0},
    {"by the second", METER_PER_SECOND, 600, 2000000, 0.3, 0.95, 500, 0.003}, // its bucket holds 20 calls
    {"a window, fast", METER_FIXED, 6000, 1, 0.3, 0.95, 75, 0},
    {"a log, fast", METER_SLIDING, 6000, 1, 0.3, 0.95, 75, 0},
    {"by the second, fast", METER_PER_SECOND, 6000, 2000000, 0.3, 0.95, 75, 0.0005},
    {"a bucket, fast", METER_BUCKET, 6000, 60000000, 0.3, 0.95, 75, 0},
};

static void begin(struct cluster *c, const struct shared *s, int phase) {
    cluster_start(c, s->mode == METER_BUCKET ? "openai" : "window", s->rpm, 0, 2);
    c->now += phase * SECOND; // within the provider's minute
    c->latency_us = 300000;
    meter_init(&c->provider.meter, s->mode, s->rpm, MINUTE, s->burst_us, c->now);
    c->provider.stranger_at = c->now;
    c->provider.part = s->part;
}

// used_in: by both together, of the limit.
static double used_in(struct cluster *c, int64_t for_us) {
    int64_t from = c->now, before = c->provider.n_stranger;
    cluster_run(c, for_us);
    double both = (double)(sent_between(c, from, c->now) + c->provider.n_stranger - before);
    return both * (double)MINUTE / (double)for_us / (double)c->provider.meter.most;
}

static void test_both_together_use_the_limit_and_nobody_is_refused(void **state) {
    for (size_t i = 0; i < 2 * sizeof(shareds) / sizeof(shareds[0]); i++) {
        const struct shared *s = &shareds[i / 2];
        struct cluster c;
        begin(&c, s, i % 2 == 0 ? 0 : 51);
        cluster_run(&c, 45 * SECOND);
        double used = used_in(&c, 4 * MINUTE), trips = (double)c.n_requests * 1000 / (double)c.n_sent;
        double refused = (double)c.provider.n_refused / (double)c.n_sent;
        if (used < s->least || refused > s->most_refused || trips > s->trips) {
            fail_msg("%s: %.2f %% used, %d refused of %d, %.0f requests for 1,000 calls", s->says, used * 100,
                     (int)c.provider.n_refused, (int)c.n_sent, trips);
        }
        cluster_end(&c);
    }
}

static void test_one_that_comes_late_and_goes_again_is_given_way_to(void **state) {
    for (size_t i = 0; i < sizeof(shareds) / sizeof(shareds[0]); i++) {
        const struct shared *s = &shareds[i];
        if (s->part == 0 || s->mode == METER_BUCKET || s->mode == METER_PER_SECOND) {
            continue;
        }
        struct cluster c;
        begin(&c, s, 20);
        c.provider.part = 0;
        cluster_run(&c, 2 * MINUTE);
        c.provider.part = s->part;
        cluster_run(&c, 2 * MINUTE);
        int64_t refused = c.provider.n_refused; // within the first minute there are some
        double both = used_in(&c, MINUTE);
        refused = c.provider.n_refused - refused;
        c.provider.part = 0;
        cluster_run(&c, 2 * MINUTE);
        double alone = used_in(&c, MINUTE);
        if (refused > 0 || both < 0.94 || alone < 0.985) {
            fail_msg("%s: %d refused, %.2f %% used by both, %.2f %% alone again", s->says, (int)refused, both * 100,
                     alone * 100);
        }
        cluster_end(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_together_use_the_limit_and_nobody_is_refused),
        cmocka_unit_test(test_one_that_comes_late_and_goes_again_is_given_way_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
