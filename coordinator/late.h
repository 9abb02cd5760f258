// late: calls that went away before their report: given up, or their batch is finished. The report may still
// come: what it cost is real, and is counted once; and what was counted as ambiguous has its end then.
#ifndef HEADRACE_COORDINATOR_LATE_H
#define HEADRACE_COORDINATOR_LATE_H

#include "coordinator/core_state.h"

// late_expect notes a call that goes away before its report; late_outlive that a batch goes whose late calls stay;
// late_forget_all forgets all.
void late_expect(struct core *core, const struct call *call);
void late_outlive(struct core *core, const struct batch *batch);
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

// The late calls of a batch stand in its mark, behind those that may be out (marks.h): [number, worker, counted
// as, paid, charged, nano-USD charged or reserved] each. Those of a batch that is finished have a mark of their own, which
// ends with [model, revision, overrides].
//
// late_count says how many a batch has; late_pack appends them: 0 or -EMSGSIZE.
size_t late_count(const struct core *core, uint64_t batch);
MUST_CHECK int late_pack(const struct core *core, uint64_t batch, struct buf *out);
// late_write adds what has changed of finished batches to the partition's write.
void late_write(struct core *core, struct partition *p);
// late_unclaimed: a mark of before a start says that a call is out whose records have their results.
void late_unclaimed(struct core *core, const struct batch *batch, uint64_t call);
// late_read takes a mark that recovery found; live: its batch, NULL when that is finished. Those that nobody had
// counted wait until not_before_us (late_recovered) for their workers to name them, then late_tick counts them.
void late_read(struct core *core, uint64_t batch, const struct batch *live, struct slice blob);
void late_recovered(struct core *core, int64_t not_before_us);
void late_tick(struct core *core);

#endif
