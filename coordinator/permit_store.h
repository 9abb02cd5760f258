// permit_store: the shared limits in Redis: runs permit_sync.lua. The limits of an account may be held by
// another Redis than the partitions are, so that clusters with their own share them.
//
// Keys of a pool (in one hash slot), see permit_sync.lua:
//   hr:{pool}:bkt    HASH  each kind's level, limit as the provider said it, share; time, scale, blocked until
//   hr:{pool}:lease  HASH  coordinator -> newest number, until when it wants calls, calls at once, reply
#ifndef HEADRACE_COORDINATOR_PERMIT_STORE_H
#define HEADRACE_COORDINATOR_PERMIT_STORE_H

#include "common/error.h"
#include "coordinator/permit.h"

struct loop;
struct permit_store;

// on_reply: reply is NULL when Redis is away or refused; the same request is to be made again then.
typedef void permit_reply_fn(void *arg, struct slice pool, const struct permit_reply *reply);

// permit_store_new begins to connect. holder names this coordinator's start: it never comes again.
// Returns NULL with why for an address that cannot be read.
struct permit_store *permit_store_new(struct loop *loop, const char *redis, const char *holder,
                                      permit_reply_fn *on_reply, void *arg, struct error *why);
void permit_store_free(struct permit_store *store); // calls nobody back

// permit_store_sync copies what it needs. The reply comes later, never from within, but for a Redis that
// is away: then at once.
void permit_store_sync(struct permit_store *store, struct slice pool, const struct permit_request *request);

#endif
