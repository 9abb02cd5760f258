// Money that may be spent. Invariant: what is spent and reserved of a budget grows past its limit only by
// what calls that had been made cost beyond their reservations. Called by intake (groups), call (states),
// dispatch (may it go?) and core.
#include "coordinator/budget.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/bill.h"
#include "coordinator/call.h"
#include "coordinator/spend.h"
#include "proto/record.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ASK_US 200000        // a day's budget is claimed at most so often,
#define GIVE_BACK_US 2000000 // and given back after so long
#define SHARE 50             // a namespace claims this part of a day's budget beyond its need,
#define AHEAD_CALLS 16       // but at least for so many calls

// ---- Amounts ----------------------------------------------------------------------------------------------

static int64_t nano(double usd) {
    return isnan(usd) ? INT64_MAX : (int64_t)llround(usd * SPEND_NANO);
}

static double usd(int64_t amount) {
    return (double)amount / SPEND_NANO;
}

static int64_t spent(const struct budget *b) {
    return b->spend->n[SPEND_USD] + b->spend->n[SPEND_MAYBE];
}

// left is what may still be reserved; below 0 when more was spent than allowed.
static int64_t left(const struct budget *b) {
    int64_t most = b->is_day && b->granted < b->limit ? b->granted : b->limit;
    return most == INT64_MAX ? most : most - spent(b) - b->reserved;
}

// roll begins a new day.
static void roll(struct core *core, struct budget *b) {
    int64_t today = spend_today(core);
    char scope[SPEND_SCOPE_MAX];
    if (b->is_day && (b->spend == NULL || b->day != today)) {
        b->day = today;
        b->granted = core->io->claim != NULL ? 0 : INT64_MAX;
        b->is_asking = false;
        b->asked_us = 0;
        b->spend = spend_get(core, spend_day_scope(today, b->name, scope));
    }
}

// ---- Groups -----------------------------------------------------------------------------------------------

static struct budget *budget_get(struct core *core, const char *key, const char *name, bool is_day) {
    struct budget *b;
    char scope[SPEND_SCOPE_MAX];
    HASH_FIND_STR(core->budgets, key, b);
    if (b == NULL) {
        b = mem_zalloc(sizeof(*b));
        b->key = mem_dup_str(key);
        b->name = mem_dup_str(name);
        b->is_day = is_day;
        b->spend = is_day ? NULL : spend_get(core, spend_budget_scope(name, scope));
        HASH_ADD_KEYPTR(hh, core->budgets, b->key, strlen(b->key), b);
        roll(core, b);
    }
    b->n_groups++;
    return b;
}

static void budget_free(struct core *core, struct budget *b) {
    HASH_DEL(core->budgets, b);
    free(b->key);
    free(b->name);
    free(b);
}

// day_key: the same model, by name and by what it calls, in whatever namespace.
static const char *day_key(const struct group *group, char text[32]) {
    const struct model_options *o = &group->model->options;
    const char *const parts[] = {group->model->name, o->provider, o->endpoint, o->api_key, o->model};
    XXH64_hash_t hash = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        hash = XXH3_64bits_withSeed(parts[i], strlen(parts[i]), hash);
    }
    snprintf(text, 32, "day/%016" PRIx64, (uint64_t)hash);
    return text;
}

// raise sets a limit that recovered batches name: of several the highest, until somebody says.
static void raise(struct budget *b, double limit, bool is_open) {
    if (b != NULL && !b->is_told && (nano(limit) > b->limit || is_open)) {
        b->limit = nano(limit);
    }
}

void budget_join(struct core *core, struct group *group) {
    const struct model_options *o = &group->model->options;
    char key[SPEND_SCOPE_MAX];
    group->bill = bill_new(core, group->model);
    if (!isnan(o->budget_usd)) {
        snprintf(key, sizeof(key), "run/%s", group->bill->budget);
        group->run_budget = budget_get(core, key, group->bill->budget, false);
    }
    if (!isnan(o->budget_usd_day)) {
        group->day_budget = budget_get(core, day_key(group, key), group->model->name, true);
    }
    raise(group->run_budget, o->budget_usd, core_is_open(core));
    raise(group->day_budget, o->budget_usd_day, core_is_open(core));
    if (!group->bill->is_priced && HASH_COUNT(core->groups) < 1000) {
        log_warn("price.unknown", "model=%s provider=%s name=%s", group->model->name, o->provider, o->model);
    }
}

void budget_part(struct core *core, struct group *group) {
    struct budget *of_group[] = {group->run_budget, group->day_budget};
    for (size_t i = 0; i < 2; i++) {
        if (of_group[i] != NULL && --of_group[i]->n_groups == 0) {
            budget_free(core, of_group[i]);
        }
    }
    bill_free(group->bill);
}

static void tell(struct budget *b, double limit) {
    if (b != NULL) {
        b->limit = nano(limit);
        b->is_told = true;
    }
}

void budget_told(struct core *core, const struct group *group) {
    tell(group->run_budget, group->model->options.budget_usd);
    tell(group->day_budget, group->model->options.budget_usd_day);
}

// is_overridden says whether a submission gave an option a value of its own.
static bool is_overridden(const struct group *group, const char *option) {
    struct slice name, value;
    for (size_t i = 0; options_get(group->options, i, &name, &value) > 0; i++) {
        if (slice_is(name, option)) {
            return true;
        }
    }
    return false;
}

void budget_models_changed(struct core *core) {
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        const struct model *newest = core->io->model(core->io->arg, slice_of(g->model->name), 0);
        if (newest != NULL && !is_overridden(g, "budget.usd")) {
            tell(g->run_budget, newest->options.budget_usd);
        }
        if (newest != NULL && !is_overridden(g, "budget.usd.day")) {
            tell(g->day_budget, newest->options.budget_usd_day);
        }
    }
}

// ---- Calls ------------------------------------------------------------------------------------------------

// has_money says whether a call fits into a budget. Until the first usage has taught what calls of the
// model cost, they go one at a time.
static bool has_money(const struct budget *b, const struct call *call, int64_t estimate) {
    if (b == NULL || b->limit == INT64_MAX) {
        return true;
    }
    const struct group *group = call->group;
    bool is_alone = b->reserved == 0;
    bool is_line = call_is_for_job(call); // a job of one line would teach it, in a day
    return group->bill->is_priced && estimate <= left(b) && (is_alone || is_line || bill_is_sure(group));
}

bool budget_may_send(struct core *core, struct call *call) {
    const struct group *group = call->group;
    struct budget *of_group[] = {group->run_budget, group->day_budget};
    if (of_group[0] == NULL && of_group[1] == NULL) {
        return true;
    }
    int64_t estimate = bill_estimate(call);
    for (size_t i = 0; i < 2; i++) {
        bool was_afforded = call->afforded != NULL;
        bool is_last = of_group[i] != NULL && of_group[i]->parked != NULL && !was_afforded; // others were first
        if (is_last || !has_money(of_group[i], call, estimate)) {
            call_leave(core, call);
            call->parked = of_group[i];
            call_enter(core, call, CALL_READY, false);
            return false;
        }
    }
    return true;
}

void budget_take(struct core *core, struct call *call) {
    const struct group *group = call->group;
    call->reserved_nusd = bill_estimate(call);
    if (group->run_budget != NULL) {
        group->run_budget->reserved += call->reserved_nusd;
    }
    if (group->day_budget != NULL) {
        group->day_budget->reserved += call->reserved_nusd;
    }
}

void budget_give_back(struct core *core, struct call *call) {
    const struct group *group = call->group;
    if (group->run_budget != NULL) {
        group->run_budget->reserved -= call->reserved_nusd;
    }
    if (group->day_budget != NULL) {
        group->day_budget->reserved -= call->reserved_nusd;
    }
    call->reserved_nusd = 0;
}

// n_affordable counts the oldest parked calls that there is money for; *last is the youngest of them.
static size_t n_affordable(const struct core *core, const struct budget *b, struct call **last) {
    int64_t promised = 0;
    size_t n = 0;
    for (struct call *call = b->parked; call != NULL; call = call->ready_next) {
        const struct group *group = call->group;
        int64_t estimate = bill_estimate(call);
        bool is_sure = call_is_for_job(call) || bill_is_sure(group);
        if ((n > 0 && !is_sure) || !has_money(b, call, estimate + promised)) {
            break;
        }
        promised += estimate > 0 ? estimate : 1;
        *last = call;
        n++;
    }
    return n;
}

// unpark lets the oldest parked calls go, as many as there is money for, before those that came later: a
// run whose budget ends has its rows without a gap. The next ones follow when all of these are out.
static void unpark(struct core *core, struct budget *b) {
    struct call *call = NULL, *older;
    if (b->n_afforded > 0) {
        return;
    }
    for (size_t n = n_affordable(core, b, &call); n > 0; n--, call = older) {
        older = call->ready_prev; // the list's head has its tail there, which is not looked at any more
        call_leave(core, call);
        call->parked = NULL;
        call_enter(core, call, CALL_READY, true);
        call->afforded = b;
        b->n_afforded++;
    }
}

// claim asks Redis for a part of the day's budget: what is needed, and a little ahead while there is work.
static void claim(struct core *core, struct budget *b) {
    int64_t need = spent(b) + b->reserved, since = core->now_us - b->asked_us;
    if (b->limit == INT64_MAX || b->is_asking || !core->store_ready || since < ASK_US) {
        return;
    }
    int64_t next = b->parked != NULL ? bill_estimate(b->parked) : 0;
    int64_t ahead = next * AHEAD_CALLS > b->limit / SHARE ? next * AHEAD_CALLS : b->limit / SHARE;
    bool is_idle = b->parked == NULL && b->reserved == 0;
    bool wants_more = b->parked != NULL && need + next > b->granted;
    bool has_too_much = since >= GIVE_BACK_US && b->granted > need + (is_idle ? 0 : 2 * ahead);
    if (wants_more || has_too_much) {
        b->is_asking = true;
        b->asked_us = core->now_us;
        core->io->claim(core->io->arg, slice_of(b->key), b->day, need + (is_idle ? 0 : ahead), need,
                        b->limit);
    }
}

void budget_pump(struct core *core) {
    struct budget *b, *following;
    HASH_ITER(hh, core->budgets, b, following) {
        roll(core, b);
        if (b->parked != NULL) {
            unpark(core, b);
        }
        if (b->is_day && core->io->claim != NULL) {
            claim(core, b);
        }
    }
}

void budget_claimed(struct core *core, struct slice key, int64_t day, int64_t granted) {
    for (struct budget *b = core->budgets; b != NULL; b = b->hh.next) {
        if (slice_is(key, b->key) && b->day == day) {
            b->is_asking = false;
            b->granted = granted >= 0 ? granted : b->granted;
        }
    }
}

// ---- What people see --------------------------------------------------------------------------------------

// is_stuck says whether the parked calls of a budget wait for more money than comes back by itself.
static bool is_stuck(const struct core *core, const struct budget *b) {
    bool is_unclear = b->is_day && core->io->claim != NULL && (b->is_asking || b->asked_us == 0);
    return b->parked != NULL && b->reserved == 0 && !is_unclear &&
           !has_money(b, b->parked, bill_estimate(b->parked));
}

bool budget_waiting(const struct core *core, struct buf *out) {
    const struct budget *b = core->budgets;
    while (b != NULL && !is_stuck(core, b)) {
        b = b->hh.next;
    }
    if (b == NULL) {
        return false;
    }
    const struct bill *bill = b->parked->group->bill;
    int rc = buf_addf(out, "the budget of $%.6g%s of '%s' ", usd(b->limit), b->is_day ? " a day" : "", b->name);
    if (rc == 0 && !bill->is_priced) {
        rc = buf_addf(out, "cannot be kept: no price of model '%s' is known (options price.*, or --prices)",
                      bill->model);
    } else if (rc == 0) {
        rc = buf_addf(out, "is used up: $%.6f spent, and the next call may cost $%.6f", usd(spent(b)),
                      usd(bill_estimate(b->parked)));
    }
    (void)rc; // a cut sentence is still a sentence
    return true;
}

void budget_free_all(struct core *core) {
    while (core->budgets != NULL) {
        budget_free(core, core->budgets);
    }
}
