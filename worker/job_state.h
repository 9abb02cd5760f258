// job_state: a step's state, for the files job*.c alone.
#ifndef HEADRACE_WORKER_JOB_STATE_H
#define HEADRACE_WORKER_JOB_STATE_H

#include "worker/batch.h"
#include "worker/job.h"
#include "worker/job_rows.h"

#include <uthash.h>

#define JOB_AHEAD 4                      // most JOB_ANSWERS ahead of JOB_TAKEN
#define JOB_ANSWERS_BYTES (256 * 1024)   // one is sent when it has so many: the coordinator is not held up long
#define JOB_SLICE_US 2000                // a step works so long at a time

#define JOB_STATES(X) X(WAITING) X(WRITING) X(ASKING) X(PAUSED) X(READING) X(DONE)
enum job_state {
#define X(name) JOB_##name,
    JOB_STATES(X)
#undef X
};

// A message with lines that are not written yet.
struct job_lines {
    struct buf frame;
    struct message m;          // borrows from frame
    struct slice rest;         // of its lines
    uint64_t n_read;           // of them
    struct job_lines *next;
};

// A message with answers that the coordinator has not taken.
struct job_answers {
    struct buf frame;
    uint64_t upto;             // number of the answer after its last
    bool to_send;
    struct job_answers *next;
};

struct job {
    UT_hash_handle hh;
    struct jobs *jobs;
    uint64_t id;               // key
    struct buf frame;          // copy of the JOB
    struct message_job order;  // borrows from frame
    enum job_state state;
    struct held *held;         // NULL while WAITING
    const struct batch_provider *provider;
    const struct batch_api *facts;
    struct batch_step step;
    bool has_step;             // step was made
    const struct exchange *exchange; // asked, or the next
    struct transfer *transfer; // ASKING
    int64_t due_us;            // WAITING: given up then; PAUSED: goes on then

    // Lines
    struct job_lines *lines;   // waiting to be written, oldest first
    uint64_t n_expected;       // number of the first line of the next message
    uint64_t n_lines;          // written or refused
    uint64_t n_written;        // in the file
    bool last;                 // no more will come
    bool got_to_send;

    // Answers
    struct job_rows rows;
    bool has_rows;
    struct transfer_end end;   // of the exchange whose answers are read
    uint64_t n_answers;        // so far, in what the provider gave; lines that were refused before that
    uint64_t n_bad;            // rows that are none
    uint64_t n_bytes;          // of the files
    struct buf gathered;       // for the next message: msgpack bins
    uint64_t n_gathered;
    struct job_answers *answers; // not taken, oldest first
    size_t n_ahead;

    struct buf done;           // the packed JOB_DONE
    bool done_to_send;
    int64_t done_us;           // when it ended
};

struct jobs {
    struct loop *loop;
    struct jobs_config config;
    struct transfers *transfers;
    struct job *by_id;         // uthash
    struct loop_timer *work;   // runs while steps have work to do
    struct loop_timer *tick;   // runs while steps wait or pause
    struct call *call;         // scratch: a line as a call
    struct buf scratch, line;  // scratch: a report; a line of the file
    bool draining;
};

// job_step_to moves a step on; only the arrows of job.h are allowed.
void job_step_to(struct job *job, enum job_state state);
// job_fail ends a step with this outcome and sentence.
void job_fail(struct job *job, enum outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// job_ask begins an exchange, or ends the step when there is none.
void job_ask(struct job *job, const struct exchange *exchange);
// job_work has jobs_on_work called soon.
void job_work(struct job *job);
// job_flush sends what is due; what the socket does not take is sent later.
void job_flush(struct job *job);

// ---- job_lines.c: lines become a file -------------------------------------------------------------

// job_lines_begin opens the file; job_lines_add keeps a message; job_lines_write writes for a while.
void job_lines_begin(struct job *job);
void job_lines_add(struct job *job, const struct message *m, struct slice frame);
void job_lines_write(struct job *job);
void job_lines_free(struct job *job);

// ---- job_answers.c: answers become reports --------------------------------------------------------

// job_answers_begin reads the replies of an exchange; job_answers_read goes on for a while.
void job_answers_begin(struct job *job, const struct transfer_end *end);
void job_answers_read(struct job *job);
// job_answers_add gathers what became of a line: jobs->call.
void job_answers_add(struct job *job, struct slice line);
// job_answers_may_add says whether the coordinator has taken enough of those before.
bool job_answers_may_add(const struct job *job);
// job_answers_send makes a message of what is gathered.
void job_answers_send(struct job *job);
// job_answers_taken forgets messages.
void job_answers_taken(struct job *job, uint64_t upto);
void job_answers_free(struct job *job);

#endif
