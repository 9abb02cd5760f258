// permits: pools and what their limits allow now: the shared limits (limiter.h), how many calls may be
// at the provider at once, the provider's own request to wait.
#ifndef HEADRACE_COORDINATOR_PERMITS_H
#define HEADRACE_COORDINATOR_PERMITS_H

#include "coordinator/core_state.h"

// pool_get finds or makes the pool of a model.
struct pool *pool_get(struct core *core, const struct model *model);
void pool_free(struct core *core, struct pool *pool);
// pool_is_idle says whether a pool may be forgotten when no model has it any more.
bool pool_is_idle(const struct core *core, const struct pool *pool);

// pool_may_send says whether one more call may be made now; pool_room how many more may go soon, as far
// as the provider and the permits at hand go.
bool pool_may_send(const struct core *core, struct pool *pool);
int64_t pool_room(const struct core *core, const struct pool *pool);
// pool_at_once says how many calls may be at the provider at once (INT64_MAX: no limit is known).
int64_t pool_at_once(const struct pool *pool);
// permits_repeat says whether the retry budget lets one more repeat go, and takes it off.
bool permits_repeat(struct core *core, struct pool *pool);
// permits_spend: this call goes out now.
void permits_spend(struct core *core, struct call *call);
// permits_settle takes the report of a call that was found; outcome as collect sees it.
void permits_settle(struct core *core, struct call *call, const struct message_report *report,
                    enum outcome outcome);

// permits_pump asks the shared limits for what the pools want. After dispatch_pump.
void permits_pump(struct core *core);
// permits_reply brings the answer for the pool of this name; NULL: Redis is away.
void permits_reply(struct core *core, struct slice name, const struct permit_reply *reply);
// permits_next_us says when pool_may_send may say something else (INT64_MAX: not by time).
int64_t permits_next_us(const struct core *core);

// pool_wait makes the whole pool wait: retry_after_ms as the provider asked (0: it did not: back off
// from 0.5 s, doubled each time up to 30 s), plus up to a tenth drawn by chance.
//   sent_us  when the call that was refused went out
void pool_wait(struct core *core, struct pool *pool, int64_t sent_us, int64_t retry_after_ms, double draw);
// pool_stop stops a pool until pool_resume: no call can go well as things are.
void pool_stop(struct pool *pool, const char *outcome, struct slice detail);
// pool_resume: a stopped pool goes on, and what the shared limits hold back is asked for anew. One whose
// provider asked to wait goes on waiting. Workers that lacked its credential are asked again.
void pool_resume(struct core *core, struct pool *pool);
// permits_models_changed takes the limits of the newest revisions, and resumes all pools.
void permits_models_changed(struct core *core);
// permits_resume resumes the pool of this name, or all when it is empty; appends {"resumed": [names of those
// that had stopped]}. Returns 0, -ENOENT (no such pool) or -EMSGSIZE.
MUST_CHECK int permits_resume(struct core *core, struct slice name, struct buf *out);

#endif
