// Reports. Invariant: a call that was paid for is forgotten only when the coordinator has said that
// its report is durable. Called by http's wiring (through parse) and by receive.
#include "worker/report.h"

#include "common/json.h"
#include "common/log.h"
#include "proto/messages.h"
#include "proto/record.h"
#include "worker/held.h"
#include "worker/status.h"
#include "worker/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define LIMITS_MAX 1024 // bound of REPORT.limits

void report_init(struct report *report, struct calls *calls, struct status *status, report_send *send,
                 void *arg) {
    *report = (struct report){.calls = calls, .status = status, .send = send, .arg = arg};
}

static void count(struct status *status, const struct call *call) {
    status_call(status, call->outcome);
    if (call->usage_known) {
        status->input_tokens += call->input_tokens;
        status->cached_tokens += call->cached_tokens;
        status->output_tokens += call->output_tokens;
        status->cache_write_tokens += call->cache_write_tokens;
        status->reasoning_tokens += call->reasoning_tokens;
    }
    if (call->sent) {
        status->bytes_out += call->body.n;
        status->bytes_in += call->reply.n;
        histogram_add(&status->latency, call->latency_us);
    }
}

// pack_headers makes a msgpack map of the kept lines: each name to an array of its values.
static int pack_headers(struct slice lines, struct buf *out) {
    struct json_object *map = json_object_new_object();
    while (lines.n > 0) {
        const char *end = memchr(lines.p, '\n', lines.n);
        struct slice line = slice_sub(lines, 0, end != NULL ? (size_t)(end - lines.p) : lines.n);
        const char *colon = memchr(line.p, ':', line.n);
        size_t n_name = colon != NULL ? (size_t)(colon - line.p) : line.n;
        char *name = slice_dup(slice_sub(line, 0, n_name));
        struct slice value = slice_trim(slice_sub(line, n_name + 1, line.n));
        struct json_object *values = json_get(map, name);
        if (values == NULL) {
            values = json_object_new_array();
            json_object_object_add(map, name, values);
        }
        json_object_array_add(values, json_object_new_string_len(value.p, (int)value.n));
        free(name);
        lines = slice_sub(lines, line.n + 1, lines.n);
    }
    int rc = json_to_msgpack(map, out);
    json_object_put(map);
    return rc;
}

int report_pack(const struct call *call, struct slice line, struct buf *out) {
    struct message m = {.kind = MESSAGE_REPORT};
    m.report.batch = call->id.batch;
    m.report.call = call->id.call;
    m.report.outcome = slice_of(outcome_of(call->outcome)->text);
    m.report.detail = slice_of(call->detail);
    m.report.items = call->items;
    m.report.warning = slice_of(call->warning);
    m.report.http_status = (uint64_t)call->status;
    m.report.sent = call->sent;
    m.report.retry_after_ms = call->retry_after_ms;
    m.report.request_id = slice_of(call->head.request_id);
    m.report.usage_known = call->usage_known;
    m.report.input_tokens = call->input_tokens;
    m.report.cached_tokens = call->cached_tokens;
    m.report.output_tokens = call->output_tokens;
    m.report.latency_us = (uint64_t)call->latency_us;
    m.report.prompt_hash = slice_of(call->prompt_hash);
    m.report.served_model = slice_of(call->served_model);
    m.report.cache_write_tokens = call->cache_write_tokens;
    m.report.reasoning_tokens = call->reasoning_tokens;
    m.report.service_tier = slice_of(call->service_tier);
    m.report.line = line;
    struct buf limits;
    buf_init(&limits, LIMITS_MAX);
    int rc = limits_seen_pack(&call->limits, &limits);
    m.report.limits = buf_slice(&limits);
    struct buf headers;
    buf_init(&headers, 2 * CALL_HEADERS_MAX);
    if (call->headers.n > 0 && pack_headers(buf_slice(&call->headers), &headers) == 0) {
        m.report.http_headers = buf_slice(&headers);
    }
    rc = rc != 0 ? rc : message_pack(&m, out);
    buf_free(&headers);
    buf_free(&limits);
    return rc;
}

static int pack(struct call *call) {
    buf_clear(&call->report);
    return report_pack(call, SLICE_NONE, &call->report);
}

static void send_one(struct report *report, struct call *call) {
    bool to_send = report->send(report->arg, buf_slice(&call->report)) != 0;
    report->n_to_send += (size_t)to_send - (size_t)call->to_send;
    call->to_send = to_send;
}

void report_push(void *arg, struct call *call) {
    struct report *report = arg;
    if (call->held != NULL) {
        held_mask(call->held, call->detail);
    }
    if (pack(call) != 0) {
        call->items = SLICE_NONE;
        call_decide(call, OUTCOME_UNREADABLE, "the answer's items are longer than a report may be");
        if (pack(call) != 0) {
            log_error("report.failed", "batch=%016" PRIx64 " call=%" PRIu64, call->id.batch,
                      call->id.call);
        }
    }
    call->items = SLICE_NONE;
    count(report->status, call);
    held_give(&call->held);
    call_set_state(report->calls, call, CALL_REPORTED);
    log_debug("call.reported", "batch=%016" PRIx64 " call=%" PRIu64 " outcome=%s status=%d",
              call->id.batch, call->id.call, outcome_of(call->outcome)->text, call->status);
    send_one(report, call);
}

void report_again(struct report *report, struct call *call) {
    send_one(report, call);
}

int report_flush(struct report *report) {
    struct call *call;
    if (report->n_to_send == 0) {
        return 0;
    }
    DL_FOREACH(report->calls->in_state[CALL_REPORTED], call) {
        if (call->to_send) {
            send_one(report, call);
            if (call->to_send) {
                return -EAGAIN;
            }
        }
    }
    return 0;
}

void report_all(struct report *report) {
    struct call *call;
    DL_FOREACH(report->calls->in_state[CALL_REPORTED], call) {
        send_one(report, call);
    }
}

static int take_one(struct report *report, struct slice *rest) {
    uint64_t batch, number;
    if (value_array(rest) != 2 || value_next_u64(rest, &batch) != 0 ||
        value_next_u64(rest, &number) != 0) {
        return -EPROTO;
    }
    struct call *call = calls_find(report->calls, batch, number);
    if (call != NULL && call->state == CALL_REPORTED) {
        report->n_to_send -= call->to_send;
        calls_remove(report->calls, call);
    }
    return 0;
}

int report_taken(struct report *report, struct slice calls) {
    long n = value_array(&calls);
    int rc = n < 0 ? -EPROTO : 0;
    for (long i = 0; rc == 0 && i < n; i++) {
        rc = take_one(report, &calls);
    }
    return rc;
}
