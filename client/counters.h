// counters: what a coordinator says of itself in STATUS, as numbers.
#ifndef HEADRACE_CLIENT_COUNTERS_H
#define HEADRACE_CLIENT_COUNTERS_H

#include "common/bytes.h"
#include "common/error.h"

struct counters {
    uint64_t records_in, results, errors;
    uint64_t calls, calls_ok, calls_failed, retries;
    uint64_t calls_ambiguous; // sent and never answered: may have been billed
    uint64_t ambiguous_timeout, ambiguous_broken, ambiguous_lost, ambiguous_crash; // of these, by cause
    uint64_t resolved_lost, resolved_crash; // of these: answered after all
    uint64_t calls_unpriced;  // their price or usage is not known
    uint64_t input_tokens, output_tokens;
    uint64_t inflight_calls, queued_records, workers;
    uint64_t jobs_at_provider, records_at_provider; // of queued_records
    uint64_t outages, pools_out; // times that the provider was out; pools whose provider is now
    double outage_seconds; // of those that are over
    double cost;        // USD, of the other calls
    char waiting[512];  // why nothing moves; "" when it does
    char budget[512];   // why no call is made though there is work: a budget; "" when none is used up
    char stopped[512];  // why a pool was stopped; "" when none is
};

// counters_read reads the JSON of a STATUS; a member that is missing is 0 or empty. Returns 0, or
// -EINVAL with why when it is not a JSON object.
MUST_CHECK int counters_read(struct slice json, struct counters *counters, struct error *why);
// counters_add adds what `more` used; gauges and texts stay as they are. Ambiguous calls go on counting over
// the restarts of a coordinator: of these the larger number is taken.
void counters_add(struct counters *counters, const struct counters *more);

#endif
