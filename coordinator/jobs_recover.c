// Jobs after a restart. Invariant: a call whose mark names a job is that job's line again, or, when there is no
// such job, was never sent and is asked for. Called by core and claim while partitions recover.
#include "coordinator/jobs.h"
#include "common/log.h"
#include "coordinator/call.h"
#include "coordinator/intake.h"

#include <inttypes.h>

static struct job *job_known(struct core *core, uint64_t id) {
    struct job *job = job_find(core, id);
    if (job == NULL) {
        job = job_new(core, id, NULL);
        job->state = JOB_PLANNED;
    }
    return job;
}

void jobs_restore_line(struct core *core, struct call *call, uint64_t id, const unsigned char *hash) {
    if (line_find(core, hash) != NULL) { // of two calls for the same records
        call_enter(core, call, CALL_WAITING, false);
        return;
    }
    job_add_line(core, job_known(core, id), call, hash);
}

void jobs_restore(struct core *core, uint64_t id, struct slice blob) {
    struct job *job = job_known(core, id);
    struct job_row row = {0};
    struct error why = {0};
    int rc = job_unpack(job, blob, &row);
    struct group *group = rc == 0 ? group_get(core, row.model, row.revision, row.options, &rc, &why) : NULL;
    if (group == NULL || group->jobs == NULL) {
        log_error("job.unreadable", "job=%016" PRIx64 " rc=%d why=\"%s\" (its row stays in Redis)", id, rc, why.text);
        job->state = JOB_PLANNED;
        return;
    }
    job->group = group;
    group->n_jobs++;
    core->n_closed_jobs += job->state == JOB_CLOSED;
    struct partition *p = job->home; // see core_batch
    bool same_part = (id >> 32 & 0xFFFFF) == (p->epoch & 0xFFFFF);
    p->next_batch = same_part && (uint32_t)id > p->next_batch ? (uint32_t)id : p->next_batch;
}

// number_lines says where lines stand in the job's file, if it is as it was.
static void number_lines(struct job *job) {
    job_sort(job);
    for (size_t i = 0; i < job->n_lines && job->n_lines == job->n_made; i++) {
        job->lines[i]->number = (uint32_t)i + 1;
    }
}

// go_on: what a job does next is spread over some time, so that not all ask the provider at once.
static void go_on(struct core *core, struct job *job) {
    int64_t poll_ms = job->group->model->options.batch_job_poll;
    double draw = core->io->draw(core->io->arg);
    number_lines(job);
    switch (job->state) {
    case JOB_PLANNED:
        job->n_made = 0;
        break;
    case JOB_CREATING: // workers have the grace to say that it was made
        job->may_be_made = true;
        job->lost_us = core->now_us;
        job->next_us = core->now_us + core->config->grace_ms * 1000;
        break;
    case JOB_BOUND:
    case JOB_RUNNING:
        job->next_us = core->now_us + (int64_t)((double)poll_ms * 1000 * draw);
        break;
    case JOB_HARVESTED:
    case JOB_CLOSED:
        jobs_give_back(core, job, OUTCOME_OK, SLICE_NONE);
        break;
    default:
        job->next_us = core->now_us + (int64_t)((double)(poll_ms < 1000 ? poll_ms : 1000) * 1000 * draw);
    }
    log_info("job.recovered", "job=%016" PRIx64 " state=%s lines=%zu", job->id, job_state_text(job->state),
             job->n_live);
}

void jobs_open(struct core *core) {
    struct job *job, *next;
    HASH_ITER(hh, core->jobs, job, next) {
        if (job->group != NULL) {
            go_on(core, job);
        } else { // its row was never written: nothing was sent
            jobs_give_back(core, job, OUTCOME_OK, SLICE_NONE);
            job_free(core, job);
        }
    }
}

void jobs_free(struct core *core) {
    struct job *job, *next;
    HASH_ITER(hh, core->jobs, job, next) {
        job_free(core, job);
    }
}
