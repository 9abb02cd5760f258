// How much of a limit others spend. Called by limiter.
#include "coordinator/others.h"

#include <math.h>
#include <stdlib.h>

#define MINUTE_US 60000000.0
#define TOLD_GAP_US 2500000    // between two that are kept, or a little less
#define SAME_US 1500000        // times that differ less are the same; some providers tell whole seconds
#define TELLING_US 3000000     // samples so far apart tell how the provider counts
#define SLIDES_US 55000000     // a log forgets the newest call a minute later, and not sooner
#define ODD_MOST 20            // answers that come out of turn are no other way to count
#define SURE_US 10000000.0     // a window so old tells something,
#define SETTLED_US 30000000.0  // and one so old that others spend less than before
#define SLACK 0.01             // part of the limit that own use is not known any better than
#define DEAD 0.03              // part of the limit that others have to spend to be felt
#define STILL 0.015            // and to be felt still
#define MARGIN 0.02            // part that is left where others spend something
#define SUDDEN 0.1             // part that others begin to spend at once
#define BUDGET_LEAST_US 2000000.0
#define STEP_US 5000000.0
#define EVEN_US 1000000.0      // a level that rises by the second is evened out over one
#define KNEE 0.1               // with less than this part of the limit left a bucket slows us down
#define MIDDLE 0.6             // of what a small bucket holds, where it is held
#define FULL 0.9               // from here on it may be full
#define CAREFUL 0.5            // of the limit is left to others of a small bucket, until more is known
#define GATHER 0.06            // of the limit a second that others are thought to spend for a bucket that lacks all
#define NEARLY 0.95            // of the limit is all of it: own calls come unevenly, too
#define PULL 1.0               // of the limit by which such a bucket slows us down at once
#define SMALL 0.2              // of the limit: a bucket that holds no more is small,
#define SMALL_MS 5000          // and full again so soon

// ---- What all coordinators use --------------------------------------------------------------------------

static int newest_of(const struct others *o) {
    return (o->next_told + OTHERS_TOLD - 1) % OTHERS_TOLD;
}

void others_told(struct others *o, double used, double ahead, int64_t ahead_us, int64_t now_us) {
    int newest = newest_of(o), before = (newest + OTHERS_TOLD - 1) % OTHERS_TOLD;
    if (o->n_told > 0 && used < o->told[newest].used - ahead - 1) { // Redis has forgotten
        o->n_told = o->next_told = 0;
    }
    // One that the next comes close after is not needed.
    if (o->n_told > 1 && now_us - o->told[before].at_us < TOLD_GAP_US) {
        o->next_told = newest;
        o->n_told--;
    }
    o->told[o->next_told].at_us = now_us;
    o->told[o->next_told].used = used;
    o->next_told = (o->next_told + 1) % OTHERS_TOLD;
    o->n_told += o->n_told < OTHERS_TOLD;
    o->ahead = ahead;
    o->ahead_us = ahead_us;
}

// used_by says what was used by a time; between those that are known, evenly.
static double used_by(const struct others *o, double at_us) {
    int i = newest_of(o);
    double later_us = (double)o->told[i].at_us, later = o->told[i].used;
    if (o->n_told == 0 || at_us >= later_us) {
        double part = o->ahead_us > 0 ? fmin(1, (at_us - later_us) / (double)o->ahead_us) : 1;
        return o->n_told == 0 ? 0 : later + part * o->ahead;
    }
    for (int n = 1; n < o->n_told; n++) {
        i = (i + OTHERS_TOLD - 1) % OTHERS_TOLD;
        double at = (double)o->told[i].at_us, used = o->told[i].used;
        if (at <= at_us) {
            return used + (later - used) * (at_us - at) / fmax(1, later_us - at);
        }
        later_us = at;
        later = used;
    }
    return later;
}

// knows_since says whether all use since then is known: it is of a pool that nobody used before, too.
static bool knows_since(const struct others *o, double at_us, double limit) {
    int oldest = (o->next_told + OTHERS_TOLD - o->n_told) % OTHERS_TOLD;
    return o->n_told > 0 && ((double)o->told[oldest].at_us <= at_us || o->told[oldest].used <= SLACK * limit);
}

static double used_between(const struct others *o, double from_us, double to_us) {
    return used_by(o, to_us) - used_by(o, from_us);
}

// ---- How the provider counts ------------------------------------------------------------------------------

static void begin(struct others *o, const struct limit_seen *seen, int64_t resets_us, int64_t now_us) {
    o->from_us = now_us;
    o->from_resets_us = resets_us;
    o->from_left = seen->remaining;
    o->n_odd = 0;
}

static void forget_bases(struct others *o) {
    o->base.at_us = o->next_base.at_us = 0;
}

static bool is_next_window(int64_t moved_us) {
    int64_t windows = (moved_us + (int64_t)MINUTE_US / 2) / (int64_t)MINUTE_US;
    return windows > 0 && llabs(moved_us - windows * (int64_t)MINUTE_US) <= SAME_US;
}

// find_way compares a sample with an earlier one. Returns false for a sample that does not fit.
static bool find_way(struct others *o, const struct limit_seen *seen, int64_t now_us) {
    int64_t resets_us = now_us + seen->reset_ms * 1000, moved_us = resets_us - o->from_resets_us;
    bool is_same = llabs(moved_us) <= SAME_US, is_late = now_us - o->from_us >= TELLING_US;
    if (o->from_us == 0) {
        begin(o, seen, resets_us, now_us);
        bool is_small = seen->reset_ms <= SMALL_MS && (double)o->most_left <= SMALL * (double)seen->limit;
        o->way = is_small ? OTHERS_LEVEL : OTHERS_UNKNOWN;
        o->part = is_small ? CAREFUL : 0;
    } else if (is_same && is_late) {
        bool changed = seen->remaining != o->from_left;
        o->way = !changed ? o->way : seen->remaining < o->from_left ? OTHERS_FIXED : OTHERS_LEVEL;
        begin(o, seen, resets_us, now_us);
    } else if (is_same) {
        o->n_odd = 0;
    } else if (o->way == OTHERS_FIXED && is_next_window(moved_us)) {
        begin(o, seen, resets_us, now_us);
        forget_bases(o);
    } else if (o->way == OTHERS_FIXED && ++o->n_odd < ODD_MOST) {
        return false;
    } else if (is_late) {
        enum others_way way = seen->reset_ms * 1000 >= SLIDES_US ? OTHERS_SLIDING : OTHERS_LEVEL;
        if (way != o->way) {
            forget_bases(o);
        }
        o->way = way;
        begin(o, seen, resets_us, now_us);
    } else if (o->way == OTHERS_UNKNOWN && is_next_window(moved_us)) {
        begin(o, seen, resets_us, now_us);
    }
    return true;
}

// ---- What is left to us -----------------------------------------------------------------------------------

// sudden_part is what others have spent since an earlier sample of this window, of the limit; 0: not much.
static double sudden_part(struct others *o, double others, double limit, double slack, int64_t now_us) {
    if (o->next_base.at_us == 0 || (double)(now_us - o->next_base.at_us) >= SURE_US) {
        o->base = o->next_base;
        o->next_base.at_us = now_us;
        o->next_base.others = others;
    }
    if (o->base.at_us == 0) {
        return 0;
    }
    double more = (others - o->base.others) / limit;
    double part = (more - slack) * MINUTE_US / (double)(now_us - o->base.at_us);
    return more >= DEAD && part >= SUDDEN ? fmin(1, part) : 0;
}

// part_of: less than own use is known to is nothing.
static double part_of(const struct others *o, double others, double limit, double span_us) {
    double least = o->part > 0 ? STILL : DEAD;
    return others > least * limit ? fmin(1, others / limit * MINUTE_US / span_us) : 0;
}

static double leave_fixed(struct others *o, const struct limit_seen *seen, int64_t now_us) {
    double limit = (double)seen->limit, left = (double)seen->remaining;
    double rest_us = (double)seen->reset_ms * 1000, past_us = fmax(0, MINUTE_US - rest_us);
    double others = limit - left - used_between(o, (double)now_us - past_us, (double)now_us);
    double sudden = sudden_part(o, others, limit, SLACK, now_us);
    if (past_us >= SURE_US && knows_since(o, (double)now_us - past_us, limit)) {
        double part = part_of(o, others, limit, past_us);
        o->part = past_us >= SETTLED_US || part > o->part ? part : o->part;
    }
    o->part = fmin(1, fmax(o->part, sudden));
    if (o->part == 0) {
        return limit;
    }
    double leave = (1 - o->part - MARGIN) * limit;
    if (rest_us < BUDGET_LEAST_US) {
        return leave;
    }
    return fmin(leave, (left - SLACK * limit) * MINUTE_US / rest_us - o->part * limit);
}

static double leave_sliding(struct others *o, const struct limit_seen *seen, int64_t now_us) {
    double limit = (double)seen->limit, left = (double)seen->remaining, since_us = (double)now_us - MINUTE_US;
    if (!knows_since(o, since_us, limit)) {
        return -1;
    }
    double others = limit - left - used_between(o, since_us, (double)now_us);
    double part = part_of(o, others, limit, MINUTE_US), sudden = sudden_part(o, others, limit, 0, now_us);
    o->part = fmax(part, sudden);
    if (o->part == 0) {
        return limit;
    }
    double spent = o->part * limit, leave = limit - spent - MARGIN * limit;
    for (double us = STEP_US; us <= MINUTE_US; us += STEP_US) { // within that time so much leaves the log
        double own = used_between(o, since_us, since_us + us);
        double their = sudden > part ? 0 : others * us / MINUTE_US;
        leave = fmin(leave, (left - STILL * limit + own + their) * MINUTE_US / us - spent);
    }
    return leave;
}

// leave_level: a large bucket that is nearly empty slows us down in proportion, and all together come to rest at
// the limit. A small one, which would be empty too soon, is held at a middle level; what that takes is what others
// spend. A full one says that nobody else spends anything.
static double leave_level(struct others *o, const struct limit_seen *seen, double since_us) {
    double limit = (double)seen->limit, most = fmax(1, (double)o->most_left);
    o->is_small = most <= SMALL * limit;
    if (!o->is_small) {
        return limit * fmin(1, o->level / (KNEE * limit));
    }
    double lacks = MIDDLE - o->level / most;
    o->part += GATHER * lacks * fmin(1, since_us / EVEN_US);
    o->part = fmin(1, fmax(0, o->part));
    if ((double)seen->remaining >= FULL * most) {
        o->part *= exp(-fmin(1, since_us / EVEN_US));
    }
    double part = 1 - o->part - PULL * fmax(lacks, -o->part);
    return part < NEARLY ? limit * part : limit;
}

double others_leave(struct others *o, const struct limit_seen *seen, int64_t now_us) {
    bool tells = seen->remaining >= 0 && seen->remaining < seen->limit && seen->reset_ms >= 0; // all left: nothing
    o->most_left = seen->remaining > o->most_left ? seen->remaining : o->most_left;
    if (!tells || !find_way(o, seen, now_us)) {
        return -1;
    }
    double since_us = o->heard_us > 0 ? (double)(now_us - o->heard_us) : MINUTE_US;
    o->level += (1 - exp(-since_us / EVEN_US)) * ((double)seen->remaining - o->level);
    o->heard_us = now_us;
    double leave = o->way == OTHERS_FIXED     ? leave_fixed(o, seen, now_us)
                   : o->way == OTHERS_SLIDING ? leave_sliding(o, seen, now_us)
                   : o->way == OTHERS_LEVEL   ? leave_level(o, seen, since_us)
                                              : -1;
    return leave == -1 ? -1 : fmin((double)seen->limit, fmax(0, leave));
}
