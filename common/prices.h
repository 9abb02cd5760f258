// prices: list prices per million tokens, and what a call cost.
#ifndef HEADRACE_COMMON_PRICES_H
#define HEADRACE_COMMON_PRICES_H

#include "common/bytes.h"

#include <stdint.h>

struct price {
    const char *provider, *model;
    double input, cached, output; // USD per 1,000,000 tokens
    int64_t long_at;              // input tokens above which the multipliers hold; 0: never
    double long_in, long_out;     // multipliers of the whole call past long_at
    const char *as_of;            // YYYY-MM-DD
};

// price_find looks a model up: exactly, then without a date-like suffix (-YYYY-MM-DD, -YYYYMMDD,
// -latest); a leading "models/" is dropped. Never by longest prefix. NULL: price unknown, not 0.
const struct price *price_find(struct slice provider, struct slice model);

// price_cost returns USD for one call; cached is the part of input that was read from a cache.
double price_cost(const struct price *price, double input, double cached, double output);

#endif
