// batch_api: what is known of each provider's batch API without calling it: its limits, how its jobs
// are found again. The facts of batch_apis.def.
#ifndef HEADRACE_COMMON_BATCH_API_H
#define HEADRACE_COMMON_BATCH_API_H

#include "common/providers.h"

#include <stdbool.h>
#include <stdint.h>

enum batch_tag { BATCH_NAMED, BATCH_UNNAMED };

struct batch_api {
    enum provider_id provider;
    const char *name;
    int64_t rows, bytes, inline_bytes;
    int64_t hours; // 0: a job is never given up
    enum batch_tag tag;
};

// batch_api_of returns a provider's row, or NULL: it has no batch API.
const struct batch_api *batch_api_of(enum provider_id id);

#endif
