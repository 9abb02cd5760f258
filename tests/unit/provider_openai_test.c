// openai: what is sent, how an answer is read, what each error becomes; and the forms of "later".
#include "worker/provider.h"

#include "common/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct error_case {
    const char *name;
    int status;
    const char *body;
    uint64_t delay_ms; // from headers
    int should_retry;  // header: 1, 0; NOT_GIVEN
    enum outcome want;
    uint64_t want_delay_ms;
};

#define NOT_GIVEN (-1)
#define ERROR(message, type, code) \
    "{\"error\":{\"message\":\"" message "\",\"type\":" type ",\"param\":null,\"code\":" code "}}"

static const struct error_case error_cases[] = {
    {"no credit left", 429, ERROR("You exceeded your current quota", "\"insufficient_quota\"", "\"insufficient_quota\""), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"no credit left, by type alone", 429, ERROR("x", "\"insufficient_quota\"", "null"), 2000, NOT_GIVEN, OUTCOME_QUOTA, 2000},
    {"billing is not active", 429, ERROR("x", "null", "\"billing_not_active\""), 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"one request is more than the limit", 429, ERROR("Request too large for gpt-x in organization y", "\"tokens\"", "\"rate_limit_exceeded\""), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"no flex capacity", 429, ERROR("Resource Unavailable", "null", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"the rate limit with a delay in the message", 429, ERROR("Rate limit reached. Please try again in 9.816s.", "\"tokens\"", "\"rate_limit_exceeded\""), 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 9816},
    {"the header's delay wins over the message's", 429, ERROR("Please try again in 9s", "\"requests\"", "\"rate_limit_exceeded\""), 1500, NOT_GIVEN, OUTCOME_RATE_LIMITED, 1500},
    {"the rate limit without a delay", 429, "", 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 0},
    {"the context is too long, by code", 400, ERROR("x", "\"invalid_request_error\"", "\"context_length_exceeded\""), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"the context is too long, by words", 400, ERROR("This model's MAXIMUM context length is 8192 tokens", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"the context is too long, as a server error", 500, ERROR("input is too large to process. increase the physical batch size", "null", "null"), 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"the body is too large", 413, "<html>413</html>", 0, NOT_GIVEN, OUTCOME_TOO_LARGE, 0},
    {"the content policy", 400, ERROR("x", "null", "\"content_policy_violation\""), 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"a prompt against the policy", 400, ERROR("flagged as violating our usage policy", "null", "\"invalid_prompt\""), 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"a wrong key", 401, ERROR("Incorrect API key provided", "null", "\"invalid_api_key\""), 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"payment is required", 402, "", 0, NOT_GIVEN, OUTCOME_QUOTA, 0},
    {"a region that is not served", 403, "{}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"no such model", 404, ERROR("The model x does not exist", "null", "\"model_not_found\""), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"no such page", 404, "<html></html>", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"a parameter that the model does not know", 400, ERROR("x", "null", "\"unsupported_parameter\""), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"a value that the model does not support", 400, ERROR("'temperature' does not support 0.2", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"some other bad request", 400, ERROR("x", "null", "null"), 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"a request that cannot be processed", 422, "{\"detail\":[]}", 0, NOT_GIVEN, OUTCOME_BAD_REQUEST, 0},
    {"a bad request that may be tried again", 400, "{}", 0, 1, OUTCOME_TRANSIENT, 0},
    {"a time-out at the provider", 408, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"a conflict", 409, "{}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"too early, with a delay", 425, "", 700, NOT_GIVEN, OUTCOME_RATE_LIMITED, 700},
    {"too early", 425, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"a server error", 500, ERROR("The server had an error", "\"server_error\"", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"a server error that must not be tried again", 500, "{}", 0, 0, OUTCOME_BAD_REQUEST, 0},
    {"a gateway's page", 502, "<html><h1>Bad Gateway</h1></html>", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"slow down", 503, ERROR("Slow Down", "null", "null"), 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"overloaded, with a delay", 503, "overloaded", 3000, NOT_GIVEN, OUTCOME_TRANSIENT, 3000},
    {"a feature that is missing", 501, "", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"a gateway's own status", 524, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"a redirect", 302, "", 0, NOT_GIVEN, OUTCOME_BAD_CONFIG, 0},
    {"200 that is a page", 200, "<html></html>", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"200 that is empty", 200, "", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"200 cut short", 200, "{\"choices\":[{\"mess", 0, NOT_GIVEN, OUTCOME_BROKEN, 0},
    {"200 with an error of a known kind", 200, ERROR("try again in 2s", "\"rate_limit_exceeded\"", "null"), 0, NOT_GIVEN, OUTCOME_RATE_LIMITED, 2000},
    {"200 with an error that has a status", 200, "{\"error\":{\"code\":401,\"message\":\"no\"}}", 0, NOT_GIVEN, OUTCOME_AUTH, 0},
    {"200 with an error of no kind", 200, "{\"error\":\"something\"}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"200 without choices", 200, "{\"choices\":[]}", 0, NOT_GIVEN, OUTCOME_TRANSIENT, 0},
    {"the filter stopped the answer", 200, "{\"choices\":[{\"finish_reason\":\"content_filter\",\"message\":{\"content\":\"x\"}}]}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"the model refused", 200, "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":null,\"refusal\":\"no\"}}]}", 0, NOT_GIVEN, OUTCOME_FILTERED, 0},
    {"the token limit before any text", 200, "{\"choices\":[{\"finish_reason\":\"length\",\"message\":{\"content\":\"\"}}]}", 0, NOT_GIVEN, OUTCOME_TRUNCATED, 0},
    {"a tool instead of text", 200, "{\"choices\":[{\"finish_reason\":\"tool_calls\",\"message\":{\"content\":null}}]}", 0, NOT_GIVEN, OUTCOME_UNREADABLE, 0},
};

static void each_error_has_its_class(void **state) {
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(error_cases) / sizeof(error_cases[0]); i++) {
        const struct error_case *c = &error_cases[i];
        struct reply reply = {.status = c->status,
                              .body = slice_of(c->body),
                              .retry_after_ms = c->delay_ms,
                              .should_retry = c->should_retry};
        struct answer answer = {0};
        provider_openai.read(&reply, &answer);
        if (answer.outcome != c->want || answer.retry_after_ms != c->want_delay_ms ||
            answer.detail[0] == '\0') {
            print_error("%s: got %s, %llu ms, \"%s\"\n", c->name, outcome_of(answer.outcome)->text,
                        (unsigned long long)answer.retry_after_ms, answer.detail);
            n_failed++;
        }
        answer_clear(&answer);
    }
    assert_int_equal(n_failed, 0);
}

static void a_good_answer_is_read_whole(void **state) {
    struct reply reply = {
        .status = 200,
        .should_retry = NOT_GIVEN,
        .body = SLICE_LIT("{\"id\":\"c\",\"model\":\"x-2026\",\"choices\":[{\"index\":0,\"finish_reason\":"
                          "\"length\",\"message\":{\"content\":\"abc\",\"refusal\":null}}],\"usage\":{"
                          "\"prompt_tokens\":41,\"completion_tokens\":9,\"prompt_tokens_details\":{"
                          "\"cached_tokens\":32}}}"),
    };
    struct answer answer = {0};
    provider_openai.read(&reply, &answer);
    assert_int_equal(answer.outcome, OUTCOME_OK);
    assert_true(slice_is(answer.text, "abc"));
    assert_int_equal(answer.finish, FINISH_LENGTH);
    assert_true(answer.usage_known);
    assert_int_equal(answer.input_tokens, 41);
    assert_int_equal(answer.cached_tokens, 32);
    assert_int_equal(answer.output_tokens, 9);
    assert_string_equal(answer.served_model, "x-2026");
    answer_clear(&answer);
}

static void usage_that_is_null_is_not_known(void **state) {
    struct reply reply = {.status = 200,
                          .body = SLICE_LIT("{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\","
                                            "\"text\":\"abc\"}]}}],\"usage\":{\"prompt_tokens\":null}}")};
    struct answer answer = {0};
    provider_openai.read(&reply, &answer);
    assert_int_equal(answer.outcome, OUTCOME_OK);
    assert_true(slice_is(answer.text, "abc"));
    assert_int_equal(answer.finish, FINISH_STOP);
    assert_false(answer.usage_known);
    answer_clear(&answer);
}

static void what_the_provider_says_is_cleaned(void **state) {
    struct reply reply = {.status = 500,
                          .body = SLICE_LIT("{\"error\":{\"message\":\"a\\nb\\u0000c\\u001b[31m\"}}")};
    struct answer answer = {0};
    provider_openai.read(&reply, &answer);
    assert_string_equal(answer.detail, "HTTP 500: a b");
    answer_clear(&answer);
}

struct request_case {
    const char *name;
    const char *endpoint, *options;
    bool schema;
    const char *want; // the body; NULL: look at has
    const char *has;
};

static const struct request_case request_cases[] = {
    {"the plain request", "http://127.0.0.1:1/", "", false,
     "{\"model\":\"x\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\","
     "\"content\":\"a \\\"b\\\"\"}]}", NULL},
    {"numbers are passed on", "http://127.0.0.1:1/", ", 'temperature' = '0', 'top.p' = '0.5', 'seed' = '7'",
     false, NULL, "],\"temperature\":0,\"top_p\":0.5,\"seed\":7}"},
    {"most tokens for a server of one's own", "http://127.0.0.1:1/", ", 'max.tokens' = '9'", false, NULL,
     "\"max_tokens\":9"},
    {"most tokens for openai itself", "https://api.openai.com/v1/chat/completions", ", 'max.tokens' = '9'",
     false, NULL, "\"max_completion_tokens\":9"},
    {"most tokens for azure", "https://a.openai.azure.com/openai/v1/chat/completions", ", 'max.tokens' = '9'",
     false, NULL, "\"max_completion_tokens\":9"},
    {"most tokens for a host that only looks so", "https://api.openai.com.example.org/", ", 'max.tokens' = '9'",
     false, NULL, "\"max_tokens\":9"},
    {"the field of most tokens by option", "http://127.0.0.1:1/",
     ", 'max.tokens' = '9', 'max.tokens.field' = 'max_completion_tokens'", false, NULL,
     "\"max_completion_tokens\":9"},
    {"stop as an array", "http://127.0.0.1:1/", ", 'stop' = '[\"a\",\"b\"]'", false, NULL,
     "\"stop\":[\"a\",\"b\"]"},
    {"params win over what is there", "http://127.0.0.1:1/",
     ", 'temperature' = '1', 'params' = '{\"temperature\":0.5,\"store\":false}'", false, NULL,
     "\"temperature\":0.5,\"store\":false}"},
    {"a schema is wrapped", "http://127.0.0.1:1/", "", true, NULL,
     "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,"
     "\"schema\":{\"type\":\"object\"}}}"},
};

static struct statements model_of(const char *endpoint, const char *options) {
    struct buf sql;
    buf_init(&sql, 65536);
    assert_int_equal(buf_addf(&sql,
                              "CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = "
                              "'openai', 'endpoint' = '%s', 'model' = 'x'%s);",
                              endpoint, options),
                     0);
    struct statements list = {0};
    struct error why = {0};
    if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    buf_free(&sql);
    return list;
}

static void requests_carry_the_options(void **state) {
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(request_cases) / sizeof(request_cases[0]); i++) {
        const struct request_case *c = &request_cases[i];
        struct statements list = model_of(c->endpoint, c->options);
        struct buf body;
        buf_init(&body, 65536);
        assert_int_equal(provider_openai.write(list.items[0].model, SLICE_LIT("S"), SLICE_LIT("a \"b\""),
                                               c->schema ? SLICE_LIT("{\"type\":\"object\"}") : SLICE_NONE,
                                               &body),
                         0);
        struct json_object *json = NULL;
        assert_int_equal(json_parse(buf_slice(&body), &json, NULL), 0);
        json_object_put(json);
        if (c->want != NULL ? strcmp(body.p, c->want) != 0 : strstr(body.p, c->has) == NULL) {
            print_error("%s: got %s\n", c->name, body.p);
            n_failed++;
        }
        buf_free(&body);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

static void a_schema_goes_where_it_is_enforced(void **state) {
    static const struct {
        const char *endpoint, *options;
        bool want;
    } cases[] = {
        {"https://api.openai.com/v1/chat/completions", "", true},
        {"http://127.0.0.1:1/", "", false},
        {"http://127.0.0.1:1/", ", 'structured.output' = 'required'", true},
        {"https://api.openai.com/v1/chat/completions", ", 'structured.output' = 'off'", false},
        {"https://api.openai.com/v1/chat/completions", ", 'response.path' = '$.a[*]'", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct statements list = model_of(cases[i].endpoint, cases[i].options);
        assert_int_equal(provider_schema(&provider_openai, list.items[0].model), cases[i].want);
        statements_free(&list);
    }
}

static void later_has_many_forms(void **state) {
    const int64_t now = 1790000000000; // Mon, 21 Sep 2026 14:13:20 GMT
    assert_int_equal(retry_after_parse(SLICE_LIT("20"), now), 20000);
    assert_int_equal(retry_after_parse(SLICE_LIT(" 0.25 "), now), 250);
    assert_int_equal(retry_after_parse(SLICE_LIT("Mon, 21 Sep 2026 14:13:50 GMT"), now), 30000);
    assert_int_equal(retry_after_parse(SLICE_LIT("Mon, 21 Sep 2020 14:13:50 GMT"), now), 0);
    assert_int_equal(retry_after_parse(SLICE_LIT("9999999999999"), now), 86400000);
    assert_int_equal(retry_after_parse(SLICE_LIT("-5"), now), -1);
    assert_int_equal(retry_after_parse(SLICE_LIT("soon"), now), -1);
    assert_int_equal(retry_after_parse(SLICE_NONE, now), -1);
    assert_int_equal(duration_parse(SLICE_LIT("6m0s")), 360000);
    assert_int_equal(duration_parse(SLICE_LIT("12ms")), 12);
    assert_int_equal(duration_parse(SLICE_LIT("1m12.5s")), 72500);
    assert_int_equal(duration_parse(SLICE_LIT("1h2m3s")), 3723000);
    assert_int_equal(duration_parse(SLICE_LIT("")), -1);
    assert_int_equal(duration_parse(SLICE_LIT("7")), -1);
    assert_int_equal(duration_parse(SLICE_LIT("1s!")), -1);
    assert_int_equal(retry_after_hint(SLICE_LIT("Please try again in 9.816s. Visit")), 9816);
    assert_int_equal(retry_after_hint(SLICE_LIT("Try again in 1m2s.")), 62000);
    assert_int_equal(retry_after_hint(SLICE_LIT("retry after 37 seconds")), 37000);
    assert_int_equal(retry_after_hint(SLICE_LIT("try again in a while")), -1);
    assert_int_equal(retry_after_hint(SLICE_LIT("try again in ")), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_its_class),
        cmocka_unit_test(a_good_answer_is_read_whole),
        cmocka_unit_test(usage_that_is_null_is_not_known),
        cmocka_unit_test(what_the_provider_says_is_cleaned),
        cmocka_unit_test(requests_carry_the_options),
        cmocka_unit_test(a_schema_goes_where_it_is_enforced),
        cmocka_unit_test(later_has_many_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
