// openai: what is sent and how an answer is read, of chat completions and of responses.
#include "provider_case.h"

#define CHAT ", 'endpoint' = 'http://127.0.0.1:1/'"
#define RESPONSES ", 'endpoint' = 'http://127.0.0.1:1/v1/responses'"

// ---- Chat completions ---------------------------------------------------------------------------

static void a_good_answer_is_read_whole(void **state) {
    struct statements list = case_model("openai", CHAT);
    struct answer answer = {0};
    case_read(list.items[0].model, 200,
              "{\"id\":\"c\",\"model\":\"x-2026\",\"service_tier\":\"flex\",\"choices\":[{\"index\":0,"
              "\"finish_reason\":\"length\",\"message\":{\"content\":\"abc\",\"refusal\":null}}],\"usage\":{"
              "\"prompt_tokens\":41,\"completion_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":32,"
              "\"cache_write_tokens\":5},\"completion_tokens_details\":{\"reasoning_tokens\":4}}}",
              &answer);
    assert_int_equal(answer.outcome, OUTCOME_OK);
    assert_true(slice_is(answer.text, "abc"));
    assert_int_equal(answer.finish, FINISH_LENGTH);
    assert_true(answer.usage_known);
    assert_int_equal(answer.input_tokens, 41);
    assert_int_equal(answer.cached_tokens, 32);
    assert_int_equal(answer.cache_write_tokens, 5);
    assert_int_equal(answer.output_tokens, 9);
    assert_int_equal(answer.reasoning_tokens, 4);
    assert_string_equal(answer.served_model, "x-2026");
    assert_string_equal(answer.service_tier, "flex");
    answer_clear(&answer);
    statements_free(&list);
}

static void usage_that_is_null_is_not_known(void **state) {
    struct statements list = case_model("openai", CHAT);
    struct answer answer = {0};
    case_read(list.items[0].model, 200,
              "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"ab\"},{\"type\":\"text\","
              "\"text\":\"c\"}]}}],\"usage\":{\"prompt_tokens\":null}}",
              &answer);
    assert_int_equal(answer.outcome, OUTCOME_OK);
    assert_true(slice_is(answer.text, "abc"));
    assert_int_equal(answer.finish, FINISH_STOP);
    assert_false(answer.usage_known);
    answer_clear(&answer);
    statements_free(&list);
}

static const struct request_case chat_requests[] = {
    {"the plain request", ", 'endpoint' = 'http://127.0.0.1:1/'", false,
     "{\"model\":\"x\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\","
     "\"content\":\"a \\\"b\\\"\"}]}", NULL},
    {"numbers are passed on", ", 'endpoint' = 'http://127.0.0.1:1/', 'temperature' = '0', 'top.p' = '0.5', 'seed' = '7'",
     false, NULL, "],\"temperature\":0,\"top_p\":0.5,\"seed\":7}"},
    {"most tokens for a server of one's own", ", 'endpoint' = 'http://127.0.0.1:1/', 'max.tokens' = '9'", false, NULL,
     "\"max_tokens\":9"},
    {"most tokens for openai itself", ", 'endpoint' = 'https://api.openai.com/v1/chat/completions', 'max.tokens' = '9'",
     false, NULL, "\"max_completion_tokens\":9"},
    {"most tokens for azure", ", 'endpoint' = 'https://a.openai.azure.com/openai/v1/chat/completions', 'max.tokens' = '9'",
     false, NULL, "\"max_completion_tokens\":9"},
    {"most tokens for a host that only looks so", ", 'endpoint' = 'https://api.openai.com.example.org/', 'max.tokens' = '9'",
     false, NULL, "\"max_tokens\":9"},
    {"the field of most tokens by option", ", 'endpoint' = 'http://127.0.0.1:1/', 'max.tokens' = '9', 'max.tokens.field' = 'max_completion_tokens'", false, NULL,
     "\"max_completion_tokens\":9"},
    {"stop as an array", ", 'endpoint' = 'http://127.0.0.1:1/', 'stop' = '[\"a\",\"b\"]'", false, NULL,
     "\"stop\":[\"a\",\"b\"]"},
    {"params win over what is there", ", 'endpoint' = 'http://127.0.0.1:1/', 'temperature' = '1', 'params' = '{\"temperature\":0.5,\"store\":false}'", false, NULL,
     "\"temperature\":0.5,\"store\":false}"},
    {"null in params takes out what is there, and is not sent itself", ", 'endpoint' = 'http://127.0.0.1:1/', 'temperature' = '1', 'params' = '{\"temperature\":null,\"a\":{\"b\":null,\"c\":1},\"d\":null}'",
     false, NULL, "}],\"a\":{\"c\":1}}", "null"},
    {"an array of params stands for the whole one", ", 'endpoint' = 'http://127.0.0.1:1/', 'stop' = '[\"a\",\"b\"]', 'params' = '{\"stop\":[\"c\"]}'",
     false, NULL, "\"stop\":[\"c\"]}", NULL},
    {"a schema is wrapped", ", 'endpoint' = 'http://127.0.0.1:1/'", true, NULL,
     "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,"
     "\"schema\":{\"type\":\"object\"}}}"},
};

static void requests_carry_the_options(void **state) {
    case_requests("openai", chat_requests, sizeof(chat_requests) / sizeof(chat_requests[0]));
}

// ---- Responses ----------------------------------------------------------------------------------

static const struct request_case responses_requests[] = {
    {"the plain request", RESPONSES, false,
     "{\"model\":\"x\",\"instructions\":\"S\",\"input\":\"a \\\"b\\\"\",\"store\":false}", NULL, NULL},
    {"numbers are passed on", RESPONSES ", 'temperature' = '0', 'top.p' = '0.5', 'max.tokens' = '99'", false,
     NULL, "\"temperature\":0,\"top_p\":0.5,\"max_output_tokens\":99}", "max_completion_tokens"},
    {"params win over what is there", RESPONSES ", 'params' = '{\"store\":true,\"reasoning\":{\"effort\":\"low\"}}'",
     false, NULL, "\"store\":true,\"reasoning\":{\"effort\":\"low\"}}", NULL},
    {"params go into objects that are there", RESPONSES ", 'params' = '{\"text\":{\"verbosity\":\"low\"}}'", true, NULL,
     "\"schema\":{\"type\":\"object\"}},\"verbosity\":\"low\"}}", NULL},
    {"a schema stands flat under text.format", RESPONSES, true, NULL,
     "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"answer\",\"strict\":true,\"schema\":{\"type\":"
     "\"object\"}}}", "response_format"},
};

static void responses_requests_carry_the_options(void **state) {
    case_requests("openai", responses_requests,
                  sizeof(responses_requests) / sizeof(responses_requests[0]));
}

#define MESSAGE(part) "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[" part "]}"
#define TEXT(text) "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[]}"

static const struct answer_case responses_answers[] = {
    {"text behind reasoning", 200, "{\"status\":\"completed\",\"error\":null,\"output\":[{\"type\":\"reasoning\",\"summary\":[]}," MESSAGE(TEXT("ab") "," TEXT("c")) "]}", OUTCOME_OK, "abc"},
    {"text of two messages", 200, "{\"status\":\"completed\",\"output\":[" MESSAGE(TEXT("a")) "," MESSAGE(TEXT("b")) "]}", OUTCOME_OK, "ab"},
    {"an item of a type that nobody knows", 200, "{\"status\":\"completed\",\"output\":[{\"type\":\"dream\",\"content\":[" TEXT("no") "]}," MESSAGE(TEXT("a")) "]}", OUTCOME_OK, "a"},
    {"the token limit in the middle", 200, "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[" MESSAGE(TEXT("[1,")) "]}", OUTCOME_OK, "[1,"},
    {"the token limit before any text", 200, "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[{\"type\":\"reasoning\"}]}", OUTCOME_TRUNCATED, NULL},
    {"the filter", 200, "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"},\"output\":[" MESSAGE(TEXT("a")) "]}", OUTCOME_FILTERED, NULL},
    {"a refusal", 200, "{\"status\":\"completed\",\"output\":[" MESSAGE("{\"type\":\"refusal\",\"refusal\":\"no\"}") "]}", OUTCOME_FILTERED, NULL},
    {"200 that failed", 200, "{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"x\"},\"output\":[]}", OUTCOME_TRANSIENT, NULL},
    {"200 that failed for the rate limit", 200, "{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"},\"output\":[]}", OUTCOME_RATE_LIMITED, NULL},
    {"200 that failed for the policy", 200, "{\"status\":\"failed\",\"error\":{\"code\":\"invalid_prompt\",\"message\":\"against our usage policy\"}}", OUTCOME_FILTERED, NULL},
    {"200 that is still queued", 200, "{\"status\":\"queued\",\"output\":[]}", OUTCOME_TRANSIENT, NULL},
    {"200 without output", 200, "{\"status\":\"completed\"}", OUTCOME_TRANSIENT, NULL},
    {"a tool instead of text", 200, "{\"status\":\"completed\",\"output\":[{\"type\":\"function_call\"}]}", OUTCOME_UNREADABLE, NULL},
    {"members of other types", 200, "{\"status\":7,\"output\":[3,null,{\"type\":\"message\",\"content\":{}},{\"type\":\"message\",\"content\":[7,{\"type\":\"output_text\",\"text\":8}]}]}", OUTCOME_OK, ""},
};

static void responses_are_read_by_type(void **state) {
    case_answers("openai", RESPONSES, responses_answers,
                 sizeof(responses_answers) / sizeof(responses_answers[0]));
}

static void usage_of_responses(void **state) {
    struct statements list = case_model("openai", RESPONSES);
    struct answer answer = {0};
    case_read(list.items[0].model, 200,
              "{\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":10,\"output_tokens\":7,"
              "\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens_details\":{\"reasoning_tokens\":"
              "900}}}",
              &answer);
    assert_int_equal(answer.input_tokens, 10);
    assert_int_equal(answer.cached_tokens, 3);
    assert_int_equal(answer.output_tokens, 7);
    assert_int_equal(answer.reasoning_tokens, 0); // more than all of it is not believed
    answer_clear(&answer);
    statements_free(&list);
}

// ---- Both ---------------------------------------------------------------------------------------

static void a_schema_goes_where_it_is_enforced(void **state) {
    static const struct {
        const char *with;
        bool want;
    } cases[] = {
        {"", true},
        {", 'endpoint' = 'https://api.openai.com/v1/chat/completions'", true},
        {", 'endpoint' = 'https://api.openai.com/v1/responses'", true},
        {CHAT, false},
        {CHAT ", 'structured.output' = 'required'", true},
        {", 'structured.output' = 'off'", false},
        {", 'response.path' = '$.a[*]'", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct statements list = case_model("openai", cases[i].with);
        assert_int_equal(provider_schema(list.items[0].model), cases[i].want);
        statements_free(&list);
    }
}

static void credentials_stand_by_name(void **state) {
    case_headers("openai", CHAT, "");
    case_headers("openai", CHAT ", 'api_key' = '${K}'", "Authorization: Bearer ${K}\n");
    case_headers("openai", ", 'endpoint' = 'https://r.openai.azure.com/openai/v1', 'api_key' = '${K}'",
                 "api-key: ${K}\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_answer_is_read_whole),
        cmocka_unit_test(usage_that_is_null_is_not_known),
        cmocka_unit_test(requests_carry_the_options),
        cmocka_unit_test(responses_requests_carry_the_options),
        cmocka_unit_test(responses_are_read_by_type),
        cmocka_unit_test(usage_of_responses),
        cmocka_unit_test(a_schema_goes_where_it_is_enforced),
        cmocka_unit_test(credentials_stand_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
