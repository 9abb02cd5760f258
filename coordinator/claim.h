// claim: the calls of a batch that was found after a restart, and what workers claim of them.
#ifndef HEADRACE_COORDINATOR_CLAIM_H
#define HEADRACE_COORDINATOR_CLAIM_H

#include "coordinator/core_state.h"

// claim_recovered makes the calls of a batch that was found after a restart, as its mark tells; they wait
// until not_before_us, so that a worker that still holds one can say so.
void claim_recovered(struct core *core, struct batch *batch, int64_t not_before_us);
// claim_first_number says above which number a batch's calls are counted by the coordinator of an epoch:
// what an earlier one asked for may still be answered, and must not be taken for a call of this one.
uint32_t claim_first_number(uint64_t epoch, uint64_t batch);
// claim_take: a worker says that it holds call `number` of this batch, which asks for these slots.
// They are taken off all calls that were not sent.
void claim_take(struct core *core, struct batch *batch, uint32_t number, const uint16_t *slots,
                size_t n_slots, struct worker *worker);
// claim_find finds a call that was out when a coordinator crashed and that nobody has named since;
// NULL: none. claim_named says that somebody has.
struct call *claim_find(struct batch *batch, uint32_t number);
void claim_named(struct batch *batch, uint32_t number);

#endif
