// Answers in lines: response.format delimited.
#include "tests/fuzz/parse_case.h"

static const char *const models[] = {
    CASE_MODEL("a STRING, b INT", ", 'batch.size' = '4', 'response.format' = 'delimited'"),
    CASE_MODEL("a STRING", ", 'batch.size' = '4', 'response.format' = 'delimited', 'response.delimiter' "
                           "= '\\t', 'response.index.field' = '1', 'response.value.field' = '2'"),
    CASE_MODEL("a STRING, b INT", ", 'batch.size' = '4', 'response.format' = 'delimited', "
                                  "'response.delimiter' = '||', 'response.quote' = '`'"),
};

CASE_TARGET(models)
