// One DEALER connection to a coordinator. Invariant: while DOWN nothing is queued; every frame that
// is handed to on_message was unpacked whole, and bad frames are logged and dropped.
//
// The socket's monitor tells when the handshake is done and when the connection is lost: a DEALER
// alone reconnects in silence, and the coordinator behind it may be a new one that knows nobody.
#include "client/dialogue.h"

#include "common/log.h"
#include "common/mem.h"
#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include <zmq.h>

#define DRAIN_MAX 64           // messages a turn
#define RECONNECT_MS 20        // first try after a loss; grows to RECONNECT_MAX_MS
#define RECONNECT_MAX_MS 2000
#define HANDSHAKE_MS 3000
#define HEARTBEAT_MS 5000      // ZMTP: notices a peer that went away without a word
#define HEARTBEAT_LOST_MS 15000
#define LINGER_MS 500          // last acks go out before the process ends

struct out_frame {
    struct buf bytes;
    struct out_frame *prev, *next;
};

struct dialogue {
    struct loop *loop;
    void *socket, *monitor;
    struct loop_socket *watch, *monitor_watch;
    struct dialogue_handlers handlers;
    struct out_frame *queue; // not yet taken by the socket
    bool up;
};

static void drop_queue(struct dialogue *dialogue) {
    struct out_frame *frame, *next;
    DL_FOREACH_SAFE(dialogue->queue, frame, next) {
        DL_DELETE(dialogue->queue, frame);
        buf_free(&frame->bytes);
        free(frame);
    }
}

static void free_bytes(void *bytes, void *hint) {
    free(bytes);
}

// send_bytes gives the buf's memory to the socket. Returns 0 or -EAGAIN; then the buf is as it was.
static int send_bytes(struct dialogue *dialogue, struct buf *bytes) {
    zmq_msg_t msg;
    size_t n = bytes->n;
    if (zmq_msg_init_data(&msg, bytes->p, n, free_bytes, NULL) != 0) {
        return -EAGAIN;
    }
    loop_used(dialogue->watch);
    if (zmq_msg_send(&msg, dialogue->socket, ZMQ_DONTWAIT) >= 0) {
        *bytes = (struct buf){.max = bytes->max};
        return 0;
    }
    // Not taken: closing the message would free the bytes, so they are moved to a copy first.
    struct buf copy;
    buf_init(&copy, FRAME_MAX_BYTES);
    int status = buf_add(&copy, bytes->p, n);
    zmq_msg_close(&msg);
    *bytes = copy;
    return status < 0 ? status : -EAGAIN;
}

static void on_writable(void *arg) {
    struct dialogue *dialogue = arg;
    while (dialogue->queue != NULL) {
        struct out_frame *frame = dialogue->queue;
        if (send_bytes(dialogue, &frame->bytes) < 0) {
            loop_want_write(dialogue->watch);
            return;
        }
        DL_DELETE(dialogue->queue, frame);
        free(frame);
    }
}

int dialogue_send(struct dialogue *dialogue, const struct message *message) {
    struct buf bytes;
    buf_init(&bytes, FRAME_MAX_BYTES);
    int status = message_pack(message, &bytes);
    if (status < 0 || !dialogue->up) {
        buf_free(&bytes);
        return status;
    }
    if (dialogue->queue == NULL && send_bytes(dialogue, &bytes) == 0) {
        return 0;
    }
    struct out_frame *frame = mem_zalloc(sizeof(*frame));
    frame->bytes = bytes;
    DL_APPEND(dialogue->queue, frame);
    loop_want_write(dialogue->watch);
    return 0;
}

bool dialogue_is_up(const struct dialogue *dialogue) {
    return dialogue->up;
}

static void handle(struct dialogue *dialogue, struct slice frame) {
    struct message message;
    struct error why = {0};
    if (message_unpack(frame, &message, &why) < 0) {
        log_warn("dialogue.bad_frame", "bytes=%zu why=\"%s\"", frame.n, why.text);
        return;
    }
    if (message.kind == MESSAGE_PING) {
        struct message pong = {.kind = MESSAGE_PONG, .pong.time = message.ping.time};
        if (dialogue_send(dialogue, &pong) < 0) {
            log_warn("dialogue.pong", "a PONG did not fit into a frame");
        }
    } else if (message.kind != MESSAGE_PONG) {
        dialogue->handlers.on_message(dialogue->handlers.arg, &message);
    }
}

static void on_readable(void *arg) {
    struct dialogue *dialogue = arg;
    for (int i = 0; i < DRAIN_MAX; i++) {
        zmq_msg_t msg;
        zmq_msg_init(&msg);
        if (zmq_msg_recv(&msg, dialogue->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&msg);
            return;
        }
        handle(dialogue, (struct slice){zmq_msg_data(&msg), zmq_msg_size(&msg)});
        zmq_msg_close(&msg);
    }
}

// read_event takes one event off the monitor: a frame with its number, a frame with the address.
static bool read_event(struct dialogue *dialogue, uint16_t *event) {
    char data[64];
    int n = zmq_recv(dialogue->monitor, data, sizeof(data), ZMQ_DONTWAIT);
    if (n < 0) {
        return false;
    }
    *event = 0;
    if (n >= (int)sizeof(*event)) {
        memcpy(event, data, sizeof(*event));
    }
    char address[1024];
    return zmq_recv(dialogue->monitor, address, sizeof(address), ZMQ_DONTWAIT) >= 0;
}

static void on_monitor(void *arg) {
    struct dialogue *dialogue = arg;
    uint16_t event;
    while (read_event(dialogue, &event)) {
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED && !dialogue->up) {
            dialogue->up = true;
            dialogue->handlers.on_up(dialogue->handlers.arg);
        } else if (event == ZMQ_EVENT_DISCONNECTED) {
            dialogue->up = false;
            drop_queue(dialogue);
        }
    }
}

static void set_int(void *socket, int option, int value) {
    if (zmq_setsockopt(socket, option, &value, sizeof(value)) != 0) {
        log_warn("dialogue.option", "option=%d why=\"%s\"", option, zmq_strerror(zmq_errno()));
    }
}

static void set_options(void *socket) {
    set_int(socket, ZMQ_IMMEDIATE, 1);
    set_int(socket, ZMQ_LINGER, LINGER_MS);
    set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_LOST_MS);
    int64_t max = FRAME_MAX_BYTES;
    if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max, sizeof(max)) != 0) {
        log_warn("dialogue.option", "option=%d why=\"%s\"", ZMQ_MAXMSGSIZE,
                 zmq_strerror(zmq_errno()));
    }
}

static int open_monitor(struct dialogue *dialogue, void *zmq, struct error *why) {
    static unsigned n_monitors;
    char name[64];
    snprintf(name, sizeof(name), "inproc://headrace.monitor.%u", n_monitors++);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    dialogue->monitor = zmq_socket(zmq, ZMQ_PAIR);
    if (zmq_socket_monitor(dialogue->socket, name, events) != 0 || dialogue->monitor == NULL ||
        zmq_connect(dialogue->monitor, name) != 0) {
        return error_set(why, -EIO, "cannot watch a socket: %s", zmq_strerror(zmq_errno()));
    }
    set_int(dialogue->monitor, ZMQ_LINGER, 0);
    return 0;
}

struct dialogue *dialogue_new(struct loop *loop, void *zmq, const char *address,
                              const struct dialogue_handlers *handlers, struct error *why) {
    struct dialogue *dialogue = mem_zalloc(sizeof(*dialogue));
    dialogue->loop = loop;
    dialogue->handlers = *handlers;
    dialogue->socket = zmq_socket(zmq, ZMQ_DEALER);
    if (dialogue->socket == NULL) {
        error_set(why, -EIO, "cannot make a socket: %s", zmq_strerror(zmq_errno()));
        goto fail;
    }
    set_options(dialogue->socket);
    if (open_monitor(dialogue, zmq, why) < 0) {
        goto fail;
    }
    if (zmq_connect(dialogue->socket, address) != 0) {
        error_set(why, -EINVAL, "coordinator '%s': %s; want tcp://HOST:PORT or ipc://PATH", address,
                  zmq_strerror(zmq_errno()));
        goto fail;
    }
    dialogue->watch =
        loop_add_socket(loop, dialogue->socket, on_readable, on_writable, dialogue);
    dialogue->monitor_watch =
        loop_add_socket(loop, dialogue->monitor, on_monitor, NULL, dialogue);
    return dialogue;
fail:
    dialogue_free(dialogue);
    return NULL;
}

void dialogue_free(struct dialogue *dialogue) {
    if (dialogue == NULL) {
        return;
    }
    if (dialogue->up) {
        struct message bye = {.kind = MESSAGE_BYE};
        (void)!dialogue_send(dialogue, &bye); // politeness: the coordinator would notice anyway
    }
    drop_queue(dialogue);
    if (dialogue->watch != NULL) {
        loop_remove_socket(dialogue->watch);
        loop_remove_socket(dialogue->monitor_watch);
    }
    if (dialogue->socket != NULL) {
        zmq_socket_monitor(dialogue->socket, NULL, 0);
        zmq_close(dialogue->socket);
    }
    if (dialogue->monitor != NULL) {
        zmq_close(dialogue->monitor);
    }
    free(dialogue);
}
