// The command line: picks the subcommand, which does the rest.
#include "client/commands.h"
#include "client/setup.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} commands[] = {
    {"run", run_main, "send files through a model; starts and ends all that it takes"},
    {"submit", submit_main, "send files to a coordinator, acked"},
    {"collect", collect_main, "take results from a coordinator into a file, acked"},
    {"models", models_main, "list, show or create a coordinator's models"},
    {"dlq", dlq_main, "dead letters: list, show, ask again, drop"},
    {"status", status_main, "how a coordinator is doing"},
    {"limits", limits_main, "what the pools' limits hold, and what waits for them"},
    {"jobs", jobs_main, "jobs at providers' batch APIs: list, show, cancel, adopt"},
};
#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

static int usage(FILE *out, int code) {
    fputs("Usage: headrace COMMAND [OPTION...]\n\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].text);
    }
    fputs("\nheadrace COMMAND --help says more.\n\n" EXIT_CODES_TEXT "\n", out);
    return code;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        return usage(stderr, EXIT_BAD_USE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        return usage(stdout, 0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("headrace " HEADRACE_VERSION);
        return 0;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "headrace: got command '%s', want one of these:\n\n", argv[1]);
    return usage(stderr, EXIT_BAD_USE);
}
