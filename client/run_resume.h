// run_resume: what a run with a state folder remembers of itself, in run.json: its command, its input
// files as they were, and where its rows go. Tells whether the same command given again goes on with
// it, and refuses what would put answers on wrong rows.
#ifndef HEADRACE_CLIENT_RUN_RESUME_H
#define HEADRACE_CLIENT_RUN_RESUME_H

#include "common/error.h"
#include "common/options.h"

struct run;

enum resume_kind {
    RESUME_ANEW, // nothing there, or a finished run of something else
    RESUME_ON,   // unfinished: go on behind journal_last
    RESUME_DONE, // the same run has finished: nothing is left to do
};

// run_resume_args makes `--resume --state DIR` into the whole command of the run in DIR: its options,
// then those given now, which win. Goes to the folder that the run was begun in. Without --resume
// among the words nothing changes.
//   argc, argv  in and out; what comes out lives to the end of the process
// Returns 0, or a negative errno with why: no --state, or no run there.
MUST_CHECK int run_resume_args(const struct option_program *program, int *argc, char ***argv,
                               struct error *why);

// run_resume_order puts the input files into the order in which the run in the state folder began to
// read them. Files that it does not know are left to run_resume_decide.
void run_resume_order(struct run *run);

// run_resume_decide compares the command with what the locked state folder holds, and opens the
// journal. After RESUME_ANEW the folder holds nothing of an earlier run.
// Returns an enum resume_kind, or a negative errno with why: an unfinished run of another command,
// whose input or output has changed, or that cannot go on.
MUST_CHECK int run_resume_decide(struct run *run, const struct option_program *program,
                                 struct error *why);

// run_resume_forget makes the folder forget a run that sent nothing.
void run_resume_forget(struct run *run);

#endif
