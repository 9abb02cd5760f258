// pools_status: what the pools' limits are at the moment, as STATUS tells people (about "limits").
#ifndef HEADRACE_COORDINATOR_POOLS_STATUS_H
#define HEADRACE_COORDINATOR_POOLS_STATUS_H

#include "common/bytes.h"

#include <stdint.h>

struct core;

// pools_gauges sets the gauges of status.def that are sums over pools.
void pools_gauges(struct core *core);

// pools_json appends {"pools": [{
//   "pool", "profile", "models": [names that have records here],
//   "why": a sentence that says why nothing goes, or "",
//   "stopped": outcome or null, "blocked_ms": the provider asked to wait,
//   "ready": calls that could go, or batches, "inflight", "at_once": most by what the provider bears and the limit,
//   "calls_limit": limit.concurrency or 0, "calls_granted": this coordinator's part of it,
//   "permits": calls granted and not sent, "granted": in all, "sent_last_minute", "requests": to Redis,
//   "scale": of the rates, after refusals, "away": the limits' Redis is,
//   "kinds": [{"kind", "limit", "said": by the provider or null, "level": of the shared bucket,
//              "refill": a minute at present}]}, ...]}
// The numbers of the buckets are of this coordinator's newest request. Returns 0 or -EMSGSIZE.
MUST_CHECK int pools_json(const struct core *core, int64_t now_us, struct buf *out);

#endif
