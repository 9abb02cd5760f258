// permit: what a coordinator tells the shared limits of a pool, and what it is granted; the parameters
// and the reply of permit_sync.lua. Amounts are calls or tokens, by kind.
#ifndef HEADRACE_COORDINATOR_PERMIT_H
#define HEADRACE_COORDINATOR_PERMIT_H

#include "common/bytes.h"
#include "proto/limits_seen.h"

#include <stdbool.h>
#include <stdint.h>

// One kind of limit of a pool.
struct permit_kind {
    int64_t limit;    // of a minute or a day, as configured; 0: none
    int64_t said;     // what the provider said is the limit; 0: nothing new
    double share;     // of the refill that may be used; < 0: nothing new
    double back;      // reserved and not used
    double owed;      // used and not reserved
    double largest;   // of one call
    double want;      // of n_want calls together
};

struct permit_request {
    uint64_t number;  // grows by one a request; a number that is repeated gets the same reply
    int64_t n_want;
    int64_t span_us;  // longest run
    int64_t ahead_us; // how long from now it may begin at the latest
    int64_t calls_limit, calls_want, calls_held; // at once; limit 0: none
    int64_t calls_ms; // how long they may last
    int64_t elapsed_us; // by this coordinator's clock, since its last request; -1: there was none
    int64_t block_us; // the pool waits; 0: nothing new
    bool cut;         // a call was refused for its rate
    bool is_bucket;   // the provider's buckets refill evenly
    int day_offset_min; // see struct limit_profile
    struct permit_kind of[N_LIMIT_KINDS];
};

struct permit_reply {
    int64_t n;        // calls granted
    int64_t delay_us, duration_us; // the run begins so long from now (< 0: before now), and lasts so long
    int64_t calls;    // at once
    int64_t blocked_us; // the pool waits so long from now; 0: it does not
    double scale;     // of the rate, after refusals
    struct {
        int64_t limit; // 0: none
        double level, granted;
        double spent; // by all coordinators ever, what is granted included
    } of[N_LIMIT_KINDS];
};

// permit_args appends the arguments of permit_sync.lua after the coordinator's name, as texts that stand in
// *text; returns how many. args has room for PERMIT_ARGS_MAX.
#define PERMIT_ARGS_MAX (12 + 9 * N_LIMIT_KINDS)
size_t permit_args(const struct permit_request *request, struct buf *text, struct slice *args);
// permit_reply_parse reads the script's reply; false: it is not one.
MUST_CHECK bool permit_reply_parse(struct slice text, struct permit_reply *reply);

#endif
