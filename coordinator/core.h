// core: the coordinator's decisions, without I/O. Events and a time go in, actions come out through
// one table of functions, so that the same code runs against real sockets and Redis (main.c, link.c)
// and against a simulated world. The core never blocks, never reads a clock, draws no random number
// by itself. Actions are called in the middle of events and must not call back into the core.
#ifndef HEADRACE_COORDINATOR_CORE_H
#define HEADRACE_COORDINATOR_CORE_H

#include "common/bytes.h"
#include "common/error.h"
#include "coordinator/permit.h"
#include "coordinator/txn.h"
#include "proto/messages.h"

struct core;
struct limits_file;
struct model;
struct prices;
struct status;
struct store_entry;

struct core_config {
    const char *name;          // of this coordinator, for workers
    uint32_t n_partitions;     // 1..4096, fixed for the life of a namespace
    int64_t max_bytes;         // records held in memory; past it intake stops
    int64_t max_results;       // results not yet acked by every consumer; past it calls stop
    int64_t max_letters;       // dead letters kept; 0: no bound. See letter_room.h
    int64_t heartbeat_ms;      // of workers
    int64_t grace_ms;          // after a restart: how long workers have to claim the calls they hold
    bool ordered;              // results of one key come out in the order its records came in
    bool has_push;             // there is a PUSH socket: unacked consumers
    bool all_overrides;        // records may override where a model's calls and credentials go
    const char *default_model; // of unacked rows that name none; ""
    const struct prices *prices; // of a file, before the built-in ones; NULL: none. Borrowed
    const struct limits_file *limits; // of accounts that models share; NULL: none. Borrowed
};

struct core_io {
    // write takes a txn for the store.
    void (*write)(void *arg, struct txn **txn);
    // send hands a message to a peer. 0, or -EHOSTUNREACH: the peer is gone.
    int (*send)(void *arg, struct slice route, const struct message *message);
    // push sends one result to whichever unacked consumer comes first. -EAGAIN: none has room;
    // core_push_ready is called when one has.
    int (*push)(void *arg, struct slice result);
    void (*ack)(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq, uint64_t trim_upto);
    // read asks for outbox entries from oseq on; core_outbox_read brings them.
    void (*read)(void *arg, uint32_t partition, uint64_t from, size_t n);
    void (*hint)(void *arg, struct slice producer, uint64_t seq);
    // model borrows a model; revision 0: the newest. NULL: there is none.
    const struct model *(*model)(void *arg, struct slice name, uint32_t revision);
    double (*draw)(void *arg); // in [0, 1)
    // permit asks the shared limits of a pool; core_permits brings the reply. NULL: no limits are kept, but
    // for those of calls at once, which then hold for this coordinator alone.
    void (*permit)(void *arg, struct slice pool, const struct permit_request *request);
    // day is the UTC day, in days since 1970-01-01. NULL: there are no days, it is always 0.
    int64_t (*day)(void *arg);
    // unix_ms is the wall clock, in ms since 1970-01-01. NULL: there is none, it is always 0.
    int64_t (*unix_ms)(void *arg);
    // claim asks Redis for a part of a budget of a day, see budget_claim.lua; core_claimed is the answer.
    // NULL: nobody shares it.
    void (*claim)(void *arg, struct slice key, int64_t day, int64_t want, int64_t need, int64_t limit);
    void *arg;
};

// core_new makes a core that owns no partition yet. config's strings and io are borrowed for its life;
// status is where it counts.
struct core *core_new(const struct core_config *config, const struct core_io *io, struct status *status);
void core_free(struct core *core);

// Recovery of a partition, as the store reports it. Intake opens when all have recovered.
void core_hint(struct core *core, struct slice producer, uint64_t seq);
void core_acquired(struct core *core, uint32_t partition, uint64_t epoch, uint64_t cseq, uint64_t oseq,
                   uint64_t first_oseq);
// core_letters: how many dead letters the partition has.
void core_letters(struct core *core, uint32_t partition, uint64_t n);
void core_batch(struct core *core, int64_t now_us, uint32_t partition, uint64_t batch, struct slice blob);
// core_mark: what may have been out of a batch, or the tally (batch 0); after the batches.
void core_mark(struct core *core, uint32_t partition, uint64_t batch, struct slice blob);
void core_producer(struct core *core, uint32_t partition, struct slice producer, uint64_t seq);
void core_consumer(struct core *core, uint32_t partition, struct slice consumer, uint64_t oseq);
// core_spent: one field of the partition's sums of money and tokens, see spend.h.
void core_spent(struct core *core, struct slice field, int64_t value);
// core_job: the row of a job at a provider, see job.h.
void core_job(struct core *core, int64_t now_us, uint32_t partition, uint64_t job, struct slice blob);
void core_recovered(struct core *core, int64_t now_us, uint32_t partition);
// core_leased: the lease of a partition lasts until then. Past it another may own the partition, so no new
// call is made, and no result delivered, until it is prolonged. Never told: it lasts for ever.
void core_leased(struct core *core, uint32_t partition, int64_t until_us);
// core_fenced: a partition is lost. The core halts for good: it makes no call, writes nothing and refuses
// all messages with "stopped"; answers wait in the workers.
void core_fenced(struct core *core, uint32_t partition, const struct error *why);

// core_store_ready: Redis is there (true) or away (false: no new calls, nothing is acked).
void core_store_ready(struct core *core, bool ready);
void core_written(struct core *core, int64_t now_us, uint32_t partition, uint64_t cseq);
// core_permits brings what the shared limits of a pool answered, or NULL: Redis is away.
void core_permits(struct core *core, int64_t now_us, struct slice pool, const struct permit_reply *reply);
// core_claimed: granted is nano-USD, or negative: the claim failed.
void core_claimed(struct core *core, struct slice key, int64_t day, int64_t granted);
void core_outbox_read(struct core *core, uint32_t partition, bool ok, const struct store_entry *entries,
                      size_t n);

// core_message takes any message of a worker, producer or consumer. Returns false for a kind that is
// none of the core's business (CREATE, STATUS_GET, LETTERS, RESUME).
bool core_message(struct core *core, int64_t now_us, struct slice route, const struct message *message);
// core_frame takes rows that came without acks; core_wants_frames says whether there is room for more.
void core_frame(struct core *core, int64_t now_us, struct slice frame);
bool core_wants_frames(const struct core *core);
void core_push_ready(struct core *core);
// core_release has what is still to be stored stored: the core is asked nothing after it.
void core_release(struct core *core);

// core_models_changed: look again at what waits for a model; stopped pools go on, with the newest limits.
void core_models_changed(struct core *core, int64_t now_us);
// core_resume: stopped pools go on by command; see permits_resume.
MUST_CHECK int core_resume(struct core *core, int64_t now_us, struct slice pool, struct buf *out);

// core_tick does what is due by time; core_next_us says when it wants to be called (INT64_MAX: never).
void core_tick(struct core *core, int64_t now_us);
int64_t core_next_us(const struct core *core);
// core_turn_end dispatches, writes, acks and delivers what the turn gathered. Call after each turn.
void core_turn_end(struct core *core, int64_t now_us);

// core_is_open says whether all partitions are owned and recovered.
bool core_is_open(const struct core *core);
// core_has_store says whether Redis is there; see core_store_ready.
bool core_has_store(const struct core *core);
// core_gauges sets the gauges of status.
void core_gauges(struct core *core);
// core_spend_json and core_spend_metrics append what was spent by model and day: see spend.h.
// core_limits_json appends what the pools' limits are: {"pools": [...]}, see pools_status.h.
MUST_CHECK int core_limits_json(const struct core *core, int64_t now_us, struct buf *out);
MUST_CHECK int core_spend_json(const struct core *core, struct buf *out);
MUST_CHECK int core_spend_metrics(const struct core *core, struct buf *out);
// core_waiting appends why nothing moves ("no worker", "the provider asked to wait 12 s"), or nothing.
// *stopped is the outcome's text when a pool has stopped, else NULL.
void core_waiting(struct core *core, int64_t now_us, struct buf *out, const char **stopped);

#endif
