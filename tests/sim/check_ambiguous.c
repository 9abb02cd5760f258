// The checker of what is counted as ambiguous, over all lives of coordinators:
//   A  each call that went out and of which nothing was heard is counted. Counted more than once is none, nor one
//      whose report was taken: at most those are counted that nobody heard the end of, and those that were marked
//      and never sent. Where no process was killed or stopped and no link cut, exactly the first
// Called by redis (marks), workers (TAKEN) and check (the end).
#include "coordinator/marks.h"
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <inttypes.h>

struct noting {
    struct sim *sim;
    uint64_t batch;
};

static void note_mark(void *arg, const struct mark *mark) {
    const struct noting *n = arg;
    struct sim *sim = n->sim;
    bool is_known = !mark->is_out;
    for (size_t i = 0; i < sim->n_marked && !is_known; i++) {
        is_known = sim->marked[i].batch == n->batch && sim->marked[i].call == mark->number;
    }
    if (is_known) {
        return;
    }
    if (sim->n_marked == sim->cap_marked) {
        sim->cap_marked = sim->cap_marked > 0 ? sim->cap_marked * 2 : 64;
        sim->marked = mem_realloc(sim->marked, sim->cap_marked * sizeof(*sim->marked));
    }
    sim->marked[sim->n_marked++] = (struct marked){.batch = n->batch, .call = mark->number};
}

void check_mark(struct sim *sim, uint64_t batch, struct slice blob) {
    struct noting n = {.sim = sim, .batch = batch};
    if (batch != 0) { // 0: the tally
        marks_each(blob, note_mark, &n);
    }
}

void check_taken(struct sim *sim, int ask) {
    sim->asks[ask].taken = true;
}

// n_never_sent counts the calls that were marked and never sent: a coordinator was killed before.
static uint64_t n_never_sent(const struct sim *sim) {
    uint64_t n = 0;
    for (size_t i = 0; i < sim->n_marked; i++) {
        bool was_sent = false;
        for (size_t k = 0; k < sim->n_asks && !was_sent; k++) {
            was_sent = sim->asks[k].batch == sim->marked[i].batch && sim->asks[k].call == sim->marked[i].call;
        }
        n += !was_sent;
    }
    return n;
}

void check_ambiguous(struct sim *sim) {
    const struct status *s = &sim->coords[sim->primary].status;
    uint64_t n_open = 0, n_most = n_never_sent(sim), n_left = s->calls_ambiguous - s->ambiguous_resolved;
    for (size_t i = 0; i < sim->n_asks; i++) {
        const struct ask *a = &sim->asks[i];
        bool is_open = a->started && !a->closed;
        n_open += is_open;
        n_most += !a->closed || !a->taken;
        if (is_open) {
            sim_trace(sim, "nobody heard of batch %" PRIx64 " call %" PRIu64 " (a%zu)", a->batch, a->call, i);
        }
    }
    if (n_open > n_left || (n_open < n_left && !sim->lost_some)) {
        sim_fail(sim, "A: %" PRIu64 " calls went out and were never answered, %" PRIu64 " are counted (%" PRIu64
                      " less %" PRIu64 " resolved)", n_open, n_left, s->calls_ambiguous, s->ambiguous_resolved);
    } else if (n_left > n_most) {
        sim_fail(sim, "A: %" PRIu64 " calls may have gone out and not been answered, %" PRIu64 " are counted (%" PRIu64
                      " less %" PRIu64 " resolved)", n_most, n_left, s->calls_ambiguous, s->ambiguous_resolved);
    }
}
