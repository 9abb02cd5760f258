// link: the worker's end of its dialogue with the coordinator: one DEALER socket, HELLO, PING, and
// a new socket when the coordinator has gone silent.
//
//            link_new                 WELCOME
//   (none) ───────────▶ GREETING ───────────────▶ WELCOMED
//                         ▲  │ every heartbeat:      │  REFUSED unknown-worker: greet again
//                         │  └─ HELLO again          │  3 heartbeats without a word: new socket
//                         └──────────────────────────┘
#ifndef HEADRACE_WORKER_LINK_H
#define HEADRACE_WORKER_LINK_H

#include "common/bytes.h"
#include "common/error.h"
#include "proto/messages.h"

#include <stdbool.h>

struct link;
struct loop;

struct link_config {
    const char *address; // ZeroMQ endpoint of the coordinator
    const char *name;    // of this worker
    uint64_t max_inflight, max_bytes; // credit
};

struct link_handlers {
    // A message that is not about the link itself. Slices borrow from frame for the call.
    void (*on_message)(void *arg, const struct message *message, struct slice frame);
    // The coordinator knows this worker (again): whatever it may have missed is due.
    void (*on_welcome)(void *arg);
    // The socket takes messages again after link_send said -EAGAIN.
    void (*on_writable)(void *arg);
    // Appends HELLO.held: a msgpack array of [batch, call].
    int (*held)(void *arg, struct buf *out);
    // The coordinator will not have this worker: another one has its name.
    void (*on_superseded)(void *arg);
    // A PING was sent; may be NULL.
    void (*on_ping)(void *arg);
    void *arg;
};

// link_new connects and greets. Returns NULL with why for an address that cannot be used.
struct link *link_new(struct loop *loop, const struct link_config *config,
                      const struct link_handlers *handlers, struct error *why);
// link_free says BYE if the dialogue stands, and closes; waits at most a second for what is unsent.
void link_free(struct link *link);

// link_send packs and sends; link_send_bytes sends a packed frame. 0, or -EAGAIN: the socket takes
// nothing now (no connection, or full), on_writable will come.
int link_send(struct link *link, const struct message *message);
int link_send_bytes(void *link, struct slice frame);
bool link_is_welcome(const struct link *link);

#endif
