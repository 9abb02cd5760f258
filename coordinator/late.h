// late: calls that went away before their report: given up, or their batch is finished. The report may still
// come: what it cost is real, and is counted once; and what was counted as ambiguous has its end then.
#ifndef HEADRACE_COORDINATOR_LATE_H
#define HEADRACE_COORDINATOR_LATE_H

#include "coordinator/core_state.h"

// late_expect notes a call that goes away before its report; late_forget_all forgets all.
void late_expect(struct core *core, const struct call *call);
void late_forget_all(struct core *core);
// late_claimed: a call that went away is one again, and not expected any more. Returns what the sums of
// money hold for it.
struct charge late_claimed(struct core *core, uint64_t batch, uint64_t call);
// late_worker_gone: a worker is given up for good; late_worker_back: the same process is here again,
// and has named what it holds (late_named: returns whether a report of a call is expected that is no call
// any more). What of its calls nobody waits for any more has its end then.
void late_worker_gone(struct core *core, const struct worker *worker);
bool late_named(struct core *core, const struct worker *worker, uint64_t batch, uint64_t call);
void late_worker_back(struct core *core, const struct worker *worker);
// late_take finds what is known of a report without a call, if it is the first of its call and no repeat;
// from then on it is not expected any more. What was counted as ambiguous has its end now, or has it already.
// Returns NULL, or what late_free frees.
struct late *late_take(struct core *core, const struct message_report *report, enum outcome outcome);
void late_free(struct late *late);

#endif
