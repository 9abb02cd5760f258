// A provider's limits. Invariant: a request's charges are made by quota_admit and quota_end alone,
// for all meters of its pool at once. The stranger is a client like others, with one small call every
// STRANGER_US, made up for whenever the pool is looked at. Called by serve, control, tell.
#include "tests/provider/quota.h"
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define POOLS_MAX         100000
#define MINUTE_US         INT64_C(60000000)
#define STRANGER_US       INT64_C(100000)
#define STRANGER_CATCH_UP 36000 // an hour of calls is made up for one by one; what was before is one

const struct limit_row quota_rows[LIMIT_COUNT] = {
#define LIMIT(id_, field_, option_, kind_, window_, words_, quota_) \
    [LIMIT_##id_] = {.option = option_, \
                     .kind = LIMIT_OF_##kind_, \
                     .window = LIMIT_A_##window_, \
                     .words = words_, \
                     .quota = quota_},
#include "tests/provider/quota.def"
#undef LIMIT
};

_Static_assert(LIMIT_CONCURRENCY == LIMIT_COUNT - 1, "those before it have a meter");

// --- pools ---------------------------------------------------------------------------------------

void quota_init(struct quota *quota, const struct quota_config *config) {
    *quota = (struct quota){.config = *config};
    if (quota->config.burst_us == 0) {
        quota->config.burst_us = config->mode == METER_PER_SECOND ? 2000000 : MINUTE_US;
    }
}

void quota_free(struct quota *quota) {
    struct quota_pool *pool, *next;
    HASH_ITER(hh, quota->pools, pool, next) {
        HASH_DEL(quota->pools, pool);
        for (int i = 0; i < LIMIT_COUNT; i++) {
            meter_free(&pool->meters[i]);
        }
        free(pool);
    }
}

bool quota_are_on(const struct quota *quota) {
    for (int i = 0; i < LIMIT_COUNT; i++) {
        if (quota->config.most[i] > 0) {
            return true;
        }
    }
    return false;
}

static struct quota_pool *pool_new(struct quota *quota, uint64_t id, uint64_t key,
                                    struct slice model, int64_t now_us) {
    const struct quota_config *c = &quota->config;
    struct quota_pool *pool = mem_zalloc(sizeof(*pool));
    pool->id = id;
    pool->key = key;
    (void)slice_copy(model, pool->model, sizeof(pool->model));
    pool->stranger_at_us = now_us;
    for (int i = 0; i < LIMIT_COUNT; i++) {
        bool day = quota_rows[i].window == LIMIT_A_DAY;
        meter_init(&pool->meters[i], day ? METER_FIXED : c->mode, c->most[i],
                   day ? c->day_us : MINUTE_US, c->burst_us, now_us);
    }
    HASH_ADD(hh, quota->pools, id, sizeof(pool->id), pool);
    return pool;
}

struct quota_pool *quota_pool(struct quota *quota, uint64_t key, struct slice model, int64_t now_us) {
    key = quota->config.by_key ? key : 0;
    model = quota->config.by_model ? model : SLICE_NONE;
    uint64_t id = XXH3_64bits_withSeed(model.n > 0 ? model.p : "", model.n, key);
    struct quota_pool *pool = NULL;
    HASH_FIND(hh, quota->pools, &id, sizeof(id), pool);
    if (pool == NULL && HASH_COUNT(quota->pools) >= POOLS_MAX) {
        id = 0;
        HASH_FIND(hh, quota->pools, &id, sizeof(id), pool);
    }
    return pool != NULL ? pool : pool_new(quota, id, key, model, now_us);
}

// --- the stranger --------------------------------------------------------------------------------

static void stranger_spend(struct quota *quota, struct quota_pool *pool, double ticks, int64_t at_us) {
    for (int i = 0; i < LIMIT_COUNT; i++) {
        struct meter *m = &pool->meters[i];
        if (m->most == 0 || quota_rows[i].kind == LIMIT_OF_OPEN) {
            continue;
        }
        double *carry = &pool->stranger_carry[i];
        *carry += quota->config.stranger * (double)m->most * ticks * (double)STRANGER_US /
                  (double)m->window_us;
        int64_t n = (int64_t)*carry, left = meter_left(m, at_us);
        *carry -= (double)n;
        n = n < left ? n : left; // what does not fit, it is refused
        if (n > 0) {
            meter_add(m, n, at_us);
            pool->stranger_spent[i] += n;
        }
    }
}

static void stranger_advance(struct quota *quota, struct quota_pool *pool, int64_t now_us) {
    int64_t ticks = (now_us - pool->stranger_at_us) / STRANGER_US;
    if (quota->config.stranger <= 0) {
        pool->stranger_at_us = now_us;
        return;
    }
    if (ticks > STRANGER_CATCH_UP) {
        pool->stranger_at_us += (ticks - STRANGER_CATCH_UP) * STRANGER_US;
        stranger_spend(quota, pool, (double)(ticks - STRANGER_CATCH_UP), pool->stranger_at_us);
        ticks = STRANGER_CATCH_UP;
    }
    for (; ticks > 0; ticks--) {
        pool->stranger_at_us += STRANGER_US;
        stranger_spend(quota, pool, 1, pool->stranger_at_us);
    }
}

// --- admission -----------------------------------------------------------------------------------

static int64_t amount_of(enum limit_kind kind, const struct quota_ask *ask, int64_t output) {
    switch (kind) {
    case LIMIT_OF_REQUESTS:
        return 1;
    case LIMIT_OF_TOKENS:
        return ask->input_tokens + output;
    case LIMIT_OF_INPUT:
        return ask->input_tokens;
    case LIMIT_OF_OUTPUT:
        return output;
    default:
        return 0;
    }
}

// refuse_open says how concurrency refuses: when a place will be free nobody knows.
static struct quota_refusal refuse_open(const struct quota *quota, const struct quota_pool *pool) {
    return (struct quota_refusal){
        .limit = LIMIT_CONCURRENCY, .wait_us = 1000000, .asked = 1, .used = pool->n_open};
}

// find_refusal returns whether some limit refuses, and fills in the one that waits longest.
static bool find_refusal(struct quota *quota, struct quota_pool *pool, const struct quota_ask *ask,
                         int64_t output, int64_t now_us, struct quota_refusal *refusal) {
    int64_t most_open = quota->config.most[LIMIT_CONCURRENCY];
    bool refused = most_open > 0 && pool->n_open >= most_open;
    if (refused) {
        *refusal = refuse_open(quota, pool);
    }
    for (int i = 0; i < LIMIT_CONCURRENCY; i++) {
        int64_t n = amount_of(quota_rows[i].kind, ask, output);
        n = n > 0 ? n : 1; // what will be charged afterwards needs something left, too
        if (meter_fits(&pool->meters[i], n, now_us)) {
            continue;
        }
        int64_t wait_us = meter_wait_us(&pool->meters[i], n, now_us);
        if (!refused || wait_us < 0 || (refusal->wait_us >= 0 && wait_us > refusal->wait_us)) {
            int64_t left = meter_left(&pool->meters[i], now_us);
            *refusal = (struct quota_refusal){
                .limit = (enum limit)i,
                .wait_us = wait_us,
                .asked = n,
                .used = pool->meters[i].most - (left > 0 ? left : 0),
            };
        }
        refused = true;
    }
    return refused;
}

// count_refused charges a request for nothing; a bucket is not drawn below 0 by that.
static void count_refused(struct quota_pool *pool, int64_t now_us) {
    for (int i = 0; i < LIMIT_CONCURRENCY; i++) {
        struct meter *m = &pool->meters[i];
        bool counts = m->mode == METER_FIXED || m->mode == METER_SLIDING;
        if (quota_rows[i].kind == LIMIT_OF_REQUESTS && (counts || meter_fits(m, 1, now_us))) {
            meter_add(m, 1, now_us);
        }
    }
}

bool quota_admit(struct quota *quota, struct quota_pool *pool, const struct quota_ask *ask,
                  int64_t now_us, int64_t *early_output, struct quota_refusal *refusal) {
    stranger_advance(quota, pool, now_us);
    int64_t output = quota->config.charge_max ? ask->most_output : 0;
    if (find_refusal(quota, pool, ask, output, now_us, refusal)) {
        pool->n_refused++;
        if (quota->config.count_refused) {
            count_refused(pool, now_us);
        }
        return false;
    }
    for (int i = 0; i < LIMIT_CONCURRENCY; i++) {
        meter_add(&pool->meters[i], amount_of(quota_rows[i].kind, ask, output), now_us);
    }
    pool->n_admitted++;
    pool->n_open++;
    *early_output = output;
    return true;
}

int64_t quota_end(struct quota *quota, struct quota_pool *pool, int64_t early_output,
                   int64_t output_tokens, int64_t now_us) {
    pool->n_open--;
    if (early_output > 0) {
        return 0;
    }
    stranger_advance(quota, pool, now_us);
    for (int i = 0; i < LIMIT_CONCURRENCY; i++) {
        enum limit_kind kind = quota_rows[i].kind;
        if (kind == LIMIT_OF_OUTPUT || kind == LIMIT_OF_TOKENS) {
            meter_add(&pool->meters[i], output_tokens, now_us);
        }
    }
    return output_tokens;
}

// --- control -------------------------------------------------------------------------------------

void quota_set(struct quota *quota, enum limit limit, int64_t most, int64_t now_us) {
    struct quota_pool *pool, *next;
    HASH_ITER(hh, quota->pools, pool, next) {
        stranger_advance(quota, pool, now_us);
        meter_set(&pool->meters[limit], most, now_us);
    }
    quota->config.most[limit] = most;
}

void quota_set_stranger(struct quota *quota, double share, int64_t now_us) {
    struct quota_pool *pool, *next;
    HASH_ITER(hh, quota->pools, pool, next) {
        stranger_advance(quota, pool, now_us);
    }
    quota->config.stranger = share;
}

int64_t quota_left(struct quota *quota, struct quota_pool *pool, enum limit limit, int64_t now_us) {
    int64_t most = quota->config.most[limit];
    if (quota_rows[limit].kind == LIMIT_OF_OPEN) {
        int64_t left = most > pool->n_open ? most - pool->n_open : 0;
        return most > 0 ? left : INT64_MAX;
    }
    stranger_advance(quota, pool, now_us);
    int64_t left = meter_left(&pool->meters[limit], now_us);
    return left > 0 ? left : 0;
}

void quota_take_stranger(struct quota_pool *pool, int64_t spent[LIMIT_COUNT]) {
    memcpy(spent, pool->stranger_spent, sizeof(pool->stranger_spent));
    memset(pool->stranger_spent, 0, sizeof(pool->stranger_spent));
}
