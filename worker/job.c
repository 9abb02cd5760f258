// Steps of jobs. Invariants: of a job at most one step is under way, the newest; JOB_DONE follows when all
// its answers are taken, and is repeated until a new step takes its place; a request whose effect is not
// known is never made again here. Called by receive (messages) and by main (drain).
#include "worker/job.h"

#include "common/clock.h"
#include "common/hook.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "proto/frame.h"
#include "proto/pack.h"
#include "worker/job_state.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_US 30000000        // most time for a model's revision to come
#define TICK_MS 50
#define DONE_KEPT_US 3600000000  // the coordinator has forgotten a job that it does not take for so long

static const char *const state_names[] = {
#define X(name) [JOB_##name] = #name,
    JOB_STATES(X)
#undef X
};

static const bool allowed[JOB_DONE + 1][JOB_DONE + 1] = {
    [JOB_WAITING] = {[JOB_WRITING] = true, [JOB_ASKING] = true, [JOB_DONE] = true},
    [JOB_WRITING] = {[JOB_ASKING] = true, [JOB_DONE] = true},
    [JOB_ASKING] = {[JOB_PAUSED] = true, [JOB_READING] = true, [JOB_ASKING] = true, [JOB_DONE] = true},
    [JOB_PAUSED] = {[JOB_ASKING] = true, [JOB_DONE] = true},
    [JOB_READING] = {[JOB_ASKING] = true, [JOB_PAUSED] = true, [JOB_DONE] = true},
};

void job_step_to(struct job *job, enum job_state state) {
    assert(allowed[job->state][state]);
    log_debug("job.state", "job=%" PRIu64 " step=%" PRIu64 " from=%s to=%s", job->id, job->order.step,
              state_names[job->state], state_names[state]);
    job->state = state;
}

void job_work(struct job *job) {
    loop_timer_start(job->jobs->work, 0, 0);
}

// hook_step passes a point of a test: job_upload, job_create, ...
static void hook_step(const struct job *job) {
    char point[32];
    snprintf(point, sizeof(point), "job_%.*s", SLICE_FMT(job->order.order));
    hook_point(point);
}

// ---- What is sent -------------------------------------------------------------------------------

static int send_message(struct jobs *jobs, const struct message *m) {
    struct buf out;
    buf_init(&out, 65536);
    int rc = message_pack(m, &out);
    assert(rc == 0);
    rc = jobs->config.send(jobs->config.arg, buf_slice(&out));
    buf_free(&out);
    return rc;
}

static int send_got(struct job *job) {
    struct message m = {.kind = MESSAGE_JOB_GOT};
    m.job_got.job = job->id;
    m.job_got.step = job->order.step;
    m.job_got.upto = job->n_lines;
    return send_message(job->jobs, &m);
}

static void ask_model(struct job *job) {
    struct message m = {.kind = MESSAGE_MODEL_GET};
    m.model_get.model = job->order.model;
    m.model_get.revision = job->order.revision;
    (void)send_message(job->jobs, &m); // not taken: asked again at the next welcome
}

void job_flush(struct job *job) {
    struct jobs *jobs = job->jobs;
    if (job->got_to_send) {
        job->got_to_send = send_got(job) != 0;
    }
    for (struct job_answers *a = job->answers; a != NULL; a = a->next) {
        if (a->to_send) {
            a->to_send = jobs->config.send(jobs->config.arg, buf_slice(&a->frame)) != 0;
        }
    }
    if (job->done_to_send && job->answers == NULL) {
        job->done_to_send = jobs->config.send(jobs->config.arg, buf_slice(&job->done)) != 0;
    }
}

static void pack_done(struct job *job) {
    const struct batch_done *d = &job->step.done;
    struct message m = {.kind = MESSAGE_JOB_DONE};
    m.job_done.job = job->id;
    m.job_done.step = job->order.step;
    m.job_done.outcome = slice_of(outcome_of(d->outcome)->text);
    m.job_done.detail = slice_of(d->detail);
    m.job_done.http_status = (uint64_t)d->http_status;
    m.job_done.sent = d->sent;
    m.job_done.retry_after_ms = d->retry_after_ms;
    m.job_done.state = slice_of(d->state);
    m.job_done.file = slice_of(d->file);
    m.job_done.id = slice_of(d->id);
    m.job_done.total = d->total;
    m.job_done.completed = d->completed;
    m.job_done.failed = d->failed;
    m.job_done.bad_line = d->bad_line;
    m.job_done.bytes = job->n_bytes;
    m.job_done.answers = job->step.order == BATCH_COLLECT ? job->n_answers : 0;
    buf_clear(&job->done);
    int rc = message_pack(&m, &job->done);
    assert(rc == 0);
}

// ---- How a step ends ----------------------------------------------------------------------------

// release gives back all that only a step under way needs.
static void release(struct job *job) {
    transfer_drop(&job->transfer);
    job_lines_free(job);
    if (job->has_rows) {
        job_rows_free(&job->rows);
        job->has_rows = false;
    }
    if (job->has_step) {
        batch_step_free(&job->step);
        job->has_step = false;
    }
    held_give(&job->held);
}

// end_step ends a job's step as step->done says.
static void end_step(struct job *job) {
    struct batch_done *d = &job->step.done;
    if (job->n_bad > 0) {
        size_t n = strlen(d->detail);
        snprintf(d->detail + n, sizeof(d->detail) - n, "%s%" PRIu64 " rows of the answers cannot be read",
                 n > 0 ? "; " : "", job->n_bad);
    }
    if (job->held != NULL) {
        held_mask(job->held, d->detail);
    }
    job_answers_send(job);
    pack_done(job);
    log_info("job.step",
             "job=%" PRIu64 " step=%" PRIu64 " order=%.*s outcome=%s state=%s status=%d sent=%d lines=%" PRIu64
             " answers=%" PRIu64,
             job->id, job->order.step, SLICE_FMT(job->order.order), outcome_of(d->outcome)->text, d->state,
             d->http_status, d->sent, job->n_lines, job->n_answers); // its sentence may quote a record
    hook_step(job);
    release(job);
    job_step_to(job, JOB_DONE);
    job->done_us = clock_us();
    job->got_to_send = false;
    job->done_to_send = true;
    job_flush(job);
}

void job_fail(struct job *job, enum outcome outcome, const char *format, ...) {
    struct batch_done *d = &job->step.done;
    va_list args;
    va_start(args, format);
    vsnprintf(d->detail, sizeof(d->detail), format, args);
    va_end(args);
    d->outcome = outcome;
    d->state = d->state != NULL ? d->state : "";
    end_step(job);
}

static void job_free(struct job *job) {
    HASH_DEL(job->jobs->by_id, job);
    release(job);
    job_answers_free(job);
    buf_free(&job->done);
    buf_free(&job->frame);
    free(job);
}

// ---- Exchanges ----------------------------------------------------------------------------------

// go_on asks what follows an exchange, at once or after the time that its reader wants.
static void go_on(struct job *job, const struct exchange *next) {
    if (next == NULL) {
        end_step(job);
        return;
    }
    job->exchange = next;
    if (job->step.wait_ms > 0) {
        job->due_us = clock_us() + job->step.wait_ms * 1000;
        job->step.wait_ms = 0;
        job_step_to(job, JOB_PAUSED);
        loop_timer_start(job->jobs->tick, TICK_MS, TICK_MS);
        return;
    }
    job_ask(job, next);
}

static void on_transfer(void *arg, const struct transfer_end *end) {
    struct job *job = arg;
    job->transfer = NULL;
    job->jobs->config.status->bytes_out += end->n_sent;
    job->jobs->config.status->bytes_in += end->n_received;
    if (job->exchange->answers && !end->decided && end->in_file) {
        job_answers_begin(job, end);
        return;
    }
    go_on(job, job->exchange->read(&job->step, end));
}

void job_ask(struct job *job, const struct exchange *exchange) {
    job->exchange = exchange;
    if (exchange == NULL || exchange->ask(&job->step) != 0) {
        end_step(job);
        return;
    }
    if (job->step.ask.into != NULL) {
        struct error why = {0};
        struct job_spool *into = job->step.ask.into;
        int rc = into->fd < 0 ? job_spool_open(into, job_spool_folder(job->jobs->config.spool), &why)
                              : job_spool_reset(into);
        if (rc != 0) {
            job_fail(job, OUTCOME_TRANSIENT, "%s", why.text[0] != '\0' ? why.text : strerror(-rc));
            return;
        }
    }
    job_step_to(job, JOB_ASKING);
    job->transfer = transfer_start(job->jobs->transfers, &job->step.ask, on_transfer, job);
}

// after_answers goes on behind an exchange whose answers were read.
static void after_answers(struct job *job) {
    go_on(job, job->exchange->read(&job->step, &job->end));
}

// ---- The beginning of a step --------------------------------------------------------------------

static bool takes_lines(const struct job *job) {
    return job->step.order == BATCH_UPLOAD || (job->step.order == BATCH_CREATE && job->order.file.n == 0);
}

static void fill_step(struct job *job) {
    struct batch_step *step = &job->step;
    step->name = job->order.name;
    step->file = job->order.file;
    step->id = job->order.id;
    step->n_lines = job->order.lines;
    step->others = job->order.others;
    step->since_unix_ms = (int64_t)job->order.since;
    step->uploads = step->order == BATCH_UPLOAD;
}

// begin starts a step whose model is here.
static void begin(struct job *job) {
    int order = batch_order_of(job->order.order);
    job->provider = batch_provider_of(job->held->model, &job->facts);
    batch_step_init(&job->step, job->held, order >= 0 ? (enum batch_order)order : BATCH_POLL);
    job->has_step = true;
    fill_step(job);
    if (job->provider == NULL || order < 0 || job->provider->orders[order] == NULL) {
        job_fail(job, OUTCOME_BAD_CONFIG, "provider '%s' has no '%.*s' of jobs",
                 job->held->model->provider->name, SLICE_FMT(job->order.order));
    } else if (batch_place_of(job->held, &job->step.place) != 0) {
        job_fail(job, OUTCOME_BAD_CONFIG,
                 "option 'endpoint': the addresses of jobs follow from one that ends in %s",
                 job->held->model->api->path);
    } else if (takes_lines(job)) {
        job_lines_begin(job);
    } else {
        job_ask(job, job->provider->orders[order]);
    }
}

// resolve finds a step's model. Returns false while it has to wait.
static bool resolve(struct job *job) {
    struct error why = {0};
    int rc = held_take(job->jobs->config.models, job->order.model, (uint32_t)job->order.revision,
                       job->order.overrides, &job->held, &why);
    if (rc == -EAGAIN) {
        return false;
    }
    if (rc != 0) {
        job_fail(job, rc == -ENOKEY ? OUTCOME_NO_CREDENTIAL : OUTCOME_BAD_CONFIG, "%s", why.text);
    } else {
        begin(job);
    }
    return true;
}

// ---- Messages -----------------------------------------------------------------------------------

static struct slice rebase(struct slice s, struct slice from, const struct buf *to) {
    return s.n > 0 ? slice_sub(buf_slice(to), (size_t)(s.p - from.p), s.n) : SLICE_NONE;
}

static struct job *job_new(struct jobs *jobs, const struct message *m, struct slice frame) {
    struct job *job = mem_zalloc(sizeof(*job));
    job->jobs = jobs;
    job->id = m->job.job;
    buf_init(&job->frame, FRAME_MAX_BYTES);
    buf_init(&job->done, 65536);
    buf_init(&job->gathered, FRAME_MAX_BYTES);
    int rc = buf_add_slice(&job->frame, frame);
    assert(rc == 0); // the socket takes no longer frames
    job->order = m->job;
    job->order.order = rebase(m->job.order, frame, &job->frame);
    job->order.others = rebase(m->job.others, frame, &job->frame);
    job->order.model = rebase(m->job.model, frame, &job->frame);
    job->order.overrides = rebase(m->job.overrides, frame, &job->frame);
    job->order.name = rebase(m->job.name, frame, &job->frame);
    job->order.file = rebase(m->job.file, frame, &job->frame);
    job->order.id = rebase(m->job.id, frame, &job->frame);
    job->step.done.state = "";
    HASH_ADD(hh, jobs->by_id, id, sizeof(job->id), job);
    return job;
}

static struct job *find(struct jobs *jobs, uint64_t id) {
    struct job *job;
    HASH_FIND(hh, jobs->by_id, &id, sizeof(id), job);
    return job;
}

static bool is_name(struct slice name) {
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-')) {
            return false;
        }
    }
    return name.n > 0 && name.n <= BATCH_NAME_MAX;
}

static void on_job(struct jobs *jobs, const struct message *m, struct slice frame) {
    struct job *job = find(jobs, m->job.job);
    if (job != NULL && m->job.step <= job->order.step) {
        if (job->state == JOB_DONE && m->job.step == job->order.step) {
            job->done_to_send = true;
            job_flush(job);
        }
        return; // it came twice, or late
    }
    if (job != NULL) {
        job_free(job);
    }
    job = job_new(jobs, m, frame);
    hook_step(job);
    if (jobs->draining) {
        job_fail(job, OUTCOME_UNSENT, "the worker is stopping");
    } else if (!is_name(job->order.name)) {
        job_fail(job, OUTCOME_BAD_CONFIG, "the job's name is not of letters, digits, '_' and '-'");
    } else if (!resolve(job)) {
        job->due_us = clock_us() + MODEL_US;
        loop_timer_start(jobs->tick, TICK_MS, TICK_MS);
        ask_model(job);
    }
}

static void on_lines(struct jobs *jobs, const struct message *m, struct slice frame) {
    struct job *job = find(jobs, m->job_lines.job);
    if (job != NULL && job->order.step == m->job_lines.step &&
        (job->state == JOB_WAITING || job->state == JOB_WRITING)) {
        job_lines_add(job, m, frame);
    }
}

static void on_taken(struct jobs *jobs, const struct message *m) {
    struct job *job = find(jobs, m->job_taken.job);
    if (job != NULL && job->order.step == m->job_taken.step) {
        job_answers_taken(job, m->job_taken.upto);
        job_flush(job);
        job_work(job);
    }
}

void jobs_on_message(struct jobs *jobs, const struct message *m, struct slice frame) {
    if (m->kind == MESSAGE_JOB) {
        on_job(jobs, m, frame);
    } else if (m->kind == MESSAGE_JOB_LINES) {
        on_lines(jobs, m, frame);
    } else if (m->kind == MESSAGE_JOB_TAKEN) {
        on_taken(jobs, m);
    }
}

void jobs_on_taken(struct jobs *jobs, struct slice pairs) {
    uint32_t n = 0, two;
    uint64_t id, step;
    if (jobs->by_id == NULL || pack_array_next(&pairs, &n) != 0) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (pack_array_next(&pairs, &two) != 0 || two != 2 || pack_uint_next(&pairs, &id) != 0 ||
            pack_uint_next(&pairs, &step) != 0) {
            return;
        }
        struct job *job = find(jobs, id);
        if (job != NULL && job->order.step == step) {
            job_free(job);
        }
    }
}

void jobs_on_model(struct jobs *jobs) {
    struct job *job, *next;
    HASH_ITER(hh, jobs->by_id, job, next) {
        if (job->state == JOB_WAITING) {
            (void)resolve(job);
        }
    }
}

void jobs_on_writable(struct jobs *jobs) {
    struct job *job, *next;
    HASH_ITER(hh, jobs->by_id, job, next) {
        job_flush(job);
    }
}

void jobs_on_welcome(struct jobs *jobs) {
    struct job *job, *next;
    HASH_ITER(hh, jobs->by_id, job, next) {
        if (job->state == JOB_WAITING) {
            ask_model(job);
        }
        job->got_to_send = job->state == JOB_WRITING;
        job->done_to_send = job->state == JOB_DONE;
        for (struct job_answers *a = job->answers; a != NULL; a = a->next) {
            a->to_send = true;
        }
        job_flush(job);
    }
}

void jobs_on_ping(struct jobs *jobs) {
    struct job *job, *next;
    int64_t now = clock_us();
    HASH_ITER(hh, jobs->by_id, job, next) {
        if (job->state == JOB_DONE && now - job->done_us > DONE_KEPT_US) {
            job_free(job);
        } else if (job->state == JOB_DONE) {
            job->done_to_send = true;
            job_flush(job);
        }
    }
}

// ---- Turns --------------------------------------------------------------------------------------

// work_on does a little of a step's own work. True: there is more.
static bool work_on(struct job *job) {
    if (job->state == JOB_WRITING) {
        job_lines_write(job);
        return job->state == JOB_WRITING && job->lines != NULL && job_answers_may_add(job);
    }
    if (job->state == JOB_READING) {
        job_answers_read(job);
        if (job->state == JOB_READING && !job->has_rows) {
            after_answers(job);
            return false;
        }
        return job->state == JOB_READING && job_answers_may_add(job);
    }
    return false;
}

static void on_work(void *arg) {
    struct jobs *jobs = arg;
    struct job *job, *next;
    bool more = false;
    HASH_ITER(hh, jobs->by_id, job, next) {
        more |= work_on(job);
    }
    if (more) {
        loop_timer_start(jobs->work, 0, 0);
    }
}

static void on_tick(void *arg) {
    struct jobs *jobs = arg;
    struct job *job, *next;
    int64_t now = clock_us();
    bool more = false;
    HASH_ITER(hh, jobs->by_id, job, next) {
        bool due = now >= job->due_us;
        if (job->state == JOB_WAITING && due) {
            job_fail(job, OUTCOME_UNSENT, "the model's revision did not come in time");
        } else if (job->state == JOB_PAUSED && due) {
            job_ask(job, job->exchange);
        }
        more |= job->state == JOB_WAITING || job->state == JOB_PAUSED;
    }
    if (!more) {
        loop_timer_stop(jobs->tick);
    }
}

// ---- Life ---------------------------------------------------------------------------------------

struct jobs *jobs_new(struct loop *loop, const struct jobs_config *config) {
    struct jobs *jobs = mem_zalloc(sizeof(*jobs));
    jobs->loop = loop;
    jobs->config = *config;
    jobs->transfers = transfers_new(loop, config->ca_file);
    jobs->work = loop_add_timer(loop, on_work, jobs);
    jobs->tick = loop_add_timer(loop, on_tick, jobs);
    jobs->call = call_new();
    buf_init(&jobs->scratch, FRAME_MAX_BYTES);
    buf_init(&jobs->line, FRAME_MAX_BYTES);
    return jobs;
}

void jobs_drop(struct jobs *jobs) {
    if (jobs == NULL) {
        return;
    }
    struct job *job, *next;
    HASH_ITER(hh, jobs->by_id, job, next) {
        job_free(job);
    }
    loop_timer_stop(jobs->work);
    loop_timer_stop(jobs->tick);
    transfers_free(jobs->transfers);
    call_free(jobs->call);
    buf_free(&jobs->scratch);
    buf_free(&jobs->line);
    free(jobs);
}

// is_creating says that a batch may just be coming into being.
static bool is_creating(const struct job *job) {
    return job->state == JOB_ASKING && job->step.order == BATCH_CREATE && job->transfer != NULL &&
           transfer_is_sent(job->transfer);
}

void jobs_drain(struct jobs *jobs) {
    struct job *job, *next;
    jobs->draining = true;
    HASH_ITER(hh, jobs->by_id, job, next) {
        if (job->state != JOB_DONE && !is_creating(job)) {
            job_fail(job, OUTCOME_UNSENT, "the worker is stopping");
        }
    }
}

void jobs_stop(struct jobs *jobs) {
    struct job *job, *next;
    HASH_ITER(hh, jobs->by_id, job, next) {
        if (job->state != JOB_DONE) {
            job->step.done.sent = true;
            job_fail(job, OUTCOME_BROKEN, "the worker was stopped");
        }
    }
}

size_t jobs_busy(const struct jobs *jobs) {
    size_t n = 0;
    for (const struct job *job = jobs->by_id; job != NULL; job = job->hh.next) {
        n += job->state != JOB_DONE;
    }
    return n;
}
