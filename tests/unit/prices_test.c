// List prices: which row a model's name finds, and what a call costs.
#include "common/prices.h"

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
    {"models/ is dropped", "google", "models/gemini-2.5-flash", "gemini-2.5-flash"},
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
            price_find(slice_of(names[i].provider), slice_of(names[i].model));
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
            price_find(slice_of(calls[i].provider), slice_of(calls[i].model));
        assert_non_null(price);
        double usd = price_cost(price, calls[i].input, calls[i].cached, calls[i].output);
        if (usd - calls[i].usd > 1e-12 || calls[i].usd - usd > 1e-12) {
            fail_msg("%s: got %.9f, want %.9f", calls[i].says, usd, calls[i].usd);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(finds_a_row), cmocka_unit_test(costs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
