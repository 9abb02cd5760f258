// Anthropic's messages.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'anthropic', 'max.tokens' = '99'",
};

CASE_TARGET(models)
