// revise: records that wait go on with the newest revision of their model, if that asks the same (model_same.h): a
// corrected endpoint, credential or limit is for them, too. Their batches stay where they are; what changes is
// whose model a call asks: call->group.
#ifndef HEADRACE_COORDINATOR_REVISE_H
#define HEADRACE_COORDINATOR_REVISE_H

#include "coordinator/core_state.h"

// revise_find says which group the calls of this one are made for: NULL: its own. The newest revision that asks
// the same, with the same overrides. Groups of jobs keep theirs, since what a job was asked for is at its provider.
struct group *revise_find(struct core *core, const struct group *group);
// revise_models_changed lets calls that are not at a worker go on with the revisions that are the newest now. Calls
// that are there end as they are.
void revise_models_changed(struct core *core);

#endif
