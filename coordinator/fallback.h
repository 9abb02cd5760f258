// fallback: another model that is asked about what a batch's own refused or could not do (fallback.model).
#ifndef HEADRACE_COORDINATOR_FALLBACK_H
#define HEADRACE_COORDINATOR_FALLBACK_H

#include "coordinator/core_state.h"

// fallback_hand_on hands records of a call, which all gave up, on to the next model of the chain: they are asked
// of it as new ones, once the write of this turn is durable. Returns false when there is none: the outcome is
// nothing that another model would do better, the model has no fallback.model, or it cannot be used; then
// why says so, or is "".
//   slots  n of them, at least one, of the call's level, that no other call asks for
bool fallback_hand_on(struct core *core, const struct call *call, const uint16_t *slots, size_t n,
                      enum outcome outcome, struct slice sentence, struct error *why);

#endif
