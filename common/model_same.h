// model_same: what a change of a model changes.
#ifndef HEADRACE_COMMON_MODEL_SAME_H
#define HEADRACE_COMMON_MODEL_SAME_H

#include "common/model.h"

// model_asks_same says whether two revisions ask the same of the same provider's model, and read the answers the
// same way: they differ at most in how the provider is reached (endpoint, api_key, headers, http2, timeouts), in
// limits, budgets, prices and tokenizer, and in comments. False when memory for the comparison is not to be had.
bool model_asks_same(const struct model *a, const struct model *b);

#endif
