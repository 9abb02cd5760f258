// Fills batches up to a count, a token estimate and an age. Invariant: no call is made of records that are not
// durable. Called by intake (add), redrive, core (due), partition (done), dispatch (seal) and collect (forget).
#include "coordinator/fill.h"
#include "coordinator/call.h"
#include "coordinator/flow.h"
#include "coordinator/late.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "proto/record.h"

#include <assert.h>

#define BATCH_FULL_BYTES (8 * 1024 * 1024) // a DISPATCH carries 64 MB, and a record is at most 16 MB

static struct batch *add_batch(struct core *core, struct lane *lane) {
    struct batch *batch = batch_new(partition_next_batch(lane->partition), lane, core->now_us);
    batch->accepted_ms = core->io->unix_ms != NULL ? core->io->unix_ms(core->io->arg) : 0;
    HASH_ADD(hh, core->batches, id, sizeof(batch->id), batch);
    DL_APPEND2(lane->batches, batch, lane_prev, lane_next);
    flow_hold(core, batch, (int64_t)batch_bytes(batch));
    core->status->batches++;
    return batch;
}

static struct batch *open_batch(struct core *core, struct lane *lane) {
    struct batch *batch = add_batch(core, lane);
    int64_t timeout_us = lane->group->model->options.batch_timeout_ms * 1000;
    batch->due_us = core->now_us + timeout_us;
    if (batch->due_us < core->next_age_us) {
        core->next_age_us = batch->due_us;
    }
    lane->open = batch;
    return batch;
}

static void not_sealing(struct batch *batch) {
    batch->lane->group->n_sealing -= batch->is_sealing;
    flow_class_of(batch)->n_sealing -= batch->is_sealing;
    batch->is_sealing = false;
}

void fill_seal(struct core *core, struct batch *batch) {
    batch->state = BATCH_SEALED;
    batch->lane->open = NULL;
    if (batch->is_due) {
        flow_remove_due(batch);
        batch->is_due = false;
    }
    batch->is_sealing = true;
    batch->lane->group->n_sealing++;
    flow_class_of(batch)->n_sealing++;
    if (batch->n_in_write < batch->n) {
        partition_touch(batch->lane->partition, batch);
    }
    fill_done(core, batch);
}

void fill_add(struct core *core, struct lane *lane, struct slice id, struct slice key,
                  struct slice values, struct producer *producer, uint64_t seq) {
    const struct model_options *o = &lane->group->model->options;
    lane->group->is_flushed = false;
    int64_t tokens = record_tokens(record_weight(lane->group->model, values, NULL, NULL));
    int64_t most = o->batch_max_tokens != MODEL_UNSET ? o->batch_max_tokens : INT64_MAX;
    struct batch *batch = lane->open;
    if (batch != NULL &&
        (batch->est_tokens + tokens > most || batch->bytes.n + values.n > BATCH_FULL_BYTES)) {
        fill_seal(core, batch);
        batch = NULL;
    }
    if (batch == NULL) {
        batch = open_batch(core, lane);
    }
    size_t before = batch_bytes(batch);
    batch_add(batch, id, key, values, producer, seq);
    batch->est_tokens += tokens;
    flow_hold(core, batch, (int64_t)(batch_bytes(batch) - before));
    core->n_records++;
    if (batch->due_us == INT64_MAX) { // aged before: what came since is made durable in its time
        batch->due_us = core->now_us + o->batch_timeout_ms * 1000;
        core->next_age_us = batch->due_us < core->next_age_us ? batch->due_us : core->next_age_us;
    }
    if (batch->n >= (size_t)o->batch_size || batch->est_tokens >= most) {
        fill_seal(core, batch);
    }
}

// redriven_batch finds a batch of dead letters with room that this turn's write will hold, or makes one.
static struct batch *redriven_batch(struct core *core, struct lane *lane, size_t n_more) {
    size_t most = (size_t)lane->group->model->options.batch_size;
    for (struct batch *b = lane->partition->dirty; b != NULL; b = b->dirty_next) {
        if (b->is_redriven && b->lane == lane && b->n_in_write == 0 && b->n < most &&
            b->bytes.n + n_more <= BATCH_FULL_BYTES) {
            return b;
        }
    }
    struct batch *batch = add_batch(core, lane);
    batch->state = BATCH_SEALED;
    batch->is_redriven = true;
    return batch;
}

void fill_redriven(struct core *core, struct lane *lane, struct slice id, struct slice key,
                       struct slice values, struct producer *producer, uint64_t seq) {
    struct batch *batch = redriven_batch(core, lane, values.n);
    size_t before = batch_bytes(batch);
    batch_add(batch, id, key, values, producer, seq);
    flow_hold(core, batch, (int64_t)(batch_bytes(batch) - before));
    core->n_records++;
    partition_touch(lane->partition, batch);
}

void fill_due(struct core *core, struct batch *batch) {
    assert(batch->state == BATCH_OPEN);
    if (batch->n_in_write < batch->n) {
        partition_touch(batch->lane->partition, batch);
    }
    if (!batch->is_due && batch->lane->group->jobs == NULL) { // else it goes on filling until its job goes
        batch->is_due = true;
        flow_add_due(batch);
    }
    batch->due_us = INT64_MAX;
}

void fill_done(struct core *core, struct batch *batch) {
    if (batch->state != BATCH_SEALED || batch->n_durable < batch->n || batch->last_call > 0 ||
        batch->calls != NULL) {
        return;
    }
    not_sealing(batch);
    struct call *call = call_whole(batch);
    if (call != NULL) {
        marks_first(batch, call);
        call_enter(core, call, CALL_READY, false);
        call->next_number = call->mark_cseq != 0 ? batch_next_number(batch, 0) : 0; // as its mark says
    }
}

void fill_forget(struct core *core, struct batch *batch) {
    struct call *call, *next;
    DL_FOREACH_SAFE(batch->calls, call, next) {
        call_free(core, call);
    }
    if (batch->is_due) {
        flow_remove_due(batch);
    }
    marks_forget(batch);
    late_outlive(core, batch);
    not_sealing(batch);
    if (batch->lane->open == batch) {
        batch->lane->open = NULL;
    }
    DL_DELETE2(batch->lane->batches, batch, lane_prev, lane_next);
    HASH_DEL(core->batches, batch);
    flow_hold(core, batch, -(int64_t)batch_bytes(batch));
    core->n_records -= (int64_t)batch->n_unanswered;
    batch_free(batch);
}

void fill_forget_all(struct core *core, const struct partition *p) {
    struct batch *batch, *next;
    HASH_ITER(hh, core->batches, batch, next) {
        if (p == NULL || batch->lane->partition == p) {
            fill_forget(core, batch);
        }
    }
}
