// budget: money that may be spent. A call reserves what it may cost before it is made, and what it did
// cost takes the place of that when it has ended; no call is made whose reservation would go beyond.
//
//   budget.usd       for a whole submission (run), by budget.name: its sum is spend.h's "budget/NAME"
//   budget.usd.day   for a model and UTC day, over all namespaces on one Redis: each claims a part of it
//                    there (budget_claim.lua), a little more than it needs, and gives back what it does not
//
// A call that there is no money for is parked: READY, but on its budget's list instead of its pool's.
#ifndef HEADRACE_COORDINATOR_BUDGET_H
#define HEADRACE_COORDINATOR_BUDGET_H

#include "coordinator/core_state.h"

// Amounts are nano-USD.
struct budget {
    char *key;             // "run/NAME" or "day/HASH"
    char *name;            // for people: of the submission, or of the model
    bool is_day;
    bool is_told;          // a submission or model has said limit since the core is open
    int64_t limit;         // INT64_MAX: none any more
    int64_t reserved;      // by calls at workers
    struct spend *spend;   // what is spent
    int64_t day;           // is_day: the day that spend and granted are of
    int64_t granted;       // is_day: what this namespace may spend of the day
    bool is_asking;        // a claim is under way
    int64_t asked_us;      // when the last one was made
    struct call *parked;   // oldest first
    size_t n_afforded;     // calls that were parked, may go, and are not out yet
    size_t n_groups;       // that draw on it
    UT_hash_handle hh;     // by key
};

// budget_join finds or makes the budgets of a new group; budget_part lets go of them.
void budget_join(struct core *core, struct group *group);
void budget_part(struct core *core, struct group *group);
// budget_told takes the limits of a group as the newest word: its submission has just said them.
void budget_told(struct core *core, const struct group *group);
// budget_models_changed takes the limits of the newest models, where no submission says another.
void budget_models_changed(struct core *core);

// budget_may_send says whether there is money for a READY call; if not, the call is parked.
bool budget_may_send(struct core *core, struct call *call);
// budget_take reserves for a call that goes to a worker; budget_give_back ends that.
void budget_take(struct core *core, struct call *call);
void budget_give_back(struct core *core, struct call *call);
// budget_pump lets parked calls go for which there is money now, and claims and gives back day budgets.
void budget_pump(struct core *core);
// budget_claimed is the answer to io->claim: granted < 0: it failed.
void budget_claimed(struct core *core, struct slice key, int64_t day, int64_t granted);

// budget_waiting appends why calls are parked and will stay so. Returns whether there are such.
bool budget_waiting(const struct core *core, struct buf *out);
void budget_free_all(struct core *core);

#endif
