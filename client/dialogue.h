// dialogue: one DEALER connection to a coordinator: messages out and in, and word of every time that
// the connection was made anew, so that the owner can say again who it is.
//
//         dialogue_new            handshake done: on_up
//   (none) ───────────▶ DOWN ─────────────────────────────▶ UP
//                        ▲           connection lost         │
//                        └───────────────────────────────────┘
// What was given to dialogue_send and not yet on the wire is forgotten when the connection is lost:
// the owner sends again after on_up what matters. Called by sender.c, taker.c and the
// subcommands.
#ifndef HEADRACE_CLIENT_DIALOGUE_H
#define HEADRACE_CLIENT_DIALOGUE_H

#include "common/error.h"
#include "common/loop.h"
#include "proto/messages.h"

struct dialogue;

struct dialogue_handlers {
    void (*on_up)(void *arg);                                      // connected; also after each loss
    void (*on_message)(void *arg, const struct message *message);  // never PING or PONG
    void *arg;
};

// dialogue_new begins to connect to address (ZeroMQ: "tcp://host:port", "ipc://path") and returns at
// once. It never gives up. zmq: the context. Returns NULL with why for an address that cannot be used.
struct dialogue *dialogue_new(struct loop *loop, void *zmq, const char *address,
                              const struct dialogue_handlers *handlers, struct error *why);
// dialogue_free lets what is on the wire go out. dialogue may be NULL.
void dialogue_free(struct dialogue *dialogue);

// dialogue_send sends a message, now or when the socket takes it; while DOWN it is dropped (see
// on_up). Returns 0 or -EMSGSIZE when the message is too large for a frame.
MUST_CHECK int dialogue_send(struct dialogue *dialogue, const struct message *message);
bool dialogue_is_up(const struct dialogue *dialogue);

#endif
