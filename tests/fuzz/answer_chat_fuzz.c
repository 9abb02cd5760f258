// Chat completions, of OpenAI and of those who speak the same.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'openai', 'endpoint' = 'http://h/v1/chat/completions'",
    "'provider' = 'azure-openai', 'endpoint' = 'http://h'",
    "'provider' = 'vllm', 'endpoint' = 'http://h'",
    "'provider' = 'llama.cpp', 'endpoint' = 'http://h'",
};

CASE_TARGET(models)
