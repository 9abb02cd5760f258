// Batches as blobs for Redis. Invariant: what batch_pack wrote batch_unpack reads, of this version and of those
// before it; a blob holds nothing of what its records do not have. Called by partition (pack) and recovery.
#include "coordinator/batch.h"
#include "common/mem.h"
#include "common/plant.h"
#include "coordinator/core_state.h"
#include "proto/frame.h"

#include <errno.h>
#include <msgpack.h>

#define BATCH_VERSION 1
#define BLOB_FIELDS 9     // of the whole; of the first versions 7, then 8
#define BLOB_MORE 10      // with other models that records were handed on to
#define RECORD_PLAIN 12   // values of a record's array
#define RECORD_MORE 14    // with tokens that few calls have
#define RECORD_NOTED 15   // with notes, too
#define NOTES 3           // values of the notes' array
#define HELD_PLAIN 8      // values of an answer that waits for its turn
#define HELD_METADATA 10  // with what metadata columns want

// [version, model, revision, options, cost_known, n_slots, [record, ...], [number of a counted call, ...],
//  accepted_ms]
//   with [[model, revision, options], ...] behind it when records were handed on: of level 1, 2, ...
// record: [slot, id, key, producer | nil, seq, values, n_calls, in, cached, out, cost, held | nil]
//         with cache_write, reasoning behind them when there are any, and behind these [level, refused | nil,
//         defaulted | nil]
// a note, such as defaulted: [outcome, sentence]
// held (answered, waiting for its turn): [outcome, payload, call, latency, request, hash, served, warning]
//         with http_status, http_headers for a model with metadata columns; service_tier last if it is known

struct packing {
    struct buf *out;
    int rc;
};

static int pack_write(void *data, const char *bytes, size_t n) {
    struct packing *p = data;
    if (p->rc == 0) {
        p->rc = buf_add(p->out, bytes, n);
    }
    return p->rc;
}

static void pack_bytes(msgpack_packer *pk, struct slice s) {
    msgpack_pack_bin(pk, s.n);
    if (s.n > 0) {
        msgpack_pack_bin_body(pk, s.p, s.n);
    }
}

static void pack_held(msgpack_packer *pk, const struct batch *batch, const struct entry *e) {
    if (!e->answered) {
        msgpack_pack_nil(pk);
        return;
    }
    const struct answer *a = e->answer;
    bool has_metadata = batch->lane->group->model->metadata != 0;
    bool has_tier = a != NULL && a->service_tier[0] != '\0';
    msgpack_pack_array(pk, (has_metadata ? HELD_METADATA : HELD_PLAIN) + has_tier);
    pack_bytes(pk, slice_of(outcome_of(e->outcome)->text));
    pack_bytes(pk, (struct slice){.p = e->payload, .n = e->n_payload});
    msgpack_pack_uint64(pk, a != NULL ? a->call : 0);
    msgpack_pack_uint64(pk, a != NULL ? a->latency_us : 0);
    pack_bytes(pk, slice_of(a != NULL ? a->request_id : ""));
    pack_bytes(pk, slice_of(a != NULL ? a->prompt_hash : ""));
    pack_bytes(pk, slice_of(a != NULL ? a->served_model : ""));
    pack_bytes(pk, slice_of(a != NULL ? a->warning : ""));
    if (has_metadata) {
        msgpack_pack_uint64(pk, a != NULL ? a->http_status : 0);
        pack_bytes(pk, a != NULL ? a->http_headers : SLICE_NONE);
    }
    if (has_tier) {
        pack_bytes(pk, slice_of(a->service_tier));
    }
}

static void pack_note(msgpack_packer *pk, const struct note *note) {
    if (note == NULL) {
        msgpack_pack_nil(pk);
        return;
    }
    msgpack_pack_array(pk, 2);
    pack_bytes(pk, slice_of(outcome_of(note->outcome)->text));
    pack_bytes(pk, slice_of(note->sentence));
}

static bool has_notes(const struct entry *e) {
    return e->level > 0 || e->defaulted != NULL;
}

static void pack_notes(msgpack_packer *pk, const struct entry *e) {
    msgpack_pack_array(pk, NOTES);
    msgpack_pack_uint64(pk, PLANT(FORGET_LEVEL) ? 0 : e->level);
    pack_note(pk, e->refused);
    pack_note(pk, e->defaulted);
}

static size_t count_fallbacks(const struct batch *batch) {
    size_t n = 0;
    while (n < FALLBACKS_MAX && batch->fallbacks[n] != NULL) {
        n++;
    }
    return n;
}

static void pack_fallbacks(msgpack_packer *pk, const struct batch *batch) {
    size_t n = count_fallbacks(batch);
    msgpack_pack_array(pk, n);
    for (size_t i = 0; i < n; i++) {
        const struct group *group = batch->fallbacks[i];
        msgpack_pack_array(pk, 3);
        pack_bytes(pk, slice_of(group->model->name));
        msgpack_pack_uint64(pk, group->model->revision);
        pack_bytes(pk, group->options);
    }
}

static void pack_entry(msgpack_packer *pk, const struct batch *batch, size_t slot) {
    const struct entry *e = &batch->entries[slot];
    bool has_more = has_notes(e) || e->cache_write_tokens > 0 || e->reasoning_tokens > 0;
    msgpack_pack_array(pk, has_notes(e) ? RECORD_NOTED : has_more ? RECORD_MORE : RECORD_PLAIN);
    msgpack_pack_uint64(pk, slot);
    pack_bytes(pk, entry_id(batch, e));
    pack_bytes(pk, entry_key(batch, e));
    if (e->producer != NULL) {
        pack_bytes(pk, slice_of(e->producer->name));
    } else {
        msgpack_pack_nil(pk);
    }
    msgpack_pack_uint64(pk, e->seq);
    pack_bytes(pk, entry_values(batch, e));
    msgpack_pack_uint64(pk, e->n_calls);
    msgpack_pack_double(pk, e->input_tokens);
    msgpack_pack_double(pk, e->cached_tokens);
    msgpack_pack_double(pk, e->output_tokens);
    msgpack_pack_double(pk, e->cost);
    pack_held(pk, batch, e);
    if (has_more) {
        msgpack_pack_double(pk, e->cache_write_tokens);
        msgpack_pack_double(pk, e->reasoning_tokens);
    }
    if (has_notes(e)) {
        pack_notes(pk, e);
    }
}

int batch_pack(const struct batch *batch, struct buf *out) {
    const struct group *group = batch->lane->group;
    struct packing packing = {.out = out};
    msgpack_packer pk;
    msgpack_packer_init(&pk, &packing, pack_write);
    bool has_more = batch->fallbacks[0] != NULL;
    msgpack_pack_array(&pk, has_more ? BLOB_MORE : BLOB_FIELDS);
    msgpack_pack_uint64(&pk, BATCH_VERSION);
    pack_bytes(&pk, slice_of(group->model->name));
    msgpack_pack_uint64(&pk, group->model->revision);
    pack_bytes(&pk, group->options);
    if (batch->cost_known) {
        msgpack_pack_true(&pk);
    } else {
        msgpack_pack_false(&pk);
    }
    msgpack_pack_uint64(&pk, batch->n);
    msgpack_pack_array(&pk, batch->n_unemitted);
    for (size_t slot = 0; slot < batch->n; slot++) {
        if (!batch->entries[slot].emitted) {
            pack_entry(&pk, batch, slot);
        }
    }
    msgpack_pack_array(&pk, batch->n_counted);
    for (size_t i = 0; i < batch->n_counted; i++) {
        msgpack_pack_uint64(&pk, batch->counted[i]);
    }
    msgpack_pack_uint64(&pk, (uint64_t)batch->accepted_ms);
    if (has_more) {
        pack_fallbacks(&pk, batch);
    }
    return packing.rc;
}

static struct slice as_bytes(const msgpack_object *o) {
    if (o->type == MSGPACK_OBJECT_BIN) {
        return (struct slice){.p = o->via.bin.ptr, .n = o->via.bin.size};
    }
    return SLICE_NONE;
}

static uint64_t as_number(const msgpack_object *o) {
    return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : 0;
}

static double as_real(const msgpack_object *o) {
    return o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64 ? o->via.f64 : 0;
}

static bool is_array(const msgpack_object *o, size_t n) {
    return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == n;
}

// open_blob unpacks and checks the outer array; the caller destroys *unpacked on success.
static int open_blob(struct slice blob, msgpack_unpacked *unpacked, const msgpack_object **fields) {
    msgpack_unpacked_init(unpacked);
    // The scan first: the unpacker believes every declared count and reserves memory for it.
    if (frame_scan(blob, 1, NULL) == 1 &&
        msgpack_unpack_next(unpacked, blob.p, blob.n, NULL) == MSGPACK_UNPACK_SUCCESS &&
        unpacked->data.type == MSGPACK_OBJECT_ARRAY && unpacked->data.via.array.size >= 7 &&
        unpacked->data.via.array.size <= BLOB_MORE && // fewer: of an earlier version
        as_number(&unpacked->data.via.array.ptr[0]) == BATCH_VERSION &&
        unpacked->data.via.array.ptr[6].type == MSGPACK_OBJECT_ARRAY) {
        *fields = unpacked->data.via.array.ptr;
        return 0;
    }
    msgpack_unpacked_destroy(unpacked);
    return -EPROTO;
}

int batch_peek(struct slice blob, struct slice *model, uint32_t *revision, struct slice *options) {
    msgpack_unpacked unpacked;
    const msgpack_object *fields;
    int rc = open_blob(blob, &unpacked, &fields);
    if (rc != 0) {
        return rc;
    }
    // bin objects of msgpack-c point into the blob, so they outlive the unpacked tree.
    *model = as_bytes(&fields[1]);
    *revision = (uint32_t)as_number(&fields[2]);
    *options = as_bytes(&fields[3]);
    msgpack_unpacked_destroy(&unpacked);
    return 0;
}

static void unpack_held(struct batch *batch, size_t slot, const msgpack_object *o) {
    if (!is_array(o, HELD_PLAIN) && !is_array(o, HELD_PLAIN + 1) && !is_array(o, HELD_METADATA) &&
        !is_array(o, HELD_METADATA + 1)) {
        return;
    }
    const msgpack_object *f = o->via.array.ptr;
    size_t n = o->via.array.size;
    int outcome = outcome_parse(as_bytes(&f[0]));
    if (outcome < 0) {
        return; // of a later version: asked again
    }
    struct answer *a = mem_zalloc(sizeof(*a));
    a->n_refs = 1;
    a->call = as_number(&f[2]);
    a->latency_us = as_number(&f[3]);
    a->request_id = slice_dup(as_bytes(&f[4]));
    a->prompt_hash = slice_dup(as_bytes(&f[5]));
    a->served_model = slice_dup(as_bytes(&f[6]));
    a->warning = slice_dup(as_bytes(&f[7]));
    a->service_tier = slice_dup(n % 2 == 1 ? as_bytes(&f[n - 1]) : SLICE_NONE);
    if (n >= HELD_METADATA) {
        struct slice headers = as_bytes(&f[9]);
        a->http_status = (unsigned)as_number(&f[8]);
        a->http_headers = headers.n > 0 ? (struct slice){slice_dup(headers), headers.n} : SLICE_NONE;
    }
    batch_answer(batch, slot, (enum outcome)outcome, as_bytes(&f[1]), a);
    answer_drop(a);
}

static struct note *unpack_note(const msgpack_object *o) {
    int outcome = is_array(o, 2) ? outcome_parse(as_bytes(&o->via.array.ptr[0])) : -1;
    return outcome >= 0 ? note_new((enum outcome)outcome, as_bytes(&o->via.array.ptr[1])) : NULL;
}

static void unpack_notes(struct entry *e, const msgpack_object *o) {
    if (is_array(o, NOTES)) {
        e->level = (uint8_t)as_number(&o->via.array.ptr[0]);
        e->refused = unpack_note(&o->via.array.ptr[1]);
        e->defaulted = unpack_note(&o->via.array.ptr[2]);
    }
}

// unpack_fallbacks finds the models that records of the batch were handed on to. -EPROTO: one is not there.
static int unpack_fallbacks(struct batch *batch, const msgpack_object *list, batch_group_fn *find, void *arg) {
    for (uint32_t i = 0; list->type == MSGPACK_OBJECT_ARRAY && i < list->via.array.size; i++) {
        const msgpack_object *o = &list->via.array.ptr[i];
        struct group *group = NULL;
        if (is_array(o, 3) && i < FALLBACKS_MAX) {
            const msgpack_object *f = o->via.array.ptr;
            group = find(arg, as_bytes(&f[0]), (uint32_t)as_number(&f[1]), as_bytes(&f[2]));
        }
        if (group == NULL) {
            return -EPROTO;
        }
        batch_set_fallback(batch, i + 1, group);
    }
    return 0;
}

static int unpack_entry(struct batch *batch, const msgpack_object *o, batch_producer_fn *producer,
                        void *arg) {
    if (!is_array(o, RECORD_PLAIN) && !is_array(o, RECORD_MORE) && !is_array(o, RECORD_NOTED)) {
        return -EPROTO;
    }
    const msgpack_object *f = o->via.array.ptr;
    uint64_t slot = as_number(&f[0]);
    if (slot < batch->n || slot >= MODEL_BATCH_MAX) {
        return -EPROTO;
    }
    while (batch->n < slot) { // results of these are in the outbox already
        struct entry *gone = batch_add_entry(batch);
        gone->answered = gone->emitted = true;
    }
    bool acked = f[3].type == MSGPACK_OBJECT_BIN;
    batch_add(batch, as_bytes(&f[1]), as_bytes(&f[2]), as_bytes(&f[5]),
              acked ? producer(arg, as_bytes(&f[3])) : NULL, as_number(&f[4]));
    struct entry *e = &batch->entries[slot];
    e->n_calls = (uint16_t)as_number(&f[6]);
    e->input_tokens = as_real(&f[7]);
    e->cached_tokens = as_real(&f[8]);
    e->output_tokens = as_real(&f[9]);
    e->cost = as_real(&f[10]);
    if (o->via.array.size >= RECORD_MORE) {
        e->cache_write_tokens = as_real(&f[12]);
        e->reasoning_tokens = as_real(&f[13]);
    }
    unpack_held(batch, slot, &f[11]);
    if (is_array(o, RECORD_NOTED)) {
        unpack_notes(e, &f[14]);
    }
    return e->level == 0 || (e->level <= FALLBACKS_MAX && batch_group(batch, e->level) != NULL) ? 0 : -EPROTO;
}

int batch_unpack(struct batch *batch, struct slice blob, batch_producer_fn *producer, batch_group_fn *group,
                 void *arg) {
    msgpack_unpacked unpacked;
    const msgpack_object *fields;
    int rc = open_blob(blob, &unpacked, &fields);
    if (rc != 0) {
        return rc;
    }
    batch->accepted_ms = unpacked.data.via.array.size > 8 ? (int64_t)as_number(&fields[8]) : 0;
    const msgpack_object *counted = unpacked.data.via.array.size > 7 ? &fields[7] : NULL;
    for (size_t i = 0; counted != NULL && counted->type == MSGPACK_OBJECT_ARRAY &&
                       i < counted->via.array.size; i++) {
        batch_counted(batch, (uint32_t)as_number(&counted->via.array.ptr[i]));
    }
    batch->cost_known = fields[4].type == MSGPACK_OBJECT_BOOLEAN && fields[4].via.boolean;
    rc = unpacked.data.via.array.size == BLOB_MORE ? unpack_fallbacks(batch, &fields[9], group, arg) : 0;
    const msgpack_object_array *records = &fields[6].via.array;
    for (size_t i = 0; i < records->size && rc == 0; i++) {
        rc = unpack_entry(batch, &records->ptr[i], producer, arg);
    }
    msgpack_unpacked_destroy(&unpacked);
    batch->state = BATCH_SEALED;
    batch->n_durable = batch->n_in_write = batch->n;
    return rc;
}
