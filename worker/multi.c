// A curl multi on the loop. Invariant: curl is entered only from the loop's own callbacks, never from
// inside one of curl's. Called by http (calls) and transfer (steps of jobs).
#include "worker/multi.h"

#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 10000 // most time for resolving, connecting, TLS
#define KEEPALIVE_S 30L

// A descriptor that curl watches; freed when libuv has closed the handle.
struct watch {
    uv_poll_t poll;
    struct multi *multi;
    curl_socket_t fd;
};

struct multi {
    struct loop *loop;
    CURLM *curl;
    uv_timer_t timer;
    multi_done *done;
    void *arg;
    size_t n; // transfers
};

static void reap(struct multi *m) {
    int n_left;
    for (CURLMsg *msg; (msg = curl_multi_info_read(m->curl, &n_left)) != NULL;) {
        if (msg->msg == CURLMSG_DONE) {
            m->done(m->arg, msg->easy_handle, msg->data.result); // msg dies with the handle's removal
        }
    }
}

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
        if (uv_poll_init(loop_uv(m->loop), &w->poll, fd) != 0) {
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

struct multi *multi_new(struct loop *loop, long n_connections, multi_done *done, void *arg) {
    struct multi *m = mem_zalloc(sizeof(*m));
    m->loop = loop;
    m->done = done;
    m->arg = arg;
    m->curl = curl_multi_init();
    assert(m->curl != NULL);
    uv_timer_init(loop_uv(loop), &m->timer);
    m->timer.data = m;
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, n_connections);
    return m;
}

static void on_multi_closed(uv_handle_t *handle) {
    free(handle->data);
}

void multi_free(struct multi *m) {
    if (m == NULL) {
        return;
    }
    assert(m->n == 0);
    curl_multi_cleanup(m->curl); // closes connections: watches go by on_socket
    uv_timer_stop(&m->timer);
    uv_close((uv_handle_t *)&m->timer, on_multi_closed);
}

CURLMcode multi_add(struct multi *m, CURL *easy) {
    m->n++;
    return curl_multi_add_handle(m->curl, easy);
}

void multi_remove(struct multi *m, CURL *easy) {
    curl_multi_remove_handle(m->curl, easy);
    m->n--;
}

size_t multi_count(const struct multi *m) {
    return m->n;
}

CURL *multi_easy(const char *ca_file, const struct multi_hooks *hooks, void *owner) {
    CURL *e = curl_easy_init();
    assert(e != NULL);
    curl_easy_setopt(e, CURLOPT_PRIVATE, owner);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
    curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(e, CURLOPT_USERAGENT, "headrace/" HEADRACE_VERSION);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, hooks->on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, owner);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, hooks->on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, owner);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, hooks->on_request);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, owner);
    if (ca_file[0] != '\0') {
        curl_easy_setopt(e, CURLOPT_CAINFO, ca_file);
    }
    return e;
}

void multi_easy_connect(CURL *easy, int64_t timeout_ms) {
    long connect_ms = timeout_ms < CONNECT_MS ? (long)timeout_ms : CONNECT_MS;
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
}

// Errors of curl before the request was sent that mean something of their own. The rest is
// UNREACHABLE, or BROKEN when it was sent.
static const struct {
    CURLcode code;
    enum outcome outcome;
} errors[] = {
    {.code = CURLE_PEER_FAILED_VERIFICATION, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_SSL_CACERT_BADFILE, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_SSL_ISSUER_ERROR, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_UNSUPPORTED_PROTOCOL, .outcome = OUTCOME_BAD_CONFIG},
    {.code = CURLE_URL_MALFORMAT, .outcome = OUTCOME_BAD_CONFIG},
};

enum outcome multi_outcome(CURLcode code, bool sent) {
    if (sent) {
        return code == CURLE_OPERATION_TIMEDOUT ? OUTCOME_TIMED_OUT : OUTCOME_BROKEN;
    }
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].code == code) {
            return errors[i].outcome;
        }
    }
    return OUTCOME_UNREACHABLE;
}

struct slice multi_host(CURL *easy) {
    const char *text = NULL;
    curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &text);
    struct slice url = slice_of(text);
    const char *end = url.p + url.n;
    const char *from = url.n > 0 ? memmem(url.p, url.n, "://", 3) : NULL;
    from = from != NULL ? from + 3 : url.p;
    const char *to = from;
    while (to < end && strchr("/?#", *to) == NULL) {
        from = *to == '@' ? to + 1 : from;
        to++;
    }
    return (struct slice){.p = from, .n = (size_t)(to - from)};
}
