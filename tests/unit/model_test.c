// Models: the option table, defaults, values as the rest of the program reads them, overrides,
// credentials by name, and the ceiling of what is written back.
#include "common/model.h"

#include "common/model_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model *make(const char *options) {
    struct buf text;
    buf_init(&text, 65536);
    assert_int_equal(
        buf_addf(
            &text,
            "CREATE MODEL m INPUT (text STRING, n INT NOT NULL) OUTPUT (label STRING) COMMENT 'c' "
            "WITH ('provider' = 'openai', 'endpoint' = 'http://h', 'model' = 'x'%s)",
            options),
        0);
    struct statements list;
    struct error why = {0};
    if (model_sql_parse(buf_slice(&text), "f", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    struct model *model = list.items[0].model;
    list.items[0].model = NULL;
    statements_free(&list);
    buf_free(&text);
    return model;
}

// ---- The table ----------------------------------------------------------------------------------

static void the_table_is_sound(void **state) {
    (void)state;
    size_t n;
    const struct option_row *rows = option_rows(&n);
    for (size_t i = 0; i < n; i++) {
        struct model_options options = {0};
        struct error why = {0};
        if (option_read(&rows[i], rows[i].def, &options, &why) != 0) {
            fail_msg("the default of %s: %s", rows[i].name, why.text);
        }
        if (option_find(slice_of(rows[i].name), &why) != &rows[i]) {
            fail_msg("%s is found as another option", rows[i].name);
        }
        assert_true(rows[i].least <= rows[i].most);
        assert_true(rows[i].type != OPTION_CHOICE || rows[i].def[0] != '\0');
    }
}

// Each option's field is its name with dots turned into underscores.
static void fields_are_named_alike(void **state) {
    (void)state;
#define MODEL_OPTION(field, name, type, def, least, most, want, text) {#field, name},
    static const struct {
        const char *field, *name;
    } pairs[] = {
#include "common/model_options.def"
    };
#undef MODEL_OPTION
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_int_equal(strlen(pairs[i].field), strlen(pairs[i].name));
        for (size_t k = 0; pairs[i].name[k] != '\0'; k++) {
            char c = pairs[i].name[k] == '.' ? '_' : pairs[i].name[k];
            assert_int_equal(pairs[i].field[k], c);
        }
    }
}

static const struct {
    const char *alias, *name; // name NULL: not known
} aliases[] = {
    {"batch.size", "batch.size"},
    {"BATCH-SIZE", "batch.size"},
    {"batchSize", "batch.size"},
    {"batch_size", "batch.size"},
    {"api-key", "api_key"},
    {"apikey", "api_key"},
    {"openai.api-key", "api_key"},
    {"OpenAI.Endpoint", "endpoint"},
    {"openai.params.temperature", "temperature"},
    {"params.top_p", "top.p"},
    {"params", "params"},
    {"openai.params", "params"},
    {"max-context-size", "context.size"},
    {"retry-num", "max.retries"},
    {"openai.", NULL},
    {"", NULL},
    {"...", NULL},
    {"batch size", NULL},
    {"anthropic.endpoint", NULL},
    {"bätch.size", NULL},
};

static void aliases_are_found(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        struct error why = {0};
        const struct option_row *row = option_find(slice_of(aliases[i].alias), &why);
        const char *got = row != NULL ? row->name : "(none)";
        if (strcmp(got, aliases[i].name != NULL ? aliases[i].name : "(none)") != 0) {
            fail_msg("'%s' found %s", aliases[i].alias, got);
        }
        assert_true((row == NULL) == (why.text[0] != '\0'));
    }
}

// ---- Values -------------------------------------------------------------------------------------

static void defaults(void **state) {
    (void)state;
    struct model *model = make("");
    const struct model_options *o = &model->options;
    assert_int_equal(o->batch_size, 1);
    assert_int_equal(o->batch_timeout_ms, 1000);
    assert_int_equal(o->batch_max_tokens, MODEL_UNSET);
    assert_int_equal(o->limit_concurrency, MODEL_UNSET);
    assert_int_equal(o->request_timeout_ms, 30000);
    assert_int_equal(o->worker_lost_ms, 60000);
    assert_int_equal(o->seed, MODEL_UNSET);
    assert_true(isnan(o->temperature) && isnan(o->price_input));
    assert_int_equal(o->mode, MODE_ONLINE);
    assert_int_equal(o->input_format, FORMAT_JSON);
    assert_int_equal(o->fallback_strategy, FALLBACK_SPLIT);
    assert_int_equal(o->on_error, ON_ERROR_ROW);
    assert_int_equal(o->max_tokens_field, MAX_TOKENS_AUTO);
    assert_int_equal(o->http2, 0);
    assert_string_equal(o->api_key, "");
    assert_string_equal(o->response_path, "$[*]");
    assert_string_equal(o->response_index_field, "index");
    assert_string_equal(o->response_value_field, "label"); // the only OUTPUT column
    assert_null(model->system_template);
    assert_non_null(model->response_path);
    model_free(model);
}

static void written_values(void **state) {
    (void)state;
    struct model *model =
        make(", 'batch.size' = ' 20 ', 'request.timeout.ms' = '2 min', 'temperature' = '0.25', "
             "'fallback.strategy' = 'FAIL', 'on.error' = 'dead-letter', 'input.format' = 'text', "
             "'structured.output' = 'required', 'http2' = 'true', 'response.best.effort' = 'ON', "
             "'max.tokens.field' = 'max_completion_tokens', 'task' = 'classification', "
             "'response.value.field' = 'v', 'cost.input' = '1e-1', 'batch.timeout.ms' = '0', "
             "'seed' = '9007199254740991', 'stop' = ' a , \"b'");
    const struct model_options *o = &model->options;
    assert_int_equal(o->batch_size, 20);
    assert_int_equal(o->request_timeout_ms, 120000);
    assert_true(o->temperature == 0.25 && o->price_input == 0.1);
    assert_int_equal(o->fallback_strategy, FALLBACK_FAIL);
    assert_int_equal(o->on_error, ON_ERROR_DEAD_LETTER);
    assert_int_equal(o->input_format, FORMAT_TEXT);
    assert_int_equal(o->structured_output, STRUCTURED_REQUIRED);
    assert_int_equal(o->http2, 1);
    assert_int_equal(o->response_best_effort, BEST_EFFORT_ON);
    assert_int_equal(o->max_tokens_field, MAX_TOKENS_COMPLETION);
    assert_int_equal(o->task, TASK_CLASSIFICATION);
    assert_string_equal(o->response_value_field, "v");
    assert_int_equal(o->batch_timeout_ms, 0);
    assert_int_equal(o->seed, 9007199254740991);
    assert_string_equal(o->stop, "[\"a\",\"\\\"b\"]");
    model_free(model);
}

static void columns_by_name(void **state) {
    (void)state;
    struct model *model = make("");
    assert_int_equal(model_input_index(model, SLICE_LIT("text")), 0);
    assert_int_equal(model_input_index(model, SLICE_LIT("n")), 1);
    assert_int_equal(model_input_index(model, SLICE_LIT("N")), -1);
    assert_int_equal(model_input_index(model, SLICE_LIT("")), -1);
    assert_int_equal(model_input_index(model, SLICE_LIT("label")), -1);
    assert_true(model->input[1].not_null && !model->input[0].not_null);
    assert_string_equal(column_type_name(model->input[1].type), "INT");
    model_free(model);
}

// ---- Overrides ----------------------------------------------------------------------------------

#define MANY 3

static const struct {
    const char *says;
    struct model_setting settings[MANY];
    const char *want; // the sentence; NULL: it works
} overrides[] = {
    {"nothing", {{0}}, NULL},
    {"an alias", {{.name = "batch-size", .value = "50"}}, NULL},
    {"two options",
     {{.name = "batch.size", .value = "50"}, {.name = "http2", .value = "on"}},
     NULL},
    {"one that was not written", {{.name = "temperature", .value = "1"}}, NULL},
    {"an unknown name",
     {{.name = "batch.sizes", .value = "5"}},
     "option 'batch.sizes': not known; want 'batch.size'?"},
    {"a bad value",
     {{.name = "batch.size", .value = "many"}},
     "option 'batch.size': got 'many', want a whole number, 1 to 1024"},
    {"twice",
     {{.name = "batch.size", .value = "5"}, {.name = "batchSize", .value = "6"}},
     "option 'batch.size': given twice"},
    {"checked against the rest of the model",
     {{.name = "response.format", .value = "text"}},
     "option 'batch.size': got 20 with 'response.format' = 'text', want 1, or 'response.format' = "
     "'json': an answer for several records must carry an index"},
    {"a template that does not compile",
     {{.name = "prompt.template", .value = "{{nobody}}"}},
     "option 'prompt.template': got '{{nobody}}', want one of: index, count, records, schema, "
     "labels, "
     "now, text, n"},
    {"a literal credential",
     {{.name = "api_key", .value = "sk-hunter2"}},
     "option 'api_key': got a literal value (not repeated here), want the name of an environment "
     "variable or secret, as ${OPENAI_API_KEY}"},
    {"bytes that are not UTF-8",
     {{.name = "model", .value = "\xff"}},
     "option 'model': got bytes that are not UTF-8, want text"},
};

static void override_works(void **state) {
    (void)state;
    struct model *model = make(", 'batch.size' = '20', 'system.prompt' = 'be {{count}}'");
    model->revision = 7;
    for (size_t i = 0; i < sizeof(overrides) / sizeof(overrides[0]); i++) {
        size_t n = 0;
        while (n < MANY && overrides[i].settings[n].name != NULL) {
            n++;
        }
        struct error why = {0};
        struct model *copy = model_override(model, overrides[i].settings, n, &why);
        if ((copy != NULL) != (overrides[i].want == NULL) ||
            (copy == NULL && strcmp(why.text, overrides[i].want) != 0)) {
            fail_msg("%s: got '%s'", overrides[i].says, why.text);
        }
        if (copy != NULL) {
            assert_int_equal(copy->revision, 7);
            assert_string_equal(copy->name, "m");
            assert_string_equal(copy->comment, "c");
            assert_non_null(copy->system_template);
            assert_string_equal(copy->input[1].name, "n");
        }
        model_free(copy);
    }
    assert_int_equal(model->options.batch_size, 20); // the first one is as it was
    model_free(model);
}

static void an_override_outlives_its_model(void **state) {
    (void)state;
    struct model *model = make(", 'batch.size' = '20', 'system.prompt' = 'be'");
    struct model_setting setting = {.name = "batch.size", .value = "50"};
    struct error why = {0};
    struct model *copy = model_override(model, &setting, 1, &why);
    model_free(model);
    assert_non_null(copy);
    assert_int_equal(copy->options.batch_size, 50);
    assert_string_equal(copy->options.system_prompt, "be");
    assert_string_equal(copy->options.response_value_field, "label");
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(model_to_sql(copy, &out), 0);
    assert_non_null(strstr(out.p, "'batch.size' = '50'"));
    buf_free(&out);
    model_free(copy);
}

// ---- Credentials, ceiling
// ------------------------------------------------------------------------

static int on_secret(void *arg, struct slice name) {
    struct buf *seen = arg;
    assert_int_equal(buf_addf(seen, "%.*s ", SLICE_FMT(name)), 0);
    return slice_is(name, "STOP") ? 42 : 0;
}

static const struct {
    const char *says, *options, *seen;
    int rc;
} secrets[] = {
    {"none", "", "", 0},
    {"the key", ", 'api_key' = '${KEY_1}'", "KEY_1 ", 0},
    {"key and headers", ", 'api_key' = '${K}', 'headers' = '{\"A\": \"${B}x${C}\"}'", "K B C ", 0},
    {"a template's text is not a secret", ", 'prompt.template' = '${NO}'", "", 0},
    {"the callback ends it", ", 'headers' = '{\"A\": \"${A}${STOP}${B}\"}'", "A STOP ", 42},
};

static void secrets_are_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        struct model *model = make(secrets[i].options);
        struct buf seen;
        buf_init(&seen, 256);
        int rc = model_secrets(model, on_secret, &seen);
        if (rc != secrets[i].rc || strcmp(seen.n > 0 ? seen.p : "", secrets[i].seen) != 0) {
            fail_msg("%s: got %d '%s'", secrets[i].says, rc, seen.p);
        }
        buf_free(&seen);
        model_free(model);
    }
}

static void writing_stops_at_the_ceiling(void **state) {
    (void)state;
    struct model *model = make("");
    struct buf whole;
    buf_init(&whole, 4096);
    assert_int_equal(model_to_sql(model, &whole), 0);
    for (size_t max = 0; max < whole.n; max++) {
        struct buf out;
        buf_init(&out, max);
        assert_int_equal(model_to_sql(model, &out), -EMSGSIZE);
        buf_free(&out);
    }
    buf_free(&whole);
    model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound), cmocka_unit_test(fields_are_named_alike),
        cmocka_unit_test(aliases_are_found),  cmocka_unit_test(defaults),
        cmocka_unit_test(written_values),     cmocka_unit_test(columns_by_name),
        cmocka_unit_test(override_works),     cmocka_unit_test(an_override_outlives_its_model),
        cmocka_unit_test(secrets_are_named),  cmocka_unit_test(writing_stops_at_the_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
