// Embeddings: one call for all inputs; vectors in either form, matched by index; items of them.
#include "provider_case.h"

#include "proto/record.h"
#include "worker/vectors.h"

static struct statements model_of(const char *type, const char *with) {
    struct buf sql;
    buf_init(&sql, 65536);
    assert_int_equal(buf_addf(&sql,
                              "CREATE MODEL m INPUT (t STRING) OUTPUT (v %s) WITH ('provider' = 'openai', "
                              "'model' = 'x', 'task' = 'embedding', 'batch.size' = '8'%s);",
                              type, with),
                     0);
    struct statements list = {0};
    struct error why = {0};
    if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    buf_free(&sql);
    return list;
}

static void all_inputs_go_in_one_call(void **state) {
    struct statements list = model_of("ARRAY<FLOAT>", ", 'dimensions' = '256'");
    const struct slice inputs[] = {SLICE_LIT("a"), SLICE_LIT("b \"c\"")};
    struct ask ask = {.model = list.items[0].model, .count = 2, .inputs = inputs};
    struct buf body;
    buf_init(&body, 4096);
    assert_int_equal(provider_dialect(ask.model)->write(&ask, &body), 0);
    assert_string_equal(body.p, "{\"model\":\"x\",\"input\":[\"a\",\"b \\\"c\\\"\"],"
                                "\"encoding_format\":\"base64\",\"dimensions\":256}");
    buf_free(&body);
    statements_free(&list);
}

// Items of an answer to three records, as "slot outcome payload" lines.
static const struct {
    const char *name, *type, *with, *body;
    enum outcome want;
    const char *items;
} cases[] = {
    // clang-format off
    {"numbers and base64, in any order", "ARRAY<FLOAT>", "",
     "{\"data\":[{\"index\":2,\"embedding\":[0.1,3]},{\"index\":0,\"embedding\":\"AAAAPwAAgL8=\"},{\"index\":1,\"embedding\":[-0.0,1e-3]}]}",
     OUTCOME_OK, "70 ok [[0.5,-1]]\n71 ok [[-0,0.001]]\n72 ok [[0.1,3]]\n"},
    {"doubles", "ARRAY<DOUBLE>", "", "{\"data\":[{\"index\":0,\"embedding\":[0.5,1]}]}", OUTCOME_OK, "70 ok [[0.5,1]]\n"},
    {"two vectors for one record are none", "ARRAY<FLOAT>", "", "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":1,\"embedding\":[1]},{\"index\":0,\"embedding\":[2]},{\"index\":0,\"embedding\":[2]}]}", OUTCOME_OK, "71 ok [[1]]\n"},
    {"what is no vector is left out", "ARRAY<FLOAT>", "", "{\"data\":[{\"index\":0,\"embedding\":[1,\"x\"]},{\"index\":1,\"embedding\":[]},{\"index\":2,\"embedding\":[7]}]}", OUTCOME_OK, "72 ok [[7]]\n"},
    {"base64 that is cut is left out", "ARRAY<FLOAT>", "", "{\"data\":[{\"index\":0,\"embedding\":\"AAAAPwAA\"},{\"index\":1,\"embedding\":\"AAAAPw==\"},{\"index\":2,\"embedding\":\"A*AA\"}]}", OUTCOME_OK, "71 ok [[0.5]]\n"},
    {"what is not finite is left out", "ARRAY<FLOAT>", "", "{\"data\":[{\"index\":0,\"embedding\":\"AADAfw==\"},{\"index\":1,\"embedding\":[1e300]},{\"index\":2,\"embedding\":[1]}]}", OUTCOME_OK, "72 ok [[1]]\n"},
    {"another length than was asked for", "ARRAY<FLOAT>", ", 'dimensions' = '2'", "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2,3]}]}", OUTCOME_OK, "70 ok [[1,2]]\n71 bad-value got a vector of 3 numbers, want 2\n"},
    {"none at all", "ARRAY<FLOAT>", "", "{\"data\":[]}", OUTCOME_UNREADABLE, ""},
    // clang-format on
};

static void add_items(struct slice items, struct buf *text) {
    uint64_t slot;
    enum outcome outcome;
    struct slice payload;
    while (item_next(&items, &slot, &outcome, &payload) == 1) {
        assert_int_equal(buf_addf(text, "%llu %s ", (unsigned long long)slot, outcome_of(outcome)->text), 0);
        assert_int_equal(outcome == OUTCOME_OK ? msgpack_to_json(payload, text) : buf_add_slice(text, payload), 0);
        assert_int_equal(buf_add_byte(text, '\n'), 0);
    }
}

static void vectors_reach_their_records(void **state) {
    static const uint64_t slots[] = {70, 71, 72};
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct statements list = model_of(cases[i].type, cases[i].with);
        struct reply reply = {.status = 200, .body = slice_of(cases[i].body), .should_retry = NOT_GIVEN,
                              .model = list.items[0].model, .count = 3};
        struct answer answer = {0};
        struct parsed parsed = {0};
        struct buf text;
        buf_init(&parsed.items, 4096);
        buf_init(&text, 4096);
        provider_dialect(reply.model)->read(&reply, &answer);
        assert_int_equal(answer.outcome, OUTCOME_OK);
        struct question question = {.model = reply.model, .slots = slots, .count = 3};
        vectors_pack(&question, &answer, &parsed);
        add_items(buf_slice(&parsed.items), &text);
        if (parsed.outcome != cases[i].want || !slice_is(buf_slice(&text), cases[i].items)) {
            print_error("%s: got %s\n%s", cases[i].name, outcome_of(parsed.outcome)->text,
                        text.n > 0 ? text.p : "");
            n_failed++;
        }
        buf_free(&text);
        buf_free(&parsed.items);
        answer_clear(&answer);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

static void usage_has_no_output(void **state) {
    struct statements list = model_of("ARRAY<FLOAT>", "");
    struct answer answer = {0};
    case_read(list.items[0].model, 200, "{\"data\":[],\"model\":\"e\",\"usage\":{\"prompt_tokens\":4,\"total_tokens\":4}}", &answer);
    assert_true(answer.usage_known);
    assert_int_equal(answer.input_tokens, 4);
    assert_int_equal(answer.output_tokens, 0);
    assert_string_equal(answer.served_model, "e");
    answer_clear(&answer);
    static const char *const doubtful[] = {
        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":3,\"embedding\":[2]}]}",
        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"index\":-1,\"embedding\":[2]}]}",
        "{\"data\":[{\"index\":0,\"embedding\":[1]},{\"embedding\":[2]}]}",
    };
    for (size_t i = 0; i < 3; i++) {
        case_read(list.items[0].model, 200, doubtful[i], &answer);
        assert_int_equal(answer.outcome, OUTCOME_SHIFTED);
        answer_clear(&answer);
    }
    case_read(list.items[0].model, 200, "{\"object\":\"list\"}", &answer);
    assert_int_equal(answer.outcome, OUTCOME_TRANSIENT);
    answer_clear(&answer);
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_inputs_go_in_one_call),
        cmocka_unit_test(vectors_reach_their_records),
        cmocka_unit_test(usage_has_no_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
