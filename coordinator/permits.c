// Pools and what their limits allow now. Invariant: n_inflight is the number of the pool's calls that
// are SENT. Called by dispatch (may_send) and collect (what came back).
#include "coordinator/permits.h"
#include "common/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define POOL_BACKOFF_FIRST_MS 500
#define POOL_BACKOFF_MOST_MS 30000

struct pool *pool_get(struct core *core, const struct model *model) {
    const struct model_options *o = &model->options;
    struct buf key;
    buf_init(&key, 16384);
    // The credential's name, never its value: options hold ${NAME} only.
    int rc = buf_addf(&key, "%s\n%s\n%s\n%s", o->provider, o->endpoint, o->api_key, o->model);
    assert(rc == 0);
    struct pool *pool;
    HASH_FIND_STR(core->pools, key.p, pool);
    if (pool == NULL) {
        pool = mem_zalloc(sizeof(*pool));
        pool->key = buf_take(&key);
        pool->backoff_ms = POOL_BACKOFF_FIRST_MS;
        HASH_ADD_KEYPTR(hh, core->pools, pool->key, strlen(pool->key), pool);
    }
    buf_free(&key);
    pool->limit_inflight = o->limit_concurrency != MODEL_UNSET ? o->limit_concurrency : INT64_MAX;
    return pool;
}

void pool_free(struct core *core, struct pool *pool) {
    HASH_DEL(core->pools, pool);
    free(pool->key);
    free(pool);
}

bool pool_may_send(const struct pool *pool, int64_t now_us) {
    return pool->stopped == NULL && pool->n_inflight < pool->limit_inflight &&
           pool->blocked_until_us <= now_us;
}

void pool_wait(struct pool *pool, int64_t now_us, int64_t retry_after_ms, double draw) {
    int64_t wait_ms = retry_after_ms;
    if (wait_ms <= 0) {
        wait_ms = pool->backoff_ms;
        // Only the first of many refusals that come together doubles the back-off.
        if (pool->blocked_until_us <= now_us) {
            pool->backoff_ms = pool->backoff_ms * 2 < POOL_BACKOFF_MOST_MS ? pool->backoff_ms * 2
                                                                           : POOL_BACKOFF_MOST_MS;
        }
    }
    int64_t until_us = now_us + (int64_t)((double)wait_ms * (1 + 0.1 * draw) * 1000);
    if (until_us > pool->blocked_until_us) {
        pool->blocked_until_us = until_us;
    }
}

void pool_answered(struct pool *pool) {
    pool->backoff_ms = POOL_BACKOFF_FIRST_MS;
}

void pool_stop(struct pool *pool, const char *outcome, struct slice detail) {
    pool->stopped = outcome;
    slice_copy(detail, pool->stopped_why.text, sizeof(pool->stopped_why.text));
}

void pool_resume(struct pool *pool) {
    pool->stopped = NULL;
}
