// What the coordinator counts, as Prometheus rows and as the JSON object of STATUS.
#include "coordinator/status.h"
#include "common/json.h"
#include "coordinator/budget.h"
#include "coordinator/core.h"

#include <inttypes.h>

const struct metric_spec status_rows[] = {
#define METRIC(...) METRIC_ROW(status, __VA_ARGS__)
#include "coordinator/status.def"
#undef METRIC
};
const size_t n_status_rows = sizeof(status_rows) / sizeof(status_rows[0]);

// The names of the fields, for STATUS.
static const char *const fields[] = {
#define METRIC(field, name, labels, type, text) #field,
#include "coordinator/status.def"
#undef METRIC
};

static int add_value(struct buf *out, const struct metric_spec *row, const char *at) {
    switch (row->type) {
    case METRIC_COUNTER:
        return buf_addf(out, "%" PRIu64, *(const uint64_t *)at);
    case METRIC_GAUGE:
        return buf_addf(out, "%" PRId64, *(const int64_t *)at);
    case METRIC_REAL:
        return json_add_double(out, *(const double *)at);
    case METRIC_HISTOGRAM:
        break;
    }
    const struct histogram *h = (const struct histogram *)at;
    return buf_addf(out, "{\"count\":%" PRIu64 ",\"p50_ms\":%.3f,\"p99_ms\":%.3f}", h->count,
                    (double)histogram_quantile(h, 0.5) / 1000, (double)histogram_quantile(h, 0.99) / 1000);
}

int status_json(struct core *core, const struct status *status, int64_t now_us, struct buf *out) {
    struct buf waiting;
    buf_init(&waiting, 4096);
    const char *stopped = NULL;
    core_gauges(core);
    core_waiting(core, now_us, &waiting, &stopped);
    int rc = buf_addf(out, "{\"open\":%s,\"waiting\":", core_is_open(core) ? "true" : "false");
    rc |= json_add_string(out, buf_slice(&waiting));
    rc |= buf_add_str(out, ",\"stopped\":");
    rc |= stopped != NULL ? json_add_string(out, slice_of(stopped)) : buf_add_str(out, "null");
    buf_clear(&waiting);
    bool is_used_up = budget_waiting(core, &waiting);
    rc |= buf_add_str(out, ",\"budget\":");
    rc |= is_used_up ? json_add_string(out, buf_slice(&waiting)) : buf_add_str(out, "null");
    for (size_t i = 0; i < n_status_rows; i++) {
        rc |= buf_addf(out, ",\"%s\":", fields[i]);
        rc |= add_value(out, &status_rows[i], (const char *)status + status_rows[i].offset);
    }
    // Sums that people ask for by name.
    rc |= buf_addf(out,
                   ",\"results\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"cost_known\":%s}",
                   status->results_ok + status->results_error, status->results_error,
                   status->calls_unpriced == 0 ? "true" : "false");
    buf_free(&waiting);
    return rc;
}
