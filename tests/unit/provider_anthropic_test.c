// anthropic: what is sent, what is in the prompt cache, and how an answer is read.
#include "provider_case.h"

#include "worker/fixed.h"
#include "worker/instruct.h"

#include <stdio.h>

#define MOST ", 'max.tokens' = '9'"
#define BEGIN "{\"model\":\"x\",\"max_tokens\":9,"
#define CACHED ",\"cache_control\":{\"type\":\"ephemeral\"}"

static const struct request_case requests[] = {
    // clang-format off
    {"the plain request", MOST, false,
     BEGIN "\"system\":[{\"type\":\"text\",\"text\":\"S\"" CACHED "}],\"messages\":[{\"role\":\"user\",\"content\":\"a \\\"b\\\"\"}]}", NULL, NULL},
    {"what is fixed in the user message is cached", MOST ", 'batch.size' = '20', 'batch.prompt.template' = 'a {{records}}'", false,
     BEGIN "\"system\":[{\"type\":\"text\",\"text\":\"S\"}],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"" CACHED "},{\"type\":\"text\",\"text\":\" \\\"b\\\"\"}]}]}", NULL, NULL},
    {"so is a template of a single prompt", MOST ", 'prompt.template' = 'a {{t}}'", false, NULL, "\"text\":\"a\"" CACHED, NULL},
    {"a message that is fixed as a whole has no part of its own", MOST ", 'prompt.template' = 'a \"b\"'", false, NULL, "\"S\"" CACHED, "\"text\":\"a"},
    {"a template that renders otherwise has none", MOST ", 'prompt.template' = 'other {{t}}'", false, NULL, "\"S\"" CACHED, "other"},
    {"labels in the system message are fixed", MOST ", 'system.prompt' = 'one of {{labels}}', 'labels' = 'p,q', 'task' = 'classification'", false, NULL, CACHED, NULL},
    {"a system message with the time is not cached, nor what follows", MOST ", 'system.prompt' = 'it is {{now}}', 'prompt.template' = 'a {{t}}'", false, NULL, "\"system\":", "cache_control"},
    {"numbers are passed on", MOST ", 'temperature' = '0', 'top.p' = '0.5'", false, NULL, "],\"temperature\":0,\"top_p\":0.5}", NULL},
    {"stop", MOST ", 'stop' = '[\"END\"]'", false, NULL, ",\"stop_sequences\":[\"END\"]}", NULL},
    {"the schema", MOST, true, NULL, ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}}", NULL},
    {"params go into objects that are there", MOST ", 'params' = '{\"output_config\":{\"effort\":\"low\"},\"top_k\":3}'", true, NULL,
     "\"schema\":{\"type\":\"object\"}},\"effort\":\"low\"},\"top_k\":3}", NULL},
    {"params replace what is there", MOST ", 'params' = '{\"max_tokens\":7}'", false, NULL, "\"max_tokens\":7", "\"max_tokens\":9"},
    // clang-format on
};
#define N(cases) (sizeof(cases) / sizeof(cases[0]))

static void requests_have_their_fields(void **state) {
    case_requests("anthropic", requests, N(requests));
}

static void credentials(void **state) {
    case_headers("anthropic", MOST ", 'api_key' = '${K}'", "anthropic-version: 2023-06-01\nx-api-key: ${K}\n");
    case_headers("anthropic", MOST, "anthropic-version: 2023-06-01\n");
}

// write_with_schema writes a request with a schema of n nullable fields.
static void write_with_schema(const char *with, size_t n, struct buf *body) {
    struct statements list = case_model("anthropic", with);
    struct buf schema;
    buf_init(&schema, 65536);
    assert_int_equal(buf_add_str(&schema, "{\"type\":\"object\",\"properties\":{"), 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buf_addf(&schema, "%s\"c%zu\":{\"type\":[\"string\",\"null\"]}", i > 0 ? "," : "", i), 0);
    }
    assert_int_equal(buf_add_str(&schema, "}}"), 0);
    struct ask ask = {.model = list.items[0].model, .user = SLICE_LIT("a"), .schema = buf_slice(&schema), .count = 1};
    assert_int_equal(provider_dialect(ask.model)->write(&ask, body), 0);
    buf_free(&schema);
    statements_free(&list);
}

static const struct {
    const char *name, *with;
    size_t n;
    bool sent;
} unions[] = {
    {"as many as are allowed", MOST, 16, true},
    {"one more", MOST, 17, false},
    {"one more, which must go along", MOST ", 'structured.output' = 'required'", 17, true},
};

static void a_schema_of_too_many_unions_is_left_out(void **state) {
    for (size_t i = 0; i < N(unions); i++) {
        struct buf body;
        buf_init(&body, 65536);
        write_with_schema(unions[i].with, unions[i].n, &body);
        if ((strstr(body.p, "output_config") != NULL) != unions[i].sent) {
            fail_msg("%s: got %s", unions[i].name, body.p);
        }
        buf_free(&body);
    }
}

static void a_good_answer_is_read_whole(void **state) {
    struct statements list = case_model("anthropic", MOST);
    struct answer answer = {0};
    case_read(list.items[0].model, 200,
              "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x-2026\",\"content\":["
              "{\"type\":\"thinking\",\"thinking\":\"hm\"},{\"type\":\"text\",\"text\":\"a\"},"
              "{\"type\":\"redacted_thinking\",\"data\":\"x\"},{\"type\":\"text\",\"text\":\"bc\"}],"
              "\"stop_reason\":\"max_tokens\",\"usage\":{\"input_tokens\":21,\"cache_creation_input_tokens\":5,"
              "\"cache_read_input_tokens\":4100,\"output_tokens\":18,\"output_tokens_details\":{"
              "\"thinking_tokens\":7},\"service_tier\":\"standard\"}}",
              &answer);
    assert_int_equal(answer.outcome, OUTCOME_OK);
    assert_true(slice_is(answer.text, "abc"));
    assert_int_equal(answer.finish, FINISH_LENGTH);
    assert_true(answer.usage_known);
    assert_int_equal(answer.input_tokens, 4126);
    assert_int_equal(answer.cached_tokens, 4100);
    assert_int_equal(answer.cache_write_tokens, 5);
    assert_int_equal(answer.output_tokens, 18);
    assert_int_equal(answer.reasoning_tokens, 7);
    assert_string_equal(answer.served_model, "x-2026");
    assert_string_equal(answer.service_tier, "standard");
    answer_clear(&answer);
    statements_free(&list);
}

static void usage_in_part_is_not_known(void **state) {
    static const char *const usages[] = {
        "null", "{}", "{\"input_tokens\":3}", "{\"input_tokens\":\"3\",\"output_tokens\":1}",
        "{\"input_tokens\":9000000000000000000,\"cache_read_input_tokens\":9000000000000000000,\"output_tokens\":1}"};
    struct statements list = case_model("anthropic", MOST);
    for (size_t i = 0; i < N(usages); i++) {
        struct answer answer = {0};
        char body[512];
        snprintf(body, sizeof(body), "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"usage\":%s}", usages[i]);
        case_read(list.items[0].model, 200, body, &answer);
        assert_int_equal(answer.outcome, OUTCOME_OK);
        assert_false(answer.usage_known);
        answer_clear(&answer);
    }
    statements_free(&list);
}

static void an_error_names_its_request(void **state) {
    struct statements list = case_model("anthropic", MOST);
    struct answer answer = {0};
    case_read(list.items[0].model, 529,
              "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},"
              "\"request_id\":\"req_1\"}",
              &answer);
    assert_string_equal(answer.request_id, "req_1");
    assert_string_equal(answer.detail, "HTTP 529 overloaded_error: Overloaded");
    answer_clear(&answer);
    statements_free(&list);
}

#define TEXT(reason) "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"stop_reason\":" reason "}"

static const struct answer_case answers[] = {
    // clang-format off
    {"the end of its turn", 200, TEXT("\"end_turn\""), OUTCOME_OK, "a"},
    {"a stop sequence", 200, TEXT("\"stop_sequence\""), OUTCOME_OK, "a"},
    {"the context's end leaves text to be read", 200, TEXT("\"model_context_window_exceeded\""), OUTCOME_OK, "a"},
    {"a reason that nobody knows", 200, TEXT("\"new\""), OUTCOME_OK, "a"},
    {"a pause", 200, TEXT("\"pause_turn\""), OUTCOME_OK, "a"},
    {"a refusal without content", 200, "{\"content\":[],\"stop_reason\":\"refusal\",\"stop_details\":{\"type\":\"refusal\",\"category\":\"cyber\"}}", OUTCOME_FILTERED, NULL},
    {"a refusal in the middle of the text", 200, TEXT("\"refusal\""), OUTCOME_FILTERED, NULL},
    {"a refusal without any content", 200, "{\"stop_reason\":\"refusal\",\"stop_details\":null}", OUTCOME_FILTERED, NULL},
    {"thinking up to the limit", 200, "{\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"}],\"stop_reason\":\"max_tokens\"}", OUTCOME_TRUNCATED, NULL},
    {"a tool alone", 200, "{\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"e\",\"input\":{}}],\"stop_reason\":\"tool_use\"}", OUTCOME_UNREADABLE, NULL},
    {"no content", 200, "{\"id\":\"msg_1\"}", OUTCOME_TRANSIENT, NULL},
    {"content of another type", 200, "{\"content\":\"a\"}", OUTCOME_TRANSIENT, NULL},
    {"blocks of other types", 200, "{\"content\":[1,null,[],{\"type\":\"text\",\"text\":1},{\"type\":\"text\",\"text\":\"a\"}]}", OUTCOME_OK, "a"},
    {"an error inside a 200", 200, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}", OUTCOME_TRANSIENT, NULL},
    {"half a body", 200, "{\"content\":[{\"ty", OUTCOME_BROKEN, NULL},
    {"no JSON", 200, "<html>", OUTCOME_TRANSIENT, NULL},
    // clang-format on
};

static void answers_have_their_outcome(void **state) {
    case_answers("anthropic", MOST, answers, N(answers));
}

static const struct {
    const char *name, *with, *why;
} refused[] = {
    {"no bound of the answer", "", "anthropic refuses calls without it"},
    {"a seed", MOST ", 'seed' = '7'", "has nothing like it"},
    {"a temperature that OpenAI takes", MOST ", 'temperature' = '1.5'", "want 0 to 1"},
    {"vectors", MOST ", 'task' = 'embedding'", "which anthropic does not do"},
};

static void what_it_cannot_do_is_refused_when_the_model_is_made(void **state) {
    for (size_t i = 0; i < N(refused); i++) {
        char sql[512];
        struct statements list = {0};
        struct error why = {0};
        snprintf(sql, sizeof(sql),
                 "CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = 'anthropic', 'model' = "
                 "'x'%s);",
                 refused[i].with);
        if (model_sql_parse(slice_of(sql), "case", &list, &why) == 0 || strstr(why.text, refused[i].why) == NULL) {
            fail_msg("%s: got \"%s\"", refused[i].name, why.text);
        }
        statements_free(&list);
    }
}

static void the_built_in_sentence_is_fixed(void **state) {
    struct statements list = case_model("anthropic", MOST ", 'batch.size' = '20'");
    const struct model *model = list.items[0].model;
    struct buf user;
    buf_init(&user, 65536);
    assert_int_equal(instruct_batch(model, &user), 0);
    size_t n = user.n;
    assert_int_equal(fixed_prefix(model, buf_slice(&user)), 0); // nothing follows
    assert_int_equal(buf_add_str(&user, "\n\n{\"index\":1}"), 0);
    assert_int_equal(fixed_prefix(model, buf_slice(&user)), n);
    assert_int_equal(fixed_prefix(model, SLICE_LIT("something else")), 0);
    buf_free(&user);
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_have_their_fields),
        cmocka_unit_test(credentials),
        cmocka_unit_test(a_schema_of_too_many_unions_is_left_out),
        cmocka_unit_test(a_good_answer_is_read_whole),
        cmocka_unit_test(usage_in_part_is_not_known),
        cmocka_unit_test(an_error_names_its_request),
        cmocka_unit_test(answers_have_their_outcome),
        cmocka_unit_test(what_it_cannot_do_is_refused_when_the_model_is_made),
        cmocka_unit_test(the_built_in_sentence_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
