// batch_jobs: jobs of all APIs, their lines and their common life.
//
//   VALIDATING ─▶ FAILED
//       └─▶ RUNNING ─▶ FINALIZING ─▶ COMPLETED
//   VALIDATING, RUNNING, FINALIZING ─▶ CANCELLING ─▶ CANCELLED
//   RUNNING ─▶ EXPIRED
//
// A job goes on by batch_jobs_step, a little at a time. Lines are answered evenly over its time, in
// order or, with a fault, in another; results are on disk. What a job holds in memory is eight
// bytes a line and a window.
#ifndef HEADRACE_TESTS_PROVIDER_BATCH_JOBS_H
#define HEADRACE_TESTS_PROVIDER_BATCH_JOBS_H

#include "tests/provider/batch_fault.h"
#include "tests/provider/files.h"
#include "tests/provider/ledger.h"
#include "tests/provider/respond.h"

#include <uthash.h>

enum batch_state {
    BATCH_VALIDATING,
    BATCH_RUNNING,
    BATCH_FINALIZING,
    BATCH_CANCELLING,
    BATCH_COMPLETED, // this and those below are ends
    BATCH_FAILED,
    BATCH_EXPIRED,
    BATCH_CANCELLED,
};

#define BATCH_ERRORS_MAX 10
#define BATCH_ID_MAX     512 // bytes of a line's id

// Why a job failed, or a part of why.
struct batch_error {
    char code[40], message[240];
    uint64_t line; // 0: none
};

// How a line ended.
enum row_end { ROW_ANSWERED, ROW_TIMEOUT, ROW_EXPIRED, ROW_CANCELLED };

// A line and its answer.
struct row {
    struct json_object *line; // parsed
    struct slice id;          // borrowed from line
    uint64_t number;          // from 1; the same for the same seed, job and line
    enum row_end end;
    struct job *job;   // ROW_ANSWERED: for the ledger
    int status;        // ROW_ANSWERED: of the answer
    struct slice body; // and the answer
};

struct batch_job;

// What differs from API to API.
struct batch_kind {
    const char *id;         // how a job's id begins
    const char *request_id; // how a result's id begins
    bool two_files;         // what failed goes to a file of its own
    bool tells_rest;        // lines that were not executed are among the results
    bool repeats;           // ids may repeat
    bool validates;      // VALIDATING takes a tenth of the job's time; false: as long as it takes
    int64_t validity_us; // a job expires after this; 0: never
    // check looks at a line when the job is validated; line is NULL when text is no JSON object.
    // Returns 0 with *id borrowed from it, or -EINVAL with error (its line is set by the caller).
    int (*check)(struct batch_job *job, struct slice text, struct json_object *line,
                 struct slice *id, struct batch_error *error);
    // answer answers a line through respond_to_value: row->line is there; sets row->status and
    // fills reply.
    void (*answer)(const struct respond *respond, struct batch_job *job, struct row *row,
                   struct httpd_reply *reply);
    // write appends a result without its line feed. Returns 0 or -EMSGSIZE.
    int (*write)(const struct batch_job *job, const struct row *row, struct buf *out);
    // checked, if there is one, is told that the job has been validated, before it runs or after it
    // has failed; it may remove the job then.
    void (*checked)(struct batch_job *job, int64_t now_us);
    // made makes the results into files when the job ends; NULL: they stay with the job. Called
    // once.
    void (*made)(struct batch_job *job, int64_t now_us);
};

struct batch_job {
    const struct batch_kind *kind;
    const struct api *api; // of its lines
    char id[64];
    uint64_t number, owner; // from 1; hash of the credential
    enum batch_state state;
    char endpoint[64], model[96], input_id[64], name[256]; // name: displayName
    char *metadata;                                        // JSON; NULL: none
    int64_t created_us, running_us, finalizing_us, ended_us, cancelling_us,
        expires_us;        // 0: not yet
    int64_t keep_us;       // results are kept so long after the end; 0: as usual
    int64_t time_us;       // how long it takes if nothing holds it up
    struct spool *input;   // lines
    uint64_t *at;          // where each line begins, n_rows + 1 of them, or so many as are checked
    uint64_t n_rows, room; // lines, and what `at` has room for
    uint64_t read_at;      // VALIDATING: the next line
    uint64_t n_inputs;     // of embeddings, in the lines that were looked at
    uint64_t n_done;       // lines that have ended
    uint64_t n_succeeded, n_errored, n_cancelled, n_expired;
    uint64_t input_tokens, output_tokens;
    uint64_t enqueued_tokens; // a quarter of its input's bytes
    bool closing;             // the lines that are left end as closing_end
    enum row_end closing_end;
    struct spool *results[2];       // answered; and failed, if the kind has two files
    bool faults[BATCH_FAULT_COUNT]; // what will happen to it
    bool is_checked;                // all lines have been looked at
    bool is_hurried;                // it does not wait for its time
    char output_id[64], error_id[64];
    struct batch_error errors[BATCH_ERRORS_MAX];
    size_t n_errors;
    uint64_t *ids; // VALIDATING: hashes of the lines' ids, a table of n_ids_room
    uint64_t n_ids_room;
    struct spool_window window;
    struct batch_jobs *jobs;
    void *waiting;                 // the request that waits for the end of VALIDATING; NULL: none
    enum batch_fault create_fault; // of the request that made it
    bool is_inline;                // its lines came in the request
    struct batch_job *prev, *next; // the oldest first
    UT_hash_handle hh;
};

struct batch_jobs {
    const struct respond *respond;
    struct ledger *ledger;
    struct files *files;
    struct batch_faults faults;
    struct batch_job *list, *table;
    uint64_t n_made;
    void *arg; // the batches, for kinds
};

// batch_jobs_add makes a job whose input is there; takes the spool. The caller fills in api, model,
// endpoint and what else a kind wants.
struct batch_job *batch_jobs_add(struct batch_jobs *jobs, const struct batch_kind *kind,
                                 uint64_t owner, struct spool **input, int64_t now_us);
// batch_jobs_find finds a job of owner, or NULL.
struct batch_job *batch_jobs_find(struct batch_jobs *jobs, struct slice id, uint64_t owner);
// batch_jobs_remove stops a job and forgets it; its files stay.
void batch_jobs_remove(struct batch_jobs *jobs, struct batch_job *job);
void batch_jobs_free(struct batch_jobs *jobs);

// batch_jobs_step lets all jobs go on, for about most_us. Returns true while any of them has more
// to do.
bool batch_jobs_step(struct batch_jobs *jobs, int64_t now_us, int64_t most_us);
// batch_jobs_cancel begins to cancel. Returns 0, or -EALREADY when the job has ended.
MUST_CHECK int batch_jobs_cancel(struct batch_job *job, int64_t now_us);
// batch_jobs_expire ends a job that runs: the lines that are left expire.
void batch_jobs_expire(struct batch_job *job);
bool batch_jobs_is_ended(const struct batch_job *job);
// batch_jobs_stop_row is the line before which a fault stops the job; n_rows: none does.
uint64_t batch_jobs_stop_row(const struct batch_job *job);
// batch_jobs_queue_is_full says whether `tokens` more of a model would go over
// --batch-enqueued-tokens.
//   except  a job that is not counted; may be NULL
bool batch_jobs_queue_is_full(const struct batch_jobs *jobs, uint64_t owner, const char *model,
                              uint64_t tokens, const struct batch_job *except);
// batch_jobs_fail adds an error to the job; the first ones are kept.
void batch_jobs_fail(struct batch_job *job, const char *code, uint64_t line, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

#endif
