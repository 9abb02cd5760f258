// One request for some records of a batch, and where it is. Invariant: a call is in exactly one place:
// its pool's ready list or, when it is a suspect, its list of those (READY), the heap (WAITING), or its
// worker's list (SENT). Called by dispatch.
#include "coordinator/call.h"
#include "common/mem.h"
#include "coordinator/budget.h"
#include "coordinator/collect.h"
#include "coordinator/marks.h"
#include "coordinator/retry.h"
#include "coordinator/roster.h"
#include "coordinator/waiting.h"

#include <assert.h>
#include <stdlib.h>

static struct pool *pool_of(const struct call *call) {
    return call->batch->lane->group->pool;
}

struct call *call_new(struct batch *batch, const uint16_t *slots, size_t n_slots) {
    assert(n_slots > 0);
    struct call *call = mem_zalloc(sizeof(*call));
    call->batch = batch;
    call->slots = (uint16_t *)mem_dup(slots, n_slots * sizeof(*slots));
    call->n_slots = n_slots;
    DL_APPEND(batch->calls, call);
    return call;
}

static bool is_suspect(const struct call *call) {
    return call->n_lost >= RETRY_LOST_SUSPECT;
}

static struct call **ready_list(const struct call *call) {
    struct pool *pool = pool_of(call);
    if (call->parked != NULL) {
        return &call->parked->parked;
    }
    return is_suspect(call) ? &pool->suspects : &pool->ready;
}

void call_leave(struct core *core, struct call *call) {
    switch (call->state) {
    case CALL_READY:
        DL_DELETE2(*ready_list(call), call, ready_prev, ready_next);
        pool_of(call)->n_ready--;
        break;
    case CALL_WAITING:
        waiting_remove(core, call);
        break;
    case CALL_SENT:
        roster_unload(core, call);
        if (call->tries_out) {
            breaker_again(&pool_of(call)->breaker, core->now_us);
            call->tries_out = false;
        }
        budget_give_back(core, call);
        pool_of(call)->n_inflight--;
        core->n_sent--;
        break;
    }
}

void call_enter(struct core *core, struct call *call, enum call_state state, bool in_front) {
    struct pool *pool = pool_of(call);
    call->state = state;
    call->next_number = 0;
    switch (state) {
    case CALL_READY:
        pool->n_ready++;
        if (in_front) {
            DL_PREPEND2(*ready_list(call), call, ready_prev, ready_next);
        } else {
            DL_APPEND2(*ready_list(call), call, ready_prev, ready_next);
        }
        break;
    case CALL_WAITING:
        marks_drop(call); // it will not go soon
        waiting_add(core, call);
        break;
    case CALL_SENT:
        call->parked = NULL;
        budget_take(core, call);
        pool->n_inflight++;
        core->n_sent++;
        break;
    }
}

void call_free(struct core *core, struct call *call) {
    marks_touch(call->batch);
    if (call->state == CALL_SENT && !call->reported) {
        collect_expect_late(core, call);
    }
    call_leave(core, call);
    DL_DELETE(call->batch->calls, call);
    free(call->slots);
    free(call);
}

// unanswered lists the slots that have no result; returns how many.
static size_t unanswered(const struct batch *batch, uint16_t *slots) {
    size_t n = 0;
    for (size_t i = 0; i < batch->n; i++) {
        if (!batch->entries[i].answered) {
            slots[n++] = (uint16_t)i;
        }
    }
    return n;
}

struct call *call_whole(struct batch *batch) {
    uint16_t slots[MODEL_BATCH_MAX];
    size_t n = unanswered(batch, slots);
    return n > 0 ? call_new(batch, slots, n) : NULL;
}

bool call_drop_answered(struct call *call) {
    size_t n = 0;
    for (size_t i = 0; i < call->n_slots; i++) {
        if (!call->batch->entries[call->slots[i]].answered) {
            call->slots[n++] = call->slots[i];
        }
    }
    call->n_slots = n;
    return n > 0;
}
