// Answers in XML, or in what is almost XML: response.format xml.
#include "tests/fuzz/parse_case.h"

static const char *const models[] = {
    CASE_MODEL("a STRING, b INT", ", 'batch.size' = '4', 'response.format' = 'xml'"),
    CASE_MODEL("a STRING", ", 'batch.size' = '4', 'response.format' = 'xml', 'response.path' = '//*[a]'"),
    CASE_MODEL("a ARRAY<STRING>, r ROW<x INT, y ARRAY<DATE>>",
               ", 'batch.size' = '4', 'response.format' = 'xml'"),
    CASE_MODEL("a STRING", ", 'response.format' = 'xml'"),
};

CASE_TARGET(models)
