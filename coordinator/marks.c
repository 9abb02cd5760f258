// Marks of calls that may be out. Invariant: a call is sent only if its mark is durable (marks_hold), and
// a mark leaves Redis only in a write that holds what became of its call. Called by dispatch (ask, hold,
// ahead), collect (count, resolve), partition (write) and core (recovery, tick).
#include "coordinator/marks.h"
#include "common/log.h"
#include "coordinator/flow.h"
#include "coordinator/job.h"
#include "coordinator/late.h"
#include "coordinator/partition.h"
#include "proto/frame.h"

#include <assert.h>
#include <inttypes.h>
#include <msgpack.h>
#include <string.h>

#define MARK_FIELDS 7
#define MARK_LINE_FIELDS 9 // of a line of a job

static struct partition *partition_of_batch(struct core *core, uint64_t batch) {
    uint64_t index = batch >> 52; // see partition_next_batch
    return index < core->config->n_partitions ? &core->partitions[index] : NULL;
}

bool marks_hold(const struct call *call) {
    return call->mark_cseq != 0 && call->mark_cseq <= call->batch->lane->partition->durable_cseq;
}

void marks_touch(struct batch *batch) {
    if (!batch->mark_dirty) {
        batch->mark_dirty = true;
        DL_APPEND2(batch->lane->partition->marks, batch, mark_prev, mark_next);
    }
}

void marks_ask(struct call *call, bool now) {
    struct partition *p = call->batch->lane->partition;
    if (call->mark_cseq == 0) {
        call->mark_cseq = p->cseq + 1; // of the next write
        marks_touch(call->batch);
    }
    p->marks_due |= now && call->mark_cseq > p->cseq;
}

void marks_drop(struct call *call) {
    if (call->mark_cseq != 0) {
        call->mark_cseq = 0;
        marks_touch(call->batch);
    }
}

void marks_ahead(struct batch *batch) {
    struct flow_class *class = flow_class_of(batch);
    bool may_go = batch->state == BATCH_SEALED || batch->is_due;
    if (may_go && batch->lane->group->jobs == NULL && batch->mark_cseq == 0 && batch->last_call == 0 && batch->calls == NULL &&
        class->may_mark > 0) {
        class->may_mark--;
        class->n_ahead++;
        batch->mark_cseq = batch->lane->partition->cseq + 1;
        marks_touch(batch);
    }
}

void marks_first(struct batch *batch, struct call *call) {
    if (batch->mark_cseq != 0) {
        call->mark_cseq = batch->mark_cseq;
        batch->mark_cseq = 0;
        flow_class_of(batch)->n_ahead--;
    }
}

void marks_forget(struct batch *batch) {
    if (batch->mark_dirty) {
        DL_DELETE2(batch->lane->partition->marks, batch, mark_prev, mark_next);
        batch->mark_dirty = false;
    }
    if (batch->mark_cseq != 0) {
        flow_class_of(batch)->n_ahead--;
        batch->mark_cseq = 0;
    }
}

// ---- Counting ---------------------------------------------------------------------------------------

enum ambiguity marks_ambiguity(const struct message_report *report, enum outcome outcome) {
    bool is_open = report->sent && (report->http_status == 0 || report->http_status == 200);
    if (is_open && outcome == OUTCOME_TIMED_OUT) {
        return AMBIGUITY_TIMEOUT;
    }
    return is_open && outcome == OUTCOME_BROKEN ? AMBIGUITY_BROKEN : AMBIGUITY_NONE;
}

static void add_counts(struct status *s, enum ambiguity cause, uint64_t n, uint64_t n_resolved) {
    uint64_t *const counted[N_AMBIGUITIES] = {
        [AMBIGUITY_TIMEOUT] = &s->ambiguous_timeout, [AMBIGUITY_BROKEN] = &s->ambiguous_broken,
        [AMBIGUITY_LOST] = &s->ambiguous_lost, [AMBIGUITY_CRASH] = &s->ambiguous_crash};
    uint64_t *const resolved[N_AMBIGUITIES] = {[AMBIGUITY_LOST] = &s->resolved_lost,
                                               [AMBIGUITY_CRASH] = &s->resolved_crash};
    s->calls_ambiguous += n;
    *counted[cause] += n;
    if (resolved[cause] != NULL) { // of the others the report came: nothing more will
        s->ambiguous_resolved += n_resolved;
        *resolved[cause] += n_resolved;
    }
}

static const char *const causes[N_AMBIGUITIES] = {
    [AMBIGUITY_TIMEOUT] = "timeout", [AMBIGUITY_BROKEN] = "broken", [AMBIGUITY_LOST] = "worker_lost",
    [AMBIGUITY_CRASH] = "coordinator_crash"};

void marks_count(struct core *core, uint64_t batch, uint64_t call, enum ambiguity cause) {
    log_debug("call.ambiguous", "batch=%016" PRIx64 " call=%" PRIu64 " cause=%s", batch, call, causes[cause]);
    struct partition *p = partition_of_batch(core, batch);
    add_counts(core->status, cause, 1, 0);
    if (p != NULL) {
        p->tally.counted[cause]++;
        p->tally_dirty = p->marks_due = true;
    }
}

void marks_resolve(struct core *core, uint64_t batch, uint64_t call, enum ambiguity cause) {
    log_debug("call.resolved", "batch=%016" PRIx64 " call=%" PRIu64 " cause=%s", batch, call, causes[cause]);
    struct partition *p = partition_of_batch(core, batch);
    add_counts(core->status, cause, 0, 1);
    if (p != NULL) {
        p->tally.resolved[cause]++;
        p->tally_dirty = true;
    }
}

// ---- Writing ----------------------------------------------------------------------------------------

static int pack_write(void *data, const char *bytes, size_t n) {
    return buf_add(data, bytes, n);
}

static bool is_out(const struct call *call) {
    return call->state == CALL_SENT || call->mark_cseq != 0 || call->unclaimed;
}

// is_planned says whether a call is a line of a job that is more than a thought.
static bool is_planned(const struct call *call) {
    return call->state == CALL_LISTED && call->line->job->state != JOB_FILLING;
}

static bool has_history(const struct call *call) {
    return call->n_lost > 0 || call->n_ambiguous > 0;
}

// pack_slots packs runs: first slot, how many.
static void pack_slots(msgpack_packer *pk, const struct call *call) {
    if (call->n_slots == call->batch->n) {
        msgpack_pack_array(pk, 0);
        return;
    }
    size_t n_runs = 0;
    for (size_t i = 0; i < call->n_slots; i++) {
        n_runs += i == 0 || call->slots[i] != call->slots[i - 1] + 1;
    }
    msgpack_pack_array(pk, 2 * n_runs);
    for (size_t i = 0, n; i < call->n_slots; i += n) {
        for (n = 1; i + n < call->n_slots && call->slots[i + n] == call->slots[i] + n;) {
            n++;
        }
        msgpack_pack_uint64(pk, call->slots[i]);
        msgpack_pack_uint64(pk, n);
    }
}

static void pack_bool(msgpack_packer *pk, bool value) {
    if (value) {
        msgpack_pack_true(pk);
    } else {
        msgpack_pack_false(pk);
    }
}

static void pack_call(msgpack_packer *pk, struct call *call) {
    if (call->state == CALL_READY && call->mark_cseq != 0 && call->next_number == 0) {
        call->next_number = batch_next_number(call->batch, call->level);
    }
    msgpack_pack_array(pk, is_planned(call) ? MARK_LINE_FIELDS : MARK_FIELDS);
    pack_bool(pk, is_out(call));
    msgpack_pack_uint64(pk, call->state == CALL_READY ? call->next_number : call->number);
    msgpack_pack_uint64(pk, (uint64_t)call->n_lost);
    msgpack_pack_uint64(pk, (uint64_t)call->n_ambiguous);
    msgpack_pack_uint64(pk, (uint64_t)call->tries);
    pack_bool(pk, call->reasked);
    pack_slots(pk, call);
    if (is_planned(call)) {
        msgpack_pack_uint64(pk, call->line->job->id);
        msgpack_pack_bin(pk, sizeof(call->line->hash));
        msgpack_pack_bin_body(pk, call->line->hash, sizeof(call->line->hash));
    }
}

// pack_first packs the call that a batch will make once it is durable.
static void pack_first(msgpack_packer *pk, const struct batch *batch) {
    msgpack_pack_array(pk, MARK_FIELDS);
    msgpack_pack_true(pk);
    msgpack_pack_uint64(pk, batch_number_after(batch));
    for (int i = 0; i < 3; i++) {
        msgpack_pack_uint64(pk, 0);
    }
    msgpack_pack_false(pk);
    msgpack_pack_array(pk, 0);
}

static void write_mark(struct core *core, struct partition *p, struct batch *batch) {
    struct buf *blob = &core->scratch;
    buf_clear(blob);
    msgpack_packer pk;
    msgpack_packer_init(&pk, blob, pack_write);
    size_t n = (batch->mark_cseq != 0) + late_count(core, batch->id);
    for (const struct call *call = batch->calls; call != NULL; call = call->next) {
        n += is_out(call) || has_history(call) || is_planned(call);
    }
    if (n > 0) {
        msgpack_pack_array(&pk, n);
        if (batch->mark_cseq != 0) {
            pack_first(&pk, batch);
        }
        for (struct call *call = batch->calls; call != NULL; call = call->next) {
            if (is_out(call) || has_history(call) || is_planned(call)) {
                pack_call(&pk, call);
            }
        }
        int rc = late_pack(core, batch->id, blob);
        assert(rc == 0); // a batch has far fewer calls than scratch has room for
        txn_mark(partition_txn(p), batch->id, buf_slice(blob));
    } else if (batch->has_mark) {
        txn_unmark(partition_txn(p), batch->id);
    }
    batch->has_mark = n > 0;
}

static void write_tally(struct core *core, struct partition *p) {
    struct buf *blob = &core->scratch;
    buf_clear(blob);
    msgpack_packer pk;
    msgpack_packer_init(&pk, blob, pack_write);
    msgpack_pack_array(&pk, 2 * (size_t)N_AMBIGUITIES);
    for (int i = 0; i < N_AMBIGUITIES; i++) {
        msgpack_pack_uint64(&pk, p->tally.counted[i]);
        msgpack_pack_uint64(&pk, p->tally.resolved[i]);
    }
    txn_mark(partition_txn(p), 0, buf_slice(blob));
}

void marks_write(struct core *core, struct partition *p) {
    struct batch *batch, *next;
    DL_FOREACH_SAFE2(p->marks, batch, next, mark_next) {
        DL_DELETE2(p->marks, batch, mark_prev, mark_next);
        batch->mark_dirty = false;
        write_mark(core, p, batch);
    }
    late_write(core, p);
    if (p->tally_dirty) {
        write_tally(core, p);
    }
    p->tally_dirty = p->marks_due = false;
}

void marks_tick(struct core *core) {
    core->ahead -= (core->ahead + 7) / 8;
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        struct partition *p = &core->partitions[i];
        p->marks_due |= p->marks != NULL || p->tally_dirty;
    }
}

// ---- Recovery ---------------------------------------------------------------------------------------

static uint64_t number_of(const msgpack_object *o) {
    return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : 0;
}

static bool flag_of(const msgpack_object *o) {
    return o->type == MSGPACK_OBJECT_BOOLEAN && o->via.boolean;
}

// open_blob unpacks an array; the caller destroys *unpacked when it returns true.
static bool open_blob(struct slice blob, msgpack_unpacked *unpacked) {
    msgpack_unpacked_init(unpacked);
    // The scan first: the unpacker believes every declared count and reserves memory for it.
    if (frame_scan(blob, 1, NULL) == 1 &&
        msgpack_unpack_next(unpacked, blob.p, blob.n, NULL) == MSGPACK_UNPACK_SUCCESS &&
        unpacked->data.type == MSGPACK_OBJECT_ARRAY) {
        return true;
    }
    msgpack_unpacked_destroy(unpacked);
    return false;
}

static void read_tally(struct core *core, struct partition *p, struct slice blob) {
    msgpack_unpacked unpacked;
    if (!open_blob(blob, &unpacked)) {
        log_error("tally.damaged", "partition=%" PRIu32, p->index);
        return;
    }
    const msgpack_object_array *a = &unpacked.data.via.array;
    for (uint32_t i = 1; i < N_AMBIGUITIES && 2 * i + 1 < a->size; i++) {
        p->tally.counted[i] = number_of(&a->ptr[2 * i]);
        p->tally.resolved[i] = number_of(&a->ptr[2 * i + 1]);
        add_counts(core->status, (enum ambiguity)i, p->tally.counted[i], p->tally.resolved[i]);
    }
    msgpack_unpacked_destroy(&unpacked);
}

void marks_read(struct core *core, struct partition *p, uint64_t id, struct slice blob) {
    if (id == 0) {
        read_tally(core, p, blob);
        return;
    }
    struct batch *batch;
    HASH_FIND(hh, core->batches, &id, sizeof(id), batch);
    if (batch != NULL && batch->found_mark.p == NULL) {
        batch->found_mark = (struct slice){.p = slice_dup(blob), .n = blob.n};
        batch->has_mark = true;
    }
    late_read(core, id, batch, blob);
}

static void read_mark(const msgpack_object *o, struct mark *mark) {
    const msgpack_object *f = o->via.array.ptr;
    *mark = (struct mark){.is_out = flag_of(&f[0]), .reasked = flag_of(&f[5])};
    mark->number = (uint32_t)number_of(&f[1]);
    mark->n_lost = (int)(number_of(&f[2]) & 0xFFFF);
    mark->n_ambiguous = (int)(number_of(&f[3]) & 0xFFFF);
    mark->tries = (int)(number_of(&f[4]) & 0xFFFF);
    if (o->via.array.size == MARK_LINE_FIELDS && f[8].type == MSGPACK_OBJECT_BIN &&
        f[8].via.bin.size == sizeof(mark->line)) {
        mark->job = number_of(&f[7]);
        memcpy(mark->line, f[8].via.bin.ptr, sizeof(mark->line));
    }
    const msgpack_object_array *runs = &f[6].via.array;
    for (uint32_t i = 0; i + 1 < runs->size; i += 2) {
        uint64_t slot = number_of(&runs->ptr[i]), n = number_of(&runs->ptr[i + 1]);
        for (; n > 0 && slot < MODEL_BATCH_MAX && mark->n_slots < MODEL_BATCH_MAX; n--) {
            mark->slots[mark->n_slots++] = (uint16_t)slot++;
        }
    }
}

void marks_each(struct slice blob, mark_fn *each, void *arg) {
    msgpack_unpacked unpacked;
    if (!open_blob(blob, &unpacked)) {
        return;
    }
    const msgpack_object_array *list = &unpacked.data.via.array;
    for (uint32_t i = 0; i < list->size; i++) {
        const msgpack_object *o = &list->ptr[i];
        if (o->type == MSGPACK_OBJECT_ARRAY &&
            (o->via.array.size == MARK_FIELDS || o->via.array.size == MARK_LINE_FIELDS) &&
            o->via.array.ptr[6].type == MSGPACK_OBJECT_ARRAY) {
            struct mark mark;
            read_mark(o, &mark);
            each(arg, &mark);
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}
