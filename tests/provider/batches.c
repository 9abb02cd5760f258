// What the APIs of files and batches share. Invariant: the timer runs while a job has not ended.
// Called by serve and by the APIs.
#include "tests/provider/batches.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#define TICK_MS 2
#define STEP_US 4000 // of work a tick

static void on_tick(void *arg) {
    struct batches *b = arg;
    if (!batch_jobs_step(&b->jobs, b->epoch_us + clock_us(), STEP_US)) {
        loop_timer_stop(b->timer);
    }
}

void batches_init(struct batches *b, struct loop *loop, const struct respond *respond,
                  struct ledger *ledger, int64_t epoch_us, batches_send *send, void *arg) {
    *b = (struct batches){.respond = respond, .epoch_us = epoch_us, .send = send, .arg = arg};
    b->jobs = (struct batch_jobs){.respond = respond,
                                  .ledger = ledger,
                                  .files = &b->files,
                                  .faults = respond->setup->batch_faults,
                                  .arg = b};
    b->timer = loop_add_timer(loop, on_tick, b);
}

void batches_free(struct batches *b) {
    batch_jobs_free(&b->jobs);
    files_free(&b->files);
}

void batches_left(struct batches *b, struct httpd_request *request) {
    struct batch_job *job;
    DL_FOREACH(b->jobs.list, job) {
        job->waiting = job->waiting == request ? NULL : job->waiting;
    }
}

void batches_run(struct batches *b) {
    loop_timer_start(b->timer, 0, TICK_MS);
}

uint64_t batches_most(int64_t option, uint64_t vendor) {
    return option > 0 ? (uint64_t)option : vendor;
}

uint64_t batches_owner(const struct batch_call *call) {
    return call->job->key_hash;
}

void batches_time(int64_t unix_us, char into[BATCHES_TIME_MAX]) {
    time_t seconds = (time_t)(unix_us / 1000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(into, BATCHES_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(into + n, BATCHES_TIME_MAX - n, ".%06dZ", (int)(unix_us % 1000000));
}

bool call_is(const struct batch_call *call, const char *method) {
    return slice_is(httpd_method(call->request), method);
}

void call_error(struct batch_call *call, int status, const char *code, const char *format, ...) {
    struct error why;
    va_list args;
    va_start(args, format);
    vsnprintf(why.text, sizeof(why.text), format, args);
    va_end(args);
    const char *type = status == 429   ? "requests"
                       : status >= 500 ? "server_error"
                                       : "invalid_request_error";
    respond_error(call->b->respond, call->job, status, type, code, why.text, status == 429,
                  call->reply);
}

struct buf *call_reply(struct batch_call *call) {
    call->reply->status = 200;
    call->reply->type = "application/json";
    call->reply->after_ms = respond_delay(call->b->respond, call->job, 0);
    buf_init(&call->reply->body, RESPOND_MAX);
    return &call->reply->body;
}

void call_file(struct batch_call *call, struct spool *spool, const char *type) {
    struct httpd_reply *reply = call->reply;
    enum batch_fault fault = call_fault(call, BATCH_AT_DOWNLOAD);
    if (reply->status != 0) {
        return;
    }
    int fd = spool != NULL ? fcntl(spool->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd < 0) {
        call_error(call, 500, NULL, "The file cannot be read.");
        return;
    }
    reply->status = 200;
    reply->type = type;
    reply->from_file = true;
    reply->fd = fd;
    reply->file_n = spool->n;
    reply->after_ms = respond_delay(call->b->respond, call->job, 0);
    if (fault == BATCH_FAULT_DOWNLOAD_CUT && spool->n > 0) {
        reply->ending = HTTPD_CUT;
        reply->cut_at = (size_t)(spool->n / 2);
    }
}

enum batch_fault call_fault(struct batch_call *call, enum batch_when when) {
    enum batch_fault fault = batch_fault_at(
        &call->b->jobs.faults, when, (uint64_t)call->b->respond->options->seed, call->job->n);
    switch (fault) {
    case BATCH_FAULT_UPLOAD_500:
    case BATCH_FAULT_CREATE_500:
    case BATCH_FAULT_POLL_500:
    case BATCH_FAULT_DOWNLOAD_500:
    case BATCH_FAULT_CANCEL_500:
    case BATCH_FAULT_REMOVE_500:
        call_error(call, 500, NULL, "The server had an error while processing your request.");
        break;
    case BATCH_FAULT_UPLOAD_429:
    case BATCH_FAULT_CREATE_429:
    case BATCH_FAULT_POLL_429:
        call_error(call, 429, "rate_limit_exceeded", "Rate limit reached for requests.");
        break;
    case BATCH_FAULT_UPLOAD_HTML:
    case BATCH_FAULT_CREATE_HTML:
    case BATCH_FAULT_POLL_HTML:
    case BATCH_FAULT_DOWNLOAD_HTML:
        respond_html(502, call->reply);
        break;
    case BATCH_FAULT_POLL_RESET:
        call->reply->status = 200;
        call->reply->ending = HTTPD_RESET;
        break;
    default:
        break;
    }
    return fault;
}

void call_lose(struct batch_call *call, enum batch_fault fault) {
    struct httpd_reply *reply = call->reply;
    if (fault == BATCH_FAULT_UPLOAD_LOST || fault == BATCH_FAULT_CREATE_LOST ||
        fault == BATCH_FAULT_CANCEL_LOST) {
        reply->ending = HTTPD_RESET;
    } else if (fault == BATCH_FAULT_CREATE_500_MADE || fault == BATCH_FAULT_CREATE_HTML_MADE) {
        buf_free(&reply->body);
        *reply = (struct httpd_reply){0};
        if (fault == BATCH_FAULT_CREATE_HTML_MADE) {
            respond_html(502, reply);
        } else {
            call_error(call, 500, NULL, "The server had an error while processing your request.");
        }
    }
}

void call_note(struct batch_call *call, const char *op, const char *job, const char *file) {
    struct buf *out = &call->job->batch;
    buf_clear(out);
    int rc = buf_addf(out, "\"op\":\"%s\"", op);
    rc = rc == 0 && job != NULL ? buf_addf(out, ",\"job\":\"%s\"", job) : rc;
    rc = rc == 0 && file != NULL ? buf_addf(out, ",\"file\":\"%s\"", file) : rc;
    (void)rc; // less than its ceiling
}

int call_number(struct batch_call *call, const char *name, int64_t def, int64_t least, int64_t most,
                int64_t *number) {
    struct slice text = httpd_query(call->request, name);
    char copy[24], *end = NULL;
    *number = def;
    if (text.n == 0) {
        return 0;
    }
    bool whole = slice_copy(text, copy, sizeof(copy));
    long long n = strtoll(copy, &end, 10);
    if (!whole || *end != '\0' || n < least || n > most) {
        call_error(call, 400, NULL,
                   "Invalid '%s': got '%s', expected a value between %lld and %lld.", name, copy,
                   (long long)least, (long long)most);
        return -EINVAL;
    }
    *number = n;
    return 0;
}

int call_body(struct batch_call *call, const char *const *names, size_t n,
              struct json_object **root) {
    struct error why = {0};
    int rc = json_parse(httpd_body(call->request), root, &why);
    if (rc == 0 && !json_object_is_type(*root, json_type_object)) {
        rc = error_set(&why, -EINVAL, "want a JSON object");
    }
    rc = rc != 0 ? rc : api_check_fields(*root, names, n, &why);
    if (rc != 0) {
        json_object_put(*root);
        *root = NULL;
        call_error(call, 400, NULL, "%s", why.text);
    }
    return rc;
}
