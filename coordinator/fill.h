// fill: puts records into batches up to a count, a token estimate, an age; makes the first call of each.
#ifndef HEADRACE_COORDINATOR_FILL_H
#define HEADRACE_COORDINATOR_FILL_H

#include "coordinator/core_state.h"

// fill_add puts one record into its lane's open batch, and seals that when it is full.
//   producer  NULL and seq 0 for a record that came without acks
void fill_add(struct core *core, struct lane *lane, struct slice id, struct slice key,
              struct slice values, struct producer *producer, uint64_t seq);
// fill_redriven puts a record of a dead letter into a batch of such, which is sealed from the start:
// it goes as soon as the turn's write is durable.
void fill_redriven(struct core *core, struct lane *lane, struct slice id, struct slice key,
                   struct slice values, struct producer *producer, uint64_t seq);
// fill_due lets an open batch go as it is as soon as a worker and the pool have room; until then
// it goes on filling. It becomes durable at once.
void fill_due(struct core *core, struct batch *batch);
// fill_seal ends the filling of an open batch: it goes once its last records are durable.
void fill_seal(struct core *core, struct batch *batch);
// fill_done makes the first call of a batch that is sealed and durable; else does nothing.
void fill_done(struct core *core, struct batch *batch);
// fill_forget frees a batch and its calls.
void fill_forget(struct core *core, struct batch *batch);
// fill_forget_all does so for all of a partition; NULL: for all.
void fill_forget_all(struct core *core, const struct partition *p);

#endif
