// The dialogue with the coordinator. Invariant: nothing that matters is lost with a socket: what was
// sent and not answered is sent again by its owner at on_welcome. Called by receive and main.
#include "worker/link.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#define HELD_MAX_BYTES (64 * 1024 * 1024) // bound of the field in messages.def
#define STARTING_MS 50           // greet again this soon when the coordinator says that it is starting
#define FIRST_HEARTBEAT_MS 1000  // until WELCOME says how often
#define MISSED_HEARTBEATS 3      // silence after which the socket is given up
#define MESSAGES_PER_TURN 64
#define BYE_LINGER_MS 1000

struct link {
    struct loop *loop;
    struct link_config config;
    struct link_handlers handlers;
    void *context, *socket;
    struct loop_socket *watch;
    struct loop_timer *tick;
    uint64_t incarnation;   // larger at each start
    int64_t heartbeat_ms;
    int64_t heard_us;       // when the last message came, or the socket was made
    bool welcome;
    struct buf out;         // scratch for packing
    struct buf held;        // scratch for HELLO.held
};

int link_send_bytes(void *arg, struct slice frame) {
    struct link *link = arg;
    int rc;
    loop_used(link->watch);
    do {
        rc = zmq_send(link->socket, frame.p, frame.n, ZMQ_DONTWAIT);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) {
        loop_want_write(link->watch);
        return -EAGAIN;
    }
    return 0;
}

int link_send(struct link *link, const struct message *message) {
    buf_clear(&link->out);
    if (message_pack(message, &link->out) != 0) {
        log_error("link.failed", "message=%s why=\"too long\"", message_name(message->kind));
        return 0; // sending it later would not help
    }
    return link_send_bytes(link, buf_slice(&link->out));
}

bool link_is_welcome(const struct link *link) {
    return link->welcome;
}

static void greet(struct link *link) {
    struct message m = {.kind = MESSAGE_HELLO};
    buf_clear(&link->held);
    m.hello.worker = slice_of(link->config.name);
    m.hello.incarnation = link->incarnation;
    m.hello.version = slice_of(HEADRACE_VERSION);
    m.hello.max_inflight = link->config.max_inflight;
    m.hello.max_bytes = link->config.max_bytes;
    m.hello.time = (uint64_t)clock_us();
    if (link->handlers.held(link->handlers.arg, &link->held) == 0) {
        m.hello.held = buf_slice(&link->held);
    }
    (void)link_send(link, &m); // without a connection: the next tick greets again
}

static void on_welcome(struct link *link, const struct message *m) {
    link->heartbeat_ms = m->welcome.heartbeat_ms > 0 ? (int64_t)m->welcome.heartbeat_ms
                                                     : FIRST_HEARTBEAT_MS;
    link->welcome = true;
    log_info("link.welcome", "coordinator=\"%.*s\" heartbeat_ms=%lld",
             SLICE_FMT(m->welcome.coordinator), (long long)link->heartbeat_ms);
    loop_timer_start(link->tick, link->heartbeat_ms, link->heartbeat_ms);
    link->handlers.on_welcome(link->handlers.arg);
}

static void on_refused(struct link *link, const struct message *m) {
    log_warn("link.refused", "code=%.*s why=\"%.*s\"", SLICE_FMT(m->refused.code),
             SLICE_FMT(m->refused.message));
    if (slice_is(m->refused.code, "superseded")) {
        link->handlers.on_superseded(link->handlers.arg);
    } else if (slice_is(m->refused.code, "unknown-worker") && link->welcome) {
        link->welcome = false; // several refusals of one cause: greet once
        greet(link);
    } else if (slice_is(m->refused.code, "starting")) {
        link->welcome = false;
        loop_timer_start(link->tick, STARTING_MS, link->heartbeat_ms);
    }
}

static void on_ping(struct link *link, const struct message *m) {
    struct message pong = {.kind = MESSAGE_PONG};
    pong.pong.time = m->ping.time;
    (void)link_send(link, &pong);
}

static void on_frame(struct link *link, struct slice frame) {
    struct message m;
    struct error why = {0};
    link->heard_us = clock_us();
    if (message_unpack(frame, &m, &why) != 0) {
        log_warn("link.bad_message", "why=\"%s\"", why.text);
        return;
    }
    switch (m.kind) {
    case MESSAGE_WELCOME:
        on_welcome(link, &m);
        return;
    case MESSAGE_REFUSED:
        on_refused(link, &m);
        return;
    case MESSAGE_PING:
        on_ping(link, &m);
        return;
    case MESSAGE_PONG:
        return;
    default:
        link->handlers.on_message(link->handlers.arg, &m, frame);
    }
}

static void on_readable(void *arg) {
    struct link *link = arg;
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        zmq_msg_t msg;
        zmq_msg_init(&msg);
        if (zmq_msg_recv(&msg, link->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&msg);
            return;
        }
        if (!zmq_msg_more(&msg)) { // every message of ours is one frame
            on_frame(link, (struct slice){.p = zmq_msg_data(&msg), .n = zmq_msg_size(&msg)});
        }
        zmq_msg_close(&msg);
    }
}

static void on_writable(void *arg) {
    struct link *link = arg;
    if (!link->welcome) {
        greet(link);
        return; // what else is due is sent at on_welcome
    }
    link->handlers.on_writable(link->handlers.arg);
}

static void set_option(void *socket, int option, int value) {
    int rc = zmq_setsockopt(socket, option, &value, sizeof(value));
    assert(rc == 0);
}

static int socket_open(struct link *link, struct error *why) {
    int64_t max_bytes = FRAME_MAX_BYTES;
    int n_messages = (int)link->config.max_inflight * 2 + 64;
    link->socket = zmq_socket(link->context, ZMQ_DEALER);
    assert(link->socket != NULL);
    set_option(link->socket, ZMQ_LINGER, 0);
    set_option(link->socket, ZMQ_IMMEDIATE, 1);
    set_option(link->socket, ZMQ_SNDHWM, n_messages);
    set_option(link->socket, ZMQ_RCVHWM, n_messages);
    set_option(link->socket, ZMQ_HANDSHAKE_IVL, 3000);
    // Jitter: workers that lost one coordinator do not come back in step.
    set_option(link->socket, ZMQ_RECONNECT_IVL, 100 + (int)(link->incarnation % 97));
    set_option(link->socket, ZMQ_RECONNECT_IVL_MAX, 5000);
    set_option(link->socket, ZMQ_HEARTBEAT_IVL, 5000);
    set_option(link->socket, ZMQ_HEARTBEAT_TIMEOUT, 15000);
    zmq_setsockopt(link->socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof(max_bytes));
    if (zmq_connect(link->socket, link->config.address) != 0) {
        int rc = -errno;
        error_set(why, rc, "--coordinator: got '%s', want an address such as tcp://127.0.0.1:5555 (%s)",
                  link->config.address, zmq_strerror(errno));
        zmq_close(link->socket);
        link->socket = NULL;
        return rc;
    }
    link->watch = loop_add_socket(link->loop, link->socket, on_readable, on_writable, link);
    link->heard_us = clock_us();
    link->welcome = false;
    return 0;
}

static void socket_close(struct link *link) {
    if (link->socket != NULL) {
        loop_remove_socket(link->watch);
        zmq_close(link->socket);
        link->socket = NULL;
    }
}

static void on_tick(void *arg) {
    struct link *link = arg;
    int64_t silent_ms = (clock_us() - link->heard_us) / 1000;
    if (link->welcome && silent_ms > MISSED_HEARTBEATS * link->heartbeat_ms) {
        log_warn("link.silent", "ms=%lld", (long long)silent_ms);
        socket_close(link);
        int rc = socket_open(link, NULL); // the address was good before
        assert(rc == 0);
    }
    if (!link->welcome) {
        greet(link);
        return;
    }
    struct message ping = {.kind = MESSAGE_PING};
    ping.ping.time = (uint64_t)clock_us();
    ping.ping.worker = true; // a coordinator that was started anew asks for HELLO
    (void)link_send(link, &ping);
    if (link->handlers.on_ping != NULL) {
        link->handlers.on_ping(link->handlers.arg);
    }
}

struct link *link_new(struct loop *loop, const struct link_config *config,
                      const struct link_handlers *handlers, struct error *why) {
    struct link *link = mem_zalloc(sizeof(*link));
    link->loop = loop;
    link->config = *config;
    link->handlers = *handlers;
    // The time, and the process: two of one name may start in the same millisecond.
    link->incarnation = (uint64_t)clock_unix_ms() << 16 | ((uint64_t)getpid() & 0xFFFF);
    link->heartbeat_ms = FIRST_HEARTBEAT_MS;
    buf_init(&link->out, FRAME_MAX_BYTES);
    buf_init(&link->held, HELD_MAX_BYTES);
    link->context = zmq_ctx_new();
    if (socket_open(link, why) != 0) {
        link_free(link);
        return NULL;
    }
    link->tick = loop_add_timer(loop, on_tick, link);
    loop_timer_start(link->tick, link->heartbeat_ms, link->heartbeat_ms);
    greet(link);
    return link;
}

void link_free(struct link *link) {
    if (link == NULL) {
        return;
    }
    if (link->tick != NULL) {
        loop_timer_stop(link->tick);
    }
    if (link->socket != NULL && link->welcome) {
        struct message bye = {.kind = MESSAGE_BYE};
        bye.bye.reason = SLICE_LIT("stopped");
        set_option(link->socket, ZMQ_LINGER, BYE_LINGER_MS);
        (void)link_send(link, &bye);
    }
    socket_close(link);
    zmq_ctx_term(link->context);
    buf_free(&link->out);
    buf_free(&link->held);
    free(link);
}
