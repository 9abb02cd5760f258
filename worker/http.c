// HTTP calls. Invariant: a request goes on the wire at most once: curl would repeat a POST by itself
// when a connection that it used again turns out dead, so on_request counts how often a request is
// about to be written and refuses the second time. At most PER_MULTI transfers a multi: curl's cost
// of a request grows with the connections of its multi. Curl is entered only from the loop's own
// callbacks, never from inside one of curl's. Called by the worker's wiring.
#include "worker/http.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "worker/held.h"
#include "worker/provider.h"
#include "worker/retry_after.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define PER_MULTI 256        // transfers, and connections kept warm
#define MULTIS_MAX 256       // bound of --max-inflight / PER_MULTI
#define SPARE_EASY_MAX 1024
#define CONNECT_MS 10000     // most time for resolving, connecting, TLS
#define KEEPALIVE_S 30L

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

// A descriptor that curl watches; freed when libuv has closed the handle.
struct watch {
    uv_poll_t poll;
    struct multi *multi;
    curl_socket_t fd;
};

struct multi {
    struct http *http;
    CURLM *curl;
    uv_timer_t timer;
    size_t n_running;
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

static void header_retry_after(struct call *call, struct slice value) {
    int64_t ms = retry_after_parse(value, clock_unix_ms());
    if (ms > 0 && call->header_delay_ms == 0) {
        call->header_delay_ms = (uint64_t)ms;
    }
}

// Retry-After-Ms is finer than Retry-After and wins wherever it stands.
static void header_retry_after_ms(struct call *call, struct slice value) {
    char text[32];
    if (slice_copy(value, text, sizeof(text)) && text[0] >= '0' && text[0] <= '9') {
        double ms = strtod(text, NULL);
        if (ms > 0 && ms <= 86400000) {
            call->header_delay_ms = (uint64_t)ceil(ms);
        }
    }
}

static void header_should_retry(struct call *call, struct slice value) {
    call->should_retry = slice_is_nocase(value, "true") ? 1 : slice_is_nocase(value, "false") ? 0 : -1;
}

static void header_request_id(struct call *call, struct slice value) {
    text_clean(value, call->request_id, sizeof(call->request_id));
}

static void header_content_type(struct call *call, struct slice value) {
    text_clean(value, call->content_type, sizeof(call->content_type));
}

static const struct {
    const char *name;
    void (*read)(struct call *call, struct slice value);
} headers[] = {
    {.name = "retry-after", .read = header_retry_after},
    {.name = "retry-after-ms", .read = header_retry_after_ms},
    {.name = "x-should-retry", .read = header_should_retry},
    {.name = "x-request-id", .read = header_request_id},
    {.name = "apim-request-id", .read = header_request_id},
    {.name = "request-id", .read = header_request_id},
    {.name = "content-type", .read = header_content_type},
};

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
        t->call->header_delay_ms = 0;
        t->call->should_retry = -1;
        t->call->request_id[0] = t->call->content_type[0] = '\0';
        limits_seen_clear(&t->call->limits);
        buf_clear(&t->call->headers);
        return size * n;
    }
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL) {
        return size * n;
    }
    size_t n_name = (size_t)(colon - line.p);
    struct slice name = slice_sub(line, 0, n_name), value = slice_trim(slice_sub(line, n_name + 1, line.n));
    keep_header(t->call, name, value);
    limit_header_read(t->call->held->provider->limits, name, value, clock_unix_ms(), &t->call->limits);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        if (slice_is_nocase(name, headers[i].name)) {
            headers[i].read(t->call, value);
        }
    }
    return size * n;
}

// ---- What became of a transfer ------------------------------------------------------------------

// Errors of curl before the request was sent that mean something of their own. The rest is
// UNREACHABLE, or BROKEN when it was sent.
static const struct {
    CURLcode code;
    enum outcome outcome;
} curl_errors[] = {
    {.code = CURLE_PEER_FAILED_VERIFICATION, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_SSL_CACERT_BADFILE, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_SSL_ISSUER_ERROR, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_UNSUPPORTED_PROTOCOL, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_URL_MALFORMAT, .outcome = OUTCOME_BAD_CONFIG},
};

// host_of borrows host and port of a URL, without what could be a credential.
static struct slice host_of(struct slice url) {
    const char *end = url.p + url.n;
    const char *from = memmem(url.p, url.n, "://", 3);
    from = from != NULL ? from + 3 : url.p;
    const char *to = from;
    while (to < end && strchr("/?#", *to) == NULL) {
        from = *to == '@' ? to + 1 : from;
        to++;
    }
    return (struct slice){.p = from, .n = (size_t)(to - from)};
}

static void decide_error(struct transfer *t, CURLcode code) {
    struct call *call = t->call;
    enum outcome outcome = call->sent ? OUTCOME_BROKEN : OUTCOME_UNREACHABLE;
    for (size_t i = 0; i < sizeof(curl_errors) / sizeof(curl_errors[0]); i++) {
        if (curl_errors[i].code == code && !call->sent) {
            outcome = curl_errors[i].outcome;
        }
    }
    if (code == CURLE_OPERATION_TIMEDOUT && call->sent) {
        outcome = OUTCOME_TIMED_OUT;
    } else if (t->too_long) {
        outcome = OUTCOME_UNREADABLE;
    }
    if (t->n_requests > 1) {
        call_decide(call, OUTCOME_BROKEN, "the connection ended before an answer came");
    } else if (t->too_long) {
        call_decide(call, outcome, "the answer is longer than %zu bytes", call->reply.max);
    } else {
        const char *url = NULL;
        curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
        struct slice host = host_of(slice_of(url != NULL ? url : ""));
        call_decide(call, outcome, "%s (%.*s: %s)", outcome_of(outcome)->sentence, SLICE_FMT(host),
                    curl_easy_strerror(code));
    }
}

// finish takes a transfer off curl, puts it back on the free list, and hands its call on.
static void finish(struct transfer *t, CURLcode code) {
    struct http *http = t->http;
    struct call *call = t->call;
    long status = 0;
    curl_multi_remove_handle(t->multi->curl, t->easy);
    t->multi->n_running--;
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

static void reap(struct multi *m) {
    int n_left;
    for (CURLMsg *msg; (msg = curl_multi_info_read(m->curl, &n_left)) != NULL;) {
        if (msg->msg == CURLMSG_DONE) {
            struct transfer *t;
            CURLcode code = msg->data.result; // msg dies with the handle's removal
            curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
            finish(t, code);
        }
    }
}

// ---- Curl on the loop ---------------------------------------------------------------------------

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *w = poll->data;
    struct multi *m = w->multi;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    flags |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    flags |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    int n_running;
    curl_multi_socket_action(m->curl, w->fd, flags, &n_running);
    reap(m);
}

static void on_watch_closed(uv_handle_t *handle) {
    free(handle->data);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    struct multi *m = arg;
    struct watch *w = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL) {
            uv_poll_stop(&w->poll);
            uv_close((uv_handle_t *)&w->poll, on_watch_closed);
            curl_multi_assign(m->curl, fd, NULL);
        }
        return 0;
    }
    if (w == NULL) {
        w = mem_zalloc(sizeof(*w));
        w->multi = m;
        w->fd = fd;
        if (uv_poll_init(loop_uv(m->http->loop), &w->poll, fd) != 0) {
            free(w);
            return -1;
        }
        w->poll.data = w;
        curl_multi_assign(m->curl, fd, w);
    }
    int events = ((what & CURL_POLL_IN) != 0 ? UV_READABLE : 0) |
                 ((what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0);
    uv_poll_start(&w->poll, events, on_poll);
    return 0;
}

static void on_time(uv_timer_t *timer) {
    struct multi *m = timer->data;
    int n_running;
    curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, &n_running);
    reap(m);
}

static int on_timer(CURLM *curl, long timeout_ms, void *arg) {
    struct multi *m = arg;
    if (timeout_ms < 0) {
        uv_timer_stop(&m->timer);
    } else {
        uv_timer_start(&m->timer, on_time, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

static struct multi *multi_new(struct http *http) {
    struct multi *m = mem_zalloc(sizeof(*m));
    m->http = http;
    m->curl = curl_multi_init();
    assert(m->curl != NULL);
    uv_timer_init(loop_uv(http->loop), &m->timer);
    m->timer.data = m;
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, (long)PER_MULTI);
    return m;
}

// multi_with_room picks the first one: calls stay on few warm connections.
static struct multi *multi_with_room(struct http *http) {
    for (size_t i = 0; i < http->n_multis; i++) {
        if (http->multis[i]->n_running < PER_MULTI) {
            return http->multis[i];
        }
    }
    if (http->n_multis == MULTIS_MAX) {
        return NULL;
    }
    return http->multis[http->n_multis++] = multi_new(http);
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

static void on_multi_closed(uv_handle_t *handle) {
    free(handle->data);
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
        curl_multi_remove_handle(t->multi->curl, t->easy);
        transfer_free(t);
    }
    LL_FOREACH_SAFE(http->spare, t, next) {
        transfer_free(t);
    }
    for (size_t i = 0; i < http->n_multis; i++) {
        curl_multi_cleanup(http->multis[i]->curl); // closes connections: watches go by on_socket
        uv_timer_stop(&http->multis[i]->timer);
        uv_close((uv_handle_t *)&http->multis[i]->timer, on_multi_closed);
    }
    uv_run(loop_uv(http->loop), UV_RUN_NOWAIT); // lets the handles above close
    free(http);
}

// transfer_new makes an easy handle with everything that no call changes.
static struct transfer *transfer_new(struct http *http) {
    struct transfer *t = mem_zalloc(sizeof(*t));
    t->http = http;
    t->easy = curl_easy_init();
    assert(t->easy != NULL);
    CURL *e = t->easy;
    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
    curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(e, CURLOPT_USERAGENT, "headrace/" HEADRACE_VERSION);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    if (http->ca_file[0] != '\0') {
        curl_easy_setopt(e, CURLOPT_CAINFO, http->ca_file);
    }
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
    long connect_ms = o->request_timeout_ms < CONNECT_MS ? (long)o->request_timeout_ms : CONNECT_MS;
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
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                     o->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, o->http2 ? 1L : 0L);
    DL_APPEND(t->http->running, t);
    t->http->n_running++;
    m->n_running++;
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
    CURLMcode rc = curl_multi_add_handle(m->curl, t->easy);
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
