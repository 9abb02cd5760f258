// actions: what each action out of the core does: to Redis, on the wire, in the catalog.
#ifndef HEADRACE_COORDINATOR_ACTIONS_H
#define HEADRACE_COORDINATOR_ACTIONS_H

#include "coordinator/coordinator.h"

// actions_io returns the table of actions over this coordinator, which must outlive it.
struct core_io actions_io(struct coordinator *c);
// actions_permits takes what Redis says of a pool's limits; arg is the coordinator.
void actions_permits(void *arg, struct slice pool, const struct permit_reply *reply);

#endif
