// Calls of before a restart, and calls that workers say they hold. Invariant: what may be out is asked for by
// nobody else until its worker has named it or the grace is over. Called by core (recovered) and roster (take).
#include "coordinator/claim.h"
#include "coordinator/call.h"
#include "coordinator/dispatch.h"
#include "coordinator/jobs.h"
#include "coordinator/late.h"
#include "coordinator/marks.h"

#include <stdlib.h>

// The id of a batch holds the epoch in which it was opened: the numbers of its own coordinator start at
// 1, those of the next at 2^20 + 1, and so on, until it has outlived 4096 of them.
uint32_t claim_first_number(uint64_t epoch, uint64_t batch) {
    return (uint32_t)((epoch - (batch >> 32)) & 0xFFF) << 20;
}

struct restoring {
    struct core *core;
    struct batch *batch;
    int64_t not_before_us;
    bool asked[MODEL_BATCH_MAX]; // by a call that was restored
};

// restore_line makes a line of a job again, if some of its records have no answer. It keeps all its records: its
// answer counts places in its prompt.
static void restore_line(struct restoring *r, const struct mark *mark) {
    struct batch *batch = r->batch;
    uint16_t slots[MODEL_BATCH_MAX];
    size_t n = 0, n_open = 0;
    for (size_t i = 0; i < (mark->n_slots > 0 ? mark->n_slots : batch->n); i++) {
        size_t slot = mark->n_slots > 0 ? mark->slots[i] : i;
        if (slot < batch->n) { // else it has left, as all after it have
            slots[n++] = (uint16_t)slot;
            n_open += !batch->entries[slot].answered;
            r->asked[slot] = true;
        }
    }
    if (n_open == 0 || batch_group(batch, number_level(mark->number)) == NULL) {
        return;
    }
    struct call *call = call_new(batch, slots, n);
    call_set_level(call, number_level(mark->number));
    call->number = mark->number;
    call->n_lost = mark->n_lost;
    call->n_ambiguous = mark->n_ambiguous;
    call->tries = mark->tries;
    call->reasked = mark->reasked;
    call->not_before_us = r->not_before_us;
    jobs_restore_line(r->core, call, mark->job, mark->line);
}

// may_restore says whether a mark's call is to have a record again: one that may be out all that it had, held
// answers or none, since it is yet to be counted; another those that nobody else asks for.
static bool may_restore(const struct restoring *r, const struct mark *mark, size_t slot, bool held,
                        unsigned level) {
    const struct entry *e = slot < r->batch->n ? &r->batch->entries[slot] : NULL;
    if (e == NULL || e->emitted || e->answered != held) {
        return false;
    }
    return mark->is_out || (!r->asked[slot] && e->level == level);
}

// mark_level is the level of a mark's call: its number has it, or its records if it never had one.
static unsigned mark_level(const struct batch *batch, const struct mark *mark) {
    size_t slot = mark->n_slots > 0 ? mark->slots[0] : 0;
    return mark->number != 0  ? number_level(mark->number)
           : slot < batch->n ? batch->entries[slot].level
                             : 0;
}

// restore_call makes a call of a mark again, for those of its records that have no answer; or, if it may be
// out and all have one that waits for its turn, for those. A record that was handed on to another model since
// is asked for by another call, too.
static void restore_call(void *arg, const struct mark *mark) {
    struct restoring *r = arg;
    if (mark->job != 0) {
        restore_line(r, mark);
        return;
    }
    struct batch *batch = r->batch;
    uint16_t slots[MODEL_BATCH_MAX];
    size_t n = 0;
    unsigned level = mark_level(batch, mark);
    for (int held = 0; held <= (mark->is_out ? 1 : 0) && n == 0; held++) {
        for (size_t i = 0; i < (mark->n_slots > 0 ? mark->n_slots : batch->n); i++) {
            size_t slot = mark->n_slots > 0 ? mark->slots[i] : i;
            if (may_restore(r, mark, slot, held == 1, level)) {
                r->asked[slot] = r->asked[slot] || batch->entries[slot].level == level;
                slots[n++] = (uint16_t)slot;
            }
        }
    }
    if (n == 0) { // nobody needs its answer any more
        if (mark->is_out) {
            late_unclaimed(r->core, batch, mark->number);
        }
        return;
    }
    if (batch_group(batch, level) == NULL) {
        return;
    }
    struct call *call = call_new(batch, slots, n);
    call_set_level(call, level);
    call->number = mark->number;
    call->unclaimed = mark->is_out;
    call->n_lost = mark->n_lost;
    call->n_ambiguous = mark->n_ambiguous;
    call->tries = mark->tries;
    call->reasked = mark->reasked;
    call->is_retry = true;
    call->not_before_us = r->not_before_us;
    call_enter(r->core, call, CALL_WAITING, false);
}

void claim_recovered(struct core *core, struct batch *batch, int64_t not_before_us) {
    struct restoring r = {.core = core, .batch = batch, .not_before_us = not_before_us};
    marks_each(batch->found_mark, restore_call, &r);
    free((char *)batch->found_mark.p);
    batch->found_mark = SLICE_NONE;
    uint16_t rest[MODEL_BATCH_MAX];
    size_t n = 0;
    for (size_t i = 0; i < batch->n; i++) {
        if (!batch->entries[i].answered && !r.asked[i]) {
            rest[n++] = (uint16_t)i;
        }
    }
    for (size_t i = 0, run; i < n; i += run) {
        run = call_run(batch, rest + i, n - i);
        struct call *call = call_new(batch, rest + i, run);
        call->not_before_us = not_before_us;
        call_enter(core, call, not_before_us > core->now_us ? CALL_WAITING : CALL_READY, false);
    }
}

struct call *claim_find(struct batch *batch, uint32_t number) {
    for (struct call *call = batch->calls; call != NULL; call = call->next) {
        if (call->unclaimed && call->number == number) {
            return call;
        }
    }
    return NULL;
}

static bool may_be_out(const struct call *call) {
    bool is_planned = call->state == CALL_LISTED && call->line->job->state != JOB_FILLING;
    return call->state == CALL_SENT || call->unclaimed || is_planned;
}

// take_slots takes slots off the calls of a batch that are not out; a call with none left goes.
static void take_slots(struct core *core, struct batch *batch, const uint16_t *slots, size_t n_slots) {
    struct call *call, *next;
    DL_FOREACH_SAFE(batch->calls, call, next) {
        size_t n = 0;
        if (call->state == CALL_LISTED && !may_be_out(call)) { // it is another line without them
            call_leave(core, call);
            call_enter(core, call, CALL_READY, true);
        }
        for (size_t i = 0; !may_be_out(call) && i < call->n_slots; i++) {
            bool claimed = false;
            for (size_t j = 0; j < n_slots; j++) {
                claimed |= slots[j] == call->slots[i];
            }
            if (!claimed) {
                call->slots[n++] = call->slots[i];
            }
        }
        if (!may_be_out(call)) {
            call->n_slots = n;
            if (n == 0) {
                call_free(core, call);
            }
        }
    }
}

// claim_unknown takes over a call of before a restart, or one that was given up meanwhile. Another worker
// may have been asked for the same records: what one of the two calls leaves is up to the other then.
static void claim_unknown(struct core *core, struct batch *batch, uint32_t number, const uint16_t *slots,
                          size_t n_slots, struct worker *worker) {
    uint16_t open[MODEL_BATCH_MAX];
    size_t n = 0;
    for (size_t i = 0; i < n_slots; i++) {
        const struct entry *e = &batch->entries[slots[i]];
        if (!e->answered && e->level == number_level(number)) { // else another model is asked by now
            open[n++] = slots[i];
        }
    }
    batch_seen_number(batch, number);
    if (n == 0) {
        return;
    }
    struct call *call = call_new(batch, open, n);
    const struct call *was = claim_find(batch, number);
    if (was != NULL) {
        call->n_lost = was->n_lost;
        call->n_ambiguous = was->n_ambiguous;
        call->tries = was->tries;
        call->reasked = was->reasked;
        call->is_retry = true;
        claim_named(batch, number);
    }
    call_enter(core, call, CALL_READY, false);
    call->number = number;
    call->charge = late_claimed(core, batch->id, number);
    call_to_worker(core, call, worker, 0);
    take_slots(core, batch, open, n);
    marks_touch(batch);
}

void claim_take(struct core *core, struct batch *batch, uint32_t number, const uint16_t *slots,
                    size_t n_slots, struct worker *worker) {
    if (n_slots == 0 || batch_has_report(batch, number) || batch_is_counted(batch, number)) {
        return; // nothing, or a report that only its TAKEN has not reached
    }
    struct call *call = dispatch_find(batch, number);
    if (call == NULL) {
        claim_unknown(core, batch, number, slots, n_slots, worker);
    } else if (call->worker != worker) {
        call_to_worker(core, call, worker, call->n_bytes);
    }
}

void claim_named(struct batch *batch, uint32_t number) {
    struct call *call = claim_find(batch, number);
    if (call != NULL) {
        call->unclaimed = false;
        marks_touch(batch);
    }
}
