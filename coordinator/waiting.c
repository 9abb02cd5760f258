// The calls that wait for a time. Invariant: core->waiting is a binary heap by not_before_us, and each
// call in it knows its place. Called by call (enter, leave) and dispatch (the first).
#include "coordinator/waiting.h"
#include "common/mem.h"

static void heap_set(struct core *core, size_t i, struct call *call) {
    core->waiting[i] = call;
    call->heap_index = i;
}

static void heap_move(struct core *core, size_t i) {
    struct call *call = core->waiting[i];
    while (i > 0 && call->not_before_us < core->waiting[(i - 1) / 2]->not_before_us) {
        heap_set(core, i, core->waiting[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < core->n_waiting &&
            core->waiting[child + 1]->not_before_us < core->waiting[child]->not_before_us) {
            child++;
        }
        if (child >= core->n_waiting ||
            call->not_before_us <= core->waiting[child]->not_before_us) {
            break;
        }
        heap_set(core, i, core->waiting[child]);
        i = child;
    }
    heap_set(core, i, call);
}

void waiting_add(struct core *core, struct call *call) {
    if (core->n_waiting == core->cap_waiting) {
        core->cap_waiting = core->cap_waiting > 0 ? core->cap_waiting * 2 : 64;
        core->waiting = mem_realloc(core->waiting, core->cap_waiting * sizeof(struct call *));
    }
    heap_set(core, core->n_waiting++, call);
    heap_move(core, call->heap_index);
}

void waiting_remove(struct core *core, struct call *call) {
    size_t i = call->heap_index;
    struct call *last = core->waiting[--core->n_waiting];
    if (last != call) {
        heap_set(core, i, last);
        heap_move(core, i);
    }
}

struct call *waiting_first(const struct core *core) {
    return core->n_waiting > 0 ? core->waiting[0] : NULL;
}
