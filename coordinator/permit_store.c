// Runs permit_sync.lua for the core. Called by main.
#include "coordinator/permit_store.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/redis.h"

#include <stdlib.h>

struct permit_store {
    struct redis *redis;
    char *holder;
    permit_reply_fn *on_reply;
    void *arg;
    bool closed;
};

// One request that is under way.
struct asked {
    struct permit_store *store;
    struct slice pool; // owned
};

#define SCRIPT(name, text) {#name, text},
static const struct redis_script SCRIPTS[] = {
#include "coordinator/scripts.inc"
};
#undef SCRIPT

static void on_ready(void *arg) {
    (void)arg;
    log_info("limits.ready", "redis=connected");
}

static void on_lost(void *arg, const char *reason) {
    struct permit_store *store = arg;
    if (!store->closed) {
        log_warn("limits.lost", "why=\"%s\"", reason);
    }
}

struct permit_store *permit_store_new(struct loop *loop, const char *address, const char *holder,
                                      permit_reply_fn *on_reply, void *arg, struct error *why) {
    struct permit_store *store = mem_zalloc(sizeof(*store));
    struct redis_handlers handlers = {.on_ready = on_ready, .on_lost = on_lost, .arg = store};
    store->on_reply = on_reply;
    store->arg = arg;
    store->holder = mem_dup_str(holder);
    store->redis = redis_new(loop, address, SCRIPTS, sizeof(SCRIPTS) / sizeof(SCRIPTS[0]), &handlers, why);
    if (store->redis == NULL) {
        free(store->holder);
        free(store);
        return NULL;
    }
    return store;
}

void permit_store_free(struct permit_store *store) {
    if (store != NULL) {
        store->closed = true;
        redis_free(store->redis);
        free(store->holder);
        free(store);
    }
}

static void on_script(void *arg, const redisReply *reply) {
    struct asked *asked = arg;
    struct permit_store *store = asked->store;
    struct permit_reply parsed;
    bool ok = false;
    if (reply != NULL && reply->type == REDIS_REPLY_STRING) {
        ok = permit_reply_parse((struct slice){.p = reply->str, .n = reply->len}, &parsed);
    }
    if (reply != NULL && !ok) {
        log_error("limits.reply", "pool=\"%.*s\" got=\"%.200s\"", SLICE_FMT(asked->pool),
                  reply->str != NULL ? reply->str : "");
    }
    if (!store->closed) {
        store->on_reply(store->arg, asked->pool, ok ? &parsed : NULL);
    }
    free((char *)asked->pool.p);
    free(asked);
}

void permit_store_sync(struct permit_store *store, struct slice pool, const struct permit_request *request) {
    struct buf bucket, lease, text;
    buf_init(&bucket, 4096);
    buf_init(&lease, 4096);
    buf_init(&text, 4096);
    struct slice args[3 + PERMIT_ARGS_MAX];
    int rc = buf_addf(&bucket, "hr:{%.*s}:bkt", SLICE_FMT(pool));
    rc |= buf_addf(&lease, "hr:{%.*s}:lease", SLICE_FMT(pool));
    (void)rc; // a pool's name is at most 1 kB
    args[0] = buf_slice(&bucket);
    args[1] = buf_slice(&lease);
    args[2] = slice_of(store->holder);
    size_t n = permit_args(request, &text, args + 3);
    struct asked *asked = mem_zalloc(sizeof(*asked));
    asked->store = store;
    asked->pool = (struct slice){.p = slice_dup(pool), .n = pool.n};
    redis_script(store->redis, "permit_sync", on_script, asked, 2, 1 + n, args);
    buf_free(&text);
    buf_free(&lease);
    buf_free(&bucket);
}
