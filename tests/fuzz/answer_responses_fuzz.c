// Responses, of OpenAI and of those who speak the same.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'openai', 'endpoint' = 'http://h/v1/responses'",
    "'provider' = 'azure-openai', 'endpoint' = 'http://h/openai/v1/responses'",
    "'provider' = 'ollama', 'endpoint' = 'http://h/v1/responses'",
};

CASE_TARGET(models)
