// jobs: what is decided about jobs at providers' batch APIs: which calls become lines, when a job goes, which
// step is next, what becomes of its answers and of lines without one. docs/jobs.md.
//
//   jobs_collect.c  READY calls become lines; a job is full, or old enough: planned
//   jobs_steps.c    the next step of each job, and who takes it
//   jobs_done.c     how a step ended
//   jobs_lines.c    lines to a worker
//   jobs_answers.c  answers from a worker; the end of a job
//   jobs_recover.c  after a restart
//   jobs_status.c   what people see and ask
#ifndef HEADRACE_COORDINATOR_JOBS_H
#define HEADRACE_COORDINATOR_JOBS_H

#include "coordinator/job.h"

// jobs_list makes READY calls lines of jobs, and plans those that are due. Before dispatch_pump.
void jobs_list(struct core *core);
// jobs_pump orders the next steps, and sends what running ones wait for. Before the partitions' writes.
void jobs_pump(struct core *core);
// jobs_next_us says when jobs want a turn (INT64_MAX: not by time).
int64_t jobs_next_us(const struct core *core);
// jobs_flush: nothing more comes from this producer for now.
void jobs_flush(struct core *core, const struct producer *producer);

// Messages of workers.
void jobs_got(struct core *core, struct slice route, const struct message_job_got *got);
void jobs_done(struct core *core, struct slice route, const struct message_job_done *done);
void jobs_answers(struct core *core, struct slice route, const struct message_job_answers *answers);
// jobs_ask answers JOBS.
void jobs_ask(struct core *core, struct slice route, const struct message_jobs *ask);

// A write that a job, or a chunk of its answers, waited for is durable.
void jobs_durable(struct core *core, uint64_t job);
void jobs_answers_durable(struct core *core, uint64_t job, uint64_t chunk);

// Recovery. jobs_restore_line: a mark says that this new call is a line of a job, whose row may yet be found;
// jobs_restore takes a row; jobs_open: everything is recovered.
void jobs_restore_line(struct core *core, struct call *call, uint64_t job, const unsigned char *hash);
void jobs_restore(struct core *core, uint64_t id, struct slice blob);
void jobs_open(struct core *core);
void jobs_free(struct core *core);

// jobs_gauges sets the gauges of status; jobs_waiting appends what is waited for of jobs, or nothing.
void jobs_gauges(struct core *core);
MUST_CHECK int jobs_waiting(const struct core *core, struct buf *out);

// Between the files of jobs.
int64_t jobs_unix_ms(const struct core *core);
// jobs_want asks for a turn at this time, or before.
void jobs_want(struct core *core, int64_t at_us);
// jobs_send_lines sends as many lines as may be on their way. jobs_start_lines begins anew.
void jobs_start_lines(struct job *job);
void jobs_send_lines(struct core *core, struct job *job);
// jobs_end_step: no worker does anything for the job any more.
void jobs_end_step(struct job *job);
// jobs_bind: this is the job at the provider.
void jobs_bind(struct core *core, struct job *job, struct slice provider_id);
// jobs_again: the same once more after a back-off of at least least_ms.
void jobs_again(struct core *core, struct job *job, int64_t least_ms);
// jobs_give_back: the lines that have no answer go back, to be asked again. outcome OUTCOME_OK: at no cost.
void jobs_give_back(struct core *core, struct job *job, enum outcome outcome, struct slice detail);
// jobs_collected: all answers are durable; what has none goes back by the rules of how the job ended.
void jobs_collected(struct core *core, struct job *job);
// jobs_tell_taken lets the worker send more answers, unless consumers are behind.
void jobs_tell_taken(struct core *core, struct job *job);
// jobs_harvested: every answer is durable, and what has none went back.
void jobs_harvested(struct core *core, struct job *job);
void jobs_close(struct core *core, struct job *job);
// jobs_split makes two jobs of one that is too large. Returns false when it has one line.
bool jobs_split(struct core *core, struct job *job);
// jobs_margin_ms is what the calls that are left need of a deadline.
int64_t jobs_margin_ms(const struct group *group);

#endif
