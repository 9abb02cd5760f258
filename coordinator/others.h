// others: how much of a limit somebody else spends, judged by what the answers' headers say is left and by what
// all coordinators together have used; for providers that do not say how they enforce it. Pure.
//
// How "all of it is left again at that time" moves tells how the provider counts:
//   FIXED    it stands still, while less and less is left: a window that ends then
//   SLIDING  it stays a minute away: what was used leaves a log again, a minute later
//   LEVEL    it moves with what is left: a bucket, that refills evenly or by the second
// Called by limiter.
#ifndef HEADRACE_COORDINATOR_OTHERS_H
#define HEADRACE_COORDINATOR_OTHERS_H

#include "proto/limits_seen.h"

#define OTHERS_TOLD 48 // what is kept of own use: more than a minute of it

enum others_way { OTHERS_UNKNOWN, OTHERS_FIXED, OTHERS_SLIDING, OTHERS_LEVEL };

// One kind of limit. All zero: nothing was heard yet.
struct others {
    enum others_way way;
    int64_t from_us, from_resets_us, from_left; // the sample that later ones are compared with
    int n_odd;                  // FIXED: so many samples in a row did not fit
    int64_t heard_us;           // the newest sample that was judged
    int64_t most_left;          // LEVEL: ever seen
    bool is_small;              // LEVEL: it would be empty within seconds
    double level;               // LEVEL: left, evened out
    double part;                // of the limit that others spend, 0..1
    struct {
        int64_t at_us;          // 0: none yet
        double others;          // what others had used of the limit
    } base, next_base;          // earlier samples of the same window; the first is 10 to 20 s old
    struct {
        int64_t at_us;
        double used;            // by all coordinators, ever since the first
    } told[OTHERS_TOLD];        // a ring, the newest before next_told
    int n_told, next_told;
    double ahead;               // granted at the newest, and used within the next ahead_us
    int64_t ahead_us;
};

// others_told: all coordinators have used so much by now, and will use `ahead` more within ahead_us.
void others_told(struct others *o, double used, double ahead, int64_t ahead_us, int64_t now_us);

// others_leave says how much of the limit others leave to us, in a minute; judged by what an answer said of it.
// Returns 0..seen->limit, or -1: not known.
double others_leave(struct others *o, const struct limit_seen *seen, int64_t now_us);

#endif
