// serve: the simulated provider over HTTP: chat completions, models, health; and its billing
// ledger.
#ifndef HEADRACE_TESTS_PROVIDER_SERVE_H
#define HEADRACE_TESTS_PROVIDER_SERVE_H

#include "common/error.h"
#include "common/options.h"

#define OPTION OPTION_FIELD
struct provider_options {
#include "tests/provider/options.def"
};
#undef OPTION

struct loop;
struct serve;

// serve_new listens on options->bind. options must outlive it. Returns NULL with why (port in use,
// a ledger that cannot be written, an unknown fault).
struct serve *serve_new(struct loop *loop, const struct provider_options *options,
                        struct error *why);
// serve_free closes all connections and writes the ledger's rest.
void serve_free(struct serve *serve);
int serve_port(const struct serve *serve);

#endif
