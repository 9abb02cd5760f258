// The shared limits of the simulated Redis, and the checker over them:
//   P  in any minute no more calls go out than the limit, as the profile counts (a call that came back
//      unsent is none); no more at once than the limit of that; a request that may have been carried out is
//      made again under its number; and what is given back is no more than what was granted and not used
// Called by coord.c (requests), check_calls.c (calls that go out) and sim.c.
#include "common/mem.h"
#include "coordinator/core_state.h"
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_US INT64_C(1000000000000000) // of Redis's clock
#define MINUTE_US 60000000

// One request under way.
struct asked {
    int coord, pool;
    uint64_t coord_life, conn;
    struct permit_request request;
    bool is_lost;
    struct permit_reply reply;
};

static bool is_other(struct slice name) {
    return name.n > 8 && memcmp(name.p + name.n - 8, ":another", 8) == 0;
}

static struct sim_pool *pool_of(struct sim *sim, struct slice name) {
    struct sim_pool *pool = &sim->pools[is_other(name)];
    if (pool->kept == NULL) {
        pool->kept = mem_zalloc(sizeof(*pool->kept));
        slice_copy(name, pool->name, sizeof(pool->name));
    }
    if (!slice_is(name, pool->name)) {
        sim_fail(sim, "P: a pool that no model has: %.*s", SLICE_FMT(name));
    }
    return pool;
}

void permits_start(struct coord *c) {
    memset(c->talks, 0, sizeof(c->talks));
}

void permits_free(struct sim *sim) {
    for (int i = 0; i < POOLS_MAX; i++) {
        free(sim->pools[i].kept);
        free(sim->pools[i].sent);
    }
}

// ---- Requests ---------------------------------------------------------------------------------------

static void on_answer(struct sim *sim, struct event *event) {
    struct asked *a = event->p;
    struct coord *c = &sim->coords[a->coord];
    bool is_lost = a->is_lost || !c->conn.on || c->conn.n != a->conn;
    struct permit_talk *talk = &c->talks[a->pool];
    talk->unanswered = is_lost ? a->request.number : 0;
    talk->granted += is_lost ? 0 : a->reply.of[LIMIT_REQUESTS].granted;
    core_permits(c->core, sim->now_us, slice_of(sim->pools[a->pool].name), is_lost ? NULL : &a->reply);
    coord_event(sim, c);
}

static void on_asked(struct sim *sim, struct event *event) {
    struct asked *a = event->p;
    struct coord *c = &sim->coords[a->coord];
    struct sim_redis *redis = &sim->redis;
    if (redis->life.on && life_is_paused(sim, &redis->life)) {
        struct event *again = sim_at(sim, redis->life.paused_until_us, on_asked, NULL, NULL);
        again->p = a;
        again->drop = free;
        event->p = NULL;
        return;
    }
    a->is_lost |= !redis->life.on;
    if (redis->life.on) {
        char holder[32], text[PERMIT_REPLY_MAX];
        snprintf(holder, sizeof(holder), "%s-%d", c->name, (int)a->coord_life);
        int64_t clock_us = FIRST_US + sim->now_us + redis->clock_off_ms * 1000;
        int rc = permit_model_sync(sim->pools[a->pool].kept, clock_us, holder, &a->request, text);
        if (rc != 0 || !permit_reply_parse(slice_of(text), &a->reply)) {
            sim_fail(sim, "P: request %" PRIu64 " of %s cannot be carried out", a->request.number, holder);
            return;
        }
        sim_trace(sim, "%s: permits %" PRIu64 ": %s", holder, a->request.number, text);
    }
    if (c->life.n != a->coord_life) {
        return; // nobody hears the answer
    }
    a->is_lost |= sim_faulty(sim) && sim_chance(sim, 20);
    struct event *answer = sim_in(sim, sim_between(sim, 50, 3000), on_answer, &c->life, c);
    answer->p = a;
    answer->drop = free;
    event->p = NULL;
}

static void check_asked(struct sim *sim, struct permit_talk *talk, const struct permit_request *r) {
    if (talk->unanswered != 0 && talk->unanswered != r->number) {
        sim_fail(sim, "P: request %" PRIu64 " for permits may have been carried out, and %" PRIu64 " is made instead",
                 talk->unanswered, r->number);
    }
    if (talk->unanswered != 0) {
        return; // it says what it said
    }
    talk->back += r->of[LIMIT_REQUESTS].back - r->of[LIMIT_REQUESTS].owed;
    double most = talk->granted - talk->n_sent + talk->n_unsent;
    if (sim->limit_rpm > 0 && talk->back > most + 0.001) {
        sim_fail(sim, "P: %.3f calls are given back, and %.3f were granted and not used", talk->back, most);
    }
}

void permits_ask(void *arg, struct slice name, const struct permit_request *request) {
    struct coord *c = arg;
    struct sim *sim = c->sim;
    struct sim_pool *pool = pool_of(sim, name);
    struct asked *a = mem_zalloc(sizeof(*a));
    *a = (struct asked){.coord = c->index, .pool = (int)(pool - sim->pools), .coord_life = c->life.n,
                        .conn = c->conn.n, .request = *request};
    check_asked(sim, &c->talks[a->pool], request);
    struct event *event = sim_in(sim, sim_between(sim, 50, 3000), on_asked, NULL, NULL);
    event->p = a;
    event->drop = free;
}

// ---- Calls ------------------------------------------------------------------------------------------

// most_a_minute: a bucket gives what it holds on top; faults may shift a run of two seconds at most.
static int64_t most_a_minute(const struct sim *sim) {
    int64_t limit = sim->limit_rpm, most = limit;
    most += sim->is_window ? 0 : limit / 200 + 2;
    return sim->is_quiet ? most : most + limit / 12 + 2;
}

static void check_minute(struct sim *sim, struct sim_pool *pool) {
    if (pool->n_sent == pool->cap_sent) {
        pool->cap_sent = pool->cap_sent > 0 ? pool->cap_sent * 2 : 256;
        pool->sent = mem_realloc(pool->sent, pool->cap_sent * sizeof(*pool->sent));
    }
    pool->sent[pool->n_sent++] = sim->now_us;
    int64_t most = most_a_minute(sim);
    if (sim->limit_rpm > 0 && pool->n_sent > (size_t)most &&
        sim->now_us - pool->sent[pool->n_sent - 1 - (size_t)most] < MINUTE_US) {
        sim_fail(sim, "P: more than %d calls within a minute, %d are allowed", (int)most, (int)sim->limit_rpm);
    }
}

void check_permit_used(struct sim *sim, struct coord *c, bool is_other_pool) {
    c->talks[is_other_pool].n_sent++;
    if (!sim->rolled_back) {
        check_minute(sim, &sim->pools[is_other_pool]);
    }
    for (const struct pool *pool = c->core->pools; pool != NULL; pool = pool->hh.next) {
        bool is_it = is_other(slice_of(pool->name)) == is_other_pool;
        if (is_it && sim->limit_at_once > 0 && pool->n_inflight + 1 > sim->limit_at_once) {
            sim_fail(sim, "P: call %d at once, %d are allowed", (int)pool->n_inflight + 1, (int)sim->limit_at_once);
        }
    }
}

void check_permit_unsent(struct sim *sim, struct coord *c, uint64_t ask) {
    struct ask *a = &sim->asks[ask];
    struct sim_pool *pool = &sim->pools[a->other_pool];
    for (size_t i = pool->n_sent; i-- > 0 && !a->uncounted;) { // it goes again, and is counted then
        if (pool->sent[i] == a->at_us) {
            memmove(pool->sent + i, pool->sent + i + 1, (--pool->n_sent - i) * sizeof(*pool->sent));
            a->uncounted = true;
        }
    }
    c->talks[a->other_pool].n_unsent += a->coord == c->index && a->coord_life == c->life.n;
}
