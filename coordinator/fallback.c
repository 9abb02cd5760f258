// Records that one model gave up on go to another. Invariant: a record's level, and which model that is, stand in
// the batch's blob before that model is asked, so whoever starts next goes on with it; a record only goes up,
// so it is handed on FALLBACKS_MAX times at most. Called by leftover.
#include "coordinator/fallback.h"
#include "common/log.h"
#include "coordinator/bill.h"
#include "coordinator/call.h"
#include "coordinator/dispatch.h"
#include "coordinator/intake.h"
#include "coordinator/partition.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define OPTIONS_MAX 65536

// helps says whether another model may do better: not with what is a worker's loss, or no record at all. A pool
// that stops (credentials, quota, options) keeps its records, but for a model that is not there.
static bool helps(enum outcome outcome) {
    switch (outcome_of(outcome)->action) {
    case ACTION_KEEP: // an item was missing
    case ACTION_REASK:
    case ACTION_FALLBACK:
    case ACTION_SPLIT:
    case ACTION_ISOLATE:
    case ACTION_RETRY:
        return true;
    case ACTION_STOP:
        return outcome == OUTCOME_NO_SUCH_MODEL;
    case ACTION_LOST:
    case ACTION_WAIT:
    case ACTION_AGAIN:
    case ACTION_FAIL:
        break;
    }
    return false;
}

// What a submission says of who asks, and of what may be spent, goes along to another model.
static const char *const carried[] = {"budget.name", "budget.usd", "priority", "tenant", "weight"};
#define N_CARRIED (sizeof(carried) / sizeof(carried[0]))

// carried_value is the value that records overrode an option with, or NULL.
static const char *carried_value(const struct group *group, const char *name) {
    bool has_budget = false;
    for (size_t i = 0; i < group->model->n_settings; i++) {
        const struct model_setting *setting = &group->model->settings[i];
        if (setting->line == 0 && strcmp(setting->name, name) == 0) {
            return setting->value;
        }
        has_budget |= setting->line == 0 && strcmp(setting->name, "budget.usd") == 0;
    }
    bool shares = has_budget && strcmp(name, "budget.name") == 0 && group->bill->budget[0] != '\0';
    return shares ? group->bill->budget : NULL;
}

static int add_options(const struct group *group, struct buf *out) {
    uint32_t n = 0;
    for (size_t i = 0; i < N_CARRIED && group->options.n > 0; i++) {
        n += carried_value(group, carried[i]) != NULL;
    }
    int rc = n > 0 ? pack_map(out, n) : 0;
    for (size_t i = 0; rc == 0 && n > 0 && i < N_CARRIED; i++) {
        const char *value = carried_value(group, carried[i]);
        if (value != NULL) {
            rc = pack_str(out, slice_of(carried[i]));
            rc = rc == 0 ? pack_str(out, slice_of(value)) : rc;
        }
    }
    return rc;
}

// check says whether records may go to the model that a batch's level names: 0, or -EINVAL or -ENOENT with why.
static MUST_CHECK int check(struct core *core, const struct batch *batch, unsigned level, const char *name,
                            struct error *why) {
    for (unsigned i = 0; i < level; i++) {
        if (strcmp(batch_group(batch, i)->model->name, name) == 0) {
            return error_set(why, -EINVAL, "fallback.model '%s' leads back to itself", name);
        }
    }
    if (level > FALLBACKS_MAX) {
        return error_set(why, -EINVAL, "fallback.model '%s' is one too many in a chain, want at most %d", name,
                         FALLBACKS_MAX);
    }
    const struct model *other = core->io->model(core->io->arg, slice_of(name), 0);
    if (other == NULL) {
        return error_set(why, -ENOENT, "fallback.model '%s' does not exist", name);
    }
    int rc = model_check_fallback(batch->lane->group->model, other, why);
    if (rc != 0) {
        error_prefix(why, "fallback.model: ");
    }
    return rc;
}

// find_group finds the group of a batch's level, for which records may have been handed on before. Returns NULL
// with why, which is "" when the level before it names no model.
static struct group *find_group(struct core *core, struct batch *batch, unsigned level, struct error *why) {
    struct group *before = batch_group(batch, level - 1), *group = NULL;
    const char *name = before->model->options.fallback_model;
    if (level <= FALLBACKS_MAX && batch_group(batch, level) != NULL) {
        return batch_group(batch, level);
    }
    if (name[0] == '\0') {
        return NULL;
    }
    struct buf options;
    buf_init(&options, OPTIONS_MAX);
    int rc = check(core, batch, level, name, why);
    rc = rc == 0 ? add_options(batch->lane->group, &options) : rc;
    if (rc == 0) {
        group = group_get(core, slice_of(name), 0, buf_slice(&options), &rc, why);
    }
    buf_free(&options);
    if (group == NULL && !before->is_misfit) {
        before->is_misfit = true;
        log_warn("fallback.unusable", "model=%s why=\"%s\"", before->model->name, why->text);
    }
    if (group != NULL) {
        batch_set_fallback(batch, level, group);
    }
    return group;
}

bool fallback_hand_on(struct core *core, const struct call *call, const uint16_t *slots, size_t n,
                      enum outcome outcome, struct slice sentence, struct error *why) {
    struct batch *batch = call->batch;
    why->text[0] = '\0';
    if (!helps(outcome) || find_group(core, batch, call->level + 1, why) == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        assert(batch->entries[slots[i]].level == call->level);
        batch_hand_on(batch, slots[i], outcome, sentence);
    }
    core->status->records_handed_on += n;
    partition_touch(batch->lane->partition, batch);
    struct call like = {.batch = batch};
    for (size_t i = 0, run; i < n; i += run) {
        run = call_run(batch, slots + i, n - i);
        dispatch_again(core, &like, slots + i, run, 0);
    }
    return true;
}
