// One request for some records of a batch, and where it is. Invariant: a call is in exactly one place:
// its flow, its class's chosen ones, the list of the budget that it waits for or, when it is a suspect, its
// pool's list of those (READY), the heap (WAITING), or its worker's list (SENT). Called by dispatch.
#include "coordinator/call.h"
#include "common/mem.h"
#include "coordinator/budget.h"
#include "coordinator/flow.h"
#include "coordinator/job.h"
#include "coordinator/late.h"
#include "coordinator/marks.h"
#include "coordinator/retry.h"
#include "coordinator/roster.h"
#include "coordinator/waiting.h"
#include "proto/record.h"

#include <assert.h>
#include <stdlib.h>

#define KEEP_SLOTS_US 60000000 // after an interactive call

static struct pool *pool_of(const struct call *call) {
    return call->group->pool;
}

size_t call_run(const struct batch *batch, const uint16_t *slots, size_t n_slots) {
    unsigned level = batch->entries[slots[0]].level;
    size_t n = 1, most = (size_t)batch_group(batch, level)->model->options.batch_size;
    while (n < n_slots && (level == 0 || n < most) && batch->entries[slots[n]].level == level) {
        n++;
    }
    return n;
}

void call_ask(struct call *call, struct group *group) {
    if (call->group != NULL) {
        call->group->n_calls--;
    }
    call->group = group;
    group->n_calls++;
}

void call_set_level(struct call *call, unsigned level) {
    struct group *group = batch_group(call->batch, level);
    call->level = level;
    call_ask(call, group->successor != NULL ? group->successor : group);
}

struct call *call_new(struct batch *batch, const uint16_t *slots, size_t n_slots) {
    assert(n_slots > 0);
    struct call *call = mem_zalloc(sizeof(*call));
    call->batch = batch;
    call_set_level(call, batch->entries[slots[0]].level);
    call->slots = (uint16_t *)mem_dup(slots, n_slots * sizeof(*slots));
    call->n_slots = n_slots;
    DL_APPEND(batch->calls, call);
    return call;
}

bool call_is_for_job(const struct call *call) {
    return call->group->jobs != NULL && !call->online;
}

static bool is_suspect(const struct call *call) {
    return call->n_lost >= RETRY_LOST_SUSPECT;
}

// list_of returns where a READY call stands that is in no flow, or NULL.
static struct call **list_of(const struct call *call) {
    if (call->parked != NULL) {
        return &call->parked->parked;
    }
    if (call_is_for_job(call)) {
        return &call->group->to_list;
    }
    return is_suspect(call) ? &pool_of(call)->suspects : NULL;
}

static void leave_ready(struct core *core, struct call *call) {
    if (call->afforded != NULL) {
        call->afforded->n_afforded--;
        call->afforded = NULL;
    }
    pool_of(call)->n_ready--;
    core->n_ready[call->group->flow->priority]--;
    struct call **list = list_of(call);
    if (list != NULL) {
        DL_DELETE2(*list, call, ready_prev, ready_next);
    } else {
        flow_remove(call);
    }
}

static bool is_older(const struct call *a, const struct call *b) {
    int64_t a_us = a->batch->opened_us, b_us = b->batch->opened_us;
    return a_us != b_us ? a_us < b_us : a->batch->id < b->batch->id;
}

// park puts a call behind the parked ones that are older: when money comes they go in their order.
static void park(struct call **list, struct call *call) {
    struct call *before = *list != NULL ? (*list)->ready_prev : NULL; // the tail
    while (before != NULL && is_older(call, before)) {
        before = before != *list ? before->ready_prev : NULL;
    }
    if (before != NULL) {
        DL_APPEND_ELEM2(*list, before, call, ready_prev, ready_next);
    } else {
        DL_PREPEND2(*list, call, ready_prev, ready_next);
    }
}

static void enter_ready(struct core *core, struct call *call, bool in_front) {
    struct call **list = list_of(call);
    call->ready_us = core->now_us;
    pool_of(call)->n_ready++;
    core->n_ready[call->group->flow->priority]++;
    if (list == NULL) {
        flow_add(call, in_front);
    } else if (call->parked != NULL) {
        park(list, call);
    } else if (in_front) {
        DL_PREPEND2(*list, call, ready_prev, ready_next);
    } else {
        DL_APPEND2(*list, call, ready_prev, ready_next);
    }
}

static bool is_interactive(const struct call *call) {
    return call->group->flow->priority == PRIORITY_INTERACTIVE;
}

// keep_slots: where interactive calls come, some slots stay free for the next ones for a while.
static void keep_slots(struct core *core, struct call *call) {
    core->kept_until_us = pool_of(call)->kept_until_us = core->now_us + KEEP_SLOTS_US;
}

void call_leave(struct core *core, struct call *call) {
    switch (call->state) {
    case CALL_READY:
        leave_ready(core, call);
        break;
    case CALL_WAITING:
        waiting_remove(core, call);
        break;
    case CALL_LISTED:
        budget_give_back(core, call);
        job_drop_line(core, call->line);
        break;
    case CALL_SENT:
        roster_unload(core, call);
        if (call->tries_out) {
            breaker_again(&pool_of(call)->breaker, core->now_us);
            call->tries_out = false;
        }
        budget_give_back(core, call);
        pool_of(call)->n_inflight--;
        pool_of(call)->n_interactive -= is_interactive(call);
        core->n_sent--;
        core->n_interactive -= is_interactive(call);
        break;
    }
}

void call_enter(struct core *core, struct call *call, enum call_state state, bool in_front) {
    struct pool *pool = pool_of(call);
    call->state = state;
    if (state != CALL_READY || call->parked != NULL) {
        call->next_number = 0; // sent it was under that number; waiting or parked it will not go soon
    }
    if (is_interactive(call)) {
        keep_slots(core, call);
    }
    switch (state) {
    case CALL_READY:
        if (call->parked != NULL) {
            marks_drop(call);
        }
        enter_ready(core, call, in_front);
        break;
    case CALL_WAITING:
        marks_drop(call);
        waiting_add(core, call);
        break;
    case CALL_LISTED:
        marks_drop(call);
        call->parked = NULL;
        budget_take(core, call);
        break;
    case CALL_SENT:
        call->parked = NULL;
        budget_take(core, call);
        pool->n_inflight++;
        pool->n_interactive += is_interactive(call);
        core->n_sent++;
        core->n_interactive += is_interactive(call);
        break;
    }
}

void call_to_worker(struct core *core, struct call *call, struct worker *worker, int64_t n_bytes) {
    call_leave(core, call);
    call->sent_us = core->now_us;
    call->n_bytes = n_bytes;
    roster_load(core, worker, call);
    call_enter(core, call, CALL_SENT, false);
}

void call_free(struct core *core, struct call *call) {
    marks_touch(call->batch);
    if (call->state == CALL_SENT && !call->reported) {
        late_expect(core, call);
    }
    call_leave(core, call);
    DL_DELETE(call->batch->calls, call);
    call->group->n_calls--;
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

int64_t call_tokens(const struct call *call) {
    int64_t tokens = 0;
    for (size_t i = 0; i < call->n_slots; i++) {
        const struct entry *entry = &call->batch->entries[call->slots[i]];
        struct slice values = entry_values(call->batch, entry);
        tokens += record_tokens(record_weight(call->group->model, values, NULL, NULL));
    }
    return tokens;
}

static size_t text_bytes(const void *arg, struct slice text) {
    return estimate_bytes(arg, text);
}

const struct estimate_call *call_size(struct call *call) {
    const struct batch *batch = call->batch;
    if (call->size.n_records != call->n_slots) {
        call->size = (struct estimate_call){.n_records = call->n_slots};
        for (size_t i = 0; i < call->n_slots; i++) {
            struct slice values = entry_values(batch, &batch->entries[call->slots[i]]);
            call->size.n_bytes += record_weight(call->group->model, values, text_bytes, &call->group->estimate);
        }
    }
    return &call->size;
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
