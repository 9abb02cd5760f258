// Azure OpenAI, by dated URLs (/openai/deployments/NAME/...?api-version=...) and by v1 ones. A token of
// Entra stands in option 'headers' as Authorization; the key of a resource in 'api_key'.
// Source: learn.microsoft.com/azure/ai-foundry/openai, 2026-11.
#include "worker/openai.h"

static int headers(const struct model *model, struct buf *lines) {
    if (model->options.api_key[0] == '\0') {
        return 0;
    }
    return buf_addf(lines, "api-key: %s\n", model->options.api_key);
}

const struct provider provider_azure_openai = {
    .headers = headers,
    .limits = LIMITS_AZURE,
    .dialects = {[API_CHAT] = &openai_chat,
                 [API_RESPONSES] = &openai_responses,
                 [API_EMBEDDINGS] = &openai_embeddings},
};
