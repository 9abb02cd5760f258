// Shares. Between classes: the more urgent goes first, but each gets its floor while it waits. Within a
// class: start-time fair queueing (Goyal, Vin and Cheng, 1996): each flow has the virtual time at which its
// next call starts, the least is chosen first, and a call moves its flow on by its tokens over its weight.
// Invariant: a flow is in its class's list exactly when it has a ready call or a batch that is due; a
// class's virtual time never goes back. Called by call, dispatch, permits and intake.
#include "coordinator/flow.h"
#include "common/mem.h"
#include "coordinator/call.h"
#include "coordinator/marks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SHARE_OF_FREE 8 // a flow may hold this many times as much memory as is free

// What is a class's own, whatever the others do.
static const struct {
    double floor;  // of a pool's tokens, while it waits
    int64_t parts; // of memory, in hundredths
} classes[MODEL_PRIORITIES] = {
    [PRIORITY_INTERACTIVE] = {.floor = 0, .parts = 10},
    [PRIORITY_NORMAL] = {.floor = 0.10, .parts = 5},
    [PRIORITY_BULK] = {.floor = 0.05, .parts = 5},
};

// ---- Life -------------------------------------------------------------------------------------------

struct flow *flow_get(struct pool *pool, const struct model *model) {
    const struct model_options *o = &model->options;
    struct buf key;
    buf_init(&key, 4096); // names of models and tenants are much shorter
    int rc = buf_addf(&key, "%d\n%s\n%s", o->priority, model->name, o->tenant);
    assert(rc == 0);
    struct flow *flow;
    HASH_FIND(hh, pool->flows, key.p, key.n, flow);
    if (flow == NULL) {
        flow = mem_zalloc(sizeof(*flow));
        flow->pool = pool;
        flow->priority = (enum model_priority)o->priority;
        flow->tenant = mem_dup_str(o->tenant);
        size_t n_key = key.n;
        flow->key = buf_take(&key);
        HASH_ADD_KEYPTR(hh, pool->flows, flow->key, n_key, flow);
    }
    buf_free(&key);
    flow->n_groups++;
    return flow;
}

void flow_drop(struct flow *flow) {
    if (--flow->n_groups == 0) {
        assert(!flow->waits);
        HASH_DEL(flow->pool->flows, flow);
        free(flow->tenant);
        free(flow->key);
        free(flow);
    }
}

static struct flow *flow_of(const struct batch *batch) {
    return batch->lane->group->flow;
}

struct flow_class *flow_class(const struct flow *flow) {
    return &flow->pool->classes[flow->priority];
}

struct flow_class *flow_class_of(const struct batch *batch) {
    return flow_class(flow_of(batch));
}

// ---- What waits -------------------------------------------------------------------------------------

// update puts a flow into its class's list or takes it out. One that comes gets no credit for the time in
// which it asked for nothing.
static void update(struct flow *flow) {
    struct flow_class *class = &flow->pool->classes[flow->priority];
    bool waits = flow->ready != NULL || flow->due != NULL;
    if (waits && !flow->waits) {
        flow->start = flow->start > class->now ? flow->start : class->now;
        DL_APPEND(class->waiting, flow);
    } else if (!waits && flow->waits) {
        DL_DELETE(class->waiting, flow);
    }
    flow->waits = waits;
}

void flow_add(struct call *call, bool in_front) {
    struct flow *flow = call->group->flow;
    if (in_front) {
        DL_PREPEND2(flow->ready, call, ready_prev, ready_next);
    } else {
        DL_APPEND2(flow->ready, call, ready_prev, ready_next);
    }
    update(flow);
}

void flow_remove(struct call *call) {
    struct flow *flow = call->group->flow;
    struct flow_class *class = flow_class(call->group->flow);
    if (call->chosen) {
        class->next = class->next == call ? call->ready_next : class->next;
        DL_DELETE2(class->chosen, call, ready_prev, ready_next);
        class->n_chosen--;
        call->chosen = false;
    } else {
        DL_DELETE2(flow->ready, call, ready_prev, ready_next);
        update(flow);
    }
}

void flow_add_due(struct batch *batch) {
    struct flow *flow = flow_of(batch);
    DL_APPEND2(flow->due, batch, due_prev, due_next);
    flow->pool->n_due++;
    update(flow);
}

void flow_remove_due(struct batch *batch) {
    struct flow *flow = flow_of(batch);
    DL_DELETE2(flow->due, batch, due_prev, due_next);
    flow->pool->n_due--;
    update(flow);
}

// ---- Whose turn it is -------------------------------------------------------------------------------

struct flow *flow_next(struct flow_class *class, bool may_seal) {
    struct flow *first = NULL;
    for (struct flow *flow = class->waiting; flow != NULL; flow = flow->next) {
        if ((flow->ready != NULL || may_seal) && (first == NULL || flow->start < first->start)) {
            first = flow;
        }
    }
    if (first != NULL && first->start > class->now) {
        class->now = first->start;
    }
    return first;
}

// charge moves a flow on. A tenant's share is divided among those of its flows that wait.
static void charge(struct flow *flow, const struct call *call) {
    int n_flows = 0;
    for (const struct flow *f = flow->pool->classes[flow->priority].waiting; f != NULL; f = f->next) {
        n_flows += strcmp(f->tenant, flow->tenant) == 0;
    }
    double weight = (double)call->group->model->options.weight;
    flow->start += (double)call_tokens(call) * n_flows / weight;
}

void flow_choose(struct flow *flow) {
    struct flow_class *class = &flow->pool->classes[flow->priority];
    struct call *call = flow->ready;
    charge(flow, call);
    flow_remove(call);
    call->chosen = true;
    DL_APPEND2(class->chosen, call, ready_prev, ready_next);
    class->n_chosen++;
}

void flow_start(struct pool *pool, int64_t room) {
    pool->room = room;
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        pool->classes[i].next = pool->classes[i].chosen;
        pool->classes[i].n_passed = 0;
    }
}

static bool has_budget(const struct call *call) {
    const struct group *group = call->group;
    return group->run_budget != NULL || group->day_budget != NULL;
}

// next_marked returns the class's next chosen call that may go; those passed over wait for their marks. A
// call with a budget is not passed over: the money may end, and then its rows would be a gap.
static struct call *next_marked(struct flow_class *class) {
    while (class->next != NULL && !marks_hold(class->next)) {
        if (has_budget(class->next)) {
            return NULL;
        }
        class->next = class->next->ready_next;
        class->n_passed++;
    }
    return class->next;
}

struct call *flow_pick(struct pool *pool, bool others) {
    struct call *first[MODEL_PRIORITIES] = {NULL};
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        if (others || i == PRIORITY_INTERACTIVE) {
            first[i] = next_marked(&pool->classes[i]);
        }
    }
    for (int i = MODEL_PRIORITIES - 1; i >= 0; i--) {
        if (first[i] != NULL && pool->classes[i].owed > 0) {
            return first[i];
        }
    }
    int64_t n_before = 0; // more urgent ones, which go as soon as they have their marks
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        if (first[i] != NULL) {
            return n_before == 0 || n_before < pool->room ? first[i] : NULL;
        }
        n_before += pool->classes[i].n_passed;
    }
    return NULL;
}

// Each class that waits is owed its floor of what is sent. What a class took beyond its floor is held
// against it for one call only, or it would wait for ever after a busy hour alone.
void flow_sent(const struct call *call) {
    struct pool *pool = call->group->flow->pool;
    struct flow_class *served = flow_class(call->group->flow);
    double tokens = (double)call_tokens(call);
    pool->room--;
    served->owed = served->owed > 0 ? served->owed - tokens : -tokens;
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        struct flow_class *class = &pool->classes[i];
        if ((class->waiting != NULL || class->chosen != NULL) && class->owed <= 0) {
            class->owed += classes[i].floor * tokens;
        }
    }
}

struct call *flow_first(const struct pool *pool) {
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        const struct flow_class *class = &pool->classes[i];
        if (class->chosen != NULL || (class->waiting != NULL && class->waiting->ready != NULL)) {
            return class->chosen != NULL ? class->chosen : class->waiting->ready;
        }
    }
    return pool->suspects;
}

// ---- Memory -----------------------------------------------------------------------------------------

void flow_hold(struct core *core, const struct batch *batch, int64_t n_bytes) {
    struct flow *flow = flow_of(batch);
    flow->n_bytes += n_bytes;
    core->held_bytes[flow->priority] += n_bytes;
    core->n_bytes += n_bytes;
}

static int64_t kept_for(const struct core *core, int priority) {
    return core->config->max_bytes / 100 * classes[priority].parts;
}

// A flow takes up to SHARE_OF_FREE times what is free, so that something is always free for the next one,
// and those that fill up come to hold the same (Choudhury and Hahne, "Dynamic queue length thresholds").
int64_t flow_room(const struct core *core, enum model_priority priority, const struct flow *flow) {
    int64_t room = core->config->max_bytes - core->held_bytes[priority];
    for (int i = 0; i < MODEL_PRIORITIES; i++) {
        if (i != (int)priority) {
            int64_t kept = kept_for(core, i), held = core->held_bytes[i];
            room -= held > kept ? held : kept;
        }
    }
    int64_t own = kept_for(core, priority) - core->held_bytes[priority];
    room = own > room ? own : room; // also when others hold more than they should
    if (flow != NULL) {
        room = (SHARE_OF_FREE * room - flow->n_bytes) / (SHARE_OF_FREE + 1);
    }
    return room > 0 ? room : 0;
}

bool flow_is_due_memory(const struct core *core, enum model_priority priority) {
    return core->held_bytes[priority] < kept_for(core, priority);
}
