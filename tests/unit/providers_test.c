// The facts of providers: names, which API an endpoint means, the URL that calls go to.
#include "common/providers.h"

#include "common/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *provider, *with, *url;
} urls[] = {
    // clang-format off
    {"openai", "", "https://api.openai.com/v1/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h:8000'", "http://h:8000/v1/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h:8000/'", "http://h:8000/v1/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h/v1'", "http://h/v1/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h/api/v3/'", "http://h/api/v3/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h/v1beta/openai'", "http://h/v1beta/openai/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h/v1/chat/completions'", "http://h/v1/chat/completions"},
    {"openai", ", 'endpoint' = 'http://h/v1/responses?a=b'", "http://h/v1/responses?a=b"},
    {"openai", ", 'endpoint' = 'http://h/v1?a=/v2'", "http://h/v1/chat/completions?a=/v2"},
    {"openai", ", 'endpoint' = 'http://h/a/path/of/its/own'", "http://h/a/path/of/its/own"},
    {"openai", ", 'endpoint' = 'https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21'", "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"},
    {"azure-openai", ", 'endpoint' = 'https://r.openai.azure.com'", "https://r.openai.azure.com/openai/v1/chat/completions"},
    {"azure-openai", ", 'endpoint' = 'https://r.openai.azure.com/openai/'", "https://r.openai.azure.com/openai/v1/chat/completions"},
    {"azure-openai", ", 'endpoint' = 'https://proxy.example/openai/v1'", "https://proxy.example/openai/v1/chat/completions"},
    {"azure-openai", ", 'endpoint' = 'https://r.openai.azure.com/openai/v1/responses?api-version=preview'", "https://r.openai.azure.com/openai/v1/responses?api-version=preview"},
    {"azure-openai", ", 'endpoint' = 'https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21'", "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"},
    {"azure-openai", ", 'endpoint' = 'https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21'", "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"},
    {"ollama", "", "http://127.0.0.1:11434/v1/chat/completions"},
    {"vllm", ", 'endpoint' = 'http://h:8000'", "http://h:8000/v1/chat/completions"},
    {"anthropic", "", "https://api.anthropic.com/v1/messages"},
    {"anthropic", ", 'endpoint' = 'http://h/v1/messages'", "http://h/v1/messages"},
    {"gemini", "", "https://generativelanguage.googleapis.com/v1beta/models/a%20b%2Fc:generateContent"},
    {"gemini", ", 'endpoint' = 'http://h'", "http://h/v1beta/models/a%20b%2Fc:generateContent"},
    {"gemini", ", 'endpoint' = 'http://h/v1beta/models'", "http://h/v1beta/models/a%20b%2Fc:generateContent"},
    {"gemini", ", 'endpoint' = 'http://h/v1beta/models/x:generateContent'", "http://h/v1beta/models/x:generateContent"},
    {"llama.cpp", ", 'endpoint' = 'http://[::1]:8080/v1'", "http://[::1]:8080/v1/chat/completions"},
    {"kserve", ", 'endpoint' = 'http://h:8000'", "http://h:8000/v2/models/a%20b%2Fc/infer"},
    {"kserve", ", 'endpoint' = 'http://h/v2/', 'tensor.version' = '1/2'", "http://h/v2/models/a%20b%2Fc/versions/1%2F2/infer"},
    {"kserve", ", 'endpoint' = 'http://h/p/v2/models', 'tensor.version' = '3'", "http://h/p/v2/models/a%20b%2Fc/versions/3/infer"},
    {"kserve", ", 'endpoint' = 'http://h/v2/models/m/infer?a'", "http://h/v2/models/m/infer?a"},
    {"http", ", 'endpoint' = 'http://h/v1/', 'request.template' = '{{records}}'", "http://h/v1/"},
    {"http", ", 'endpoint' = 'http://h', 'request.template' = '{{records}}'", "http://h"},
    // clang-format on
};

static void endpoints_become_urls(void **state) {
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct buf sql, url;
        buf_init(&sql, 65536);
        buf_init(&url, 8192);
        assert_int_equal(buf_addf(&sql,
                                  "CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = "
                                  "'%s', 'model' = 'a b/c', %s%s);",
                                  urls[i].provider,
                                  strcmp(urls[i].provider, "kserve") == 0 || strcmp(urls[i].provider, "http") == 0
                                      ? "'max.retries' = '9'" // they have no field for the other
                                      : "'max.tokens' = '99'",
                                  urls[i].with),
                         0);
        struct statements list = {0};
        struct error why = {0};
        if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
            fail_msg("%s: %s", urls[i].with, why.text);
        }
        assert_int_equal(provider_url(list.items[0].model, &url), 0);
        assert_string_equal(url.p, urls[i].url);
        statements_free(&list);
        buf_free(&sql);
        buf_free(&url);
    }
}

static void names_have_many_spellings(void **state) {
    static const struct {
        const char *name, *want;
    } cases[] = {{"openai", "openai"}, {"OpenAI", "openai"}, {"Open-AI", "openai"}, {"open ai", "openai"},
                 {"openai2", NULL},    {"opena", NULL},      {"", NULL},            {"-", NULL},
                 {"LlamaCpp", "llama.cpp"}, {"llama-cpp", "llama.cpp"}, {"azureopenai", "azure-openai"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct provider_facts *facts = provider_facts_find(slice_of(cases[i].name));
        assert_true((facts == NULL) == (cases[i].want == NULL));
        if (facts != NULL) {
            assert_string_equal(facts->name, cases[i].want);
            assert_ptr_equal(facts, provider_facts_of(facts->id));
        }
    }
}

static void hosts_are_cut_out(void **state) {
    static const char *const cases[][2] = {
        {"http://h", "h"},           {"https://a.b:80/c", "a.b"}, {"http://u:p@h:1", "h"},
        {"http://[::1]:80/x", "::1"}, {"http://h?x=@y", "h"},      {"", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice host = provider_host(cases[i][0]);
        if (!slice_is(host, cases[i][1])) {
            fail_msg("'%s': got '%.*s'", cases[i][0], SLICE_FMT(host));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_become_urls),
        cmocka_unit_test(names_have_many_spellings),
        cmocka_unit_test(hosts_are_cut_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
