// Embeddings: numbers or base64, matched by index.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'openai', 'task' = 'embedding', 'dimensions' = '2'",
    "'provider' = 'vllm', 'endpoint' = 'http://h', 'task' = 'embedding'",
};

CASE_TARGET(models)
