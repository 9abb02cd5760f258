// run_model: which model a `headrace run` asks.
#ifndef HEADRACE_CLIENT_RUN_MODEL_H
#define HEADRACE_CLIENT_RUN_MODEL_H

#include "client/run.h"

// run_model_load reads the model that run->options name, and fills in statements, model, create,
// overrides, asked and secret_names, which the caller frees, also after an error. With --dry-run neither
// secrets nor the price of a budget are asked for. Returns 0 or a negative errno with why.
MUST_CHECK int run_model_load(struct run *run, struct error *why);

#endif
