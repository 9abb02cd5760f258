// collect: matches answers to batches, keeps every good one, drops the second of two, and ends calls: what becomes
// of records without an answer is decided in leftover.h.
#ifndef HEADRACE_COORDINATOR_COLLECT_H
#define HEADRACE_COORDINATOR_COLLECT_H

#include "coordinator/core_state.h"

// collect_report takes a worker's report, however late.
void collect_report(struct core *core, struct slice route, const struct message_report *report);
// collect_line takes what became of a line of a job, its slots places in the line's prompt; the call is gone after.
void collect_line(struct core *core, struct call *call, const struct message_report *report);
// collect_lost gives up a call whose worker is gone; it may have been billed.
void collect_lost(struct core *core, struct call *call);
// collect_crashed: a call was out when a coordinator crashed, and no worker has named it in the grace. It is
// counted. Returns false when its records end and it is gone: it must not be made again.
bool collect_crashed(struct core *core, struct call *call);
// collect_finished counts such calls of a batch whose records all have their results.
void collect_finished(struct core *core, struct batch *batch);
// collect_taken lets a worker forget a report that brings nothing new: once the writes that are under
// way are durable, because what it brought the first time may be among them.
void collect_taken(struct core *core, struct slice route, uint64_t batch, uint64_t call);

#endif
