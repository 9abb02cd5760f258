// What the simulator's options mean. Invariant: a setup that was read without an error has no value out
// of range. Called by serve and main.
#include "tests/provider/setup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int setup_share(const char *what, const char *text, double *share, struct error *why) {
    char *end = NULL;
    *share = strtod(text, &end);
    if (end != text && *end == '%') {
        *share /= 100;
        end++;
    }
    if (end == text || *end != '\0' || !(*share >= 0 && *share <= 1)) {
        return error_set(why, -EINVAL, "%s: got '%s', want 0..1 or 0%%..100%%", what, text);
    }
    return 0;
}

// is_one_of finds a word in a list that ends with NULL; its place, or -EINVAL with why.
static int one_of(const char *what, const char *text, const char *const *words, struct error *why) {
    int i = 0;
    while (words[i] != NULL && strcmp(words[i], text) != 0) {
        i++;
    }
    return words[i] != NULL ? i : error_set(why, -EINVAL, "%s: got '%s', want one of those in --help",
                                            what, text);
}

static int read_faults(const struct provider_options *o, struct setup *setup, struct error *why) {
    for (size_t i = 0; i < o->faults.n; i++) {
        const char *text = o->faults.items[i];
        int rc = text[0] != '\0' ? fault_rates_add(&setup->rates, text, why) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    setup->poison_kind = fault_find(slice_of(o->poison_kind));
    return setup->poison_kind != FAULT_NONE
               ? 0
               : error_set(why, -EINVAL, "--poison-kind: got '%s', want a kind of --fault",
                           o->poison_kind);
}

static int read_limits(const struct provider_options *o, struct quota_config *c, struct error *why) {
    static const char *const counts[] = {"used", "max-tokens", NULL};
    static const char *const per[] = {"all", "key", "model", "key-model", NULL};
#define LIMIT(id, field, ...) c->most[LIMIT_##id] = o->field;
#include "tests/provider/quota.def"
#undef LIMIT
    c->mode = meter_mode_find(slice_of(o->limit_mode));
    if (c->mode == METER_MODES) {
        return error_set(why, -EINVAL, "--limit-mode: got '%s', want one of those in --help",
                         o->limit_mode);
    }
    int charged = one_of("--limit-counts", o->limit_counts, counts, why);
    int pools = one_of("--limit-per", o->limit_per, per, why);
    int64_t refused = 0;
    int rc = charged < 0 ? charged : pools < 0 ? pools : 0;
    rc = rc != 0 ? rc
                 : option_value_parse("--limit-count-refused", OPTION_FLAG, o->limit_count_refused, 0, 1,
                                      &refused, why);
    c->charge_max = charged == 1;
    c->by_key = (pools & 1) != 0;
    c->by_model = (pools & 2) != 0;
    c->count_refused = refused != 0;
    c->burst_us = o->limit_burst * 1000;
    c->day_us = o->limit_day * 1000;
    return rc != 0 ? rc : setup_share("--stranger", o->stranger, &c->stranger, why);
}

static int read_batches(const struct provider_options *o, struct setup *setup, struct error *why) {
    static const char *const states[] = {"batch", "job", "mixed", NULL};
    batch_faults_init(&setup->batch_faults);
    for (size_t i = 0; i < o->batch_faults.n; i++) {
        const char *text = o->batch_faults.items[i];
        int rc = text[0] != '\0' ? batch_faults_add(&setup->batch_faults, text, why) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    int names = one_of("--batch-states", o->batch_states, states, why);
    setup->states_job = names == 1;
    setup->states_mixed = names == 2;
    int rc = names < 0 ? names : setup_share("--batch-stop-at", o->batch_stop_at, &setup->batch_stop_at, why);
    return rc != 0 ? rc : setup_share("--batch-jitter", o->batch_jitter, &setup->batch_jitter, why);
}

int setup_read(const struct provider_options *options, struct setup *setup, struct error *why) {
    *setup = (struct setup){.style = tell_style_find(slice_of(options->limit_headers))};
    int rc = read_faults(options, setup, why);
    rc = rc != 0 ? rc : read_limits(options, &setup->limits, why);
    rc = rc != 0 ? rc : read_batches(options, setup, why);
    if (rc == 0 && setup->style == TELL_STYLES) {
        rc = error_set(why, -EINVAL, "--limit-headers: got '%s', want one of those in --help",
                       options->limit_headers);
    }
    return rc;
}
