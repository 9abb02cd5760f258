// call: one request for some records of a batch. Its states are drawn in core_state.h.
#ifndef HEADRACE_COORDINATOR_CALL_H
#define HEADRACE_COORDINATOR_CALL_H

#include "coordinator/core_state.h"

// call_new makes a call for some slots of a batch (copied; at least one, all of one level); it is in no place
// yet. call_run says how many of the first slots can share one.
size_t call_run(const struct batch *batch, const uint16_t *slots, size_t n_slots);
// call_set_level says of which level a call that was found is, where its records may tell another.
void call_set_level(struct call *call, unsigned level);
struct call *call_new(struct batch *batch, const uint16_t *slots, size_t n_slots);
// call_whole makes a call for all records of a batch that have no answer, or returns NULL: none.
struct call *call_whole(struct batch *batch);
// call_ask sets whose model a call asks: at first that of its batch, or what came after it (revise.h).
void call_ask(struct call *call, struct group *group);
// call_free takes a call out of its place first.
void call_free(struct core *core, struct call *call);

// call_enter puts a call into the place of a state: READY at the end or in front of its pool's, WAITING
// until not_before_us, SENT once roster_load gave it to a worker, LISTED once job_add_line
// gave it to a job.
void call_enter(struct core *core, struct call *call, enum call_state state, bool in_front);
// call_to_worker puts a call into the place of SENT: at a worker, with a DISPATCH of so many bytes.
void call_to_worker(struct core *core, struct call *call, struct worker *worker, int64_t n_bytes);
// call_is_for_job says whether a call is to be a line of a job, and not to be made by itself.
bool call_is_for_job(const struct call *call);
// call_leave takes a call out of the place that its state stands for.
void call_leave(struct core *core, struct call *call);

// call_tokens estimates the tokens of a call's records, at least 1 each.
int64_t call_tokens(const struct call *call);
// call_size measures a call for estimates, once for each number of records that it asks for. Its own.
const struct estimate_call *call_size(struct call *call);
// call_drop_answered takes slots off a call that a late answer has filled since; false: none is left.
bool call_drop_answered(struct call *call);

#endif
