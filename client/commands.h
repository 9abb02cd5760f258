// commands: the subcommands of headrace. Each takes its own words (argv[0] is its name), prints what
// went wrong, and returns the exit status (client/setup.h).
#ifndef HEADRACE_CLIENT_COMMANDS_H
#define HEADRACE_CLIENT_COMMANDS_H

int run_main(int argc, char **argv);
int submit_main(int argc, char **argv);
int collect_main(int argc, char **argv);
int models_main(int argc, char **argv);
int dlq_main(int argc, char **argv);
int status_main(int argc, char **argv);
int limits_main(int argc, char **argv);
int jobs_main(int argc, char **argv);

#endif
