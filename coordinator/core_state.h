// core_state: what the core keeps, shared by the modules that make it up: partition, batch, dispatch,
// collect, deliver, intake, permits, roster, retry. Nobody else includes this.
#ifndef HEADRACE_COORDINATOR_CORE_STATE_H
#define HEADRACE_COORDINATOR_CORE_STATE_H

#include "common/model.h"
#include "coordinator/batch.h"
#include "coordinator/breaker.h"
#include "coordinator/core.h"
#include "coordinator/estimate.h"
#include "coordinator/limiter.h"
#include "coordinator/status.h"

#include <uthash.h>
#include <utlist.h>

#define ROUTE_MAX 32 // bytes of a ZeroMQ routing id that we take; automatic ones have 5

struct route {
    uint8_t n;
    char bytes[ROUTE_MAX];
};

// ---- Who and what for ---------------------------------------------------------------------------

// A flow: what one tenant asks of one model at one priority. Its calls go in the order in which they
// became ready, those made again first.
struct flow {
    char *key;                    // priority, model name and tenant
    char *tenant;
    enum model_priority priority;
    struct pool *pool;
    double start;                 // virtual time at which its next call starts: tokens over weight
    struct call *ready;           // calls that wait for their turn
    struct batch *due;            // open batches that may go as they are, oldest first
    int64_t n_bytes;              // memory of its batches
    size_t n_groups;              // that belong to it
    size_t n_producers;           // connected that send to it, as last counted
    bool waits;                   // is in its class's list
    struct flow *prev, *next;     // there
    UT_hash_handle hh;            // in its pool, by key
};

// The flows of one priority in a pool. Calls are chosen of its flows in turn, get their marks, and go.
struct flow_class {
    struct flow *waiting;         // those with something ready or due
    double now;                   // virtual time: start of the call that was chosen last
    double owed;                  // tokens that it has yet to get for its floor
    struct call *chosen;          // READY calls that had their turn: they go once their marks are durable
    struct call *next;            // of these, the next to look at while calls are being sent
    int64_t n_chosen;
    int64_t n_passed;             // of these, before next: their marks are not durable yet
    int64_t n_sealing;            // batches sealed whose call is not made yet
    int64_t may_mark;             // new batches that may be marked in this turn's writes
    int64_t n_ahead;              // of these, marked and not yet durable
};

// A pool: provider, endpoint, credential and model: what a provider's limits apply to.
struct pool {
    char *name;
    struct limiter limiter;
    double window;                // calls at once, as the provider bears them
    bool is_growing;              // the window, by one a good call
    double repeats;               // the retry budget: that many repeats may go now
    int64_t repeats_us;           // when it last grew with time
    int64_t shrunk_us;            // when it last shrank
    int64_t n_inflight;           // calls at workers
    int64_t n_ready;              // calls that are READY
    int64_t n_due;                // batches that are due
    int64_t blocked_until_us;     // nothing goes: the provider asked to wait, or a day's limit is used up
    int64_t refused_until_us;     // of that, what the provider asked this coordinator for
    int64_t backoff_ms;           // next wait when the provider asks for none
    struct breaker breaker;
    const char *stopped;          // text of the outcome that stopped it, or NULL
    struct error stopped_why;
    bool is_keyless;              // stopped since no connected worker had its credential
    bool is_full;                 // stopped since there is no room for its dead letters
    uint64_t id;                  // no other pool has or had it
    int64_t n_interactive;        // of n_inflight, interactive ones
    int64_t kept_until_us;        // so long slots are kept for interactive calls
    int64_t room;                 // for calls when this turn's dispatch began, less those sent
    struct flow *flows;           // by key
    struct flow_class classes[MODEL_PRIORITIES];
    struct call *suspects;        // ready calls that lost workers and go to one of their own
    int n_short_steps, n_long_steps; // of its jobs, at workers
    size_t n_groups;              // that belong to it
    UT_hash_handle hh;            // by name
};

// A group: one model revision with one set of overrides. Its records may share batches.
struct group {
    char *key;                    // model name, revision and options, as bytes
    size_t n_key;
    struct model *model;          // with the overrides applied; owned
    struct slice options;         // canonical msgpack map; owned; empty when none
    struct pool *pool;
    struct estimate estimate;     // of what its calls cost
    struct bill *bill;            // what its calls cost, and who pays
    struct budget *run_budget, *day_budget; // NULL: none
    struct flow *flow;
    struct group *successor;      // whom its calls ask: a later revision; NULL: itself. See revise.h
    size_t n_calls;               // that ask it, whosever batches they are of
    const char **columns;         // OUTPUT columns' names, n_output of them
    struct lane *lanes;           // one a partition
    const struct batch_api *jobs; // mode batch or auto: its calls may be lines of jobs at this API; else NULL
    struct call *to_list;         // READY calls that are to be lines of a job
    struct job *filling;          // the job that takes lines now, or NULL
    size_t n_jobs;                // of it
    size_t n_sealing;             // batches sealed whose call is not made yet
    bool is_flushed;              // its producers have said that nothing more comes
    size_t n_fallbacks;           // batches of other groups that hold it as one of their fallbacks
    bool is_misfit;               // it was said that its fallback.model cannot be used
    UT_hash_handle hh;            // by key
};

// A lane: one group in one partition.
struct lane {
    struct group *group;
    struct partition *partition;
    struct batch *open;           // the batch being filled, or NULL
    struct batch *batches;        // all that are not finished, in order of opening
};

struct producer {
    char *name;
    struct route route;           // n 0: not connected
    uint64_t incarnation;         // of who is or was connected last; 0: not told
    char *model_name;             // for rows that name none; ""
    struct slice options;         // canonical; owned
    char *id_column, *key_column; // "" when not told
    bool is_flushed;              // it said that nothing more comes, and nothing came since
    struct group *group;          // of model_name and options, looked up once
    enum model_priority priority; // of that group, as last known
    uint64_t acked;               // every sequence up to here is durable
    uint64_t accepted;            // every sequence up to here was taken in
    uint64_t *durable;            // ring of bits for acked+1 .. acked+window; NULL: nothing is open
    uint64_t window;              // bits in the ring, a power of two
    uint64_t told_acked, told_limit; // as last sent
    uint64_t *recovered;          // per partition: durable up to here when the core started
    UT_hash_handle hh;            // by name
};

struct worker {
    struct route route;
    char *name;
    uint64_t incarnation;
    int64_t max_inflight, max_bytes;
    int64_t n_inflight, n_bytes;  // sent and not yet reported
    int64_t n_untaken;            // reported, and still kept by it until it hears TAKEN
    int64_t seen_us;              // when it last said anything
    uint64_t its_us;              // what its own clock was in its last PING or HELLO; 0: not known
    bool lost;                    // silent for three heartbeats, or gone
    bool reserved;                // for a suspect: gets nothing else
    bool resting;                 // gave a call back unsent: gets nothing until its next PING
    struct call *calls;           // sent to it, not yet reported
    struct buf taken;             // calls to be named in the next TAKEN
    size_t n_taken;
    uint64_t *lacks;              // ids of pools whose credential it lacks, n_lacks of them
    size_t n_lacks;
    struct worker *free_prev, *free_next; // in the list of those with credit
    bool has_credit;
    UT_hash_handle hh;            // by route
};

// ---- Calls --------------------------------------------------------------------------------------
//
//            call_new          dispatch             report with answers for all, or given up
//   (none) ───────────▶ READY ──────────▶ SENT ──────────────────────────────────────▶ (gone)
//                        ▲ ▲               │ unsent, pool waits
//                        │ └───────────────┤
//                        │  time comes     ▼ retry after a back-off; worker lost
//                        └────────────── WAITING
//
// Where calls are lines of jobs: READY → LISTED, once it stands in a job (jobs_collect.c), then (gone) when
// its answer has come (jobs_answers.c), or READY again when the job ended without one.
// What the sums of spend.h hold already for a call that was given up.
struct charge {
    bool is_counted;
    int64_t maybe; // nano-USD
};

enum call_state { CALL_READY, CALL_WAITING, CALL_SENT, CALL_LISTED };

// Why a call that was sent has no answer.
enum ambiguity {
    AMBIGUITY_NONE,
    AMBIGUITY_TIMEOUT,
    AMBIGUITY_BROKEN,
    AMBIGUITY_LOST,  // its worker was
    AMBIGUITY_CRASH, // a coordinator crashed, and no worker came back with it
    N_AMBIGUITIES,
};

struct call {
    struct batch *batch;
    unsigned level;              // of its records when it was made, see batch.h
    struct group *group;         // of that level, whose model it asks: its pool, flow, price and limits are what count
    enum call_state state;
    uint32_t number;             // of its latest dispatch; 0: never
    uint16_t *slots;             // of the records it asks for
    size_t n_slots;
    int tries;                   // of max.retries used
    int n_ambiguous;             // sent and never answered
    int n_lost;                  // workers that were lost with it, or with what it is a part of
    bool reasked;                // its records were missing from an answer before
    bool corrects;               // SENT, LISTED: it says of some records why an earlier answer did not fit
    uint32_t seen;               // of a record alone: outcomes that its calls had, a bit each
    bool is_repeat;              // WAITING: the same again after a failure, so the pool's retry budget counts it
    bool is_retry;               // its records were part of an earlier call
    bool reported;               // SENT: its report is being dealt with
    uint64_t mark_cseq;          // READY, SENT: the write that says that it may be out; 0: none
    uint32_t next_number;        // READY: the number it will be sent under; 0: not given yet
    bool unclaimed;              // WAITING: out when a coordinator crashed; no worker has named it yet
    enum ambiguity counted;      // SENT: given up, and counted as that
    int64_t ready_us;            // when it became READY
    bool chosen;                 // READY: it had its turn among the flows
    int64_t not_before_us;       // WAITING
    int64_t sent_us;             // SENT
    int64_t n_bytes;             // SENT: of its DISPATCH
    struct estimate_call size;   // as measured for size.n_records; see call_size
    struct amount reserved;      // SENT: what it is thought to cost
    bool tries_out;              // SENT: to see whether the provider is back
    struct worker *worker;       // SENT
    struct line *line;           // LISTED: what it is in its job
    bool online;                 // no line of a job, whatever its group's mode
    struct budget *parked;       // READY, but waiting for this budget; NULL: not
    struct budget *afforded;     // READY, and let go by this budget, which it waited for; NULL: not
    int64_t reserved_nusd;       // SENT, LISTED: billionths of a USD that it may cost
    struct charge charge;
    struct call *prev, *next;               // in its batch
    struct call *ready_prev, *ready_next;   // in its flow, its class's chosen, or its pool's suspects
    struct call *worker_prev, *worker_next; // in its worker's list
    size_t heap_index;                      // WAITING: place in core->waiting
};

// ---- Partitions -----------------------------------------------------------------------------------

// Ambiguous calls of a partition over all restarts, by enum ambiguity.
struct tally {
    uint64_t counted[N_AMBIGUITIES];
    uint64_t resolved[N_AMBIGUITIES]; // of these: answered, or never sent, after all
};

enum partition_state { PARTITION_NONE, PARTITION_RECOVERING, PARTITION_OWNED, PARTITION_FENCED };

// What happens once a write is durable.
enum after_kind { AFTER_BATCH, AFTER_SEQ, AFTER_OUT, AFTER_TAKEN, AFTER_CONSUMER, AFTER_JOB, AFTER_ANSWERS };
struct after {
    enum after_kind kind;
    uint64_t cseq;
    union {
        struct {
            uint64_t batch;
            size_t n; // its first n records are durable then
        } batch;
        struct {
            struct producer *producer;
            uint64_t seq;
        } seq;
        struct {
            uint64_t last_oseq;
            size_t n;
            struct slice blob; // owned
        } out;
        struct {
            struct route route; // of the worker
            uint64_t batch, call;
        } taken;
        struct consumer *consumer; // stands in Redis then
        struct {
            uint64_t job, chunk; // AFTER_ANSWERS: number of the chunk
        } job;
    };
};

// A result blob of the outbox that is kept in memory, because consumers want it next.
struct cached {
    uint64_t last_oseq;
    size_t n;            // results in it
    struct slice blob;   // owned
    struct cached *prev, *next;
};

struct partition {
    uint32_t index;
    enum partition_state state;
    struct error fenced_why;    // PARTITION_FENCED: why
    int64_t lease_until_us;     // then it may be another's
    uint64_t epoch, cseq;       // cseq: of the newest write
    uint64_t durable_cseq;      // of the newest write that is durable
    uint64_t oseq;              // last result number given out
    uint64_t durable_oseq;      // last result that is durable: may be delivered
    uint64_t first_oseq;        // oldest result still kept
    uint32_t next_batch;        // counter part of batch ids
    struct batch *dirty, *dirty_tail;
    struct batch *marks;        // whose mark in Redis is not as it should be
    struct lates *lates;        // likewise, of batches that are finished
    bool marks_due;             // a mark is waited for: write, though nothing else wants to
    bool tally_dirty;
    bool is_planning;           // its write holds marks of the job that is being planned
    struct tally tally;
    struct txn *txn;            // what this turn gathers; NULL: nothing
    struct after *after;        // ring, oldest first
    size_t after_head, n_after, cap_after;
    struct cached *cached;      // newest blobs, oldest first
    struct cached *found;       // of these, where a consumer was last; NULL: not known
    struct spend_pending *spend; // what the next write adds to sums of money; see spend.c
    size_t n_spend, cap_spend;
    struct producer **touched;  // producers with records in this turn's write
    size_t n_touched, cap_touched;
};

// ---- Consumers ------------------------------------------------------------------------------------

struct cursor {
    uint64_t acked, sent; // results up to here
    bool known;           // it stands in Redis or is connected: holds back trimming
    bool is_new;          // it does not stand in Redis yet: nothing is sent
    bool reading;         // a read of the outbox is under way for it
    struct cached *behind; // what was read of the outbox for it, oldest first
    bool dirty;           // acked has moved since it was last stored
    int64_t due_us;       // when dirty: when it will be stored
};

struct consumer {
    char *name;
    struct route route;    // n 0: not connected
    uint64_t incarnation;  // of who is or was connected last; 0: not told
    bool is_push;          // the unacked ones behind the PUSH socket
    int64_t credit;        // most results sent and not acked
    int64_t n_unacked;
    bool json, meta;
    struct cursor *cursors; // one a partition
    uint32_t next_partition;
    UT_hash_handle hh;     // by name
};

// A call that was given up, or whose batch is finished, and whose report may still come: its cost is
// real, and is counted once.
struct late {
    struct lates *of;
    uint64_t call;
    uint64_t worker;             // who may bring it: see worker_id
    uint64_t route;              // hash of the connection that it was sent on; 0: not known
    uint64_t named;              // core->n_hellos when its worker last named it
    enum ambiguity counted;      // as what it was counted
    bool unclaimed;              // of before a start, and no worker has named it yet
    struct bill *bill;           // who pays for it; owned; NULL: not known any more
    bool is_paid;                // an earlier coordinator has counted what it cost
    int64_t reserved_nusd;       // what it may have cost, while charge holds nothing
    struct charge charge;
    struct late *prev, *next;
};

// The late calls of one batch.
struct lates {
    uint64_t batch;
    struct late *calls;          // oldest first
    char *model;                 // of a batch that is finished: who pays; NULL: it is not, or not known
    uint32_t revision;
    struct slice options;        // likewise; owned
    bool mark_dirty;             // in its partition's list
    struct lates *mark_prev, *mark_next;
    UT_hash_handle hh;           // by batch
};

struct core {
    const struct core_config *config;
    const struct core_io *io;
    struct status *status;
    bool store_ready, push_ready;
    bool halted;                 // a partition was lost
    struct partition *partitions;
    uint32_t n_owned;
    struct pool *pools;
    struct group *groups;
    size_t groups_to_sweep;      // sweep when there are more than this many
    struct producer *producers;
    struct worker *workers;      // by route
    struct worker *free_workers; // with credit, next one first
    struct consumer *consumers;
    struct batch *batches;       // by id
    struct lates *lates;         // oldest first
    size_t n_late;               // calls in them
    int64_t late_due_us;         // then those that nobody has named are counted
    struct budget *budgets;      // by key
    struct learned *learned;     // by model; see estimate.h
    struct spend *spends;        // sums of money and tokens, by scope
    struct job *jobs;            // by id
    struct line *lines;          // of calls that are LISTED, by hash
    uint64_t n_steps;            // of jobs, ordered
    size_t n_closed_jobs;        // of jobs, those that are kept for people
    int64_t next_jobs_us;        // when a job wants to be looked at
    int64_t next_position_us;    // when a consumer's position wants to be stored
    struct call **waiting;       // heap by not_before_us
    size_t n_waiting, cap_waiting;
    int64_t n_sent;              // calls at workers
    int64_t n_interactive;       // of these, interactive ones
    int64_t kept_until_us;       // so long credit of workers is kept for interactive calls
    int64_t others_credit;       // most calls at workers that are not interactive, as last measured
    int64_t n_ready[MODEL_PRIORITIES]; // calls that are READY
    struct pool *turn;           // the next one to get a worker's credit; NULL: the first
    size_t n_reserved;           // workers that are
    int64_t ahead;               // calls to mark ahead of need: grows when workers wait for marks
    uint64_t n_hellos;
    uint64_t n_pools;            // that there ever were
    bool stalled;                // outbox full: no new calls
    int64_t n_bytes;             // memory of batches
    int64_t held_bytes[MODEL_PRIORITIES]; // of which each priority's
    int64_t n_records;           // not yet answered
    int64_t n_results;           // in the outbox, not yet acked by all
    int64_t n_letters;           // dead letters that are kept
    bool letters_full;           // there is no room for more, as last told
    int64_t cached_bytes;
    uint64_t next_anonymous;     // for ids of records without one
    int64_t now_us;              // of the event being handled
    struct buf scratch, scratch2; // reused within one event
    int64_t next_age_us;         // when the next open batch may be aged
    int64_t next_heartbeat_us;
};

struct slice route_slice(const struct route *route);
bool route_set(struct route *route, struct slice from); // false: too long
bool route_is(const struct route *route, struct slice bytes);

#endif
