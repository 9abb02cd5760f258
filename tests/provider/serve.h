// serve: the simulated provider over HTTP: chat completions, models, health, control; and its billing
// ledger.
#ifndef HEADRACE_TESTS_PROVIDER_SERVE_H
#define HEADRACE_TESTS_PROVIDER_SERVE_H

#include "common/error.h"
#include "tests/provider/setup.h"

struct loop;
struct serve;

// serve_new listens on options->bind. options must outlive it. Returns NULL with why (port in use,
// a ledger that cannot be written, an option that means nothing).
struct serve *serve_new(struct loop *loop, const struct provider_options *options,
                        struct error *why);
// serve_free closes all connections and writes the ledger's rest.
void serve_free(struct serve *serve);
int serve_port(const struct serve *serve);

#endif
