// A partition's life in the core, as the store reports it:
//
//          core_acquired             core_recovered         core_fenced
//   NONE ───────────────▶ RECOVERING ──────────────▶ OWNED ────────────▶ FENCED
//                             │                      core_fenced           ▲
//                             └────────────────────────────────────────────┘
//
// What Redis holds of it comes while it is RECOVERING, in the order of the functions here (store_own.c). Invariant:
// its batches have no calls before core_recovered, when marks have told what may be out of them. Called by main.c,
// or by a simulated world.
#include "coordinator/core.h"
#include "common/log.h"
#include "coordinator/claim.h"
#include "coordinator/core_state.h"
#include "coordinator/deliver.h"
#include "coordinator/emit.h"
#include "coordinator/fill.h"
#include "coordinator/flow.h"
#include "coordinator/intake.h"
#include "coordinator/jobs.h"
#include "coordinator/late.h"
#include "coordinator/letter_room.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "coordinator/producer.h"
#include "coordinator/spend.h"

#include <inttypes.h>

#define FIRST_BATCH_MAX 2147483648.0 // half of the numbers that ids have room for

void core_hint(struct core *core, struct slice producer, uint64_t seq) {
    struct producer *p = producer_get(core, producer);
    if (!core_is_open(core) && seq > p->acked) {
        p->acked = seq;
    }
}

void core_acquired(struct core *core, uint32_t partition, uint64_t epoch, uint64_t cseq, uint64_t oseq,
                   uint64_t first_oseq) {
    struct partition *p = &core->partitions[partition];
    p->state = PARTITION_RECOVERING;
    p->epoch = epoch;
    p->cseq = p->durable_cseq = cseq;
    p->oseq = p->durable_oseq = oseq;
    p->first_oseq = first_oseq;
    // An epoch may come twice where an older state of Redis was put back, and workers still answer for the
    // batches of the first time: most unlikely that two begin to count in the same place.
    p->next_batch = (uint32_t)(core->io->draw(core->io->arg) * FIRST_BATCH_MAX);
    p->lease_until_us = INT64_MAX;
}

void core_letters(struct core *core, uint32_t partition, uint64_t n) {
    letter_room_found(core, n);
}

static struct producer *on_batch_producer(void *arg, struct slice name) {
    return producer_get(arg, name);
}

static struct group *on_batch_group(void *arg, struct slice model, uint32_t revision, struct slice options) {
    int status;
    struct error why = {0};
    struct group *group = group_get(arg, model, revision, options, &status, &why);
    if (group == NULL) {
        log_error("batch.fallback", "model=%.*s revision=%u why=\"%s\"", SLICE_FMT(model), revision, why.text);
    }
    return group;
}

void core_batch(struct core *core, int64_t now_us, uint32_t partition, uint64_t id, struct slice blob) {
    core->now_us = now_us;
    struct slice model, options;
    uint32_t revision;
    struct error why = {0};
    int status = batch_peek(blob, &model, &revision, &options);
    struct group *g = status == 0 ? group_get(core, model, revision, options, &status, &why) : NULL;
    if (g == NULL) {
        log_error("batch.unreadable", "batch=%016" PRIx64 " rc=%d why=\"%s\" (it stays in Redis)", id,
                  status, why.text);
        return;
    }
    // Ids hold only part of the epoch: new ones start above those of the same part that are still there.
    struct partition *p = &core->partitions[partition];
    bool same_part = (id >> 32 & 0xFFFFF) == (p->epoch & 0xFFFFF);
    p->next_batch = same_part && (uint32_t)id > p->next_batch ? (uint32_t)id : p->next_batch;
    struct batch *batch = batch_new(id, &g->lanes[partition], now_us);
    batch->last_call = claim_first_number(p->epoch, id);
    g->pool->breaker.is_there = true; // this is not its first start
    if (batch_unpack(batch, blob, on_batch_producer, on_batch_group, core) != 0) {
        log_error("batch.damaged", "batch=%016" PRIx64 " (it stays in Redis)", id);
        batch_free(batch);
        return;
    }
    HASH_ADD(hh, core->batches, id, sizeof(batch->id), batch);
    DL_APPEND2(g->lanes[partition].batches, batch, lane_prev, lane_next);
    flow_hold(core, batch, (int64_t)batch_bytes(batch));
    core->n_records += (int64_t)batch->n_unanswered;
}

void core_mark(struct core *core, uint32_t partition, uint64_t batch, struct slice blob) {
    marks_read(core, &core->partitions[partition], batch, blob);
}

void core_producer(struct core *core, uint32_t partition, struct slice producer, uint64_t seq) {
    producer_get(core, producer)->recovered[partition] = seq;
}

void core_consumer(struct core *core, uint32_t partition, struct slice consumer, uint64_t oseq) {
    if (slice_is(consumer, DELIVER_PUSH_NAME) && !core->config->has_push) {
        return; // of an earlier start with a PUSH socket: it must not hold back trimming
    }
    struct cursor *cursor = &deliver_get(core, consumer)->cursors[partition];
    // Behind what is kept: it had acked that, and the position was not stored when the results were trimmed.
    uint64_t trimmed = core->partitions[partition].first_oseq - 1;
    cursor->acked = cursor->sent = oseq > trimmed ? oseq : trimmed;
    cursor->known = true;
}

void core_spent(struct core *core, struct slice field, int64_t value) {
    spend_recovered(core, field, value);
}

void core_job(struct core *core, int64_t now_us, uint32_t partition, uint64_t job, struct slice blob) {
    (void)partition; // the id says it
    core->now_us = now_us;
    jobs_restore(core, job, blob);
}

static int by_id(struct batch *a, struct batch *b) {
    return a->id < b->id ? -1 : a->id > b->id;
}

// start_lane makes the calls of a lane's recovered batches, in the order in which they were opened.
static void start_lane(struct core *core, struct lane *lane, int64_t not_before_us) {
    DL_SORT2(lane->batches, by_id, lane_prev, lane_next);
    struct batch *batch, *next;
    DL_FOREACH_SAFE2(lane->batches, batch, next, lane_next) {
        claim_recovered(core, batch, not_before_us);
        if (batch->n_unanswered == 0) {
            emit_ready(core, batch);
        }
    }
}

void core_recovered(struct core *core, int64_t now_us, uint32_t partition) {
    core->now_us = now_us;
    struct partition *p = &core->partitions[partition];
    p->state = PARTITION_OWNED;
    core->n_owned++;
    deliver_recovered(core, p); // counts what is there, before the lanes add to it
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        start_lane(core, &g->lanes[partition], now_us + core->config->grace_ms * 1000);
    }
    late_recovered(core, now_us + core->config->grace_ms * 1000);
    if (core->config->has_push) {
        struct cursor *cursor = &deliver_get(core, SLICE_LIT(DELIVER_PUSH_NAME))->cursors[partition];
        if (!cursor->known) {
            cursor->acked = cursor->sent = p->first_oseq - 1;
            cursor->known = true;
        }
    }
    if (core_is_open(core)) {
        jobs_open(core);
        for (struct producer *producer = core->producers; producer != NULL; producer = producer->hh.next) {
            producer_start(core, producer);
        }
        log_info("coordinator.open", "partitions=%u records=%lld", core->n_owned,
                 (long long)core->n_records);
    }
}

void core_leased(struct core *core, uint32_t partition, int64_t until_us) {
    core->partitions[partition].lease_until_us = until_us;
}

void core_fenced(struct core *core, uint32_t partition, const struct error *why) {
    struct partition *p = &core->partitions[partition];
    core->halted = true;
    if (p->state == PARTITION_OWNED) {
        core->n_owned--;
        core->n_results -= (int64_t)(p->oseq - (p->first_oseq - 1));
    }
    p->state = PARTITION_FENCED;
    p->fenced_why = *why;
    partition_forget(core, p);
    fill_forget_all(core, p);
}
