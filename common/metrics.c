// Counters, gauges and histograms as table rows; Prometheus text and /health over HTTP. Invariant:
// a bucket's border is 100 us * 2^i everywhere, so that histograms of several processes add up.
// Called by the coordinator, the worker and whatever prints their figures.
#include "common/metrics.h"
#include "common/httpd.h"
#include "common/log.h"
#include "common/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BORDER_US 100
#define PAGE_MAX_BYTES  (4u << 20)
#define MAX_CLIENTS     64
#define IDLE_S          60

// bucket_border_us is the upper border of bucket i, inclusive; the last bucket has none.
static int64_t bucket_border_us(size_t i) {
    return (int64_t)FIRST_BORDER_US << i;
}

void histogram_add(struct histogram *h, int64_t us) {
    if (us < 0) {
        us = 0;
    }
    size_t i = 0;
    while (i < HISTOGRAM_BUCKETS - 1 && us > bucket_border_us(i)) {
        i++;
    }
    h->n[i]++;
    h->count++;
    h->sum_s += (double)us / 1e6;
}

int64_t histogram_quantile(const struct histogram *h, double q) {
    if (h->count == 0) {
        return 0;
    }
    double rank = q * (double)h->count, below = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        double here = (double)h->n[i];
        if (here > 0 && below + here >= rank) {
            double low = i == 0 ? 0 : (double)bucket_border_us(i - 1);
            double high = (double)bucket_border_us(i);
            double part = rank > below ? (rank - below) / here : 0;
            return (int64_t)(low + (high - low) * part);
        }
        below += here;
    }
    return bucket_border_us(HISTOGRAM_BUCKETS - 2); // past the last border: at least this
}

// write_number writes a double as Prometheus reads it (text format 0.0.4: Go's ParseFloat).
static int write_number(struct buf *out, double value) {
    if (isnan(value)) {
        return buf_add_str(out, "NaN");
    }
    if (isinf(value)) {
        return buf_add_str(out, value > 0 ? "+Inf" : "-Inf");
    }
    return buf_addf(out, "%.12g", value);
}

static int write_histogram(const struct metric_spec *row, const struct histogram *h,
                           struct buf *out) {
    const char *comma = row->labels[0] != '\0' ? "," : "";
    uint64_t upto = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        upto += h->n[i];
        int rc = buf_addf(out, "%s_bucket{%s%sle=\"%.10g\"} %llu\n", row->name, row->labels, comma,
                          (double)bucket_border_us(i) / 1e6, (unsigned long long)upto);
        if (rc != 0) {
            return rc;
        }
    }
    const char *open = row->labels[0] != '\0' ? "{" : "",
               *close = row->labels[0] != '\0' ? "}" : "";
    int rc = buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n%s_sum%s%s%s ", row->name, row->labels,
                      comma, (unsigned long long)h->count, row->name, open, row->labels, close);
    if (rc == 0) {
        rc = write_number(out, h->sum_s);
    }
    if (rc == 0) {
        rc = buf_addf(out, "\n%s_count%s%s%s %llu\n", row->name, open, row->labels, close,
                      (unsigned long long)h->count);
    }
    return rc;
}

// write_help escapes backslash and line feed, as the format asks.
static int write_help(const char *text, struct buf *out) {
    for (; *text != '\0'; text++) {
        int rc = *text == '\\'   ? buf_add_str(out, "\\\\")
                 : *text == '\n' ? buf_add_str(out, "\\n")
                                 : buf_add_byte(out, *text);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int write_head(const struct metric_spec *row, struct buf *out) {
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_REAL] = "counter",
        [METRIC_HISTOGRAM] = "histogram",
    };
    int rc = buf_addf(out, "# HELP %s ", row->name);
    if (rc == 0) {
        rc = write_help(row->text, out);
    }
    return rc == 0 ? buf_addf(out, "\n# TYPE %s %s\n", row->name, types[row->type]) : rc;
}

static int write_plain(const struct metric_spec *row, const void *value, struct buf *out) {
    bool labels = row->labels[0] != '\0';
    int rc =
        buf_addf(out, "%s%s%s%s ", row->name, labels ? "{" : "", row->labels, labels ? "}" : "");
    if (rc != 0) {
        return rc;
    }
    switch (row->type) {
    case METRIC_COUNTER:
        rc = buf_addf(out, "%llu", (unsigned long long)*(const uint64_t *)value);
        break;
    case METRIC_GAUGE:
        rc = buf_addf(out, "%lld", (long long)*(const int64_t *)value);
        break;
    default:
        rc = write_number(out, *(const double *)value);
        break;
    }
    return rc == 0 ? buf_add_byte(out, '\n') : rc;
}

int metrics_write(const struct metric_spec *rows, size_t n, const void *values, struct buf *out) {
    for (size_t i = 0; i < n; i++) {
        const void *value = (const char *)values + rows[i].offset;
        int rc = 0;
        if (i == 0 || strcmp(rows[i - 1].name, rows[i].name) != 0) {
            rc = write_head(&rows[i], out);
        }
        if (rc == 0) {
            rc = rows[i].type == METRIC_HISTOGRAM ? write_histogram(&rows[i], value, out)
                                                  : write_plain(&rows[i], value, out);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

struct metrics_server {
    struct metrics_config config;
    struct httpd *httpd;
};

static void send_page(struct httpd_request *request, int status, const char *type,
                      struct buf *page) {
    struct httpd_reply reply = {.status = status, .type = type, .body = *page};
    *page = (struct buf){.max = page->max};
    httpd_send(request, &reply);
}

static void send_metrics(struct metrics_server *server, struct httpd_request *request) {
    const struct metrics_config *c = &server->config;
    struct buf page;
    buf_init(&page, PAGE_MAX_BYTES);
    if (c->refresh != NULL) {
        c->refresh(c->arg);
    }
    if (metrics_write(c->rows, c->n_rows, c->values, &page) != 0 ||
        (c->more != NULL && c->more(c->arg, &page) != 0)) {
        buf_free(&page);
        httpd_send_text(request, 500, "text/plain", SLICE_LIT("metrics page too long\n"));
        return;
    }
    send_page(request, 200, "text/plain; version=0.0.4; charset=utf-8", &page);
}

static void send_health(struct metrics_server *server, struct httpd_request *request) {
    const struct metrics_config *c = &server->config;
    struct buf page;
    buf_init(&page, PAGE_MAX_BYTES);
    int status = 200;
    if (c->health != NULL) {
        status = c->health(c->arg, &page);
    } else if (buf_add_str(&page, "{\"status\":\"ok\"}") != 0) {
        status = 500;
    }
    send_page(request, status, "application/json", &page);
}

static void on_request(void *arg, struct httpd_request *request) {
    struct metrics_server *server = arg;
    struct slice method = httpd_method(request), path = httpd_path(request);
    if (!slice_is(method, "GET") && !slice_is(method, "HEAD")) {
        httpd_send_text(request, 405, "text/plain", SLICE_LIT("want GET\n"));
    } else if (slice_is(path, "/metrics")) {
        send_metrics(server, request);
    } else if (slice_is(path, "/health")) {
        send_health(server, request);
    } else {
        httpd_send_text(request, 404, "text/plain", SLICE_LIT("want /metrics or /health\n"));
    }
}

struct metrics_server *metrics_serve(struct loop *loop, const char *address,
                                     const struct metrics_config *config, struct error *why) {
    struct metrics_server *server = mem_zalloc(sizeof(*server));
    server->config = *config;
    struct httpd_config http = {
        .on_request = on_request, .arg = server, .max_clients = MAX_CLIENTS, .idle_s = IDLE_S};
    server->httpd = httpd_new(loop, address, &http, why);
    if (server->httpd == NULL) {
        error_prefix(why, "metrics: ");
        free(server);
        return NULL;
    }
    log_info("metrics.listening", "port=%d", httpd_port(server->httpd));
    return server;
}

void metrics_server_free(struct metrics_server *server) {
    if (server == NULL) {
        return;
    }
    httpd_free(server->httpd);
    free(server);
}

int metrics_server_port(const struct metrics_server *server) {
    return httpd_port(server->httpd);
}
