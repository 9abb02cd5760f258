// leftover: records that a call left without a result: asked for again, handed on to another model, or ended as
// errors.
#ifndef HEADRACE_COORDINATOR_LEFTOVER_H
#define HEADRACE_COORDINATOR_LEFTOVER_H

#include "coordinator/core_state.h"

struct leftover {
    uint16_t slots[MODEL_BATCH_MAX];
    size_t n;                // slots; may be 0
    enum outcome outcome;    // of the call or, where that went well, of the first record without a usable item
    struct slice detail;     // why; borrowed; empty: outcome's own sentence
    bool is_ambiguous;       // the call was sent and never answered
    int64_t retry_after_ms;  // what the provider asked for; 0: nothing
    struct answer *answer;   // what results of the call share; borrowed
};

// leftover_find lists a call's slots that have no result; the rest of left is zero, for the caller to set.
void leftover_find(struct leftover *left, const struct call *call);
// leftover_settle does with them what retry_decide says, for a call that ends. Returns true when some ended as
// errors: emit_ready has something to do.
bool leftover_settle(struct core *core, struct call *call, struct leftover *left);
// leftover_give_up is for records that the call's model is not asked for again: another model is, or they end as
// errors. Returns true when they ended.
bool leftover_give_up(struct core *core, const struct call *call, const struct leftover *left);

#endif
