// run: what one `headrace run` holds. run.c and run_model.c prepare it; run_flow.c moves the rows,
// run_control.c watches the coordinator, and run_tell.c says how it ended.
#ifndef HEADRACE_CLIENT_RUN_H
#define HEADRACE_CLIENT_RUN_H

#include "client/counters.h"
#include "client/embedded.h"
#include "client/images.h"
#include "client/journal.h"
#include "client/merge.h"
#include "client/output.h"
#include "client/progress.h"
#include "client/rows.h"
#include "client/run_order.h"
#include "client/sender.h"
#include "client/setup.h"
#include "client/state.h"
#include "client/taker.h"
#include "common/limits_file.h"
#include "common/prices.h"

#define RUN_CODES_MAX JOURNAL_CODES_MAX // different error codes that are counted apart

// What a journal's step says of what was used.
enum run_used {
    RUN_USED_CALLS, // that were made
    RUN_USED_FAILED,
    RUN_USED_RETRIES,
    RUN_USED_AMBIGUOUS,
    RUN_USED_INPUT, // tokens
    RUN_USED_OUTPUT,
    RUN_USED_COST,
    RUN_USED_UNPRICED, // calls of unknown cost
    RUN_USED_TIMEOUT,  // ambiguous calls by cause
    RUN_USED_BROKEN,
    RUN_USED_LOST,
    RUN_USED_CRASH,
    RUN_USED_RESOLVED_LOST, // of those: answered after all
    RUN_USED_RESOLVED_CRASH,
};

struct run_options {
#define OPTION OPTION_FIELD
#include "client/run_options.def"
#undef OPTION
};

struct run {
    struct run_options options;
    // Prepared by run.c and run_model.c before anything starts.
    struct statements statements;
    struct model *model;            // with the overrides
    struct buf create;              // its CREATE MODEL statement, without the overrides
    struct buf overrides;           // msgpack map, or empty
    struct buf asked;               // the same without the budget, which changes no answer
    char **secret_names;            // n_secret_names of the model
    size_t n_secret_names;
    struct prices *prices;          // of --prices; NULL: none
    struct limits_file *limits;     // of --limits; NULL: none
    struct rows *rows;
    struct images *images;          // NULL: the model has no column of IMAGE
    struct merge merge;
    struct output output;
    struct state state;             // its folder
    struct journal *journal;        // NULL: the folder is temporary
    char *journal_path;
    bool is_stuck;                  // what it reads or writes allows no going on: no steps are kept
    uint64_t n_resumed;             // rows that earlier starts have written: read, and not held
    struct counters before;         // what earlier starts, and earlier coordinators, have used
    // The moving parts.
    struct loop *loop;
    void *zmq;
    struct embedded *embedded;
    const char *address;            // of the coordinator, once it listens; borrowed
    struct dialogue *control;       // CREATE, STATUS_GET
    struct sender *sender;
    struct taker *taker;
    struct run_order *order;
    struct progress *progress;
    struct loop_timer *poll;        // STATUS_GET
    struct loop_timer *last;        // the last STATUS is waited for
    struct loop_timer *step;        // lines wait to be made durable
    int64_t stepped_us;             // when that was last done
    uint64_t n_safe;                // rows whose lines are written, as durably as they will be
    uint64_t n_again;               // parts that were started again
    uv_poll_t input_wait;           // rows_fd is readable
    bool is_waiting_input, has_input_wait;
    bool is_created;                // the model is at the coordinator
    bool is_create_due;         // the coordinator was starting: say CREATE again at the next poll
    bool at_end;                    // of the input
    bool is_ending;                 // no row moves any more
    bool is_detached;               // --detach: the rest is at the provider
    bool is_last_asked;             // the last STATUS was asked for
    bool embedded_began;            // parts were started
    int exit_code;                  // of EXIT_...; EXIT_ALL_OK while nothing went wrong
    struct error why;               // what a person should know about exit_code
    // Counts.
    struct counters counters;       // newest
    int64_t start_us;
    uint64_t n_read, n_written, n_ok, n_results, n_results_at_poll;
    struct progress_code codes[RUN_CODES_MAX];
    size_t n_codes;
    struct buf line;                // scratch
};

// run_flow_start makes the moving parts and begins. Returns 0 or a negative errno with why.
MUST_CHECK int run_flow_start(struct run *run, struct error *why);
// run_flow_free frees them. Children that still run are killed.
void run_flow_free(struct run *run);
// run_flow_created: the coordinator has the model: rows may go; run_flow_finish: all lines are written, and the last
// counters are here, or are not waited for any longer.
void run_flow_created(struct run *run);
void run_flow_finish(struct run *run);
// run_stop ends the run early (once): what is finished is written, all parts end.
void run_stop(struct run *run, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
