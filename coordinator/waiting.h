// waiting: the calls that wait for a time, soonest first.
#ifndef HEADRACE_COORDINATOR_WAITING_H
#define HEADRACE_COORDINATOR_WAITING_H

#include "coordinator/core_state.h"

// waiting_add and waiting_remove take constant memory a call, and time by the logarithm of their number.
void waiting_add(struct core *core, struct call *call);
void waiting_remove(struct core *core, struct call *call);
// waiting_first returns the one whose time comes first, or NULL.
struct call *waiting_first(const struct core *core);

#endif
