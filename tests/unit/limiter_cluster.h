// limiter_cluster: limiters of several coordinators over the model of the shared buckets, and a provider, in
// simulated time. Included by limiter_test.c and others_test.c.
#ifndef HEADRACE_TESTS_LIMITER_CLUSTER_H
#define HEADRACE_TESTS_LIMITER_CLUSTER_H

#include "coordinator/limiter.h"
#include "tests/provider/meter.h"
#include "tests/sim/permit_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NODES_MAX 4
#define SENT_MAX 200000
#define SECOND INT64_C(1000000)
#define MINUTE (60 * SECOND)

static const struct amount ONE = {.calls = 1};

struct node {
    struct limiter l;
    char name[16];
    bool on;
    double demand;       // calls a second that become ready
    int64_t n_ready, n_inflight, ready_at;
    int64_t reply_at;    // 0: none under way
    bool reply_lost;
    struct permit_reply reply;
    int64_t ends[4096];  // of calls that run
    size_t n_ends;
    int64_t n_sent;
};

// A provider that enforces the limit of requests; limit 0: it is not asked.
struct provider {
    struct meter meter;
    double part, carry;  // of the limit that a stranger spends
    int64_t stranger_at, n_stranger, n_refused;
};

struct cluster {
    struct permit_model *redis;
    struct node nodes[NODES_MAX];
    int n_nodes;
    int64_t now, off_us, away_until;
    int64_t limit, calls_limit;
    int64_t latency_us; // of a call, beside 200 ms: up to this
    struct amount reserved, used; // of a call
    int lose_permille;
    int64_t *sent;
    size_t n_sent, n_requests;
    int64_t most_at_once;
    uint64_t random;
    struct provider provider;
};

static inline struct limiter_config config_of(const char *profile, int64_t rpm) {
    return (struct limiter_config){.profile = limit_profile_find(slice_of(profile)),
                                   .limit = {[LIMIT_REQUESTS] = rpm},
                                   .calls_ms = 60000};
}

static inline uint64_t below(struct cluster *c, uint64_t n) {
    c->random = c->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (c->random >> 33) % n;
}

static inline void cluster_start(struct cluster *c, const char *profile, int64_t rpm, int64_t calls, int n_nodes) {
    *c = (struct cluster){.redis = calloc(1, sizeof(*c->redis)), .sent = calloc(SENT_MAX, sizeof(int64_t)),
                          .n_nodes = n_nodes, .limit = rpm, .calls_limit = calls, .now = SECOND,
                          .latency_us = 1500000, .reserved = ONE, .used = ONE,
                          .off_us = INT64_C(1700000000000000), .random = (uint64_t)(rpm + calls * 7 + n_nodes)};
    for (int i = 0; i < n_nodes; i++) {
        struct limiter_config config = config_of(profile, rpm);
        config.calls_limit = calls;
        limiter_init(&c->nodes[i].l, &config);
        snprintf(c->nodes[i].name, sizeof(c->nodes[i].name), "n%d", i);
        c->nodes[i].on = true;
        c->nodes[i].demand = 1e6;
        c->nodes[i].ready_at = c->now;
    }
}

static inline void cluster_end(struct cluster *c) {
    meter_free(&c->provider.meter);
    free(c->redis);
    free(c->sent);
}

static inline void carry_out(struct cluster *c, struct node *n, const struct permit_request *r) {
    char text[PERMIT_REPLY_MAX];
    int64_t rtt = (int64_t)below(c, 20000) + 500;
    bool is_away = c->now < c->away_until, lost = below(c, 1000) < (uint64_t)c->lose_permille;
    n->reply_at = c->now + rtt;
    n->reply_lost = is_away || lost;
    c->n_requests++;
    if (is_away || (lost && below(c, 2) == 0)) {
        return; // it never came there
    }
    assert_int_equal(permit_model_sync(c->redis, c->now + c->off_us + rtt / 2, n->name, r, text), 0);
    assert_true(permit_reply_parse(slice_of(text), &n->reply));
}

// stranger_spends: a small call every 100 ms; what does not fit is refused.
static inline void stranger_spends(struct cluster *c) {
    struct provider *p = &c->provider;
    for (; p->stranger_at + 100000 <= c->now; p->stranger_at += 100000) {
        p->carry += p->part * (double)p->meter.most / 600;
        int64_t n = (int64_t)p->carry, left = meter_left(&p->meter, p->stranger_at + 100000);
        p->carry -= (double)n;
        n = n < left ? n : left;
        if (n > 0) {
            meter_add(&p->meter, n, p->stranger_at + 100000);
            p->n_stranger += n;
        }
    }
}

static inline void ask_provider(struct cluster *c, struct node *n) {
    struct meter *m = &c->provider.meter;
    if (m->most > 0) {
        stranger_spends(c);
        bool fits = meter_fits(m, 1, c->now);
        meter_add(m, fits, c->now);
        if (!fits) {
            c->provider.n_refused++;
            limiter_refused(&n->l, c->now, c->now + meter_wait_us(m, 1, c->now), c->now);
        }
    }
}

static inline void hear_provider(struct cluster *c, struct node *n) {
    struct meter *m = &c->provider.meter;
    if (m->most > 0) {
        stranger_spends(c);
        struct limits_seen seen;
        limits_seen_clear(&seen);
        int64_t left = meter_left(m, c->now);
        seen.of[LIMIT_REQUESTS] = (struct limit_seen){
            .limit = m->most, .remaining = left > 0 ? left : 0, .reset_ms = meter_full_us(m, c->now) / 1000};
        limiter_heard(&n->l, &seen, c->now);
    }
}

static inline void send_calls(struct cluster *c, struct node *n) {
    while (n->n_ready > 0 && limiter_may_send(&n->l, n->n_inflight, c->now)) {
        limiter_spend(&n->l, &c->reserved, c->now);
        ask_provider(c, n);
        n->n_ready--;
        n->n_inflight++;
        n->n_sent++;
        assert_true(n->n_ends < 4096 && c->n_sent < SENT_MAX);
        n->ends[n->n_ends++] = c->now + 200000 + (int64_t)below(c, (uint64_t)c->latency_us);
        c->sent[c->n_sent++] = c->now;
    }
}

static inline void turn(struct cluster *c, struct node *n) {
    if (n->reply_at > 0 && n->reply_at <= c->now) {
        n->reply_at = 0;
        limiter_reply(&n->l, n->reply_lost ? NULL : &n->reply, c->now);
    }
    for (size_t i = 0; i < n->n_ends;) {
        if (n->ends[i] <= c->now) {
            n->ends[i] = n->ends[--n->n_ends];
            n->n_inflight--;
            limiter_settle(&n->l, &c->reserved, &c->used, c->now, c->now);
            hear_provider(c, n);
        } else {
            i++;
        }
    }
    double since = (double)(c->now - n->ready_at) / 1e6 * n->demand;
    if (since >= 1) {
        n->n_ready += (int64_t)since;
        n->n_ready = n->n_ready < 1000 ? n->n_ready : 1000;
        n->ready_at = c->now;
    }
    send_calls(c, n);
    const struct permit_request *r = limiter_request(&n->l, n->n_ready, n->n_inflight, &c->reserved, c->now);
    if (r != NULL) {
        carry_out(c, n, r);
    }
}

// next_of says when a node has something to do. A limiter that asks for a time that is past would turn for ever.
static inline int64_t next_of(struct cluster *c, struct node *n) {
    int64_t next = limiter_next_us(&n->l, c->now);
    if (next <= c->now) {
        fail_msg("at %.3f s %s wants to turn at %.6f s", (double)c->now / 1e6, n->name, (double)next / 1e6);
    }
    if (n->reply_at > 0 && n->reply_at < next) {
        next = n->reply_at;
    }
    for (size_t i = 0; i < n->n_ends; i++) {
        next = n->ends[i] < next ? n->ends[i] : next;
    }
    int64_t ready = n->ready_at + (int64_t)(1e6 / n->demand) + 1;
    return n->n_ready == 0 && ready < next ? ready : next;
}

static inline void cluster_run(struct cluster *c, int64_t for_us) {
    int64_t end = c->now + for_us;
    while (c->now < end) {
        int64_t next = end, at_once = 0;
        for (int i = 0; i < c->n_nodes; i++) {
            if (c->nodes[i].on) {
                turn(c, &c->nodes[i]);
                int64_t at = next_of(c, &c->nodes[i]);
                next = at < next ? at : next;
            }
            at_once += c->nodes[i].n_inflight;
        }
        c->most_at_once = at_once > c->most_at_once ? at_once : c->most_at_once;
        // A timer comes up to 2 ms late.
        c->now = next + 1 + (int64_t)below(c, 2000);
    }
}

static inline void kill_node(struct node *n) {
    n->on = false;
    n->n_inflight = 0;
}

// most_in is the most calls that went out in any so long.
static inline int64_t most_in(const struct cluster *c, int64_t span_us) {
    size_t from = 0, most = 0;
    for (size_t i = 0; i < c->n_sent; i++) {
        while (c->sent[i] - c->sent[from] >= span_us) {
            from++;
        }
        most = i - from + 1 > most ? i - from + 1 : most;
    }
    return (int64_t)most;
}

static inline int64_t sent_between(const struct cluster *c, int64_t from, int64_t to) {
    int64_t n = 0;
    for (size_t i = 0; i < c->n_sent; i++) {
        n += c->sent[i] >= from && c->sent[i] < to;
    }
    return n;
}

#endif
