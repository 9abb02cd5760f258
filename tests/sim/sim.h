// sim: the coordinator's core in a simulated world. One seed decides everything: delays, faults, who
// crashes when, what the provider answers. The core is the real one; so is the worker's matching of
// answers to records. Store, links, workers, provider, producers and consumers are models.
//
//   producers ─links─▶ coordinators (core + store client) ─links─▶ workers ─▶ provider (ledger)
//   consumers ◀─links──┘     │ ▲
//                            ▼ │
//                          redis
//
// Everything happens as an event at a time; events of the same time keep the order of their making.
// Each file keeps one kind of actor; check.c holds the contract over all of them.
#ifndef HEADRACE_TESTS_SIM_H
#define HEADRACE_TESTS_SIM_H

#include "common/model.h"
#include "common/plant.h"
#include "coordinator/core.h"
#include "coordinator/letters.h"
#include "coordinator/status.h"
#include "coordinator/store.h"
#include "proto/messages.h"
#include "proto/outcome.h"
#include "tests/sim/permit_model.h"

#include <stdbool.h>
#include <stdint.h>

#define PARTS_MAX 4
#define WORKERS_MAX 4
#define PRODUCERS_MAX 3
#define CONSUMERS_MAX 2
#define POSITIONS_MAX (CONSUMERS_MAX + 1) // and that of the consumers without acks
#define COORDS_MAX 2
#define MODELS 3          // m0, m1 of records; m2 is asked only what others could not do
#define OVERRIDES 4
#define KILLS_MAX 12        // of workers, by one record
#define RECORDS_MAX 192     // of all producers together
#define ASKED_MAX 16        // records of one call: batch.size at most
#define LEASE_MS 5000
#define HEARTBEAT_MS 1000
#define GRACE_MS 3000
#define END_MS (900 * 1000) // once faults have stopped, everything is done by then

struct sim;

// ---- Events (sim.c) ---------------------------------------------------------------------------------

// What is alive for a while: an event for an actor that has died since is dropped, one for an actor that
// is paused waits until it goes on.
struct life {
    uint64_t n;              // counts births
    bool on;
    int64_t paused_until_us;
};

struct event;
typedef void event_fn(struct sim *sim, struct event *event);
struct event {
    int64_t at_us;
    uint64_t order;
    event_fn *fn;
    struct life *life;       // whose event it is; NULL: nobody's
    uint64_t life_n;
    void *who;               // the actor, or NULL
    uint64_t a, b;
    char *bytes;             // owned
    size_t n_bytes;
    void *p;                 // taken over by fn, or freed by drop
    void (*drop)(void *p);
};

// ---- Links (links.c) --------------------------------------------------------------------------------

enum peer_kind { PEER_WORKER, PEER_PRODUCER, PEER_CONSUMER, PEER_PERSON, PEER_PULLER };
struct link {
    enum peer_kind kind;
    int peer, coord;
    struct life life;        // on: connected
    uint64_t peer_life, coord_life;
    int64_t last_us[2];      // of the newest message to the coordinator, to the peer: order is kept
    int64_t gone_us;         // when the coordinator notices the end
    char route[16];
};

// ---- Redis (redis.c) --------------------------------------------------------------------------------

struct kept {                // a batch, an entry of the outbox, or a dead letter
    uint64_t id;             // batch id; last oseq; number of the letter
    uint64_t n;              // results of the entry
    char *bytes;
    size_t n_bytes;
};
struct position {
    char name[16];
    uint64_t n;
};
struct redis_part {
    bool exists;
    uint64_t epoch, cseq, oseq;
    uint64_t start;          // of the process that took the epoch
    int owner;               // index of a coordinator, -1: nobody
    int64_t until_ms;        // of Redis's clock
    struct kept *batches, *outs, *letters, *marks, *jobs;
    size_t n_batches, n_outs, n_letters, n_marks, n_jobs;
    size_t cap_batches, cap_outs, cap_letters, cap_marks, cap_jobs;
    uint64_t last_letter;
    struct position producers[PRODUCERS_MAX], consumers[POSITIONS_MAX];
    int64_t used;            // input tokens in its sums
};
struct redis_file;
struct sim_redis {
    struct life life;
    struct redis_file *file; // a copy of what it had once; NULL: none
    int64_t clock_off_ms;    // of its wall clock
    int64_t full_until_us;   // refuses writes
    struct redis_part parts[PARTS_MAX];
};

// ---- Shared limits (permits.c) ------------------------------------------------------------------------

#define POOLS_MAX 2          // m0 and m1 share one; what overrides the model's name has another
struct sim_pool {
    char name[64];
    struct permit_model *kept; // in Redis
    int64_t *sent;           // when calls went out
    size_t n_sent, cap_sent;
};
// What one life of a coordinator and a pool have told each other.
struct permit_talk {
    uint64_t unanswered;     // number of a request that may have been carried out; 0: none
    double granted, back, n_sent, n_unsent; // calls
};

// ---- A coordinator (coord.c) --------------------------------------------------------------------------

enum part_state { PART_IDLE, PART_ACQUIRING, PART_RECOVERING, PART_OWNED };
struct sim_write {
    struct txn *txn;
    bool sent;
};
struct coord_part {
    enum part_state state;
    uint64_t epoch, confirmed, newest;
    int64_t lease_until_us;
    bool unsure, stalled;
    struct sim_write *writes; // not confirmed, oldest first
    size_t n_writes, cap_writes;
};
struct coord {
    struct sim *sim;
    int index;
    struct life life;        // of the process
    struct life conn;        // to Redis
    int64_t last_us[2];      // to Redis, from Redis: in order
    char name[16];
    struct core *core;
    struct letters *letters;
    store_letters_fn *letters_done; // the letters that are being read: whom to tell; NULL: none
    void *letters_arg;
    struct core_config config;
    struct core_io io;
    struct status status;
    struct coord_part parts[PARTS_MAX];
    struct permit_talk talks[POOLS_MAX];
    bool fenced;             // another owns a partition: the process ends
    bool alarmed;            // Redis lost something: the process stays, and does nothing
    bool turn_due;
    bool push_blocked;       // the core waits for room at a consumer without acks
    uint64_t n_hidden;       // billed calls made again before their report came
    uint64_t n_before;       // calls_ambiguous as it was found
    int64_t next_tick_us;    // INT64_MAX: none asked for
};

// ---- Workers and the provider (workers.c, provider.c) ------------------------------------------------

enum work_state { WORK_WAITING, WORK_RUNNING, WORK_REPORTED };
struct work {                // one DISPATCH at a worker
    uint64_t batch, call;
    enum work_state state;
    int64_t deadline_us;
    int model;
    size_t count;
    uint64_t slots[ASKED_MAX];
    int records[ASKED_MAX];
    int ask;                 // in the ledger
    char *report;
    size_t n_report;
    struct work *prev, *next;
};
struct sim_worker {
    int index;
    struct life life;
    char name[16];
    uint64_t incarnation;
    uint64_t max_inflight;
    bool models[MODELS];     // known
    bool welcome, ended;     // ended: superseded
    int link;                // -1: none
    int64_t heard_us;
    struct work *work;
};

// One dispatch as it is known to the checker: the ledger and what became of it.
struct ask {
    uint64_t batch, call;
    int coord;
    uint64_t coord_life;     // of the dispatch
    int64_t at_us;
    size_t count;
    int records[ASKED_MAX];
    uint64_t slots[ASKED_MAX];
    int worker;
    bool other_pool;         // than most calls have
    bool started;            // the request went out
    bool billed;             // the provider did the work
    bool hidden;             // made again before its report came
    bool heard;              // a report of it came, in whatever life
    bool closed;             // its report came, and says what became of it
    bool taken;              // its worker was told that its report is durable
    uint64_t tokens;         // as the provider counted them
    int known_coord;         // who knows of it: dispatched or heard of it in a HELLO
    uint64_t known_life;
    uint64_t reports;        // that reached a coordinator's core in its present life
    uint64_t report_life;
    bool answered;           // its report came, with the provider's count of tokens
    bool uncounted;          // the limits do not count it: it came back unsent
};

// A call that Redis had as perhaps out.
struct marked {
    uint64_t batch, call;
};

// ---- Producers and consumers (clients.c) -------------------------------------------------------------

struct ends {                // what Redis has of a record's end
    uint64_t n_out, n_dead;  // entries into the outbox, the dead letters
    uint64_t n_error;        // of those in the outbox: errors
    bool kept;               // it was in a batch: from then on it cannot be lost
    uint64_t n_again;        // redriven after an error row: so many more may come
};
struct record {
    int producer;
    uint64_t seq;
    int model, override;     // what its row asks for: m0, m1; of sim_overrides
    bool bad;                // its row is no record
    unsigned level;          // how far along its models it was asked: 0 is its own
    bool poison;             // its own model refuses it, until the provider learns better
    bool killer;             // whatever answers it crashes the worker
    uint64_t n_killed;       // workers
    int64_t redriven_us;     // 0: never; calls of before do not count any more
    bool acked;              // told to its producer
    bool sent, here;         // without acks: on a link; at a coordinator
    int sent_link, here_coord;
    uint64_t here_life;
    uint64_t n_pulled;       // by consumers without acks
    struct ends ends;
    uint64_t n_failed;       // calls that did not answer it
    uint64_t n_used[CONSUMERS_MAX];
    int answered_coord;      // whose core has had a good answer for it
    uint64_t answered_life;
};
struct sim_producer {
    int index;
    int rows_of;             // whose rows and name it has: its own, or those of a process started before
    struct life life;
    char name[16];
    int link;
    bool unacked;            // sends its rows to the PULL socket
    bool open;
    int first, n;            // its records
    uint64_t acked, next, limit;
    int64_t heard_us;
    bool flushed;
};
struct sim_consumer {
    int index;
    struct life life;
    char name[16];
    int link;
    bool subscribed;
    uint64_t credit;
    uint64_t used[PARTS_MAX];
    uint64_t got[PARTS_MAX]; // came since SUBSCRIBED: only that may be acked
    bool known[PARTS_MAX];
    bool ack_due;
    int64_t stopped_until_us; // does not ack
};

// All consumers behind the PUSH socket. (unacked.c)
struct sim_puller {
    struct life life;
    int link;
    int n_waiting;           // results on their way to it
    uint64_t n_lost;         // times that what was on its way was lost
};

// Somebody who looks at dead letters, has them asked again, or drops them. (people.c)
struct sim_person {
    struct life life;
    int link;
    bool waits;              // for an answer
    int64_t asked_us;
    int n_questions;         // left
};

// ---- The world --------------------------------------------------------------------------------------

struct sim {
    uint64_t seed, random;
    bool trace;
    int64_t now_us;
    uint64_t order;
    struct event **heap;
    size_t n_heap, cap_heap;
    uint64_t n_events;
    char why[512];           // the first violation; "": none
    bool rolled_back;        // Redis lost something: only the alarm is checked
    int witness;             // the coordinator that ran then: it has to notice
    int64_t alarmed_us;      // when it did; 0: not yet
    int64_t worker_killed_us; // the last one; 0: none

    uint32_t n_parts;
    int n_workers, n_producers, n_consumers, n_coords;
    int64_t faults_end_us;
    int64_t delay_us;        // of links, about
    int fault_permille;      // of the provider's answers
    uint64_t batch_size;
    int64_t request_timeout_ms;
    int64_t heals_us;        // then provider and workers take what they refused
    bool may_drop;           // dead letters may be dropped
    bool is_quiet;           // nothing fails but by the records' own doing
    int default_override;    // of all producers
    struct statements models;
    struct parser *parser;

    struct sim_redis redis;
    struct sim_pool pools[POOLS_MAX];
    int64_t limit_rpm, limit_at_once; // 0: none
    bool is_window;          // the profile of the limits
    struct coord coords[COORDS_MAX];
    int primary;             // whom peers connect to
    uint64_t n_coord_lives, n_coord_crashes;
    struct link *links;
    size_t n_links, cap_links;
    struct sim_worker workers[WORKERS_MAX];
    struct sim_producer producers[PRODUCERS_MAX];
    int n_files;             // of rows: the first producers have one each
    struct sim_consumer consumers[CONSUMERS_MAX];
    struct sim_person person;
    struct sim_puller puller;
    bool has_unacked;        // a producer without acks
    bool has_push;           // consumers without acks
    uint64_t n_given;        // rows that came without acks
    int leaving[64];         // records whose dead letters the present write takes out
    bool leaving_had_row[64];
    size_t n_leaving;
    struct record records[RECORDS_MAX];
    int n_records;
    struct ask *asks;
    struct marked *marked;
    size_t n_marked, cap_marked;
    size_t n_asks, cap_asks;
    uint64_t n_calls, n_hidden, n_ambiguous, n_letters;
    bool went_back;          // an older file of Redis was put back: it does not know of all calls
    bool lost_some;          // a process was killed or stopped, or a link cut: calls may be lost on their way
};

// sim.c
struct sim *sim_new(uint64_t seed, bool trace);
void sim_free(struct sim *sim);
void sim_run(struct sim *sim); // sim->why says what went wrong
uint64_t sim_below(struct sim *sim, uint64_t n); // 0..n-1
bool sim_chance(struct sim *sim, uint64_t permille);
int64_t sim_between(struct sim *sim, int64_t least, int64_t most);
bool sim_faulty(const struct sim *sim); // faults may happen now
struct event *sim_at(struct sim *sim, int64_t at_us, event_fn *fn, struct life *life, void *who);
static inline struct event *sim_in(struct sim *sim, int64_t delay_us, event_fn *fn, struct life *life,
                                   void *who);
void life_start(struct life *life);
void life_end(struct life *life);
void life_pause(struct sim *sim, struct life *life, int64_t for_us);
bool life_is_paused(const struct sim *sim, const struct life *life);
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline struct event *sim_in(struct sim *sim, int64_t delay_us, event_fn *fn, struct life *life,
                                   void *who) {
    return sim_at(sim, sim->now_us + delay_us, fn, life, who);
}

// links.c
int link_open(struct sim *sim, enum peer_kind kind, int peer); // -1: nobody listens
void link_cut(struct sim *sim, int link);
int link_to_coord(struct sim *sim, int link, const struct message *message);
int link_to_peer(struct sim *sim, struct coord *coord, struct slice route, const struct message *message);
bool link_is_up(const struct sim *sim, int link);
void links_of_coord_end(struct sim *sim, const struct coord *coord);

// redis.c
void redis_init(struct sim *sim);
void redis_free(struct sim *sim);
void redis_crash(struct sim *sim, int64_t for_us);
void redis_flushall(struct sim *sim);
void redis_part_clear(struct redis_part *part);

// redis_file.c
void redis_file_copy(struct sim *sim);     // keeps what Redis has now
void redis_file_put_back(struct sim *sim); // Redis is killed and starts with the copy, if there is one
// redis_file_is_old: the coordinator that runs has a confirmation, or an epoch, that the copy has not.
bool redis_file_is_old(const struct sim *sim);
void redis_file_free(struct sim *sim);
enum redis_op {
    REDIS_ACQUIRE, REDIS_RECOVER, REDIS_RENEW, REDIS_WRITE, REDIS_ACK, REDIS_READ, REDIS_LETTERS
};
enum redis_reply { REPLY_OK, REPLY_HELD, REPLY_FENCED, REPLY_ROLLBACK, REPLY_REFUSED };
struct redis_request {
    enum redis_op op;
    int coord;
    uint32_t part;
    uint64_t epoch, start, from, upto, n_most;
    char name[16];
    struct txn *txn;         // a copy of the pointer's content travels: see redis.c
    enum redis_reply reply;
    int64_t asked_us;
    uint64_t got_epoch, got_cseq, got_oseq, got_first;
    struct store_entry *entries;
    size_t n_entries;
};
void redis_execute(struct sim *sim, struct redis_request *request);
void redis_request_free(void *request);

// coord.c
void coord_init(struct sim *sim, int index);
void coord_start(struct sim *sim, struct coord *coord);
void coord_crash(struct sim *sim, struct coord *coord);
void coord_free(struct coord *coord);
void coord_lose_redis(struct sim *sim, struct coord *coord);
void coord_message(struct sim *sim, struct coord *coord, int link, struct slice frame);
void coord_event(struct sim *sim, struct coord *coord); // after each call into the core
void coord_ask(struct sim *sim, struct coord *coord, struct redis_request request); // Redis

// permits.c
void permits_start(struct coord *coord); // of its life
void permits_ask(void *arg, struct slice pool, const struct permit_request *request);
void permits_free(struct sim *sim);
void check_permit_used(struct sim *sim, struct coord *coord, bool is_other_pool); // a call goes out
void check_permit_unsent(struct sim *sim, struct coord *coord, uint64_t ask);     // it did not, after all

// coord_letters.c
void coord_letters_read(struct coord *coord, const struct redis_request *request); // NULL: Redis is away

// workers.c
void worker_start(struct sim *sim, struct sim_worker *worker);
void worker_crash(struct sim *sim, struct sim_worker *worker);
void worker_message(struct sim *sim, struct sim_worker *worker, const struct message *message);
void worker_link_lost(struct sim *sim, struct sim_worker *worker);
void worker_free(struct sim_worker *worker);
bool worker_is_idle(const struct sim_worker *worker);

// provider.c
struct answered {
    enum outcome outcome;
    struct buf *items;       // of a report
    int status;
    bool sent, usage_known;
    uint64_t retry_after_ms, tokens;
    const char *warning;
};
// provider_ask makes one call: says when its end comes, and by then what it is.
bool provider_has_text(uint64_t kind); // of an end: there is an answer to read
int64_t provider_ask(struct sim *sim, struct work *work, uint64_t *kind);
void provider_answer(struct sim *sim, struct work *work, uint64_t kind, struct answered *out);

// clients.c
struct sim_override {
    const char *name, *value; // of a model's option; NULL: none
};
extern const struct sim_override sim_overrides[OVERRIDES];
void client_producer_start(struct sim *sim, struct sim_producer *producer);
void client_producer_crash(struct sim *sim, struct sim_producer *producer);
void client_producer_message(struct sim *sim, struct sim_producer *producer, const struct message *message);
void client_producer_link_lost(struct sim *sim, struct sim_producer *producer);
void client_consumer_start(struct sim *sim, struct sim_consumer *consumer);
void client_consumer_crash(struct sim *sim, struct sim_consumer *consumer);
void client_consumer_message(struct sim *sim, struct sim_consumer *consumer, const struct message *message);
void client_consumer_link_lost(struct sim *sim, struct sim_consumer *consumer);
bool client_is_first_known(const struct sim *sim); // the first consumer, to Redis
void client_row(const struct sim *sim, int record, struct buf *out);

// unacked.c
void unacked_producer_start(struct sim *sim, struct sim_producer *producer);
int unacked_push(struct sim *sim, struct coord *coord, struct slice result); // -EAGAIN: no room
void unacked_puller_start(struct sim *sim);
void unacked_puller_crash(struct sim *sim);
void unacked_puller_link_lost(struct sim *sim);
bool unacked_may_end(const struct sim *sim, const struct record *record); // false: it was lost, and may be

// people.c
void person_start(struct sim *sim);
void person_message(struct sim *sim, const struct message *message);
void person_link_lost(struct sim *sim);

// faults.c
void faults_plan(struct sim *sim);

// check.c: every one of them calls sim_fail when the contract is broken.
void check_dispatch(struct sim *sim, struct coord *coord, int worker, const struct message_dispatch *d);
void check_hello(struct sim *sim, struct coord *coord, int worker, struct slice held);
void check_report(struct sim *sim, struct coord *coord, const struct message_report *report);
void check_acked(struct sim *sim, int producer, uint64_t upto);
void check_result_stored(struct sim *sim, uint32_t part, uint64_t last_oseq, struct slice blob, bool dead);
void check_kept(struct sim *sim, struct slice blob); // a batch is in Redis
void check_result_pulled(struct sim *sim, struct slice json);
// check_letter_leaves: a write takes a dead letter out; check_write_done: the write has been carried out.
void check_letter_leaves(struct sim *sim, struct slice blob);
void check_write_done(struct sim *sim, const struct redis_part *part);
void check_result_used(struct sim *sim, int consumer, uint32_t part, uint64_t oseq, struct slice json);
void check_life_ends(struct sim *sim, struct coord *coord);
int check_ask_of(struct sim *sim, int worker, uint64_t batch, uint64_t call); // the newest, for that worker
void check_mark(struct sim *sim, uint64_t batch, struct slice blob); // it is in Redis
void check_taken(struct sim *sim, int ask);
void check_ambiguous(struct sim *sim);
bool check_is_done(const struct sim *sim);
void check_end(struct sim *sim);
int record_find(const struct sim *sim, struct slice text); // "p1-7": its index, or -1

#endif
