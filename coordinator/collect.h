// collect: matches answers to batches, keeps every good one, drops the second of two, and decides
// with retry.c what becomes of records without one.
#ifndef HEADRACE_COORDINATOR_COLLECT_H
#define HEADRACE_COORDINATOR_COLLECT_H

#include "coordinator/core_state.h"

// collect_report takes a worker's report, however late.
void collect_report(struct core *core, struct slice route, const struct message_report *report);
// collect_lost gives up a call whose worker is gone; it may have been billed.
void collect_lost(struct core *core, struct call *call);
// collect_crashed: a call was out when a coordinator crashed, and no worker has named it in the grace. It is
// counted. Returns false when its records end and it is gone: it must not be made again.
bool collect_crashed(struct core *core, struct call *call);
// collect_finished counts such calls of a batch whose records all have their results.
void collect_finished(struct core *core, struct batch *batch);
// collect_worker_gone: a worker is given up for good; collect_worker_back: the same process is here again,
// and has named what it holds (collect_named: returns whether a report of a call is expected that is no call
// any more). What of its calls nobody waits for any more has its end then.
void collect_worker_gone(struct core *core, const struct worker *worker);
bool collect_named(struct core *core, const struct worker *worker, uint64_t batch, uint64_t call);
void collect_worker_back(struct core *core, const struct worker *worker);
// collect_taken lets a worker forget a report that brings nothing new: once the writes that are under
// way are durable, because what it brought the first time may be among them.
void collect_taken(struct core *core, struct slice route, uint64_t batch, uint64_t call);
// collect_expect_late notes a call that goes away before its report; collect_forget_late forgets all.
void collect_expect_late(struct core *core, const struct call *call);
// collect_claimed: a call that went away is one again, and not expected any more. Returns what the sums of
// money hold for it.
struct charge collect_claimed(struct core *core, uint64_t batch, uint64_t call);
void collect_forget_late(struct core *core);
// collect_refused makes the error result of a row that is no record. Its partition is that of its id.
void collect_refused(struct core *core, const struct group *group, struct slice id, struct slice key,
                     struct producer *producer, uint64_t seq, enum outcome outcome, struct slice why);
// collect_skipped makes the result of a record that is not asked about: null in every column, no error.
void collect_skipped(struct core *core, const struct group *group, struct slice id, struct slice key,
                     struct producer *producer, uint64_t seq);
// collect_emit puts into the outbox what may leave the batch now.
void collect_emit(struct core *core, struct batch *batch);

#endif
