// prices: list prices per million tokens, and what a call costs.
//
// A price file is CSV. Its first line names the columns, in any order; lines that are empty or begin
// with # are skipped. An empty cell is "not known"; quotes are not needed and not understood.
//
//   provider,model,as_of,input,cached_input,cache_write,output,batch,call,long_at,long_in,long_out
//   openai,gpt-5.4-mini,2026-11-20,0.75,0.075,,4.5,0.5,,,,
//   *,llama-*,2026-11-20,0,,,0,,,,,
//
//   provider, model  needed; '*' alone is any, '*' at the end of a model any name that begins so
//   as_of            needed: YYYY-MM-DD
//   input … output   USD per 1,000,000 tokens; cached_input and cache_write cost as input when empty
//   batch            the provider's batch mode costs so much of that; 1 when empty
//   call             USD per call, beside the tokens. A row needs input or call
//   long_at          input tokens above which the whole call costs long_in and long_out times as much
#ifndef HEADRACE_COMMON_PRICES_H
#define HEADRACE_COMMON_PRICES_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdint.h>

struct model_options;
struct prices;

// What is not known is negative, except where it says otherwise.
struct price {
    const char *provider, *model; // of the row that was found; borrowed from its table
    double input, cached, write, output; // USD per 1,000,000 tokens
    double batch;                 // factor of the provider's batch mode; 1: none
    double call;                  // USD per call; 0: none
    int64_t long_at;              // input tokens above which the multipliers hold; 0: never
    double long_in, long_out;     // multipliers of the whole call past long_at
    const char *as_of;            // YYYY-MM-DD; "": the model's own options say it
};

// What a call used, in tokens. cached and write are parts of input.
struct price_usage {
    double input, cached, write, output;
};

// prices_parse reads a price file's text; file stands in sentences: "prices.csv:3: input: got 'x', want
// USD per million tokens, 0 to 1000000". Returns 0 with *out (free with prices_free), or -EINVAL with why.
MUST_CHECK int prices_parse(struct slice text, const char *file, struct prices **out, struct error *why);
// prices_load does so for a file; "" is no file, and *out is NULL.
MUST_CHECK int prices_load(const char *file, struct prices **out, struct error *why);
void prices_free(struct prices *prices); // may be NULL

// prices_find looks a model up: in own rows (NULL: none), then in the built-in ones; each exactly, then
// without a date-like suffix (-YYYY-MM-DD, -YYYYMMDD, -latest), then by the longest pattern. A leading
// "models/" is dropped. Never by longest prefix. NULL: the price is not known, which is not 0.
const struct price *prices_find(const struct prices *own, struct slice provider, struct slice model);

// prices_of says what a model costs: its own price.* options over what prices_find finds. price.call
// without price.input stands for the whole. Returns false when it is not known.
MUST_CHECK bool prices_of(const struct prices *own, const struct model_options *o, struct price *price);

// price_cost returns USD for one call.
double price_cost(const struct price *price, const struct price_usage *usage);

#endif
