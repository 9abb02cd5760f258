// Which batch API the jobs of a model go to, and that its facts can be kept.
#include "common/batch_api.h"
#include "common/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define NONE N_PROVIDERS

static const struct {
    const char *says, *provider, *endpoint;
    enum provider_id want; // whose API; NONE: there is none
} cases[] = {
    {"OpenAI", "openai", "https://api.openai.com/v1", PROVIDER_OPENAI},
    {"a server that speaks like it", "openai", "http://127.0.0.1:1/v1", PROVIDER_OPENAI},
    {"Azure by its name", "azure-openai", "https://me.openai.azure.com", PROVIDER_AZURE_OPENAI},
    {"Azure behind a gateway", "azure-openai", "https://gateway.example/openai/v1", PROVIDER_AZURE_OPENAI},
    {"Azure by the endpoint's host", "openai", "https://me.OpenAI.azure.com/openai/v1", PROVIDER_AZURE_OPENAI},
    {"a host that only ends like it", "openai", "https://evilopenai.azure.com.example/v1", PROVIDER_OPENAI},
    {"Anthropic", "anthropic", "https://api.anthropic.com", PROVIDER_ANTHROPIC},
    {"Gemini", "gemini", "https://generativelanguage.googleapis.com", PROVIDER_GEMINI},
    {"a server of one's own", "vllm", "http://127.0.0.1:1", NONE},
    {"a server of one's own at Azure", "vllm", "https://me.openai.azure.com", NONE},
    {"tensors", "kserve", "http://127.0.0.1:1", NONE},
};

static void a_model_has_the_api_of_where_its_calls_go(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char sql[512];
        struct statements list = {0};
        struct error why = {0};
        snprintf(sql, sizeof(sql),
                 "CREATE MODEL m INPUT (t STRING) OUTPUT (a STRING) WITH ('provider' = '%s', 'endpoint' = '%s', "
                 "'model' = 'x'%s)", cases[i].provider, cases[i].endpoint,
                 cases[i].want == PROVIDER_ANTHROPIC ? ", 'max.tokens' = '9'" : "");
        if (model_sql_parse(slice_of(sql), "case", &list, &why) != 0) {
            fail_msg("%s: %s", cases[i].says, why.text);
        }
        const struct batch_api *api = batch_api_of(list.items[0].model);
        if ((api != NULL ? api->provider : NONE) != cases[i].want) {
            fail_msg("%s: got %d, want %d", cases[i].says, api != NULL ? (int)api->provider : -1, (int)cases[i].want);
        }
        // What goes with a request must fit into what the API takes, and a job of none is no job.
        assert_true(api == NULL || (api->rows > 0 && api->bytes > 0 && api->inline_bytes <= api->bytes));
        statements_free(&list);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_model_has_the_api_of_where_its_calls_go)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
