// Batches of records, in memory. Invariant: n_unanswered and n_unemitted count the
// entries whose flags are clear; a slot never changes its meaning while the batch lives, so an answer
// to any call of the batch, however late, finds its record. Called by intake, collect and recovery.
#include "coordinator/batch.h"
#include "common/mem.h"
#include "coordinator/core_state.h"

#include <assert.h>
#include <stdlib.h>

#define BYTES_PER_TOKEN 4 // before anything was learned
#define TOKENS_PER_SLOT 8 // index, names, punctuation
#define BATCH_MAX_BYTES (64 * 1024 * 1024) // records of one batch; a frame carries no more

// answer_hold takes NULL too.
static struct answer *answer_hold(struct answer *answer) {
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

struct note *note_new(enum outcome outcome, struct slice sentence) {
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
    note_free(entry->refused);
    note_free(entry->defaulted);
    entry->refused = entry->defaulted = NULL;
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
    for (size_t i = 0; i < FALLBACKS_MAX; i++) {
        if (batch->fallbacks[i] != NULL) {
            batch->fallbacks[i]->n_fallbacks--;
        }
    }
    free(batch->entries);
    free(batch->reported);
    free((char *)batch->found_mark.p);
    free(batch->counted);
    buf_free(&batch->bytes);
    free(batch);
}

struct entry *batch_add_entry(struct batch *batch) {
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
    struct entry *e = batch_add_entry(batch);
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

// ---- Models -----------------------------------------------------------------------------------------

struct group *batch_group(const struct batch *batch, unsigned level) {
    return level == 0 ? batch->lane->group : batch->fallbacks[level - 1];
}

struct group *batch_group_of(const struct batch *batch, uint64_t number) {
    struct group *group = batch_group(batch, number_level(number));
    return group != NULL ? group : batch->lane->group;
}

void batch_set_fallback(struct batch *batch, unsigned level, struct group *group) {
    assert(level >= 1 && level <= FALLBACKS_MAX && batch->fallbacks[level - 1] == NULL);
    batch->fallbacks[level - 1] = group;
    group->n_fallbacks++;
}

void batch_hand_on(struct batch *batch, size_t slot, enum outcome outcome, struct slice sentence) {
    struct entry *e = &batch->entries[slot];
    assert(!e->answered && batch_group(batch, e->level + 1u) != NULL);
    if (e->level++ == 0) {
        e->refused = note_new(outcome, sentence);
    }
    free(e->correction);
    e->correction = NULL;
    e->is_told = false;
}

// A number counts the batch's calls in its lower bits, and has the level above them. Where they do not
// suffice it goes on in the numbers of the next epoch.
uint32_t batch_number_after(const struct batch *batch) {
    uint32_t last = batch->last_call;
    return (last & NUMBER_COUNT_MASK) < NUMBER_COUNT_MASK ? last + 1 : (last | 0xFFFFF) + 2;
}

uint32_t batch_next_number(struct batch *batch, unsigned level) {
    batch->last_call = batch_number_after(batch);
    return batch->last_call | level << NUMBER_LEVEL_SHIFT;
}

void batch_seen_number(struct batch *batch, uint32_t number) {
    number &= ~(uint32_t)(FALLBACKS_MAX << NUMBER_LEVEL_SHIFT);
    batch->last_call = number > batch->last_call ? number : batch->last_call;
}

unsigned number_level(uint64_t number) {
    return (unsigned)(number >> NUMBER_LEVEL_SHIFT) & FALLBACKS_MAX;
}

// ---- Results ----------------------------------------------------------------------------------------

void batch_default(struct batch *batch, size_t slot, struct slice defaults, enum outcome outcome,
                   struct slice sentence, struct answer *answer) {
    batch_answer(batch, slot, OUTCOME_OK, defaults, answer);
    batch->entries[slot].defaulted = note_new(outcome, sentence);
}
