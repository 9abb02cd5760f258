// Answers of any endpoint, found by paths.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'http', 'endpoint' = 'http://h', 'request.template' = '{{records}}', 'answer.path' = '$..a', "
    "'usage.input.path' = '$..i', 'usage.output.path' = '$.o'",
    "'provider' = 'http', 'endpoint' = 'http://h', 'request.template' = '[{{prompt}}]', 'answer.path' = '$'",
};

CASE_TARGET(models)
