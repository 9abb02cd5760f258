// http: requests made by a template, answers found by a path.
#include "provider_case.h"

#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>

#define HERE ", 'endpoint' = 'http://h/x', 'request.template' = "

static const struct request_case requests[] = {
    // clang-format off
    {"a name writes a whole JSON value", HERE "'{\"p\": {{prompt}}, \"s\": {{system}}, \"m\": {{model}}, \"n\": {{count}}}'", false,
     "{\"p\": \"a \\\"b\\\"\", \"s\": \"S\", \"m\": \"x\", \"n\": 1}", NULL, NULL},
    {"options that are given", HERE "'{\"p\":{{prompt}},\"o\":[{{temperature}},{{top_p}},{{max_tokens}},{{seed}},{{stop}}]}'"
     ", 'temperature' = '0', 'top.p' = '0.5', 'max.tokens' = '9', 'seed' = '0', 'stop' = 'E,F'", false,
     "{\"p\":\"a \\\"b\\\"\",\"o\":[0,0.5,9,0,[\"E\",\"F\"]]}", NULL, NULL},
    {"options that are not", HERE "'{\"p\":{{prompt}}{{#temperature}},\"t\":{{temperature}}{{/temperature}}{{^seed}},\"r\":true{{/seed}}}'", false,
     "{\"p\":\"a \\\"b\\\"\",\"r\":true}", NULL, NULL},
    {"a schema", HERE "'{\"p\":{{prompt}}{{#schema}},\"f\":{{schema}}{{/schema}}}'", true,
     "{\"p\":\"a \\\"b\\\"\",\"f\":{\"type\":\"object\"}}", NULL, NULL},
    {"no schema", HERE "'{\"p\":{{prompt}}{{#schema}},\"f\":{{schema}}{{/schema}}}'", false, "{\"p\":\"a \\\"b\\\"\"}", NULL, NULL},
    {"params go into objects that are there", HERE "'{\"a\":{\"p\":{{prompt}},\"k\":1}}', 'params' = '{\"a\":{\"k\":2}}'", false,
     NULL, "\"k\":2}}", "\"k\":1"},
    {"params go over it", HERE "'{\"p\":{{prompt}},\"k\":1}', 'params' = '{\"k\":2,\"l\":3}'", false,
     "{\"p\":\"a \\\"b\\\"\",\"k\":2,\"l\":3}", NULL, NULL},
    {"any JSON value", HERE "'[{{prompt}}]'", false, "[\"a \\\"b\\\"\"]", NULL, NULL},
    // clang-format on
};

static void templates_make_requests(void **state) {
    case_requests("http", requests, sizeof(requests) / sizeof(requests[0]));
}

static int write_with(const char *with, struct slice user, struct buf *body) {
    struct statements list = case_model("http", with);
    struct buf records;
    buf_init(&records, 4096);
    struct buf values;
    buf_init(&values, 4096);
    for (uint64_t i = 0; i < 2; i++) {
        buf_clear(&values);
        assert_int_equal(pack_array(&values, 1), 0);
        assert_int_equal(pack_str(&values, i == 0 ? SLICE_LIT("\"},{\"index\":2") : SLICE_LIT("b")), 0);
        assert_int_equal(record_pack(&records, i + 7, buf_slice(&values)), 0);
    }
    struct ask ask = {.model = list.items[0].model, .user = user, .records = buf_slice(&records), .count = 2};
    int rc = provider_dialect(ask.model)->write(&ask, body);
    buf_free(&records);
    buf_free(&values);
    statements_free(&list);
    return rc;
}

static void records_are_an_array(void **state) {
    struct buf body;
    buf_init(&body, 65536);
    assert_int_equal(write_with(HERE "'{\"instances\":{{records}}}'", SLICE_NONE, &body), 0);
    assert_string_equal(body.p, "{\"instances\":[{\"index\":1,\"t\":\"\\\"},{\\\"index\\\":2\"},{\"index\":2,\"t\":\"b\"}]}");
    buf_free(&body);
}

static void a_request_that_is_no_json_is_not_sent(void **state) {
    struct buf body;
    buf_init(&body, 65536);
    assert_int_equal(write_with(HERE "'{\"p\": \"{{prompt}}\"}'", SLICE_LIT("a"), &body), -EINVAL);
    buf_clear(&body);
    assert_int_equal(write_with(HERE "'{\"p\": {{{prompt}}}}'", SLICE_LIT("[1]"), &body), 0);
    assert_string_equal(body.p, "{\"p\": [1]}");
    buf_clear(&body);
    assert_int_equal(write_with(HERE "'{\"p\": {{{prompt}}}}'", SLICE_LIT("1, 2"), &body), -EINVAL);
    buf_clear(&body);
    assert_int_equal(write_with(HERE "'{{prompt}}', 'params' = '{}'", SLICE_LIT("1"), &body), -EINVAL);
    buf_clear(&body);
    body.max = 20;
    assert_int_equal(write_with(HERE "'{\"p\": {{prompt}}}'", SLICE_LIT("twenty bytes and more"), &body), -EMSGSIZE);
    buf_free(&body);
}

static const struct answer_case texts[] = {
    // clang-format off
    {"a text", 200, "{\"a\":\"x \\\"y\\\"\"}", OUTCOME_OK, "x \"y\""},
    {"several texts are one", 200, "{\"b\":[{\"a\":\"x\"},{\"a\":\"y\"}]}", OUTCOME_OK, "xy"},
    {"the items themselves", 201, "{\"a\":[{\"index\":1,\"s\":1.50}]}", OUTCOME_OK, "[{\"index\":1,\"s\":1.50}]"},
    {"items one by one", 200, "[{\"a\":{\"s\":1}},{\"a\":\"x\"},{\"a\":null}]", OUTCOME_OK, "[{\"s\":1},\"x\",null]"},
    {"a null", 200, "{\"a\":null}", OUTCOME_OK, ""},
    {"nothing there", 200, "{\"c\":1}", OUTCOME_UNREADABLE, NULL},
    {"an error inside a 200", 200, "{\"error\":{\"code\":401},\"a\":\"x\"}", OUTCOME_AUTH, NULL},
    {"an array that is an error", 429, "[{\"a\":\"x\"}]", OUTCOME_TRANSIENT, NULL},
    {"a server's fault", 500, "{\"a\":\"x\"}", OUTCOME_TRANSIENT, NULL},
    // clang-format on
};

static void paths_find_answers(void **state) {
    case_answers("http", HERE "'{{records}}', 'answer.path' = '$..a'", texts, sizeof(texts) / sizeof(texts[0]));
}

static void usage_is_known_when_both_are_there(void **state) {
    static const struct {
        const char *body;
        bool known;
    } cases[] = {
        {"{\"u\":{\"in\":7,\"out\":8}}", true},   {"{\"u\":{\"in\":7}}", false},
        {"{\"u\":{\"in\":-7,\"out\":8}}", false}, {"{\"u\":{\"in\":\"7\",\"out\":8}}", false},
        {"{}", false},
    };
    struct statements list =
        case_model("http", HERE "'{{records}}', 'usage.input.path' = '$.u.in', 'usage.output.path' = '$.u.out'");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer answer = {0};
        case_read(list.items[0].model, 200, cases[i].body, &answer);
        assert_int_equal(answer.outcome, OUTCOME_OK);
        assert_int_equal(answer.usage_known, cases[i].known);
        assert_int_equal(answer.input_tokens, cases[i].known ? 7 : 0);
        assert_int_equal(answer.output_tokens, cases[i].known ? 8 : 0);
        answer_clear(&answer);
    }
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_make_requests),
        cmocka_unit_test(records_are_an_array),
        cmocka_unit_test(a_request_that_is_no_json_is_not_sent),
        cmocka_unit_test(paths_find_answers),
        cmocka_unit_test(usage_is_known_when_both_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
