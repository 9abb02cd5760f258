// Any bytes as a limits file: a refusal says why and where, and what is read only ever lowers a limit.
#include "common/limits_file.h"
#include "common/model.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {(const char *)data, size};
    struct limits_file *limits = NULL;
    struct error why = {0};
    if (limits_file_parse(text, "fuzz", &limits, &why) != 0) {
        if (limits != NULL || strncmp(why.text, "fuzz:", 5) != 0) {
            abort();
        }
        return 0;
    }
    char model[17];
    (void)slice_copy(slice_sub(text, size / 2, 16), model, sizeof(model));
    struct model_options o = {.provider = "openai", .api_key = "${OPENAI_API_KEY}", .model = model,
                              .limit_rpm = 50, .limit_tpm = MODEL_UNSET, .limit_profile = "window"};
    const struct limits_row *row = limits_file_find(limits, &o);
    if (row != NULL) {
        limits_row_apply(row, &o);
        if (row->pool[0] == '\0' || o.limit_rpm < 1 || o.limit_rpm > 50 ||
            (o.limit_tpm != MODEL_UNSET && o.limit_tpm != row->tpm)) {
            abort();
        }
    }
    limits_file_free(limits);
    return 0;
}
