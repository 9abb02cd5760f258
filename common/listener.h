// listener: a TCP socket that listens at an address a person wrote.
#ifndef HEADRACE_COMMON_LISTENER_H
#define HEADRACE_COMMON_LISTENER_H

#include "common/error.h"

// listener_open listens.
//   address  "host:port", "[::1]:port", ":port" or "port" (both 127.0.0.1); port 0 picks one
// Returns a descriptor that does not block, yours to close, or with why
//   -EINVAL         it is no such address
//   -EADDRNOTAVAIL  there is no such host
//   another         nobody can listen there, e.g. -EADDRINUSE
MUST_CHECK int listener_open(const char *address, struct error *why);

// listener_port is the port that a descriptor of listener_open listens on, 1..65535.
int listener_port(int fd);

#endif
