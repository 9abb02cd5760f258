// What answers say of a pool's limits: how high they are, what others leave of them, refusals. Called by permits.c
// and by tests.
#include "coordinator/limiter.h"

#include <math.h>

#define AGREE 3                // samples that have to say the same before a limit is raised
#define KNEE 0.1               // a provider with less than this part of the limit left slows us down
#define SHARE_NEWS 0.1         // a share that differs so much is told,
#define SHARE_GAP_US 1000000   // but not so soon again
#define SHARE_LEAST 0.02       // of the limit goes on whatever others use
#define PACE_MOST_US 1e14      // of one call: never

static int64_t stretched(int64_t from_us, int64_t at_us, double by) {
    return at_us > from_us ? from_us + (int64_t)fmin((double)(at_us - from_us) * by, PACE_MOST_US) : at_us;
}

// slow_down stretches the runs that are there to a limit that was lowered; those of others do the same.
static void slow_down(struct limiter *l, double by, int64_t now_us) {
    for (size_t i = 0; i < l->n_runs; i++) {
        struct run *run = &l->runs[i];
        run->duration_us = stretched(0, run->duration_us, by);
        run->next_us = stretched(now_us, run->next_us, by);
        run->end_us = stretched(now_us, run->end_us, by);
    }
}

static void heard_limit(struct limiter *l, int kind, int64_t limit, int64_t now_us) {
    int64_t before = limiter_limit(l, kind);
    if (limit == l->said[kind]) {
        l->n_higher[kind] = 0;
        return;
    }
    if (limit > l->said[kind] && l->said[kind] > 0) {
        l->n_higher[kind] = limit == l->higher[kind] ? l->n_higher[kind] + 1 : 1;
        l->higher[kind] = limit;
        if (l->n_higher[kind] < AGREE) {
            return;
        }
    }
    l->n_higher[kind] = 0;
    l->most[kind] = 0;
    l->said[kind] = limit;
    int64_t after = limiter_limit(l, kind);
    if (before == 0 && after > 0) { // the calls of before count as well
        l->owed[kind] += fmax(0, l->before[kind]);
        l->before[kind] = 0;
    }
    if (before != after) {
        l->is_news = true;
        if (before > after && after > 0) {
            slow_down(l, (double)before / (double)after, now_us);
        }
    }
}

// share_of_bucket slows down in proportion where a bucket that refills evenly is nearly empty: somebody else
// uses the same account, and both together come to rest at the limit.
static double share_of_bucket(struct limiter *l, int kind, const struct limit_seen *seen) {
    // What a bucket holds when it is full may be much less than a minute's worth.
    l->most[kind] = seen->remaining > l->most[kind] ? seen->remaining : l->most[kind];
    double knee = fmin(KNEE * (double)seen->limit, 0.5 * (double)l->most[kind]);
    return (double)seen->remaining / fmax(1, knee);
}

static void heard_remaining(struct limiter *l, int kind, const struct limit_seen *seen, int64_t now_us) {
    if (kind == LIMIT_REQUESTS_DAY || kind == LIMIT_TOKENS_DAY) {
        return;
    }
    double share;
    if (l->config.profile->refill == LIMIT_REFILL_BUCKET) {
        share = share_of_bucket(l, kind, seen);
    } else {
        double leave = others_leave(&l->others[kind], seen, now_us);
        if (leave < 0) {
            return;
        }
        share = leave / (double)limiter_limit(l, kind);
    }
    share = fmin(1, fmax(SHARE_LEAST, share));
    bool is_told = now_us - l->asked_us < SHARE_GAP_US || fabs(share - l->share_told[kind]) < SHARE_NEWS;
    l->is_news = l->is_news || !is_told;
    l->share[kind] = share;
    l->is_share_heard[kind] = true;
}

void limiter_heard(struct limiter *l, const struct limits_seen *seen, int64_t now_us) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        const struct limit_seen *one = &seen->of[kind];
        if (one->limit > 0) {
            heard_limit(l, kind, one->limit, now_us);
            if (one->remaining >= 0) {
                heard_remaining(l, kind, one, now_us);
            }
        }
    }
}

void limiter_refused(struct limiter *l, int64_t sent_us, int64_t block_until_us, int64_t now_us) {
    if (block_until_us > l->block_until_us) {
        l->block_until_us = block_until_us;
        l->is_news = true;
    }
    if (sent_us > l->cut_us) { // else it went out before the last refusal was known
        l->cut = true;
        l->cut_us = now_us;
        l->is_news = true;
    }
    // Nothing of the runs goes out any more.
    limiter_drop_runs(l);
}
