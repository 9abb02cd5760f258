// A TCP address in front of another one. Invariant: each connection has two flows, and every byte read
// from one side is in its flow's queue until it was written to the other; a flow whose queue is long
// is not read, so the back-pressure of one side reaches the other. Called by main.
//
//   accepted ──connect──▶ joined ──EOF of one side, queue empty──▶ shut one way ──other side too──▶ closed
//                            └──error, cut, reset──▶ closed
#include "tests/proxy/link.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define BACKLOG 1024
#define READ_BYTES (64 * 1024)
#define QUEUE_MAX_BYTES (256 * 1024)

// Bytes on their way, and the request that writes them.
struct chunk {
    uv_write_t req;
    struct flow *flow;
    struct chunk *next;
    int64_t due_ms; // not written before this
    size_t n;
    char bytes[];
};

// One direction of a connection.
struct flow {
    struct conn *conn;
    enum link_side from;
    struct chunk *queue; // not yet given to libuv
    struct chunk *tail;
    size_t n_queued;  // bytes in the queue or being written
    int64_t busy_ms;  // bandwidth: the bytes so far take until then
    uv_timer_t timer; // for the head of the queue
    bool reading;
    bool at_end;   // the side has said that nothing follows
    bool was_shut; // and that was passed on
};

struct conn {
    struct link *link;
    struct conn *prev, *next;
    uv_tcp_t side[2];
    uv_connect_t connect;
    struct flow flow[2]; // by the side they come from
    bool joined;
    bool half;    // the target's side is gone
    bool closing; // off the link's list, waiting for libuv
    int n_open;   // handles that are not closed yet
};

struct link {
    uv_loop_t *loop;
    uv_tcp_t listener;
    struct sockaddr_in target;
    char *name;
    int port;
    struct conn *conns;
    int64_t delay_ms, bandwidth; // 0: none
    int64_t cut_left;            // bytes; -1: no cut
    bool hole[2];
    bool refuse;
    bool missed_accept; // somebody waits to be accepted
    struct link_stats stats;
};

static char read_buffer[READ_BYTES]; // one thread, and bytes are copied at once

static void flow_pump(struct flow *flow);

static struct flow *flow_of(struct conn *conn, enum link_side from) {
    return &conn->flow[from];
}

static uv_stream_t *stream_of(struct conn *conn, enum link_side side) {
    return (uv_stream_t *)&conn->side[side];
}

// ---- End of a connection ----------------------------------------------------------------------------

static void on_closed(uv_handle_t *handle) {
    struct conn *conn = handle->data;
    if (--conn->n_open > 0) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        struct chunk *chunk, *next;
        LL_FOREACH_SAFE(conn->flow[i].queue, chunk, next) {
            free(chunk);
        }
    }
    free(conn);
}

static void close_side(struct conn *conn, enum link_side side, bool reset) {
    uv_handle_t *handle = (uv_handle_t *)&conn->side[side];
    if (uv_is_closing(handle)) {
        return;
    }
    if (!reset || uv_tcp_close_reset(&conn->side[side], on_closed) != 0) {
        uv_close(handle, on_closed); // after a shutdown there is no RST
    }
}

static void conn_close(struct conn *conn, bool reset) {
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    DL_DELETE(conn->link->conns, conn);
    conn->link->stats.open--;
    close_side(conn, LINK_CLIENT, reset);
    close_side(conn, LINK_TARGET, reset);
    for (int i = 0; i < 2; i++) {
        uv_close((uv_handle_t *)&conn->flow[i].timer, on_closed);
    }
}

// ---- Bytes ------------------------------------------------------------------------------------------

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    *buf = uv_buf_init(read_buffer, READ_BYTES);
}

static void flow_add(struct flow *flow, const char *bytes, size_t n) {
    struct link *link = flow->conn->link;
    struct chunk *chunk = mem_alloc(sizeof(*chunk) + n);
    int64_t now_ms = (int64_t)uv_now(link->loop);
    int64_t start_ms = flow->busy_ms > now_ms ? flow->busy_ms : now_ms;
    flow->busy_ms = link->bandwidth > 0 ? start_ms + (int64_t)n * 1000 / link->bandwidth : now_ms;
    chunk->flow = flow;
    chunk->next = NULL;
    chunk->due_ms = flow->busy_ms + link->delay_ms;
    chunk->n = n;
    memcpy(chunk->bytes, bytes, n);
    if (flow->tail != NULL) {
        flow->tail->next = chunk;
    } else {
        flow->queue = chunk;
    }
    flow->tail = chunk;
    flow->n_queued += n;
    link->stats.bytes[flow->from] += n;
}

static void on_written(uv_write_t *req, int status);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void on_due(uv_timer_t *timer) {
    struct conn *conn = timer->data;
    flow_pump(&conn->flow[timer == &conn->flow[LINK_CLIENT].timer ? LINK_CLIENT : LINK_TARGET]);
}

// flow_write gives libuv what is due; returns false when the connection has ended.
static bool flow_write(struct flow *flow) {
    struct conn *conn = flow->conn;
    struct link *link = conn->link;
    int64_t now_ms = (int64_t)uv_now(link->loop);
    while (flow->queue != NULL) {
        struct chunk *chunk = flow->queue;
        if (chunk->due_ms > now_ms) {
            uv_timer_start(&flow->timer, on_due, (uint64_t)(chunk->due_ms - now_ms), 0);
            return true;
        }
        bool cut = link->cut_left >= 0 && (int64_t)chunk->n >= link->cut_left;
        uv_buf_t buf = uv_buf_init(chunk->bytes, (unsigned)chunk->n);
        if (cut) {
            buf.len = (size_t)link->cut_left;
            (void)uv_try_write(stream_of(conn, !flow->from), &buf, buf.len > 0);
            link->cut_left = -1;
            conn_close(conn, false);
            return false;
        }
        link->cut_left -= link->cut_left >= 0 ? (int64_t)chunk->n : 0;
        LL_DELETE(flow->queue, chunk);
        flow->tail = flow->queue == NULL ? NULL : flow->tail;
        if (uv_write(&chunk->req, stream_of(conn, !flow->from), &buf, 1, on_written) != 0) {
            free(chunk);
            conn_close(conn, true);
            return false;
        }
    }
    return true;
}

static void on_shut(uv_shutdown_t *req, int status) {
    free(req);
}

// flow_shut passes the end of a side on, behind its last byte.
static void flow_shut(struct flow *flow) {
    struct conn *conn = flow->conn;
    flow->was_shut = true;
    if (flow_of(conn, !flow->from)->was_shut) {
        conn_close(conn, false);
        return;
    }
    uv_shutdown_t *req = mem_alloc(sizeof(*req));
    if (uv_shutdown(req, stream_of(conn, !flow->from), on_shut) != 0) {
        free(req);
        conn_close(conn, false);
    }
}

// flow_pump brings a flow to where the link's faults let it be: reading or not, writing or not.
static void flow_pump(struct flow *flow) {
    struct conn *conn = flow->conn;
    struct link *link = conn->link;
    if (conn->closing || !conn->joined) {
        return;
    }
    bool is_open = !link->hole[flow->from];
    if (is_open && !conn->half && !flow_write(flow)) {
        return;
    }
    if (flow->at_end && flow->n_queued == 0 && !flow->was_shut && is_open) {
        flow_shut(flow);
        return;
    }
    bool wanted = is_open && !flow->at_end && flow->n_queued < QUEUE_MAX_BYTES &&
                  !(conn->half && flow->from == LINK_TARGET);
    if (wanted && !flow->reading) {
        flow->reading = uv_read_start(stream_of(conn, flow->from), on_alloc, on_read) == 0;
    } else if (!wanted && flow->reading) {
        uv_read_stop(stream_of(conn, flow->from));
        flow->reading = false;
    }
}

static void on_written(uv_write_t *req, int status) {
    struct chunk *chunk = (struct chunk *)req;
    struct flow *flow = chunk->flow;
    flow->n_queued -= chunk->n;
    free(chunk);
    if (status < 0 && !flow->conn->half) {
        conn_close(flow->conn, true);
    } else {
        flow_pump(flow);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct conn *conn = stream->data;
    struct flow *flow = flow_of(conn, stream == stream_of(conn, LINK_TARGET));
    if (n == 0) {
        return;
    }
    if (n < 0 && n != UV_EOF) {
        conn_close(conn, true);
        return;
    }
    if (conn->half) { // swallowed
        if (n < 0) {
            conn_close(conn, false);
        }
        return;
    }
    if (n == UV_EOF) {
        flow->at_end = true;
        uv_read_stop(stream);
        flow->reading = false;
    } else {
        flow_add(flow, buf->base, (size_t)n);
    }
    flow_pump(flow);
}

// ---- Connections ------------------------------------------------------------------------------------

static void on_connected(uv_connect_t *req, int status) {
    struct conn *conn = req->data;
    if (conn->closing) {
        return;
    }
    if (status < 0 && !conn->half) {
        conn_close(conn, true);
        return;
    }
    conn->joined = true;
    flow_pump(flow_of(conn, LINK_CLIENT));
    flow_pump(flow_of(conn, LINK_TARGET));
}

static struct conn *conn_new(struct link *link) {
    struct conn *conn = mem_zalloc(sizeof(*conn));
    conn->link = link;
    conn->connect.data = conn;
    for (int i = 0; i < 2; i++) {
        uv_tcp_init(link->loop, &conn->side[i]);
        uv_timer_init(link->loop, &conn->flow[i].timer);
        conn->side[i].data = conn->flow[i].timer.data = conn;
        conn->flow[i].conn = conn;
        conn->flow[i].from = (enum link_side)i;
    }
    conn->n_open = 4;
    DL_APPEND(link->conns, conn);
    link->stats.open++;
    link->stats.connections++;
    return conn;
}

static void accept_one(struct link *link) {
    struct conn *conn = conn_new(link);
    if (uv_accept((uv_stream_t *)&link->listener, stream_of(conn, LINK_CLIENT)) != 0 ||
        link->refuse) {
        conn_close(conn, true);
        return;
    }
    uv_tcp_nodelay(&conn->side[LINK_CLIENT], 1);
    uv_tcp_nodelay(&conn->side[LINK_TARGET], 1);
    if (uv_tcp_connect(&conn->connect, &conn->side[LINK_TARGET],
                       (const struct sockaddr *)&link->target, on_connected) != 0) {
        conn_close(conn, true);
    }
}

static void on_connection(uv_stream_t *stream, int status) {
    struct link *link = stream->data;
    if (status < 0) {
        return;
    }
    if (link->hole[LINK_CLIENT] || link->hole[LINK_TARGET]) {
        link->missed_accept = true; // libuv asks for no further one until this is accepted
        return;
    }
    accept_one(link);
}

// ---- Life and faults --------------------------------------------------------------------------------

static int read_target(const char *target, struct sockaddr_in *address, struct error *why) {
    const char *colon = strrchr(target, ':');
    char host[64] = "";
    if (colon != NULL && (size_t)(colon - target) < sizeof(host)) {
        memcpy(host, target, (size_t)(colon - target));
    }
    if (colon == NULL || uv_ip4_addr(host, atoi(colon + 1), address) != 0) {
        return error_set(why, -EINVAL, "target: got '%s', want an IPv4 address and a port", target);
    }
    return 0;
}

static void on_link_closed(uv_handle_t *handle) {
    struct link *link = handle->data;
    free(link->name);
    free(link);
}

struct link *link_new(uv_loop_t *loop, const char *name, int port, const char *target,
                      struct error *why) {
    struct sockaddr_in to, from, bound;
    if (read_target(target, &to, why) != 0) {
        return NULL;
    }
    struct link *link = mem_zalloc(sizeof(*link));
    link->loop = loop;
    link->name = mem_dup_str(name);
    link->target = to;
    link->cut_left = -1;
    int n = sizeof(bound);
    uv_tcp_init(loop, &link->listener);
    link->listener.data = link;
    int rc = uv_ip4_addr("127.0.0.1", port, &from);
    rc = rc != 0 ? rc : uv_tcp_bind(&link->listener, (const struct sockaddr *)&from, 0);
    rc = rc != 0 ? rc : uv_listen((uv_stream_t *)&link->listener, BACKLOG, on_connection);
    rc = rc != 0 ? rc : uv_tcp_getsockname(&link->listener, (struct sockaddr *)&bound, &n);
    if (rc != 0) {
        error_set(why, rc, "cannot listen on 127.0.0.1:%d: %s", port, uv_strerror(rc));
        uv_close((uv_handle_t *)&link->listener, on_link_closed);
        return NULL;
    }
    link->port = ntohs(bound.sin_port);
    return link;
}

void link_free(struct link *link) {
    link_reset(link);
    uv_close((uv_handle_t *)&link->listener, on_link_closed);
}

const char *link_name(const struct link *link) {
    return link->name;
}

int link_port(const struct link *link) {
    return link->port;
}

struct link_stats link_stats(const struct link *link) {
    return link->stats;
}

void link_delay(struct link *link, int64_t delay_ms) {
    link->delay_ms = delay_ms;
}

void link_bandwidth(struct link *link, int64_t bytes_per_s) {
    link->bandwidth = bytes_per_s;
}

void link_cut(struct link *link, int64_t n) {
    link->cut_left = n;
}

void link_reset(struct link *link) {
    struct conn *conn, *next;
    DL_FOREACH_SAFE(link->conns, conn, next) {
        conn_close(conn, true);
    }
}

// pump lets every flow of the link see what has changed.
static void pump(struct link *link) {
    struct conn *conn, *next;
    DL_FOREACH_SAFE(link->conns, conn, next) {
        flow_pump(flow_of(conn, LINK_CLIENT));
        flow_pump(flow_of(conn, LINK_TARGET)); // does nothing once the connection has ended
    }
}

void link_hole(struct link *link, enum link_side from) {
    link->hole[from] = true;
    pump(link);
}

void link_half(struct link *link) {
    for (struct conn *conn = link->conns; conn != NULL; conn = conn->next) {
        conn->half = true;
        close_side(conn, LINK_TARGET, false);
    }
    pump(link);
}

void link_refuse(struct link *link) {
    link->refuse = true;
}

void link_heal(struct link *link) {
    link->delay_ms = link->bandwidth = 0;
    link->cut_left = -1;
    link->hole[LINK_CLIENT] = link->hole[LINK_TARGET] = link->refuse = false;
    struct conn *conn, *next;
    DL_FOREACH_SAFE(link->conns, conn, next) {
        if (conn->half) {
            conn_close(conn, true);
        }
    }
    pump(link);
    if (link->missed_accept) {
        link->missed_accept = false;
        accept_one(link);
    }
}
