// Calls become lines of a group's job, and the job is planned when it is full, old enough, or nothing more
// comes. Invariant: a job leaves FILLING only through plan, whose writes are all durable before anything
// is sent to the provider. Called by core at the end of a turn.
#include "coordinator/jobs.h"
#include "common/base64.h"
#include "common/batch_api.h"
#include "common/log.h"
#include "coordinator/budget.h"
#include "coordinator/call.h"
#include "coordinator/fill.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 600        // of a line, besides templates and records: request, schema, escapes
#define CLOSING_US 2000000    // a job that is to go waits so long for batches that are being sealed
#define USUAL_HOURS 24        // within this a job has ended, where the provider does not say

int64_t jobs_unix_ms(const struct core *core) {
    return core->io->unix_ms != NULL ? core->io->unix_ms(core->io->arg) : 0;
}

// ---- Deadlines --------------------------------------------------------------------------------------

// deadline_of returns wall clock; 0: none.
static int64_t deadline_of(const struct call *call) {
    const struct batch *batch = call->batch;
    int64_t deadline_ms = call->group->model->options.deadline;
    return deadline_ms > 0 && batch->accepted_ms > 0 ? batch->accepted_ms + deadline_ms : 0;
}

int64_t jobs_margin_ms(const struct group *group) {
    return group->model->options.deadline / 10;
}

// is_late says whether a call has no time to wait for a job.
static bool is_late(const struct core *core, const struct call *call) {
    const struct group *group = call->group;
    int64_t deadline_ms = deadline_of(call);
    if (deadline_ms == 0) {
        return false;
    }
    int64_t hours = group->jobs->hours > 0 ? group->jobs->hours : USUAL_HOURS;
    int64_t needs_ms = group->model->options.mode == MODE_AUTO ? hours * 3600000 : jobs_margin_ms(group);
    return deadline_ms - jobs_unix_ms(core) < needs_ms;
}

// ---- Planning ---------------------------------------------------------------------------------------

// plan_marks marks the job's calls, with one write for each partition concerned.
static void plan_marks(struct core *core, struct job *job) {
    for (size_t i = 0; i < job->n_lines; i++) {
        struct call *call = job->lines[i]->call;
        struct partition *p = call->batch->lane->partition;
        call->number = batch_next_number(call->batch, call->level);
        call->sent_us = core->now_us;
        marks_touch(call->batch);
        if (!p->is_planning) {
            p->is_planning = p->marks_due = true;
            job->n_pending++;
            partition_after(p, (struct after){.kind = AFTER_JOB, .job = {.job = job->id}});
        }
    }
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        core->partitions[i].is_planning = false;
    }
}

// plan makes a job of FILLING, or one that was split, PLANNED.
static void plan(struct core *core, struct job *job) {
    struct group *g = job->group;
    g->filling = g->filling == job ? NULL : g->filling;
    job_compact(job);
    job_sort(job);
    job_set_state(job, JOB_PLANNED);
    job->made_ms = jobs_unix_ms(core);
    job->by_upload = job->by_upload || g->jobs->inline_bytes == 0 || job->n_bytes > g->jobs->inline_bytes;
    job->n_made = 0;
    job->next_us = 0;
    plan_marks(core, job);
    job_write(job);
}

// ---- Filling ----------------------------------------------------------------------------------------

static int64_t rows_most(const struct group *g) {
    int64_t own = g->model->options.batch_job_rows;
    return own != MODEL_UNSET && own < g->jobs->rows ? own : g->jobs->rows;
}

static int64_t bytes_most(const struct group *g) {
    int64_t own = g->model->options.batch_job_bytes;
    return own != MODEL_UNSET && own < g->jobs->bytes ? own : g->jobs->bytes;
}

static int64_t tokens_most(const struct group *g) {
    int64_t own = g->model->options.batch_enqueued_tokens;
    return own != MODEL_UNSET ? own : INT64_MAX;
}

// bytes_of estimates a line: the templates and the records, which JSON may make longer.
static int64_t bytes_of(const struct call *call) {
    const struct model_options *o = &call->group->model->options;
    const char *prompt = o->batch_size > 1 ? o->batch_prompt_template : o->prompt_template;
    size_t n = LINE_BYTES + strlen(o->system_prompt) + strlen(prompt) + strlen(o->params);
    for (size_t i = 0; i < call->n_slots; i++) {
        size_t values = call->batch->entries[call->slots[i]].n_values;
        n += (call->group->model->n_images > 0 ? base64_size(values) : values) + 32;
    }
    return (int64_t)(n + n / 8);
}

// tokens_of estimates a line's input tokens.
static int64_t tokens_of(struct call *call) {
    const struct group *g = call->group;
    return (int64_t)estimate_of(&g->estimate, g->model, g->pool->limiter.config.profile, call_size(call)).input;
}

static struct job *filling_of(struct core *core, struct group *g, struct call *call) {
    if (g->filling == NULL) {
        struct job *job = job_new(core, partition_next_batch(call->batch->lane->partition), g);
        uint32_t chance = (uint32_t)(core->io->draw(core->io->arg) * 4294967296.0);
        snprintf(job->name, sizeof(job->name), "hr1-%016" PRIx64 "-%08" PRIx32, job->id, chance);
        job->opened_us = core->now_us;
        g->filling = job;
    }
    return g->filling;
}

static void list_call(struct core *core, struct group *g, struct call *call) {
    int64_t n_bytes = bytes_of(call), n_tokens = tokens_of(call), deadline_ms = deadline_of(call);
    struct job *job = g->filling;
    if (job != NULL && job->n_live > 0 &&
        (job->n_bytes + n_bytes > bytes_most(g) || job->n_tokens + n_tokens > tokens_most(g))) {
        plan(core, job);
    }
    job = filling_of(core, g, call);
    call_leave(core, call);
    job_add_line(core, job, call, NULL);
    job->n_bytes += n_bytes;
    job->n_tokens += n_tokens;
    if (deadline_ms > 0 && (job->deadline_ms == 0 || deadline_ms < job->deadline_ms)) {
        job->deadline_ms = deadline_ms;
    }
    if ((int64_t)job->n_live >= rows_most(g)) {
        plan(core, job);
    }
}

static void list_ready(struct core *core, struct group *g) {
    struct call *call;
    while ((call = g->to_list) != NULL) {
        if (!call_drop_answered(call)) {
            call_free(core, call);
        } else if (is_late(core, call)) {
            call_leave(core, call);
            call->online = true;
            call_enter(core, call, CALL_READY, false);
        } else if (budget_may_send(core, call)) { // else it is parked until there is money
            list_call(core, g, call);
        }
    }
}

// ---- Going ------------------------------------------------------------------------------------------

// is_collecting says whether answers of another job of the group are coming in: what they leave is yet to come.
static bool is_collecting(const struct core *core, const struct group *g) {
    for (const struct job *job = core->jobs; job != NULL; job = job->hh.next) {
        if (job->group == g && job->order == ORDER_COLLECT) {
            return true;
        }
    }
    return false;
}

static void seal_open(struct core *core, struct group *g) {
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        if (g->lanes[i].open != NULL) {
            fill_seal(core, g->lanes[i].open);
        }
    }
}

static bool has_open(const struct core *core, const struct group *g) {
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        if (g->lanes[i].open != NULL) {
            return true;
        }
    }
    return false;
}

// fill_group plans a group's job when it is old enough or nothing more comes, once the batches that are open
// have gone into it.
static void fill_group(struct core *core, struct group *g) {
    if (g->is_flushed && has_open(core, g)) {
        seal_open(core, g);
        return; // their calls come when they are durable
    }
    struct job *job = g->filling;
    if (job == NULL) {
        return;
    }
    if (job->n_live == 0) {
        job_compact(job);
        job_free(core, job);
        return;
    }
    int64_t old_us = job->opened_us + g->model->options.batch_job_timeout * 1000;
    bool is_due = old_us <= core->now_us || (g->is_flushed && !is_collecting(core, g));
    if (job->closing_us == 0 && is_due) {
        job->closing_us = core->now_us;
        seal_open(core, g);
    }
    if (job->closing_us == 0) {
        jobs_want(core, old_us);
    } else if (g->n_sealing == 0 || job->closing_us + CLOSING_US <= core->now_us) {
        plan(core, job);
    } else {
        jobs_want(core, job->closing_us + CLOSING_US);
    }
}

void jobs_flush(struct core *core, const struct producer *producer) {
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        bool all = g->jobs != NULL;
        for (const struct producer *p = core->producers; p != NULL && all; p = p->hh.next) {
            all = p == producer || p->route.n == 0 || p->group != g || p->is_flushed;
        }
        g->is_flushed = g->is_flushed || all;
    }
}

void jobs_list(struct core *core) {
    if (!core_is_open(core)) {
        return;
    }
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        if (g->jobs != NULL) {
            list_ready(core, g);
            fill_group(core, g);
        }
    }
}

void jobs_want(struct core *core, int64_t at_us) {
    core->next_jobs_us = at_us < core->next_jobs_us ? at_us : core->next_jobs_us;
}

int64_t jobs_next_us(const struct core *core) {
    return core->next_jobs_us;
}

// ---- Too large --------------------------------------------------------------------------------------

bool jobs_split(struct core *core, struct job *job) {
    job_compact(job);
    if (job->n_live < 2) {
        return false;
    }
    struct group *g = job->group;
    struct job *kept = g->filling;
    g->filling = NULL;
    struct job *other = filling_of(core, g, job->lines[0]->call);
    g->filling = kept;
    size_t half = job->n_lines / 2;
    int64_t n_bytes = job->n_bytes, n_tokens = job->n_tokens;
    other->by_upload = job->by_upload;
    other->deadline_ms = job->deadline_ms;
    for (size_t i = half; i < job->n_lines; i++) {
        struct call *call = job->lines[i]->call;
        call_leave(core, call);
        job_add_line(core, other, call, job->lines[i]->hash);
    }
    other->n_bytes = n_bytes / 2;
    other->n_tokens = n_tokens / 2;
    job->n_bytes = n_bytes - other->n_bytes;
    job->n_tokens = n_tokens - other->n_tokens;
    log_info("job.split", "job=%016" PRIx64 " into=%016" PRIx64 " lines=%zu", job->id, other->id, other->n_live);
    plan(core, other);
    plan(core, job);
    return true;
}
