// gemini: what is sent, a schema in Google's form, how an answer and vectors are read.
#include "provider_case.h"

#include <stdio.h>

#define CONTENTS "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"a \\\"b\\\"\"}]}]"
#define SYSTEM "\"systemInstruction\":{\"parts\":[{\"text\":\"S\"}]},"

static const struct request_case requests[] = {
    // clang-format off
    {"the plain request", "", false, "{" SYSTEM CONTENTS "}", NULL, NULL},
    {"numbers are passed on", ", 'temperature' = '2', 'top.p' = '0.5', 'max.tokens' = '9', 'seed' = '7'", false, NULL,
     ",\"generationConfig\":{\"temperature\":2,\"topP\":0.5,\"maxOutputTokens\":9,\"seed\":7}}", NULL},
    {"stop", ", 'stop' = '[\"END\"]'", false, NULL, ",\"generationConfig\":{\"stopSequences\":[\"END\"]}}", NULL},
    {"the schema", "", true, NULL, ",\"generationConfig\":{\"responseMimeType\":\"application/json\",\"responseSchema\":{\"type\":\"OBJECT\"}}}", NULL},
    {"params go into objects that are there", ", 'max.tokens' = '9', 'params' = '{\"generationConfig\":{\"thinkingConfig\":{\"thinkingBudget\":0}},\"serviceTier\":\"flex\"}'", false, NULL,
     "\"generationConfig\":{\"maxOutputTokens\":9,\"thinkingConfig\":{\"thinkingBudget\":0}},\"serviceTier\":\"flex\"}", NULL},
    // clang-format on
};
#define N(cases) (sizeof(cases) / sizeof(cases[0]))

static void requests_have_their_fields(void **state) {
    case_requests("gemini", requests, N(requests));
}

static void credentials(void **state) {
    case_headers("gemini", ", 'api_key' = '${K}'", "x-goog-api-key: ${K}\n");
    case_headers("gemini", "", "");
}

static const struct {
    const char *name, *schema, *want;
} schemas[] = {
    // clang-format off
    {"a value that may be null", "{\"type\":[\"string\",\"null\"]}", "{\"type\":\"STRING\",\"nullable\":true}"},
    {"labels, and null among them", "{\"type\":[\"string\",\"null\"],\"enum\":[\"p\",\"q\",null]}", "{\"type\":\"STRING\",\"nullable\":true,\"enum\":[\"p\",\"q\"]}"},
    {"a date is a text", "{\"type\":\"string\",\"format\":\"date\"}", "{\"type\":\"STRING\"}"},
    {"a time keeps its format", "{\"type\":\"string\",\"format\":\"date-time\",\"description\":\"d\"}", "{\"type\":\"STRING\",\"format\":\"date-time\",\"description\":\"d\"}"},
    {"items", "{\"type\":\"array\",\"items\":{\"type\":\"number\"}}", "{\"type\":\"ARRAY\",\"items\":{\"type\":\"NUMBER\"}}"},
    {"an object loses what Google does not know", "{\"type\":\"object\",\"properties\":{\"index\":{\"type\":\"integer\"},\"ok\":{\"type\":\"boolean\"}},\"required\":[\"index\",\"ok\"],\"additionalProperties\":false}",
     "{\"type\":\"OBJECT\",\"properties\":{\"index\":{\"type\":\"INTEGER\"},\"ok\":{\"type\":\"BOOLEAN\"}},\"required\":[\"index\",\"ok\"],\"propertyOrdering\":[\"index\",\"ok\"]}"},
    // clang-format on
};

static void schemas_take_google_s_form(void **state) {
    struct statements list = case_model("gemini", "");
    for (size_t i = 0; i < N(schemas); i++) {
        struct ask ask = {.model = list.items[0].model, .user = SLICE_LIT("a"), .schema = slice_of(schemas[i].schema), .count = 1};
        struct buf body;
        buf_init(&body, 65536);
        assert_int_equal(provider_dialect(ask.model)->write(&ask, &body), 0);
        const char *got = strstr(body.p, "\"responseSchema\":");
        assert_non_null(got);
        got += strlen("\"responseSchema\":");
        if (strncmp(got, schemas[i].want, strlen(schemas[i].want)) != 0) {
            print_error("%s: got %s\n", schemas[i].name, got);
            fail();
        }
        buf_free(&body);
    }
    statements_free(&list);
}

static void a_good_answer_is_read_whole(void **state) {
    struct statements list = case_model("gemini", "");
    struct answer answer = {0};
    case_read(list.items[0].model, 200,
              "{\"candidates\":[{\"index\":0,\"finishReason\":\"MAX_TOKENS\",\"content\":{\"role\":\"model\","
              "\"parts\":[{\"text\":\"hm\",\"thought\":true},{\"text\":\"a\"},{\"text\":\"bc\",\"thought\":false}]}}],"
              "\"usageMetadata\":{\"promptTokenCount\":14,\"toolUsePromptTokenCount\":3,\"candidatesTokenCount\":6,"
              "\"thoughtsTokenCount\":40,\"cachedContentTokenCount\":10,\"totalTokenCount\":63},"
              "\"modelVersion\":\"gemini-x\",\"responseId\":\"abc-1\"}",
              &answer);
    assert_int_equal(answer.outcome, OUTCOME_OK);
    assert_true(slice_is(answer.text, "abc"));
    assert_int_equal(answer.finish, FINISH_LENGTH);
    assert_true(answer.usage_known);
    assert_int_equal(answer.input_tokens, 17);
    assert_int_equal(answer.cached_tokens, 10);
    assert_int_equal(answer.cache_write_tokens, 0);
    assert_int_equal(answer.output_tokens, 46);
    assert_int_equal(answer.reasoning_tokens, 40);
    assert_string_equal(answer.served_model, "gemini-x");
    assert_string_equal(answer.request_id, "abc-1");
    answer_clear(&answer);
    statements_free(&list);
}

#define ENDED(reason) "{\"candidates\":[{\"finishReason\":\"" reason "\",\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}"
#define EMPTY(reason) "{\"candidates\":[{\"finishReason\":\"" reason "\"}]}"

static const struct answer_case answers[] = {
    // clang-format off
    {"a whole answer", 200, ENDED("STOP"), OUTCOME_OK, "a"},
    {"a reason that nobody knows", 200, ENDED("NEW"), OUTCOME_OK, "a"},
    {"no reason", 200, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}", OUTCOME_OK, "a"},
    {"safety", 200, EMPTY("SAFETY"), OUTCOME_FILTERED, NULL},
    {"safety in the middle of the text", 200, ENDED("SAFETY"), OUTCOME_FILTERED, NULL},
    {"recitation", 200, ENDED("RECITATION"), OUTCOME_FILTERED, NULL},
    {"a word on the list", 200, EMPTY("BLOCKLIST"), OUTCOME_FILTERED, NULL},
    {"prohibited content", 200, EMPTY("PROHIBITED_CONTENT"), OUTCOME_FILTERED, NULL},
    {"data of persons", 200, EMPTY("SPII"), OUTCOME_FILTERED, NULL},
    {"a language", 200, EMPTY("LANGUAGE"), OUTCOME_FILTERED, NULL},
    {"an image's safety", 200, EMPTY("IMAGE_SAFETY"), OUTCOME_FILTERED, NULL},
    {"a blocked prompt", 200, "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}", OUTCOME_FILTERED, NULL},
    {"thinking up to the limit", 200, EMPTY("MAX_TOKENS"), OUTCOME_TRUNCATED, NULL},
    {"thoughts alone up to the limit", 200, "{\"candidates\":[{\"finishReason\":\"MAX_TOKENS\",\"content\":{\"parts\":[{\"thought\":true,\"text\":\"a\"}]}}]}", OUTCOME_TRUNCATED, NULL},
    {"a call that went wrong", 200, EMPTY("MALFORMED_FUNCTION_CALL"), OUTCOME_UNREADABLE, NULL},
    {"a tool alone", 200, "{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"}}]}}]}", OUTCOME_UNREADABLE, NULL},
    {"no text at all, which the parser calls empty", 200, EMPTY("STOP"), OUTCOME_OK, ""},
    {"no candidates", 200, "{\"modelVersion\":\"x\"}", OUTCOME_TRANSIENT, NULL},
    {"no candidate", 200, "{\"candidates\":[]}", OUTCOME_TRANSIENT, NULL},
    {"null for a candidate", 200, "{\"candidates\":[null]}", OUTCOME_TRANSIENT, NULL},
    {"parts of other types", 200, "{\"candidates\":[{\"content\":{\"parts\":[1,null,{\"text\":1},{\"text\":\"a\"}]}}]}", OUTCOME_OK, "a"},
    {"an error inside an array", 200, "[{\"error\":{\"code\":503,\"message\":\"x\",\"status\":\"UNAVAILABLE\"}}]", OUTCOME_TRANSIENT, NULL},
    {"half a body", 200, "{\"candidates\":[{", OUTCOME_BROKEN, NULL},
    // clang-format on
};

static void answers_have_their_outcome(void **state) {
    case_answers("gemini", "", answers, N(answers));
}

static const struct {
    const char *name, *usage;
    bool known;
    uint64_t output;
} usages[] = {
    {"none", "null", false, 0},
    {"no prompt", "{\"candidatesTokenCount\":3}", false, 0},
    {"no candidates", "{\"promptTokenCount\":3,\"thoughtsTokenCount\":9}", true, 9},
    {"more than anybody has", "{\"promptTokenCount\":9000000000000000000,\"toolUsePromptTokenCount\":9000000000000000000}", false, 0},
};

static void usage_may_be_missing_in_part(void **state) {
    struct statements list = case_model("gemini", "");
    for (size_t i = 0; i < N(usages); i++) {
        struct answer answer = {0};
        char body[512];
        snprintf(body, sizeof(body), "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":%s}", usages[i].usage);
        case_read(list.items[0].model, 200, body, &answer);
        if (answer.usage_known != usages[i].known || answer.output_tokens != usages[i].output) {
            fail_msg("%s: got %d, %d tokens", usages[i].name, answer.usage_known, (int)answer.output_tokens);
        }
        answer_clear(&answer);
    }
    statements_free(&list);
}

// ---- Vectors ------------------------------------------------------------------------------------

// vectors_model makes a model of vectors.
static struct statements vectors_model(const char *with) {
    struct statements list = {0};
    struct error why = {0};
    char sql[512];
    snprintf(sql, sizeof(sql),
             "CREATE MODEL m INPUT (t STRING) OUTPUT (v ARRAY<FLOAT>) WITH ('provider' = 'gemini', 'task' = "
             "'embedding', 'model' = 'x'%s);", with);
    if (model_sql_parse(slice_of(sql), "case", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    return list;
}

static void texts_go_as_a_request_each(void **state) {
    struct statements list = vectors_model(", 'dimensions' = '2', 'params' = '{\"taskType\":\"CLUSTERING\"}'");
    const struct slice inputs[] = {SLICE_LIT("a"), SLICE_LIT("b \"c\"")};
    struct ask ask = {.model = list.items[0].model, .inputs = inputs, .count = 2};
    struct buf body;
    buf_init(&body, 65536);
    assert_int_equal(provider_dialect(ask.model)->write(&ask, &body), 0);
    assert_string_equal(body.p,
                        "{\"requests\":[{\"model\":\"models/x\",\"content\":{\"parts\":[{\"text\":\"a\"}]},"
                        "\"outputDimensionality\":2,\"taskType\":\"CLUSTERING\"},{\"model\":\"models/x\",\"content\":{"
                        "\"parts\":[{\"text\":\"b \\\"c\\\"\"}]},\"outputDimensionality\":2,\"taskType\":\"CLUSTERING\"}]}");
    buf_free(&body);
    statements_free(&list);
}

static const struct {
    const char *name, *body;
    enum outcome want;
    size_t first, second; // numbers of each vector
} embeddings[] = {
    {"one each", "{\"embeddings\":[{\"values\":[1,2]},{\"values\":[3]}]}", OUTCOME_OK, 2, 1},
    {"one is missing", "{\"embeddings\":[{},{\"values\":[3]}]}", OUTCOME_OK, 0, 1},
    {"one is no vector", "{\"embeddings\":[{\"values\":[1]},{\"values\":[null]}]}", OUTCOME_OK, 1, 0},
    {"one too few", "{\"embeddings\":[{\"values\":[1]}]}", OUTCOME_SHIFTED, 0, 0},
    {"one too many", "{\"embeddings\":[{\"values\":[1]},{\"values\":[1]},{\"values\":[1]}]}", OUTCOME_SHIFTED, 0, 0},
    {"none", "{}", OUTCOME_TRANSIENT, 0, 0},
};

static void vectors_come_in_the_order_of_their_texts(void **state) {
    struct statements list = vectors_model("");
    for (size_t i = 0; i < N(embeddings); i++) {
        struct reply reply = {.status = 200, .body = slice_of(embeddings[i].body), .should_retry = NOT_GIVEN,
                              .model = list.items[0].model, .count = 2};
        struct answer answer = {0};
        provider_dialect(reply.model)->read(&reply, &answer);
        bool same = answer.outcome == embeddings[i].want;
        if (same && answer.outcome == OUTCOME_OK) {
            same = answer.vectors[0].n == embeddings[i].first && answer.vectors[1].n == embeddings[i].second;
        }
        if (!same) {
            fail_msg("%s: got %s", embeddings[i].name, outcome_of(answer.outcome)->text);
        }
        answer_clear(&answer);
    }
    statements_free(&list);
}

static void a_seed_that_is_too_large_is_refused(void **state) {
    struct statements list = {0};
    struct error why = {0};
    assert_int_not_equal(model_sql_parse(SLICE_LIT("CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = "
                                                   "'gemini', 'model' = 'x', 'seed' = '2147483648');"),
                                         "case", &list, &why), 0);
    assert_non_null(strstr(why.text, "want at most 2147483647"));
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_have_their_fields),
        cmocka_unit_test(credentials),
        cmocka_unit_test(schemas_take_google_s_form),
        cmocka_unit_test(a_good_answer_is_read_whole),
        cmocka_unit_test(answers_have_their_outcome),
        cmocka_unit_test(usage_may_be_missing_in_part),
        cmocka_unit_test(texts_go_as_a_request_each),
        cmocka_unit_test(vectors_come_in_the_order_of_their_texts),
        cmocka_unit_test(a_seed_that_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
