// Estimates of tokens: bytes times a ratio, and a length of answer a record. Both are followed twice: as the
// 95th percentile of what was seen, for limits, where a call that costs more breaks a limit now and then and
// one that costs less gives back; and as the largest, for money, which is not to be exceeded. Called by
// permits.c and bill.c.
#include "coordinator/estimate.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/tokens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Before anything was learned. English has about 0.25 tokens a byte.
#define FIRST_TOKENS_PER_BYTE ((struct shown){.usual = 0.3, .most = 0.5})
#define FIRST_OUTPUT_PER_RECORD ((struct shown){.usual = 32, .most = 64})
#define SLOT_BYTES 24              // index, names, punctuation of a record in a prompt
#define MESSAGES_BYTES (2 * TOKENS_A_MESSAGE * TOKENS_BYTES)
#define MARGIN 1.1                 // over the largest that was seen
#define FADING 0.005               // how fast the largest one is forgotten
#define FEW 20                     // calls, until which the largest seen is the estimate
#define PART 0.95
#define STEP 0.02                  // of the estimate, up for one above and by 1/19 of it down for one below

// ---- Life ---------------------------------------------------------------------------------------

static struct learned *learned_of(struct learned **all, const char *model) {
    struct learned *learned;
    HASH_FIND_STR(*all, model, learned);
    if (learned == NULL) {
        learned = mem_zalloc(sizeof(*learned));
        learned->model = mem_dup_str(model);
        learned->tokens_per_byte = FIRST_TOKENS_PER_BYTE;
        learned->output_per_record = FIRST_OUTPUT_PER_RECORD;
        HASH_ADD_KEYPTR(hh, *all, learned->model, strlen(learned->model), learned);
    }
    return learned;
}

void estimate_forget(struct learned **all) {
    struct learned *learned, *next;
    HASH_ITER(hh, *all, learned, next) {
        HASH_DEL(*all, learned);
        free(learned->model);
        free(learned);
    }
}

size_t estimate_bytes(const struct estimate *e, struct slice text) {
    return e->tokenizer != NULL ? tokens_count(e->tokenizer, text) * TOKENS_BYTES : text.n;
}

void estimate_init(struct estimate *e, struct learned **all, const struct model *model) {
    const struct model_options *o = &model->options;
    const char *prompt = o->batch_size > 1 ? o->batch_prompt_template : o->prompt_template;
    *e = (struct estimate){.learned = learned_of(all, model->name)};
    struct error why = {0};
    e->tokenizer = tokens_tokenizer(o->tokenizer_file, &why);
    if (why.text[0] != '\0') {
        log_warn("tokenizer.unread", "model=%s why=\"%s\"", model->name, why.text);
    }
    e->prompt_bytes = (double)(estimate_bytes(e, slice_of(o->system_prompt)) + estimate_bytes(e, slice_of(prompt)));
}

// ---- Before a call ------------------------------------------------------------------------------

static double bytes_of(const struct estimate *e, const struct estimate_call *call) {
    return MESSAGES_BYTES + e->prompt_bytes + (double)call->n_bytes + (double)call->n_records * SLOT_BYTES;
}

struct amount estimate_of(const struct estimate *e, const struct model *model,
                          const struct limit_profile *profile, const struct estimate_call *call) {
    int64_t cap = model->options.max_tokens;
    const struct learned *l = e->learned;
    double output = l->output_per_record.usual * (double)call->n_records;
    if (cap != MODEL_UNSET) {
        output = profile->charges_cap ? (double)cap : fmin(output, (double)cap);
    }
    double input = l->tokens_per_byte.usual * bytes_of(e, call);
    return (struct amount){.calls = 1, .input = ceil(input), .output = ceil(output)};
}

struct price_usage estimate_most(const struct estimate *e, const struct model *model,
                                 const struct estimate_call *call) {
    const struct learned *l = e->learned;
    int64_t cap = model->options.max_tokens;
    double margin = l->n > 0 ? MARGIN : 1; // the guess has one
    double per_byte = l->tokens_per_byte.most * margin;
    double output = l->output_per_record.most * margin * (double)call->n_records;
    return (struct price_usage){
        .input = per_byte * bytes_of(e, call),
        .write = per_byte * e->prompt_bytes,
        .output = cap != MODEL_UNSET ? (double)cap : output,
    };
}

// ---- After it -----------------------------------------------------------------------------------

struct amount estimate_used(const struct model *model, const struct limit_profile *profile,
                            double input_tokens, double cached_tokens, double output_tokens) {
    int64_t cap = model->options.max_tokens;
    return (struct amount){
        .calls = 1,
        .input = profile->charges_cached ? input_tokens : fmax(0, input_tokens - cached_tokens),
        .output = profile->charges_cap && cap != MODEL_UNSET ? (double)cap : output_tokens,
    };
}

// follow takes what the call after n others shows.
static void follow(struct shown *shown, double now, int n) {
    if (n == 0) {
        *shown = (struct shown){.usual = now, .most = now};
        return;
    }
    if (now > shown->usual) {
        shown->usual = n < FEW ? now : shown->usual * (1 + STEP);
    } else {
        shown->usual *= 1 - STEP * (1 - PART) / PART;
    }
    shown->most += (now - shown->most) * FADING;
    shown->most = fmax(shown->most, now);
}

void estimate_learn(struct estimate *e, const struct estimate_call *call, double input_tokens,
                    double output_tokens) {
    struct learned *l = e->learned;
    if (input_tokens <= 0 || call->n_records == 0) {
        return;
    }
    follow(&l->tokens_per_byte, input_tokens / bytes_of(e, call), l->n);
    follow(&l->output_per_record, output_tokens / (double)call->n_records, l->n);
    l->n += l->n < FEW;
}
