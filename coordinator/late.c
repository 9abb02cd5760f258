// Calls whose report may still come. Invariant: each is here at most once, and leaves with its first report, when
// its worker takes it up again, or when that says that it never got it. Called by call (expect), collect (take)
// and roster with what workers say.
#include "coordinator/late.h"
#include "common/mem.h"
#include "coordinator/bill.h"
#include "coordinator/marks.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define LATE_MAX 65536 // the oldest are forgotten beyond that

// worker_id names a process of a worker.
static uint64_t worker_id(const struct worker *worker) {
    return XXH3_64bits_withSeed(worker->name, strlen(worker->name), worker->incarnation);
}

static uint64_t route_id(const struct worker *worker) {
    struct slice route = route_slice(&worker->route);
    return XXH3_64bits(route.p, route.n);
}

static struct late *find_late(struct core *core, uint64_t batch, uint64_t call) {
    struct late key = {0}, *late;
    key.key.batch = batch;
    key.key.call = call;
    HASH_FIND(hh, core->late, &key.key, sizeof(key.key), late);
    return late;
}

void late_free(struct late *late) {
    if (late != NULL) {
        bill_free(late->bill);
        free(late);
    }
}

static void forget_late(struct core *core, struct late *late) {
    HASH_DEL(core->late, late);
    late_free(late);
}

void late_expect(struct core *core, const struct call *call) {
    if (find_late(core, call->batch->id, call->number) != NULL) {
        return;
    }
    struct late *late = mem_zalloc(sizeof(*late));
    late->key.batch = call->batch->id;
    late->key.call = call->number;
    late->worker = call->worker != NULL ? worker_id(call->worker) : 0;
    late->route = call->worker != NULL ? route_id(call->worker) : 0;
    late->counted = call->counted;
    late->bill = bill_copy(call->batch->lane->group->bill);
    late->charge = call->charge;
    late->is_paid = batch_is_counted(call->batch, call->number);
    HASH_ADD(hh, core->late, key, sizeof(late->key), late);
    if (HASH_COUNT(core->late) > LATE_MAX) {
        forget_late(core, core->late);
    }
}

void late_forget_all(struct core *core) {
    while (core->late != NULL) {
        forget_late(core, core->late);
    }
}

struct charge late_claimed(struct core *core, uint64_t batch, uint64_t call) {
    struct late *late = find_late(core, batch, call);
    struct charge charge = {0};
    if (late != NULL && late->counted != AMBIGUITY_NONE) {
        marks_resolve(core, batch, call, late->counted);
    }
    if (late != NULL) {
        charge = late->charge;
        forget_late(core, late);
    }
    return charge;
}

bool late_named(struct core *core, const struct worker *worker, uint64_t batch, uint64_t call) {
    struct late *late = find_late(core, batch, call);
    if (late != NULL) {
        late->named = core->n_hellos;
        late->worker = worker_id(worker);
    }
    return late != NULL;
}

void late_worker_gone(struct core *core, const struct worker *worker) {
    struct late *late;
    uint64_t id = core->late != NULL ? worker_id(worker) : 0;
    for (late = core->late; late != NULL; late = late->hh.next) {
        if (late->worker == id && late->counted == AMBIGUITY_NONE) {
            late->counted = AMBIGUITY_LOST;
            marks_count(core, late->key.batch, late->key.call, AMBIGUITY_LOST);
        }
    }
}

void late_worker_back(struct core *core, const struct worker *worker) {
    struct late *late, *next;
    uint64_t id = core->late != NULL ? worker_id(worker) : 0;
    HASH_ITER(hh, core->late, late, next) {
        bool is_here = late->route == route_id(worker); // the call may still be on its way
        if (late->worker == id && late->named != core->n_hellos && !is_here) { // it never got the call
            if (late->counted != AMBIGUITY_NONE) {
                marks_resolve(core, late->key.batch, late->key.call, late->counted);
            }
            forget_late(core, late);
        }
    }
}

struct late *late_take(struct core *core, const struct message_report *report, enum outcome outcome) {
    struct late *late = find_late(core, report->batch, report->call);
    if (late == NULL) {
        return NULL;
    }
    enum ambiguity now = marks_ambiguity(report, outcome);
    if (late->counted != AMBIGUITY_NONE && now == AMBIGUITY_NONE) {
        marks_resolve(core, report->batch, report->call, late->counted);
    } else if (late->counted == AMBIGUITY_NONE && now != AMBIGUITY_NONE) {
        marks_count(core, report->batch, report->call, now);
    }
    HASH_DEL(core->late, late);
    return late;
}
