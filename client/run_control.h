// run_control: what `headrace run` says to its coordinator beside rows and results: CREATE, then STATUS_GET.
#ifndef HEADRACE_CLIENT_RUN_CONTROL_H
#define HEADRACE_CLIENT_RUN_CONTROL_H

#include "client/run.h"

#define RUN_POLL_MS 250 // from one run_control_poll to the next

// run_control_start connects to run->address, and creates the model there: run_flow_created.
void run_control_start(struct run *run);
// run_control_poll is due every RUN_POLL_MS; arg is the run.
void run_control_poll(void *arg);
// run_control_ask asks for the coordinator's counters now.
void run_control_ask(struct run *run);

#endif
