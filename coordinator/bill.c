// What one call costs. Invariant: a call is added to the sums once, when its report comes or when it is
// given up; a report that comes after that replaces the estimate that stood for it. Called by collect
// (what ended), call (what is reserved) and budget.
#include "coordinator/bill.h"
#include "common/mem.h"
#include "common/tokens.h"
#include "coordinator/spend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_TOKENS 8        // index, names, punctuation of a record in a prompt
#define FIRST_RATIO 2.0      // real input tokens for an estimated one, before anything was learned
#define FIRST_OUTPUT 64      // output tokens of a record, likewise
#define MARGIN 1.1           // over the largest that was seen
#define FADING 0.005         // how fast the largest one is forgotten

// ---- Life -----------------------------------------------------------------------------------------------

struct bill *bill_new(struct core *core, const struct model *model) {
    const struct model_options *o = &model->options;
    struct bill *bill = mem_zalloc(sizeof(*bill));
    bool is_limited = !isnan(o->budget_usd);
    bill->model = mem_dup_str(model->name);
    bill->budget = mem_dup_str(!is_limited ? "" : o->budget_name[0] != '\0' ? o->budget_name : model->name);
    bill->is_priced = prices_of(core->config->prices, o, &bill->price);
    const char *prompt = o->batch_size > 1 ? o->batch_prompt_template : o->prompt_template;
    bill->prompt_tokens = (int64_t)(tokens_count(NULL, slice_of(o->system_prompt)) +
                                    tokens_count(NULL, slice_of(prompt)) + 2 * TOKENS_A_MESSAGE);
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

static struct lesson *lesson_of(const struct core *core, const char *model) {
    struct lesson *lesson;
    HASH_FIND_STR(core->lessons, model, lesson);
    return lesson;
}

// plain_input estimates a call's input tokens from its bytes alone.
static double plain_input(const struct call *call) {
    const struct batch *batch = call->batch;
    double tokens = (double)batch->lane->group->bill->prompt_tokens;
    for (size_t i = 0; i < call->n_slots; i++) {
        struct slice values = entry_values(batch, &batch->entries[call->slots[i]]);
        tokens += (double)tokens_count(NULL, values) + SLOT_TOKENS;
    }
    return tokens;
}

int64_t bill_estimate(const struct core *core, const struct call *call) {
    const struct group *group = call->batch->lane->group;
    const struct bill *bill = group->bill;
    const struct lesson *lesson = lesson_of(core, bill->model);
    int64_t most = group->model->options.max_tokens;
    if (!bill->is_priced) {
        return 0;
    }
    double per_record = lesson != NULL ? lesson->output * MARGIN : FIRST_OUTPUT;
    const struct price_usage usage = {
        .input = plain_input(call) * (lesson != NULL ? lesson->input * MARGIN : FIRST_RATIO),
        .output = most != MODEL_UNSET ? (double)most : per_record * (double)call->n_slots,
    };
    return (int64_t)ceil(price_cost(&bill->price, &usage) * SPEND_NANO);
}

bool bill_is_sure(const struct core *core, const struct bill *bill) {
    bool by_call = bill->price.input <= 0 && bill->price.output <= 0;
    return by_call || lesson_of(core, bill->model) != NULL;
}

// fade raises a largest value at once, and lets it sink slowly.
static double fade(double largest, double now) {
    double sunk = largest + (now - largest) * FADING;
    return now > sunk ? now : sunk;
}

void bill_learn(struct core *core, const struct call *call, const struct message_report *report) {
    const struct bill *bill = call->batch->lane->group->bill;
    if (!report->usage_known || report->input_tokens == 0) {
        return;
    }
    double input = (double)report->input_tokens / plain_input(call);
    double output = (double)report->output_tokens / (double)call->n_slots;
    struct lesson *lesson = lesson_of(core, bill->model);
    if (lesson == NULL) {
        lesson = mem_zalloc(sizeof(*lesson));
        lesson->model = mem_dup_str(bill->model);
        lesson->input = input;
        lesson->output = output;
        HASH_ADD_KEYPTR(hh, core->lessons, lesson->model, strlen(lesson->model), lesson);
    }
    lesson->n++;
    lesson->input = fade(lesson->input, input);
    lesson->output = fade(lesson->output, output);
}

void bill_forget_lessons(struct core *core) {
    struct lesson *lesson, *next;
    HASH_ITER(hh, core->lessons, lesson, next) {
        HASH_DEL(core->lessons, lesson);
        free(lesson->model);
        free(lesson);
    }
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
    return price_cost(price, &usage);
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

void bill_lost(struct core *core, struct call *call) {
    // After a restart nothing is reserved for it any more.
    int64_t maybe = call->reserved_nusd > 0 ? call->reserved_nusd : bill_estimate(core, call);
    const struct spend_amounts a = {.n = {[SPEND_CALLS] = 1, [SPEND_UNKNOWN] = 1, [SPEND_MAYBE] = maybe}};
    const struct lane *lane = call->batch->lane;
    if (!call->charge.is_counted) {
        call->charge = (struct charge){.is_counted = true, .maybe = maybe};
        add(core, lane->partition, lane->group->bill, &a);
    }
}
