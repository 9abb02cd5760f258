// estimate: how many tokens a call will use, learned from what calls of its model have used. Limits reserve
// what 95 of 100 calls stay under; money reserves what hardly a call exceeds.
#ifndef HEADRACE_COORDINATOR_ESTIMATE_H
#define HEADRACE_COORDINATOR_ESTIMATE_H

#include "common/limit_profile.h"
#include "common/model.h"
#include "common/prices.h"
#include "coordinator/limiter.h"

#include <uthash.h>

// A number that each call shows.
struct shown {
    double usual; // 95 of 100 calls show no more
    double most;  // the largest, slowly forgotten
};

// What the calls of one model have taught; in core->learned.
struct learned {
    char *model;
    int n;                          // calls learned from, as far as it matters; 0: what follows is a guess
    struct shown tokens_per_byte;   // of a prompt
    struct shown output_per_record; // tokens of an answer
    UT_hash_handle hh;              // by model
};

// Estimates for the calls of one group.
struct estimate {
    struct learned *learned;  // of its model; shared with the model's other groups
    double prompt_bytes;      // of the templates, which every call carries
    const struct tokenizer *tokenizer; // NULL: bytes are counted
};

// What a call consists of.
struct estimate_call {
    size_t n_records;
    size_t n_bytes; // of the records' values; with a tokenizer, TOKENS_BYTES for each of their tokens
};

// estimate_init finds or makes in all what is known of the model, and reads its tokenizer.file; one that
// cannot be read is logged, and bytes are counted.
void estimate_init(struct estimate *e, struct learned **all, const struct model *model);
// estimate_forget frees all; no estimate may be used after that.
void estimate_forget(struct learned **all);

// estimate_bytes says what a text adds to n_bytes.
size_t estimate_bytes(const struct estimate *e, struct slice text);
// estimate_of returns what to reserve of the limits for a call.
struct amount estimate_of(const struct estimate *e, const struct model *model,
                          const struct limit_profile *profile, const struct estimate_call *call);
// estimate_most returns what a call is charged for at the very most, as far as is known: max.tokens when it
// is given, and the templates as if they were written to a cache.
struct price_usage estimate_most(const struct estimate *e, const struct model *model,
                                 const struct estimate_call *call);
// estimate_used returns what a call was charged whose usage the provider told.
struct amount estimate_used(const struct model *model, const struct limit_profile *profile,
                            double input_tokens, double cached_tokens, double output_tokens);
// estimate_learn takes the usage of an answered call.
void estimate_learn(struct estimate *e, const struct estimate_call *call, double input_tokens,
                    double output_tokens);

#endif
