// status: what a worker counts; made from status.def.
#ifndef HEADRACE_WORKER_STATUS_H
#define HEADRACE_WORKER_STATUS_H

#include "common/metrics.h"
#include "proto/outcome.h"

struct status {
#define METRIC METRIC_FIELD
#include "worker/status.def"
#undef METRIC
};

extern const struct metric_spec status_rows[];
extern const size_t n_status_rows;

// status_call counts one more reported call.
void status_call(struct status *status, enum outcome outcome);

#endif
