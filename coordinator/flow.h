// flow: who waits for a pool, and whose turn it is. A flow is what one tenant asks of one model at one
// priority. Rules and figures: docs/limits.md, "Fairness".
#ifndef HEADRACE_COORDINATOR_FLOW_H
#define HEADRACE_COORDINATOR_FLOW_H

#include "coordinator/core_state.h"

// flow_get finds or makes the flow of a group's model in its pool; flow_drop gives it back, and frees it
// when no other group has it.
struct flow *flow_get(struct pool *pool, const struct model *model);
void flow_drop(struct flow *flow);
struct flow_class *flow_class(const struct flow *flow);
struct flow_class *flow_class_of(const struct batch *batch);

// flow_add puts a READY call at the end of its flow, or in front; flow_remove takes it out,
// chosen or not.
void flow_add(struct call *call, bool in_front);
void flow_remove(struct call *call);
// flow_add_due: an open batch may be sealed when its flow has its turn and nothing else ready.
void flow_add_due(struct batch *batch);
void flow_remove_due(struct batch *batch);

// flow_next returns the flow of a class whose turn it is: it has a ready call or, if batches may be sealed,
// one that is due; NULL: none. flow_choose takes the flow's first call, which counts against its share.
struct flow *flow_next(struct flow_class *class, bool may_seal);
void flow_choose(struct flow *flow);
// flow_start begins to send chosen calls, as many as there is room for. flow_pick returns the one that goes
// next, of those whose mark is durable; NULL: none, or more urgent ones that wait for theirs take the room.
void flow_start(struct pool *pool, int64_t room);
//   others  whether calls may go that are not interactive
struct call *flow_pick(struct pool *pool, bool others);
// flow_sent counts a call that is about to be sent for the floors of the classes, and off pool->room.
void flow_sent(const struct call *call);
// flow_first returns a call that will go soon, or NULL.
struct call *flow_first(const struct pool *pool);

// flow_hold counts bytes of memory that a batch begins (or, less than 0, ceases) to need.
void flow_hold(struct core *core, const struct batch *batch, int64_t n_bytes);
// flow_room says how many bytes of records a flow may take in now; 0: none.
//   flow  NULL: not known; then the class's room
int64_t flow_room(const struct core *core, enum model_priority priority, const struct flow *flow);
// flow_is_due_memory says whether a class holds less than what is kept for it whatever others do.
bool flow_is_due_memory(const struct core *core, enum model_priority priority);

#endif
