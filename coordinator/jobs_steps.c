// The next step of each job, and which worker takes it. Invariant: of a job at most one step is out, and none
// before every write of the job is durable; a job is made at the provider only after its CREATING is. Called by
// core at the end of a turn.
#include "coordinator/jobs.h"
#include "common/batch_api.h"
#include "common/hook.h"
#include "common/log.h"
#include "coordinator/partition.h"
#include "coordinator/roster.h"
#include "proto/pack.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MOST_MS 300000
#define POLL_GROWTH_MOST 10       // times batch.job.poll
#define SILENT_US 3600000000      // a step of which nothing is heard so long is ordered again
#define SHORT_STEPS 1             // of a pool's jobs at once: one request each
#define LONG_STEPS 2              // uploads and downloads
#define CLOCK_MARGIN_MS 120000    // the provider's clock may be so far behind
#define FINDS_LEAST 2             // a job that was not found so often was not made
#define CLOSED_KEPT 100           // jobs that are kept for people

static bool is_long(enum job_order order) {
    return order == ORDER_UPLOAD || order == ORDER_COLLECT || order == ORDER_CREATE;
}

static int *steps_of(struct pool *pool, enum job_order order) {
    return is_long(order) ? &pool->n_long_steps : &pool->n_short_steps;
}

void jobs_end_step(struct job *job) {
    if (job->order != ORDER_NONE) {
        --*steps_of(job->group->pool, job->order);
        job->n_taken = job->order == ORDER_COLLECT ? job->n_taken : 0; // only those of the provider are passed by
        job->order = ORDER_NONE;
    }
    job->n_ahead = job->n_chunks = 0;
    job->ahead_bytes = 0;
    job->is_stale = false;
}

void jobs_again(struct core *core, struct job *job, int64_t least_ms) {
    int64_t ms = BACKOFF_FIRST_MS, most = job->group->model->options.batch_job_poll;
    most = most < BACKOFF_MOST_MS ? most * POLL_GROWTH_MOST : most;
    most = most < BACKOFF_MOST_MS ? most : BACKOFF_MOST_MS;
    for (int i = 0; i < job->n_tries && ms < most; i++) {
        ms *= 2;
    }
    ms = ms < most ? ms : most;
    ms = ms > least_ms ? ms : least_ms;
    job->n_tries += job->n_tries < 100;
    job->next_us = core->now_us + ms * 1000 + (int64_t)((double)ms * 200 * core->io->draw(core->io->arg));
}

// ---- Ordering ---------------------------------------------------------------------------------------

// pick_worker takes connected workers in turn.
static struct worker *pick_worker(struct core *core, const struct pool *pool) {
    size_t n = 0, i = 0;
    for (const struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        n += !w->lost && roster_serves(w, pool);
    }
    size_t which = n > 0 ? (size_t)(core->n_steps % n) : 0;
    for (struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        if (!w->lost && roster_serves(w, pool) && i++ == which) {
            return w;
        }
    }
    return NULL;
}

// next_step numbers steps so that no earlier coordinator's step has the number.
static uint64_t next_step(struct job *job) {
    return (job->home->epoch & 0xFFFFFFFFFF) << 20 | (++job->next_step & 0xFFFFF);
}

static struct message order_of(const struct job *job, enum job_order order) {
    const struct group *g = job->group;
    bool may_have_file = order == ORDER_CREATE || order == ORDER_DELETE || order == ORDER_FIND;
    bool names_job = order != ORDER_UPLOAD && order != ORDER_CREATE && order != ORDER_FIND &&
                     (order != ORDER_DELETE || g->model->options.batch_job_delete);
    return (struct message){
        .kind = MESSAGE_JOB,
        .job = {.job = job->id, .step = job->step, .order = slice_of(job_order_text(order)),
                .model = slice_of(g->model->name), .revision = g->model->revision, .overrides = g->options,
                .name = slice_of(job->name), .file = may_have_file ? slice_of(job->file) : SLICE_NONE,
                .id = names_job ? slice_of(job->provider_id) : SLICE_NONE,
                .lines = job->n_made > 0 ? job->n_made : job->n_live,
                .since = order == ORDER_FIND ? (uint64_t)(job->since_ms - CLOCK_MARGIN_MS) : 0,
                .skip = order == ORDER_COLLECT ? job->n_taken : 0}};
}

// hook_order passes a point of a test: order_upload, order_create, ...
static void hook_order(enum job_order order) {
    char point[32];
    snprintf(point, sizeof(point), "order_%s", job_order_text(order));
    hook_point(point);
}

#define OTHERS_MAX_BYTES 65536

// add_others lists the ids of all other jobs, for the search of one that has only its time and count.
static void add_others(const struct core *core, const struct job *job, struct buf *out) {
    struct buf ids;
    uint32_t n = 0;
    buf_init(&ids, OTHERS_MAX_BYTES - 8);
    for (const struct job *other = core->jobs; other != NULL; other = other->hh.next) {
        if (other != job && other->provider_id[0] != '\0' && pack_str(&ids, slice_of(other->provider_id)) == 0) {
            n++;
        }
    }
    int rc = pack_array(out, n);
    rc |= buf_add_slice(out, buf_slice(&ids));
    assert(rc == 0); // it has the room
    buf_free(&ids);
}

// send_order sends a JOB. Returns 0 or what send returns.
static int send_order(struct core *core, const struct job *job, enum job_order order, const struct worker *worker) {
    struct buf others;
    buf_init(&others, OTHERS_MAX_BYTES);
    struct message message = order_of(job, order);
    if (order == ORDER_FIND) {
        add_others(core, job, &others);
        message.job.others = buf_slice(&others);
    }
    int rc = core->io->send(core->io->arg, route_slice(&worker->route), &message);
    buf_free(&others);
    return rc;
}

// order_step gives a step to a worker. Returns false when none can take it now.
static bool order_step(struct core *core, struct job *job, enum job_order order) {
    struct pool *pool = job->group->pool;
    if (*steps_of(pool, order) >= (is_long(order) ? LONG_STEPS : SHORT_STEPS)) {
        return false;
    }
    struct worker *worker;
    while ((worker = pick_worker(core, pool)) != NULL) {
        core->n_steps++;
        job->step = next_step(job);
        if (order == ORDER_CREATE) {
            job->create_step = job->step;
        }
        if (send_order(core, job, order, worker) == 0) {
            break;
        }
        roster_lose(core, worker, "unreachable");
    }
    if (worker == NULL) {
        return false;
    }
    hook_order(order);
    ++*steps_of(pool, order);
    job->order = order;
    job->worker = worker->route;
    job->heard_us = core->now_us;
    job->n_chunks = 0;
    job->collected = false;
    job->n_got = job->told_taken = job->n_taken;
    log_debug("job.step", "job=%016" PRIx64 " step=%" PRIu64 " order=%s worker=%s", job->id, job->step,
              job_order_text(order), worker->name);
    if (order == ORDER_UPLOAD || (order == ORDER_CREATE && job->file[0] == '\0')) {
        jobs_start_lines(job);
        jobs_send_lines(core, job);
    }
    return true;
}

// ---- What is next -----------------------------------------------------------------------------------

// is_live says whether a job counts against its pool's jobs at the provider. One that was adopted does until its
// answers are here: till then the lines that they are for look as if nobody had asked for them.
static bool is_live(const struct job *job) {
    return (job->state >= JOB_UPLOADED && job->state <= (job->is_foreign ? JOB_GONE : JOB_RUNNING)) ||
           (job->state == JOB_PLANNED && job->order != ORDER_NONE);
}

// may_begin says whether the pool may have one more job at the provider.
static bool may_begin(const struct core *core, const struct job *job) {
    const struct model_options *o = &job->group->model->options;
    int64_t n = 0, n_tokens = 0;
    for (const struct job *other = core->jobs; other != NULL; other = other->hh.next) {
        if (other != job && other->group != NULL && other->group->pool == job->group->pool && is_live(other)) {
            n++;
            n_tokens += other->n_tokens;
        }
    }
    bool is_many = o->batch_enqueued_tokens != MODEL_UNSET && n > 0 &&
                   n_tokens + job->n_tokens > o->batch_enqueued_tokens;
    return is_live(job) || (n < o->batch_job_concurrency && !is_many && job->group->pool->stopped == NULL);
}

// is_another_unknown says whether another job at an API that gives jobs no names is about to be made, or may have
// been: then one of the two could be taken for the other.
static bool is_another_unknown(const struct core *core, const struct job *job) {
    for (const struct job *other = core->jobs; other != NULL && job->group->jobs->tag == BATCH_UNNAMED;
         other = other->hh.next) {
        if (other != job && other->state == JOB_CREATING && other->group != NULL &&
            other->group->jobs == job->group->jobs) {
            return true;
        }
    }
    return false;
}

// make writes down that the job is about to be made, and is ordered once that is durable.
static void make(struct core *core, struct job *job) {
    job->since_ms = jobs_unix_ms(core);
    job->n_finds = 0;
    job->n_made = job->file[0] != '\0' && job->n_made > 0 ? job->n_made : job->n_live;
    job_set_state(job, JOB_CREATING);
    job->may_be_made = false;
    job_write(job);
}

// was_never_made: it was looked for often enough, and long enough after the last order to make it.
static bool was_never_made(const struct core *core, const struct job *job) {
    int64_t longest_us = 2 * job->group->model->options.request_timeout_ms * 1000;
    return job->n_finds >= FINDS_LEAST && core->now_us - job->lost_us >= longest_us;
}

static void create_or_find(struct core *core, struct job *job) {
    bool is_smaller = job->file[0] == '\0' && job->n_live != job->n_made; // lines had their answers meanwhile
    if (!job->may_be_made && (job->n_live == 0 || job->is_cancelling || is_smaller)) {
        job_set_state(job, job->file[0] != '\0' ? JOB_UPLOADED : JOB_PLANNED);
    } else if (!job->may_be_made) {
        job->may_be_made = order_step(core, job, ORDER_CREATE);
    } else if (was_never_made(core, job)) {
        log_warn("job.again", "job=%016" PRIx64 " why=\"the provider has no job of this name: it is made again\"",
                 job->id);
        core->status->jobs_remade++;
        job_set_state(job, job->file[0] != '\0' ? JOB_UPLOADED : JOB_PLANNED);
    } else {
        (void)order_step(core, job, ORDER_FIND);
    }
}

static bool is_past_deadline(const struct core *core, const struct job *job) {
    return job->deadline_ms > 0 && job->deadline_ms - jobs_unix_ms(core) < jobs_margin_ms(job->group);
}

static void begin(struct core *core, struct job *job) {
    bool is_over = job->n_live == 0 || job->is_cancelling || is_past_deadline(core, job);
    if (is_over) { // all were answered meanwhile, or they go back before anything was made
        jobs_give_back(core, job, OUTCOME_OK, SLICE_NONE);
        jobs_harvested(core, job);
    } else if (may_begin(core, job) && job->state == JOB_PLANNED && job->by_upload) {
        (void)order_step(core, job, ORDER_UPLOAD);
    } else if (may_begin(core, job) && !is_another_unknown(core, job)) {
        make(core, job);
    }
}

static void look(struct core *core, struct job *job) {
    if (job->is_cancelling && !job->was_cancelled) {
        (void)order_step(core, job, ORDER_CANCEL);
    } else if (order_step(core, job, ORDER_POLL)) {
        int64_t first_ms = job->group->model->options.batch_job_poll;
        job->poll_ms = job->poll_ms > 0 ? job->poll_ms * 3 / 2 : first_ms;
        job->poll_ms = job->poll_ms < first_ms * POLL_GROWTH_MOST ? job->poll_ms : first_ms * POLL_GROWTH_MOST;
    }
}

void jobs_close(struct core *core, struct job *job) {
    job_set_state(job, JOB_CLOSED);
    job_write(job);
    core->n_closed_jobs++;
}

// forget_old keeps the newest of the jobs that are closed, for people.
static void forget_old(struct core *core) {
    struct job *old, *next;
    HASH_ITER(hh, core->jobs, old, next) { // oldest first
        if (core->n_closed_jobs <= CLOSED_KEPT) {
            break;
        }
        if (old->state == JOB_CLOSED && old->n_pending == 0) {
            txn_unjob(partition_txn(old->home), old->id);
            job_free(core, old);
        }
    }
}

static void clean_up(struct core *core, struct job *job) {
    bool is_all = job->group->model->options.batch_job_delete && job->provider_id[0] != '\0';
    if ((job->file[0] == '\0' && !is_all) || job->is_foreign) {
        jobs_close(core, job);
    } else {
        (void)order_step(core, job, ORDER_DELETE);
    }
}

static void next_of(struct core *core, struct job *job) {
    switch (job->state) {
    case JOB_PLANNED:
    case JOB_UPLOADED:
        begin(core, job);
        break;
    case JOB_CREATING:
        create_or_find(core, job);
        break;
    case JOB_BOUND:
    case JOB_RUNNING:
        look(core, job);
        break;
    case JOB_ENDED:
    case JOB_EXPIRED:
    case JOB_CANCELLED:
    case JOB_FAILED:
        if (job->provider_id[0] != '\0') {
            (void)order_step(core, job, ORDER_COLLECT);
        } else {
            jobs_collected(core, job);
        }
        break;
    case JOB_GONE:
        jobs_give_back(core, job, OUTCOME_OK, SLICE_NONE);
        jobs_harvested(core, job);
        break;
    case JOB_HARVESTED:
        clean_up(core, job);
        break;
    case JOB_FILLING:
    case JOB_CLOSED:
    case N_JOB_STATES:
        break;
    }
}

// lose_step: the worker that had the step is gone, or will not answer. Whether it has made the job is not known.
static void lose_step(struct core *core, struct job *job) {
    log_info("job.step_lost", "job=%016" PRIx64 " step=%" PRIu64 " order=%s", job->id, job->step,
             job_order_text(job->order));
    bool was_told_all = job->order == ORDER_CREATE && (job->file[0] != '\0' || job->all_sent);
    if (job->order == ORDER_CREATE) {
        job->may_be_made = was_told_all;
        job->lost_us = core->now_us;
    }
    jobs_end_step(job);
    jobs_again(core, job, 0);
}

// is_stale: lines went away while they were being sent, so that nothing can have been made of them: once more.
static bool restart_if_stale(struct job *job) {
    if (!job->is_stale || job->all_sent) {
        return false;
    }
    jobs_end_step(job);
    job->may_be_made = false;
    job_set_state(job, JOB_PLANNED);
    return true;
}

static void pump_job(struct core *core, struct job *job) {
    if (job->state == JOB_FILLING || job->state == JOB_CLOSED || job->group == NULL) {
        return;
    }
    if ((job->state == JOB_BOUND || job->state == JOB_RUNNING) && !job->is_cancelling &&
        is_past_deadline(core, job)) {
        log_info("job.late", "job=%016" PRIx64 " lines=%zu", job->id, job->n_live);
        job->is_cancelling = true;
        job->next_us = core->now_us;
        core->status->jobs_late++;
    }
    jobs_tell_taken(core, job);
    if (job->order != ORDER_NONE && !restart_if_stale(job)) {
        if (roster_find(core, route_slice(&job->worker)) == NULL || job->heard_us + SILENT_US < core->now_us) {
            lose_step(core, job);
        } else {
            return;
        }
    }
    if (job->n_pending > 0) {
        return;
    }
    if (job->next_us > core->now_us) {
        jobs_want(core, job->next_us);
        return;
    }
    next_of(core, job);
}

void jobs_pump(struct core *core) {
    if (!core_is_open(core) || !partition_all_leased(core)) {
        return;
    }
    struct job *job, *next;
    HASH_ITER(hh, core->jobs, job, next) {
        pump_job(core, job);
    }
    forget_old(core);
}
