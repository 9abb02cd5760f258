// OpenAI, and every endpoint that speaks its APIs and has no row of its own. Called through the table
// of providers.
#include "worker/openai.h"

// A model whose endpoint is Azure's gets Azure's header.
static int headers(const struct model *model, struct buf *lines) {
    if (provider_is_azure(model) && model->options.api_key[0] != '\0') {
        return buf_addf(lines, "api-key: %s\n", model->options.api_key);
    }
    return openai_bearer(model, lines);
}

const struct provider provider_openai = {
    .headers = headers,
    .limits = LIMITS_OPENAI,
    .dialects = {[API_CHAT] = &openai_chat,
                 [API_RESPONSES] = &openai_responses,
                 [API_EMBEDDINGS] = &openai_embeddings},
};
