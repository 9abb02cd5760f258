// Jobs as people see them, and what they ask for. Invariant: nothing of a record or a credential is shown.
// Called by core.
#include "coordinator/jobs.h"

void jobs_ask(struct core *core, struct slice route, const struct message_jobs *ask) {
    (void)core;
    (void)route;
    (void)ask;
}
