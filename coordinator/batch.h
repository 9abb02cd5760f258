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
    uint64_t latency_us;
    char *request_id, *prompt_hash, *served_model, *service_tier, *warning; // "" when there is none
    unsigned http_status;      // 0: there was no HTTP answer
    struct slice http_headers; // owned; empty unless the model has a column for them
};
struct answer *answer_hold(struct answer *answer); // NULL stays NULL
void answer_drop(struct answer *answer);           // may be NULL

// An error of a record that is not its result.
struct note {
    enum outcome outcome;
    char *sentence;
};

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
    struct note *defaulted;      // the error that the model's default stands for; NULL: none
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
    bool cost_known;             // false once a call with an unknown price was made
    uint32_t last_call;          // number of its newest call
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
// batch_default notes a model's default values as a record's result, and the error that they stand for.
void batch_default(struct batch *batch, size_t slot, struct slice defaults, enum outcome outcome,
                   struct slice sentence, struct answer *answer);
// entry_correct notes why an answer did not fit, in at most CORRECTION_MAX bytes. It is not durable.
#define CORRECTION_MAX 480
void entry_correct(struct entry *entry, struct slice sentence);

// What recovery needs besides the blob.
typedef struct producer *batch_producer_fn(void *arg, struct slice name);

// batch_pack appends the blob for Redis: all records whose result is not emitted, with their slots.
// Returns 0 or -EMSGSIZE.
MUST_CHECK int batch_pack(const struct batch *batch, struct buf *out);

// batch_peek reads a blob's model, revision and overrides, borrowed from it. -EPROTO: damaged.
MUST_CHECK int batch_peek(struct slice blob, struct slice *model, uint32_t *revision,
                          struct slice *options);
// batch_unpack fills a new, empty batch from a blob; it is then SEALED and durable.
MUST_CHECK int batch_unpack(struct batch *batch, struct slice blob, batch_producer_fn *producer, void *arg);

#endif
