// Matches answers to batches. Invariant: a record's first answer is kept and every later one dropped. What becomes of
// records without one: leftover.c.
// Called by core with reports, by roster with calls of lost workers, by dispatch with those of before a start.
#include "coordinator/collect.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/plant.h"
#include "coordinator/bill.h"
#include "coordinator/call.h"
#include "coordinator/claim.h"
#include "coordinator/dispatch.h"
#include "coordinator/emit.h"
#include "coordinator/late.h"
#include "coordinator/leftover.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "coordinator/permits.h"
#include "coordinator/roster.h"
#include "proto/record.h"

#include <assert.h>
#include <inttypes.h>

#define HELD_MAX_BYTES (48 * 1024 * 1024)  // of a batch's answers that wait for their turn
#define RETRY_AFTER_MAX_MS 86400000        // nobody is waited for longer than a day
#define ANSWER_MAX_BYTES (8 * 1024 * 1024) // of one record; as JSON at most six times that, in 64 MB

// ---- Reports in -------------------------------------------------------------------------------------

// answer_of makes what the results of a report share; call: NULL when it was given up.
static struct answer *answer_of(const struct message_report *report, const struct call *call) {
    struct answer *a = mem_zalloc(sizeof(*a));
    a->revision = call != NULL ? call->group->model->revision : 0;
    a->n_refs = 1;
    a->call = report->call;
    a->latency_us = report->latency_us;
    a->request_id = slice_dup(report->request_id);
    a->prompt_hash = slice_dup(report->prompt_hash);
    a->served_model = slice_dup(report->served_model);
    a->service_tier = slice_dup(report->service_tier);
    a->warning = slice_dup(report->warning);
    a->http_status = (unsigned)report->http_status;
    if (report->http_headers.n > 0) {
        a->http_headers = (struct slice){slice_dup(report->http_headers), report->http_headers.n};
    }
    return a;
}

// count_usage adds what a call used to the sums, those that are durable too. Returns its cost, < 0: not
// known.
//   batch     NULL: it is finished
//   reserved  nano-USD that were reserved for the call
static double count_usage(struct core *core, struct batch *batch, const struct bill *bill,
                          const struct charge *charge, const struct message_report *report,
                          int64_t reserved) {
    double cost = bill_cost(bill, report);
    core->status->input_tokens += report->input_tokens;
    core->status->cached_tokens += report->cached_tokens;
    core->status->cache_write_tokens += report->cache_write_tokens;
    core->status->reasoning_tokens += report->reasoning_tokens;
    core->status->output_tokens += report->output_tokens;
    if (cost >= 0) {
        core->status->cost += cost;
    } else if (report->sent && (report->http_status == 0 || report->http_status == 200)) {
        core->status->calls_unpriced++;
        if (batch != NULL) {
            batch->cost_known = false;
        }
    }
    uint64_t index = report->batch >> 52; // see partition_next_batch
    struct partition *p = index < core->config->n_partitions ? &core->partitions[index] : NULL;
    if (p != NULL && p->state == PARTITION_OWNED &&
        bill_report(core, p, bill, charge, report, reserved) && batch != NULL) {
        batch_counted(batch, (uint32_t)report->call);
        partition_touch(p, batch); // with the note that it is counted
    }
    return cost;
}

// share_cost divides what a call used over the records it asked for.
static void share_cost(struct core *core, struct batch *batch, const struct call *call,
                       const struct message_report *report) {
    if (!report->usage_known && !report->sent) {
        return;
    }
    double cost = count_usage(core, batch, call->group->bill, &call->charge, report, call->reserved_nusd);
    double share = 1.0 / (double)call->n_slots;
    for (size_t i = 0; i < call->n_slots; i++) {
        struct entry *e = &batch->entries[call->slots[i]];
        e->input_tokens += (double)report->input_tokens * share;
        e->cached_tokens += (double)report->cached_tokens * share;
        e->cache_write_tokens += (double)report->cache_write_tokens * share;
        e->output_tokens += (double)report->output_tokens * share;
        e->reasoning_tokens += (double)report->reasoning_tokens * share;
        e->cost += cost >= 0 ? cost * share : 0;
    }
    log_debug("call.cost", "batch=%016" PRIx64 " call=%" PRIu64 " records=%zu input=%" PRIu64
              " output=%" PRIu64 " usd=%.9f", report->batch, report->call, call->n_slots,
              report->input_tokens, report->output_tokens, cost);
}

// Why records of an answer have no result.
struct fault {
    enum outcome outcome;   // of the first that has no usable item; OUTCOME_OK: none seen
    struct slice detail;    // borrowed from the report
};

// take_items keeps the good items; returns how many were new.
static size_t take_items(struct core *core, struct batch *batch, const struct message_report *report,
                         const struct call *call, struct fault *fault) {
    struct answer *answer = answer_of(report, call);
    struct slice rest = report->items, payload;
    uint64_t slot;
    enum outcome outcome;
    size_t n_new = 0;
    while (item_next(&rest, &slot, &outcome, &payload) > 0) {
        if (slot >= batch->n) {
            continue;
        }
        if (batch->entries[slot].answered) {
            core->status->answers_dropped += outcome == OUTCOME_OK;
        } else if (outcome == OUTCOME_OK &&
                   (payload.n > ANSWER_MAX_BYTES || batch->held_bytes + payload.n > HELD_MAX_BYTES)) {
            fault->outcome = OUTCOME_BAD_VALUE;
            fault->detail = SLICE_LIT("the answer is longer than a result may be (8 MB)");
        } else if (outcome == OUTCOME_OK) {
            batch_answer(batch, slot, OUTCOME_OK, payload, answer);
            n_new++;
        } else {
            if (outcome == OUTCOME_BAD_VALUE && batch_group_of(batch, report->call)->model->options.response_correct) {
                entry_correct(&batch->entries[slot], payload);
                batch->entries[slot].misfit_call = (uint32_t)report->call;
            }
            if (fault->outcome == OUTCOME_OK) {
                fault->outcome = outcome;
                fault->detail = payload;
            }
        }
    }
    answer_drop(answer);
    core->n_records -= (int64_t)n_new;
    return n_new;
}

static void count_outcome(struct status *s, const struct message_report *report, enum outcome outcome,
                          size_t n_new, size_t n_left) {
    s->calls += outcome_of(outcome)->action != ACTION_AGAIN;
    switch (outcome_of(outcome)->action) {
    case ACTION_WAIT:
        s->calls_rate_limited++;
        break;
    case ACTION_AGAIN:
        s->calls_unsent++;
        break;
    case ACTION_RETRY:
    case ACTION_LOST:
        s->calls_failed++;
        break;
    case ACTION_STOP:
    case ACTION_ISOLATE:
    case ACTION_FAIL:
        s->calls_refused++;
        break;
    default:
        *(n_left == 0 ? &s->calls_ok : n_new > 0 ? &s->calls_partial : &s->calls_useless) += 1;
    }
    if (report->latency_us > 0) {
        histogram_add(&s->call_latency, (int64_t)report->latency_us);
    }
}

// settle_call ends a call whose report is in; returns true when records ended as errors.
static bool settle_call(struct core *core, struct call *call, const struct message_report *report,
                        enum outcome outcome, const struct fault *fault, size_t n_new) {
    struct leftover left;
    leftover_find(&left, call);
    count_outcome(core->status, report, outcome, n_new, left.n);
    core->status->retries += call->is_retry && outcome_of(outcome)->action != ACTION_AGAIN;
    bool is_line = report->line.n > 0; // of a job: nobody waited for it, and the provider has said what became of it
    if (!is_line) {
        histogram_add(&core->status->dispatch_latency, core->now_us - call->sent_us);
    }
    enum ambiguity ambiguity = is_line ? AMBIGUITY_NONE : marks_ambiguity(report, outcome);
    if (ambiguity != AMBIGUITY_NONE) {
        marks_count(core, call->batch->id, call->number, ambiguity);
    }
    left.outcome = outcome;
    left.detail = report->detail;
    if (outcome == OUTCOME_OK) {
        left.outcome = fault->outcome != OUTCOME_OK ? fault->outcome : OUTCOME_MISSING;
        left.detail = fault->detail;
    }
    left.is_ambiguous = ambiguity != AMBIGUITY_NONE;
    left.retry_after_ms =
        report->retry_after_ms < RETRY_AFTER_MAX_MS ? (int64_t)report->retry_after_ms : RETRY_AFTER_MAX_MS;
    left.answer = answer_of(report, call);
    bool ended = leftover_settle(core, call, &left);
    answer_drop(left.answer);
    dispatch_done(core, call);
    return ended;
}

void collect_taken(struct core *core, struct slice route, uint64_t batch, uint64_t call) {
    uint64_t index = batch >> 52; // see partition_next_batch
    struct after taken = {.kind = AFTER_TAKEN, .taken = {.batch = batch, .call = call}};
    struct partition *p = index < core->config->n_partitions ? &core->partitions[index] : NULL;
    if (p != NULL && (p->lease_until_us <= core->now_us || !core->store_ready)) {
        p->tally_dirty = true; // only a write shows that the partition is still ours, and not another's who needs it
    }
    bool waits = p != NULL && route_set(&taken.taken.route, route) && partition_after_pending(p, taken);
    if (!waits) {
        roster_taken(core, route, batch, call);
    }
}

// name_recovered: a report that comes before its worker's HELLO names a call of before a restart.
static bool name_recovered(struct core *core, struct batch *batch, const struct message_report *report,
                           enum outcome outcome) {
    if (claim_find(batch, (uint32_t)report->call) == NULL) {
        return false;
    }
    claim_named(batch, (uint32_t)report->call);
    enum ambiguity ambiguity = marks_ambiguity(report, outcome);
    if (ambiguity != AMBIGUITY_NONE) {
        marks_count(core, batch->id, report->call, ambiguity);
    }
    return true;
}

// count_late counts a call that was given up, the first time that its report comes. After a restart
// nobody has given it up here: then the batch knows whether it was counted before.
static void count_late(struct core *core, struct batch *batch, const struct message_report *report,
                       enum outcome outcome, bool is_first) {
    struct late *late = late_take(core, report, outcome);
    bool recovered = batch != NULL && name_recovered(core, batch, report, outcome);
    const struct charge none = {0};
    if (late != NULL && !late->is_paid && late->bill != NULL) {
        (void)count_usage(core, batch, late->bill, &late->charge, report, 0);
    } else if (late == NULL && batch != NULL && (is_first || recovered) &&
               !batch_is_counted(batch, (uint32_t)report->call)) {
        (void)count_usage(core, batch, batch_group_of(batch, report->call)->bill, &none, report, 0);
    }
    late_free(late);
}

// take_back deals with a call that a worker gave back unsent. call may be NULL: it was given up before.
static void take_back(struct core *core, struct worker *worker, struct batch *batch, struct call *call,
                      const struct message_report *report, enum outcome outcome) {
    struct pool *pool = batch_group_of(batch, report->call)->pool;
    struct slice detail = report->detail;
    if (outcome == OUTCOME_NO_CREDENTIAL) {
        roster_lacks(worker, pool);
        if (pool->stopped == NULL && !roster_has(core, pool)) {
            const char *text = outcome_of(OUTCOME_BAD_CONFIG)->text;
            log_error("pool.stopped", "outcome=%s why=\"%.*s\"", text, SLICE_FMT(detail));
            pool_stop(pool, text, detail);
            pool->is_keyless = true;
        }
    } else {
        roster_rest(core, worker);
    }
    for (size_t i = 0; call != NULL && i < call->n_slots; i++) {
        struct entry *e = &batch->entries[call->slots[i]];
        e->n_calls -= e->n_calls > 0; // it was never made
    }
}

void collect_report(struct core *core, struct slice route, const struct message_report *report) {
    struct batch *batch;
    HASH_FIND(hh, core->batches, &report->batch, sizeof(report->batch), batch);
    int parsed = outcome_parse(report->outcome);
    enum outcome outcome = parsed >= 0 ? (enum outcome)parsed : OUTCOME_UNREADABLE;
    log_debug("call.report", "batch=%016" PRIx64 " call=%" PRIu64 " outcome=%s sent=%s answered=%s",
              report->batch, report->call, outcome_of(outcome)->text, report->sent ? "yes" : "no",
              report->sent && marks_ambiguity(report, outcome) == AMBIGUITY_NONE ? "yes" : "no");
    roster_reported(core, route);
    if (batch == NULL) { // all its records have their results
        core->status->answers_dropped++;
        count_late(core, NULL, report, outcome, false);
        collect_taken(core, route, report->batch, report->call);
        return;
    }
    bool is_first = !batch_has_report(batch, (uint32_t)report->call) &&
                    !batch_is_counted(batch, (uint32_t)report->call);
    batch_reported(batch, (uint32_t)report->call);
    struct call *call = dispatch_find(batch, report->call);
    if (call == NULL && PLANT(DROP_LATE_ANSWER)) {
        roster_taken(core, route, report->batch, report->call);
        return;
    }
    struct worker *worker = roster_find(core, route);
    if (outcome_of(outcome)->action == ACTION_AGAIN && worker != NULL) {
        take_back(core, worker, batch, call, report, outcome);
    }
    if (call != NULL) {
        call->reported = true;
        if (is_first) {
            share_cost(core, batch, call, report);
        }
        permits_settle(core, call, report, outcome);
    } else {
        count_late(core, batch, report, outcome, is_first);
    }
    struct fault fault = {.outcome = OUTCOME_OK};
    size_t n_new = take_items(core, batch, report, call, &fault);
    if (call == NULL) {
        core->status->answers_late += n_new;
    }
    bool ended = call != NULL && settle_call(core, call, report, outcome, &fault, n_new);
    if (marks_ambiguity(report, outcome) != AMBIGUITY_NONE) { // its worker may yet name it to the next coordinator
        batch_counted(batch, (uint32_t)report->call);
        partition_touch(batch->lane->partition, batch);
    }
    if (n_new == 0 && !ended) {
        collect_taken(core, route, report->batch, report->call);
        return;
    }
    struct partition *p = batch->lane->partition;
    emit_ready(core, batch);
    struct after taken = {.kind = AFTER_TAKEN, .taken = {.batch = report->batch, .call = report->call}};
    if (route_set(&taken.taken.route, route)) {
        partition_after(p, taken);
    }
}

// place_items makes slots of the batch of places in a line's prompt.
static void place_items(const struct call *call, struct slice items, struct buf *out) {
    struct slice payload;
    uint64_t place;
    enum outcome outcome;
    while (item_next(&items, &place, &outcome, &payload) > 0) {
        int rc = place < call->n_slots ? item_pack(out, call->slots[place], outcome, payload) : 0;
        assert(rc == 0); // it has the size of what came
    }
}

void collect_line(struct core *core, struct call *call, const struct message_report *line) {
    struct batch *batch = call->batch;
    int parsed = outcome_parse(line->outcome);
    enum outcome outcome = parsed >= 0 ? (enum outcome)parsed : OUTCOME_UNREADABLE;
    struct buf items;
    buf_init(&items, 2 * line->items.n + 64 * MODEL_BATCH_MAX);
    place_items(call, line->items, &items);
    struct message_report report = *line;
    report.batch = batch->id;
    report.call = call->number;
    report.items = buf_slice(&items);
    bool was_asked = outcome_of(outcome)->action != ACTION_AGAIN;
    for (size_t i = 0; was_asked && i < call->n_slots; i++) {
        batch->entries[call->slots[i]].n_calls++;
    }
    if (!batch_is_counted(batch, call->number)) {
        share_cost(core, batch, call, &report);
    }
    if (report.usage_known) {
        estimate_learn(&call->group->estimate, call_size(call), (double)report.input_tokens,
                       (double)report.output_tokens);
    }
    struct fault fault = {.outcome = OUTCOME_OK};
    size_t n_new = take_items(core, batch, &report, call, &fault);
    if (settle_call(core, call, &report, outcome, &fault, n_new) || n_new > 0) {
        emit_ready(core, batch);
    }
    buf_free(&items);
}

// find_lost lists what a call leaves that nobody will answer, with the reason.
static void find_lost(struct leftover *left, const struct call *call, struct slice detail) {
    const struct message_report report = {.batch = call->batch->id, .call = call->number};
    leftover_find(left, call);
    left->outcome = OUTCOME_WORKER_LOST;
    left->detail = detail;
    left->is_ambiguous = true;
    left->answer = answer_of(&report, call);
}

void collect_lost(struct core *core, struct call *call) {
    struct batch *batch = call->batch;
    struct leftover left;
    find_lost(&left, call, SLICE_NONE);
    core->status->calls++;
    core->status->retries += call->is_retry;
    core->status->calls_failed++;
    call->counted = AMBIGUITY_LOST;
    marks_count(core, batch->id, call->number, AMBIGUITY_LOST);
    if (!batch_is_counted(batch, call->number)) {
        bill_lost(core, call);
    }
    bool ended = !PLANT(FORGET_REQUEUE) && leftover_settle(core, call, &left);
    answer_drop(left.answer);
    dispatch_done(core, call);
    if (ended) {
        emit_ready(core, batch);
    }
}

// count_crashed counts a call of before a start that nobody has named.
static void count_crashed(struct core *core, struct call *call) {
    call->unclaimed = false;
    core->status->calls++;
    core->status->calls_failed++;
    call->counted = AMBIGUITY_CRASH;
    marks_count(core, call->batch->id, call->number, AMBIGUITY_CRASH);
    if (!batch_is_counted(call->batch, call->number)) {
        bill_lost(core, call);
    }
    late_expect(core, call);
    call->counted = AMBIGUITY_NONE;
    call->charge = (struct charge){0}; // the next one has its own
    marks_touch(call->batch);
}

void collect_finished(struct core *core, struct batch *batch) {
    for (struct call *call = batch->calls; call != NULL; call = call->next) {
        if (call->unclaimed) {
            count_crashed(core, call);
        }
    }
}

bool collect_crashed(struct core *core, struct call *call) {
    struct batch *batch = call->batch;
    count_crashed(core, call);
    (void)call_drop_answered(call);
    call->n_slots = dispatch_not_elsewhere(call, call->slots, call->n_slots, call->slots);
    if (call->n_slots > 0 && call->group->model->options.ambiguous_retries > 0) {
        return true;
    }
    // That it was a worker too is likely: those that live name their calls.
    struct leftover left;
    find_lost(&left, call, SLICE_LIT("the coordinator was lost with the call in flight"));
    (void)leftover_give_up(core, call, &left);
    answer_drop(left.answer);
    dispatch_done(core, call);
    if (left.n > 0) {
        emit_ready(core, batch);
    }
    return false;
}
