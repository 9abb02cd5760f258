// The worker's counters as a table. Called by the steps and by the metrics server.
#include "worker/status.h"

#include <assert.h>
#include <stddef.h>

const struct metric_spec status_rows[] = {
#define METRIC(...) METRIC_ROW(status, __VA_ARGS__)
#include "worker/status.def"
#undef METRIC
};
const size_t n_status_rows = sizeof(status_rows) / sizeof(status_rows[0]);

// Where each outcome is counted.
static const size_t call_offsets[OUTCOME_COUNT] = {
#define OUTCOME(name, text, action, tries, sentence) \
    [OUTCOME_##name] = offsetof(struct status, calls_##name),
#include "proto/outcome.def"
#undef OUTCOME
};

void status_call(struct status *status, enum outcome outcome) {
    assert((unsigned)outcome < OUTCOME_COUNT);
    uint64_t *counter = (uint64_t *)(void *)((char *)status + call_offsets[outcome]);
    ++*counter;
}
