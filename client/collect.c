// `headrace collect`: results of a coordinator into a file. A result is acked only when it is in the
// file and the file is synced; so after a crash results may come again, and none is lost.
#include "client/commands.h"
#include "client/output.h"
#include "client/progress.h"
#include "client/setup.h"
#include "client/taker.h"

#include "common/clock.h"
#include "common/log.h"

#include <signal.h>
#include <stdio.h>
#include <zmq.h>

#define SYNC_MS 100 // acks are gathered this long: one fdatasync for all of them

struct collect_options {
#define OPTION OPTION_FIELD
#include "client/collect_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(collect_options, __VA_ARGS__)
#include "client/collect_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace collect",
    .args = "",
    .text = "Takes results from a coordinator and writes them as JSON Lines.",
    .after = "Exit status: 0 done; 2 wrong options; 3 the output cannot be written; 5 no coordinator, "
             "or results are missing; 130 interrupted.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
};

struct collect {
    struct collect_options options;
    struct loop *loop;
    struct taker *taker;
    struct output output;
    struct loop_timer *sync;
    int exit_code;
    bool is_done;       // no more results are taken
    bool is_synced;     // nothing waits for the next sync
    uint64_t n_results;
    int64_t last_us;    // when something last came
};

static void stop(struct collect *collect, int code) {
    collect->exit_code = code;
    collect->is_done = true;
    loop_stop(collect->loop);
}

static void on_result(void *arg, uint32_t partition, uint64_t oseq, struct slice json) {
    struct collect *collect = arg;
    if (collect->is_done) {
        return; // not acked: comes again
    }
    if (output_add(&collect->output, json) < 0 || output_add(&collect->output, SLICE_LIT("\n")) < 0) {
        stop(collect, client_say(EXIT_NO_START, "output: too much waits to be written"));
        return;
    }
    collect->n_results++;
    collect->last_us = clock_us();
    collect->is_synced = false;
    taker_ack(collect->taker, partition, oseq);
    collect->is_done =
        collect->options.count > 0 && collect->n_results >= (uint64_t)collect->options.count;
}

static void on_refused(void *arg, struct slice code, struct slice message) {
    struct collect *collect = arg;
    stop(collect, client_say(EXIT_PART_LOST, "the coordinator gives no results: %.*s: %.*s",
                             SLICE_FMT(code), SLICE_FMT(message)));
}

// write_and_ack makes what came durable and acks it. Returns false when the output cannot be written.
static bool write_and_ack(struct collect *collect) {
    struct error why = {0};
    if (collect->is_synced) {
        return true;
    }
    if (output_flush(&collect->output, &why) < 0 || output_sync(&collect->output, &why) < 0) {
        stop(collect, client_say(EXIT_NO_START, "%s", why.text));
        return false;
    }
    collect->is_synced = true;
    taker_push(collect->taker);
    return true;
}

static void on_sync(void *arg) {
    struct collect *collect = arg;
    if (!write_and_ack(collect)) {
        return;
    }
    int64_t idle_ms = (clock_us() - collect->last_us) / 1000;
    bool is_idle = collect->options.idle_exit > 0 && idle_ms >= collect->options.idle_exit;
    if (collect->is_done || (is_idle && taker_was_subscribed(collect->taker))) {
        stop(collect, EXIT_ALL_OK);
    } else if (is_idle) {
        stop(collect, client_say(EXIT_PART_LOST, "coordinator '%s': no answer for %lld ms",
                                 collect->options.coordinator, (long long)idle_ms));
    }
}

static void on_turn_end(void *arg) {
    struct collect *collect = arg;
    struct error why = {0};
    if (collect->output.lines.n > 0 && output_flush(&collect->output, &why) < 0) {
        stop(collect, client_say(EXIT_NO_START, "%s", why.text));
    }
}

static void on_interrupt(void *arg) {
    struct collect *collect = arg;
    if (write_and_ack(collect)) {
        stop(collect, EXIT_INTERRUPTED);
    }
}

static int move(struct collect *collect) {
    const struct collect_options *o = &collect->options;
    struct error why = {0};
    struct taker_config config = {
        .address = o->coordinator,
        .name = o->consumer,
        .credit = (uint64_t)o->credit,
        .meta = o->meta != 0,
    };
    struct taker_handlers handlers = {
        .on_result = on_result, .on_refused = on_refused, .arg = collect};
    void *zmq = zmq_ctx_new();
    collect->loop = loop_new();
    collect->last_us = clock_us();
    collect->is_synced = true; // nothing is there yet
    collect->sync = loop_add_timer(collect->loop, on_sync, collect);
    collect->taker = taker_new(collect->loop, zmq, &config, &handlers, &why);
    if (collect->taker == NULL) {
        collect->exit_code = client_say(EXIT_BAD_USE, "%s", why.text);
    } else {
        loop_on_signal(collect->loop, SIGINT, on_interrupt, collect);
        loop_on_signal(collect->loop, SIGTERM, on_interrupt, collect);
        loop_at_turn_end(collect->loop, on_turn_end, collect);
        loop_timer_start(collect->sync, SYNC_MS, SYNC_MS);
        loop_run(collect->loop);
    }
    if (!o->quiet && collect->taker != NULL) {
        char a[32], b[32];
        fprintf(stderr, "headrace: %s results written to %s, %s came twice and were dropped\n",
                progress_number(collect->n_results, a), collect->output.name,
                progress_number(taker_dropped(collect->taker), b));
    }
    taker_free(collect->taker);
    loop_free(collect->loop);
    zmq_ctx_term(zmq);
    return collect->exit_code;
}

int collect_main(int argc, char **argv) {
    struct collect collect = {.output.fd = -1};
    struct error why = {0};
    log_setup("collect", LOG_WARN);
    int code = EXIT_BAD_USE;
    if (options_parse(&program, argc, argv, &collect.options, NULL, &why) < 0) {
        client_say(code, "%s", why.text);
    } else if (output_open(&collect.output, collect.options.output, true, &why) < 0) {
        code = client_say(EXIT_NO_START, "%s", why.text);
    } else {
        code = move(&collect);
    }
    output_close(&collect.output);
    options_free(&program, &collect.options);
    return code;
}
