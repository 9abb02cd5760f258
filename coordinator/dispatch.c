// Gives the calls of batches to workers that have credit, within what the pool permits. Invariant: none leaves
// that its pool does not permit, or whose mark is not durable.
// Called by collect (again, done) and core (wake, pump).
#include "coordinator/dispatch.h"
#include "coordinator/budget.h"
#include "coordinator/call.h"
#include "coordinator/collect.h"
#include "coordinator/fill.h"
#include "coordinator/flow.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "coordinator/permits.h"
#include "coordinator/roster.h"
#include "coordinator/waiting.h"
#include "proto/record.h"

#include <assert.h>
#include <string.h>

#define SLOTS_KEPT 10          // one slot in so many is kept for interactive calls
#define REPEAT_WAIT_US 1000000 // a repeat beyond the retry budget asks again
#define VALID_MS 5000          // a call that cannot start this soon comes back unsent

// ---- Calls ------------------------------------------------------------------------------------------

void dispatch_again(struct core *core, struct call *like, const uint16_t *slots, size_t n_slots,
                    int64_t delay_ms) {
    if (n_slots == 0) {
        return;
    }
    struct call *call = call_new(like->batch, slots, n_slots);
    call->tries = like->tries;
    call->n_ambiguous = like->n_ambiguous;
    call->n_lost = like->n_lost;
    call->reasked = like->reasked;
    call->seen = like->seen;
    call->is_retry = true;
    call->is_repeat = like->is_repeat;
    call->online = like->online;
    delay_ms = call->is_repeat && delay_ms < 1 ? 1 : delay_ms;
    call->not_before_us = core->now_us + delay_ms * 1000;
    call_enter(core, call, delay_ms > 0 ? CALL_WAITING : CALL_READY, true);
}

void dispatch_done(struct core *core, struct call *call) {
    call_free(core, call);
}

size_t dispatch_not_elsewhere(const struct call *call, const uint16_t *slots, size_t n_slots,
                              uint16_t *mine) {
    bool asked[MODEL_BATCH_MAX] = {0};
    for (const struct call *other = call->batch->calls; other != NULL; other = other->next) {
        for (size_t i = 0; other != call && i < other->n_slots; i++) {
            asked[other->slots[i]] = true;
        }
    }
    size_t n = 0;
    for (size_t i = 0; i < n_slots; i++) {
        if (!asked[slots[i]]) {
            mine[n++] = slots[i];
        }
    }
    return n;
}

void dispatch_return(struct core *core, struct call *call) {
    uint16_t mine[MODEL_BATCH_MAX];
    size_t n = dispatch_not_elsewhere(call, call->slots, call->n_slots, mine);
    if (n == 0) {
        call->reported = true; // it was never received: no report will come
        call_free(core, call);
        return;
    }
    memcpy(call->slots, mine, n * sizeof(*mine));
    call->n_slots = n;
    call_leave(core, call);
    marks_drop(call); // it goes under another number
    call_enter(core, call, CALL_READY, true);
    marks_touch(call->batch);
}

struct call *dispatch_find(struct batch *batch, uint64_t number) {
    for (struct call *call = batch->calls; call != NULL; call = call->next) {
        if (call->state == CALL_SENT && call->number == number) {
            return call;
        }
    }
    return NULL;
}

// ---- Sending ----------------------------------------------------------------------------------------

static int64_t valid_ms(const struct model_options *o) {
    return o->worker_lost_ms / 2 < VALID_MS ? o->worker_lost_ms / 2 : VALID_MS;
}

// not_after is the time on the worker's clock until which this coordinator will surely not give the
// call to another one: worker.lost.ms after it last heard the worker, or two heartbeats, since a worker
// is lost after three. A dispatch that comes out of some buffer later must not be carried out.
static uint64_t not_after(const struct core *core, const struct worker *worker,
                          const struct model_options *o) {
    int64_t least_ms = 2 * core->config->heartbeat_ms;
    int64_t ms = o->worker_lost_ms > least_ms ? o->worker_lost_ms : least_ms;
    return worker->its_us > 0 ? worker->its_us + (uint64_t)ms * 1000 : 0;
}

#define CORRECTIONS_MAX (MODEL_BATCH_MAX * (CORRECTION_MAX + 32)) // the slot and outcome stand beside it

// add_corrections lists why earlier answers for a call's records did not fit.
static void add_corrections(struct call *call, struct buf *out) {
    for (size_t i = 0; i < call->n_slots; i++) {
        struct entry *e = &call->batch->entries[call->slots[i]];
        if (e->correction != NULL) {
            e->is_told = call->corrects = true;
            int rc = item_pack(out, call->slots[i], OUTCOME_BAD_VALUE, slice_of(e->correction));
            assert(rc == 0);
        }
    }
}

static void count_wait(struct core *core, const struct call *call) {
    struct histogram *const waits[MODEL_PRIORITIES] = {
        [PRIORITY_INTERACTIVE] = &core->status->wait_interactive,
        [PRIORITY_NORMAL] = &core->status->wait_normal,
        [PRIORITY_BULK] = &core->status->wait_bulk,
    };
    histogram_add(waits[call->group->flow->priority], core->now_us - call->ready_us);
}

static int send_call(struct core *core, struct call *call, struct worker *worker) {
    struct batch *batch = call->batch;
    const struct group *group = call->group;
    assert(call->next_number != 0); // its mark says it
    struct buf *records = &core->scratch;
    buf_clear(records);
    for (size_t i = 0; i < call->n_slots; i++) {
        const struct entry *e = &batch->entries[call->slots[i]];
        int rc = record_pack(records, call->slots[i], entry_values(batch, e));
        assert(rc == 0);
    }
    struct buf corrections;
    buf_init(&corrections, CORRECTIONS_MAX);
    add_corrections(call, &corrections);
    struct message message = {
        .kind = MESSAGE_DISPATCH,
        .dispatch =
            {
                .batch = batch->id,
                .call = call->next_number,
                .model = slice_of(group->model->name),
                .revision = group->model->revision,
                .overrides = group->options,
                .count = call->n_slots,
                .records = buf_slice(records),
                .valid_ms = (uint64_t)valid_ms(&group->model->options),
                .not_after = not_after(core, worker, &group->model->options),
                .corrections = buf_slice(&corrections),
            },
    };
    int rc = core->io->send(core->io->arg, route_slice(&worker->route), &message);
    buf_free(&corrections);
    if (rc != 0) {
        return rc;
    }
    flow_sent(call);
    count_wait(core, call);
    call->number = (uint32_t)message.dispatch.call;
    permits_spend(core, call);
    for (size_t i = 0; i < call->n_slots; i++) {
        batch->entries[call->slots[i]].n_calls++;
    }
    call_to_worker(core, call, worker, (int64_t)records->n);
    return 0;
}

// others_may_send says whether a call that is not interactive may go: where there are interactive ones,
// a tenth of the pool's slots and of the workers' credit stays theirs.
static bool others_may_send(const struct core *core, const struct pool *pool) {
    int64_t most = pool_at_once(pool);
    if (core->io->permit != NULL) { // of what is granted, where coordinators share the slots
        int64_t granted = limiter_at_once(&pool->limiter, core->now_us);
        most = granted < most ? granted : most;
    }
    if (pool->kept_until_us > core->now_us) {
        most -= most / SLOTS_KEPT;
    }
    return pool->n_inflight - pool->n_interactive < most &&
           core->n_sent - core->n_interactive < core->others_credit;
}

// room_of says how many more calls the pool and the workers have room for now.
static int64_t room_of(const struct core *core, const struct pool *pool) {
    int64_t permitted = pool_room(core, pool);
    return permitted > 0 ? roster_room(core, pool, permitted) : 0;
}

static bool is_held(const struct core *core, const struct pool *pool) {
    return pool->stopped != NULL || pool->blocked_until_us > core->now_us ||
           breaker_room(&pool->breaker, core->now_us) <= 0;
}

static void drop_answered(struct core *core, struct flow_class *class) {
    struct call *call, *next;
    DL_FOREACH_SAFE2(class->chosen, call, next, ready_next) {
        if (!call_drop_answered(call)) {
            call_free(core, call);
        }
    }
}

// choose_calls lets the flows of each class have their turns, until calls are chosen for all the room that
// there is now, and for what will go next: core->ahead. Batches that are due are sealed as far as there is
// room and nothing else is ready: their calls are ready now, or once their last records are durable.
static void choose_calls(struct core *core, struct pool *pool) {
    int64_t room = is_held(core, pool) ? 0 : room_of(core, pool);
    int64_t most = is_held(core, pool) ? 0 : room + core->ahead;
    bool may_seal = roster_next(core, pool) != NULL && pool_may_send(core, pool);
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        struct flow_class *class = &pool->classes[i];
        struct flow *flow;
        drop_answered(core, class);
        while (class->n_chosen < most &&
               (flow = flow_next(class, may_seal && class->n_chosen + class->n_sealing < room)) != NULL) {
            if (flow->ready == NULL) {
                fill_seal(core, flow->due);
            } else if (!call_drop_answered(flow->ready)) {
                call_free(core, flow->ready);
            } else if (budget_may_send(core, flow->ready)) { // else it is parked until there is money
                flow_choose(flow);
            }
        }
    }
    flow_start(pool, room);
}

// send_one sends one of the pool's chosen calls whose mark is durable, if one may go. Returns whether it did.
static bool send_one(struct core *core, struct pool *pool) {
    struct worker *worker;
    while ((worker = roster_next(core, pool)) != NULL && pool_may_send(core, pool)) {
        struct call *call = flow_pick(pool, others_may_send(core, pool));
        if (call == NULL) {
            return false;
        }
        if (!call_drop_answered(call)) {
            call_free(core, call);
            continue;
        }
        if (!budget_may_send(core, call)) {
            continue; // parked until there is money
        }
        if (send_call(core, call, worker) == 0) {
            return true;
        }
        roster_lose(core, worker, "unreachable");
    }
    return false;
}

// mark_chosen asks for the marks of chosen calls. How many are chosen ahead grows while workers wait for
// marks, and shrinks with time: marks_tick. Where the pool is held, what was marked will not go soon.
static void mark_chosen(struct core *core, struct pool *pool) {
    bool held = is_held(core, pool);
    int64_t room = room_of(core, pool), n_late = 0;
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        int64_t n = 0;
        for (struct call *call = pool->classes[i].chosen; call != NULL; call = call->ready_next, n++) {
            if (held) {
                marks_drop(call);
            } else {
                marks_ask(call, n < room);
                n_late += n < room && !marks_hold(call);
            }
        }
    }
    core->ahead += n_late < core->ahead / 2 + 1 ? n_late : core->ahead / 2 + 1;
    core->ahead = core->ahead < core->n_sent ? core->ahead : core->n_sent;
    for (int i = 0; i < MODEL_PRIORITIES && !held; i++) {
        struct flow_class *class = &pool->classes[i];
        class->may_mark = room + core->ahead - class->n_chosen - class->n_ahead;
    }
}

// next_suspect finds a suspect that may go to a worker now, or NULL.
static struct call *next_suspect(struct core *core, const struct worker *worker) {
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        struct call *call, *next;
        DL_FOREACH_SAFE2(pool->suspects, call, next, ready_next) {
            if (!pool_may_send(core, pool) || !roster_serves(worker, pool)) {
                break;
            }
            if (!call_drop_answered(call)) {
                call_free(core, call);
            } else if (!budget_may_send(core, call)) {
                continue; // parked until there is money
            } else if (marks_hold(call)) {
                return call;
            } else {
                marks_ask(call, true);
            }
        }
    }
    return NULL;
}

// spare_worker finds the worker with the fewest calls that could be reserved for a suspect, or NULL.
static struct worker *spare_worker(struct core *core) {
    struct worker *best = NULL;
    for (struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        if (!w->lost && !w->resting && !w->reserved && w->n_untaken < w->max_inflight &&
            (best == NULL || w->n_inflight < best->n_inflight) && next_suspect(core, w) != NULL) {
            best = w;
        }
    }
    return best;
}

// pump_suspects sends suspects, each to a worker that has nothing else to do; at most half of the
// workers serve them, but one always does.
static void pump_suspects(struct core *core) {
    size_t n_workers = 0;
    for (struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        struct call *call = w->reserved && w->n_inflight == 0 ? next_suspect(core, w) : NULL;
        n_workers += !w->lost;
        if (w->reserved && (w->lost || (w->n_inflight == 0 && call == NULL))) {
            roster_reserve(core, w, false);
        } else if (call != NULL && !w->resting && send_call(core, call, w) != 0) {
            roster_lose(core, w, "unreachable");
        }
    }
    struct worker *spare;
    while (core->n_reserved < (n_workers > 2 ? n_workers / 2 : 1) && (spare = spare_worker(core)) != NULL) {
        roster_reserve(core, spare, true);
        struct call *call = spare->n_inflight == 0 ? next_suspect(core, spare) : NULL;
        if (call != NULL && send_call(core, call, spare) != 0) {
            roster_lose(core, spare, "unreachable");
        }
    }
}

void dispatch_wake(struct core *core) {
    struct call *call;
    while ((call = waiting_first(core)) != NULL && call->not_before_us <= core->now_us) {
        if (call->unclaimed && !collect_crashed(core, call)) {
            continue;
        }
        call_leave(core, call);
        if (call->is_repeat && !permits_repeat(core, call->group->pool)) {
            call->not_before_us = core->now_us + REPEAT_WAIT_US;
            call_enter(core, call, CALL_WAITING, false);
            continue;
        }
        call->is_repeat = false;
        call_enter(core, call, CALL_READY, true);
    }
}

int64_t dispatch_next_us(const struct core *core) {
    const struct call *first = waiting_first(core);
    int64_t next = first != NULL ? first->not_before_us : INT64_MAX;
    int64_t permitted = permits_next_us(core);
    return permitted < next ? permitted : next;
}

// measure_credit notes how many calls that are not interactive the workers may have.
static void measure_credit(struct core *core) {
    if (core->kept_until_us <= core->now_us) {
        core->others_credit = INT64_MAX;
        return;
    }
    int64_t credit = 0;
    for (const struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        credit += w->lost ? 0 : w->max_inflight;
    }
    core->others_credit = credit - credit / SLOTS_KEPT;
}

// send_in_turn gives the workers' credit to the pools in turn, call by call.
static void send_in_turn(struct core *core) {
    size_t n_idle = 0;
    while (n_idle < HASH_COUNT(core->pools) && core->free_workers != NULL) {
        struct pool *pool = core->turn != NULL ? core->turn : core->pools;
        core->turn = pool->hh.next;
        n_idle = send_one(core, pool) ? 0 : n_idle + 1;
    }
}

static void no_marks_ahead(struct core *core) {
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        for (int i = 0; i < MODEL_PRIORITIES; i++) {
            pool->classes[i].may_mark = 0;
        }
    }
}

void dispatch_pump(struct core *core) {
    no_marks_ahead(core);
    if (!core->store_ready || core->stalled || !partition_all_leased(core)) {
        return;
    }
    budget_pump(core);
    bool has_suspects = core->n_reserved > 0;
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        has_suspects = has_suspects || pool->suspects != NULL;
    }
    if (has_suspects) {
        pump_suspects(core);
    }
    measure_credit(core);
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        choose_calls(core, pool);
    }
    send_in_turn(core);
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        mark_chosen(core, pool);
    }
}
