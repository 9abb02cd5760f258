// Gemini's generateContent and batchEmbedContents.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'gemini'",
    "'provider' = 'gemini', 'task' = 'embedding', 'dimensions' = '2'",
};

CASE_TARGET(models)
