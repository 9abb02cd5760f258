// Results out. Invariant: a record leaves through emit_ready exactly once, in the same write that takes it off
// its batch. Called by collect and core with batches, by intake with rows that are not asked about.
#include "coordinator/emit.h"
#include "common/log.h"
#include "coordinator/letter.h"
#include "coordinator/letter_room.h"
#include "coordinator/partition.h"
#include "coordinator/permits.h"
#include "proto/pack.h"
#include "proto/result.h"

#include <assert.h>

static struct result_shared shared_of(const struct batch *batch, const struct answer *a) {
    const struct group *group = batch->lane->group;
    const struct group *asked = batch_group(batch, a != NULL ? number_level(a->call) : 0);
    const struct model *model = asked != NULL ? asked->model : group->model; // that answered
    struct result_shared shared = {
        .model = slice_of(model->name),
        .revision = model->revision,
        .batch = batch->id,
        .columns = group->columns,
        .n_columns = group->model->n_output,
        .metadata = group->model->metadata,
    };
    if (a != NULL) {
        shared.call = a->call;
        shared.revision = a->revision > 0 ? a->revision : shared.revision;
        shared.latency_us = a->latency_us;
        shared.request_id = slice_of(a->request_id);
        shared.prompt_hash = slice_of(a->prompt_hash);
        shared.served_model = slice_of(a->served_model);
        shared.service_tier = slice_of(a->service_tier);
        shared.warning = slice_of(a->warning);
        shared.http_status = a->http_status;
        shared.http_headers = a->http_headers;
    }
    return shared;
}

// What went before a result, while it is being made.
struct notes {
    struct result_note refused, defaulted;
};

// result_of makes a record's result, which borrows from notes.
static struct result result_of(const struct batch *batch, const struct entry *e, struct notes *notes) {
    const struct model *own = batch->lane->group->model;
    if (e->refused != NULL) {
        notes->refused = (struct result_note){.model = slice_of(own->name),
                                              .revision = own->revision,
                                              .outcome = e->refused->outcome,
                                              .sentence = slice_of(e->refused->sentence)};
    }
    if (e->defaulted != NULL) {
        notes->defaulted = (struct result_note){.outcome = e->defaulted->outcome,
                                                .sentence = slice_of(e->defaulted->sentence)};
    }
    return (struct result){
        .fallback = e->refused != NULL ? &notes->refused : NULL,
        .defaulted = e->defaulted != NULL ? &notes->defaulted : NULL,
        .id = entry_id(batch, e),
        .key = entry_key(batch, e),
        .producer = e->producer != NULL ? slice_of(e->producer->name) : SLICE_NONE,
        .seq = e->seq,
        .outcome = e->outcome,
        .payload = {.p = e->payload, .n = e->n_payload},
        .attempts = e->n_calls,
        .input_tokens = e->input_tokens,
        .cached_tokens = e->cached_tokens,
        .output_tokens = e->output_tokens,
        .cache_write_tokens = e->cache_write_tokens,
        .reasoning_tokens = e->reasoning_tokens,
        .cost = batch->cost_known ? e->cost : -1,
    };
}

static void out_blob(struct core *core, struct partition *p, struct slice blob, size_t n) {
    p->oseq += n;
    core->n_results += (int64_t)n;
    txn_out(partition_txn(p), p->oseq, blob);
    partition_after(p, (struct after){.kind = AFTER_OUT,
                                      .out = {.last_oseq = p->oseq,
                                              .n = n,
                                              .blob = {.p = slice_dup(blob), .n = blob.n}}});
}

static bool is_dead(const struct batch *batch, const struct entry *e) {
    return e->outcome != OUTCOME_OK &&
           batch->lane->group->model->options.on_error == ON_ERROR_DEAD_LETTER;
}

static bool is_given_up(const struct entry *e) {
    return e->outcome != OUTCOME_OK || e->defaulted != NULL;
}

// add_letter keeps a record that was given up on, with all that it takes to ask again.
static void add_letter(struct core *core, struct batch *batch, const struct entry *e) {
    const struct group *group = batch->lane->group;
    struct letter letter = {
        .model = slice_of(group->model->name),
        .revision = group->model->revision,
        .options = group->options,
        .id = entry_id(batch, e),
        .key = entry_key(batch, e),
        .producer = e->producer != NULL ? slice_of(e->producer->name) : SLICE_NONE,
        .seq = e->seq,
        .values = entry_values(batch, e),
        .outcome = e->defaulted != NULL ? e->defaulted->outcome : e->outcome,
        .sentence = e->defaulted != NULL ? slice_of(e->defaulted->sentence)
                                         : (struct slice){.p = e->payload, .n = e->n_payload},
        .attempts = e->n_calls,
        .has_row = !is_dead(batch, e),
    };
    if (!letter_room_take(core, is_dead(batch, e))) {
        return;
    }
    struct buf *blob = &core->scratch2;
    buf_clear(blob);
    int rc = letter_pack(&letter, blob);
    assert(rc == 0); // a record is at most a few MB
    txn_dead(partition_txn(batch->lane->partition), buf_slice(blob));
}

// emit_slots makes one blob of slots that share their answer and their way out.
static void emit_slots(struct core *core, struct batch *batch, const uint16_t *slots, size_t n) {
    struct partition *p = batch->lane->partition;
    struct buf *blob = &core->scratch;
    buf_clear(blob);
    const struct entry *first = &batch->entries[slots[0]];
    struct result_shared shared = shared_of(batch, first->answer);
    bool dead = is_dead(batch, first);
    int rc = result_blob_begin(blob, &shared, n);
    for (size_t i = 0; i < n; i++) {
        struct notes notes;
        struct result result = result_of(batch, &batch->entries[slots[i]], &notes);
        rc |= result_blob_add(blob, &result);
        core->status->results_ok += result.outcome == OUTCOME_OK && !dead;
        core->status->results_default += result.defaulted != NULL;
        core->status->results_error += result.outcome != OUTCOME_OK && !dead;
    }
    assert(rc == 0);
    for (size_t i = 0; i < n; i++) {
        if (is_given_up(&batch->entries[slots[i]])) {
            add_letter(core, batch, &batch->entries[slots[i]]);
        }
    }
    if (!dead) {
        out_blob(core, p, buf_slice(blob), n);
    }
    for (size_t i = 0; i < n; i++) {
        struct entry *e = &batch->entries[slots[i]];
        e->emitted = true;
        batch->held_bytes -= e->n_payload;
        entry_forget_payload(e);
    }
    batch->n_unemitted -= n;
}

static void emit_batch(struct core *core, struct batch *batch) {
    uint16_t slots[MODEL_BATCH_MAX];
    size_t n = 0;
    const struct answer *answer = NULL;
    bool dead = false;
    for (size_t i = 0; i < batch->n; i++) {
        const struct entry *e = &batch->entries[i];
        if (!e->answered || e->emitted) {
            continue;
        }
        if (n > 0 && (e->answer != answer || is_dead(batch, e) != dead)) {
            emit_slots(core, batch, slots, n);
            n = 0;
        }
        answer = e->answer;
        dead = is_dead(batch, e);
        slots[n++] = (uint16_t)i;
    }
    if (n > 0) {
        emit_slots(core, batch, slots, n);
    }
    if (batch->n_unemitted == 0) {
        histogram_add(&core->status->batch_age, core->now_us - batch->opened_us);
    }
}

void emit_ready(struct core *core, struct batch *batch) {
    partition_touch(batch->lane->partition, batch);
    if (!core->config->ordered) {
        emit_batch(core, batch);
        return;
    }
    // Ordered: a batch leaves whole, after all that were opened before it in its lane.
    struct batch *b = batch->lane->batches;
    for (; b != NULL && b->n_unanswered == 0; b = b->lane_next) {
        if (b->n_unemitted > 0) {
            partition_touch(b->lane->partition, b);
            emit_batch(core, b);
        }
    }
}

void emit_stop_on_error(const struct group *group, enum outcome outcome, struct slice sentence) {
    if (group != NULL && group->model->options.on_error == ON_ERROR_FAIL &&
        group->pool->stopped == NULL) {
        log_error("pool.stopped", "outcome=%s why=\"on.error = fail: %.*s\"", outcome_of(outcome)->text,
                  SLICE_FMT(sentence));
        pool_stop(group->pool, outcome_of(outcome)->text, sentence);
    }
}

// add_result puts one result into the outbox that no batch has.
static void add_result(struct core *core, const struct group *group, const struct result *result,
                       struct producer *producer) {
    struct slice key = result->key.n > 0 ? result->key : result->id;
    struct partition *p = &core->partitions[partition_of(key, core->config->n_partitions)];
    struct result_shared shared = {0};
    if (group != NULL) {
        shared.model = slice_of(group->model->name);
        shared.revision = group->model->revision;
        shared.columns = group->columns;
        shared.n_columns = group->model->n_output;
        shared.metadata = group->model->metadata;
    }
    struct buf *blob = &core->scratch;
    buf_clear(blob);
    int rc = result_blob_begin(blob, &shared, 1);
    rc |= result_blob_add(blob, result);
    assert(rc == 0);
    out_blob(core, p, buf_slice(blob), 1);
    if (producer != NULL) {
        partition_accept(p, producer, result->seq);
    }
}

void emit_refused(struct core *core, const struct group *group, struct slice id, struct slice key,
                     struct producer *producer, uint64_t seq, enum outcome outcome, struct slice why) {
    struct result result = {
        .id = id,
        .key = key,
        .producer = producer != NULL ? slice_of(producer->name) : SLICE_NONE,
        .seq = seq,
        .outcome = outcome,
        .payload = why,
    };
    add_result(core, group, &result, producer);
    core->status->records_bad++;
    core->status->results_error++;
    emit_stop_on_error(group, outcome, why);
}

void emit_skipped(struct core *core, const struct group *group, struct slice id, struct slice key,
                     struct producer *producer, uint64_t seq) {
    struct buf values;
    buf_init(&values, MODEL_COLUMNS_MAX + 8);
    int rc = pack_array(&values, (uint32_t)group->model->n_output);
    for (size_t i = 0; i < group->model->n_output; i++) {
        rc |= pack_nil(&values);
    }
    assert(rc == 0);
    struct result result = {
        .id = id,
        .key = key,
        .producer = producer != NULL ? slice_of(producer->name) : SLICE_NONE,
        .seq = seq,
        .outcome = OUTCOME_OK,
        .payload = buf_slice(&values),
    };
    add_result(core, group, &result, producer);
    buf_free(&values);
    core->status->records_in++;
    core->status->results_ok++;
}
