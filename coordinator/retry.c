// What becomes of records that a call did not answer: one function a kind of outcome, chosen by the
// action column of outcome.def. Invariant: every path uses a try, counts a lost worker, makes the calls
// smaller, re-asks for fewer records than before, or waits for the provider, so no record is asked for
// ever.
// Called by leftover.c, and by the simulator's checker.
#include "coordinator/retry.h"

#include <assert.h>

// backoff_ms draws a delay with full jitter: even over 0..base * 2^tries, capped.
static int64_t backoff_ms(int tries, double draw) {
    int64_t most = RETRY_BASE_MS;
    for (int i = 1; i < tries && most < RETRY_CAP_MS; i++) {
        most *= 2;
    }
    most = most < RETRY_CAP_MS ? most : RETRY_CAP_MS;
    return (int64_t)((double)most * draw);
}

static struct retry_decision halve(const struct retry_case *c) {
    return (struct retry_decision){.action = RETRY_HALVES, .tries = c->tries, .reasked = true};
}

static struct retry_decision give_up(const struct retry_case *c) {
    return (struct retry_decision){.action = RETRY_GIVE_UP, .tries = c->tries};
}

// again uses a try for the same records, or gives up when there is none left. The same useless answer
// twice is a pattern; a different one each time is noise, and costs a record alone no further try.
static struct retry_decision again(const struct model_options *o, const struct retry_case *c) {
    int uses = c->new_kind ? 0 : 1;
    if (c->tries + uses > o->max_retries) {
        return give_up(c);
    }
    return (struct retry_decision){.action = RETRY_SAME, .tries = c->tries + uses, .reasked = true};
}

// Some records of an answer are missing or bad: asked again whole once, then halved, then alone. Those whose
// values did not fit are asked once more with the reason, and never a second time (leftover.c): that costs no try.
static struct retry_decision reask(const struct model_options *o, const struct retry_case *c) {
    if (c->corrects) {
        return (struct retry_decision){.action = RETRY_SAME, .tries = c->tries, .reasked = true};
    }
    if (c->n_left < c->n_asked && !c->reasked) {
        return (struct retry_decision){.action = RETRY_SAME, .tries = c->tries, .reasked = true};
    }
    return c->n_left > 1 ? halve(c) : again(o, c);
}

// Nothing of an answer is usable.
static struct retry_decision fall_back(const struct model_options *o, const struct retry_case *c) {
    switch ((enum model_fallback)o->fallback_strategy) {
    case FALLBACK_FAIL:
        return give_up(c);
    case FALLBACK_RETRY:
        return again(o, c);
    case FALLBACK_SINGLE:
        if (c->n_left > 1) {
            return (struct retry_decision){.action = RETRY_SINGLES, .tries = c->tries};
        }
        return again(o, c);
    case FALLBACK_SPLIT:
        break;
    }
    return c->n_left > 1 ? halve(c) : again(o, c);
}

// Too much for one call. A single record that was cut off may fit by chance the next time; one that is
// refused as too large never will.
static struct retry_decision split(const struct model_options *o, const struct retry_case *c) {
    bool too_large = c->outcome == OUTCOME_TOO_LARGE;
    if (too_large && o->context_overflow == OVERFLOW_ERROR) {
        return give_up(c);
    }
    if (c->n_left > 1) {
        return halve(c);
    }
    // The worker cuts the next prompt, now that it knows how long one may be.
    bool may_cut = o->context_overflow == OVERFLOW_TAIL || o->context_overflow == OVERFLOW_HEAD;
    return !too_large || may_cut ? again(o, c) : give_up(c);
}

static struct retry_decision isolate(const struct retry_case *c) {
    return c->n_left > 1 ? halve(c) : give_up(c);
}

// The provider or the way to it failed. What the provider asks for is the least delay. Records that
// fail together to the end are tried in halves once more each: one of them may be to blame.
static struct retry_decision retry(const struct model_options *o, const struct retry_case *c) {
    bool may_repeat = !c->ambiguous || c->n_ambiguous < o->ambiguous_retries;
    int uses = c->out_ms > 0 ? 0 : outcome_of(c->outcome)->tries; // to wait is not to fail
    if (may_repeat && c->tries + uses <= o->max_retries) {
        int64_t delay = c->out_ms > 0 ? c->out_ms : backoff_ms(c->tries + 1, c->draw);
        return (struct retry_decision){
            .action = RETRY_SAME,
            .delay_ms = delay > c->retry_after_ms ? delay : c->retry_after_ms,
            .tries = c->tries + uses,
            .reasked = c->reasked,
        };
    }
    bool one_may_be_guilty = c->outcome == OUTCOME_TRANSIENT || c->outcome == OUTCOME_TIMED_OUT ||
                             c->outcome == OUTCOME_BROKEN;
    if (c->n_left == 1 || !one_may_be_guilty) {
        return give_up(c);
    }
    struct retry_decision d = halve(c);
    d.delay_ms = backoff_ms(c->tries + 1, c->draw);
    return d;
}

// A worker was lost with the call in flight. That may be chance, or a record that crashes whoever reads
// its answer: at the second loss the call is halved, and so on down to the record that is to blame.
static struct retry_decision lost(const struct model_options *o, const struct retry_case *c) {
    int n_lost = c->n_lost + 1;
    if (o->ambiguous_retries == 0 || (c->n_left == 1 && n_lost >= RETRY_LOST_MOST)) {
        return give_up(c);
    }
    if (c->n_left > 1 && n_lost >= RETRY_LOST_SUSPECT) {
        return halve(c);
    }
    return (struct retry_decision){
        .action = RETRY_SAME, .delay_ms = backoff_ms(n_lost, c->draw), .tries = c->tries,
        .reasked = c->reasked};
}

struct retry_decision retry_decide(const struct model_options *options, const struct retry_case *c) {
    assert(c->n_left >= 1 && c->n_left <= c->n_asked);
    switch (outcome_of(c->outcome)->action) {
    case ACTION_KEEP: // the call went well, and yet some records have no item
    case ACTION_REASK:
        return reask(options, c);
    case ACTION_FALLBACK:
        return fall_back(options, c);
    case ACTION_SPLIT:
        return split(options, c);
    case ACTION_ISOLATE:
        return isolate(c);
    case ACTION_LOST:
        return lost(options, c);
    case ACTION_RETRY:
        return retry(options, c);
    case ACTION_WAIT:
        return (struct retry_decision){
            .action = RETRY_POOL, .tries = c->tries, .reasked = c->reasked};
    case ACTION_AGAIN:
        return (struct retry_decision){
            .action = RETRY_SAME, .tries = c->tries, .reasked = c->reasked};
    case ACTION_STOP:
        return (struct retry_decision){
            .action = RETRY_STOP, .tries = c->tries, .reasked = c->reasked};
    case ACTION_FAIL:
        break;
    }
    return give_up(c);
}
