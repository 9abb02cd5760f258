// Answers of a job, and its end. Invariant: a worker hears JOB_TAKEN only of answers that are durable; lines
// without an answer go back only when all answers of their job are. Called by core and jobs_steps.
#include "coordinator/jobs.h"
#include "common/log.h"
#include "coordinator/call.h"
#include "coordinator/collect.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "coordinator/roster.h"
#include "proto/pack.h"

#include <inttypes.h>
#include <string.h>

// refuse takes a line out of a file that is being written: the worker could not write it. The step goes on.
static void refuse(struct core *core, struct job *job, struct line *line, const struct message_report *report) {
    bool was_stale = job->is_stale;
    line->number = 0;
    job->n_refused++;
    job->n_made -= job->order == ORDER_CREATE && job->n_made > 0;
    job->n_back++;
    core->status->lines_back++;
    collect_line(core, line->call, report);
    job->is_stale = was_stale;
}

// take_report gives one line's answer to its call. What names a line that has its answer, or that went back and
// is a line of another job now, is dropped.
static void take_report(struct core *core, struct job *job, struct slice frame) {
    struct message message;
    struct error why = {0};
    unsigned char hash[LINE_HASH];
    if (message_unpack(frame, &message, &why) != 0 || message.kind != MESSAGE_REPORT ||
        line_hash(message.report.line, hash) != 0) {
        log_warn("job.bad_answer", "job=%016" PRIx64 " why=\"%s\"", job->id, why.text);
        core->status->lines_dropped++;
        return;
    }
    struct line *line = line_find(core, hash);
    if (line == NULL || (line->job != job && !job->is_foreign)) {
        core->status->lines_dropped++;
        return;
    }
    struct call *call = line->call;
    call->batch->lane->partition->is_planning = true;
    if (job->order != ORDER_COLLECT) {
        refuse(core, job, line, &message.report);
        return;
    }
    bool is_back = slice_is(message.report.outcome, outcome_of(OUTCOME_UNSENT)->text); // the job ended before its turn
    job->n_answered += !is_back;
    job->n_back += is_back;
    core->status->lines_answered += !is_back;
    core->status->lines_back += is_back;
    double before = core->status->cost;
    collect_line(core, call, &message.report);
    job->cost += core->status->cost - before;
}

// wait_for notes which writes the newest chunk waits for.
static void wait_for(struct core *core, struct job *job, struct chunk *chunk) {
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        struct partition *p = &core->partitions[i];
        if (p->is_planning) {
            p->is_planning = false;
            struct after after = {.kind = AFTER_ANSWERS, .job = {.job = job->id, .chunk = chunk->number}};
            chunk->n_pending += partition_after_pending(p, after);
        }
    }
}

static void durable_upto(struct job *job) {
    size_t n = 0;
    while (n < job->n_chunks && job->chunks[n].n_pending == 0) {
        job->n_taken = job->chunks[n++].upto;
    }
    memmove(job->chunks, job->chunks + n, (job->n_chunks - n) * sizeof(job->chunks[0]));
    job->n_chunks -= n;
}

// has_answers says whether a worker brings answers in this step, or lines that cannot be written.
static bool has_answers(const struct job *job) {
    return job->order == ORDER_COLLECT || job->order == ORDER_UPLOAD || job->order == ORDER_CREATE;
}

void jobs_answers(struct core *core, struct slice route, const struct message_job_answers *m) {
    struct job *job = job_find(core, m->job);
    if (job == NULL || !has_answers(job) || job->step != m->step) {
        roster_reported(core, route); // of a step that is not any more: the worker may forget it
        roster_taken(core, route, m->job, m->step);
        return;
    }
    job->heard_us = core->now_us;
    if (m->first != job->n_got || job->n_chunks == JOB_AHEAD) {
        log_warn("job.answers_out_of_order", "job=%016" PRIx64 " first=%" PRIu64 " want=%" PRIu64, job->id, m->first,
                 job->n_got);
        return; // what is missing is noticed at the end, and collected again
    }
    struct slice rest = m->reports;
    struct pack_value value;
    uint64_t n = 0;
    while (n < m->count && pack_next(&rest, &value) == 1 && value.type == PACK_BIN) {
        take_report(core, job, value.bytes);
        n++;
    }
    job->n_got += m->count;
    struct chunk *chunk = &job->chunks[job->n_chunks++];
    *chunk = (struct chunk){.number = ++job->next_chunk, .upto = job->n_got};
    wait_for(core, job, chunk);
    durable_upto(job);
}

void jobs_answers_durable(struct core *core, uint64_t id, uint64_t number) {
    struct job *job = job_find(core, id);
    for (size_t i = 0; job != NULL && i < job->n_chunks; i++) {
        if (job->chunks[i].number == number) {
            job->chunks[i].n_pending--;
            durable_upto(job);
            return;
        }
    }
}

void jobs_tell_taken(struct core *core, struct job *job) {
    if (!has_answers(job) || core->stalled) {
        return;
    }
    if (job->told_taken < job->n_taken) {
        struct message taken = {.kind = MESSAGE_JOB_TAKEN,
                                .job_taken = {.job = job->id, .step = job->step, .upto = job->n_taken}};
        job->told_taken = job->n_taken;
        (void)core->io->send(core->io->arg, route_slice(&job->worker), &taken);
    }
    if (job->collected && job->n_chunks == 0) {
        jobs_end_step(job);
        jobs_collected(core, job);
    }
}

// ---- The end --------------------------------------------------------------------------------------------

static void give_back(struct core *core, struct job *job, struct call *call, enum outcome outcome,
                      struct slice detail) {
    job->n_back++;
    core->status->lines_back++;
    if (outcome == OUTCOME_OK) {
        call_leave(core, call);
        call_enter(core, call, CALL_READY, false);
        marks_touch(call->batch);
        return;
    }
    struct message_report report = {.outcome = slice_of(outcome_of(outcome)->text), .detail = detail,
                                    .line = SLICE_LIT("-")};
    collect_line(core, call, &report);
}

void jobs_give_back(struct core *core, struct job *job, enum outcome outcome, struct slice detail) {
    for (size_t i = 0; i < job->n_lines; i++) {
        struct line *line = job->lines[i];
        if (line->call != NULL) {
            bool is_bad = job->bad_line > 0 && line->number == job->bad_line;
            give_back(core, job, line->call, is_bad ? OUTCOME_BAD_REQUEST : outcome, detail);
        }
    }
    job_compact(job);
}

static bool has_number(const struct job *job, uint64_t number) {
    for (size_t i = 0; i < job->n_lines; i++) {
        if (job->lines[i]->call != NULL && job->lines[i]->number == number) {
            return true;
        }
    }
    return false;
}

// Lines that the provider left out of a job that ended well, and those of a job that failed as a whole, use a
// try, so that they end some day; if it named a line, that is to blame alone. To expire or be cancelled is free.
void jobs_collected(struct core *core, struct job *job) {
    enum outcome outcome = OUTCOME_OK;
    if (job->state == JOB_ENDED || job->state == JOB_FAILED) {
        core->status->lines_missing += job->state == JOB_ENDED ? job->n_live : 0;
        job->bad_line = has_number(job, job->bad_line) ? job->bad_line : 0;
        outcome = job->state == JOB_FAILED && job->bad_line > 0 ? OUTCOME_OK : OUTCOME_TRANSIENT;
    }
    jobs_give_back(core, job, outcome, slice_of(job->state == JOB_FAILED ? job->detail : ""));
    jobs_harvested(core, job);
}

void jobs_harvested(struct core *core, struct job *job) {
    job->next_us = 0;
    job_set_state(job, JOB_HARVESTED);
    job_write(job);
}

void jobs_durable(struct core *core, uint64_t id) {
    struct job *job = job_find(core, id);
    if (job != NULL) {
        job->n_pending -= job->n_pending > 0;
    }
}
