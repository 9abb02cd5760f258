// kserve: tensors of columns, and columns of tensors.
#include "provider_case.h"

#include "proto/record.h"

#include <errno.h>

static struct statements model_of(const char *columns, const char *with) {
    struct buf sql;
    struct statements list = {0};
    struct error why = {0};
    buf_init(&sql, 65536);
    assert_int_equal(buf_addf(&sql,
                              "CREATE MODEL m %s WITH ('provider' = 'kserve', 'endpoint' = 'http://h', "
                              "'model' = 'x'%s%s);",
                              columns, strstr(with, "'batch.size'") == NULL ? ", 'batch.size' = '8'" : "", with),
                     0);
    if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    buf_free(&sql);
    return list;
}

// add_records packs JSON rows as a DISPATCH has them.
static void add_records(const struct model *model, const char *const *rows, size_t n, struct buf *out) {
    for (size_t i = 0; i < n; i++) {
        struct json_object *json = NULL;
        struct buf fields, values;
        struct error why = {0};
        buf_init(&fields, 65536);
        buf_init(&values, 65536);
        assert_int_equal(json_parse(slice_of(rows[i]), &json, NULL), 0);
        assert_int_equal(json_to_msgpack(json, &fields), 0);
        assert_int_equal(record_values(model, buf_slice(&fields), &values, &why), 0);
        assert_int_equal(record_pack(out, 70 + i, buf_slice(&values)), 0);
        json_object_put(json);
        buf_free(&fields);
        buf_free(&values);
    }
}

static const struct {
    const char *name, *columns, *with, *rows[2], *want;
} requests[] = {
    // clang-format off
    {"texts", "INPUT (t STRING) OUTPUT (s STRING)", "", {"{\"t\":\"a\"}", "{\"t\":\"\\\"b\\n\"}"},
     "{\"inputs\":[{\"name\":\"t\",\"shape\":[2,1],\"datatype\":\"BYTES\",\"data\":[\"a\",\"\\\"b\\n\"]}],\"outputs\":[{\"name\":\"s\"}]}"},
    {"each type", "INPUT (b BOOLEAN, i INT, l BIGINT, f FLOAT, d DOUBLE) OUTPUT (s STRING, v ARRAY<FLOAT>)", "",
     {"{\"b\":true,\"i\":1,\"l\":-9007199254740993,\"f\":0.5,\"d\":0.1}", "{\"b\":false,\"i\":2,\"l\":3,\"f\":4,\"d\":5e300}"},
     "{\"inputs\":[{\"name\":\"b\",\"shape\":[2,1],\"datatype\":\"BOOL\",\"data\":[true,false]},"
     "{\"name\":\"i\",\"shape\":[2,1],\"datatype\":\"INT32\",\"data\":[1,2]},"
     "{\"name\":\"l\",\"shape\":[2,1],\"datatype\":\"INT64\",\"data\":[-9007199254740993,3]},"
     "{\"name\":\"f\",\"shape\":[2,1],\"datatype\":\"FP32\",\"data\":[0.5,4]},"
     "{\"name\":\"d\",\"shape\":[2,1],\"datatype\":\"FP64\",\"data\":[0.1,5e+300]}],"
     "\"outputs\":[{\"name\":\"s\"},{\"name\":\"v\"}]}"},
    {"one dimension, another name, parameters", "INPUT (t STRING) OUTPUT (s STRING)",
     ", 'tensor.flat' = 'on', 'response.value.field' = 'OUT__0', 'params' = '{\"parameters\":{\"priority\":1}}'",
     {"{\"t\":\"a\"}", "{\"t\":\"\"}"},
     "{\"inputs\":[{\"name\":\"t\",\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"a\",\"\"]}],\"outputs\":[{\"name\":\"OUT__0\"}],\"parameters\":{\"priority\":1}}"},
    {"arrays", "INPUT (v ARRAY<FLOAT>, h ARRAY<STRING>, n INT) OUTPUT (s STRING)", "",
     {"{\"v\":[1,2.5],\"h\":[\"a\",\"\\\"\",\"c\"],\"n\":1}", "{\"v\":[3,4],\"h\":[\"d\",\"e\",\"f\"],\"n\":2}"},
     "{\"inputs\":[{\"name\":\"v\",\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[1,2.5,3,4]},"
     "{\"name\":\"h\",\"shape\":[2,3],\"datatype\":\"BYTES\",\"data\":[\"a\",\"\\\"\",\"c\",\"d\",\"e\",\"f\"]},"
     "{\"name\":\"n\",\"shape\":[2,1],\"datatype\":\"INT32\",\"data\":[1,2]}],\"outputs\":[{\"name\":\"s\"}]}"},
    {"matrices", "INPUT (v ARRAY<ARRAY<BIGINT>>) OUTPUT (s STRING)", "", {"{\"v\":[[1,2,3],[4,5,6]]}", "{\"v\":[[7,8,9],[10,11,12]]}"},
     "{\"inputs\":[{\"name\":\"v\",\"shape\":[2,2,3],\"datatype\":\"INT64\",\"data\":[1,2,3,4,5,6,7,8,9,10,11,12]}],\"outputs\":[{\"name\":\"s\"}]}"},
    {"a flat array has no dimension for records", "INPUT (v ARRAY<DOUBLE>, b BOOLEAN) OUTPUT (s STRING)", ", 'tensor.flat' = 'on', 'batch.size' = '1'",
     {"{\"v\":[1,2,3],\"b\":true}"},
     "{\"inputs\":[{\"name\":\"v\",\"shape\":[3],\"datatype\":\"FP64\",\"data\":[1,2,3]},"
     "{\"name\":\"b\",\"shape\":[1],\"datatype\":\"BOOL\",\"data\":[true]}],\"outputs\":[{\"name\":\"s\"}]}"},
    {"arrays of different lengths", "INPUT (v ARRAY<FLOAT>) OUTPUT (s STRING)", "", {"{\"v\":[1,2]}", "{\"v\":[3]}"}, NULL},
    {"rows of different lengths", "INPUT (v ARRAY<ARRAY<ARRAY<INT>>>) OUTPUT (s STRING)", "", {"{\"v\":[[[1,2]],[[3]]]}"}, NULL},
    // clang-format on
};

static void columns_become_tensors(void **state) {
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct statements list = model_of(requests[i].columns, requests[i].with);
        struct buf records, body;
        buf_init(&records, 65536);
        buf_init(&body, 65536);
        size_t n = requests[i].rows[1] != NULL ? 2 : 1;
        add_records(list.items[0].model, requests[i].rows, n, &records);
        struct ask ask = {.model = list.items[0].model, .records = buf_slice(&records), .count = n};
        int rc = provider_dialect(ask.model)->write(&ask, &body);
        assert_int_equal(rc, requests[i].want != NULL ? 0 : -ERANGE);
        if (rc == 0) {
            assert_string_equal(body.p, requests[i].want);
        }
        buf_free(&records);
        buf_free(&body);
        statements_free(&list);
    }
}

static void a_null_never_becomes_a_value(void **state) {
    static const char *const rows[] = {"{\"t\":null}"};
    struct statements list = model_of("INPUT (t STRING) OUTPUT (s STRING)", "");
    assert_int_equal(list.items[0].model->options.null_input, NULL_ERROR);
    struct buf records, body;
    buf_init(&records, 65536);
    buf_init(&body, 65536);
    add_records(list.items[0].model, rows, 1, &records);
    struct ask ask = {.model = list.items[0].model, .records = buf_slice(&records), .count = 1};
    assert_int_equal(provider_dialect(ask.model)->write(&ask, &body), -EPROTO);
    buf_free(&records);
    buf_free(&body);
    statements_free(&list);
}

#define OUTPUTS(outputs) "{\"model_name\":\"x\",\"model_version\":\"1\",\"outputs\":[" outputs "]}"
#define TENSOR(name, shape, data) \
    "{\"name\":\"" name "\",\"datatype\":\"?\",\"shape\":" shape ",\"data\":" data "}"

// Answers to two records, and the text that the parser gets.
static const struct {
    const char *name, *output, *body;
    enum outcome want;
    const char *text;
} answers[] = {
    // clang-format off
    {"an element a record", "s STRING", OUTPUTS(TENSOR("s", "[2,1]", "[\"a\",\"\\\"b\"]")), OUTCOME_OK,
     "[{\"index\":1,\"s\":\"a\"},{\"index\":2,\"s\":\"\\\"b\"}]"},
    {"one dimension", "s STRING", OUTPUTS(TENSOR("s", "[2]", "[\"a\",\"b\"]")), OUTCOME_OK,
     "[{\"index\":1,\"s\":\"a\"},{\"index\":2,\"s\":\"b\"}]"},
    {"nested data", "s STRING", OUTPUTS(TENSOR("s", "[2,1]", "[[\"a\"],[\"b\"]]")), OUTCOME_OK,
     "[{\"index\":1,\"s\":\"a\"},{\"index\":2,\"s\":\"b\"}]"},
    {"a vector a record", "v ARRAY<FLOAT>", OUTPUTS(TENSOR("v", "[2,3]", "[1,2,3,4.50,5,6]")), OUTCOME_OK,
     "[{\"index\":1,\"v\":[1,2,3]},{\"index\":2,\"v\":[4.50,5,6]}]"},
    {"a nested vector a record", "v ARRAY<FLOAT>", OUTPUTS(TENSOR("v", "[2,2]", "[[1,2],[3,4]]")), OUTCOME_OK,
     "[{\"index\":1,\"v\":[1,2]},{\"index\":2,\"v\":[3,4]}]"},
    {"a vector of one number", "v ARRAY<FLOAT>", OUTPUTS(TENSOR("v", "[2,1]", "[1,2]")), OUTCOME_OK,
     "[{\"index\":1,\"v\":[1]},{\"index\":2,\"v\":[2]}]"},
    {"a matrix a record", "v ARRAY<ARRAY<INT>>", OUTPUTS(TENSOR("v", "[2,2,2]", "[1,2,3,4,5,6,7,8]")), OUTCOME_OK,
     "[{\"index\":1,\"v\":[[1,2],[3,4]]},{\"index\":2,\"v\":[[5,6],[7,8]]}]"},
    {"several outputs in any order, and one more", "a INT, b BOOLEAN",
     OUTPUTS(TENSOR("b", "[2]", "[true,false]") "," TENSOR("c", "[9]", "[]") "," TENSOR("a", "[2]", "[1,2]")), OUTCOME_OK,
     "[{\"index\":1,\"a\":1,\"b\":true},{\"index\":2,\"a\":2,\"b\":false}]"},
    {"several elements for one value are for the parser to refuse", "a INT", OUTPUTS(TENSOR("a", "[2,2]", "[1,2,3,4]")), OUTCOME_OK,
     "[{\"index\":1,\"a\":[1,2]},{\"index\":2,\"a\":[3,4]}]"},
    {"more records than were asked", "a INT", OUTPUTS(TENSOR("a", "[3,1]", "[1,2,3]")), OUTCOME_UNREADABLE, NULL},
    {"fewer records than were asked", "a INT", OUTPUTS(TENSOR("a", "[1,1]", "[1]")), OUTCOME_UNREADABLE, NULL},
    {"data that do not fill the shape", "a INT", OUTPUTS(TENSOR("a", "[2,1]", "[1]")), OUTCOME_UNREADABLE, NULL},
    {"more data than the shape has", "v ARRAY<INT>", OUTPUTS(TENSOR("v", "[2,2]", "[1,2,3,4,5]")), OUTCOME_UNREADABLE, NULL},
    {"rows of different lengths", "v ARRAY<INT>", OUTPUTS(TENSOR("v", "[2,2]", "[[1,2,3],[4]]")), OUTCOME_UNREADABLE, NULL},
    {"no shape", "a INT", OUTPUTS("{\"name\":\"a\",\"data\":[1,2]}"), OUTCOME_UNREADABLE, NULL},
    {"a shape that is too large", "a INT", OUTPUTS(TENSOR("a", "[2,4294967296,4294967296]", "[1,2]")), OUTCOME_UNREADABLE, NULL},
    {"a shape with nothing in it", "v ARRAY<INT>", OUTPUTS(TENSOR("v", "[2,60000000,0]", "[]")), OUTCOME_UNREADABLE, NULL},
    {"no data: they came in the binary form", "a INT", OUTPUTS("{\"name\":\"a\",\"shape\":[2],\"parameters\":{\"binary_data_size\":8}}"), OUTCOME_UNREADABLE, NULL},
    {"another output alone", "a INT", OUTPUTS(TENSOR("b", "[2]", "[1,2]")), OUTCOME_UNREADABLE, NULL},
    {"outputs that are none", "a INT", "{\"outputs\":\"oops\"}", OUTCOME_UNREADABLE, NULL},
    // clang-format on
};

// The same to a request without a dimension for records.
static const struct {
    const char *name, *output, *body;
    enum outcome want;
    const char *text;
} flat_answers[] = {
    // clang-format off
    {"a vector", "v ARRAY<FLOAT>", OUTPUTS(TENSOR("v", "[3]", "[1,2,3]")), OUTCOME_OK, "[{\"index\":1,\"v\":[1,2,3]}]"},
    {"a vector of one number", "v ARRAY<FLOAT>", OUTPUTS(TENSOR("v", "[1]", "[1]")), OUTCOME_OK, "[{\"index\":1,\"v\":[1]}]"},
    {"a vector behind a dimension of one", "v ARRAY<FLOAT>", OUTPUTS(TENSOR("v", "[1,2]", "[1,2]")), OUTCOME_OK, "[{\"index\":1,\"v\":[1,2]}]"},
    {"a matrix", "v ARRAY<ARRAY<INT>>", OUTPUTS(TENSOR("v", "[2,2]", "[1,2,3,4]")), OUTCOME_OK, "[{\"index\":1,\"v\":[[1,2],[3,4]]}]"},
    {"nested data", "v ARRAY<ARRAY<INT>>", OUTPUTS(TENSOR("v", "[2,1]", "[[1],[2]]")), OUTCOME_OK, "[{\"index\":1,\"v\":[[1],[2]]}]"},
    {"an element", "s STRING", OUTPUTS(TENSOR("s", "[1]", "[\"a\"]")), OUTCOME_OK, "[{\"index\":1,\"s\":\"a\"}]"},
    {"data that do not fill the shape", "v ARRAY<INT>", OUTPUTS(TENSOR("v", "[3]", "[1,2]")), OUTCOME_UNREADABLE, NULL},
    {"nested data that do not fill the shape", "v ARRAY<INT>", OUTPUTS(TENSOR("v", "[2,2]", "[[1,2],[3]]")), OUTCOME_UNREADABLE, NULL},
    // clang-format on
};

static void flat_tensors_are_one_record(void **state) {
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(flat_answers) / sizeof(flat_answers[0]); i++) {
        char columns[128];
        snprintf(columns, sizeof(columns), "INPUT (x ARRAY<FLOAT>) OUTPUT (%s)", flat_answers[i].output);
        struct statements list = model_of(columns, ", 'tensor.flat' = 'on', 'batch.size' = '1'");
        struct reply reply = {.status = 200, .body = slice_of(flat_answers[i].body), .should_retry = NOT_GIVEN,
                              .model = list.items[0].model, .count = 1};
        struct answer answer = {0};
        provider_dialect(reply.model)->read(&reply, &answer);
        if (answer.outcome != flat_answers[i].want ||
            (flat_answers[i].text != NULL && !slice_is(answer.text, flat_answers[i].text))) {
            print_error("%s: got %s %.*s (%s)\n", flat_answers[i].name, outcome_of(answer.outcome)->text,
                        SLICE_FMT(answer.text), answer.detail);
            n_failed++;
        }
        answer_clear(&answer);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

static void tensors_become_columns(void **state) {
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        char columns[128];
        snprintf(columns, sizeof(columns), "INPUT (t STRING) OUTPUT (%s)", answers[i].output);
        struct statements list = model_of(columns, "");
        struct reply reply = {.status = 200, .body = slice_of(answers[i].body), .should_retry = NOT_GIVEN,
                              .model = list.items[0].model, .count = 2};
        struct answer answer = {0};
        provider_dialect(reply.model)->read(&reply, &answer);
        if (answer.outcome != answers[i].want || (answer.outcome != OUTCOME_OK && answer.detail[0] == '\0') ||
            (answers[i].text != NULL && !slice_is(answer.text, answers[i].text))) {
            print_error("%s: got %s %.*s (%s)\n", answers[i].name, outcome_of(answer.outcome)->text,
                        SLICE_FMT(answer.text), answer.detail);
            n_failed++;
        }
        assert_true(answer.outcome != OUTCOME_OK || strcmp(answer.served_model, "x") == 0);
        answer_clear(&answer);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

static void credentials(void **state) {
    case_headers("kserve", ", 'endpoint' = 'http://h'", "");
    case_headers("kserve", ", 'endpoint' = 'http://h', 'api_key' = '${K}'", "Authorization: Bearer ${K}\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_become_tensors),
        cmocka_unit_test(a_null_never_becomes_a_value),
        cmocka_unit_test(tensors_become_columns),
        cmocka_unit_test(flat_tensors_are_one_record),
        cmocka_unit_test(credentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
