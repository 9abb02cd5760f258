// What becomes of records that a call left without a result: carries out what retry.c decides. Invariant: when the
// call goes, each is part of another call, of this model or another, or has ended. Called by collect.
#include "coordinator/leftover.h"
#include "common/log.h"
#include "common/plant.h"
#include "coordinator/dispatch.h"
#include "coordinator/emit.h"
#include "coordinator/fallback.h"
#include "coordinator/permits.h"
#include "coordinator/retry.h"

#include <stdio.h>

_Static_assert(OUTCOME_COUNT <= 32, "struct call keeps a bit for each outcome");

void leftover_find(struct leftover *left, const struct call *call) {
    left->n = 0;
    for (size_t i = 0; i < call->n_slots; i++) {
        if (!call->batch->entries[call->slots[i]].answered) {
            left->slots[left->n++] = call->slots[i];
        }
    }
    left->outcome = OUTCOME_OK;
    left->detail = SLICE_NONE;
    left->is_ambiguous = false;
    left->retry_after_ms = 0;
    left->answer = NULL;
}

static struct slice sentence_of(enum outcome outcome, struct slice detail) {
    return detail.n > 0 ? detail : slice_of(outcome_of(outcome)->sentence);
}

// end_slots gives records their last result: the error, or the default in its place.
static void end_slots(struct core *core, struct batch *batch, const uint16_t *slots, size_t n,
                      enum outcome outcome, struct slice sentence, struct answer *answer) {
    struct slice defaults = batch->lane->group->model->defaults;
    emit_stop_on_error(batch->lane->group, outcome, sentence);
    for (size_t i = 0; i < n; i++) {
        if (defaults.n > 0) {
            batch_default(batch, slots[i], defaults, outcome, sentence, answer);
        } else {
            batch_answer(batch, slots[i], outcome, sentence, answer);
        }
    }
    core->n_records -= (int64_t)n;
}

// give_up is the end of what the call's model can do for records. Returns false when another model is asked.
static bool give_up(struct core *core, const struct call *call, const uint16_t *slots, size_t n,
                    enum outcome outcome, struct slice detail, struct answer *answer) {
    struct slice sentence = sentence_of(outcome, detail);
    struct error why = {0}, text;
    if (n == 0 || fallback_hand_on(core, call, slots, n, outcome, sentence, &why)) {
        return false;
    }
    if (why.text[0] != '\0') { // there is one, and it cannot be used
        error_set(&text, 0, "%.*s; %s", SLICE_FMT(sentence), why.text);
        sentence = slice_of(text.text);
    }
    end_slots(core, call->batch, slots, n, outcome, sentence, answer);
    return true;
}

bool leftover_give_up(struct core *core, const struct call *call, const struct leftover *left) {
    return give_up(core, call, left->slots, left->n, left->outcome, left->detail, left->answer);
}

// end_misfits gives up on records whose answer did not fit though the prompt said why the last one did not.
// Takes them off left; returns whether some ended.
static bool end_misfits(struct core *core, const struct call *call, struct leftover *left) {
    bool ended = false;
    size_t n = 0;
    for (size_t i = 0; i < left->n; i++) {
        uint16_t slot = left->slots[i], mine;
        const struct entry *e = &call->batch->entries[slot];
        char sentence[CORRECTION_MAX];
        bool is_misfit = call->corrects && e->is_told && e->misfit_call == call->number;
        if (!is_misfit) {
            left->slots[n++] = slot;
        } else if (dispatch_not_elsewhere(call, &slot, 1, &mine) == 1) {
            snprintf(sentence, sizeof(sentence), "%s", e->correction); // which goes with the record
            ended |= give_up(core, call, &mine, 1, OUTCOME_BAD_VALUE, slice_of(sentence), left->answer);
        }
    }
    left->n = n;
    return ended;
}

// are_misfits says whether none of the records has more against it than that its answer did not fit.
static bool are_misfits(const struct call *call, const struct leftover *left) {
    for (size_t i = 0; i < left->n; i++) {
        if (call->batch->entries[left->slots[i]].misfit_call != call->number) {
            return false;
        }
    }
    return true;
}

static struct retry_case case_of(struct core *core, const struct call *call, const struct leftover *left) {
    return (struct retry_case){
        .outcome = left->outcome,
        .corrects = are_misfits(call, left),
        .n_asked = call->n_slots,
        .n_left = left->n,
        .tries = call->tries,
        .n_ambiguous = call->n_ambiguous,
        .n_lost = call->n_lost,
        .reasked = call->reasked,
        .new_kind = call->seen != 0 && (call->seen & 1u << left->outcome) == 0,
        .ambiguous = left->is_ambiguous,
        .retry_after_ms = left->retry_after_ms,
        .out_ms = breaker_wait_ms(&call->group->pool->breaker, core->now_us),
        .draw = core->io->draw(core->io->arg),
    };
}

// next_of makes the call that the next ones are like: what it has behind it counts for them.
static struct call next_of(const struct call *call, const struct leftover *left, const struct retry_decision *d) {
    struct call like = *call;
    like.tries = d->tries;
    like.reasked = d->reasked;
    like.n_lost += left->outcome == OUTCOME_WORKER_LOST && !PLANT(FORGET_LOSS);
    like.n_ambiguous += left->is_ambiguous && left->outcome != OUTCOME_WORKER_LOST;
    like.seen = call->n_slots == 1 ? call->seen | 1u << left->outcome : 0;
    like.is_repeat = d->action == RETRY_SAME && outcome_of(left->outcome)->action == ACTION_RETRY &&
                     call->state != CALL_LISTED;
    return like;
}

// stop lets another model be asked, where that helps; else the pool stops, and its records wait.
static void stop(struct core *core, struct call *call, struct call *like, const struct leftover *left) {
    struct pool *pool = call->group->pool;
    const char *text = outcome_of(left->outcome)->text;
    struct slice sentence = sentence_of(left->outcome, left->detail);
    struct error why;
    if (left->n > 0 && fallback_hand_on(core, call, left->slots, left->n, left->outcome, sentence, &why)) {
        return;
    }
    if (pool->stopped == NULL) {
        log_error("pool.stopped", "outcome=%s why=\"%.*s\"", text, SLICE_FMT(left->detail));
    }
    pool_stop(pool, text, left->detail);
    dispatch_again(core, like, left->slots, left->n, 0);
}

bool leftover_settle(struct core *core, struct call *call, struct leftover *left) {
    bool ended = end_misfits(core, call, left);
    if (left->n == 0) {
        return ended;
    }
    struct retry_case c = case_of(core, call, left);
    struct retry_decision d = retry_decide(&call->group->model->options, &c);
    struct call like = next_of(call, left, &d);
    left->n = dispatch_not_elsewhere(call, left->slots, left->n, left->slots);
    const uint16_t *slots = left->slots;
    size_t half = left->n / 2;
    switch (d.action) {
    case RETRY_SAME:
        dispatch_again(core, &like, slots, left->n, d.delay_ms);
        break;
    case RETRY_HALVES: // the second half first: dispatch_again puts each in front
        dispatch_again(core, &like, slots + half, left->n - half, d.delay_ms);
        dispatch_again(core, &like, slots, half, d.delay_ms);
        break;
    case RETRY_SINGLES:
        for (size_t i = left->n; i-- > 0;) {
            dispatch_again(core, &like, slots + i, 1, 0);
        }
        break;
    case RETRY_POOL:
        if (call->state != CALL_LISTED) { // of a job: the pool's limits are not those of jobs
            pool_wait(core, call->group->pool, call->sent_us, c.retry_after_ms, c.draw);
        }
        dispatch_again(core, &like, slots, left->n, 0);
        break;
    case RETRY_STOP:
        stop(core, call, &like, left);
        break;
    case RETRY_GIVE_UP:
        ended |= leftover_give_up(core, call, left);
        break;
    }
    return ended;
}
