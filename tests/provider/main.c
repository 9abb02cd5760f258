// headrace-provider: a provider of OpenAI chat completions that costs nothing, for dry runs, load
// tests and tests of what a provider can do wrong. Wires options, loop and server.
#include "common/bytes.h"
#include "common/log.h"
#include "common/loop.h"
#include "tests/provider/answer.h"
#include "tests/provider/report.h"
#include "tests/provider/sentiment.h"
#include "tests/provider/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTION(...) OPTION_ROW(provider_options, __VA_ARGS__)
static const struct option_spec rows[] = {
#include "tests/provider/options.def"
};
#undef OPTION

#define FAULT(id, name, text) "  " name ": " text "\n"
#define BATCH_FAULT(id, name, when, text) "  " name ": " text "\n"
static const struct option_program program = {
    .name = "headrace-provider",
    .args = "",
    .text = "A simulated provider of OpenAI chat completions.",
    .after = "Kinds of --fault and --poison-kind:\n"
#include "tests/provider/fault.def"
             "\nKinds of --batch-fault:\n"
#include "tests/provider/batch_fault.def"
    ,
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
};
#undef FAULT
#undef BATCH_FAULT

static void print_sentiment(struct slice text) {
    puts(sentiment_name(sentiment_of(text)));
}

static void print_hash(struct slice text) {
    char *copy = slice_dup(text);
    for (size_t i = 0; i < text.n; i++) {
        copy[i] = copy[i] == '\v' ? '\n' : copy[i];
    }
    printf("%016" PRIx64 "\n", answer_hash((struct slice){copy, text.n}));
    free(copy);
}

// print_for prints something for a text, or for each line of standard input.
static void print_for(const char *text, void (*print)(struct slice text)) {
    if (strcmp(text, "-") != 0) {
        print(slice_of(text));
        return;
    }
    char *line = NULL;
    size_t size = 0;
    for (ssize_t n; (n = getline(&line, &size, stdin)) >= 0;) {
        n -= n > 0 && line[n - 1] == '\n';
        print((struct slice){.p = line, .n = (size_t)n});
    }
    free(line);
}

// report prints a ledger's report; the exit status.
static int report(const struct provider_options *options) {
    struct setup setup;
    struct error why = {0};
    FILE *ledger = NULL;
    int rc = setup_read(options, &setup, &why);
    if (rc == 0) {
        ledger = fopen(options->report, "r");
        rc = ledger != NULL ? 0 : error_set(&why, -errno, "%s", strerror(errno));
    }
    struct report_config config = {.most = setup.limits.most,
                                   .by_key = setup.limits.by_key,
                                   .by_model = setup.limits.by_model,
                                   .skip_us = options->report_skip * 1000,
                                   .json = options->report_json != 0};
    rc = rc != 0 ? rc : report_write(ledger, &config, stdout, &why);
    if (rc != 0) {
        fprintf(stderr, "headrace-provider: --report '%s': %s\n", options->report, why.text);
    }
    if (ledger != NULL) {
        fclose(ledger);
    }
    return rc != 0;
}

static void on_signal(void *arg) {
    loop_stop(arg);
}

static int announce(const struct provider_options *options, int port) {
    if (options->port_file[0] != '\0') {
        FILE *f = fopen(options->port_file, "w");
        if (f == NULL || fprintf(f, "%d\n", port) < 0 || fclose(f) != 0) {
            fprintf(stderr, "headrace-provider: cannot write '%s'\n", options->port_file);
            return -1;
        }
    }
    const char *colon = strrchr(options->bind, ':');
    int n = colon != NULL ? (int)(colon - options->bind) : 0;
    printf("headrace-provider listening on http://%.*s:%d\n", n > 0 ? n : 9,
           n > 0 ? options->bind : "127.0.0.1", port);
    fflush(stdout);
    return 0;
}

static int run(const struct provider_options *options) {
    struct error why = {0};
    struct loop *loop = loop_new();
    struct serve *serve = serve_new(loop, options, &why);
    int status = 0;
    if (serve == NULL) {
        fprintf(stderr, "headrace-provider: %s\n", why.text);
        status = 1;
    } else if (announce(options, serve_port(serve)) != 0) {
        status = 1;
    } else {
        loop_on_signal(loop, SIGTERM, on_signal, loop);
        loop_on_signal(loop, SIGINT, on_signal, loop);
        loop_run(loop);
    }
    serve_free(serve);
    loop_free(loop);
    return status;
}

int main(int argc, char **argv) {
    struct provider_options options = {0};
    struct error why = {0};
    log_setup("provider", LOG_INFO);
    if (options_parse(&program, argc, argv, &options, NULL, &why) < 0) {
        fprintf(stderr, "headrace-provider: %s\n", why.text);
        return 2;
    }
    int status = 0;
    if (options.answer[0] != '\0') {
        print_for(options.answer, print_sentiment);
    } else if (options.hash[0] != '\0') {
        print_for(options.hash, print_hash);
    } else if (options.report[0] != '\0') {
        status = report(&options);
    } else {
        status = run(&options);
    }
    options_free(&program, &options);
    return status;
}
