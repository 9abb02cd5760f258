// Calls whose report may still come. Invariant: each is here at most once, and leaves with its first report, when
// its worker takes it up again, or when that says that it never got it; what is here is durable in the write after
// it came, so that the next coordinator counts and resolves in the place of this one.
// Called by call (expect), collect (take), marks (write, read) and roster with what workers say.
#include "coordinator/late.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/bill.h"
#include "coordinator/intake.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define LATE_MAX 65536 // the oldest are forgotten beyond that
#define CALL_FIELDS 6  // of a late call in a mark, and
#define PAYER_FIELDS 3 // of who pays for those of a batch that is finished

// worker_id names a process of a worker.
static uint64_t worker_id(const struct worker *worker) {
    return XXH3_64bits_withSeed(worker->name, strlen(worker->name), worker->incarnation);
}

static uint64_t route_id(const struct worker *worker) {
    struct slice route = route_slice(&worker->route);
    return XXH3_64bits(route.p, route.n);
}

static struct partition *partition_of_lates(struct core *core, const struct lates *lates) {
    uint64_t index = lates->batch >> 52; // see partition_next_batch
    return index < core->config->n_partitions ? &core->partitions[index] : NULL;
}

static struct lates *find_lates(const struct core *core, uint64_t batch) {
    struct lates *lates;
    HASH_FIND(hh, core->lates, &batch, sizeof(batch), lates);
    return lates;
}

static struct late *find_late(const struct core *core, uint64_t batch, uint64_t call) {
    struct lates *lates = find_lates(core, batch);
    struct late *late = lates != NULL ? lates->calls : NULL;
    while (late != NULL && late->call != call) {
        late = late->next;
    }
    return late;
}

// ---- Life -------------------------------------------------------------------------------------------

void late_free(struct late *late) {
    if (late != NULL) {
        bill_free(late->bill);
        free(late);
    }
}

static void lates_free(struct core *core, struct lates *lates) {
    struct partition *p = partition_of_lates(core, lates);
    if (lates->mark_dirty) {
        DL_DELETE2(p->lates, lates, mark_prev, mark_next);
    }
    HASH_DEL(core->lates, lates);
    free(lates->model);
    free((char *)lates->options.p);
    free(lates);
}

static void touch(struct core *core, struct lates *lates) {
    struct batch *batch;
    struct partition *p = partition_of_lates(core, lates);
    HASH_FIND(hh, core->batches, &lates->batch, sizeof(lates->batch), batch);
    if (batch != NULL) {
        marks_touch(batch);
    } else if (p != NULL && !lates->mark_dirty) {
        lates->mark_dirty = true;
        DL_APPEND2(p->lates, lates, mark_prev, mark_next);
    }
    if (p != NULL) {
        p->tally_dirty = true; // what a worker is told waits for it
    }
}

// take_out takes a late call off its batch, which is forgotten with its last one once that is written.
static void take_out(struct core *core, struct late *late) {
    struct lates *lates = late->of;
    DL_DELETE(lates->calls, late);
    core->n_late--;
    touch(core, lates);
    if (lates->calls == NULL && !lates->mark_dirty) {
        lates_free(core, lates);
    }
}

static void forget(struct core *core, struct late *late) {
    take_out(core, late);
    late_free(late);
}

// count counts a late call as ambiguous that was not, and what it may have cost.
static void count(struct core *core, struct late *late, enum ambiguity cause) {
    struct partition *p = partition_of_lates(core, late->of);
    late->counted = cause;
    marks_count(core, late->of->batch, late->call, cause);
    if (p != NULL && late->bill != NULL && !late->is_paid) {
        bill_maybe(core, p, late->bill, &late->charge, late->reserved_nusd);
    }
    touch(core, late->of);
}

static void forget_oldest(struct core *core) {
    struct lates *lates = core->lates;
    while (lates != NULL && lates->calls == NULL) {
        lates = lates->hh.next;
    }
    if (lates != NULL && lates->calls->counted == AMBIGUITY_NONE) {
        count(core, lates->calls, AMBIGUITY_LOST);
    }
    if (lates != NULL) {
        forget(core, lates->calls);
    }
}

static struct late *add(struct core *core, uint64_t batch, uint64_t call) {
    struct lates *lates = find_lates(core, batch);
    if (lates == NULL) {
        lates = mem_zalloc(sizeof(*lates));
        lates->batch = batch;
        HASH_ADD(hh, core->lates, batch, sizeof(lates->batch), lates);
    }
    struct late *late = mem_zalloc(sizeof(*late));
    late->of = lates;
    late->call = call;
    DL_APPEND(lates->calls, late);
    core->n_late++;
    return late;
}

void late_expect(struct core *core, const struct call *call) {
    if (find_late(core, call->batch->id, call->number) != NULL) {
        return;
    }
    if (core->n_late == LATE_MAX) {
        forget_oldest(core);
    }
    struct late *late = add(core, call->batch->id, call->number);
    late->worker = call->worker != NULL ? worker_id(call->worker) : 0;
    late->route = call->worker != NULL ? route_id(call->worker) : 0;
    late->counted = call->counted;
    late->bill = bill_copy(call->group->bill);
    late->reserved_nusd = call->reserved_nusd;
    late->charge = call->charge;
    late->is_paid = batch_is_counted(call->batch, call->number);
    touch(core, late->of);
}

void late_outlive(struct core *core, const struct batch *batch) {
    struct lates *lates = find_lates(core, batch->id);
    const struct group *group = batch->lane->group;
    if (lates != NULL && !lates->mark_dirty) {
        lates->model = mem_dup_str(group->model->name);
        lates->revision = group->model->revision;
        lates->options = (struct slice){.p = slice_dup(group->options), .n = group->options.n};
        lates->mark_dirty = true;
        DL_APPEND2(batch->lane->partition->lates, lates, mark_prev, mark_next);
    }
}

void late_forget_all(struct core *core) {
    while (core->lates != NULL) {
        while (core->lates->calls != NULL) {
            struct late *late = core->lates->calls;
            DL_DELETE(core->lates->calls, late);
            late_free(late);
        }
        lates_free(core, core->lates);
    }
}

// ---- What workers say -------------------------------------------------------------------------------

struct charge late_claimed(struct core *core, uint64_t batch, uint64_t call) {
    struct late *late = find_late(core, batch, call);
    struct charge charge = {0};
    if (late != NULL && late->counted != AMBIGUITY_NONE) {
        marks_resolve(core, batch, call, late->counted);
    }
    if (late != NULL) {
        charge = late->charge;
        forget(core, late);
    }
    return charge;
}

bool late_named(struct core *core, const struct worker *worker, uint64_t batch, uint64_t call) {
    struct late *late = find_late(core, batch, call);
    if (late != NULL) {
        late->named = core->n_hellos;
        late->worker = worker_id(worker);
        late->unclaimed = false;
    }
    return late != NULL;
}

void late_worker_gone(struct core *core, const struct worker *worker) {
    uint64_t id = core->lates != NULL ? worker_id(worker) : 0;
    for (struct lates *lates = core->lates; lates != NULL; lates = lates->hh.next) {
        for (struct late *late = lates->calls; late != NULL; late = late->next) {
            if (late->worker == id && late->counted == AMBIGUITY_NONE) {
                late->unclaimed = false;
                count(core, late, AMBIGUITY_LOST);
            }
        }
    }
}

void late_worker_back(struct core *core, const struct worker *worker) {
    struct lates *lates, *next_lates;
    struct late *late, *next;
    uint64_t id = core->lates != NULL ? worker_id(worker) : 0;
    HASH_ITER(hh, core->lates, lates, next_lates) {
        DL_FOREACH_SAFE(lates->calls, late, next) {
            bool is_here = late->route == route_id(worker); // the call may still be on its way
            if (late->worker == id && late->named != core->n_hellos && !is_here) { // it never got the call
                if (late->counted != AMBIGUITY_NONE) {
                    marks_resolve(core, lates->batch, late->call, late->counted);
                }
                forget(core, late);
            }
        }
    }
}

struct late *late_take(struct core *core, const struct message_report *report, enum outcome outcome) {
    struct late *late = find_late(core, report->batch, report->call);
    if (late == NULL) {
        return NULL;
    }
    enum ambiguity now = marks_ambiguity(report, outcome);
    if (late->counted != AMBIGUITY_NONE && now == AMBIGUITY_NONE) {
        marks_resolve(core, report->batch, report->call, late->counted);
    } else if (late->counted == AMBIGUITY_NONE && now != AMBIGUITY_NONE) {
        marks_count(core, report->batch, report->call, now);
    }
    take_out(core, late);
    return late;
}

// ---- Over a restart ---------------------------------------------------------------------------------

size_t late_count(const struct core *core, uint64_t batch) {
    size_t n = 0;
    const struct lates *lates = find_lates(core, batch);
    for (const struct late *late = lates != NULL ? lates->calls : NULL; late != NULL; late = late->next) {
        n++;
    }
    return n;
}

int late_pack(const struct core *core, uint64_t batch, struct buf *out) {
    int rc = 0;
    const struct lates *lates = find_lates(core, batch);
    for (const struct late *late = lates != NULL ? lates->calls : NULL; late != NULL; late = late->next) {
        rc |= pack_array(out, CALL_FIELDS);
        rc |= pack_uint(out, late->call);
        rc |= pack_uint(out, late->worker);
        rc |= pack_uint(out, late->counted);
        rc |= pack_uint(out, late->is_paid);
        rc |= pack_uint(out, late->charge.is_counted);
        rc |= pack_uint(out, (uint64_t)(late->charge.is_counted ? late->charge.maybe : late->reserved_nusd));
    }
    return rc;
}

static int pack_payer(const struct lates *lates, struct buf *out) {
    int rc = pack_array(out, PAYER_FIELDS);
    rc |= pack_str(out, slice_of(lates->model));
    rc |= pack_uint(out, lates->revision);
    rc |= pack_str(out, lates->options);
    return rc;
}

void late_write(struct core *core, struct partition *p) {
    struct buf *blob = &core->scratch;
    while (p->lates != NULL) {
        struct lates *lates = p->lates;
        size_t n = late_count(core, lates->batch);
        lates->mark_dirty = false;
        DL_DELETE2(p->lates, lates, mark_prev, mark_next);
        if (n == 0) {
            txn_unmark(partition_txn(p), lates->batch);
            lates_free(core, lates);
            continue;
        }
        buf_clear(blob);
        int rc = pack_array(blob, (uint32_t)n + (lates->model != NULL));
        rc |= late_pack(core, lates->batch, blob);
        rc |= lates->model != NULL ? pack_payer(lates, blob) : 0;
        assert(rc == 0); // a batch has far fewer calls than scratch has room for
        txn_mark(partition_txn(p), lates->batch, buf_slice(blob));
    }
}

static int read_call(struct core *core, uint64_t batch, const struct batch *live, struct slice rest) {
    uint64_t f[CALL_FIELDS];
    for (size_t i = 0; i < CALL_FIELDS; i++) {
        if (pack_uint_next(&rest, &f[i]) != 0) {
            return -EPROTO;
        }
    }
    if (f[2] >= N_AMBIGUITIES || f[5] > INT64_MAX || find_late(core, batch, f[0]) != NULL) {
        return -EPROTO;
    }
    struct late *late = add(core, batch, f[0]);
    late->worker = f[1];
    late->counted = (enum ambiguity)f[2];
    late->unclaimed = late->counted == AMBIGUITY_NONE;
    late->is_paid = f[3] != 0 || (live != NULL && batch_is_counted(live, (uint32_t)f[0]));
    late->charge = (struct charge){.is_counted = f[4] != 0, .maybe = f[4] != 0 ? (int64_t)f[5] : 0};
    late->reserved_nusd = (int64_t)f[5];
    late->bill = live != NULL ? bill_copy(batch_group_of(live, f[0])->bill) : NULL;
    return 0;
}

// read_payer finds out who pays for the calls of a batch that is finished: the same group as before, unless its
// model is gone.
static int read_payer(struct core *core, uint64_t batch, struct slice rest) {
    struct slice model, options;
    uint64_t revision;
    struct error why = {0};
    int status = 0;
    struct lates *lates = find_lates(core, batch);
    if (pack_str_next(&rest, &model) != 0 || pack_uint_next(&rest, &revision) != 0 ||
        pack_str_next(&rest, &options) != 0 || lates == NULL || lates->model != NULL) {
        return -EPROTO;
    }
    lates->model = slice_dup(model);
    lates->revision = (uint32_t)revision;
    lates->options = (struct slice){.p = slice_dup(options), .n = options.n};
    const struct group *group = group_get(core, model, lates->revision, options, &status, &why);
    for (struct late *late = lates->calls; late != NULL && group != NULL; late = late->next) {
        bool is_own = number_level(late->call) == 0; // of another model nobody knows the price any more
        late->bill = late->bill == NULL && is_own ? bill_copy(group->bill) : late->bill;
    }
    return 0;
}

void late_read(struct core *core, uint64_t batch, const struct batch *live, struct slice blob) {
    uint32_t n = 0, n_fields;
    struct slice item;
    int rc = pack_array_next(&blob, &n);
    for (; rc == 0 && n > 0 && pack_whole(&blob, &item) == 1; n--) {
        if (pack_array_next(&item, &n_fields) != 0) {
            rc = -EPROTO;
        } else if (n_fields == CALL_FIELDS) {
            rc = read_call(core, batch, live, item);
        } else if (live == NULL) { // calls that may be out: their batch could not be read
            rc = n_fields == PAYER_FIELDS ? read_payer(core, batch, item) : -EPROTO;
        }
    }
    if (rc != 0 || n > 0) {
        log_error("mark.damaged", "batch=%016" PRIx64, batch);
    }
}

void late_unclaimed(struct core *core, const struct batch *batch, uint64_t call) {
    if (find_late(core, batch->id, call) == NULL) {
        struct late *late = add(core, batch->id, call);
        late->unclaimed = true;
        late->is_paid = batch_is_counted(batch, (uint32_t)call);
        late->bill = bill_copy(batch_group_of(batch, call)->bill);
        touch(core, late->of);
    }
}

void late_recovered(struct core *core, int64_t not_before_us) {
    core->late_due_us = not_before_us;
}

void late_tick(struct core *core) {
    if (core->now_us < core->late_due_us) {
        return;
    }
    core->late_due_us = INT64_MAX;
    for (struct lates *lates = core->lates; lates != NULL; lates = lates->hh.next) {
        for (struct late *late = lates->calls; late != NULL; late = late->next) {
            if (late->unclaimed) { // nobody has named it
                late->unclaimed = false;
                core->status->calls++;
                core->status->calls_failed++;
                count(core, late, AMBIGUITY_CRASH);
            }
        }
    }
}
