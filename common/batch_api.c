// The rows of batch_apis.def.
#include "common/batch_api.h"

#define MB INT64_C(1000000)

static const struct batch_api rows[] = {
#define BATCH_API(ID, name, rows, bytes, inline, hours, TAG) \
    {PROVIDER_##ID, #name, rows, bytes, inline, hours, BATCH_##TAG},
#include "common/batch_apis.def"
#undef BATCH_API
};

const struct batch_api *batch_api_of(enum provider_id id) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].provider == id) {
            return &rows[i];
        }
    }
    return NULL;
}
