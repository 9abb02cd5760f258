// Answers found by an expression: response.format regex.
#include "tests/fuzz/parse_case.h"

#define REGEX ", 'batch.size' = '4', 'response.format' = 'regex', 'batch.prompt.template' = 'x', "

static const char *const models[] = {
    CASE_MODEL("a STRING", REGEX "'response.pattern' = '(?<index>\\d+)[=:](?<a>\\w*)'"),
    CASE_MODEL("a STRING", REGEX "'response.pattern' = '^(?<index>\\d*)(?<a>(a+)+)$'"),
    CASE_MODEL("a INT, b STRING", REGEX "'response.pattern' = '(?s)<(?<index>.*?)>(?<a>\\d+)?(?<b>.*?)</'"),
};

CASE_TARGET(models)
