// vLLM's OpenAI server. Errors have an integer code; there is no 429: overload shows as time.
// Source: docs.vllm.ai/en/latest/serving/openai_compatible_server, 2026-11.
#include "worker/openai.h"

const struct provider provider_vllm = {
    .headers = openai_bearer,
    .limits = LIMITS_NONE,
    .dialects = {[API_CHAT] = &openai_chat,
                 [API_RESPONSES] = &openai_responses,
                 [API_EMBEDDINGS] = &openai_embeddings},
};
