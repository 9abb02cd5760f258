// llama.cpp's server. 503 while the model loads costs nothing: the pool waits.
// Source: github.com/ggml-org/llama.cpp, tools/server/README.md, 2026-11.
#include "worker/openai.h"

const struct provider provider_llama_cpp = {
    .headers = openai_bearer,
    .limits = LIMITS_NONE,
    .dialects = {[API_CHAT] = &openai_chat,
                 [API_RESPONSES] = &openai_responses,
                 [API_EMBEDDINGS] = &openai_embeddings},
};
