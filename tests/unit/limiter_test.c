// Runs of permits: small cases of one limiter, and whole clusters of them over the model of the shared buckets,
// in simulated time, judged by what the provider would have seen in any 60 seconds.
#include "tests/unit/limiter_cluster.h"

#include <math.h>

static struct limiter limiter_with(const char *profile, int64_t rpm) {
    struct limiter l;
    struct limiter_config config = config_of(profile, rpm);
    limiter_init(&l, &config);
    return l;
}

// grant answers the pending request with a run of n calls.
static void grant(struct limiter *l, int64_t n, int64_t delay_us, int64_t duration_us, int64_t now_us) {
    struct permit_reply reply = {.n = n, .delay_us = delay_us, .duration_us = duration_us, .scale = 1};
    reply.of[LIMIT_REQUESTS].limit = l->config.limit[LIMIT_REQUESTS];
    reply.of[LIMIT_REQUESTS].granted = (double)n;
    limiter_reply(l, &reply, now_us);
}

static struct limits_seen headers(int64_t limit, int64_t remaining) {
    struct limits_seen seen;
    limits_seen_clear(&seen);
    seen.of[LIMIT_REQUESTS] = (struct limit_seen){.limit = limit, .remaining = remaining, .reset_ms = LIMIT_ABSENT};
    return seen;
}

// ---- One limiter ------------------------------------------------------------------------------------------

static void test_without_limits_calls_go_at_once_and_nothing_is_asked(void **state) {
    struct limiter l = limiter_with("bucket", 0);
    assert_true(limiter_may_send(&l, 5, SECOND));
    assert_null(limiter_request(&l, 10, 0, &ONE, SECOND));
    assert_true(limiter_next_us(&l, SECOND) == INT64_MAX);
}

static void test_a_run_is_sent_evenly(void **state) {
    struct limiter l = limiter_with("bucket", 600);
    int64_t now = SECOND;
    assert_false(limiter_may_send(&l, 0, now));
    const struct permit_request *r = limiter_request(&l, 10, 0, &ONE, now);
    assert_non_null(r);
    assert_int_equal(r->number, 1);
    assert_int_equal(r->n_want, 10);
    assert_int_equal(r->elapsed_us, -1);
    assert_true(limiter_next_us(&l, now) == INT64_MAX); // the reply comes
    grant(&l, 5, 100000, 500000, now);
    for (int i = 0; i < 5; i++) {
        int64_t at = now + 100000 + i * 100000;
        assert_false(limiter_may_send(&l, 0, at - 1));
        assert_true(limiter_may_send(&l, 0, at));
        limiter_spend(&l, &ONE, at);
    }
    assert_false(limiter_may_send(&l, 0, now + 600000)); // the run is spent
    assert_int_equal(limiter_left(&l), 0);
}

static void test_calls_that_come_late_do_not_burst(void **state) {
    struct limiter l = limiter_with("bucket", 600);
    assert_non_null(limiter_request(&l, 20, 0, &ONE, SECOND));
    grant(&l, 20, 0, 2 * SECOND, SECOND);
    int64_t now = SECOND + 1500000;
    int n = 0;
    while (limiter_may_send(&l, 0, now)) {
        limiter_spend(&l, &ONE, now);
        n++;
    }
    assert_int_equal(n, 1);
    assert_true(limiter_next_us(&l, now) > now + 50000);
}

static void test_what_is_left_of_a_run_goes_back(void **state) {
    struct limiter l = limiter_with("bucket", 600);
    assert_non_null(limiter_request(&l, 10, 0, &ONE, SECOND));
    grant(&l, 10, 0, SECOND, SECOND);
    limiter_spend(&l, &ONE, SECOND);
    assert_null(limiter_request(&l, 0, 0, &ONE, SECOND + 1)); // nothing is ready any more
    int64_t now = SECOND + 1, asked = 0;
    for (int i = 0; i < 20 && asked == 0; i++) {
        int64_t next = limiter_next_us(&l, now);
        assert_true(next > now && next != INT64_MAX);
        now = next;
        const struct permit_request *r = limiter_request(&l, 0, 0, &ONE, now);
        if (r != NULL) {
            assert_int_equal(r->n_want, 0);
            assert_true(fabs(r->of[LIMIT_REQUESTS].back - 9) < 1e-9);
            asked = now;
        }
    }
    assert_in_range(asked, 2 * SECOND, 5 * SECOND);
    grant(&l, 0, 0, 0, asked);
    assert_true(limiter_next_us(&l, asked) == INT64_MAX);
    assert_null(limiter_request(&l, 0, 0, &ONE, asked + MINUTE)); // once
}

static void test_usage_is_settled(void **state) {
    struct limiter_config config = config_of("bucket", 0);
    config.limit[LIMIT_TOKENS] = 60000;
    struct limiter l;
    limiter_init(&l, &config);
    struct amount thought = {.calls = 1, .input = 100, .output = 50}, used = {.calls = 1, .input = 80, .output = 20};
    limiter_settle(&l, &thought, &used, SECOND, SECOND);
    const struct permit_request *r = limiter_request(&l, 1, 0, &thought, SECOND);
    assert_non_null(r);
    assert_true(fabs(r->of[LIMIT_TOKENS].back - 50) < 1e-9);
    assert_true(fabs(r->of[LIMIT_TOKENS].want - 150) < 1e-9);
    assert_true(fabs(r->of[LIMIT_TOKENS].largest - 150) < 1e-9);
    assert_true(l.back[LIMIT_TOKENS] == 0);
}

static void test_a_header_lowers_a_limit_at_once_and_raises_it_after_three(void **state) {
    struct limiter l = limiter_with("window", 600);
    struct limits_seen low = headers(300, 100), high = headers(450, 100);
    limiter_heard(&l, &low, SECOND);
    assert_int_equal(l.said[LIMIT_REQUESTS], 300);
    const struct permit_request *r = limiter_request(&l, 1, 0, &ONE, SECOND);
    assert_int_equal(r->of[LIMIT_REQUESTS].said, 300);
    grant(&l, 1, 0, 100000, SECOND);
    limiter_heard(&l, &high, SECOND);
    limiter_heard(&l, &high, SECOND);
    limiter_heard(&l, &low, SECOND); // they do not agree
    limiter_heard(&l, &high, SECOND);
    limiter_heard(&l, &high, SECOND);
    assert_int_equal(l.said[LIMIT_REQUESTS], 300);
    limiter_heard(&l, &high, SECOND);
    assert_int_equal(l.said[LIMIT_REQUESTS], 450);
    r = limiter_request(&l, 1, 0, &ONE, 2 * SECOND);
    assert_int_equal(r->of[LIMIT_REQUESTS].said, 450);
}

static void test_calls_of_before_a_limit_was_known_count(void **state) {
    struct limiter l = limiter_with("window", 0);
    for (int i = 0; i < 64; i++) {
        assert_true(limiter_may_send(&l, i, SECOND));
        limiter_spend(&l, &ONE, SECOND);
    }
    struct limits_seen seen = headers(600, 599);
    limiter_heard(&l, &seen, SECOND);
    assert_false(limiter_may_send(&l, 64, 2 * SECOND));
    const struct permit_request *r = limiter_request(&l, 10, 64, &ONE, 2 * SECOND);
    assert_non_null(r);
    assert_true(fabs(r->of[LIMIT_REQUESTS].owed - 64) < 1e-9);
}

static void test_an_empty_bucket_at_the_provider_slows_down(void **state) {
    struct limiter l = limiter_with("bucket", 600);
    struct limits_seen full = headers(600, 600), seen = headers(600, 30);
    limiter_heard(&l, &full, SECOND);
    limiter_heard(&l, &seen, SECOND);
    const struct permit_request *r = limiter_request(&l, 1, 0, &ONE, SECOND);
    assert_true(fabs(r->of[LIMIT_REQUESTS].share - 0.5) < 1e-9);
    grant(&l, 1, 0, 100000, SECOND);
    seen = headers(600, 500);
    limiter_heard(&l, &seen, SECOND);
    r = limiter_request(&l, 1, 0, &ONE, 2 * SECOND);
    assert_true(fabs(r->of[LIMIT_REQUESTS].share - 1) < 1e-9);
    struct limiter window = limiter_with("window", 600);
    seen = headers(600, 0); // of a window, that says nothing of the rate
    limiter_heard(&window, &seen, SECOND);
    assert_true(window.share[LIMIT_REQUESTS] == 1);
}

static void test_refusals_that_come_together_cut_once(void **state) {
    struct limiter l = limiter_with("window", 600);
    assert_non_null(limiter_request(&l, 10, 0, &ONE, SECOND));
    grant(&l, 10, 0, SECOND, SECOND);
    limiter_refused(&l, SECOND, 4 * SECOND, 2 * SECOND);
    assert_int_equal(limiter_left(&l), 0); // nothing of the run goes out
    const struct permit_request *r = limiter_request(&l, 0, 0, &ONE, 2 * SECOND);
    assert_true(r->cut && r->block_us == 2 * SECOND);
    assert_true(fabs(r->of[LIMIT_REQUESTS].back - 10) < 1e-9);
    grant(&l, 0, 0, 0, 2 * SECOND);
    limiter_refused(&l, SECOND + 1, 5 * SECOND, 2 * SECOND + 200000); // it went out before the first was known
    r = limiter_request(&l, 0, 0, &ONE, 2 * SECOND + 200000);
    assert_true(!r->cut && r->block_us > 2 * SECOND);
    grant(&l, 0, 0, 0, 3 * SECOND);
    limiter_refused(&l, 5 * SECOND, 9 * SECOND, 6 * SECOND);
    assert_true(limiter_request(&l, 0, 0, &ONE, 6 * SECOND)->cut);
}

static void test_a_lost_reply_is_asked_for_again_with_the_same_number(void **state) {
    struct limiter l = limiter_with("window", 600);
    const struct permit_request *r = limiter_request(&l, 10, 0, &ONE, SECOND);
    grant(&l, 0, 0, 0, SECOND);
    r = limiter_request(&l, 10, 0, &ONE, 2 * SECOND);
    struct permit_request first = *r;
    assert_int_equal(first.elapsed_us, SECOND);
    limiter_reply(&l, NULL, 2 * SECOND);
    int64_t next = limiter_next_us(&l, 2 * SECOND);
    assert_in_range(next, 2 * SECOND + 1, 3 * SECOND);
    first.elapsed_us = next - SECOND;
    l.back[LIMIT_REQUESTS] = 5; // what came since waits for the next one
    r = limiter_request(&l, 50, 3, &ONE, next);
    assert_non_null(r);
    assert_memory_equal(r, &first, sizeof(first));
    assert_null(limiter_request(&l, 50, 3, &ONE, next + MINUTE)); // its reply comes, or NULL
    assert_true(limiter_next_us(&l, next + MINUTE) == INT64_MAX);
}

static void test_without_redis_eight_tenths_go_out_evenly_and_then_nothing(void **state) {
    struct limiter l = limiter_with("window", 600);
    int64_t now = MINUTE;
    for (int i = 0; i < 600; i++) { // a minute at 10 a second, and a lull of 30 seconds
        limiter_spend(&l, &ONE, now + i * 100000);
    }
    now += MINUTE + 30 * SECOND;
    assert_non_null(limiter_request(&l, 1000, 0, &ONE, now));
    limiter_reply(&l, NULL, now);
    int n = 0;
    int64_t last = 0, end = now + 10 * MINUTE;
    while (now < end) {
        if (limiter_may_send(&l, 0, now)) {
            assert_true(n == 0 || now - last >= 200000);
            limiter_spend(&l, &ONE, now);
            last = now;
            n++;
        }
        if (limiter_request(&l, 1000, 0, &ONE, now) != NULL) {
            limiter_reply(&l, NULL, now);
        }
        int64_t next = limiter_next_us(&l, now);
        assert_true(next > now);
        now = next;
    }
    assert_in_range(n, 2 * 240 - 10, 2 * 240 + 2); // 300 in the last minute: 240 a minute, for 2 minutes
}

static void test_calls_at_once_are_leased(void **state) {
    struct limiter_config config = {.profile = limit_profile_find(slice_of("window")), .calls_limit = 10,
                                    .calls_ms = 20000};
    struct limiter l;
    limiter_init(&l, &config);
    assert_false(limiter_may_send(&l, 0, SECOND));
    const struct permit_request *r = limiter_request(&l, 100, 0, &ONE, SECOND);
    assert_int_equal(r->calls_want, 10);
    assert_true(r->calls_ms > 20000);
    limiter_reply(&l, &(struct permit_reply){.calls = 4, .scale = 1}, SECOND);
    assert_true(limiter_may_send(&l, 3, SECOND));
    assert_false(limiter_may_send(&l, 4, SECOND));
    r = limiter_request(&l, 100, 4, &ONE, 2 * SECOND); // more, in turns
    assert_int_equal(r->calls_held, 4);
    limiter_reply(&l, &(struct permit_reply){.calls = 8, .scale = 1}, 2 * SECOND);
    r = limiter_request(&l, 1, 2, &ONE, 4 * SECOND); // less: it has more than it wants
    assert_int_equal(r->calls_want, 3);
    assert_true(limiter_may_send(&l, 1, 4 * SECOND));
    assert_false(limiter_may_send(&l, 2, 4 * SECOND)); // it may have given the rest back
    limiter_reply(&l, NULL, 4 * SECOND);
    assert_true(limiter_may_send(&l, 1, 20 * SECOND));
    assert_false(limiter_may_send(&l, 1, 2 * SECOND + 30 * SECOND)); // a new one would outlive the lease
}

// ---- Clusters ---------------------------------------------------------------------------------------------

struct steady {
    const char *says, *profile;
    int64_t rpm;
    int n_nodes, lose_permille;
    double least; // of the limit that is used
};

static const struct steady steadies[] = {
    {"one, window", "window", 600, 1, 0, 0.98},
    {"two, window", "window", 600, 2, 0, 0.98},
    {"four, window", "window", 6000, 4, 0, 0.98},
    {"two, bucket", "bucket", 600, 2, 0, 0.99},
    {"two, bucket, fast", "bucket", 6000, 2, 0, 0.99},
    {"one, slow", "window", 10, 1, 0, 0.8},
    {"three, slow", "window", 30, 3, 0, 0.85},
    {"one a minute", "window", 1, 2, 0, 0.4},
    {"two a minute", "window", 2, 2, 0, 0.4},
    {"replies are lost", "window", 600, 2, 100, 0.7},
};

static void test_a_cluster_keeps_to_the_limit_and_uses_it(void **state) {
    for (size_t i = 0; i < sizeof(steadies) / sizeof(steadies[0]); i++) {
        const struct steady *s = &steadies[i];
        struct cluster c;
        cluster_start(&c, s->profile, s->rpm, 0, s->n_nodes);
        c.lose_permille = s->lose_permille;
        cluster_run(&c, 11 * MINUTE);
        bool is_bucket = strcmp(s->profile, "bucket") == 0; // holds a full minute's worth at first
        int64_t most = most_in(&c, MINUTE), limit = is_bucket ? s->rpm + s->rpm / 200 + 2 : s->rpm;
        double used = (double)sent_between(&c, MINUTE, 11 * MINUTE) / 10 / (double)s->rpm;
        double trips = (double)c.n_requests / (11 * 60) / s->n_nodes;
        if (most > limit || used < s->least || trips > 10) {
            fail_msg("%s: %d in a minute, %.1f %% of the limit, %.1f round trips a second", s->says, (int)most,
                     used * 100, trips);
        }
        cluster_end(&c);
    }
}

struct thrift {
    const char *says, *profile;
    int64_t rpm;         // that binds, or about as many calls a minute as the tokens allow
    int n_nodes;
    bool binds_tokens;
    double least, trips; // of the limit that is used; of requests to Redis for 1,000 calls
};

static const struct thrift thrifts[] = {
    {"one, calls", "window", 600, 1, false, 0.985, 30},
    {"two, calls", "window", 600, 2, false, 0.985, 60},
    {"two, calls of a bucket", "bucket", 600, 2, false, 0.995, 60},
    {"two, fewer calls", "window", 300, 2, false, 0.985, 100},
    {"two, more calls", "window", 6000, 2, false, 0.985, 60},
    {"one, tokens", "window", 600, 1, true, 0.985, 60},
    {"two, tokens", "window", 600, 2, true, 0.985, 100},
    {"two, tokens of a bucket", "bucket", 600, 2, true, 0.99, 100},
    {"four, tokens", "window", 6000, 4, true, 0.985, 100},
};

static void test_few_requests_to_redis_are_enough(void **state) {
    for (size_t i = 0; i < sizeof(thrifts) / sizeof(thrifts[0]); i++) {
        const struct thrift *t = &thrifts[i];
        struct cluster c;
        cluster_start(&c, t->profile, t->binds_tokens ? 3 * t->rpm : t->rpm, 0, t->n_nodes);
        c.reserved = (struct amount){.calls = 1, .input = 40, .output = 20};
        c.used = (struct amount){.calls = 1, .input = 38, .output = 7};
        for (int k = 0; k < t->n_nodes; k++) {
            c.nodes[k].l.config.limit[LIMIT_TOKENS] = t->rpm * 45 * (t->binds_tokens ? 1 : 3);
        }
        cluster_run(&c, 6 * MINUTE);
        double used = (double)sent_between(&c, MINUTE, 6 * MINUTE) / 5 / (double)t->rpm;
        double trips = (double)c.n_requests * 1000 / (double)c.n_sent;
        bool is_bucket = strcmp(t->profile, "bucket") == 0; // holds a full minute's worth at first
        int64_t most = most_in(&c, MINUTE), limit = is_bucket ? t->rpm + t->rpm / 200 + 2 : t->rpm;
        if (most > limit || used < t->least || trips > t->trips) {
            fail_msg("%s: %d in a minute, %.2f %% of the limit, %.1f requests for 1,000 calls", t->says, (int)most,
                     used * 100, trips);
        }
        cluster_end(&c);
    }
}

static void test_the_share_of_one_that_is_idle_is_used_by_the_other(void **state) {
    struct cluster c;
    cluster_start(&c, "window", 600, 0, 2);
    c.nodes[1].demand = 1; // 60 a minute of 600
    cluster_run(&c, 5 * MINUTE);
    assert_true(most_in(&c, MINUTE) <= 600);
    assert_true(sent_between(&c, MINUTE, 5 * MINUTE) >= 4 * 585);
    assert_true(c.nodes[1].n_sent >= 5 * 55);
    cluster_end(&c);
}

static void test_two_that_want_all_have_half_each(void **state) {
    struct cluster c;
    cluster_start(&c, "window", 1200, 0, 2);
    cluster_run(&c, 5 * MINUTE);
    int64_t a = c.nodes[0].n_sent, b = c.nodes[1].n_sent;
    assert_true(a * 10 > (a + b) * 4 && b * 10 > (a + b) * 4);
    cluster_end(&c);
}

static void test_one_is_killed_and_the_other_has_all_of_it_soon(void **state) {
    struct cluster c;
    cluster_start(&c, "window", 600, 0, 2);
    cluster_run(&c, 2 * MINUTE);
    kill_node(&c.nodes[0]);
    int64_t at = c.now;
    cluster_run(&c, 2 * MINUTE);
    assert_true(most_in(&c, MINUTE) <= 600);
    assert_true(sent_between(&c, at + 10 * SECOND, at + 70 * SECOND) >= 585);
    cluster_end(&c);
}

static void test_redis_is_away_for_thirty_seconds(void **state) {
    struct cluster c;
    cluster_start(&c, "window", 600, 0, 2);
    cluster_run(&c, 2 * MINUTE);
    int64_t at = c.now;
    c.away_until = at + 30 * SECOND;
    cluster_run(&c, 4 * MINUTE);
    assert_true(most_in(&c, MINUTE) <= 600); // no burst on return
    assert_true(sent_between(&c, at + 3 * SECOND, at + 30 * SECOND) >= 27 * 6);
    assert_true(sent_between(&c, at + 2 * MINUTE, at + 4 * MINUTE) >= 2 * 580);
    cluster_end(&c);
}

static void test_nobody_looks_for_thirty_seconds_and_no_burst_follows(void **state) {
    for (int i = 0; i < 20; i++) { // at different places of the runs
        struct cluster c;
        cluster_start(&c, "bucket", 600, 0, 2);
        cluster_run(&c, MINUTE + i * 317000);
        for (int k = 0; k < 2; k++) {
            c.nodes[k].reply_lost = true; // of the one under way, if there is one
        }
        c.now += 30 * SECOND; // the records' Redis is away too
        int64_t at = c.now;
        size_t before = c.n_sent;
        cluster_run(&c, MINUTE);
        memmove(c.sent, c.sent + before, (c.n_sent - before) * sizeof(*c.sent));
        c.n_sent -= before;
        int64_t most = most_in(&c, 2 * SECOND), n = sent_between(&c, at, at + MINUTE);
        if (most > 22 || n < 585) {
            fail_msg("%d: %d within 2 s, %d in the minute after it", i, (int)most, (int)n);
        }
        cluster_end(&c);
    }
}

static void test_the_clock_of_redis_leaps(void **state) {
    static const int64_t leaps[] = {3600 * SECOND, -3600 * SECOND, 2 * SECOND, -2 * SECOND, 30 * SECOND,
                                    -SECOND / 2};
    for (size_t i = 0; i < sizeof(leaps) / sizeof(leaps[0]); i++) {
        struct cluster c;
        cluster_start(&c, "window", 600, 20, 2);
        cluster_run(&c, 2 * MINUTE);
        int64_t at = c.now;
        for (int k = 0; k < 3; k++) {
            c.off_us += leaps[i];
            cluster_run(&c, 7 * SECOND);
        }
        cluster_run(&c, MINUTE);
        int64_t most = most_in(&c, MINUTE), after = sent_between(&c, at, at + MINUTE);
        if (most > 604 || after < 500 || c.most_at_once > 20) {
            fail_msg("%.1f s: %d in a minute, %d in the minute after it, %d at once", (double)leaps[i] / 1e6,
                     (int)most, (int)after, (int)c.most_at_once);
        }
        cluster_end(&c);
    }
}

static void test_calls_at_once_of_all_together_are_no_more_than_the_limit(void **state) {
    for (int lose = 0; lose <= 200; lose += 100) {
        struct cluster c;
        cluster_start(&c, "window", 0, 12, 3);
        c.lose_permille = lose;
        c.nodes[2].demand = 2;
        cluster_run(&c, 3 * MINUTE);
        assert_true(c.most_at_once <= 12);
        assert_true(c.n_sent > 3 * 60 * 8); // calls take about a second
        assert_true(c.nodes[0].n_sent > c.nodes[1].n_sent / 2 && c.nodes[1].n_sent > c.nodes[0].n_sent / 2);
        assert_true(c.nodes[2].n_sent > 100);
        cluster_end(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_limits_calls_go_at_once_and_nothing_is_asked),
        cmocka_unit_test(test_a_run_is_sent_evenly),
        cmocka_unit_test(test_calls_that_come_late_do_not_burst),
        cmocka_unit_test(test_what_is_left_of_a_run_goes_back),
        cmocka_unit_test(test_usage_is_settled),
        cmocka_unit_test(test_a_header_lowers_a_limit_at_once_and_raises_it_after_three),
        cmocka_unit_test(test_calls_of_before_a_limit_was_known_count),
        cmocka_unit_test(test_an_empty_bucket_at_the_provider_slows_down),
        cmocka_unit_test(test_refusals_that_come_together_cut_once),
        cmocka_unit_test(test_a_lost_reply_is_asked_for_again_with_the_same_number),
        cmocka_unit_test(test_without_redis_eight_tenths_go_out_evenly_and_then_nothing),
        cmocka_unit_test(test_calls_at_once_are_leased),
        cmocka_unit_test(test_a_cluster_keeps_to_the_limit_and_uses_it),
        cmocka_unit_test(test_few_requests_to_redis_are_enough),
        cmocka_unit_test(test_the_share_of_one_that_is_idle_is_used_by_the_other),
        cmocka_unit_test(test_two_that_want_all_have_half_each),
        cmocka_unit_test(test_one_is_killed_and_the_other_has_all_of_it_soon),
        cmocka_unit_test(test_redis_is_away_for_thirty_seconds),
        cmocka_unit_test(test_nobody_looks_for_thirty_seconds_and_no_burst_follows),
        cmocka_unit_test(test_the_clock_of_redis_leaps),
        cmocka_unit_test(test_calls_at_once_of_all_together_are_no_more_than_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
