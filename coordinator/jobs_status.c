// Jobs as people see them, and what they ask for. Invariant: nothing of a record or a credential is shown.
// Called by core.
#include "coordinator/jobs.h"
#include "common/json.h"
#include "common/log.h"
#include "coordinator/intake.h"
#include "coordinator/partition.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define STATUS_MAX (16 * 1024 * 1024)

void jobs_gauges(struct core *core) {
    struct status *s = core->status;
    s->jobs_at_provider = s->records_at_provider = 0;
    for (struct job *job = core->jobs; job != NULL; job = job->hh.next) {
        if (job->state < JOB_BOUND || job->state > JOB_GONE) {
            continue;
        }
        s->jobs_at_provider++;
        for (size_t i = 0; i < job->n_lines; i++) {
            const struct call *call = job->lines[i]->call;
            s->records_at_provider += call != NULL ? (int64_t)call->n_slots : 0;
        }
    }
}

int jobs_waiting(const struct core *core, struct buf *out) {
    size_t n_there = 0, n_before = 0;
    uint64_t n_lines = 0, n_done = 0;
    for (const struct job *job = core->jobs; job != NULL; job = job->hh.next) {
        bool is_there = job->state >= JOB_BOUND && job->state <= JOB_GONE;
        n_there += is_there;
        n_before += job->state < JOB_BOUND;
        n_lines += is_there ? job->n_made : 0;
        n_done += is_there ? job->completed + job->failed : 0;
    }
    if (n_there > 0) {
        return buf_addf(out, "%zu job%s at the provider: %" PRIu64 " of %" PRIu64 " lines done", n_there,
                        n_there == 1 ? "" : "s", n_done, n_lines);
    }
    return n_before > 0 ? buf_addf(out, "%zu job%s to be made", n_before, n_before == 1 ? "" : "s") : 0;
}

// ---- What is told -----------------------------------------------------------------------------------

static int add_text(struct buf *out, const char *name, const char *text) {
    int rc = buf_addf(out, ",\"%s\":", name);
    return rc | (text[0] != '\0' ? json_add_string(out, slice_of(text)) : buf_add_str(out, "null"));
}

static int add_job(const struct core *core, const struct job *job, struct buf *out) {
    const struct group *g = job->group;
    int64_t now_ms = jobs_unix_ms(core), began_ms = job->made_ms > 0 ? job->made_ms : now_ms;
    int rc = buf_add_str(out, "{\"job\":");
    rc |= json_add_string(out, slice_of(job->name));
    rc |= add_text(out, "state", job_state_text(job->state));
    rc |= add_text(out, "step", job->order != ORDER_NONE ? job_order_text(job->order) : "");
    rc |= add_text(out, "model", g != NULL ? g->model->name : "");
    rc |= add_text(out, "provider", g != NULL ? g->model->options.provider : "");
    rc |= add_text(out, "provider_id", job->provider_id);
    rc |= add_text(out, "file", job->file);
    rc |= add_text(out, "detail", job->detail);
    rc |= buf_addf(out,
                   ",\"revision\":%" PRIu32 ",\"lines\":%zu,\"waiting\":%zu,\"answered\":%" PRIu64 ",\"back\":%" PRIu64
                   ",\"total\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"tokens\":%" PRId64
                   ",\"age_ms\":%" PRId64,
                   g != NULL ? g->model->revision : 0, job->n_made > 0 ? job->n_made : job->n_live, job->n_live,
                   job->n_answered, job->n_back, job->total, job->completed, job->failed, job->n_tokens,
                   (job->ended_ms > 0 ? job->ended_ms : now_ms) - began_ms);
    rc |= buf_add_str(out, ",\"deadline_in_ms\":");
    rc |= job->deadline_ms > 0 ? buf_addf(out, "%" PRId64, job->deadline_ms - now_ms) : buf_add_str(out, "null");
    rc |= buf_add_str(out, ",\"cost\":");
    rc |= json_add_double(out, job->cost);
    return rc | buf_add_byte(out, '}');
}

// answer sends the jobs that fit, or the only one; why: "" when all went well.
static void answer(struct core *core, struct slice route, const struct job *only, struct slice model, const char *why) {
    struct buf json;
    buf_init(&json, STATUS_MAX);
    int rc = buf_add_str(&json, "{\"jobs\":[");
    bool is_first = true;
    for (const struct job *job = core->jobs; job != NULL && why[0] == '\0'; job = job->hh.next) {
        bool fits = model.n == 0 || (job->group != NULL && slice_is(model, job->group->model->name));
        if (only != NULL ? job == only : fits) {
            rc |= is_first ? 0 : buf_add_byte(&json, ',');
            rc |= add_job(core, job, &json);
            is_first = false;
        }
    }
    rc |= buf_add_str(&json, "]");
    rc |= add_text(&json, "why", why);
    rc |= buf_add_byte(&json, '}');
    struct message message = {.kind = MESSAGE_STATUS, .status.json = buf_slice(&json)};
    if (rc != 0) {
        message = (struct message){.kind = MESSAGE_REFUSED,
                                   .refused = {.code = SLICE_LIT("over-limit"),
                                               .message = SLICE_LIT("the jobs do not fit into an answer")}};
    }
    (void)core->io->send(core->io->arg, route, &message);
    buf_free(&json);
}

// ---- What is asked ----------------------------------------------------------------------------------

static struct job *find(struct core *core, struct slice name) {
    struct job *job = core->jobs;
    while (job != NULL && !slice_is(name, job->name) && (job->provider_id[0] == '\0' || !slice_is(name, job->provider_id))) {
        job = job->hh.next;
    }
    return job;
}

static void cancel(struct core *core, struct job *job, struct error *why) {
    if (job->state == JOB_FILLING || job->state == JOB_PLANNED || job->state == JOB_UPLOADED) {
        error_set(why, -EAGAIN, "job %s is not at the provider yet", job->name);
    } else if (job->state > JOB_RUNNING) {
        error_set(why, -EALREADY, "job %s has ended: it is %s", job->name, job_state_text(job->state));
    } else if (!job->is_cancelling) {
        log_info("job.cancel", "job=%016" PRIx64 " by=command", job->id);
        job->is_cancelling = true;
        job->next_us = core->now_us;
        job_write(job);
    }
}

// adopt takes a job that the provider has: what its lines answer is looked for among the lines that wait here.
static struct job *adopt(struct core *core, const struct message_jobs *ask, struct error *why) {
    int status = 0;
    struct job *job = find(core, ask->job);
    if (job != NULL) {
        error_set(why, -EEXIST, "%.*s is job %s already", SLICE_FMT(ask->job), job->name);
        return NULL;
    }
    struct group *group = group_get(core, ask->model, 0, SLICE_NONE, &status, why);
    if (group == NULL) {
        return NULL;
    }
    if (group->jobs == NULL) {
        error_set(why, -EINVAL, "model '%s' is of mode online, want one of mode batch or auto", group->model->name);
        return NULL;
    }
    job = job_new(core, partition_next_batch(&core->partitions[0]), group);
    snprintf(job->name, sizeof(job->name), "hr1-%016" PRIx64 "-adopted", job->id);
    job->is_foreign = true;
    job->made_ms = jobs_unix_ms(core);
    jobs_bind(core, job, ask->job);
    job->next_us = core->now_us;
    return job;
}

void jobs_ask(struct core *core, struct slice route, const struct message_jobs *ask) {
    struct error why = {0};
    struct job *only = NULL;
    bool is_list = slice_is(ask->action, "list"), is_cancel = slice_is(ask->action, "cancel");
    if (slice_is(ask->action, "adopt")) {
        only = adopt(core, ask, &why);
    } else if (is_cancel || slice_is(ask->action, "show")) {
        only = find(core, ask->job);
        if (only == NULL) {
            error_set(&why, -ENOENT, "no job is called '%.*s'", SLICE_FMT(ask->job));
        } else if (is_cancel) {
            cancel(core, only, &why);
        }
    } else if (!is_list) {
        error_set(&why, -EINVAL, "got '%.*s', want list, show, cancel or adopt", SLICE_FMT(ask->action));
    }
    answer(core, route, only, ask->model, why.text);
}
