// Batches of records, in memory and as blobs. Invariant: n_unanswered and n_unemitted count the
// entries whose flags are clear; a slot never changes its meaning while the batch lives, so an answer
// to any call of the batch, however late, finds its record. Called by intake, collect and recovery.
#include "coordinator/batch.h"
#include "common/mem.h"
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_VERSION 1
#define RECORD_PLAIN 12   // values of a record's array
#define RECORD_MORE 14    // with tokens that few calls have
#define RECORD_NOTED 15   // with notes, too
#define NOTES 3           // values of the notes' array
#define HELD_PLAIN 8      // values of an answer that waits for its turn
#define HELD_METADATA 10  // with what metadata columns want
#define BYTES_PER_TOKEN 4 // before anything was learned
#define TOKENS_PER_SLOT 8 // index, names, punctuation
#define BATCH_MAX_BYTES (64 * 1024 * 1024) // records of one batch; a frame carries no more

struct answer *answer_hold(struct answer *answer) {
    if (answer != NULL) {
        answer->n_refs++;
    }
    return answer;
}

void answer_drop(struct answer *answer) {
    if (answer != NULL && --answer->n_refs == 0) {
        free(answer->request_id);
        free(answer->prompt_hash);
        free(answer->served_model);
        free(answer->service_tier);
        free(answer->warning);
        free((char *)answer->http_headers.p);
        free(answer);
    }
}

struct batch *batch_new(uint64_t id, struct lane *lane, int64_t now_us) {
    struct batch *batch = mem_zalloc(sizeof(*batch));
    batch->id = id;
    batch->lane = lane;
    batch->opened_us = now_us;
    batch->cost_known = true;
    buf_init(&batch->bytes, BATCH_MAX_BYTES);
    return batch;
}

static struct note *note_new(enum outcome outcome, struct slice sentence) {
    struct note *note = mem_alloc(sizeof(*note));
    *note = (struct note){.outcome = outcome, .sentence = slice_dup(sentence)};
    return note;
}

static void note_free(struct note *note) {
    if (note != NULL) {
        free(note->sentence);
        free(note);
    }
}

void entry_forget_payload(struct entry *entry) {
    note_free(entry->defaulted);
    entry->defaulted = NULL;
    free(entry->payload);
    entry->payload = NULL;
    free(entry->correction);
    entry->correction = NULL;
    answer_drop(entry->answer);
    entry->answer = NULL;
}

void entry_correct(struct entry *entry, struct slice sentence) {
    char text[CORRECTION_MAX];
    slice_copy(sentence, text, sizeof(text));
    free(entry->correction);
    entry->correction = mem_dup_str(text);
}

void batch_free(struct batch *batch) {
    assert(batch->calls == NULL);
    for (size_t i = 0; i < batch->n; i++) {
        entry_forget_payload(&batch->entries[i]);
    }
    free(batch->entries);
    free(batch->reported);
    free((char *)batch->found_mark.p);
    free(batch->counted);
    buf_free(&batch->bytes);
    free(batch);
}

static struct entry *add_entry(struct batch *batch) {
    if (batch->n == batch->cap) {
        batch->cap = batch->cap > 0 ? batch->cap * 2 : 4;
        batch->entries = mem_realloc(batch->entries, batch->cap * sizeof(*batch->entries));
    }
    struct entry *e = &batch->entries[batch->n++];
    *e = (struct entry){0};
    return e;
}

size_t batch_add(struct batch *batch, struct slice id, struct slice key, struct slice values,
                 struct producer *producer, uint64_t seq) {
    struct entry *e = add_entry(batch);
    e->offset = (uint32_t)batch->bytes.n;
    e->n_id = (uint32_t)id.n;
    e->n_key = (uint32_t)key.n;
    e->n_values = (uint32_t)values.n;
    e->producer = producer;
    e->seq = seq;
    int rc = buf_add_slice(&batch->bytes, id);
    rc |= buf_add_slice(&batch->bytes, key);
    rc |= buf_add_slice(&batch->bytes, values);
    assert(rc == 0); // intake refuses what would not fit
    batch->n_unanswered++;
    batch->n_unemitted++;
    return batch->n - 1;
}

struct slice entry_id(const struct batch *batch, const struct entry *entry) {
    return (struct slice){.p = batch->bytes.p + entry->offset, .n = entry->n_id};
}

struct slice entry_key(const struct batch *batch, const struct entry *entry) {
    return (struct slice){.p = batch->bytes.p + entry->offset + entry->n_id, .n = entry->n_key};
}

struct slice entry_values(const struct batch *batch, const struct entry *entry) {
    return (struct slice){.p = batch->bytes.p + entry->offset + entry->n_id + entry->n_key,
                          .n = entry->n_values};
}

static bool has_number(const uint32_t *numbers, size_t n, uint32_t number) {
    for (size_t i = n; i-- > 0;) {
        if (numbers[i] == number) {
            return true;
        }
    }
    return false;
}

static void add_number(uint32_t **numbers, size_t *n, size_t *cap, uint32_t number) {
    if (has_number(*numbers, *n, number)) {
        return;
    }
    if (*n == *cap) {
        *cap = *cap > 0 ? *cap * 2 : 4;
        *numbers = mem_realloc(*numbers, *cap * sizeof(**numbers));
    }
    (*numbers)[(*n)++] = number;
}

bool batch_has_report(const struct batch *batch, uint32_t call) {
    return has_number(batch->reported, batch->n_reported, call);
}

void batch_reported(struct batch *batch, uint32_t call) {
    add_number(&batch->reported, &batch->n_reported, &batch->cap_reported, call);
}

bool batch_is_counted(const struct batch *batch, uint32_t call) {
    return has_number(batch->counted, batch->n_counted, call);
}

void batch_counted(struct batch *batch, uint32_t call) {
    add_number(&batch->counted, &batch->n_counted, &batch->cap_counted, call);
}

int64_t record_tokens(size_t n_bytes) {
    return (int64_t)(n_bytes / BYTES_PER_TOKEN) + TOKENS_PER_SLOT;
}

size_t batch_bytes(const struct batch *batch) {
    return sizeof(*batch) + batch->bytes.n + batch->n * sizeof(struct entry);
}

void batch_answer(struct batch *batch, size_t slot, enum outcome outcome, struct slice payload,
                  struct answer *answer) {
    struct entry *e = &batch->entries[slot];
    assert(!e->answered);
    e->answered = true;
    e->outcome = outcome;
    e->payload = slice_dup(payload);
    e->n_payload = (uint32_t)payload.n;
    e->answer = answer_hold(answer);
    batch->held_bytes += payload.n;
    batch->n_unanswered--;
}

void batch_default(struct batch *batch, size_t slot, struct slice defaults, enum outcome outcome,
                   struct slice sentence, struct answer *answer) {
    batch_answer(batch, slot, OUTCOME_OK, defaults, answer);
    batch->entries[slot].defaulted = note_new(outcome, sentence);
}

// ---- Blobs ----------------------------------------------------------------------------------------
// [version, model, revision, options, cost_known, n_slots, [record, ...], [number of a counted call, ...],
//  accepted_ms]
// record: [slot, id, key, producer | nil, seq, values, n_calls, in, cached, out, cost, held | nil]
//         with cache_write, reasoning behind them when there are any, and behind these [0, nil, defaulted | nil]
// a note, such as defaulted: [outcome, sentence]
// held (answered, waiting for its turn): [outcome, payload, call, latency, request, hash, served, warning]
//         with http_status, http_headers for a model with metadata columns; service_tier last if it is known

#include "coordinator/core_state.h"

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
    return e->defaulted != NULL;
}

static void pack_notes(msgpack_packer *pk, const struct entry *e) {
    msgpack_pack_array(pk, NOTES);
    msgpack_pack_uint64(pk, 0);
    msgpack_pack_nil(pk);
    pack_note(pk, e->defaulted);
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
    msgpack_pack_array(&pk, 9);
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
        unpacked->data.via.array.size <= 9 && // fewer: of an earlier version
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
        e->defaulted = unpack_note(&o->via.array.ptr[2]);
    }
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
        struct entry *gone = add_entry(batch);
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
    return 0;
}

int batch_unpack(struct batch *batch, struct slice blob, batch_producer_fn *producer, void *arg) {
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
    const msgpack_object_array *records = &fields[6].via.array;
    for (size_t i = 0; i < records->size && rc == 0; i++) {
        rc = unpack_entry(batch, &records->ptr[i], producer, arg);
    }
    msgpack_unpacked_destroy(&unpacked);
    batch->state = BATCH_SEALED;
    batch->n_durable = batch->n_in_write = batch->n;
    return rc;
}
