// The common life of batch jobs. Invariant: a job that has ended has its results made, or none, and
// holds neither lines nor a window. Called by batches.
#include "tests/provider/batch_jobs.h"
#include "common/clock.h"
#include "common/mem.h"
#include "tests/provider/batch_rows.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define ID_SALT      901 // of fault_random
#define TIME_SALT    902
#define TOKEN_BYTES  4  // of the input, for what is enqueued
#define LINES_A_LOOK 16 // between two looks at the clock

struct batch_job *batch_jobs_add(struct batch_jobs *jobs, const struct batch_kind *kind,
                                 uint64_t owner, struct spool **input, int64_t now_us) {
    const struct provider_options *o = jobs->respond->options;
    uint64_t seed = (uint64_t)o->seed;
    struct batch_job *job = mem_zalloc(sizeof(*job));
    job->kind = kind;
    job->jobs = jobs;
    job->number = ++jobs->n_made;
    job->owner = owner;
    job->input = *input;
    job->enqueued_tokens = job->input->n / TOKEN_BYTES;
    *input = NULL;
    job->created_us = now_us;
    snprintf(job->id, sizeof(job->id), "%s%016llx", kind->id,
             (unsigned long long)fault_random(seed, job->number, ID_SALT));
    double draw = (double)(fault_random(seed, job->number, TIME_SALT) >> 11) / 9007199254740992.0;
    job->time_us = (int64_t)((double)o->batch_time * 1000 *
                             (1 + jobs->respond->setup->batch_jitter * (2 * draw - 1)));
    int64_t validity_us = o->batch_validity > 0 ? o->batch_validity * 1000 : kind->validity_us;
    job->expires_us = validity_us > 0 ? now_us + validity_us : 0;
    for (int i = BATCH_FAULT_EXPIRE; i <= BATCH_FAULT_SHUFFLE; i++) {
        job->faults[i] = batch_fault_hits(&jobs->faults, (enum batch_fault)i, seed, job->number);
    }
    DL_APPEND(jobs->list, job);
    HASH_ADD_STR(jobs->table, id, job);
    return job;
}

struct batch_job *batch_jobs_find(struct batch_jobs *jobs, struct slice id, uint64_t owner) {
    struct batch_job *job = NULL;
    HASH_FIND(hh, jobs->table, id.n > 0 ? id.p : "", id.n, job);
    return job != NULL && job->owner == owner ? job : NULL;
}

void batch_jobs_remove(struct batch_jobs *jobs, struct batch_job *job) {
    DL_DELETE(jobs->list, job);
    HASH_DEL(jobs->table, job);
    batch_rows_forget(job);
    spool_leave(&job->results[0]);
    spool_leave(&job->results[1]);
    free(job->metadata);
    free(job);
}

void batch_jobs_free(struct batch_jobs *jobs) {
    struct batch_job *job, *next;
    HASH_ITER(hh, jobs->table, job, next) {
        batch_jobs_remove(jobs, job);
    }
}

bool batch_jobs_is_ended(const struct batch_job *job) {
    return job->state >= BATCH_COMPLETED;
}

void batch_jobs_fail(struct batch_job *job, const char *code, uint64_t line, const char *format,
                     ...) {
    if (job->n_errors == BATCH_ERRORS_MAX) {
        return;
    }
    struct batch_error *error = &job->errors[job->n_errors++];
    error->line = line;
    snprintf(error->code, sizeof(error->code), "%s", code);
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
}

bool batch_jobs_queue_is_full(const struct batch_jobs *jobs, uint64_t owner, const char *model,
                              uint64_t tokens, const struct batch_job *except) {
    uint64_t most = (uint64_t)jobs->respond->options->batch_enqueued_tokens;
    const struct batch_job *job;
    DL_FOREACH(jobs->list, job) {
        bool counts = job->owner == owner && !batch_jobs_is_ended(job) && job != except;
        tokens += counts && strcmp(job->model, model) == 0 ? job->enqueued_tokens : 0;
    }
    return most > 0 && tokens > most;
}

// --- ends ----------------------------------------------------------------------------------------

static void end(struct batch_job *job, enum batch_state state, int64_t now_us) {
    job->state = state;
    job->ended_us = now_us;
    for (int i = 0; i < 2; i++) {
        if (job->results[i] != NULL && spool_flush(job->results[i]) != 0) {
            spool_leave(&job->results[i]); // a full disk: no results are better than half of them
        }
    }
    if (job->kind->made != NULL && state != BATCH_FAILED && !job->faults[BATCH_FAULT_NO_FILES]) {
        job->kind->made(job, now_us);
    }
    batch_rows_forget(job);
}

static void end_checking(struct batch_job *job, int64_t now_us) {
    struct batch_jobs *jobs = job->jobs;
    if (job->n_rows == 0 && job->n_errors == 0) {
        batch_jobs_fail(job, "empty_file", 0,
                        "The input file is empty. Please ensure that it has at least one "
                        "request.");
    }
    if (job->faults[BATCH_FAULT_FAIL_LINE]) {
        uint64_t line = (uint64_t)jobs->respond->options->batch_fail_line;
        line = line < job->n_rows ? line : job->n_rows;
        batch_jobs_fail(job, "invalid_request", line, "This request is not valid.");
    }
    if (job->faults[BATCH_FAULT_FAIL]) {
        batch_jobs_fail(job, "invalid_request", 0, "The job has failed.");
    }
    if (job->n_errors == 0 &&
        (job->faults[BATCH_FAULT_QUEUE_FULL] ||
         batch_jobs_queue_is_full(jobs, job->owner, job->model, job->enqueued_tokens, job))) {
        batch_jobs_fail(
            job, "token_limit_exceeded", 0,
            "Enqueued token limit reached for %s in organization org-simulated. Limit: %lld "
            "enqueued "
            "tokens. Please try again once some in_progress batches have been completed.",
            job->model, (long long)jobs->respond->options->batch_enqueued_tokens);
    }
    if (job->n_errors > 0) {
        end(job, BATCH_FAILED, now_us);
    } else {
        job->state = BATCH_RUNNING;
        job->running_us = now_us;
    }
    if (job->kind->checked != NULL) {
        job->kind->checked(job, now_us);
    }
}

int batch_jobs_cancel(struct batch_job *job, int64_t now_us) {
    if (batch_jobs_is_ended(job)) {
        return -EALREADY;
    }
    if (job->state != BATCH_CANCELLING) {
        job->state = BATCH_CANCELLING;
        job->cancelling_us = now_us;
    }
    return 0;
}

void batch_jobs_expire(struct batch_job *job) {
    job->closing = true;
    job->closing_end = ROW_EXPIRED;
}

// --- steps ---------------------------------------------------------------------------------------

uint64_t batch_jobs_stop_row(const struct batch_job *job) {
    bool stops = job->faults[BATCH_FAULT_EXPIRE] || job->faults[BATCH_FAULT_CANCELLED] ||
                 job->faults[BATCH_FAULT_VANISH] || job->faults[BATCH_FAULT_STALL];
    return stops ? (uint64_t)((double)job->n_rows * job->jobs->respond->setup->batch_stop_at + 0.5)
                 : job->n_rows;
}

// due is how many lines are to be done by now.
static uint64_t due(const struct batch_job *job, int64_t now_us) {
    int64_t time_us = job->time_us * 8 / 10, gone_us = now_us - job->running_us;
    uint64_t stop = batch_jobs_stop_row(job);
    uint64_t n = gone_us >= time_us || job->is_hurried
                     ? job->n_rows
                     : (uint64_t)((double)job->n_rows * (double)gone_us / (double)time_us);
    return n < stop ? n : stop;
}

// stop does what a fault wants at its line. Returns false when the job is gone.
static bool stop(struct batch_job *job, int64_t now_us) {
    if (job->faults[BATCH_FAULT_VANISH]) {
        batch_jobs_remove(job->jobs, job);
        return false;
    }
    if (job->faults[BATCH_FAULT_CANCELLED]) {
        int rc = batch_jobs_cancel(job, now_us);
        assert(rc == 0);
    } else if (job->faults[BATCH_FAULT_EXPIRE]) {
        batch_jobs_expire(job);
    }
    return true;
}

static bool is_over(const struct batch_job *job, int64_t now_us) {
    return job->expires_us != 0 && now_us >= job->expires_us;
}

static bool step_validating(struct batch_job *job, int64_t now_us) {
    for (int i = 0; i < LINES_A_LOOK; i++) {
        if (!batch_rows_check(job)) {
            bool early = job->kind->validates && !job->is_hurried && !is_over(job, now_us) &&
                         now_us < job->created_us + job->time_us / 10;
            if (!early) {
                end_checking(job, now_us);
            }
            return !early;
        }
    }
    return true;
}

// step_closing ends the lines that are left.
static bool step_closing(struct batch_job *job, int64_t now_us) {
    bool expires = job->closing_end == ROW_EXPIRED;
    if (!job->kind->tells_rest && job->n_done < job->n_rows) {
        *(expires ? &job->n_expired : &job->n_cancelled) += job->n_rows - job->n_done;
        job->n_done = job->n_rows;
    }
    for (int i = 0; i < LINES_A_LOOK && job->n_done < job->n_rows; i++) {
        batch_rows_answer(job, now_us);
    }
    if (job->n_done == job->n_rows) {
        end(job, expires ? BATCH_EXPIRED : BATCH_CANCELLED, now_us);
    }
    return true;
}

static bool step_running(struct batch_job *job, int64_t now_us) {
    uint64_t until = due(job, now_us), stop_row = batch_jobs_stop_row(job);
    if (is_over(job, now_us)) {
        batch_jobs_expire(job);
        return true;
    }
    for (int i = 0; i < LINES_A_LOOK && job->n_done < until; i++) {
        batch_rows_answer(job, now_us);
    }
    if (job->n_done < until) {
        return true;
    }
    if (job->n_done == stop_row && stop_row < job->n_rows) {
        return !job->faults[BATCH_FAULT_STALL] && stop(job, now_us);
    }
    if (job->n_done == job->n_rows) {
        job->state = BATCH_FINALIZING;
        job->finalizing_us = now_us;
    }
    return false;
}

// step_ending waits for the end of FINALIZING or CANCELLING.
static bool step_ending(struct batch_job *job, int64_t now_us) {
    int64_t since_us = job->state == BATCH_FINALIZING ? job->finalizing_us : job->cancelling_us;
    if (!job->is_hurried && now_us < since_us + job->time_us / 10) {
        return false;
    }
    if (job->state == BATCH_CANCELLING) {
        for (int i = 0; i < LINES_A_LOOK && !job->is_checked; i++) {
            (void)batch_rows_check(job);
        }
        if (!job->is_checked) {
            return true;
        }
        job->closing = true;
        job->closing_end = ROW_CANCELLED;
        return true;
    }
    bool vanishes = job->faults[BATCH_FAULT_VANISH_ENDED];
    end(job, BATCH_COMPLETED, now_us);
    if (vanishes) {
        struct files *files = job->jobs->files;
        struct file *output = files_find(files, slice_of(job->output_id), job->owner, now_us);
        struct file *error = files_find(files, slice_of(job->error_id), job->owner, now_us);
        if (output != NULL) {
            files_remove(files, output);
        }
        if (error != NULL) {
            files_remove(files, error);
        }
        batch_jobs_remove(job->jobs, job);
    }
    return false;
}

// step lets one job go on a little. Returns true when there is more to do at once.
static bool step(struct batch_job *job, int64_t now_us) {
    if (batch_jobs_is_ended(job)) {
        return false;
    }
    if (job->closing) {
        return step_closing(job, now_us);
    }
    switch (job->state) {
    case BATCH_VALIDATING:
        return step_validating(job, now_us);
    case BATCH_RUNNING:
        return step_running(job, now_us);
    default:
        return step_ending(job, now_us);
    }
}

bool batch_jobs_step(struct batch_jobs *jobs, int64_t now_us, int64_t most_us) {
    int64_t until_us = clock_us() + most_us;
    bool busy = true, active = false;
    while (busy && clock_us() < until_us) {
        busy = active = false;
        struct batch_job *job, *next;
        DL_FOREACH_SAFE(jobs->list, job, next) {
            active |= !batch_jobs_is_ended(job);
            busy |= step(job, now_us);
        }
    }
    return active;
}
