// Key to partition, and the one write a turn that each partition makes. Invariant: an `after` carries
// the cseq of the write that it waits for, and they stand in that order. Called by intake and collect
// (touch, txn, after), by core at the end of a turn (flush) and when the store confirms (written).
#include "coordinator/partition.h"
#include "common/mem.h"
#include "coordinator/collect.h"
#include "coordinator/deliver.h"
#include "coordinator/fill.h"
#include "coordinator/jobs.h"
#include "coordinator/marks.h"
#include "coordinator/producer.h"
#include "coordinator/roster.h"
#include "coordinator/spend.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

uint32_t partition_of(struct slice key, uint32_t n) {
    return (uint32_t)(XXH3_64bits(key.p, key.n) % n);
}

bool partition_all_leased(const struct core *core) {
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        const struct partition *p = &core->partitions[i];
        if (p->state == PARTITION_OWNED && p->lease_until_us <= core->now_us) {
            return false;
        }
    }
    return true;
}

uint64_t partition_next_batch(struct partition *p) {
    return (uint64_t)p->index << 52 | (p->epoch & 0xFFFFF) << 32 | ++p->next_batch;
}

void partition_touch(struct partition *p, struct batch *batch) {
    if (batch->dirty) {
        return;
    }
    batch->dirty = true;
    batch->dirty_next = NULL;
    if (p->dirty_tail != NULL) {
        p->dirty_tail->dirty_next = batch;
    } else {
        p->dirty = batch;
    }
    p->dirty_tail = batch;
}

struct txn *partition_txn(struct partition *p) {
    if (p->txn == NULL) {
        p->txn = txn_new(p->index);
    }
    return p->txn;
}

static void after_add(struct partition *p, struct after after) {
    if (p->n_after == p->cap_after) {
        size_t cap = p->cap_after > 0 ? p->cap_after * 2 : 64;
        struct after *ring = mem_alloc(cap * sizeof(*ring));
        for (size_t i = 0; i < p->n_after; i++) {
            ring[i] = p->after[(p->after_head + i) % p->cap_after];
        }
        free(p->after);
        p->after = ring;
        p->after_head = 0;
        p->cap_after = cap;
    }
    p->after[(p->after_head + p->n_after++) % p->cap_after] = after;
}

void partition_after(struct partition *p, struct after after) {
    after.cseq = p->cseq + 1; // of the write that this turn gathers
    after_add(p, after);
}

bool partition_after_pending(struct partition *p, struct after after) {
    bool has_marks = p->tally_dirty || p->marks != NULL; // one of them may be that of a call that has ended
    if (p->dirty != NULL || p->txn != NULL || has_marks) {
        p->marks_due |= has_marks;
        partition_after(p, after);
        return true;
    }
    if (p->n_after == 0) {
        return false;
    }
    after.cseq = p->after[(p->after_head + p->n_after - 1) % p->cap_after].cseq;
    after_add(p, after);
    return true;
}

static void touch_producer(struct partition *p, struct producer *producer) {
    for (size_t i = p->n_touched; i-- > 0;) {
        if (p->touched[i] == producer) {
            return;
        }
    }
    if (p->n_touched == p->cap_touched) {
        p->cap_touched = p->cap_touched > 0 ? p->cap_touched * 2 : 4;
        p->touched = mem_realloc(p->touched, p->cap_touched * sizeof(struct producer *));
    }
    p->touched[p->n_touched++] = producer;
}

void partition_accept(struct partition *p, struct producer *producer, uint64_t seq) {
    touch_producer(p, producer);
    partition_txn(p);
    partition_after(p, (struct after){.kind = AFTER_SEQ, .seq = {.producer = producer, .seq = seq}});
}

// touch_open puts open batches into the write when records of other groups are in it, or refused rows:
// a producer's accepted sequence is one number a partition, so an older record must not stay behind a
// newer one.
static void touch_open(struct core *core, struct partition *p) {
    bool new_records = p->n_touched > 0; // of refused rows
    if (!new_records && (core->groups == NULL || core->groups->hh.next == NULL)) {
        return; // one group: its batches are written in the order of its records
    }
    for (struct batch *b = p->dirty; b != NULL; b = b->dirty_next) {
        new_records |= b->n_in_write < b->n;
    }
    if (!new_records) {
        return;
    }
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        struct batch *open = g->lanes[p->index].open;
        if (open != NULL && open->n_in_write < open->n) {
            partition_touch(p, open);
        }
    }
}

static void write_batch(struct core *core, struct partition *p, struct batch *batch) {
    struct buf *blob = &core->scratch;
    buf_clear(blob);
    int rc = batch_pack(batch, blob);
    assert(rc == 0); // scratch holds more than a batch may have
    txn_put(partition_txn(p), batch->id, buf_slice(blob));
    if (batch->n_in_write < batch->n) {
        for (size_t i = batch->n_in_write; i < batch->n; i++) {
            if (batch->entries[i].producer != NULL) {
                touch_producer(p, batch->entries[i].producer);
            }
        }
        batch->n_in_write = batch->n;
        partition_after(p, (struct after){.kind = AFTER_BATCH,
                                          .batch = {.batch = batch->id, .n = batch->n}});
    }
}

// accepted_upto says how far a producer's sequence reaches in this partition once the write is made:
// up to right before its first record that only memory holds.
static uint64_t accepted_upto(struct core *core, struct partition *p, struct producer *producer) {
    uint64_t upto = producer->accepted;
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        const struct batch *open = g->lanes[p->index].open;
        if (open == NULL) {
            continue;
        }
        for (size_t i = open->n_in_write; i < open->n; i++) {
            const struct entry *e = &open->entries[i];
            if (e->producer == producer) {
                upto = e->seq - 1 < upto ? e->seq - 1 : upto;
                break; // its later records here have larger sequences
            }
        }
    }
    return upto;
}

static bool waits_for_next(const struct partition *p) {
    return p->n_after > 0 && p->after[(p->after_head + p->n_after - 1) % p->cap_after].cseq > p->cseq;
}

void partition_flush(struct core *core, struct partition *p) {
    if (p->state != PARTITION_OWNED || (p->dirty == NULL && p->txn == NULL && !p->marks_due)) {
        return;
    }
    touch_open(core, p);
    struct batch *next;
    for (struct batch *b = p->dirty; b != NULL; b = next) {
        next = b->dirty_next;
        b->dirty = false;
        if (b->n_unemitted > 0) {
            write_batch(core, p, b);
            marks_ahead(b);
        } else {
            txn_delete(partition_txn(p), b->id);
            collect_finished(core, b);
            if (b->has_mark) {
                txn_unmark(partition_txn(p), b->id);
            }
            fill_forget(core, b);
        }
    }
    p->dirty = p->dirty_tail = NULL;
    for (size_t i = 0; i < p->n_touched; i++) {
        txn_producer(partition_txn(p), slice_of(p->touched[i]->name),
                     accepted_upto(core, p, p->touched[i]));
    }
    p->n_touched = 0;
    marks_write(core, p);
    if (p->txn == NULL && waits_for_next(p)) { // for a mark that is as it should be: the tally does for the write
        p->tally_dirty = true;
        marks_write(core, p);
    }
    if (p->txn == NULL) {
        return; // what was to be marked is not there any more
    }
    spend_flush(p);
    struct txn *txn = p->txn;
    p->txn = NULL;
    txn->epoch = p->epoch;
    txn->cseq = ++p->cseq;
    txn->oseq = p->oseq;
    core->status->writes++;
    core->io->write(core->io->arg, &txn);
}

static void batch_is_durable(struct core *core, uint64_t id, size_t n) {
    struct batch *batch;
    HASH_FIND(hh, core->batches, &id, sizeof(id), batch);
    if (batch == NULL) {
        return;
    }
    for (; batch->n_durable < n; batch->n_durable++) {
        struct entry *e = &batch->entries[batch->n_durable];
        if (e->producer != NULL) {
            producer_durable(e->producer, e->seq);
        }
    }
    fill_done(core, batch);
}

void partition_written(struct core *core, struct partition *p, uint64_t cseq) {
    p->durable_cseq = cseq > p->durable_cseq ? cseq : p->durable_cseq;
    while (p->n_after > 0 && p->after[p->after_head].cseq <= cseq) {
        struct after after = p->after[p->after_head];
        p->after_head = (p->after_head + 1) % p->cap_after;
        p->n_after--;
        switch (after.kind) {
        case AFTER_BATCH:
            batch_is_durable(core, after.batch.batch, after.batch.n);
            break;
        case AFTER_SEQ:
            producer_durable(after.seq.producer, after.seq.seq);
            break;
        case AFTER_OUT:
            deliver_durable(core, p, after.out.last_oseq, after.out.n, after.out.blob);
            break;
        case AFTER_TAKEN:
            roster_taken(core, route_slice(&after.taken.route), after.taken.batch, after.taken.call);
            break;
        case AFTER_CONSUMER:
            after.consumer->cursors[p->index].is_new = false;
            break;
        case AFTER_JOB:
            jobs_durable(core, after.job.job);
            break;
        case AFTER_ANSWERS:
            jobs_answers_durable(core, after.job.job, after.job.chunk);
            break;
        }
    }
}

void partition_forget(struct core *core, struct partition *p) {
    for (; p->n_after > 0; p->n_after--) {
        struct after *after = &p->after[p->after_head];
        if (after->kind == AFTER_OUT) {
            free((char *)after->out.blob.p);
        }
        p->after_head = (p->after_head + 1) % p->cap_after;
    }
    free(p->after);
    p->after = NULL;
    p->after_head = p->cap_after = 0;
    txn_free(p->txn);
    p->txn = NULL;
    p->dirty = p->dirty_tail = NULL;
    while (p->marks != NULL) {
        marks_forget(p->marks);
    }
    free(p->touched);
    p->touched = NULL;
    p->n_touched = p->cap_touched = 0;
    spend_forget(p);
    deliver_forget(core, p);
}
