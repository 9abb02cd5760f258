// Whether two revisions of a model ask the same.
#include "common/model_same.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const char first[] =
    "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
    "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'template.y'='z', 'top.p'='0.5')";

static const struct {
    const char *name, *sql;
    bool same;
} cases[] = {
    {"the same text", first, true},
    {"another endpoint, credential, timeout, limit, price and budget",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') COMMENT 'mended' WITH ("
     "'provider'='openai', 'endpoint'='https://b.example/v1/chat/completions', 'model'='x', 'api_key'='${B}', "
     "'template.y'='z', 'top.p'='0.5', 'request.timeout.ms'='5', 'limit.rpm'='7', 'price.input'='1', "
     "'budget.usd.day'='3', 'headers'='{\"a\":\"b\"}', 'http2'='on')", true},
    {"a default written out",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'template.y'='z', 'top.p'='0.5', "
     "'batch.size'='1')", true},
    {"another of the provider's models",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='w', 'api_key'='${A}', 'template.y'='z', 'top.p'='0.5')",
     false},
    {"another parameter",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'template.y'='z')", false},
    {"another partial",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'template.y'='Z', 'top.p'='0.5')",
     false},
    {"one partial less",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'top.p'='0.5')", false},
    {"another column",
     "CREATE MODEL m INPUT (words STRING) OUTPUT (label STRING COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'template.y'='z', 'top.p'='0.5')",
     false},
    {"another type",
     "CREATE MODEL m INPUT (text STRING) OUTPUT (label STRING NOT NULL COMMENT 'one word') WITH ('provider'='openai', "
     "'endpoint'='https://a.example/v1/chat/completions', 'model'='x', 'api_key'='${A}', 'template.y'='z', 'top.p'='0.5')",
     false},
};

static void parse(const char *sql, struct statements *out) {
    struct error why = {0};
    if (model_sql_parse(slice_of(sql), "test", out, &why) != 0) {
        fail_msg("%s", why.text);
    }
}

static void test_what_makes_a_revision_ask_something_else(void **state) {
    struct statements a, b;
    parse(first, &a);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        parse(cases[i].sql, &b);
        if (model_asks_same(a.items[0].model, b.items[0].model) != cases[i].same ||
            model_asks_same(b.items[0].model, a.items[0].model) != cases[i].same) {
            fail_msg("%s: want %s", cases[i].name, cases[i].same ? "the same" : "not the same");
        }
        statements_free(&b);
    }
    statements_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_makes_a_revision_ask_something_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
