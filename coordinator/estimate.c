// Estimates of tokens: bytes times a ratio, and a length of answer a record. Both are followed as the
// 95th percentile of what was seen, since a call that costs more than was reserved breaks a limit, and
// one that costs less gives back. Called by permits.c.
#include "coordinator/estimate.h"
#include "common/log.h"
#include "common/tokens.h"

#include <math.h>
#include <string.h>

#define FIRST_TOKENS_PER_BYTE 0.3  // English has about 0.25; before anything was learned
#define FIRST_OUTPUT_PER_RECORD 32
#define SLOT_BYTES 24              // index, names, punctuation of a record in a prompt
#define FEW 20                     // calls, until which the largest seen is the estimate
#define PART 0.95
#define STEP 0.02                  // of the estimate, up for one above and by 1/19 of it down for one below

size_t estimate_bytes(const struct estimate *e, struct slice text) {
    return e->tokenizer != NULL ? tokens_count(e->tokenizer, text) * TOKENS_BYTES : text.n;
}

void estimate_init(struct estimate *e, const struct model *model) {
    const struct model_options *o = &model->options;
    const char *prompt = o->batch_size > 1 ? o->batch_prompt_template : o->prompt_template;
    *e = (struct estimate){
        .tokens_per_byte = FIRST_TOKENS_PER_BYTE,
        .output_per_record = FIRST_OUTPUT_PER_RECORD,
    };
    struct error why = {0};
    e->tokenizer = tokens_tokenizer(o->tokenizer_file, &why);
    if (why.text[0] != '\0') {
        log_warn("tokenizer.unread", "model=%s why=\"%s\"", model->name, why.text);
    }
    e->prompt_bytes = (double)(estimate_bytes(e, slice_of(o->system_prompt)) + estimate_bytes(e, slice_of(prompt)));
}

static double bytes_of(const struct estimate *e, const struct estimate_call *call) {
    return e->prompt_bytes + (double)call->n_bytes + (double)call->n_records * SLOT_BYTES;
}

struct amount estimate_of(const struct estimate *e, const struct model *model,
                          const struct limit_profile *profile, const struct estimate_call *call) {
    int64_t cap = model->options.max_tokens;
    double output = e->output_per_record * (double)call->n_records;
    if (cap != MODEL_UNSET) {
        output = profile->charges_cap ? (double)cap : fmin(output, (double)cap);
    }
    return (struct amount){.calls = 1, .input = ceil(e->tokens_per_byte * bytes_of(e, call)), .output = ceil(output)};
}

struct amount estimate_used(const struct model *model, const struct limit_profile *profile,
                            double input_tokens, double cached_tokens, double output_tokens) {
    int64_t cap = model->options.max_tokens;
    return (struct amount){
        .calls = 1,
        .input = profile->charges_cached ? input_tokens : fmax(0, input_tokens - cached_tokens),
        .output = profile->charges_cap && cap != MODEL_UNSET ? (double)cap : output_tokens,
    };
}

static void follow(double *estimate, double seen, int n) {
    if (n == 0) {
        *estimate = seen;
    } else if (seen > *estimate) {
        *estimate = n < FEW ? seen : *estimate + STEP * *estimate;
    } else {
        *estimate -= STEP * (1 - PART) / PART * *estimate;
    }
}

void estimate_learn(struct estimate *e, const struct estimate_call *call, double input_tokens,
                    double output_tokens) {
    double bytes = bytes_of(e, call);
    if (input_tokens <= 0 || bytes <= 0 || call->n_records == 0) {
        return;
    }
    follow(&e->tokens_per_byte, input_tokens / bytes, e->n);
    follow(&e->output_per_record, output_tokens / (double)call->n_records, e->n);
    e->n++;
}
