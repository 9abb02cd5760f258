// What the pools' limits are, for people. Invariant: nothing is changed here but gauges. Called by core.
#include "coordinator/pools_status.h"
#include "common/json.h"
#include "coordinator/core_state.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

// n_ready_of counts calls that could go, and batches that could be made into calls.
static int64_t n_ready_of(const struct pool *pool) {
    return pool->n_ready + (int64_t)pool->n_due;
}

void pools_gauges(struct core *core) {
    struct status *s = core->status;
    s->permits_held = s->calls_waiting = s->pools_blocked = s->pools_stopped = 0;
    for (const struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        s->permits_held += limiter_left(&pool->limiter);
        s->calls_waiting += limiter_is_shared(&pool->limiter) ? n_ready_of(pool) : 0;
        s->pools_blocked += pool->stopped == NULL && pool->blocked_until_us > core->now_us;
        s->pools_stopped += pool->stopped != NULL;
    }
}

// room_of is how many calls may be at the provider at once; 0: as many as there are.
static int64_t room_of(const struct pool *pool) {
    int64_t limit = pool->limiter.config.calls_limit, window = pool->window < 65536 ? (int64_t)pool->window : 0;
    return limit > 0 && (window == 0 || limit < window) ? limit : window;
}

static bool is_paced(const struct limiter *l, int64_t now_us) {
    return limiter_has_rates(l) && (l->n_runs == 0 || l->runs[0].next_us > now_us);
}

static void say_why(const struct pool *pool, int64_t now_us, struct error *why) {
    const struct limiter *l = &pool->limiter;
    int64_t room = room_of(pool);
    why->text[0] = '\0';
    if (pool->stopped != NULL) {
        error_set(why, 0, "stopped: %s: %s", pool->stopped, pool->stopped_why.text);
    } else if (pool->blocked_until_us > now_us) {
        error_set(why, 0, "the provider asked to wait %.1f s more", (double)(pool->blocked_until_us - now_us) / 1e6);
    } else if (pool->breaker.state != BREAKER_CLOSED) {
        int64_t left_us = pool->breaker.until_us - now_us;
        error_set(why, 0, "the provider fails: tried again in %.1f s", left_us > 0 ? (double)left_us / 1e6 : 0.0);
    } else if (l->is_away) {
        error_set(why, 0, "the limits' Redis is away: slower, and no longer than two minutes");
    } else if (n_ready_of(pool) == 0) {
        return;
    } else if (room > 0 && pool->n_inflight >= room) {
        error_set(why, 0, "as many calls at once as may be");
    } else if (l->config.calls_limit > 0 && pool->n_inflight >= l->calls) {
        error_set(why, 0, "others have the calls at once");
    } else if (is_paced(l, now_us)) {
        error_set(why, 0, "the limits set the pace");
    }
}

static int add_models(const struct core *core, const struct pool *pool, struct buf *out) {
    int rc = buf_add_str(out, ",\"models\":[");
    bool first = true;
    for (const struct group *group = core->groups; group != NULL; group = group->hh.next) {
        bool seen = group->pool != pool;
        for (const struct group *before = core->groups; !seen && before != group; before = before->hh.next) {
            seen = before->pool == pool && strcmp(before->model->name, group->model->name) == 0;
        }
        if (!seen) {
            rc |= first ? 0 : buf_add_byte(out, ',');
            rc |= json_add_string(out, slice_of(group->model->name));
            first = false;
        }
    }
    return rc | buf_add_byte(out, ']');
}

static int add_kind(const struct limiter *l, int kind, bool first, struct buf *out) {
    int64_t limit = l->config.limit[kind], said = l->said[kind];
    bool is_day = kind == LIMIT_REQUESTS_DAY || kind == LIMIT_TOKENS_DAY;
    int64_t now = said > 0 && (limit == 0 || said < limit) ? said : limit;
    double scale = l->reply.scale > 0 ? l->reply.scale : 1;
    int rc = first ? 0 : buf_add_byte(out, ',');
    rc |= buf_addf(out, "{\"kind\":\"%s\",\"limit\":%" PRId64 ",\"said\":",
                   limit_kind_name((enum limit_kind)kind), now);
    rc |= said > 0 ? buf_addf(out, "%" PRId64, said) : buf_add_str(out, "null");
    rc |= buf_add_str(out, ",\"level\":");
    rc |= l->reply.of[kind].limit > 0 ? json_add_double(out, l->reply.of[kind].level) : buf_add_str(out, "null");
    rc |= buf_add_str(out, ",\"refill\":");
    rc |= is_day ? buf_add_str(out, "null") : json_add_double(out, floor((double)now * scale * l->share[kind]));
    return rc | buf_add_byte(out, '}');
}

static int add_kinds(const struct limiter *l, struct buf *out) {
    int rc = buf_add_str(out, ",\"kinds\":[");
    bool first = true;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        if (l->config.limit[kind] > 0 || l->said[kind] > 0) {
            rc |= add_kind(l, kind, first, out);
            first = false;
        }
    }
    return rc | buf_add_byte(out, ']');
}

static int add_pool(const struct core *core, const struct pool *pool, int64_t now_us, struct buf *out) {
    const struct limiter *l = &pool->limiter;
    int64_t blocked_us = pool->blocked_until_us > now_us ? pool->blocked_until_us - now_us : 0;
    struct error why;
    say_why(pool, now_us, &why);
    int rc = buf_add_str(out, "{\"pool\":");
    rc |= json_add_string(out, slice_of(pool->name));
    rc |= buf_addf(out, ",\"profile\":\"%s\"", l->config.profile->name);
    rc |= add_models(core, pool, out);
    rc |= buf_add_str(out, ",\"why\":");
    rc |= json_add_string(out, slice_of(why.text));
    rc |= buf_add_str(out, ",\"stopped\":");
    rc |= pool->stopped != NULL ? json_add_string(out, slice_of(pool->stopped)) : buf_add_str(out, "null");
    rc |= buf_addf(out,
                   ",\"blocked_ms\":%" PRId64 ",\"ready\":%" PRId64 ",\"inflight\":%" PRId64 ",\"at_once\":%" PRId64
                   ",\"calls_limit\":%" PRId64 ",\"calls_granted\":%" PRId64 ",\"permits\":%" PRId64
                   ",\"granted\":%" PRIu64 ",\"sent_last_minute\":%" PRId64 ",\"requests\":%" PRIu64,
                   blocked_us / 1000, n_ready_of(pool), pool->n_inflight, room_of(pool), l->config.calls_limit,
                   l->config.calls_limit > 0 ? l->calls : 0, limiter_left(l), l->n_granted, l->n_last_minute,
                   l->number);
    rc |= buf_add_str(out, ",\"scale\":");
    rc |= json_add_double(out, l->reply.scale > 0 ? l->reply.scale : 1);
    rc |= buf_addf(out, ",\"away\":%s", l->is_away ? "true" : "false");
    rc |= add_kinds(l, out);
    return rc | buf_add_byte(out, '}');
}

int pools_json(const struct core *core, int64_t now_us, struct buf *out) {
    int rc = buf_add_str(out, "{\"pools\":[");
    for (const struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        rc |= pool != core->pools ? buf_add_byte(out, ',') : 0;
        rc |= add_pool(core, pool, now_us, out);
    }
    return rc | buf_add_str(out, "]}");
}
