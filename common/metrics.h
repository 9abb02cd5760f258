// metrics: counters, gauges and histograms as table rows; Prometheus text and /health over HTTP.
#ifndef HEADRACE_COMMON_METRICS_H
#define HEADRACE_COMMON_METRICS_H

#include "common/bytes.h"
#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

struct loop;
struct metrics_server;

#define HISTOGRAM_BUCKETS 24 // 2^i * 100 us, i = 0..22, and the rest

struct histogram {
    uint64_t n[HISTOGRAM_BUCKETS]; // not cumulative
    uint64_t count;
    double sum_s;
};
void histogram_add(struct histogram *h, int64_t us);
// histogram_quantile estimates quantile q (0..1) in microseconds by linear interpolation; 0 if
// empty.
int64_t histogram_quantile(const struct histogram *h, double q);

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_REAL, METRIC_HISTOGRAM };
// COUNTER: uint64_t that only grows. GAUGE: int64_t. REAL: double that only grows (cost).
#define METRIC_C_COUNTER   uint64_t
#define METRIC_C_GAUGE     int64_t
#define METRIC_C_REAL      double
#define METRIC_C_HISTOGRAM struct histogram

struct metric_spec {
    const char *name;   // "headrace_calls_total"
    const char *labels; // "outcome=\"ok\"" or ""; rows of one name stand together
    enum metric_type type;
    const char *text; // help
    size_t offset;    // of the value in the struct
};
// METRIC(field, "name", "labels", TYPE, "text") rows in a .def make the struct and the table.
#define METRIC_FIELD(field, name, labels, type, text) METRIC_C_##type field;
#define METRIC_ROW(s, ...)                            METRIC_ROW_(s, __VA_ARGS__)
#define METRIC_ROW_(s, f, nm, lb, ty, tx)                                                          \
    {.name = nm, .labels = lb, .type = METRIC_##ty, .text = tx, .offset = offsetof(struct s, f)},

// metrics_write appends all rows in Prometheus text format 0.0.4. Returns 0 or -EMSGSIZE.
MUST_CHECK int metrics_write(const struct metric_spec *rows, size_t n, const void *values,
                             struct buf *out);

// health appends a short JSON object and returns the HTTP status: 200 or 503.
typedef int metrics_health(void *arg, struct buf *out);

struct metrics_config {
    const struct metric_spec *rows;
    size_t n_rows;
    const void *values;
    void (*refresh)(void *arg); // sets gauges right before they are read; may be NULL
    metrics_health *health;
    void *arg;
    // more appends rows that no table has, after the others. 0 or -EMSGSIZE. May be NULL.
    int (*more)(void *arg, struct buf *out);
};

// metrics_serve answers GET /metrics and GET /health on address "host:port" ("127.0.0.1:0" picks a
// port, which is logged). Returns NULL with why (port in use, bad address).
struct metrics_server *metrics_serve(struct loop *loop, const char *address,
                                     const struct metrics_config *config, struct error *why);
void metrics_server_free(struct metrics_server *server);
// metrics_server_port is the port in use, 1..65535.
int metrics_server_port(const struct metrics_server *server);

#endif
