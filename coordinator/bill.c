// What one call costs. Invariant: a call is added to the sums once, when its report comes or when it is
// given up; a report that comes after that replaces the estimate that stood for it. Called by collect
// (what ended), call (what is reserved) and budget.
#include "coordinator/bill.h"
#include "common/mem.h"
#include "coordinator/call.h"
#include "coordinator/spend.h"

#include <math.h>
#include <stdlib.h>

// ---- Life -----------------------------------------------------------------------------------------------

struct bill *bill_new(struct core *core, const struct model *model) {
    const struct model_options *o = &model->options;
    struct bill *bill = mem_zalloc(sizeof(*bill));
    bool is_limited = !isnan(o->budget_usd);
    bill->model = mem_dup_str(model->name);
    bill->budget = mem_dup_str(!is_limited ? "" : o->budget_name[0] != '\0' ? o->budget_name : model->name);
    bill->is_priced = prices_of(core->config->prices, o, &bill->price);
    return bill;
}

struct bill *bill_copy(const struct bill *bill) {
    struct bill *copy = mem_alloc(sizeof(*copy));
    *copy = *bill;
    copy->model = mem_dup_str(bill->model);
    copy->budget = mem_dup_str(bill->budget);
    return copy;
}

void bill_free(struct bill *bill) {
    if (bill != NULL) {
        free(bill->model);
        free(bill->budget);
        free(bill);
    }
}

// ---- Before -----------------------------------------------------------------------------------------------

int64_t bill_estimate(struct call *call) {
    const struct group *group = call->group;
    if (!group->bill->is_priced) {
        return 0;
    }
    const struct price_usage usage = estimate_most(&group->estimate, group->model, call_size(call));
    double factor = call_is_for_job(call) ? group->bill->price.batch : 1;
    return (int64_t)ceil(price_cost(&group->bill->price, &usage) * factor * SPEND_NANO);
}

bool bill_is_sure(const struct group *group) {
    const struct price *price = &group->bill->price;
    bool by_call = price->input <= 0 && price->output <= 0;
    return by_call || group->estimate.learned->n > 0;
}

// ---- After ------------------------------------------------------------------------------------------------

double bill_cost(const struct bill *bill, const struct message_report *report) {
    const struct price *price = &bill->price;
    bool by_tokens = bill->is_priced && (price->input > 0 || price->output > 0);
    bool was_answered = report->usage_known || (report->sent && report->http_status == 200);
    if (!bill->is_priced || !was_answered || (by_tokens && !report->usage_known)) {
        return -1;
    }
    const struct price_usage usage = {.input = (double)report->input_tokens,
                                      .cached = (double)report->cached_tokens,
                                      .write = (double)report->cache_write_tokens,
                                      .output = (double)report->output_tokens};
    return price_cost(price, &usage) * (report->line.n > 0 ? price->batch : 1);
}

static void add(struct core *core, struct partition *p, const struct bill *bill,
                const struct spend_amounts *amounts) {
    char scope[SPEND_SCOPE_MAX];
    spend_add(p, spend_get(core, spend_day_scope(spend_today(core), bill->model, scope)), amounts);
    if (bill->budget[0] != '\0') {
        spend_add(p, spend_get(core, spend_budget_scope(bill->budget, scope)), amounts);
    }
}

bool bill_report(struct core *core, struct partition *p, const struct bill *bill,
                 const struct charge *charge, const struct message_report *report, int64_t reserved) {
    bool may_be_billed = report->sent && (report->http_status == 0 || report->http_status == 200);
    if (!report->usage_known && (!may_be_billed || charge->is_counted)) {
        return false;
    }
    double cost = bill_cost(bill, report);
    struct spend_amounts a = {.n = {[SPEND_CALLS] = 1,
                                    [SPEND_INPUT] = (int64_t)report->input_tokens,
                                    [SPEND_CACHED] = (int64_t)report->cached_tokens,
                                    [SPEND_WRITE] = (int64_t)report->cache_write_tokens,
                                    [SPEND_OUTPUT] = (int64_t)report->output_tokens}};
    if (cost >= 0) {
        a.n[SPEND_USD] = (int64_t)llround(cost * SPEND_NANO);
    } else {
        a.n[SPEND_UNKNOWN] = 1;
        a.n[SPEND_MAYBE] = reserved;
    }
    if (charge->is_counted) {
        a.n[SPEND_CALLS]--;
        a.n[SPEND_UNKNOWN]--;
        a.n[SPEND_MAYBE] -= charge->maybe;
    }
    add(core, p, bill, &a);
    return true;
}

void bill_maybe(struct core *core, struct partition *p, const struct bill *bill, struct charge *charge,
                int64_t nusd) {
    const struct spend_amounts a = {.n = {[SPEND_CALLS] = 1, [SPEND_UNKNOWN] = 1, [SPEND_MAYBE] = nusd}};
    if (!charge->is_counted) {
        *charge = (struct charge){.is_counted = true, .maybe = nusd};
        add(core, p, bill, &a);
    }
}

void bill_lost(struct core *core, struct call *call) {
    // After a restart nothing is reserved for it any more.
    int64_t maybe = call->reserved_nusd > 0 ? call->reserved_nusd : bill_estimate(call);
    bill_maybe(core, call->batch->lane->partition, call->group->bill, &call->charge, maybe);
}
