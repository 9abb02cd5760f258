// Waiting calls and new revisions. Invariant: a call changes its group only while it is at no worker, and out of every
// list that belongs to its pool. Called by intake when a group is made, by core when models have changed.
#include "coordinator/revise.h"
#include "common/log.h"
#include "common/model_same.h"
#include "coordinator/call.h"
#include "coordinator/fill.h"
#include "coordinator/intake.h"

struct group *revise_find(struct core *core, const struct group *group) {
    const struct slice name = slice_of(group->model->name);
    const struct model *own = core->io->model(core->io->arg, name, group->model->revision);
    const struct model *newest = core->io->model(core->io->arg, name, 0);
    if (own == NULL || newest == NULL || group->model->options.mode != MODE_ONLINE) {
        return NULL;
    }
    for (uint32_t revision = newest->revision; revision > own->revision; revision--) {
        const struct model *later = core->io->model(core->io->arg, name, revision);
        if (later != NULL && later->revision == revision && model_asks_same(own, later)) {
            struct error why = {0};
            int status;
            return group_get(core, name, revision, group->options, &status, &why); // NULL: overrides do not fit it
        }
    }
    return NULL;
}

// go_on lets one call ask for what came after its group. Returns whether it does.
static bool go_on(struct core *core, struct call *call) {
    struct group *to = batch_group(call->batch, call->level)->successor;
    if (to == NULL || call->group == to || (call->state != CALL_READY && call->state != CALL_WAITING)) {
        return false;
    }
    if (call->state == CALL_WAITING) {
        call_ask(call, to);
        return true;
    }
    call_leave(core, call);
    call->parked = NULL; // the other's budgets see for themselves
    call_ask(call, to);
    call_enter(core, call, CALL_READY, false);
    return true;
}

// seal_all ends the filling of a group's open batches: its rows go to the newest revision now.
static void seal_all(struct core *core, struct group *group) {
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        if (group->lanes[i].open != NULL) {
            fill_seal(core, group->lanes[i].open);
        }
    }
}

void revise_models_changed(struct core *core) {
    size_t n_groups = 0, n_calls = 0;
    for (struct group *group = core->groups; group != NULL; group = group->hh.next) {
        struct group *successor = revise_find(core, group);
        if (successor != NULL && successor != group->successor) {
            group->successor = successor;
            seal_all(core, group);
            n_groups++;
        }
    }
    for (struct batch *batch = n_groups > 0 ? core->batches : NULL; batch != NULL; batch = batch->hh.next) {
        for (struct call *call = batch->calls; call != NULL; call = call->next) {
            n_calls += go_on(core, call);
        }
    }
    if (n_calls > 0) {
        log_info("models.revised", "groups=%zu calls=%zu", n_groups, n_calls);
    }
}
