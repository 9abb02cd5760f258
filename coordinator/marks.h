// marks: which calls may be out, durable before they go. A call leaves for a worker only once Redis holds
// a mark for it, so that a coordinator that is started again knows what may have been billed though nobody
// brings its answer. The mark goes in the same write as what becomes of the call, so each call is counted
// once over all restarts: it has a mark, or its end is in the tally, or its records are answered.
//
// Marks go with the writes that a partition makes anyway: a new batch that may go at once carries its own,
// and calls that will go next are marked ahead. Otherwise marks ask for a small write of their own. A mark
// holds for one number: a call that goes again has another one, since the worker of each may yet name it.
//
// A batch's mark, a msgpack array: [out, number, n_lost, n_ambiguous, tries, reasked, [slot, n, ...]] for
// each call; no slots: all of the batch. out false: the call waits, and only its history counts, or it is a
// line of a job: then the job's id and the line's hash (16 bytes) follow. Behind them stand the late calls of
// the batch: late.h. The tally has id 0: array of the numbers of struct tally, in their order.
#ifndef HEADRACE_COORDINATOR_MARKS_H
#define HEADRACE_COORDINATOR_MARKS_H

#include "coordinator/core_state.h"

// marks_hold says whether the call may go: Redis holds its mark.
bool marks_hold(const struct call *call);
// marks_ask wants a mark for a READY call with the partition's next write; now: which is to come this turn.
void marks_ask(struct call *call, bool now);
// marks_drop takes back the mark of a call that will not go soon.
void marks_drop(struct call *call);
// marks_touch: what is out of this batch has changed; the partition's next write says so.
void marks_touch(struct batch *batch);
// marks_ahead marks the first call of a batch that stands in this turn's write, if its class may do so
// (class->may_mark); marks_first hands that mark to the call once it is made.
void marks_ahead(struct batch *batch);
void marks_first(struct batch *batch, struct call *call);
// marks_forget takes a batch that is being freed off its partition's list.
void marks_forget(struct batch *batch);

// marks_ambiguity says whether a call may have been billed though its answer did not come: not at all, or not
// to its end. A status other than 200 is an answer: it was refused.
enum ambiguity marks_ambiguity(const struct message_report *report, enum outcome outcome);
// marks_count notes that an ambiguous call of a batch ended, marks_resolve that its answer, or word that
// it was never sent, came after all.
// Both are in the log at level debug, with the name that the call has at the provider.
void marks_count(struct core *core, uint64_t batch, uint64_t call, enum ambiguity cause);
void marks_resolve(struct core *core, uint64_t batch, uint64_t call, enum ambiguity cause);

// marks_write adds what has changed to the partition's write.
void marks_write(struct core *core, struct partition *p);
// marks_tick sees to it that what has changed is written soon even if nothing else is.
void marks_tick(struct core *core);

// marks_read takes a mark (or the tally) that recovery found; its batch is known by then.
void marks_read(struct core *core, struct partition *p, uint64_t batch, struct slice blob);
// marks_each calls back for each call of a mark (n_slots 0: all of the batch's); what is not of that form
// is passed over.
struct mark {
    bool is_out, reasked;
    uint32_t number;
    int n_lost, n_ambiguous, tries;
    uint64_t job;           // 0: it is no line of a job
    unsigned char line[16]; // the line's hash
    size_t n_slots;
    uint16_t slots[MODEL_BATCH_MAX];
};
typedef void mark_fn(void *arg, const struct mark *mark);
void marks_each(struct slice blob, mark_fn *each, void *arg);

#endif
