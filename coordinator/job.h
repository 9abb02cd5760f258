// job: one job at a provider's batch API, and its lines. docs/jobs.md tells its life; the states are these.
//
//  jobs_collect      jobs_steps orders, jobs_done moves on                             jobs_answers     jobs_steps
//  FILLING ──▶ PLANNED ──▶ UPLOADED ──▶ CREATING ──▶ BOUND ──▶ RUNNING ──▶ ENDED, EXPIRED, ──▶ HARVESTED ──▶ CLOSED
//                 │  no file needed         ▲                              CANCELLED, FAILED,
//                 └─────────────────────────┘                              GONE
//
// What the provider has no room for, or finds too large, goes from CREATING on back to UPLOADED or PLANNED
// (jobs_done); a file that names a bad line makes a job FAILED at once.
//
// A job of FILLING stands in memory alone: its calls are not marked. From PLANNED on its row stands in Redis,
// hr:{ns:p}:job of its home partition, and the marks of its calls name it.
#ifndef HEADRACE_COORDINATOR_JOB_H
#define HEADRACE_COORDINATOR_JOB_H

#include "coordinator/core_state.h"

#define JOB_STATES(X)                                                                                       \
    X(FILLING, "filling") X(PLANNED, "planned") X(UPLOADED, "uploaded") X(CREATING, "creating")             \
    X(BOUND, "bound") X(RUNNING, "running") X(ENDED, "ended") X(EXPIRED, "expired")                         \
    X(CANCELLED, "cancelled") X(FAILED, "failed") X(GONE, "gone") X(HARVESTED, "harvested")                 \
    X(CLOSED, "closed")
enum job_state {
#define X(name, text) JOB_##name,
    JOB_STATES(X)
#undef X
        N_JOB_STATES
};

enum job_order {
    ORDER_NONE, ORDER_UPLOAD, ORDER_CREATE, ORDER_FIND, ORDER_POLL, ORDER_CANCEL, ORDER_COLLECT, ORDER_DELETE
};

#define JOB_NAME_MAX 64
#define LINE_HASH 16
#define LINE_NAME_MAX 64

// One line of a job: what one call would have been.
struct line {
    unsigned char hash[LINE_HASH]; // of what it asks for: model, records (docs/jobs.md)
    struct job *job;
    struct call *call;   // LISTED; NULL: it has its answer, or went back
    uint32_t number;     // its place in the file, from 1; 0: not known
    UT_hash_handle hh;   // in core->lines, by hash, while it has a call
};

// JOB_LINES that were sent and are not written yet.
struct sent_lines {
    uint64_t upto;
    int64_t n_bytes;
};

// JOB_ANSWERS that are not durable yet.
struct chunk {
    uint64_t number, upto;
    size_t n_pending;     // partitions whose write is under way
};

#define JOB_AHEAD 64      // chunks of lines, and of answers, that are under way at most

struct job {
    uint64_t id;              // in the namespace; holds the home partition as a batch's does
    char name[JOB_NAME_MAX];  // what the provider is told
    enum job_state state;
    struct group *group;      // NULL: only its lines are known yet (recovery), or its model is gone
    struct partition *home;
    struct line **lines;
    size_t n_lines, cap_lines, n_live; // n_live: with a call
    size_t n_made;            // lines that it had when it was made at the provider; 0: it was not yet
    int64_t n_bytes, n_tokens; // estimates
    int64_t opened_us;        // FILLING: when its first line came
    int64_t closing_us;       // FILLING: since when it is to go as soon as no batch is being sealed; 0: it is not
    int64_t made_ms, since_ms, ended_ms; // wall clock: planned, ordered to be made, ended
    int64_t deadline_ms;      // wall clock: the earliest of its lines; 0: none
    bool by_upload;           // its lines go by a file
    bool is_foreign;          // adopted: its lines are whatever is found in it
    bool is_cancelling;       // it is to be cancelled at the provider
    bool was_cancelled;       // that was ordered
    char *file, *provider_id; // the provider's names; "": none
    char *detail;             // the last sentence about it; ""
    uint64_t create_step;     // the last order to make it; 0: none
    uint64_t total, completed, failed; // as the provider counts
    uint64_t n_answered, n_back;       // lines that had an answer, that went back
    double cost;              // USD of its answers

    size_t n_pending;         // writes of it that are under way: nothing is done before they are durable
    uint64_t next_step;       // counter
    enum job_order order;     // what a worker does for it; ORDER_NONE: nothing
    uint64_t step;            // of that order
    struct route worker;      // whose it is
    int64_t heard_us;         // when it was ordered, or the worker last said something of it
    int n_tries;              // steps in a row that failed
    int n_finds;              // in a row that found nothing
    int n_full;               // times in a row that the provider's queue was full
    uint64_t bad_line;        // FAILED: the line that the provider named; 0: none
    bool may_be_made;         // CREATING: an order to make it was carried out, for all that is known
    int64_t lost_us;          // CREATING: when the worker that had that order was lost
    int64_t next_us;          // nothing is ordered before
    int64_t poll_ms;          // until the next look
    // ORDER_UPLOAD, ORDER_CREATE: lines on their way
    size_t next_line;         // of lines
    uint64_t n_to_send, n_sent;
    uint64_t n_refused;       // of these, that the worker could not write: they went back
    bool all_sent, is_stale;  // is_stale: a line went away meanwhile
    struct sent_lines ahead[JOB_AHEAD];
    size_t n_ahead;
    int64_t ahead_bytes;
    // ORDER_COLLECT: answers on their way
    struct chunk chunks[JOB_AHEAD];
    size_t n_chunks;
    uint64_t next_chunk, n_got, n_taken, told_taken; // answers that came, are durable, and that the worker knows of
    bool collected;           // the worker has brought all
    UT_hash_handle hh;        // by id
};

const char *job_state_text(enum job_state state);
const char *job_order_text(enum job_order order);

// job_new makes a job without lines; job_free takes its lines' calls for gone.
struct job *job_new(struct core *core, uint64_t id, struct group *group);
void job_free(struct core *core, struct job *job);
// job_find returns NULL for an id that is no job's.
struct job *job_find(struct core *core, uint64_t id);
// job_set_state logs the move.
void job_set_state(struct job *job, enum job_state state);
void job_set_text(char **field, struct slice text);

// line_name writes hr1-HASH-N; line_hash reads it. -EPROTO: it is no line's name.
void line_name(const struct line *line, char text[LINE_NAME_MAX]);
MUST_CHECK int line_hash(struct slice name, unsigned char hash[LINE_HASH]);
struct line *line_find(struct core *core, const unsigned char hash[LINE_HASH]);

// job_add_line lists a call, which is in no place: it is LISTED after. hash NULL: it is made.
struct line *job_add_line(struct core *core, struct job *job, struct call *call, const unsigned char *hash);
// job_drop_line: the line's call goes away, or goes back. By call_leave only.
void job_drop_line(struct core *core, struct line *line);
// job_compact forgets lines without a call.
void job_compact(struct job *job);
// job_number numbers the lines that are in the file anew, once those that could not be written are known.
void job_number(struct job *job);
// job_sort puts lines into the order of their hashes, so that a file is the same after a restart.
void job_sort(struct job *job);

// Rows. job_write puts the job's row into its partition's next write; nothing is done for the job until that
// is durable. job_unpack fills a new job; *model, *options are borrowed. -EPROTO: damaged.
void job_write(struct job *job);
struct job_row {
    struct slice model, options;
    uint32_t revision;
};
MUST_CHECK int job_unpack(struct job *job, struct slice blob, struct job_row *row);

#endif
