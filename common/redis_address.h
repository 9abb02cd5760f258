// redis_address: where a Redis is and how to log in, read from one text.
#ifndef HEADRACE_COMMON_REDIS_ADDRESS_H
#define HEADRACE_COMMON_REDIS_ADDRESS_H

#include "common/error.h"

struct redis_address {
    char *path;           // of a Unix socket, or NULL
    char *host;           // name or number, or NULL
    int port;             // 1..65535, with host
    int db;               // 0..; sent as SELECT when not 0
    char *user, *password; // NULL: none. Never printed
};

// redis_address_parse reads "redis://[user:password@]host[:port][/db]", "unix:/path" or a bare path
// that holds a '/'. user and password may be %-escaped; the password may be ${NAME}, which is taken
// from the environment. An IPv6 host stands in [ ].
// Returns 0 and fills out (free with redis_address_free), or -EINVAL with why, which never repeats
// the password.
MUST_CHECK int redis_address_parse(const char *text, struct redis_address *out, struct error *why);
// redis_address_free wipes the password first.
void redis_address_free(struct redis_address *address);

#endif
