// redis: Redis on the loop: pipelining, reconnect, scripts.
//
//            redis_new                 on_connect ok, settings read, scripts loaded
//   (none) ───────────▶ CONNECTING ─────────────────────────────────────────────▶ READY
//                         ▲   │ refused, time-out: next try after 50 ms … 2 s          │
//                         └───┘◀────────────────── connection lost ───────────────────┘
//
// A command given while not READY fails at once with redis_reply NULL; the owner sends again what
// must not be lost when on_ready comes (all of our scripts are safe to run twice).
#ifndef HEADRACE_COMMON_REDIS_H
#define HEADRACE_COMMON_REDIS_H

#include "common/bytes.h"
#include "common/error.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>

struct loop;
struct redis;

// A script to load at every connect. text lives for ever.
struct redis_script {
    const char *name;
    const char *text;
};

struct redis_handlers {
    void (*on_ready)(void *arg);                   // connected, scripts loaded; also after each reconnect
    void (*on_lost)(void *arg, const char *reason); // the connection is gone; pending replies came as NULL before
    void *arg;
};

// redis_new begins to connect and returns at once.
//   address   "redis://[user:password@]host[:port][/db]" or "unix:/path/to/socket" or a bare path;
//             the password may be ${NAME}, resolved from the environment
// Returns NULL with why for an address that cannot be read (a password is not repeated in it).
struct redis *redis_new(struct loop *loop, const char *address, const struct redis_script *scripts,
                        size_t n_scripts, const struct redis_handlers *handlers, struct error *why);
// redis_free answers what is pending with NULL first. Not from on_ready, on_lost or a NULL reply.
void redis_free(struct redis *redis);
bool redis_is_ready(const struct redis *redis);

// reply is borrowed for the call; NULL: not sent or the connection was lost (it may have run!).
typedef void redis_reply_fn(void *arg, const redisReply *reply);

// redis_command sends one command of argc binary-safe arguments (copied). on_reply may be NULL.
void redis_command(struct redis *redis, redis_reply_fn *on_reply, void *arg, size_t n_args,
                   const struct slice *args);
// redis_script runs EVALSHA of scripts[i].name by name with n_keys keys followed by the arguments.
// A NOSCRIPT error (SCRIPT FLUSH) loads all scripts again and repeats the call; what was
// sent after it is repeated or held behind it, so the order stays.
void redis_script(struct redis *redis, const char *name, redis_reply_fn *on_reply, void *arg,
                  size_t n_keys, size_t n_args, const struct slice *args);

#endif
