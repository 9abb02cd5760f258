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
    int64_t rows, bytes, inline_bytes;
    int64_t hours; // 0: a job is never given up
    enum batch_tag tag;
};

// batch_api_of returns the row for a checked model's jobs, or NULL: there is no batch API where its calls go.
const struct batch_api *batch_api_of(const struct model *model);

#endif
