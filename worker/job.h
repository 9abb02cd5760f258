// job: steps of jobs at providers' batch APIs. A JOB orders one step of a job: the lines that follow it
// are written into a file, requests are made, answers are read, and JOB_DONE says how it ended.
// docs/jobs.md tells who does what; worker/batch.h what a provider's API needs.
//
//   JOB, the model is here    lines are due        all are written         answers came
//  ──▶ WAITING ──┬─────────▶ WRITING ────────────▶ ASKING ◀─────────────▶ READING
//                └──────────────────────────────────▲ │ ▲                    │ no more of them
//                                                   │ ▼ └────────────────────┘
//                                                  PAUSED    any state but DONE, when the step ends ──▶ DONE
#ifndef HEADRACE_WORKER_JOB_H
#define HEADRACE_WORKER_JOB_H

#include "proto/messages.h"
#include "worker/held.h"
#include "worker/report.h"
#include "worker/status.h"
#include "worker/steps.h"

struct job;
struct jobs;
struct loop;

struct jobs_config {
    const char *ca_file;        // as http_new has it
    const char *spool;          // option; "": the usual folder
    struct prompt_step *prompt; // borrowed, as all that follow: they render and read lines as they do calls
    struct parse_step *parse;
    struct held_cache *models;
    struct status *status;
    report_send *send;          // gives bytes to the coordinator
    void *arg;
};

struct jobs *jobs_new(struct loop *loop, const struct jobs_config *config);
void jobs_drop(struct jobs *jobs); // steps under way are dropped

// jobs_on_message takes JOB, JOB_LINES and JOB_TAKEN.
//   frame  what message borrows from
void jobs_on_message(struct jobs *jobs, const struct message *message, struct slice frame);
// jobs_on_taken takes TAKEN: steps that it names, as [job, step], are forgotten, however far they are.
// Whatever else it names is skipped.
void jobs_on_taken(struct jobs *jobs, struct slice pairs);
// jobs_on_model: a revision came; steps that wait for it go on.
void jobs_on_model(struct jobs *jobs);
// jobs_on_welcome: the coordinator may have missed anything that it has not taken.
void jobs_on_welcome(struct jobs *jobs);
// jobs_on_writable: the coordinator's socket takes messages again.
void jobs_on_writable(struct jobs *jobs);
// jobs_on_ping repeats how steps have ended.
void jobs_on_ping(struct jobs *jobs);

// jobs_drain ends every step as unsent but those whose create request is under way, and every step that
// still comes.
void jobs_drain(struct jobs *jobs);
// jobs_stop ends those too: such a batch may have been created.
void jobs_stop(struct jobs *jobs);
// jobs_busy says how many steps have not ended.
size_t jobs_busy(const struct jobs *jobs);

#endif
