// permits: pools and what their limits allow now. limit.concurrency and the provider's own request to
// wait are held here; token buckets shared over Redis come in the same place.
#ifndef HEADRACE_COORDINATOR_PERMITS_H
#define HEADRACE_COORDINATOR_PERMITS_H

#include "coordinator/core_state.h"

// pool_get finds or makes the pool of a model.
struct pool *pool_get(struct core *core, const struct model *model);
void pool_free(struct core *core, struct pool *pool);
// pool_may_send says whether one more call may be made now.
bool pool_may_send(const struct pool *pool, int64_t now_us);
// pool_wait makes the whole pool wait: retry_after_ms as the provider asked (0: it did not: back off
// from 0.5 s, doubled each time up to 30 s), plus up to a tenth drawn by chance.
void pool_wait(struct pool *pool, int64_t now_us, int64_t retry_after_ms, double draw);
// pool_answered: a call went well, so the next back-off starts small again.
void pool_answered(struct pool *pool);
// pool_stop stops a pool until pool_resume: no call can go well as things are.
void pool_stop(struct pool *pool, const char *outcome, struct slice detail);
void pool_resume(struct pool *pool); // one that waits goes on waiting

#endif
