// estimate: how many tokens a call will be charged, learned from what calls before it were.
#ifndef HEADRACE_COORDINATOR_ESTIMATE_H
#define HEADRACE_COORDINATOR_ESTIMATE_H

#include "common/limit_profile.h"
#include "common/model.h"
#include "coordinator/limiter.h"

struct estimate {
    double tokens_per_byte;   // of a prompt; 95 of 100 calls have no more
    double output_per_record; // likewise
    double prompt_bytes;      // of the templates, which every call carries
    int n;                    // calls learned from
    const struct tokenizer *tokenizer; // NULL: bytes are counted
};

// What a call consists of.
struct estimate_call {
    size_t n_records;
    size_t n_bytes; // of the records' values; with a tokenizer, TOKENS_BYTES for each of their tokens
};

// estimate_bytes says what a text adds to n_bytes.
size_t estimate_bytes(const struct estimate *e, struct slice text);
// estimate_init reads the model's tokenizer.file; one that cannot be read is logged, and bytes are counted.
void estimate_init(struct estimate *e, const struct model *model);
// estimate_of returns what to reserve for a call.
struct amount estimate_of(const struct estimate *e, const struct model *model,
                          const struct limit_profile *profile, const struct estimate_call *call);
// estimate_used returns what a call was charged whose usage the provider told.
struct amount estimate_used(const struct model *model, const struct limit_profile *profile,
                            double input_tokens, double cached_tokens, double output_tokens);
// estimate_learn takes the usage of an answered call.
void estimate_learn(struct estimate *e, const struct estimate_call *call, double input_tokens,
                    double output_tokens);

#endif
