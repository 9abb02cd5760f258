// azure-openai, ollama, vllm and llama.cpp: where they differ from openai.
#include "provider_case.h"

#define AZURE ", 'endpoint' = 'https://r.openai.azure.com'"
#define DATED(version) \
    ", 'endpoint' = 'https://r.openai.azure.com/openai/deployments/d?api-version=" version "', 'max.tokens' = '99'"
#define SERVER ", 'endpoint' = 'http://h:1'"

static const struct request_case azure_requests[] = {
    {"v1 names the deployment and most tokens", AZURE ", 'max.tokens' = '99'", false, NULL,
     "\"max_completion_tokens\":99", NULL},
    {"a dated version that knows the field", DATED("2024-10-21"), false, NULL, "\"max_completion_tokens\":99", NULL},
    {"a preview that knows the field", DATED("2024-09-01-preview"), false, NULL, "\"max_completion_tokens\":99", NULL},
    {"a dated version before it", DATED("2024-06-01"), false, NULL, "\"max_tokens\":99", NULL},
};

static const struct request_case server_requests[] = {
    {"most tokens", SERVER ", 'max.tokens' = '99'", false, NULL, "\"max_tokens\":99", "max_completion_tokens"},
    {"the schema stands nested", SERVER, true, NULL,
     "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,\"schema\":{\"type\":\"object\"}}}", NULL},
    {"fields of its own by params", SERVER ", 'params' = '{\"top_k\":3,\"min_p\":0.1}'", false, NULL,
     "\"top_k\":3,\"min_p\":0.1}", NULL},
};

#define N(cases) (sizeof(cases) / sizeof(cases[0]))

static void requests_have_their_fields(void **state) {
    case_requests("azure-openai", azure_requests, N(azure_requests));
    case_requests("ollama", server_requests, N(server_requests));
    case_requests("vllm", server_requests, N(server_requests));
    case_requests("llama.cpp", server_requests, N(server_requests));
}

static void credentials(void **state) {
    case_headers("azure-openai", AZURE ", 'api_key' = '${K}'", "api-key: ${K}\n");
    case_headers("azure-openai", AZURE ", 'headers' = '{\"Authorization\":\"Bearer ${T}\"}'", "");
    case_headers("ollama", "", "");
    case_headers("vllm", SERVER ", 'api_key' = '${K}'", "Authorization: Bearer ${K}\n");
    case_headers("llama.cpp", SERVER ", 'api_key' = '${K}'", "Authorization: Bearer ${K}\n");
}

static void schemas_go_by_themselves(void **state) {
    static const struct {
        const char *provider, *with;
        bool want;
    } cases[] = {
        {"azure-openai", AZURE, true},
        {"ollama", "", true},
        {"vllm", SERVER, true},
        {"llama.cpp", SERVER, true},
        {"vllm", ", 'endpoint' = 'http://h/v1/responses'", false},
        {"vllm", ", 'endpoint' = 'http://h/v1/responses', 'structured.output' = 'required'", true},
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct statements list = case_model(cases[i].provider, cases[i].with);
        assert_int_equal(provider_schema(list.items[0].model), cases[i].want);
        statements_free(&list);
    }
}

static const struct answer_case answers[] = {
    {"reasoning beside the text", 200, "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":\"a\",\"reasoning_content\":\"hm\",\"reasoning\":\"hm\"}}]}", OUTCOME_OK, "a"},
    {"reasoning alone", 200, "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":null,\"reasoning_content\":\"hm\"}}]}", OUTCOME_OK, ""},
    {"reasoning that took all tokens", 200, "{\"choices\":[{\"finish_reason\":\"length\",\"message\":{\"content\":null,\"reasoning\":\"hm\"}}]}", OUTCOME_TRUNCATED, NULL},
    {"a finish reason that nobody knows", 200, "{\"choices\":[{\"finish_reason\":\"load\",\"message\":{\"content\":\"a\"}}]}", OUTCOME_OK, "a"},
    {"extra members", 200, "{\"timings\":{\"prompt_n\":3},\"choices\":[{\"message\":{\"content\":\"a\"}}],\"usage\":null}", OUTCOME_OK, "a"},
};

static void answers_are_read_alike(void **state) {
    case_answers("ollama", "", answers, N(answers));
    case_answers("vllm", SERVER, answers, N(answers));
    case_answers("llama.cpp", SERVER, answers, N(answers));
}

// A server that read 1,500 tokens of a prompt has, or has not, seen all of it.
static enum outcome outcome_of_prompt(const char *provider, size_t n_prompt) {
    struct statements list = case_model(provider, SERVER);
    struct reply reply = {.status = 200,
                          .body = SLICE_LIT("{\"choices\":[{\"message\":{\"content\":\"a\"}}],\"usage\":{"
                                            "\"prompt_tokens\":1500,\"completion_tokens\":1}}"),
                          .should_retry = NOT_GIVEN,
                          .model = list.items[0].model,
                          .count = 1,
                          .n_prompt = n_prompt};
    struct answer answer = {0};
    provider_dialect(reply.model)->read(&reply, &answer);
    enum outcome outcome = answer.outcome;
    answer_clear(&answer);
    statements_free(&list);
    return outcome;
}

static void a_prompt_cut_in_silence_is_noticed(void **state) {
    assert_int_equal(outcome_of_prompt("ollama", 7000), OUTCOME_OK);
    assert_int_equal(outcome_of_prompt("ollama", 12007), OUTCOME_OK);
    assert_int_equal(outcome_of_prompt("ollama", 12008), OUTCOME_TOO_LARGE);
    assert_int_equal(outcome_of_prompt("vllm", 100000), OUTCOME_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_have_their_fields),
        cmocka_unit_test(credentials),
        cmocka_unit_test(schemas_go_by_themselves),
        cmocka_unit_test(answers_are_read_alike),
        cmocka_unit_test(a_prompt_cut_in_silence_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
