// batch: up to batch.size records of one partition, one model revision and one set of overrides that
// share a prompt. A batch is the durable unit: it is written once when it is full (or aged), and once
// more when its answers are. Its calls are not durable: a call asks for a subset of its slots, so that
// splitting, re-asking and late answers never change what is stored.
//
//            batch_open           batch_seal: full, or aged with capacity to send it
//   (none) ──────────────▶ OPEN ────────────────────────────────────────────────────▶ SEALED
//                                              every record's result is in the outbox    │ batch_free
//                                                                                        ▼
#ifndef HEADRACE_COORDINATOR_BATCH_H
#define HEADRACE_COORDINATOR_BATCH_H

#include "common/bytes.h"
#include "common/error.h"
#include "proto/outcome.h"

#include <uthash.h>

struct call;
struct group;
struct lane;
struct partition;
struct producer;

enum batch_state { BATCH_OPEN, BATCH_SEALED };

// What the results of one report share; counted, because several records hold it.
struct answer {
    unsigned n_refs;
    uint64_t call;
    uint32_t revision;         // of the model that was asked; 0: that of its batch
    uint64_t latency_us;
    char *request_id, *prompt_hash, *served_model, *service_tier, *warning; // "" when there is none
    unsigned http_status;      // 0: there was no HTTP answer
    struct slice http_headers; // owned; empty unless the model has a column for them
};
void answer_drop(struct answer *answer);           // may be NULL

// Models that may stand in for a batch's own, one after the other: as level 1, 2, ... of its records. Level 0
// is its own. The number of a call has the level, so that whoever names the call names the model too.
#define FALLBACKS_MAX 3 // fits two bits
#define NUMBER_LEVEL_SHIFT 18
#define NUMBER_COUNT_MASK ((1u << NUMBER_LEVEL_SHIFT) - 1)

// An error of a record that is not its result.
struct note {
    enum outcome outcome;
    char *sentence;
};
struct note *note_new(enum outcome outcome, struct slice sentence);

// One record of a batch; its slot is its place in batch->entries.
struct entry {
    uint32_t offset;             // where its bytes start in batch->bytes: id, key, values
    uint32_t n_id, n_key, n_values;
    struct producer *producer;   // NULL: came without acks
    uint64_t seq;                // the producer's; 0 without
    uint16_t n_calls;            // calls that asked for it
    bool answered;               // outcome and payload stand
    bool emitted;                // its result is in a write to the outbox
    enum outcome outcome;
    char *payload;               // values or sentence, until emitted
    uint8_t level;               // which model it is asked of: 0 is its batch's own
    struct note *refused;        // why its own model gave up; NULL: it has not
    struct note *defaulted;      // the error that the model's default stands for; NULL: none
    bool is_told;                // it was asked with the reason in the prompt why an answer did not fit
    uint32_t misfit_call;        // number of the call whose answer did not fit last; 0: none
    char *correction;            // why its last answer did not fit, for the next prompt; NULL: none
    uint32_t n_payload;
    struct answer *answer;       // NULL: no call was made
    double input_tokens, cached_tokens, output_tokens; // its share of all its calls
    double cache_write_tokens, reasoning_tokens;       // likewise
    double cost;                 // USD, likewise
};

struct batch {
    uint64_t id;
    enum batch_state state;
    struct lane *lane;           // partition and group
    struct buf bytes;            // of all its records
    struct entry *entries;
    size_t n, cap;               // records
    size_t n_durable;            // the first n_durable are in Redis
    size_t n_in_write;           // the first n_in_write are in Redis or on the way
    size_t n_unanswered, n_unemitted;
    size_t held_bytes;           // of payloads that are not emitted
    int64_t est_tokens;          // estimate of its records' tokens
    int64_t opened_us;
    int64_t accepted_ms;         // wall clock: when its first record came in; 0: not known
    int64_t due_us;              // OPEN: when it is aged
    bool is_due;                 // OPEN: aged or flushed: may be sent as it is
    bool is_sealing;             // SEALED, and its first call is not made
    bool dirty;                  // in its partition's next write
    bool is_redriven;            // of dead letters
    struct group *fallbacks[FALLBACKS_MAX]; // of level 1, 2, ... as far as records were handed on; NULL: not
    bool cost_known;             // false once a call with an unknown price was made
    uint32_t last_call;          // number of its newest call, without the level
    uint64_t mark_cseq;          // the write that marks its first call before that exists; 0: none
    bool has_mark;               // Redis has a mark of it, or will
    bool mark_dirty;             // in its partition's list of marks to write
    struct slice found_mark;     // RECOVERING: as it stood in Redis; owned
    uint32_t *reported;          // numbers of calls whose report came
    size_t n_reported, cap_reported;
    uint32_t *counted;           // numbers of calls that the sums hold; kept in Redis with it
    size_t n_counted, cap_counted;
    struct call *calls;          // of its unanswered slots
    struct batch *lane_prev, *lane_next;   // in order of opening
    struct batch *dirty_next;
    struct batch *due_prev, *due_next;     // in its flow's list of due batches
    struct batch *mark_prev, *mark_next;   // in its partition's list of marks to write
    UT_hash_handle hh;           // by id
};

struct batch *batch_new(uint64_t id, struct lane *lane, int64_t now_us);
void batch_free(struct batch *batch); // its calls must be gone

// batch_add copies one record in and returns its slot; the caller has made sure that there is room.
size_t batch_add(struct batch *batch, struct slice id, struct slice key, struct slice values,
                 struct producer *producer, uint64_t seq);
// batch_add_entry adds one with nothing in it.
struct entry *batch_add_entry(struct batch *batch);
struct slice entry_id(const struct batch *batch, const struct entry *entry);
struct slice entry_key(const struct batch *batch, const struct entry *entry); // empty: none given
struct slice entry_values(const struct batch *batch, const struct entry *entry);
// batch_reported notes that a call's report came; batch_has_report says whether it did, so that a worker
// that still names the call, because it has not heard TAKEN, is not waited for.
void batch_reported(struct batch *batch, uint32_t call);
bool batch_has_report(const struct batch *batch, uint32_t call);
// batch_counted notes that a call whose report came is in the sums, of money or of ambiguous calls;
// batch_is_counted says whether it is.
void batch_counted(struct batch *batch, uint32_t call);
bool batch_is_counted(const struct batch *batch, uint32_t call);
// record_tokens estimates the tokens of one record from its bytes, before anything was learned.
int64_t record_tokens(size_t n_bytes);
// batch_bytes is what a batch costs in memory.
size_t batch_bytes(const struct batch *batch);
// batch_answer notes a record's result; payload is copied, answer is held.
void batch_answer(struct batch *batch, size_t slot, enum outcome outcome, struct slice payload,
                  struct answer *answer);
void entry_forget_payload(struct entry *entry);
// batch_group is the group of a level; NULL: no record was handed on to it. batch_set_fallback sets it, once.
struct group *batch_group(const struct batch *batch, unsigned level);
struct group *batch_group_of(const struct batch *batch, uint64_t number); // whose model a call was made of
void batch_set_fallback(struct batch *batch, unsigned level, struct group *group);
// batch_hand_on lets a record be asked of the next level, which is set, and notes why, if its own gave up.
void batch_hand_on(struct batch *batch, size_t slot, enum outcome outcome, struct slice sentence);
// batch_next_number gives a call of a level its number; batch_number_after is what it will give at level 0.
// batch_seen_number notes one of an earlier coordinator. number_level is the level in a number.
uint32_t batch_next_number(struct batch *batch, unsigned level);
uint32_t batch_number_after(const struct batch *batch);
void batch_seen_number(struct batch *batch, uint32_t number);
unsigned number_level(uint64_t number);
// batch_default notes a model's default values as a record's result, and the error that they stand for.
void batch_default(struct batch *batch, size_t slot, struct slice defaults, enum outcome outcome,
                   struct slice sentence, struct answer *answer);
// entry_correct notes why an answer did not fit, in at most CORRECTION_MAX bytes. It is not durable.
#define CORRECTION_MAX 480
void entry_correct(struct entry *entry, struct slice sentence);

// What recovery needs besides the blob.
typedef struct producer *batch_producer_fn(void *arg, struct slice name);
typedef struct group *batch_group_fn(void *arg, struct slice model, uint32_t revision, struct slice options);

// batch_pack appends the blob for Redis: all records whose result is not emitted, with their slots.
// Returns 0 or -EMSGSIZE.
MUST_CHECK int batch_pack(const struct batch *batch, struct buf *out);

// batch_peek reads a blob's model, revision and overrides, borrowed from it. -EPROTO: damaged.
MUST_CHECK int batch_peek(struct slice blob, struct slice *model, uint32_t *revision,
                          struct slice *options);
// batch_unpack fills a new, empty batch from a blob; it is then SEALED and durable.
// -EPROTO: damaged, or one of its other models is not there.
MUST_CHECK int batch_unpack(struct batch *batch, struct slice blob, batch_producer_fn *producer,
                            batch_group_fn *group, void *arg);

#endif
