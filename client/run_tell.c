// What `headrace run` tells on standard error once no row moves any more: the summary, or what --quiet leaves
// of it, and how to go on. Invariant: it changes nothing of the run. Called by run.c.
#include "client/run_tell.h"

#include "common/clock.h"

#include <stdio.h>
#include <string.h>

#define SUMMARY_MAX (64 * 1024)

static const char *ended_text(const struct run *run) {
    if (run->is_detached) {
        return "detached";
    }
    switch (run->exit_code) {
    case EXIT_ALL_OK:
    case EXIT_ROW_ERRORS:
        return "finished";
    case EXIT_PROVIDER:
        return "stopped by the provider";
    case EXIT_BUDGET:
        return "stopped by the budget";
    case EXIT_INTERRUPTED:
        return "interrupted";
    default:
        return "not finished";
    }
}

static void tell(const struct run *run) {
    const struct model_options *o = &run->model->options;
    char model[512], price_text[256];
    snprintf(model, sizeof(model), "%s (%s %s)", run->model->name, o->provider, o->model);
    struct price price;
    bool is_priced = prices_of(run->prices, o, &price);
    if (is_priced && price.as_of[0] != '\0') {
        snprintf(price_text, sizeof(price_text), "price of %s as of %s", price.model, price.as_of);
    } else {
        snprintf(price_text, sizeof(price_text), "price as the model says");
    }
    uint64_t asked = run->n_written;
    for (size_t i = 0; i < run->n_codes; i++) {
        if (strcmp(run->codes[i].code, outcome_of(OUTCOME_BAD_RECORD)->text) == 0 ||
            strcmp(run->codes[i].code, outcome_of(OUTCOME_TOO_LONG)->text) == 0) {
            asked -= run->codes[i].n;
        }
    }
    struct counters total = run->before;
    counters_add(&total, &run->counters);
    const struct counters *c = &total;
    struct progress_summary summary = {
        .ended = ended_text(run),
        .model = model,
        .rows = run->n_written,
        .ok = run->n_ok,
        .codes = run->codes,
        .n_codes = run->n_codes,
        .missing = run->n_read > run->n_written ? run->n_read - run->n_written : 0,
        .has_more = !run->at_end,
        .is_detached = run->is_detached,
        .asked = asked,
        .resumed = run->n_resumed,
        .calls = c->calls,
        .calls_failed = c->calls_failed,
        .retries = c->retries,
        .outages = c->outages,
        .outage_seconds = c->outage_seconds,
        .is_out = run->counters.pools_out > 0,
        .ambiguous = c->calls_ambiguous - c->resolved_lost - c->resolved_crash,
        .timed_out = c->ambiguous_timeout,
        .broken = c->ambiguous_broken,
        .lost = c->ambiguous_lost - c->resolved_lost,
        .crashed = c->ambiguous_crash - c->resolved_crash,
        .again = run->n_again,
        .input_tokens = c->input_tokens,
        .output_tokens = c->output_tokens,
        .cost = c->cost,
        .unpriced = c->calls_unpriced,
        .price = is_priced ? price_text : NULL,
        .seconds = (double)(clock_us() - run->start_us) / 1e6,
        .output = run->output.name,
    };
    struct buf text;
    buf_init(&text, SUMMARY_MAX);
    if (progress_summary_text(&summary, &text) == 0) {
        fputs(text.p, stderr);
    }
    buf_free(&text);
}

// tell_errors is what --quiet leaves of that.
static void tell_errors(const struct run *run) {
    struct progress_summary summary = {
        .rows = run->n_written,
        .ok = run->n_ok,
        .codes = run->codes,
        .n_codes = run->n_codes,
    };
    struct buf text;
    buf_init(&text, SUMMARY_MAX);
    if (run->n_written > run->n_ok && progress_errors(&summary, &text) == 0) {
        client_say(0, "rows that ended as errors: %s", text.p);
    }
    buf_free(&text);
}

void run_tell_end(const struct run *run) {
    if (run->options.quiet) {
        tell_errors(run);
    } else {
        tell(run);
    }
}

bool run_is_failed(const struct run *run) {
    return run->exit_code == EXIT_PART_LOST ||
           (run->exit_code == EXIT_NO_START && run->embedded_began);
}

void run_tell_rest(const struct run *run) {
    int code = run->exit_code;
    bool is_cut = code > EXIT_ROW_ERRORS || run->is_detached;
    const char *folder = run->state.path;
    if (run->journal != NULL && !run->is_stuck && is_cut) {
        client_say(0, "to go on: headrace run --resume --state %s%s", folder,
                   code == EXIT_BUDGET && *run->options.budget_usd != '\0' ? " --budget-usd MORE" : "");
        return;
    }
    if (run->journal != NULL && (is_cut || run->options.keep_state)) {
        client_say(0, "the state folder is %s", folder);
    }
    if (run->journal == NULL && (run_is_failed(run) || run->options.keep_state)) {
        client_say(0, "the logs are in folder %s, to be removed when they are read", folder);
    }
    if (run->journal == NULL && is_cut && code != EXIT_BAD_USE) {
        client_say(0, "this run cannot go on: only one that is started with --state DIR can");
    }
}
