// link: a TCP address in front of another one, and what goes wrong between them.
#ifndef HEADRACE_TESTS_PROXY_LINK_H
#define HEADRACE_TESTS_PROXY_LINK_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum link_side {
    LINK_CLIENT, // who connected to the link; bytes from it go up
    LINK_TARGET, // whom the link connected to; bytes from it go down
};

struct link;

// link_new listens on 127.0.0.1:port (0: any free one) and joins each connection with a new one to
// target ("127.0.0.1:6379"). Returns NULL with why.
struct link *link_new(uv_loop_t *loop, const char *name, int port, const char *target,
                      struct error *why);
// link_free closes the listener and resets all connections; memory goes when the loop has run on.
void link_free(struct link *link);
const char *link_name(const struct link *link);
int link_port(const struct link *link);

// link_delay holds every byte back for delay_ms, both ways; 0: not.
void link_delay(struct link *link, int64_t delay_ms);
// link_bandwidth lets at most this many bytes a second through, each way and connection; 0: any.
void link_bandwidth(struct link *link, int64_t bytes_per_s);
// link_cut closes the connection over which the n-th byte from now comes, right behind that byte.
void link_cut(struct link *link, int64_t n);
// link_reset ends all connections with RST, towards both sides.
void link_reset(struct link *link);
// link_hole stops what comes from a side: nothing is read, nothing written, no end is told, no
// connection accepted. What stood in buffers goes on after link_heal, as after a broken cable.
void link_hole(struct link *link, enum link_side from);
// link_half leaves connections half-open: the target's side ends, the client is not told and talks
// to nobody. New connections are not touched.
void link_half(struct link *link);
// link_refuse resets each new connection at once.
void link_refuse(struct link *link);
// link_heal ends all of the above; connections that were half-open are reset.
void link_heal(struct link *link);

struct link_stats {
    uint64_t connections; // so far
    uint64_t open;        // now
    uint64_t bytes[2];    // read from each side
};
struct link_stats link_stats(const struct link *link);

#endif
