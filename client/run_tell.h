// run_tell: how a `headrace run` went, for the person who started it.
#ifndef HEADRACE_CLIENT_RUN_TELL_H
#define HEADRACE_CLIENT_RUN_TELL_H

#include "client/run.h"

// run_tell_end tells what became of the rows; with --quiet only of those that ended as errors.
void run_tell_end(const struct run *run);
// run_is_failed says whether the logs of the parts may tell why the run ended.
bool run_is_failed(const struct run *run);
// run_tell_rest says how to go on after a run that did not finish, and what it leaves in which folder.
void run_tell_rest(const struct run *run);

#endif
