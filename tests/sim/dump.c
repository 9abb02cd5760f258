// What a core knows at the end of a run that did not end well, for whoever reads the trace.
#include "coordinator/core_state.h"
#include "tests/sim/dump.h"

#include <inttypes.h>
#include <stdio.h>

void dump_core(const struct core *core) {
    static const char *const states[] = {"ready", "waiting", "sent"};
    printf("core: %lld records, %lld results, %lld calls sent, store %s, %s\n", (long long)core->n_records,
           (long long)core->n_results, (long long)core->n_sent, core->store_ready ? "ready" : "away",
           core->stalled ? "stalled" : "not stalled");
    for (const struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        printf("pool: %lld in flight, blocked for %.3f s, %s\n", (long long)pool->n_inflight,
               (double)(pool->blocked_until_us - core->now_us) / 1e6,
               pool->stopped != NULL ? pool->stopped : "not stopped");
    }
    for (const struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        printf("worker %s: %lld in flight, %lld untaken, of %lld;%s%s%s\n", w->name, (long long)w->n_inflight,
               (long long)w->n_untaken, (long long)w->max_inflight, w->lost ? " lost" : "",
               w->resting ? " resting" : "", w->has_credit ? " has credit" : "");
    }
    for (const struct batch *b = core->batches; b != NULL; b = b->hh.next) {
        printf("batch %" PRIx64 ": %s, %zu records, %zu durable, %zu in write, %zu unanswered, %zu unemitted\n",
               b->id, b->state == BATCH_OPEN ? "open" : "sealed", b->n, b->n_durable, b->n_in_write,
               b->n_unanswered, b->n_unemitted);
        for (const struct call *call = b->calls; call != NULL; call = call->next) {
            printf("  call %u: %s, %zu slots, not before %.3f s\n", call->number, states[call->state],
                   call->n_slots, (double)call->not_before_us / 1e6);
        }
    }
}

size_t dump_n_unclaimed(const struct core *core) {
    size_t n = 0;
    for (const struct lates *lates = core->lates; lates != NULL; lates = lates->hh.next) {
        for (const struct late *late = lates->calls; late != NULL; late = late->next) {
            n += late->unclaimed;
        }
    }
    return n;
}

bool dump_is_counted(const struct core *core, uint64_t id, uint32_t call) {
    struct batch *batch;
    HASH_FIND(hh, core->batches, &id, sizeof(id), batch);
    return batch != NULL && batch_is_counted(batch, call);
}
