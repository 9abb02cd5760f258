// bill: what one call costs: estimated before it is made, counted after it has ended.
#ifndef HEADRACE_COORDINATOR_BILL_H
#define HEADRACE_COORDINATOR_BILL_H

#include "common/prices.h"
#include "coordinator/core_state.h"

// Who pays for the calls of a group, and at what price. Its own texts, so that a call that has outlived
// its group can still be counted.
struct bill {
    char *model;           // name of the model
    char *budget;          // name of the budget for a whole submission; "": none
    struct price price;    // its texts are not to be used
    bool is_priced;
};

struct bill *bill_new(struct core *core, const struct model *model);
struct bill *bill_copy(const struct bill *bill);
void bill_free(struct bill *bill); // may be NULL

// bill_estimate says how many nano-USD a call may cost: rather too many. 0 when no price is known.
int64_t bill_estimate(struct call *call);
// bill_is_sure says whether estimates of the group's calls rest on something: a price by call, or usage.
bool bill_is_sure(const struct group *group);

// bill_cost returns USD of a report (of a line of a job at the price of the batch API), or a negative number when price or usage is not known.
double bill_cost(const struct bill *bill, const struct message_report *report);
// bill_report adds a call whose report has come to the sums, with the partition's next write.
//   charge    what they hold for it already
//   reserved  nano-USD that were reserved for it: what it may have cost when that is not known
// Returns whether there was anything to add.
bool bill_report(struct core *core, struct partition *p, const struct bill *bill,
                 const struct charge *charge, const struct message_report *report, int64_t reserved);
// bill_lost adds a call that is given up: it was sent, and may have cost what was reserved. Once.
void bill_lost(struct core *core, struct call *call);
// bill_maybe does so for one whose batch is gone, by what was reserved for it; charge says so from then on.
void bill_maybe(struct core *core, struct partition *p, const struct bill *bill, struct charge *charge,
                int64_t nusd);

#endif
