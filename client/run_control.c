// CREATE until the coordinator has the model, then its counters: they are shown, and they say when the provider or
// a budget has stopped the run. Invariant: the model is said to be created once. Called by run_flow.
#include "client/run_control.h"
#include "common/clock.h"
#include "common/log.h"

#include <inttypes.h>
#include <stdlib.h>

#define CREATE_AGAIN_POLLS 4 // polls until CREATE is said again
#define STARTING_MS 10       // the same when the coordinator says that it is starting

static void show(struct run *run, bool force) {
    uint64_t read_bytes, total_bytes;
    rows_progress(run->rows, &read_bytes, &total_bytes);
    uint64_t total = run->at_end ? run->n_read : 0;
    if (!run->at_end && total_bytes > 0 && read_bytes > 0) {
        total = (uint64_t)((double)run->n_read * (double)total_bytes / (double)read_bytes);
    }
    uint64_t unpriced = run->before.calls_unpriced + run->counters.calls_unpriced;
    double cost = run->before.cost + run->counters.cost;
    struct progress_view view = {
        .done = run->n_written,
        .total = total,
        .total_is_exact = run->at_end,
        .seconds = (double)(clock_us() - run->start_us) / 1e6,
        .calls = run->before.calls + run->counters.calls,
        .errors = run->n_written - run->n_ok,
        .cost_known = cost > 0 || unpriced == 0,
        .cost = cost,
        .waiting = run->counters.waiting,
    };
    progress_show(run->progress, &view, force);
}

void run_control_ask(struct run *run) {
    struct message get = {.kind = MESSAGE_STATUS_GET};
    if (dialogue_send(run->control, &get) < 0) {
        log_warn("status.unsent", "STATUS_GET does not fit into a frame");
    }
}

static void say_create(struct run *run) {
    struct message create = {.kind = MESSAGE_CREATE, .create.sql = buf_slice(&run->create)};
    if (dialogue_send(run->control, &create) < 0) {
        run_stop(run, EXIT_BAD_USE, "the model is too long to be sent");
    }
}

static void on_control_up(void *arg) {
    struct run *run = arg;
    if (!run->is_created) {
        say_create(run);
    }
}

// check_stopped ends the run when the provider or a budget stopped it, and all that was under way has come in.
static void check_stopped(struct run *run) {
    const struct counters *now = &run->counters;
    bool is_still = now->inflight_calls == 0 && run->n_results == run->n_results_at_poll;
    run->n_results_at_poll = run->n_results;
    if (now->stopped[0] != '\0' && is_still) {
        run_stop(run, EXIT_PROVIDER, "stopped by the provider: %s", now->stopped);
    } else if (now->budget[0] != '\0' && is_still) {
        run_stop(run, EXIT_BUDGET, "%s", now->budget);
    }
}

// check_detached ends the run once nothing waits for anything but jobs at the provider.
static void check_detached(struct run *run) {
    const struct counters *now = &run->counters;
    bool is_in = run->at_end && run->sender != NULL && sender_acked(run->sender) >= sender_added(run->sender);
    if (run->options.detach && is_in && now->records_at_provider > 0 &&
        now->records_at_provider >= now->queued_records) {
        run->is_detached = true;
        run_stop(run, EXIT_ALL_OK, "%" PRIu64 " rows are in %" PRIu64 " job%s at the provider", now->records_at_provider,
                 now->jobs_at_provider, now->jobs_at_provider == 1 ? "" : "s");
    }
}

static void on_status(struct run *run, struct slice json) {
    struct error why = {0};
    struct counters counters;
    if (run->is_ending) {
        return;
    }
    if (counters_read(json, &counters, &why) < 0) {
        log_warn("status.unreadable", "why=\"%s\"", why.text);
        return;
    }
    run->counters = counters;
    if (run->is_last_asked) {
        run_flow_finish(run);
        return;
    }
    check_stopped(run);
    check_detached(run);
}

static void on_control(void *arg, const struct message *message) {
    struct run *run = arg;
    switch (message->kind) {
    case MESSAGE_CREATED:
        run_flow_created(run);
        break;
    case MESSAGE_STATUS:
        on_status(run, message->status.json);
        break;
    case MESSAGE_REFUSED:
        if (!run->is_created && slice_is(message->refused.code, "starting")) {
            loop_timer_start(run->poll, STARTING_MS, RUN_POLL_MS); // it will be ready in a moment
            run->is_create_due = true;
        } else if (!run->is_created && !slice_is(message->refused.code, "stopping")) {
            run_stop(run, EXIT_BAD_USE, "the coordinator refused the model: %.*s",
                     SLICE_FMT(message->refused.message));
        }
        break;
    default:
        break;
    }
}

void run_control_poll(void *arg) {
    struct run *run = arg;
    static unsigned n_polls;
    if (run->control != NULL) {
        if (!run->is_created) {
            if (run->is_create_due || ++n_polls % CREATE_AGAIN_POLLS == 0) {
                run->is_create_due = false;
                say_create(run);
            }
        } else {
            run_control_ask(run);
        }
    }
    if (!run->is_ending) {
        show(run, false);
    }
}

void run_control_start(struct run *run) {
    struct error why = {0};
    struct dialogue_handlers handlers = {
        .on_up = on_control_up, .on_message = on_control, .arg = run};
    run->control = dialogue_new(run->loop, run->zmq, run->address, &handlers, &why);
    if (run->control == NULL) {
        run_stop(run, EXIT_NO_START, "%s", why.text);
    }
}
