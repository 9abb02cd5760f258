// headrace-worker: one DISPATCH, one HTTP call, one REPORT. This file holds the order of the path,
// the options, and how the program stops; nothing else.
//
//   SIGTERM, SIGINT: drain. Calls that wait are given back, running ones finish (--drain-timeout),
//   reports wait for TAKEN, then BYE and exit 0. A second signal ends the running calls at once.
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/options.h"
#include "common/secrets.h"
#include "worker/http.h"
#include "worker/job.h"
#include "worker/receive.h"
#include "worker/report.h"
#include "worker/status.h"
#include "worker/steps.h"

#include <signal.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DRAIN_TICK_MS 20
#define TAKEN_MS 10000 // most time for the coordinator to take the last reports

struct worker_options {
#define OPTION OPTION_FIELD
#include "worker/options.def"
#undef OPTION
};

static const struct option_spec option_rows[] = {
#define OPTION(...) OPTION_ROW(worker_options, __VA_ARGS__)
#include "worker/options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace-worker",
    .args = "",
    .text = "Makes the calls that a headrace coordinator dispatches, one HTTP request each.",
    .rows = option_rows,
    .n_rows = sizeof(option_rows) / sizeof(option_rows[0]),
};

struct worker {
    struct worker_options options;
    char name[129];
    struct loop *loop;
    struct secrets *secrets;
    struct status status;
    struct calls calls;
    struct receive receive; // 5
    struct prompt_step prompt; // 6
    struct http *http;      // 7
    struct parse_step parse; // 8
    struct report report;   // 9
    struct jobs *jobs;      // beside the path: steps of provider jobs
    struct metrics_server *metrics;
    struct loop_timer *drain_timer;
    int64_t drain_us;       // when draining began; 0: not yet
    bool cut;               // running calls were ended
    int64_t cut_us;         // when the last call had ended
    int exit_status;
};

// ---- Stopping -------------------------------------------------------------------------------------

static size_t n_running(const struct worker *w) {
    return http_inflight(w->http) + jobs_busy(w->jobs);
}

static void on_drain(void *arg) {
    struct worker *w = arg;
    int64_t now = clock_us();
    if (!w->cut && (now - w->drain_us) / 1000 >= w->options.drain_timeout && n_running(w) > 0) {
        log_warn("worker.cut", "calls=%zu steps=%zu", http_inflight(w->http), jobs_busy(w->jobs));
        w->cut = true;
        http_stop(w->http);
        jobs_stop(w->jobs);
    }
    if (n_running(w) > 0) {
        w->cut_us = now;
        return;
    }
    size_t n_left = calls_count(&w->calls);
    if (n_left == 0 || (now - w->cut_us) / 1000 >= TAKEN_MS) {
        if (n_left > 0) {
            log_warn("worker.untaken", "reports=%zu", n_left);
        }
        loop_stop(w->loop);
    }
}

static void drain(void *arg) {
    struct worker *w = arg;
    if (w->drain_us != 0) {
        w->options.drain_timeout = 0; // asked twice: do not wait for calls
        return;
    }
    log_info("worker.drain", "calls=%zu reports=%zu", http_inflight(w->http),
             w->calls.n_in_state[CALL_REPORTED]);
    w->drain_us = w->cut_us = clock_us();
    receive_drain(&w->receive);
    jobs_drain(w->jobs);
    loop_timer_start(w->drain_timer, 0, DRAIN_TICK_MS);
}

static void on_superseded(void *arg) {
    struct worker *w = arg;
    log_error("worker.superseded", "name=\"%s\" why=\"another worker has this name: see --name\"",
              w->name);
    w->exit_status = 1;
    drain(w);
}

// ---- Metrics --------------------------------------------------------------------------------------

static void on_refresh(void *arg) {
    struct worker *w = arg;
    w->status.n_inflight = (int64_t)http_inflight(w->http);
    w->status.n_job_steps = (int64_t)jobs_busy(w->jobs);
    w->status.n_waiting = (int64_t)w->calls.n_in_state[CALL_WAITING];
    w->status.n_untaken = (int64_t)w->calls.n_in_state[CALL_REPORTED];
}

static int on_health(void *arg, struct buf *out) {
    struct worker *w = arg;
    bool welcome = w->receive.link != NULL && link_is_welcome(w->receive.link);
    bool good = welcome && w->drain_us == 0;
    int rc = buf_addf(out, "{\"status\":\"%s\",\"coordinator\":%s,\"draining\":%s,\"calls\":%zu}",
                      good ? "ok" : "unavailable", welcome ? "true" : "false",
                      w->drain_us != 0 ? "true" : "false", calls_count(&w->calls));
    return rc == 0 && good ? 200 : 503;
}

static int start_metrics(struct worker *w, struct error *why) {
    if (w->options.metrics[0] == '\0') {
        return 0;
    }
    struct metrics_config config = {
        .rows = status_rows,
        .n_rows = n_status_rows,
        .values = &w->status,
        .refresh = on_refresh,
        .health = on_health,
        .arg = w,
    };
    w->metrics = metrics_serve(w->loop, w->options.metrics, &config, why);
    return w->metrics != NULL ? 0 : -1;
}

// ---- The path -------------------------------------------------------------------------------------

static void wire(struct worker *w) {
    report_init(&w->report, &w->calls, &w->status, receive_send, &w->receive);
    parse_step_init(&w->parse, report_push, &w->report);
    w->http = http_new(w->loop, w->options.ca_file, parse_push, &w->parse);
    prompt_step_init(&w->prompt, (size_t)w->options.max_prompt_bytes, http_push, w->http);
    receive_init(&w->receive, w->loop, &w->calls, &w->report, &w->status, w->secrets, prompt_push,
                 &w->prompt);
    struct jobs_config jobs = {
        .ca_file = w->options.ca_file,
        .spool = w->options.spool,
        .prompt = &w->prompt,
        .parse = &w->parse,
        .models = &w->receive.models,
        .status = &w->status,
        .send = receive_send,
        .arg = &w->receive,
    };
    w->jobs = w->receive.jobs = jobs_new(w->loop, &jobs);
    w->receive.on_superseded = on_superseded;
    w->receive.superseded_arg = w;
}

static void set_name(struct worker *w) {
    if (w->options.name[0] != '\0') {
        slice_copy(slice_of(w->options.name), w->name, sizeof(w->name));
        return;
    }
    char host[65] = "";
    gethostname(host, sizeof(host) - 1);
    snprintf(w->name, sizeof(w->name), "%s-%d", host, (int)getpid());
}

static int start(struct worker *w, struct error *why) {
    enum log_level level;
    if (log_level_parse(w->options.log_level, &level, why) != 0) {
        return -1;
    }
    log_setup("worker", level);
    if (w->options.ca_file[0] != '\0' && access(w->options.ca_file, R_OK) != 0) {
        return error_set(why, -errno, "--ca-file %s: %s", w->options.ca_file, strerror(errno));
    }
    w->secrets = secrets_load(w->options.secrets, why);
    if (w->secrets == NULL) {
        return -1;
    }
    set_name(w);
    w->loop = loop_new();
    wire(w);
    w->drain_timer = loop_add_timer(w->loop, on_drain, w);
    loop_on_signal(w->loop, SIGTERM, drain, w);
    loop_on_signal(w->loop, SIGINT, drain, w);
    if (start_metrics(w, why) != 0) {
        return -1;
    }
    struct link_config config = {
        .address = w->options.coordinator,
        .name = w->name,
        .max_inflight = (uint64_t)w->options.max_inflight,
        .max_bytes = (uint64_t)w->options.max_dispatch_bytes,
    };
    return receive_start(&w->receive, w->loop, &config, why);
}

static void stop(struct worker *w) {
    if (w->loop != NULL) {
        if (w->drain_timer != NULL) {
            loop_timer_stop(w->drain_timer); // the loop turns once more while handles close
        }
        metrics_server_free(w->metrics);
        jobs_drop(w->jobs);
        w->receive.jobs = NULL;
        receive_free(&w->receive);
        prompt_step_free(&w->prompt);
        http_free(w->http);
        parse_step_free(&w->parse);
        calls_free(&w->calls);
        loop_free(w->loop);
    }
    secrets_free(w->secrets);
    options_free(&program, &w->options);
}

int main(int argc, char **argv) {
    static struct worker worker;
    struct worker *w = &worker;
    struct error why = {0};
    if (options_parse(&program, argc, argv, &w->options, NULL, &why) < 0) {
        fprintf(stderr, "headrace-worker: %s\n", why.text);
        return 2;
    }
    if (start(w, &why) != 0) {
        fprintf(stderr, "headrace-worker: %s\n", why.text);
        w->exit_status = 1;
    } else {
        log_info("worker.start", "name=\"%s\" coordinator=%s max_inflight=%lld version=%s", w->name,
                 w->options.coordinator, (long long)w->options.max_inflight, HEADRACE_VERSION);
        loop_run(w->loop);
        log_info("worker.stop", "name=\"%s\"", w->name);
    }
    stop(w);
    return w->exit_status;
}
