// producer: how far a producer's sequences are accepted and durable.
#ifndef HEADRACE_COORDINATOR_PRODUCER_H
#define HEADRACE_COORDINATOR_PRODUCER_H

#include "coordinator/core_state.h"

#define PRODUCER_WINDOW 131072 // most sequences accepted and not yet durable; a power of two

// producer_get finds a producer by name, or makes one that has accepted nothing.
struct producer *producer_get(struct core *core, struct slice name);
void producer_free(struct core *core, struct producer *producer);
// producer_durable notes that one accepted record is durable, and moves acked on.
void producer_durable(struct producer *producer, uint64_t seq);
// producer_idle frees what a producer needs only while something of it is not durable.
void producer_idle(struct producer *producer);
// producer_start sets acked and accepted from what recovery found: the hint, and the least of the
// partitions.
void producer_start(struct core *core, struct producer *producer);

#endif
