// spend: what calls have cost, by model and UTC day and by budget; durable, and counted once.
//
// The sums stand in Redis, in a hash of each partition: hr:{ns:p}:use, field "SCOPE/WHAT", whole numbers.
// A scope is "2026-11-21/MODEL" or "budget/NAME"; what is a name of spend.def. A call is added in the
// write that makes its answers durable, together with the note in its batch that it is counted; so a write
// that is repeated, and a report that comes again after a restart, add nothing. USD are kept as
// billionths (nano-USD).
#ifndef HEADRACE_COORDINATOR_SPEND_H
#define HEADRACE_COORDINATOR_SPEND_H

#include "coordinator/core_state.h"

#define SPEND_NANO 1e9 // nano-USD in a USD

enum spend_what {
#define SPEND(what, name, text) SPEND_##what,
#include "coordinator/spend.def"
#undef SPEND
    SPEND_COUNT,
};

// A sum, over all partitions: what Redis has, and what is on its way there.
struct spend {
    char *scope;
    int64_t n[SPEND_COUNT];
    UT_hash_handle hh; // by scope
};

// What one call adds.
struct spend_amounts {
    int64_t n[SPEND_COUNT];
};

// spend_day_scope writes the scope of a model and a day (since 1970-01-01, UTC) into text.
#define SPEND_SCOPE_MAX 192
const char *spend_day_scope(int64_t day, const char *model, char text[SPEND_SCOPE_MAX]);
const char *spend_budget_scope(const char *name, char text[SPEND_SCOPE_MAX]);
// spend_today is the day now; 0 when the world has no days.
int64_t spend_today(const struct core *core);

// spend_get finds or makes the sum of a scope. It lives as long as the core.
struct spend *spend_get(struct core *core, const char *scope);
// spend_add adds to a sum with the partition's next write.
void spend_add(struct partition *p, struct spend *spend, const struct spend_amounts *amounts);
// spend_flush puts what was added into the partition's write.
void spend_flush(struct partition *p);
// spend_recovered takes one field of hr:{ns:p}:use.
void spend_recovered(struct core *core, struct slice field, int64_t value);

// spend_forget drops what a partition has not written; spend_free frees all sums.
void spend_forget(struct partition *p);
void spend_free(struct core *core);

// spend_json appends the days as JSON: [{"day":…,"model":…,"calls":…,…,"cost":…}, …], newest day first.
MUST_CHECK int spend_json(const struct core *core, struct buf *out);
// spend_metrics appends today's and yesterday's sums as Prometheus text.
MUST_CHECK int spend_metrics(const struct core *core, struct buf *out);

#endif
