// report: how near each minute of a ledger came to its limits.
#ifndef HEADRACE_TESTS_PROVIDER_REPORT_H
#define HEADRACE_TESTS_PROVIDER_REPORT_H

#include "common/error.h"
#include "tests/provider/quota.h"

#include <stdbool.h>
#include <stdio.h>

struct report_config {
    const int64_t *most; // limits a minute, LIMIT_COUNT of them; 0: not known, so no percentages
    bool by_key, by_model; // what had a pool of its own
    int64_t skip_us;     // cut from both ends for the mean
    bool json;           // one JSON line a pool, else a table
};

// report_write reads a ledger and writes, for each pool: requests admitted, refused for a limit, and
// refused with 429 for something else; and for requests, tokens, input and output tokens:
//   peak       the most that was charged in any 60 seconds (t <= now < t + 60 s), % of the limit
//   mean       what was charged a minute between the first and the last request, skip_us off either
//              end, % of the limit; nothing when less than a second is left between
//   stranger   the same for what a stranger spent beside it
// Requests and tokens count when they were charged. Returns 0, -EINVAL (a line that is no line of a
// ledger) or another negative errno, with why.
MUST_CHECK int report_write(FILE *ledger, const struct report_config *config, FILE *out,
                            struct error *why);

#endif
