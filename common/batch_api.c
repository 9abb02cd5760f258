// The rows of batch_apis.def.
#include "common/batch_api.h"
#include "common/model.h"

#define MB INT64_C(1000000)

static const struct batch_api rows[] = {
#define BATCH_API(ID, name, rows, bytes, inline, hours, TAG) \
    {PROVIDER_##ID, rows, bytes, inline, hours, BATCH_##TAG},
#include "common/batch_apis.def"
#undef BATCH_API
};

const struct batch_api *batch_api_of(const struct model *model) {
    enum provider_id id = model->provider->id;
    if (id == PROVIDER_OPENAI && provider_is_azure(model)) {
        id = PROVIDER_AZURE_OPENAI;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].provider == id) {
            return &rows[i];
        }
    }
    return NULL;
}
