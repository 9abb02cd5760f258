// The coordinator's ZeroMQ sockets. Invariant: a ready socket is drained at most 64 frames a turn, and
// the PULL socket is not read while the core has no room: then ZeroMQ's own buffers fill and the
// producers' sends block. That is the back-pressure of producers without acks.
// Made by main.c; calls the core through its handlers.
#include "coordinator/link.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "coordinator/status.h"
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <zmq.h>

#define FRAMES_A_TURN 64
#define PULL_HWM 64     // frames of rows, each up to megabytes, that wait before producers feel it
#define PUSH_HWM 1000   // frames of one result each that wait for consumers
#define HANDSHAKE_MS 3000
#define BACKLOG 4096        // connections that wait to be taken: thousands of workers come again at once
#define ZMTP_HEARTBEAT_MS 5000

struct link {
    struct loop *loop;
    const struct link_handlers *handlers;
    struct status *status;
    void *context, *router, *pull, *push;
    struct loop_socket *on_router, *on_pull, *on_push;
    struct buf out; // reused for every frame sent
};

static void set_int(void *socket, int option, int value) {
    int rc = zmq_setsockopt(socket, option, &value, sizeof(value));
    assert(rc == 0);
}

static void *open_socket(struct link *link, int type) {
    void *socket = zmq_socket(link->context, type);
    assert(socket != NULL);
    int64_t max = FRAME_MAX_BYTES;
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max, sizeof(max));
    set_int(socket, ZMQ_LINGER, 1000);
    set_int(socket, ZMQ_BACKLOG, BACKLOG);
    set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    set_int(socket, ZMQ_HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS);
    set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, 3 * ZMTP_HEARTBEAT_MS);
    if (type == ZMQ_ROUTER) {
        set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
        set_int(socket, ZMQ_SNDHWM, 0); // credit bounds what a peer is sent
        set_int(socket, ZMQ_RCVHWM, 0);
    } else {
        set_int(socket, ZMQ_SNDHWM, PUSH_HWM);
        set_int(socket, ZMQ_RCVHWM, PULL_HWM);
    }
    return socket;
}

static int bind_socket(void *socket, const char *option, const char *address, struct error *why) {
    if (zmq_bind(socket, address) == 0) {
        char actual[256];
        size_t size = sizeof(actual);
        zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, actual, &size);
        log_info("link.bound", "option=%s address=%s", option, actual);
        return 0;
    }
    int err = zmq_errno();
    if (err == EADDRINUSE) {
        return error_set(why, -err, "%s: address '%s' is in use by another process", option, address);
    }
    return error_set(why, -err, "%s: cannot bind '%s': %s (want tcp://HOST:PORT or ipc://PATH)", option,
                     address, zmq_strerror(err));
}

// ---- Frames in --------------------------------------------------------------------------------------------

static void refuse_frame(struct link *link, struct slice route, int rc, const struct error *why) {
    link->status->frames_bad++;
    log_warn("frame.refused", "why=\"%s\"", why->text);
    struct message refused = {
        .kind = MESSAGE_REFUSED,
        .refused = {.code = rc == -ENOTSUP ? SLICE_LIT("bad-version") : SLICE_LIT("bad-frame"),
                    .message = slice_of(why->text)},
    };
    (void)!link_send(link, route, &refused);
}

// read_rest drops the other parts of a multipart message; returns true if there were any.
static bool read_rest(void *socket, const zmq_msg_t *last) {
    bool more = zmq_msg_more(last);
    bool had = more;
    while (more) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        more = zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return had;
}

static bool read_router(struct link *link) {
    zmq_msg_t route, frame;
    zmq_msg_init(&route);
    if (zmq_msg_recv(&route, link->router, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&route);
        return false;
    }
    zmq_msg_init(&frame);
    struct slice from = {.p = zmq_msg_data(&route), .n = zmq_msg_size(&route)};
    if (zmq_msg_more(&route) && zmq_msg_recv(&frame, link->router, ZMQ_DONTWAIT) >= 0) {
        struct slice bytes = {.p = zmq_msg_data(&frame), .n = zmq_msg_size(&frame)};
        struct message message;
        struct error why = {0};
        int rc;
        if (read_rest(link->router, &frame)) { // a REQ socket's empty part is such a case
            rc = error_set(&why, -EPROTO, "got several parts, want one frame a message (DEALER socket)");
        } else {
            rc = message_unpack(bytes, &message, &why);
        }
        if (rc == 0) {
            link->handlers->on_message(link->handlers->arg, from, &message);
        } else {
            refuse_frame(link, from, rc, &why);
        }
    }
    zmq_msg_close(&frame);
    zmq_msg_close(&route);
    return true;
}

static void on_router(void *arg) {
    struct link *link = arg;
    for (int i = 0; i < FRAMES_A_TURN && read_router(link); i++) {
    }
}

static void on_pull(void *arg) {
    struct link *link = arg;
    for (int i = 0; i < FRAMES_A_TURN; i++) {
        if (!link->handlers->wants_frames(link->handlers->arg)) {
            link_frames_wanted(link, false);
            return;
        }
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        bool got = zmq_msg_recv(&frame, link->pull, ZMQ_DONTWAIT) >= 0;
        if (got) {
            struct slice bytes = {.p = zmq_msg_data(&frame), .n = zmq_msg_size(&frame)};
            link->handlers->on_frame(link->handlers->arg, bytes);
        }
        zmq_msg_close(&frame);
        if (!got) {
            return;
        }
    }
}

void link_frames_wanted(struct link *link, bool wanted) {
    if (link->on_pull != NULL) {
        loop_pause_read(link->on_pull, !wanted);
    }
}

static void on_push_writable(void *arg) {
    struct link *link = arg;
    link->handlers->on_push_ready(link->handlers->arg);
}

// ---- Frames out -------------------------------------------------------------------------------------------

int link_send(struct link *link, struct slice route, const struct message *message) {
    buf_clear(&link->out);
    int rc = message_pack(message, &link->out);
    if (rc != 0) { // the core bounds what grows with input; a list of very many models can be too long
        log_error("link.too_large", "kind=%s", message_name(message->kind));
        return -EMSGSIZE;
    }
    loop_used(link->on_router);
    if (zmq_send(link->router, route.p, route.n, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        return -EHOSTUNREACH;
    }
    return zmq_send(link->router, link->out.p, link->out.n, ZMQ_DONTWAIT) < 0 ? -EHOSTUNREACH : 0;
}

int link_push(struct link *link, struct slice frame) {
    loop_used(link->on_push);
    if (zmq_send(link->push, frame.p, frame.n, ZMQ_DONTWAIT) < 0) {
        loop_want_write(link->on_push);
        return -EAGAIN;
    }
    return 0;
}

// ---- Life -------------------------------------------------------------------------------------------------

static int bind_all(struct link *link, const struct link_config *config, struct error *why) {
    int rc = 0;
    for (size_t i = 0; i < config->bind.n && rc == 0; i++) {
        rc = bind_socket(link->router, "--bind", config->bind.items[i], why);
    }
    if (rc == 0 && config->bind_in[0] != '\0') {
        link->pull = open_socket(link, ZMQ_PULL);
        rc = bind_socket(link->pull, "--bind-in", config->bind_in, why);
    }
    if (rc == 0 && config->bind_out[0] != '\0') {
        link->push = open_socket(link, ZMQ_PUSH);
        rc = bind_socket(link->push, "--bind-out", config->bind_out, why);
    }
    return rc;
}

struct link *link_new(struct loop *loop, const struct link_config *config,
                      const struct link_handlers *handlers, struct status *status, struct error *why) {
    struct link *link = mem_zalloc(sizeof(*link));
    link->loop = loop;
    link->handlers = handlers;
    link->status = status;
    buf_init(&link->out, 2 * (size_t)FRAME_MAX_BYTES);
    link->context = zmq_ctx_new();
    link->router = open_socket(link, ZMQ_ROUTER);
    if (bind_all(link, config, why) != 0) {
        link_free(link);
        return NULL;
    }
    link->on_router = loop_add_socket(loop, link->router, on_router, NULL, link);
    if (link->pull != NULL) {
        link->on_pull = loop_add_socket(loop, link->pull, on_pull, NULL, link);
    }
    if (link->push != NULL) {
        link->on_push = loop_add_socket(loop, link->push, NULL, on_push_writable, link);
    }
    return link;
}

void link_free(struct link *link) {
    if (link == NULL) {
        return;
    }
    struct loop_socket *watches[] = {link->on_router, link->on_pull, link->on_push};
    void *sockets[] = {link->router, link->pull, link->push};
    for (size_t i = 0; i < 3; i++) {
        if (watches[i] != NULL) {
            loop_remove_socket(watches[i]);
        }
        if (sockets[i] != NULL) {
            zmq_close(sockets[i]);
        }
    }
    zmq_ctx_term(link->context);
    buf_free(&link->out);
    free(link);
}
