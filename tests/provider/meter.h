// meter: one limit of a provider, so many units in a window of time, enforced in one of four ways.
//
// Pure: time comes from the caller, in microseconds since 1970 that never go back (a time before the
// last one counts as the last one). Whole numbers throughout, so that nothing drifts.
#ifndef HEADRACE_TESTS_PROVIDER_METER_H
#define HEADRACE_TESTS_PROVIDER_METER_H

#include "common/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How a limit of L units in a window of W is enforced:
//   BUCKET      a token bucket: starts full, refilled evenly at L / W, holds burst_us * L / W and at
//               least 1 unit. It may go below 0: see meter_fits.
//   FIXED       at most L in each window; windows begin at multiples of W since 1970
//   SLIDING     a log: at most L in any time of W
//   PER_SECOND  each second of the clock begins with L / W * 1 s more in hand; what is not spent stays
//               in hand, up to the same bound as a bucket's. Starts full.
enum meter_mode { METER_BUCKET, METER_FIXED, METER_SLIDING, METER_PER_SECOND, METER_MODES };

// meter_mode_find reads bucket, fixed-window, sliding-log or per-second; METER_MODES for anything else.
enum meter_mode meter_mode_find(struct slice name);

struct meter_entry {
    int64_t at_us;
    int64_t sum; // of all units ever added, this entry's included
};

struct meter {
    enum meter_mode mode;
    int64_t most;                   // units in a window; 0: not limited
    int64_t window_us, burst_us;
    int64_t at_us;                  // how far time has come
    int64_t level;                  // BUCKET, PER_SECOND: units in hand, times window_us
    int64_t used;                   // FIXED: units in the window of at_us
    struct meter_entry *log;        // SLIDING: a ring of log_size, a power of two
    size_t log_size, log_first, log_n;
    int64_t log_gone;               // the sum when the entry before the first was added
};

#define METER_MOST          INT64_C(10000000000)
#define METER_BURST_MOST_US INT64_C(60000000)
// meter_init makes a full one. most 0..METER_MOST; window_us > 0, at most a minute for modes with a
// bucket; burst_us 1..METER_BURST_MOST_US.
void meter_init(struct meter *meter, enum meter_mode mode, int64_t most, int64_t window_us,
                int64_t burst_us, int64_t now_us);
void meter_free(struct meter *meter);
// meter_set changes the limit. What was used stays used; a bucket keeps its level, cut to its new size;
// one that was not limited becomes full.
void meter_set(struct meter *meter, int64_t most, int64_t now_us);

// meter_fits says whether n units may be used now. In BUCKET and PER_SECOND n may be more than it can
// hold, up to the limit: then it must be full, and goes below 0. n is 0 or more.
bool meter_fits(struct meter *meter, int64_t n, int64_t now_us);
// meter_add uses n units, whether they fit or not.
void meter_add(struct meter *meter, int64_t n, int64_t now_us);
// meter_left is how many units are left, 0 or less when there are none. INT64_MAX when not limited.
int64_t meter_left(struct meter *meter, int64_t now_us);
// meter_wait_us is the time until n units fit if nothing else is used; -1: they never will (n > most).
int64_t meter_wait_us(struct meter *meter, int64_t n, int64_t now_us);
// meter_full_us is the time until all is there again if nothing is used.
int64_t meter_full_us(struct meter *meter, int64_t now_us);

#endif
