// An HTTP/1.1 server on the loop: libmicrohttpd with an external epoll descriptor, which libuv polls,
// and its time-outs on a libuv timer. Invariant: a request that was handed to the handler, or whose body
// was streamed, gets exactly one on_done, and its struct lives until then. Called by metrics and by the
// provider simulator.
//
//   (none) ──on_access──▶ READING ──all read──▶ handler ──httpd_send──▶ READY ──▶ on_completed
//                                                 │ later, or after_ms    ▲
//                                                 └──▶ WAITING (suspended)┘ request_resume
//
// libmicrohttpd does not look at a suspended connection's socket, so a client that leaves while its
// request waits is found by looking (on_sweep, and right before the answer); so is one that leaves in the
// middle of a streamed body.
#include "common/httpd.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"

#include <microhttpd.h>
#include <utlist.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_DEFAULT 1024
#define SWEEP_MS 250             // how late a vanished client may be noticed
#define LOOK_MS 1000             // without descriptors the library stops to listen, and nothing would wake it
#define KEEP_BODY_BYTES 65536    // a body buffer larger than this is not kept for the next request
#define READER_BLOCK_BYTES 16384 // of replies that are sent piece by piece
#define FILE_BLOCK_BYTES 65536   // of replies that are read from a file

struct httpd_request {
    struct httpd *httpd;
    struct MHD_Connection *connection;
    const char *method, *path; // owned by libmicrohttpd, until on_done
    struct buf body;           // what the client sent
    struct httpd_reply reply;  // what it gets; its body lives until on_done
    httpd_sink *sink;          // gets the body instead of `body`; NULL: none
    void *state;               // the handler's
    uv_timer_t timer;          // after_ms, then chunk_ms
    size_t sent;               // bytes of the reply's body that went out
    bool handed;               // the handler has seen it
    bool answered;             // httpd_send was called
    bool ready;                // the reply may go out
    bool waiting;              // suspended, on httpd->waiting
    bool left;                 // the client has gone
    bool may_send;             // the next chunk's time has come
    bool reading;              // its body is streamed and not all there yet, on httpd->reading
    bool ended;                // reading: its client sends no more, as the sweep before has seen
    struct httpd_request *prev, *next; // waiting or reading list; next: pool
};

struct httpd {
    struct httpd_config config;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;   // the daemon's epoll descriptor
    uv_timer_t timer; // when the daemon wants to run again
    uv_timer_t sweep; // runs while requests wait or are read
    uv_loop_t *uv;
    int port;
    bool closing;
    size_t n_handles;              // libuv handles not yet closed
    struct httpd_request *waiting; // suspended requests
    struct httpd_request *reading; // requests whose bodies are streamed in
    struct httpd_request *pool;    // requests to use again
};

// --- requests ------------------------------------------------------------------------------------

static void on_handle_closed(uv_handle_t *handle) {
    struct httpd *httpd = handle->data;
    if (--httpd->n_handles == 0) {
        free(httpd);
    }
}

static void on_request_closed(uv_handle_t *handle) {
    struct httpd_request *r = handle->data;
    handle->data = r->httpd;
    buf_free(&r->body);
    on_handle_closed(handle);
    free(r);
}

static struct httpd_request *request_new(struct httpd *httpd) {
    struct httpd_request *r = httpd->pool;
    if (r != NULL) {
        httpd->pool = r->next;
        return r;
    }
    r = mem_zalloc(sizeof(*r));
    r->httpd = httpd;
    buf_init(&r->body, httpd->config.max_body);
    uv_timer_init(httpd->uv, &r->timer);
    r->timer.data = r;
    httpd->n_handles++;
    return r;
}

static void request_recycle(struct httpd_request *r) {
    uv_timer_stop(&r->timer);
    buf_free(&r->reply.body);
    if (r->reply.from_file) {
        close(r->reply.fd);
    }
    if (r->body.cap > KEEP_BODY_BYTES) {
        buf_free(&r->body);
    }
    buf_clear(&r->body);
    r->reply = (struct httpd_reply){0};
    r->sink = NULL;
    r->state = NULL;
    r->sent = 0;
    r->handed = r->answered = r->ready = r->left = r->may_send = false;
    r->prev = NULL;
    r->next = r->httpd->pool;
    r->httpd->pool = r;
}

static int request_fd(const struct httpd_request *r) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL ? info->connect_fd : -1;
}

// has_left looks at the socket: end of file or an error means that nobody waits for the answer. A
// client that only shut down its sending side counts as gone too; no HTTP client of ours does that.
static bool has_left(const struct httpd_request *r) {
    char c;
    ssize_t n = recv(request_fd(r), &c, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static void on_sweep(uv_timer_t *timer);
static void on_daemon_time(uv_timer_t *timer);

static void start_sweep(struct httpd *httpd) {
    if (!uv_is_active((uv_handle_t *)&httpd->sweep)) {
        uv_timer_start(&httpd->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    }
}

static void request_suspend(struct httpd_request *r) {
    struct httpd *httpd = r->httpd;
    r->waiting = true;
    MHD_suspend_connection(r->connection);
    DL_APPEND(httpd->waiting, r);
    start_sweep(httpd);
}

static void stop_reading(struct httpd_request *r) {
    if (r->reading) {
        r->reading = r->ended = false;
        DL_DELETE(r->httpd->reading, r);
    }
}

static void request_resume(struct httpd_request *r) {
    uv_timer_stop(&r->timer);
    if (r->waiting) {
        r->waiting = false;
        DL_DELETE(r->httpd->waiting, r);
        MHD_resume_connection(r->connection);
        // With an external loop the library does not wake itself up.
        uv_timer_start(&r->httpd->timer, on_daemon_time, 0, 0);
    }
}

// sweep_reading ends connections whose clients left in the middle of a body. When the last bytes and the
// end come together the library may read the bytes and miss the end, which is an edge for it.
static void sweep_reading(struct httpd *httpd) {
    struct httpd_request *r;
    DL_FOREACH(httpd->reading, r) {
        bool left = has_left(r);
        if (left && r->ended) {
            shutdown(request_fd(r), SHUT_RDWR); // another edge
        }
        r->ended = left;
    }
}

static void on_sweep(uv_timer_t *timer) {
    struct httpd *httpd = timer->data;
    struct httpd_request *r, *next;
    sweep_reading(httpd);
    DL_FOREACH_SAFE(httpd->waiting, r, next) {
        if (has_left(r)) {
            r->left = true;
            request_resume(r);
        }
    }
    if (httpd->waiting == NULL && httpd->reading == NULL) {
        uv_timer_stop(timer);
    }
}

// on_time comes when a delayed reply may begin, and for each chunk of a slow one.
static void on_time(uv_timer_t *timer) {
    struct httpd_request *r = timer->data;
    r->left = has_left(r);
    r->ready = r->may_send = true;
    request_resume(r);
}

static void start_timer(struct httpd_request *r, int64_t ms) {
    uv_update_time(r->httpd->uv);
    // One more: libuv's clock is cut to milliseconds, and a wait must not end early.
    uv_timer_start(&r->timer, on_time, (uint64_t)ms + 1, 0);
}

// --- replies -------------------------------------------------------------------------------------

void httpd_reply_header(struct httpd_reply *reply, const char *name, const char *format, ...) {
    if (reply->n_headers == HTTPD_HEADERS_MAX) {
        return;
    }
    struct httpd_header *h = &reply->headers[reply->n_headers++];
    h->name = name;
    va_list args;
    va_start(args, format);
    vsnprintf(h->value, sizeof(h->value), format, args);
    va_end(args);
}

static uint64_t reply_bytes(const struct httpd_reply *reply) {
    return reply->from_file ? reply->file_n : reply->body.n;
}

// copy_reply copies a piece of the body. Returns bytes, or a negative number when the file has fewer.
static ssize_t copy_reply(const struct httpd_reply *reply, uint64_t pos, char *into, size_t n) {
    if (!reply->from_file) {
        memcpy(into, reply->body.p + pos, n);
        return (ssize_t)n;
    }
    ssize_t got = pread(reply->fd, into, n, (off_t)(reply->file_at + pos));
    return got > 0 ? got : MHD_CONTENT_READER_END_WITH_ERROR;
}

// read_reply hands out the body piece by piece: libmicrohttpd asks when the former piece is out.
static ssize_t read_reply(void *cls, uint64_t pos, char *into, size_t max) {
    struct httpd_request *r = cls;
    const struct httpd_reply *reply = &r->reply;
    uint64_t end = reply->ending == HTTPD_CUT ? reply->cut_at : reply_bytes(reply);
    r->sent = (size_t)pos;
    if (r->left || r->httpd->closing || pos >= end) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    uint64_t n = end - pos;
    if (reply->chunk > 0) {
        if (!r->may_send) {
            start_timer(r, reply->chunk_ms);
            request_suspend(r);
            return 0;
        }
        r->may_send = false;
        n = n < reply->chunk ? n : reply->chunk;
    }
    return copy_reply(reply, pos, into, n < max ? (size_t)n : max);
}

static void reset_connection(struct httpd_request *r) {
    // Dissolving the association of a connected socket sends RST at once, whatever the library does.
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    int fd = request_fd(r);
    if (connect(fd, &none, sizeof(none)) != 0) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
}

static enum MHD_Result queue_reply(struct httpd_request *r) {
    struct httpd_reply *reply = &r->reply;
    if (r->left) {
        return MHD_NO;
    }
    if (reply->ending == HTTPD_RESET) {
        reset_connection(r);
        return MHD_NO;
    }
    bool pieces = reply->chunk > 0 || reply->ending == HTTPD_CUT || reply->from_file;
    struct MHD_Response *response =
        pieces ? MHD_create_response_from_callback(
                     reply_bytes(reply), reply->from_file ? FILE_BLOCK_BYTES : READER_BLOCK_BYTES,
                     read_reply, r, NULL)
               : MHD_create_response_from_buffer(reply->body.n, reply->body.p,
                                                 MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        return MHD_NO;
    }
    if (reply->type != NULL) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->type);
    }
    for (size_t i = 0; i < reply->n_headers; i++) {
        MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value);
    }
    enum MHD_Result rc = MHD_queue_response(r->connection, (unsigned)reply->status, response);
    MHD_destroy_response(response);
    return rc;
}

void httpd_send(struct httpd_request *request, struct httpd_reply *reply) {
    assert(!request->answered);
    request->answered = true;
    request->reply = *reply;
    reply->body = (struct buf){.max = reply->body.max};
    request->may_send = true;
    if (request->reply.after_ms > 0) {
        start_timer(request, request->reply.after_ms);
        return;
    }
    request->ready = true;
    if (request->waiting) {
        request->left = has_left(request);
        request_resume(request);
    }
}

void httpd_stream(struct httpd_request *request, httpd_sink *sink) {
    assert(!request->handed && !request->reading);
    request->sink = sink;
    request->reading = true;
    DL_APPEND(request->httpd->reading, request);
    start_sweep(request->httpd);
}

void httpd_send_text(struct httpd_request *request, int status, const char *type,
                     struct slice text) {
    struct httpd_reply reply = {.status = status, .type = type};
    buf_init(&reply.body, text.n);
    int rc = buf_add_slice(&reply.body, text);
    assert(rc == 0);
    httpd_send(request, &reply);
}

// --- libmicrohttpd's callbacks -------------------------------------------------------------------

static enum MHD_Result refuse_body(struct MHD_Connection *connection) {
    static const char text[] = "request body too long\n";
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof(text) - 1, (void *)text, MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        return MHD_NO;
    }
    enum MHD_Result rc =
        MHD_queue_response(connection, MHD_HTTP_CONTENT_TOO_LARGE, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result begin_request(struct httpd *httpd, struct MHD_Connection *connection,
                                     const char *url, const char *method, void **con_cls) {
    struct httpd_request *r = request_new(httpd);
    r->connection = connection;
    r->path = url;
    r->method = method;
    *con_cls = r;
    if (httpd->config.on_open != NULL) {
        httpd->config.on_open(httpd->config.arg, r);
    }
    if (r->sink != NULL) {
        return MHD_YES;
    }
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length != NULL && strtoull(length, NULL, 10) > httpd->config.max_body) {
        return refuse_body(connection);
    }
    return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_n, void **con_cls) {
    struct httpd *httpd = cls;
    struct httpd_request *r = *con_cls;
    if (r == NULL) {
        return begin_request(httpd, connection, url, method, con_cls);
    }
    if (*upload_n > 0) {
        struct slice piece = {.p = upload, .n = *upload_n};
        int rc = r->sink != NULL ? r->sink(httpd->config.arg, r, piece) : buf_add_slice(&r->body, piece);
        *upload_n = 0;
        return rc == 0 ? MHD_YES : MHD_NO; // only a chunked body gets this far past the ceiling
    }
    if (httpd->closing || r->left) {
        return MHD_NO;
    }
    if (!r->handed) {
        stop_reading(r);
        r->handed = true;
        httpd->config.on_request(httpd->config.arg, r);
    }
    if (r->ready) {
        return queue_reply(r);
    }
    request_suspend(r);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode code) {
    struct httpd *httpd = cls;
    struct httpd_request *r = *con_cls;
    if (r == NULL) {
        return;
    }
    stop_reading(r);
    bool whole = code == MHD_REQUEST_TERMINATED_COMPLETED_OK && r->ready && !r->left &&
                 r->reply.ending == HTTPD_WHOLE;
    if (whole) {
        r->sent = (size_t)reply_bytes(&r->reply);
    }
    if ((r->handed || r->sink != NULL) && httpd->config.on_done != NULL) {
        httpd->config.on_done(httpd->config.arg, r, r->sent, whole);
    }
    *con_cls = NULL;
    request_recycle(r);
}

__attribute__((format(printf, 2, 0))) static void on_library_log(void *cls, const char *format,
                                                                 va_list args) {
    if (!log_is_on(LOG_DEBUG)) {
        return;
    }
    char text[256];
    vsnprintf(text, sizeof(text), format, args);
    log_debug("httpd.library", "text=%s", text);
}

// --- the loop ------------------------------------------------------------------------------------

static void run_daemon(struct httpd *httpd) {
    MHD_run(httpd->daemon);
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (MHD_get_timeout(httpd->daemon, &ms) != MHD_YES || ms > LOOK_MS) {
        ms = LOOK_MS;
    }
    uv_timer_start(&httpd->timer, on_daemon_time, ms, 0);
}

static void on_daemon_time(uv_timer_t *timer) {
    run_daemon(timer->data);
}

static void on_daemon_event(uv_poll_t *poll, int status, int events) {
    run_daemon(poll->data);
}

static struct MHD_Daemon *start_daemon(struct httpd *httpd, int fd) {
    unsigned clients = httpd->config.max_clients > 0 ? httpd->config.max_clients : CLIENTS_DEFAULT;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        on_access, httpd, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, httpd,
        MHD_OPTION_CONNECTION_LIMIT, clients, MHD_OPTION_CONNECTION_TIMEOUT, httpd->config.idle_s,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

struct httpd *httpd_new(struct loop *loop, const char *address, const struct httpd_config *config,
                        struct error *why) {
    int fd = listener_open(address, why);
    if (fd < 0) {
        return NULL;
    }
    struct httpd *httpd = mem_zalloc(sizeof(*httpd));
    httpd->config = *config;
    httpd->uv = loop_uv(loop);
    httpd->port = listener_port(fd);
    httpd->daemon = start_daemon(httpd, fd);
    const union MHD_DaemonInfo *info =
        httpd->daemon != NULL ? MHD_get_daemon_info(httpd->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL) {
        error_set(why, -EIO, "cannot serve on '%s': libmicrohttpd did not start", address);
        if (httpd->daemon != NULL) {
            MHD_stop_daemon(httpd->daemon);
        } else {
            close(fd);
        }
        free(httpd);
        return NULL;
    }
    int rc = uv_poll_init(httpd->uv, &httpd->poll, info->epoll_fd);
    assert(rc == 0);
    uv_timer_init(httpd->uv, &httpd->timer);
    uv_timer_init(httpd->uv, &httpd->sweep);
    httpd->poll.data = httpd->timer.data = httpd->sweep.data = httpd;
    httpd->n_handles = 3;
    uv_poll_start(&httpd->poll, UV_READABLE, on_daemon_event);
    uv_timer_start(&httpd->timer, on_daemon_time, LOOK_MS, 0);
    return httpd;
}

void httpd_free(struct httpd *httpd) {
    if (httpd == NULL) {
        return;
    }
    httpd->closing = true;
    uv_poll_stop(&httpd->poll);
    while (httpd->waiting != NULL) { // the library forbids to stop with suspended connections
        request_resume(httpd->waiting);
    }
    MHD_run(httpd->daemon);
    uv_close((uv_handle_t *)&httpd->poll, on_handle_closed);
    uv_close((uv_handle_t *)&httpd->timer, on_handle_closed);
    uv_close((uv_handle_t *)&httpd->sweep, on_handle_closed);
    MHD_stop_daemon(httpd->daemon);
    struct httpd_request *r, *next;
    for (r = httpd->pool; r != NULL; r = next) {
        next = r->next;
        uv_close((uv_handle_t *)&r->timer, on_request_closed);
    }
}

// --- what was asked ------------------------------------------------------------------------------

int httpd_port(const struct httpd *httpd) {
    return httpd->port;
}

struct slice httpd_method(const struct httpd_request *request) {
    return slice_of(request->method);
}

struct slice httpd_path(const struct httpd_request *request) {
    return slice_of(request->path);
}

struct slice httpd_body(const struct httpd_request *request) {
    return buf_slice(&request->body);
}

struct slice httpd_query(const struct httpd_request *request, const char *name) {
    return slice_of(MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name));
}

struct slice httpd_header(const struct httpd_request *request, const char *name) {
    return slice_of(MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name));
}

void httpd_set_state(struct httpd_request *request, void *state) {
    request->state = state;
}

void *httpd_state(const struct httpd_request *request) {
    return request->state;
}
