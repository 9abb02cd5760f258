// Tensors of the Open Inference Protocol.
#include "tests/fuzz/answer_case.h"

static const char *const models[] = {
    "'provider' = 'kserve', 'endpoint' = 'http://h'",
    "'provider' = 'kserve', 'endpoint' = 'http://h', 'tensor.flat' = 'on'",
};

CASE_TARGET(models)
