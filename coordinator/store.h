// store: every Redis key and script of a namespace's partitions; recovery after a restart.
//
// Keys of partition p of namespace ns (all in one hash slot):
//   hr:{ns:p}:own  HASH    epoch, start, owner, address, until (ms), oseq, cseq
//   hr:{ns:p}:bat  HASH    batch id -> blob
//   hr:{ns:p}:snt  HASH    batch id -> which of its calls may be out; 0 -> the tally: see marks.h
//   hr:{ns:p}:prd  HASH    producer -> highest contiguous accepted sequence of this partition
//   hr:{ns:p}:out  STREAM  last oseq of the entry -> field "b": result blob
//   hr:{ns:p}:cur  HASH    consumer -> highest oseq acked
//   hr:{ns:p}:dlq  STREAM  field "b": a record given up on, see letter.h
//   hr:{ns:p}:use  HASH    sums of money and tokens, see spend.h
//   hr:{ns:p}:job  HASH    job id -> row of a job at a provider, see job.h
// and for the namespace:
//   hr:{ns}:partitions  STRING  how many there are; never changes
//   hr:{ns}:prd    HASH    producer -> highest sequence ever ACKED (a hint that only saves resending)
//
//           store_acquire          part_acquire ok          all of bat, prd, cur read
//   IDLE ─────────────────▶ ACQUIRING ───────────▶ RECOVERING ───────────────────────▶ OWNED
//    ▲                        │ owned by another: try again when its lease ends           │
//    └────────────────────────┴──────────── epoch or cseq not as it was: FENCED ◀─────────┘
#ifndef HEADRACE_COORDINATOR_STORE_H
#define HEADRACE_COORDINATOR_STORE_H

#include "common/bytes.h"
#include "common/error.h"
#include "coordinator/txn.h"

struct loop;
struct redis;
struct store;

enum store_durability {
    DURABILITY_ALWAYS,   // refuse a Redis without appendonly yes and appendfsync always
    DURABILITY_EVERYSEC, // accept appendfsync everysec: up to 2 s of ACKED records can be lost
    DURABILITY_NONE,     // accept anything: a Redis that stops loses everything
};

struct store_config {
    const char *redis;      // address, see common/redis.h
    const char *ns;         // namespace
    uint32_t n_partitions;
    const char *owner;      // this coordinator's name: the same name takes its partitions back at once
    const char *address;    // where it can be reached, for people
    int64_t lease_ms;       // ownership ends this long after the last renewal
    enum store_durability durability;
};

struct store_handlers {
    // on_ready: connected for the first time or again, and Redis's settings are acceptable.
    void (*on_ready)(void *arg);
    // on_refused: Redis's settings would lose data; why says which and what to do. The store stays
    // connected and does nothing.
    void (*on_refused)(void *arg, const struct error *why);
    void (*on_lost)(void *arg, const char *reason);
    // Recovery of one partition, in this order: acquired, then any number of batch, mark, producer,
    // consumer, spent, job, then recovered. Slices are valid during the call.
    //   first_oseq  oldest result still in the outbox; oseq + 1 when it is empty
    void (*on_acquired)(void *arg, uint32_t partition, uint64_t epoch, uint64_t cseq, uint64_t oseq,
                        uint64_t first_oseq);
    void (*on_batch)(void *arg, uint32_t partition, uint64_t batch, struct slice blob);
    void (*on_producer)(void *arg, uint32_t partition, struct slice producer, uint64_t seq);
    void (*on_consumer)(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq);
    void (*on_recovered)(void *arg, uint32_t partition);
    // on_written: this write and all before it are durable. Called once a write, in order.
    void (*on_written)(void *arg, uint32_t partition, uint64_t cseq);
    // on_fenced: somebody else owns the partition now, or Redis went back in time (rolled_back).
    // Nothing written from here on counts; the partition must stop.
    void (*on_fenced)(void *arg, uint32_t partition, bool rolled_back, const struct error *why);
    void *arg;
    // on_leased: the partition is ours until then (monotonic time), if nothing prolongs it. May be NULL.
    void (*on_leased)(void *arg, uint32_t partition, int64_t until_us);
    // on_mark: what was out of a batch, or the tally (batch 0). May be NULL.
    void (*on_mark)(void *arg, uint32_t partition, uint64_t batch, struct slice blob);
    // on_letters: how many dead letters the partition has. May be NULL.
    void (*on_letters)(void *arg, uint32_t partition, uint64_t n);
    // on_spent: one field of hr:{ns:p}:use. May be NULL.
    void (*on_spent)(void *arg, uint32_t partition, struct slice field, int64_t value);
    // on_job: the row of a job at a provider. May be NULL.
    void (*on_job)(void *arg, uint32_t partition, uint64_t job, struct slice blob);
};

// store_new begins to connect. Returns NULL with why for an address that cannot be read.
struct store *store_new(struct loop *loop, const struct store_config *config,
                        const struct store_handlers *handlers, struct error *why);
// store_free calls nobody back, not even for a reading that is under way.
void store_free(struct store *store);

// store_acquire asks for a partition; on_acquired … on_recovered follow, or on_fenced; when another
// owner holds it, the store asks again when that lease has run out (logged once).
void store_acquire(struct store *store, uint32_t partition);
// store_release gives a partition up in good order, so that another may take it at once.
void store_release(struct store *store, uint32_t partition);

// store_write takes the txn. Sent at once; sent again after a reconnect until it is confirmed.
void store_write(struct store *store, struct txn **txn);
// store_pending says how many writes are not confirmed yet.
size_t store_pending(const struct store *store);

// store_ack records that consumer has used everything up to oseq, and trims the outbox to trim_upto
// (0: no trimming). Repeated with later values it may be lost harmlessly.
void store_ack(struct store *store, uint32_t partition, struct slice consumer, uint64_t oseq,
               uint64_t trim_upto);

// store_read reads outbox entries whose last oseq is >= from, oldest first, at most n of them, and
// calls back once: ok false when Redis is away. Slices are valid during the call.
struct store_entry {
    uint64_t last_oseq;
    struct slice blob;
};
typedef void store_read_fn(void *arg, uint32_t partition, bool ok, const struct store_entry *entries,
                           size_t n);
void store_read(struct store *store, uint32_t partition, uint64_t from, size_t n, store_read_fn *done,
                void *arg);

// store_read_letters reads dead letters by stream id, oldest first, at most n of them, and calls back
// once: ok false when Redis is away. Slices are valid during the call.
//   from, to  as XRANGE takes them: "-", "+", "1700000000000-0", "(1700000000000-0"
struct store_letter {
    struct slice id, blob;
};
typedef void store_letters_fn(void *arg, bool ok, const struct store_letter *letters, size_t n);
void store_read_letters(struct store *store, uint32_t partition, struct slice from, struct slice to,
                        size_t n, store_letters_fn *done, void *arg);

// store_hint notes what a producer was told as ACKED (lazy, may be lost harmlessly);
// store_hints reads all of them back, once, after on_ready.
void store_hint(struct store *store, struct slice producer, uint64_t seq);
typedef void store_hint_fn(void *arg, struct slice producer, uint64_t seq);
void store_hints(struct store *store, store_hint_fn *each, void (*done)(void *arg), void *arg);

// store_redis lends the connection to the catalog.
struct redis *store_redis(struct store *store);

#endif
