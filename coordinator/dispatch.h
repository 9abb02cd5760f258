// dispatch: gives a batch with a permit to a worker that has credit.
#ifndef HEADRACE_COORDINATOR_DISPATCH_H
#define HEADRACE_COORDINATOR_DISPATCH_H

#include "coordinator/core_state.h"

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
