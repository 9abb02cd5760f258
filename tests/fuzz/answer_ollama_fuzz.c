// Ollama's chat completions, whose usage tells of prompts that were cut.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'ollama'",
};

CASE_TARGET(models)
