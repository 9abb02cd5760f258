// prompt: records and a model in, messages out; the cases are text, in tests/cases/prompt.test.
#include "worker/prompt.h"
#include "worker/instruct.h"

#include "common/clock.h"
#include "common/json.h"
#include "proto/record.h"
#include "tests/unit/case_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

// records_of packs JSON arrays, one a line, as a DISPATCH carries them. Slots count down from 100.
static size_t records_of(struct slice lines, struct buf *out) {
    size_t count = 0;
    while (lines.n > 0) {
        struct json_object *row = NULL;
        assert_int_equal(json_parse(case_line(&lines), &row, NULL), 0);
        struct buf values;
        buf_init(&values, 65536);
        assert_int_equal(json_to_msgpack(row, &values), 0);
        assert_int_equal(record_pack(out, 100 - count, buf_slice(&values)), 0);
        buf_free(&values);
        json_object_put(row);
        count++;
    }
    return count;
}

static struct statements model_of(struct slice setup) {
    struct slice size = case_setting(setup, "batch", "20");
    struct slice options = case_setting(setup, "options", "");
    struct slice input = case_setting(setup, "input", "text STRING");
    struct buf sql;
    buf_init(&sql, 65536);
    assert_int_equal(buf_addf(&sql,
                              "CREATE MODEL m INPUT (%.*s) OUTPUT (label STRING NOT NULL, score INT) "
                              "WITH ('provider' = 'openai', 'endpoint' = 'http://127.0.0.1:1/', "
                              "'model' = 'x', 'batch.size' = '%.*s'%s%.*s);",
                              SLICE_FMT(input), SLICE_FMT(size), options.n > 0 ? ", " : "",
                              SLICE_FMT(options)),
                     0);
    struct statements list = {0};
    struct error why = {0};
    if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    buf_free(&sql);
    return list;
}

static void every_case_of_the_file(void **state) {
    static struct case_file file;
    case_file_read("cases/prompt.test", &file);
    assert_true(file.n >= 20);
    clock_fake(0, 1790000000000);
    size_t n_failed = 0;
    for (size_t i = 0; i < file.n; i++) {
        const struct text_case *c = &file.cases[i];
        struct statements list = model_of(c->setup);
        struct prompt_plan plan;
        struct error why = {0};
        struct buf records, system, user, out;
        buf_init(&records, 1 << 20);
        buf_init(&system, 1 << 20);
        buf_init(&user, 1 << 20);
        buf_init(&out, 1 << 20);
        size_t count = records_of(c->input, &records);
        uint64_t slots[64];
        assert_int_equal(prompt_plan_make(list.items[0].model, &plan, &why), 0);
        int rc = prompt_make(list.items[0].model, &plan, buf_slice(&records), count, slots, &system,
                             &user, &why);
        if (rc == 0) {
            if (system.n > 0) {
                assert_int_equal(buf_addf(&out, "%.*s\n***\n", SLICE_FMT(buf_slice(&system))), 0);
            }
            assert_int_equal(buf_add_slice(&out, buf_slice(&user)), 0);
            for (size_t k = 0; k < count; k++) {
                assert_int_equal(slots[k], 100 - k);
            }
        } else {
            assert_int_equal(buf_addf(&out, "error: %s", why.text), 0);
        }
        if (!slice_eq(slice_trim(buf_slice(&out)), c->want)) {
            n_failed++;
            print_error("%.*s\n  got:\n%.*s\n  want:\n%.*s\n", SLICE_FMT(c->name),
                        SLICE_FMT(buf_slice(&out)), SLICE_FMT(c->want));
        }
        buf_free(&records);
        buf_free(&system);
        buf_free(&user);
        buf_free(&out);
        prompt_plan_free(&plan);
        statements_free(&list);
    }
    clock_real();
    free(file.text);
    assert_int_equal(n_failed, 0);
}

static void damaged_records_are_refused(void **state) {
    struct statements list = model_of(SLICE_NONE);
    struct prompt_plan plan;
    struct error why = {0};
    struct buf good, system, user;
    buf_init(&good, 65536);
    buf_init(&system, 65536);
    buf_init(&user, 65536);
    assert_int_equal(prompt_plan_make(list.items[0].model, &plan, &why), 0);
    records_of(SLICE_LIT("[\"one\"]\n[\"two\"]"), &good);
    uint64_t slots[4];
    for (size_t n = 0; n < good.n; n++) {
        char *cut = malloc(n > 0 ? n : 1);
        memcpy(cut, good.p, n);
        assert_int_equal(prompt_make(list.items[0].model, &plan, (struct slice){.p = cut, .n = n}, 2,
                                     slots, &system, &user, &why),
                         -EPROTO);
        free(cut);
    }
    assert_int_equal(prompt_make(list.items[0].model, &plan, buf_slice(&good), 1, slots, &system,
                                 &user, &why),
                     -EPROTO);
    user.max = 20;
    buf_free(&user);
    assert_int_equal(prompt_make(list.items[0].model, &plan, buf_slice(&good), 2, slots, &system,
                                 &user, &why),
                     -EMSGSIZE);
    buf_free(&good);
    buf_free(&system);
    buf_free(&user);
    prompt_plan_free(&plan);
    statements_free(&list);
}

static void text_answers_and_batches_do_not_go_together(void **state) {
    struct statements list = model_of(SLICE_LIT("batch: 1"));
    struct model *model = list.items[0].model;
    model->options.response_format = RESPONSE_TEXT;
    struct prompt_plan plan;
    struct error why = {0};
    assert_int_equal(prompt_plan_make(model, &plan, &why), 0);
    prompt_plan_free(&plan);
    model->options.batch_size = 2;
    assert_int_equal(prompt_plan_make(model, &plan, &why), -EINVAL);
    assert_non_null(strstr(why.text, "response.format"));
    prompt_plan_free(&plan);
    statements_free(&list);
}

static void the_schema_names_every_field(void **state) {
    struct statements list = model_of(SLICE_NONE);
    struct prompt_plan plan;
    struct error why = {0};
    assert_int_equal(prompt_plan_make(list.items[0].model, &plan, &why), 0);
    assert_string_equal(
        plan.schema.p,
        "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":{\"type\":"
        "\"object\",\"properties\":{\"index\":{\"type\":\"integer\"},\"label\":{\"type\":\"string\"},"
        "\"score\":{\"type\":[\"integer\",\"null\"]}},\"required\":[\"index\",\"label\",\"score\"],"
        "\"additionalProperties\":false}}},\"required\":[\"items\"],\"additionalProperties\":false}");
    struct json_object *json = NULL;
    assert_int_equal(json_parse(buf_slice(&plan.item_schema), &json, &why), 0);
    json_object_put(json);
    prompt_plan_free(&plan);
    statements_free(&list);
}

// corrections name the record's number in this prompt, on a line each.
static void a_correction_says_which_record_and_why(void **state) {
    struct buf corrections, user;
    buf_init(&corrections, 4096);
    buf_init(&user, 4096);
    assert_int_equal(item_pack(&corrections, 7, OUTCOME_BAD_VALUE, slice_of("column 'n': got\na string")), 0);
    assert_int_equal(item_pack(&corrections, 9, OUTCOME_BAD_VALUE, slice_of("of another call")), 0);
    const uint64_t slots[] = {5, 7};
    assert_int_equal(instruct_correct(true, buf_slice(&corrections), slots, 2, &user), 0);
    assert_string_equal(user.p, "\n\nAn earlier answer had values that do not fit. Answer with values "
                                "that do:\nrecord 2: column 'n': got a string");
    buf_clear(&user);
    assert_int_equal(instruct_correct(false, buf_slice(&corrections), slots, 2, &user), 0);
    assert_non_null(strstr(user.p, "that do:\ncolumn 'n'"));
    buf_clear(&user);
    assert_int_equal(instruct_correct(true, buf_slice(&corrections), slots, 1, &user), 0);
    assert_int_equal(user.n, 0);
    assert_int_equal(instruct_correct(true, SLICE_NONE, slots, 2, &user), 0);
    assert_int_equal(instruct_correct(true, SLICE_LIT("\xff"), slots, 2, &user), -EPROTO);
    buf_free(&corrections);
    buf_free(&user);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_file),
        cmocka_unit_test(damaged_records_are_refused),
        cmocka_unit_test(text_answers_and_batches_do_not_go_together),
        cmocka_unit_test(the_schema_names_every_field),
        cmocka_unit_test(a_correction_says_which_record_and_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
