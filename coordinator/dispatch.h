// dispatch: gives a batch with a permit to a worker that has credit.
#ifndef HEADRACE_COORDINATOR_DISPATCH_H
#define HEADRACE_COORDINATOR_DISPATCH_H

#include "coordinator/core_state.h"

// dispatch_add puts one record into its lane's open batch, and seals that when it is full.
//   producer  NULL and seq 0 for a record that came without acks
void dispatch_add(struct core *core, struct lane *lane, struct slice id, struct slice key,
                  struct slice values, struct producer *producer, uint64_t seq);
// dispatch_redriven puts a record of a dead letter into a batch of such, which is sealed from the start:
// it goes as soon as the turn's write is durable.
void dispatch_redriven(struct core *core, struct lane *lane, struct slice id, struct slice key,
                       struct slice values, struct producer *producer, uint64_t seq);
// dispatch_due lets an open batch go as it is as soon as a worker and the pool have room; until then
// it goes on filling. It becomes durable at once.
void dispatch_due(struct core *core, struct batch *batch);
// dispatch_batch makes the first call of a batch that is sealed and durable; else does nothing.
void dispatch_batch(struct core *core, struct batch *batch);
// dispatch_recovered makes the calls of a batch that was found after a restart, as its mark tells; they wait
// until not_before_us, so that a worker that still holds one can say so.
void dispatch_recovered(struct core *core, struct batch *batch, int64_t not_before_us);
// dispatch_first_call says above which number a batch's calls are counted by the coordinator of an epoch:
// what an earlier one asked for may still be answered, and must not be taken for a call of this one.
uint32_t dispatch_first_call(uint64_t epoch, uint64_t batch);
// dispatch_claim: a worker says that it holds call `number` of this batch, which asks for these slots.
// They are taken off all calls that were not sent.
void dispatch_claim(struct core *core, struct batch *batch, uint32_t number, const uint16_t *slots,
                    size_t n_slots, struct worker *worker);
// dispatch_unclaimed finds a call that was out when a coordinator crashed and that nobody has named since;
// NULL: none. dispatch_named says that somebody has.
struct call *dispatch_unclaimed(struct batch *batch, uint32_t number);
void dispatch_named(struct batch *batch, uint32_t number);
// dispatch_forget_batch frees a batch and its calls.
void dispatch_forget_batch(struct core *core, struct batch *batch);

// dispatch_again makes a new call for some slots (copied; none: does nothing), which takes over tries and
// flags from `like`, and its mark, if it has one that was not taken over yet; it goes before all that wait
// in its pool, after delay_ms.
void dispatch_again(struct core *core, struct call *like, const uint16_t *slots, size_t n_slots,
                    int64_t delay_ms);
// dispatch_done takes a call that was SENT off its worker and pool, and frees it.
void dispatch_done(struct core *core, struct call *call);
// dispatch_find returns the SENT call of that number, or NULL.
struct call *dispatch_find(struct batch *batch, uint64_t number);
// dispatch_not_elsewhere lists those of a call's slots that no other call asks for: a worker that comes
// back claims what may have been given out again meanwhile, and then two calls ask for one record.
size_t dispatch_not_elsewhere(const struct call *call, const uint16_t *slots, size_t n_slots,
                              uint16_t *mine);
// dispatch_return puts a SENT call back as if it had never been sent, less what another call asks for.
void dispatch_return(struct core *core, struct call *call);

// dispatch_wake makes calls READY whose back-off is over.
void dispatch_wake(struct core *core);
// dispatch_next_us says when the next back-off or wait of a pool ends.
int64_t dispatch_next_us(const struct core *core);
// dispatch_pump sends what can be sent now.
void dispatch_pump(struct core *core);

#endif
