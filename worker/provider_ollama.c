// Ollama, by its OpenAI endpoints. It cuts a prompt that is longer than its context without a word:
// openai_chat.c notices. max_completion_tokens would be ignored: the field is max_tokens.
// Source: github.com/ollama/ollama, docs/openai.md, 2026-11.
#include "worker/openai.h"

const struct provider provider_ollama = {
    .headers = openai_bearer,
    .limits = LIMITS_NONE,
    .dialects = {[API_CHAT] = &openai_chat,
                 [API_RESPONSES] = &openai_responses,
                 [API_EMBEDDINGS] = &openai_embeddings},
};
