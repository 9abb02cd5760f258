// status: what the coordinator counts; made from status.def.
#ifndef HEADRACE_COORDINATOR_STATUS_H
#define HEADRACE_COORDINATOR_STATUS_H

#include "common/metrics.h"

struct core;

struct status {
#define METRIC METRIC_FIELD
#include "coordinator/status.def"
#undef METRIC
};

extern const struct metric_spec status_rows[];
extern const size_t n_status_rows;

// status_json appends the counters as one JSON object for STATUS: each field of status.def by name,
// latencies as {"p50_ms","p99_ms","count"}, "waiting" (why nothing moves, or ""), "stopped" (outcome
// of a stopped pool, or null), "open" (whether records are taken). Returns 0 or -EMSGSIZE.
MUST_CHECK int status_json(struct core *core, const struct status *status, int64_t now_us, struct buf *out);

#endif
