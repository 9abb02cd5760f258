// Answers in JSON, or in what is almost JSON, and plain ones: response.format json and text.
#include "tests/fuzz/parse_case.h"

static const char *const models[] = {
    CASE_MODEL("sentiment STRING", ", 'batch.size' = '4'"),
    CASE_MODEL("a INT, b DOUBLE NOT NULL, c BOOLEAN",
               ", 'batch.size' = '4', 'response.path' = '$..items[*]', 'response.best.effort' = 'on'"),
    CASE_MODEL("sentiment STRING", ""),
    CASE_MODEL("d DECIMAL(6, 2), t TIMESTAMP(3), e DATE, b BYTES, a ARRAY<INT NOT NULL>, m MAP<STRING, "
               "ROW<x TIMESTAMP_LTZ>>",
               ", 'batch.size' = '4'"),
    CASE_MODEL("sentiment STRING", ", 'response.format' = 'text'"),
};

CASE_TARGET(models)
