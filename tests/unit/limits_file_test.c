// Limits of shared accounts: what a file may say, which row a model finds, and what becomes of its limits.
#include "common/limits_file.h"

#include "common/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define NAMES "pool,provider,account,model,rpm,concurrency,profile\n"

static const struct {
    const char *says, *text, *why; // a part of the sentence
} bad_files[] = {
    {"an empty file", "", "limits.csv: got no line"},
    {"comments alone", "# nothing\n\n", "limits.csv: got no line"},
    {"an unknown column", "pool,provider,account,model,rps\n",
     "limits.csv:1: the line of column names: got 'rps', want each once"},
    {"a column twice", "pool,pool\n", "got 'pool', want each once"},
    {"a column that is needed", "pool,provider,model,rpm\n", "limits.csv:1: got no column 'account'"},
    {"a cell too few", NAMES "p,openai,*,m,1,2\n", "limits.csv:2: got 6 cells, want 7"},
    {"a cell too many", "# one\n" NAMES "p,openai,*,m,1,2,,\n", "limits.csv:3: got 8 cells, want 7"},
    {"no name of a pool", NAMES ",openai,*,m,1,2,\n", "limits.csv:2: pool: got '', want 1 to 64 of"},
    {"a colon in a pool's name", NAMES "a:b,openai,*,m,1,2,\n", "limits.csv:2: pool: got 'a:b', want 1 to 64 of"},
    {"a pattern as provider", NAMES "p,open*,*,m,1,2,\n", "limits.csv:2: provider: got 'open*', want"},
    {"a star inside a model's name", NAMES "p,openai,*,g*t,1,2,\n", "limits.csv:2: model: got 'g*t', want"},
    {"quotes", NAMES "p,openai,*,\"m\",1,2,\n", "limits.csv:2: model: got '\"m\"', want"},
    {"no number", NAMES "p,openai,*,m,many,2,\n",
     "limits.csv:2: rpm: got 'many', want a whole number, 1 to 1000000000"},
    {"a limit of nothing", NAMES "p,openai,*,m,0,2,\n", "limits.csv:2: rpm: got '0', want"},
    {"a negative limit", NAMES "p,openai,*,m,-1,2,\n", "limits.csv:2: rpm: got '-1', want"},
    {"a part of a call", NAMES "p,openai,*,m,1.5,2,\n", "limits.csv:2: rpm: got '1.5', want"},
    {"more than can be", NAMES "p,openai,*,m,1,100001,\n",
     "limits.csv:2: concurrency: got '100001', want a whole number, 1 to 100000"},
    {"no profile", NAMES "p,openai,*,m,1,2,mine\n", "limits.csv:2: profile: got 'mine', want "},
    {"one pool with two limits", NAMES "p,openai,*,a,1,2,\n\np,openai,*,b,1,3,\n",
     "limits.csv:4: pool: got 'p' with other limits, want those of line 2"},
    {"one pool with two profiles", NAMES "p,openai,*,a,1,2,\np,openai,*,b,1,2,window\n",
     "limits.csv:3: pool: got 'p' with other limits, want those of line 2"},
    {"a credential instead of its name", NAMES "p,openai,sk-proj-0123456789,m,1,2,\n",
     "limits.csv:2: account: got 18 bytes that are none, want the NAME of the credential"},
};

static void refuses_a_file(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
        struct limits_file *limits = NULL;
        struct error why = {0};
        int rc = limits_file_parse(slice_of(bad_files[i].text), "limits.csv", &limits, &why);
        if (rc == 0 || limits != NULL || strstr(why.text, bad_files[i].why) == NULL ||
            strstr(why.text, "sk-proj") != NULL) {
            fail_msg("%s: got %d, %s", bad_files[i].says, rc, why.text);
        }
    }
}

static const char table[] = "# ours\n"
                            "model,account,provider,pool,rpm,tpm,concurrency,profile\r\n"
                            "\r\n"
                            "gpt-5.4-nano, BULK_KEY ,OpenAI,nano,10,,,\r\n"
                            "gpt-5*,OPENAI_KEY,openai,five,500,200k,,openai\n"
                            "gpt-4*,OPENAI_KEY,openai,five,500,200k,,openai\n"
                            "gpt-4.1,OPENAI_KEY,openai,late,1,,,\n"
                            "*,OPENAI_KEY,*,rest,100,,8,\n"
                            "llama,*,*,own,,,2,";

static const struct {
    const char *says, *provider, *api_key, *model, *pool; // pool NULL: no row
} finds[] = {
    {"a name as it stands", "openai", "${BULK_KEY}", "gpt-5.4-nano", "nano"},
    {"a longer name is another model", "openai", "${BULK_KEY}", "gpt-5.4-nano-2026-03-17", NULL},
    {"a pattern", "openai", "${OPENAI_KEY}", "gpt-5.4-nano", "five"},
    {"models/ is dropped", "openai", "${OPENAI_KEY}", "models/gpt-5.4-nano", "five"},
    {"the first row goes before one that fits better", "openai", "${OPENAI_KEY}", "gpt-4.1", "five"},
    {"any provider and model of an account", "mine", "${OPENAI_KEY}", "gpt-5", "rest"},
    {"another account", "openai", "${OTHER_KEY}", "gpt-5", NULL},
    {"an account that begins so", "openai", "${OPENAI_KEY_2}", "gpt-5", NULL},
    {"any account", "mine", "${OTHER_KEY}", "llama", "own"},
    {"no credential at all", "mine", "", "llama", "own"},
    {"no credential is no account", "openai", "", "gpt-5", NULL},
    {"an empty name", "openai", "${BULK_KEY}", "", NULL},
};

static struct limits_file *table_new(void) {
    struct limits_file *limits = NULL;
    struct error why = {0};
    if (limits_file_parse(slice_of(table), "t", &limits, &why) != 0) {
        fail_msg("%s", why.text);
    }
    return limits;
}

static void finds_a_row(void **state) {
    (void)state;
    struct limits_file *limits = table_new();
    for (size_t i = 0; i < sizeof(finds) / sizeof(finds[0]); i++) {
        const struct model_options o = {
            .provider = finds[i].provider, .api_key = finds[i].api_key, .model = finds[i].model};
        const struct limits_row *row = limits_file_find(limits, &o);
        const char *pool = row != NULL ? row->pool : "(none)";
        if (strcmp(pool, finds[i].pool != NULL ? finds[i].pool : "(none)") != 0) {
            fail_msg("%s: got %s", finds[i].says, pool);
        }
        assert_null(limits_file_find(NULL, &o));
    }
    limits_file_free(limits);
}

static const struct {
    const char *says, *model;
    int64_t rpm, tpm;          // the model's own
    int64_t to_rpm, to_tpm, to_at_once;
    const char *to_profile;
} applied[] = {
    {"the row's limits, where the model has none", "gpt-5", MODEL_UNSET, MODEL_UNSET, 500, 200000, MODEL_UNSET,
     "openai"},
    {"a model's own limit lowers", "gpt-5", 20, MODEL_UNSET, 20, 200000, MODEL_UNSET, "openai"},
    {"a model's own limit does not raise", "gpt-5", 501, 200001, 500, 200000, MODEL_UNSET, "openai"},
    {"what the row leaves open is the model's", "other", MODEL_UNSET, 7, 100, 7, 8, "window"},
};

static void lowers_limits(void **state) {
    (void)state;
    struct limits_file *limits = table_new();
    for (size_t i = 0; i < sizeof(applied) / sizeof(applied[0]); i++) {
        struct model_options o = {.provider = "openai", .api_key = "${OPENAI_KEY}", .model = applied[i].model,
                                  .limit_rpm = applied[i].rpm, .limit_tpm = applied[i].tpm,
                                  .limit_itpm = MODEL_UNSET, .limit_concurrency = MODEL_UNSET,
                                  .limit_profile = "window"};
        const struct limits_row *row = limits_file_find(limits, &o);
        assert_non_null(row);
        limits_row_apply(row, &o);
        if (o.limit_rpm != applied[i].to_rpm || o.limit_tpm != applied[i].to_tpm ||
            o.limit_concurrency != applied[i].to_at_once || o.limit_itpm != MODEL_UNSET ||
            strcmp(o.limit_profile, applied[i].to_profile) != 0) {
            fail_msg("%s: got rpm %lld, tpm %lld, %s", applied[i].says, (long long)o.limit_rpm,
                     (long long)o.limit_tpm, o.limit_profile);
        }
    }
    limits_file_free(limits);
}

static void says_which_file(void **state) {
    (void)state;
    struct limits_file *limits = NULL;
    struct error why = {0};
    assert_int_equal(limits_file_load("", &limits, &why), 0);
    assert_null(limits);
    assert_true(limits_file_load("no/such.csv", &limits, &why) < 0);
    assert_non_null(strstr(why.text, "cannot read 'no/such.csv'"));
    assert_true(limits_file_load("unit", &limits, &why) < 0); // a folder
    assert_non_null(strstr(why.text, "'unit'"));
    assert_null(limits);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_a_file), cmocka_unit_test(finds_a_row),
                                       cmocka_unit_test(lowers_limits), cmocka_unit_test(says_which_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
