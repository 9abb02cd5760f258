// held: the model revisions that a worker holds, parsed, with all that a call needs of them:
// the prompt's plan, the provider, HTTP headers with their credentials. Bounded.
#ifndef HEADRACE_WORKER_HELD_H
#define HEADRACE_WORKER_HELD_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"
#include "worker/prompt.h"
#include "worker/provider.h"

#include <curl/curl.h>
#include <uthash.h>

struct secrets;

// One revision, or one revision with overrides.
struct held {
    UT_hash_handle hh;
    char *key;                  // name, NUL, revision, overrides
    size_t n_key;
    size_t n_users;             // calls that look at it
    uint64_t used;              // counts up: the smallest is the oldest
    int rc;                     // 0, or why no call can be made: -ENOENT, -ENOKEY, -EINVAL
    struct error why;           // the sentence for rc
    struct model *model;        // NULL when rc is not 0
    struct prompt_plan plan;
    const struct provider *provider;
    const struct dialect *dialect;
    struct buf url;             // where its calls go
    int64_t room;               // bytes of prompt that there is room for, as refusals told; 0: none came
    bool schema;                // calls carry the plan's JSON Schema
    struct curl_slist *headers; // credentials filled in
    struct buf secret;          // api_key, filled in: to be masked in what the provider says
};

struct held_cache {
    const struct secrets *secrets; // borrowed
    struct held *by_key;           // uthash
    size_t most;                   // entries
    uint64_t used;
};

// held_init makes an empty cache of at most `most` entries that no call uses; more while calls do.
void held_init(struct held_cache *cache, const struct secrets *secrets, size_t most);
void held_free(struct held_cache *cache);

// held_take finds a model for a call.
//   overrides  msgpack map of option to value; empty: none
// Returns 0 with *held (give back with held_give), or
//   -EAGAIN  the revision is not here: ask the coordinator, held_add, try again
//   -ENOENT  with why: there is no such revision
//   -ENOKEY  with why: a credential that the model names is not here
//   -EINVAL  with why: the model or the overrides do not work here (option, provider)
MUST_CHECK int held_take(struct held_cache *cache, struct slice name, uint32_t revision,
                         struct slice overrides, struct held **held, struct error *why);
void held_give(struct held **held);

// held_add keeps a revision that the coordinator sent; empty sql: there is no such revision.
void held_add(struct held_cache *cache, struct slice name, uint32_t revision, struct slice sql);

// held_mask replaces the model's credential in text by stars. text has room for size bytes.
void held_mask(const struct held *held, char *text);

#endif
