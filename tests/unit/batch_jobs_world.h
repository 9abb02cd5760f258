// A world for jobs without a server: options, limits and a ledger that keeps nothing.
#ifndef HEADRACE_TESTS_UNIT_BATCH_JOBS_WORLD_H
#define HEADRACE_TESTS_UNIT_BATCH_JOBS_WORLD_H

#include "tests/provider/batches.h"

#include <assert.h>
#include <string.h>

struct batch_jobs_world {
    struct provider_options options;
    struct setup setup;
    struct quota quota;
    struct control control;
    struct ledger ledger;
    struct respond respond;
    struct files files;
    struct batch_jobs jobs;
};

// batch_jobs_world_init makes a world where a job takes time_ms.
static inline void batch_jobs_world_init(struct batch_jobs_world *w, int64_t time_ms) {
    *w = (struct batch_jobs_world){.ledger = {.fd = -1}};
    w->options = (struct provider_options){.seed = 1,
                                           .batch_time = time_ms,
                                           .batch_fail_line = 1,
                                           .spool = "",
                                           .api_key = "",
                                           .ledger = ""};
    w->setup.batch_stop_at = 0.6;
    w->setup.poison_kind = FAULT_HTTP_400;
    batch_faults_init(&w->setup.batch_faults);
    quota_init(&w->quota, &(struct quota_config){.day_us = 1000000});
    w->respond = (struct respond){
        .options = &w->options, .setup = &w->setup, .control = &w->control, .ledger = &w->ledger};
    w->jobs = (struct batch_jobs){.respond = &w->respond,
                                  .ledger = &w->ledger,
                                  .files = &w->files,
                                  .faults = w->setup.batch_faults};
    w->control = (struct control){.quota = &w->quota, .batch_faults = &w->jobs.faults};
}

static inline void batch_jobs_world_free(struct batch_jobs_world *w) {
    batch_jobs_free(&w->jobs);
    files_free(&w->files);
    quota_free(&w->quota);
}

// batch_jobs_world_add makes a job of an input.
static inline struct batch_job *batch_jobs_world_add(struct batch_jobs_world *w,
                                                     const struct batch_kind *kind,
                                                     struct slice input, int64_t now_us) {
    struct error why;
    struct spool *spool = spool_new("", &why);
    assert(spool != NULL);
    int rc = spool_add(spool, input);
    rc = rc != 0 ? rc : spool_flush(spool);
    assert(rc == 0);
    struct batch_job *job = batch_jobs_add(&w->jobs, kind, 7, &spool, now_us);
    const char *path = kind == &anthropic_batch ? "/v1/messages"
                       : kind == &gemini_batch  ? "/v1beta/models/m:generateContent"
                       : kind == &azure_batch   ? "/openai/v1/chat/completions"
                                                : "/v1/chat/completions";
    job->api = api_find(slice_of(path));
    strcpy(job->endpoint, kind == &azure_batch ? "/v1/chat/completions" : path);
    if (kind == &gemini_batch) {
        strcpy(job->model, "m");
    }
    return job;
}

#endif
