// link: the coordinator's ZeroMQ sockets. Frames become messages for the core; what the core sends
// becomes frames. A frame that is no message is refused and counted, never fatal.
#ifndef HEADRACE_COORDINATOR_LINK_H
#define HEADRACE_COORDINATOR_LINK_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/options.h"
#include "proto/messages.h"

struct link;
struct loop;
struct status;

struct link_config {
    struct option_list bind;      // addresses of the ROUTER socket, at least one
    const char *bind_in, *bind_out; // "" for none
};

struct link_handlers {
    void (*on_message)(void *arg, struct slice route, const struct message *message);
    void (*on_frame)(void *arg, struct slice frame); // of the PULL socket
    bool (*wants_frames)(void *arg);                 // asked before each frame of the PULL socket
    void (*on_push_ready)(void *arg);                // after link_push said -EAGAIN
    void *arg;
};

// link_new binds the sockets; config and handlers are borrowed for the link's life.
// Returns NULL with why: which address, and what is wrong with it (in use, not an address).
struct link *link_new(struct loop *loop, const struct link_config *config,
                      const struct link_handlers *handlers, struct status *status, struct error *why);
void link_free(struct link *link);

// link_send packs and sends. 0; -EHOSTUNREACH: the peer is gone; -EMSGSIZE: past a bound of
// messages.def.
MUST_CHECK int link_send(struct link *link, struct slice route, const struct message *message);
// link_push sends one frame to an unacked consumer. -EAGAIN: none has room.
MUST_CHECK int link_push(struct link *link, struct slice frame);
// link_frames_wanted: there may be room again for frames of the PULL socket.
void link_frames_wanted(struct link *link, bool wanted);

#endif
