// How a step ended. Invariant: what a step brought is in a write before the next step is ordered, and before its
// worker may forget it. Called by core.
#include "coordinator/jobs.h"
#include "common/batch_api.h"
#include "common/log.h"
#include "coordinator/collect.h"
#include "coordinator/permits.h"
#include "coordinator/roster.h"

#include <inttypes.h>

#define STOPPED_MS 30000  // a step that the pool's stop has ended is tried again after this
#define FULL_MS 10000     // at least, when the provider's queue is full
#define FULL_MOST 6       // doublings of that
#define DELETES_MOST 5    // tries to delete before a job is closed all the same

static struct job *job_of_id(struct core *core, const struct job *but, struct slice provider_id) {
    for (struct job *job = core->jobs; job != NULL; job = job->hh.next) {
        if (job != but && slice_is(provider_id, job->provider_id)) {
            return job;
        }
    }
    return NULL;
}

void jobs_bind(struct core *core, struct job *job, struct slice provider_id) {
    job_set_text(&job->provider_id, provider_id);
    job_set_state(job, JOB_BOUND);
    log_info("job.bound", "job=%016" PRIx64 " id=%s lines=%zu", job->id, job->provider_id, job->n_live);
    core->status->jobs_made++;
    job->n_full = 0;
    int64_t poll_ms = job->group->model->options.batch_job_poll;
    job->poll_ms = 0;
    job->next_us = core->now_us + poll_ms * 1000;
    job_write(job);
}

// set_back: the job is not at the provider (any more), and is to be made later from the same lines.
static void set_back(struct core *core, struct job *job) {
    job_set_text(&job->provider_id, SLICE_NONE);
    job_set_state(job, job->file[0] != '\0' ? JOB_UPLOADED : JOB_PLANNED);
    job->may_be_made = false;
    job_write(job);
}

// ---- What went wrong ----------------------------------------------------------------------------------

// queue_full: the rows stay, and no attempt is used.
static void queue_full(struct core *core, struct job *job) {
    core->status->jobs_full++;
    set_back(core, job);
    job->n_full += job->n_full < FULL_MOST;
    int64_t least_ms = job->group->model->options.batch_job_poll;
    least_ms = least_ms < FULL_MS ? least_ms : FULL_MS;
    jobs_again(core, job, least_ms << job->n_full);
}

// too_large: by a file, or in two jobs, or without the one record that is too large by itself.
static void too_large(struct core *core, struct job *job) {
    const struct batch_api *api = job->group->jobs;
    job_set_text(&job->file, SLICE_NONE);
    if (!job->by_upload && api->inline_bytes < api->bytes) {
        job->by_upload = true;
        set_back(core, job);
    } else if (!jobs_split(core, job)) {
        jobs_give_back(core, job, OUTCOME_TOO_LARGE, SLICE_NONE);
        jobs_harvested(core, job);
    }
}

static void stop_pool(struct core *core, struct job *job, enum outcome outcome, struct slice detail) {
    struct pool *pool = job->group->pool;
    if (pool->stopped == NULL) {
        log_error("pool.stopped", "outcome=%s why=\"%.*s\"", outcome_of(outcome)->text, SLICE_FMT(detail));
        pool_stop(pool, outcome_of(outcome)->text, detail);
    }
    jobs_again(core, job, STOPPED_MS);
}

static void no_credential(struct core *core, struct job *job, struct slice route, struct slice detail) {
    struct pool *pool = job->group->pool;
    struct worker *worker = roster_find(core, route);
    if (worker != NULL) {
        roster_lacks(worker, pool);
    }
    if (!roster_has(core, pool)) {
        stop_pool(core, job, OUTCOME_BAD_CONFIG, detail);
        pool->is_keyless = true;
    }
}

// refused: the provider said no, and would again. A job that names a bad line goes without it; what is wrong with
// the whole of a job is wrong with the next one too.
static void refused(struct core *core, struct job *job, enum job_order order, enum outcome outcome,
                    const struct message_job_done *done) {
    if (order == ORDER_UPLOAD || order == ORDER_CREATE) {
        if (done->bad_line > 0) {
            job->bad_line = done->bad_line;
            job_set_state(job, JOB_FAILED);
            job_write(job);
        } else {
            stop_pool(core, job, OUTCOME_BAD_CONFIG, done->detail);
        }
    } else if (order == ORDER_CANCEL) { // it has ended, most likely
        job->was_cancelled = true;
    } else if (order == ORDER_DELETE && job->n_tries >= DELETES_MOST) {
        log_warn("job.not_deleted", "job=%016" PRIx64 " outcome=%s why=\"%.*s\"", job->id, outcome_of(outcome)->text,
                 SLICE_FMT(done->detail));
        jobs_close(core, job);
    } else {
        jobs_again(core, job, 0);
    }
}

static void step_failed(struct core *core, struct job *job, enum job_order order, struct slice route,
                        const struct message_job_done *done, enum outcome outcome) {
    log_warn("job.step_failed", "job=%016" PRIx64 " order=%s outcome=%s http=%" PRIu64 " why=\"%.*s\"", job->id,
             job_order_text(order), outcome_of(outcome)->text, done->http_status, SLICE_FMT(done->detail));
    if (order == ORDER_CREATE) {
        job->may_be_made = done->sent;
        job->lost_us = core->now_us;
    }
    int64_t asked_ms = done->retry_after_ms < 86400000 ? (int64_t)done->retry_after_ms : 86400000;
    switch (outcome_of(outcome)->action) {
    case ACTION_STOP:
        stop_pool(core, job, outcome, done->detail);
        break;
    case ACTION_SPLIT:
        too_large(core, job);
        break;
    case ACTION_ISOLATE:
    case ACTION_FAIL:
        refused(core, job, order, outcome, done);
        break;
    case ACTION_AGAIN:
        if (outcome == OUTCOME_NO_CREDENTIAL) {
            no_credential(core, job, route, done->detail);
            break;
        }
        jobs_again(core, job, asked_ms);
        break;
    default:
        if (order == ORDER_DELETE && job->n_tries >= DELETES_MOST) {
            refused(core, job, order, outcome, done);
        } else {
            jobs_again(core, job, asked_ms);
        }
    }
}

// ---- What went well -----------------------------------------------------------------------------------

static void found(struct core *core, struct job *job, struct slice provider_id) {
    if (provider_id.n == 0 || job_of_id(core, job, provider_id) != NULL) {
        job->n_finds++;
        jobs_again(core, job, job->n_finds > 1 ? job->group->model->options.batch_job_poll : 0);
    } else {
        log_info("job.adopted", "job=%016" PRIx64, job->id);
        core->status->jobs_adopted++;
        jobs_bind(core, job, provider_id);
    }
}

static void ended(struct core *core, struct job *job, enum job_state state) {
    job->ended_ms = jobs_unix_ms(core);
    job->next_us = 0;
    job_set_state(job, state);
    core->status->jobs_gone += state == JOB_GONE;
    core->status->jobs_expired += state == JOB_EXPIRED;
    core->status->jobs_failed += state == JOB_FAILED;
    job_write(job);
}

static void looked(struct core *core, struct job *job, const struct message_job_done *done) {
    static const struct {
        const char *text;
        enum job_state state;
    } ends[] = {{"ended", JOB_ENDED}, {"expired", JOB_EXPIRED}, {"cancelled", JOB_CANCELLED},
                {"failed", JOB_FAILED}};
    job->bad_line = done->bad_line;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (slice_is(done->state, ends[i].text)) {
            ended(core, job, ends[i].state);
            return;
        }
    }
    job_set_state(job, JOB_RUNNING);
    double spread = 0.9 + 0.2 * core->io->draw(core->io->arg);
    job->next_us = core->now_us + (int64_t)((double)job->poll_ms * 1000 * spread);
}

static void step_done(struct core *core, struct job *job, enum job_order order,
                      const struct message_job_done *done) {
    job->n_tries = 0;
    switch (order) {
    case ORDER_UPLOAD:
        job_set_text(&job->file, done->file);
        job->n_made = job->n_to_send - job->n_refused;
        job_set_state(job, JOB_UPLOADED);
        job_write(job);
        break;
    case ORDER_CREATE:
        if (done->id.n > 0) {
            jobs_bind(core, job, done->id);
        } else { // it was made, for all that is known
            job->lost_us = core->now_us;
            jobs_again(core, job, 0);
        }
        break;
    case ORDER_FIND:
        found(core, job, done->id);
        break;
    case ORDER_POLL:
        looked(core, job, done);
        break;
    case ORDER_CANCEL:
        job->was_cancelled = true;
        job->poll_ms = 0;
        break;
    case ORDER_DELETE:
        jobs_close(core, job);
        break;
    case ORDER_COLLECT:
    case ORDER_NONE:
        break;
    }
}

// collect_done: the worker has brought all answers; jobs_tell_taken sees when they are durable.
static void collect_done(struct core *core, struct job *job, const struct message_job_done *done) {
    if (done->answers > job->n_got) {
        log_warn("job.answers_lost", "job=%016" PRIx64 " got=%" PRIu64 " want=%" PRIu64, job->id, job->n_got,
                 done->answers);
        jobs_end_step(job);
        jobs_again(core, job, 0);
        return;
    }
    job->collected = true;
}

static void on_done(struct core *core, struct job *job, struct slice route, const struct message_job_done *done) {
    int parsed = outcome_parse(done->outcome);
    enum outcome outcome = parsed >= 0 ? (enum outcome)parsed : OUTCOME_TRANSIENT;
    enum job_order order = job->order;
    job->heard_us = core->now_us;
    if (done->detail.n > 0) {
        job_set_text(&job->detail, done->detail);
    }
    if (done->total > 0) {
        job->total = done->total;
        job->completed = done->completed;
        job->failed = done->failed;
    }
    if ((order == ORDER_UPLOAD || order == ORDER_CREATE) && job->n_refused > 0) {
        job_number(job);
    }
    if (order == ORDER_COLLECT && outcome == OUTCOME_OK && !slice_is(done->state, "gone")) {
        collect_done(core, job, done);
        return;
    }
    jobs_end_step(job);
    bool is_there = order == ORDER_POLL || order == ORDER_CANCEL || order == ORDER_COLLECT;
    if (slice_is(done->state, "full")) {
        queue_full(core, job);
    } else if (slice_is(done->state, "too-large")) {
        too_large(core, job);
    } else if (slice_is(done->state, "gone") && is_there) {
        ended(core, job, JOB_GONE);
    } else if (slice_is(done->state, "gone") && order == ORDER_DELETE) {
        jobs_close(core, job);
    } else if (slice_is(done->state, "failed") && is_there) { // outcome may say why
        looked(core, job, done);
    } else if (outcome != OUTCOME_OK) {
        step_failed(core, job, order, route, done, outcome);
    } else {
        step_done(core, job, order, done);
    }
}

// on_late_done takes word of a step that was given up: that the job was made counts.
static void on_late_done(struct core *core, struct job *job, const struct message_job_done *done) {
    bool is_made = slice_is(done->outcome, outcome_of(OUTCOME_OK)->text) && done->id.n > 0;
    if (!is_made || slice_is(done->id, job->provider_id)) {
        return;
    }
    if (job->state == JOB_CREATING && job_of_id(core, job, done->id) == NULL) {
        jobs_end_step(job);
        jobs_bind(core, job, done->id);
    } else if (done->step == job->create_step || job->provider_id[0] != '\0') {
        log_error("job.twice", "job=%016" PRIx64 " has=%s also=%.*s", job->id, job->provider_id,
                  SLICE_FMT(done->id));
        core->status->jobs_twice++;
    }
}

void jobs_done(struct core *core, struct slice route, const struct message_job_done *done) {
    struct job *job = job_find(core, done->job);
    roster_reported(core, route); // so that TAKEN leaves the worker's credit as it is
    if (job != NULL && job->group != NULL && job->order != ORDER_NONE && done->step == job->step) {
        if (!job->collected || job->order != ORDER_COLLECT) { // else it says it again
            on_done(core, job, route, done);
        }
    } else if (job != NULL && job->group != NULL) {
        on_late_done(core, job, done);
    }
    collect_taken(core, route, done->job, done->step);
}
