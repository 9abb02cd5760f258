// List prices: which row a model's name finds, and what a call costs.
#include "common/prices.h"

#include "common/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *says, *provider, *model, *row; // row NULL: no price
} names[] = {
    {"a name as it stands", "openai", "gpt-5.4-mini", "gpt-5.4-mini"},
    {"a dashed date is dropped", "openai", "gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"},
    {"a compact date is dropped", "anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"},
    {"-latest is dropped", "anthropic", "claude-sonnet-5-latest", "claude-sonnet-5"},
    {"models/ is dropped", "gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"},
    {"the provider's case is not minded", "OpenAI", "gpt-4.1", "gpt-4.1"},
    {"a longer name is another model", "openai", "gpt-4.1-nano", NULL},
    {"a newer model is not its older one", "anthropic", "claude-opus-5-5", "claude-opus-5-5"},
    {"a date of another shape stays", "openai", "gpt-4.1-2026-03", NULL},
    {"one suffix only", "openai", "gpt-4.1-2026-03-17-latest", NULL},
    {"a suffix alone is no name", "openai", "-latest", NULL},
    {"another provider's model", "anthropic", "gpt-4.1", NULL},
    {"an empty name", "openai", "", NULL},
};

static void finds_a_row(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct price *price =
            prices_find(NULL, slice_of(names[i].provider), slice_of(names[i].model));
        const char *got = price != NULL ? price->model : "(none)";
        if (strcmp(got, names[i].row != NULL ? names[i].row : "(none)") != 0) {
            fail_msg("%s: %s found %s", names[i].says, names[i].model, got);
        }
    }
}

static const struct {
    const char *says, *provider, *model;
    double input, cached, output, usd;
} calls[] = {
    {"input and output", "openai", "gpt-5.4-mini", 1e6, 0, 1e6, 5.25},
    {"cached input is cheaper", "openai", "gpt-5.4-mini", 1e6, 4e5, 0, 0.48},
    {"no cached price: as input", "openai", "text-embedding-3-small", 1e6, 5e5, 0, 0.02},
    {"at the long border: the plain price", "openai", "gpt-6-sol", 272000, 0, 0, 0.544},
    {"past it the whole call costs more", "openai", "gpt-6-sol", 272001, 0, 1000, 1.103004},
    {"nothing costs nothing", "openai", "gpt-4o-mini", 0, 0, 0, 0},
};

static void costs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const struct price *price =
            prices_find(NULL, slice_of(calls[i].provider), slice_of(calls[i].model));
        assert_non_null(price);
        const struct price_usage usage = {
            .input = calls[i].input, .cached = calls[i].cached, .output = calls[i].output};
        double usd = price_cost(price, &usage);
        if (usd - calls[i].usd > 1e-12 || calls[i].usd - usd > 1e-12) {
            fail_msg("%s: got %.9f, want %.9f", calls[i].says, usd, calls[i].usd);
        }
    }
}

// ---- Files --------------------------------------------------------------------------------------

#define NAMES "provider,model,as_of,input,output\n"

static const struct {
    const char *says, *text, *why; // a part of the sentence
} bad_files[] = {
    {"an empty file", "", "prices.csv: got no line"},
    {"comments alone", "# nothing\n\n", "prices.csv: got no line"},
    {"an unknown column", "provider,model,as_of,price\n", "prices.csv:1: the line of column names: got 'price'"},
    {"a column twice", "provider,model,as_of,input,input\n", "got 'input', want each once"},
    {"a column that is needed", "provider,model,input\n", "prices.csv:1: got no column 'as_of'"},
    {"a cell too few", NAMES "openai,m,2026-01-01,1\n", "prices.csv:2: got 4 cells, want 5"},
    {"a cell too many", "# one\n" NAMES "openai,m,2026-01-01,1,2,3\n", "prices.csv:3: got 6 cells, want 5"},
    {"no number", NAMES "openai,m,2026-01-01,cheap,2\n",
     "prices.csv:2: input: got 'cheap', want USD per million tokens, 0 to 1000000"},
    {"not a number, though strtod takes it", NAMES "openai,m,2026-01-01,nan,2\n", "input: got 'nan'"},
    {"a negative price", NAMES "openai,m,2026-01-01,-1,2\n", "input: got '-1'"},
    {"a price beyond all bounds", NAMES "openai,m,2026-01-01,1e9,2\n", "input: got '1e9'"},
    {"a date of another form", NAMES "openai,m,1.1.2026,1,2\n", "as_of: got '1.1.2026', want a date"},
    {"a thirteenth month", NAMES "openai,m,2026-13-01,1,2\n", "as_of: got '2026-13-01'"},
    {"a star inside a name", NAMES "openai,g*t,2026-01-01,1,2\n", "model: got 'g*t'"},
    {"quotes", NAMES "\"openai\",m,2026-01-01,1,2\n", "provider: got '\"openai\"'"},
    {"no price at all", NAMES "openai,m,2026-01-01,,\n", "prices.csv:2: got no price of 'm'"},
};

static void refuses_a_file(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++) {
        struct prices *prices = NULL;
        struct error why = {0};
        int rc = prices_parse(slice_of(bad_files[i].text), "prices.csv", &prices, &why);
        if (rc == 0 || prices != NULL || strstr(why.text, bad_files[i].why) == NULL) {
            fail_msg("%s: got %d, %s", bad_files[i].says, rc, why.text);
        }
    }
}

static const char table[] = "# ours\n"
                            "as_of,model,provider,input,output,call,cached_input,cache_write\r\n"
                            "\r\n"
                            "2026-11-01, gpt-5.4-mini ,OpenAI,1,2,,,\r\n"
                            "2026-11-02,llama-*,*,0,0,0.001,,\n"
                            "2026-11-03,llama-70b-*,*,3,4,,1,6\n"
                            "2026-11-04,flat,*,,,0.002,,";

static const struct {
    const char *says, *provider, *model, *as_of; // as_of NULL: no price
    double usd;                                  // of 1M input, 100k of it cached, 100k written, 1M output
} finds[] = {
    {"a row goes before the built-in one", "openai", "gpt-5.4-mini", "2026-11-01", 3},
    {"with a date too", "openai", "gpt-5.4-mini-2026-03-17", "2026-11-01", 3},
    {"the built-in one holds for others", "openai", "gpt-4.1", "2026-07-15", 9.85},
    {"a pattern, whatever the provider", "mine", "llama-8b", "2026-11-02", 0.001},
    {"the longest pattern", "mine", "llama-70b-q4", "2026-11-03", 7.1},
    {"a price by call", "mine", "flat", "2026-11-04", 0.002},
    {"a pattern wants its beginning whole", "mine", "llama", NULL, 0},
};

static void reads_a_file(void **state) {
    (void)state;
    struct prices *prices = NULL;
    struct error why = {0};
    assert_int_equal(prices_parse(slice_of(table), "t", &prices, &why), 0);
    const struct price_usage usage = {.input = 1e6, .cached = 1e5, .write = 1e5, .output = 1e6};
    for (size_t i = 0; i < sizeof(finds) / sizeof(finds[0]); i++) {
        const struct price *price =
            prices_find(prices, slice_of(finds[i].provider), slice_of(finds[i].model));
        const char *as_of = price != NULL ? price->as_of : "(none)";
        double usd = price != NULL ? price_cost(price, &usage) : 0;
        if (strcmp(as_of, finds[i].as_of != NULL ? finds[i].as_of : "(none)") != 0 ||
            usd - finds[i].usd > 1e-9 || finds[i].usd - usd > 1e-9) {
            fail_msg("%s: got %s, %.9f", finds[i].says, as_of, usd);
        }
    }
    prices_free(prices);
}

static const struct {
    const char *says, *model, *options;
    bool is_known;
    double usd; // of 1M in, 1M out
} own[] = {
    {"the table alone", "gpt-5.4-mini", "", true, 5.25},
    {"one option over the table", "gpt-5.4-mini", ", 'price.output' = '1'", true, 1.75},
    {"both, of a model that no table has", "mine", ", 'price.input' = '1', 'price.output' = '2'", true, 3},
    {"half a price is none", "mine", ", 'price.input' = '1'", false, 0},
    {"no price is none", "mine", "", false, 0},
    {"by call", "mine", ", 'price.call' = '0.002'", true, 0.002},
    {"by call, instead of the table", "gpt-5.4-mini", ", 'price.call' = '0.002'", true, 0.002},
    {"by call and by token", "mine", ", 'price.call' = '0.5', 'price.input' = '1', 'price.output' = '0'",
     true, 1.5},
};

static void options_go_first(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        char sql[512];
        struct statements list;
        struct error why = {0};
        snprintf(sql, sizeof(sql),
                 "CREATE MODEL m INPUT (t STRING) OUTPUT (a STRING) WITH ('provider' = 'openai', "
                 "'endpoint' = 'http://127.0.0.1/v1', 'model' = '%s'%s)",
                 own[i].model, own[i].options);
        assert_int_equal(model_sql_parse(slice_of(sql), "t", &list, &why), 0);
        struct price price;
        bool is_known = prices_of(NULL, &list.items[0].model->options, &price);
        const struct price_usage usage = {.input = 1e6, .output = 1e6};
        double usd = is_known ? price_cost(&price, &usage) : 0;
        if (is_known != own[i].is_known || usd - own[i].usd > 1e-9 || own[i].usd - usd > 1e-9) {
            fail_msg("%s: got %d, %.9f", own[i].says, is_known, usd);
        }
        statements_free(&list);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds_a_row), cmocka_unit_test(costs),
                                       cmocka_unit_test(refuses_a_file), cmocka_unit_test(reads_a_file),
                                       cmocka_unit_test(options_go_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
