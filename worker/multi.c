// A curl multi on the loop. Invariant: curl is entered only from the loop's own callbacks, never from
// inside one of curl's. Called by http (calls) and transfer (steps of jobs).
#include "worker/multi.h"

#include "common/loop.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CONNECT_MS 10000 // most time for resolving, connecting, TLS
#define KEEPALIVE_S 30L
#define EVENTS 64 // read at a time

// curl takes a descriptor off and puts it back with every transfer, which costs libuv five system calls
// and an allocation; so they are in an epoll of their own, which the loop watches.
struct multi {
    struct loop *loop;
    CURLM *curl;
    int epoll;
    uv_poll_t poll; // of epoll
    uv_timer_t timer;
    struct loop_later begin; // what curl wants to do at once
    multi_done *done;
    void *arg;
    size_t n; // transfers
    int n_handles; // of libuv, poll and timer; the last to be closed frees
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
    struct multi *m = poll->data;
    struct epoll_event ready[EVENTS];
    int n = epoll_wait(m->epoll, ready, EVENTS, 0); // the rest is told again in the next turn
    for (int i = 0; i < n; i++) {
        uint32_t got = ready[i].events;
        int flags = ((got & (EPOLLIN | EPOLLHUP)) != 0 ? CURL_CSELECT_IN : 0) |
                    ((got & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) | ((got & EPOLLERR) != 0 ? CURL_CSELECT_ERR : 0);
        int n_running;
        curl_multi_socket_action(m->curl, ready[i].data.fd, flags, &n_running); // one it has closed: ignored
    }
    reap(m);
}

// on_socket: socket_arg is not NULL once the descriptor is in the epoll.
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    struct multi *m = arg;
    struct epoll_event event = {.data.fd = fd, .events = ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0u) |
                                                         ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0u)};
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(m->epoll, EPOLL_CTL_DEL, fd, &event); // one that is closed already has left by itself
        return 0;
    }
    if (epoll_ctl(m->epoll, socket_arg != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0) {
        return -1;
    }
    curl_multi_assign(m->curl, fd, m);
    return 0;
}

static void begin(void *arg) {
    struct multi *m = arg;
    int n_running;
    curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0, &n_running);
    reap(m);
}

static void on_time(uv_timer_t *timer) {
    begin(timer->data);
}

static int on_timer(CURLM *curl, long timeout_ms, void *arg) {
    struct multi *m = arg;
    uv_timer_stop(&m->timer);
    loop_cancel(m->loop, &m->begin);
    if (timeout_ms == 0) {
        loop_later(m->loop, &m->begin);
    } else if (timeout_ms > 0) {
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
    m->epoll = epoll_create1(EPOLL_CLOEXEC);
    int rc = uv_poll_init(loop_uv(loop), &m->poll, m->epoll);
    assert(rc == 0);
    uv_timer_init(loop_uv(loop), &m->timer);
    m->poll.data = m->timer.data = m;
    m->n_handles = 2;
    m->begin = (struct loop_later){.on_end = begin, .arg = m};
    uv_poll_start(&m->poll, UV_READABLE, on_poll);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(m->curl, CURLMOPT_SOCKETDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(m->curl, CURLMOPT_TIMERDATA, m);
    curl_multi_setopt(m->curl, CURLMOPT_MAXCONNECTS, n_connections);
    return m;
}

static void on_closed(uv_handle_t *handle) {
    struct multi *m = handle->data;
    if (--m->n_handles == 0) {
        free(m);
    }
}

void multi_free(struct multi *m) {
    if (m == NULL) {
        return;
    }
    assert(m->n == 0);
    curl_multi_cleanup(m->curl); // closes connections
    loop_cancel(m->loop, &m->begin);
    uv_close((uv_handle_t *)&m->poll, on_closed);
    uv_close((uv_handle_t *)&m->timer, on_closed);
    close(m->epoll);
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
