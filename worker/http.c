// HTTP calls. Invariant: a request goes on the wire at most once: curl would repeat a POST by itself
// when a connection that it used again turns out dead, so on_request counts how often a request is
// about to be written and refuses the second time. At most PER_MULTI transfers a multi: curl's cost
// of a request grows with the connections of its multi. Called by the worker's wiring.
#include "worker/http.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "worker/held.h"
#include "worker/multi.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define PER_MULTI 256        // transfers, and connections kept warm
#define MULTIS_MAX 256       // bound of --max-inflight / PER_MULTI
#define SPARE_EASY_MAX 1024

struct transfer {
    struct http *http;
    struct multi *multi;
    struct call *call;       // NULL on the free list
    CURL *easy;
    int n_requests;          // how often curl was about to write the request
    bool too_long;           // the answer is past the reply's ceiling
    int64_t begun_us;        // first byte out
    char name[64];           // a header that names the call: what a provider logs can be matched with ours
    struct curl_slist headers; // that one, before those of the model
    struct transfer *prev, *next;
};

struct http {
    struct loop *loop;
    const char *ca_file;
    call_next *next;
    void *arg;
    struct multi *multis[MULTIS_MAX];
    size_t n_multis;
    struct transfer *running, *spare;
    size_t n_running, n_spare;
};

// ---- What curl tells ----------------------------------------------------------------------------

static int on_request(void *arg, char *ip, char *local_ip, int port, int local_port) {
    struct transfer *t = arg;
    if (++t->n_requests > 1) {
        return CURL_PREREQFUNC_ABORT;
    }
    t->begun_us = clock_us();
    return CURL_PREREQFUNC_OK;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    if (buf_add(&t->call->reply, p, size * n) != 0) {
        t->too_long = true;
        return 0;
    }
    return size * n;
}

// keep_header keeps a line for the column http-headers-map. What is no text, or does not fit any more,
// is left out; so are cookies, which are as good as credentials.
static void keep_header(struct call *call, struct slice name, struct slice value) {
    if (!MODEL_HAS(call->held->model->metadata, METADATA_HTTP_HEADERS) ||
        slice_is_nocase(name, "set-cookie") || slice_utf8_error(name) >= 0 ||
        slice_utf8_error(value) >= 0 || call->headers.n + name.n + value.n + 3 > call->headers.max) {
        return;
    }
    (void)!buf_addf(&call->headers, "%.*s: %.*s\n", SLICE_FMT(name), SLICE_FMT(value));
}

static size_t on_header(char *p, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    struct slice line = {.p = p, .n = size * n};
    if (slice_starts(line, "HTTP/")) { // a new answer, e.g. after 100 Continue
        reply_head_clear(&t->call->head);
        limits_seen_clear(&t->call->limits);
        buf_clear(&t->call->headers);
        return size * n;
    }
    struct slice name, value;
    if (!header_split(line, &name, &value)) {
        return size * n;
    }
    keep_header(t->call, name, value);
    limit_header_read(t->call->held->provider->limits, name, value, clock_unix_ms(), &t->call->limits);
    reply_head_read(&t->call->head, name, value);
    return size * n;
}

// ---- What became of a transfer ------------------------------------------------------------------

static void decide_error(struct transfer *t, CURLcode code) {
    struct call *call = t->call;
    enum outcome outcome = t->too_long ? OUTCOME_UNREADABLE : multi_outcome(code, call->sent);
    if (t->n_requests > 1) {
        call_decide(call, OUTCOME_BROKEN, "the connection ended before an answer came");
    } else if (t->too_long) {
        call_decide(call, outcome, "the answer is longer than %zu bytes", call->reply.max);
    } else {
        struct slice host = multi_host(t->easy);
        call_decide(call, outcome, "%s (%.*s: %s)", outcome_of(outcome)->sentence, SLICE_FMT(host),
                    curl_easy_strerror(code));
    }
}

// finish takes a transfer off curl, puts it back on the free list, and hands its call on.
static void finish(struct transfer *t, CURLcode code) {
    struct http *http = t->http;
    struct call *call = t->call;
    long status = 0;
    multi_remove(t->multi, t->easy);
    call->sent = t->n_requests > 0;
    call->latency_us = call->sent ? clock_us() - t->begun_us : 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    call->status = status >= 100 && status <= 999 ? (int)status : 0;
    if (code != CURLE_OK) {
        decide_error(t, code);
    }
    DL_DELETE(http->running, t);
    http->n_running--;
    t->call = NULL;
    if (http->n_spare < SPARE_EASY_MAX) {
        LL_PREPEND(http->spare, t);
        http->n_spare++;
    } else {
        curl_easy_cleanup(t->easy);
        free(t);
    }
    http->next(http->arg, call);
}

static void on_ended(void *arg, CURL *easy, CURLcode code) {
    struct transfer *t;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
    finish(t, code);
}

// multi_with_room picks the first one: calls stay on few warm connections.
static struct multi *multi_with_room(struct http *http) {
    for (size_t i = 0; i < http->n_multis; i++) {
        if (multi_count(http->multis[i]) < PER_MULTI) {
            return http->multis[i];
        }
    }
    if (http->n_multis == MULTIS_MAX) {
        return NULL;
    }
    return http->multis[http->n_multis++] = multi_new(http->loop, PER_MULTI, on_ended, http);
}

// ---- Life ---------------------------------------------------------------------------------------

struct http *http_new(struct loop *loop, const char *ca_file, call_next *next, void *arg) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct http *http = mem_zalloc(sizeof(*http));
    http->loop = loop;
    http->ca_file = ca_file != NULL ? ca_file : "";
    http->next = next;
    http->arg = arg;
    return http;
}

static void transfer_free(struct transfer *t) {
    curl_easy_cleanup(t->easy);
    free(t);
}

void http_free(struct http *http) {
    if (http == NULL) {
        return;
    }
    struct transfer *t, *next;
    DL_FOREACH_SAFE(http->running, t, next) {
        multi_remove(t->multi, t->easy);
        transfer_free(t);
    }
    LL_FOREACH_SAFE(http->spare, t, next) {
        transfer_free(t);
    }
    for (size_t i = 0; i < http->n_multis; i++) {
        multi_free(http->multis[i]);
    }
    uv_run(loop_uv(http->loop), UV_RUN_NOWAIT); // lets the handles above close
    free(http);
}

// transfer_new makes an easy handle with everything that no call changes.
static struct transfer *transfer_new(struct http *http) {
    static const struct multi_hooks hooks = {
        .on_request = on_request, .on_header = on_header, .on_body = on_body};
    struct transfer *t = mem_zalloc(sizeof(*t));
    t->http = http;
    t->easy = multi_easy(http->ca_file, &hooks, t);
    curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
    return t;
}

static struct transfer *transfer_take(struct http *http) {
    struct transfer *t = http->spare;
    if (t == NULL) {
        return transfer_new(http);
    }
    LL_DELETE(http->spare, t);
    http->n_spare--;
    return t;
}

static void transfer_begin(struct transfer *t, struct multi *m, struct call *call) {
    const struct model_options *o = &call->held->model->options;
    t->multi = m;
    t->call = call;
    t->n_requests = 0;
    t->too_long = false;
    buf_clear(&call->reply);
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_URL, call->held->url.p);
    snprintf(t->name, sizeof(t->name), "X-Client-Request-Id: %016" PRIx64 "-%" PRIu64, call->id.batch,
             call->id.call);
    t->headers = (struct curl_slist){.data = t->name, .next = call->held->headers};
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, &t->headers);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, call->body.p); // not copied: lives as long as the call
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)o->request_timeout_ms);
    multi_easy_connect(e, o->request_timeout_ms);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                     o->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, o->http2 ? 1L : 0L);
    DL_APPEND(t->http->running, t);
    t->http->n_running++;
}

void http_push(void *arg, struct call *call) {
    struct http *http = arg;
    if (!call->decided && clock_us() > call->deadline_us) {
        call_decide(call, OUTCOME_UNSENT, "the call could not start in time");
    }
    struct multi *m = call->decided ? NULL : multi_with_room(http);
    if (!call->decided && m == NULL) {
        call_decide(call, OUTCOME_UNSENT, "too many calls in flight");
    }
    if (call->decided) {
        http->next(http->arg, call);
        return;
    }
    struct transfer *t = transfer_take(http);
    transfer_begin(t, m, call);
    CURLMcode rc = multi_add(m, t->easy);
    if (rc != CURLM_OK) {
        log_error("http.failed", "why=\"%s\"", curl_multi_strerror(rc));
        finish(t, CURLE_FAILED_INIT);
    }
}

void http_stop(struct http *http) {
    struct transfer *t, *next;
    DL_FOREACH_SAFE(http->running, t, next) {
        bool sent = t->n_requests > 0;
        call_decide(t->call, sent ? OUTCOME_BROKEN : OUTCOME_UNSENT, "the worker was stopped");
        finish(t, CURLE_OK);
    }
}

size_t http_inflight(const struct http *http) {
    return http->n_running;
}
