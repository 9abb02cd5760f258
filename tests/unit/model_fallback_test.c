// Which model can stand in for which, and chains of them.
#include "common/model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct statements parse(const char *columns, const char *name, const char *next) {
    struct statements list;
    struct error why = {0};
    struct buf sql;
    buf_init(&sql, 4096);
    assert_int_equal(buf_addf(&sql, "CREATE MODEL %s %s WITH ('provider' = 'openai', 'endpoint' = 'http://h', 'model' = 'x'%s%s%s)",
                              name, columns, next[0] != '\0' ? ", 'fallback.model' = '" : "", next, next[0] != '\0' ? "'" : ""), 0);
    if (model_sql_parse(buf_slice(&sql), "f", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    buf_free(&sql);
    return list;
}

static const struct {
    const char *says, *one, *other;
    const char *want; // the sentence; NULL: it fits
} pairs[] = {
    {"the same columns", "INPUT (a STRING, b INT) OUTPUT (c DECIMAL(5, 2))", "INPUT (a STRING, b INT) OUTPUT (c DECIMAL(5, 2))", NULL},
    {"narrower answers, wider questions", "INPUT (a INT NOT NULL) OUTPUT (c BIGINT, d DOUBLE, e DECIMAL(5, 2))",
     "INPUT (a BIGINT) OUTPUT (c INT NOT NULL, d FLOAT, e DECIMAL(4, 2))", NULL},
    {"parts of answers", "INPUT (a STRING) OUTPUT (c ARRAY<ROW<x BIGINT, y STRING>>, m MAP<STRING, DOUBLE>)",
     "INPUT (a STRING) OUTPUT (c ARRAY<ROW<x INT, y STRING NOT NULL>>, m MAP<STRING, FLOAT>)", NULL},
    {"error columns do not count", "INPUT (a STRING) OUTPUT (c STRING, `error-string` STRING)", "INPUT (a STRING) OUTPUT (c STRING)", NULL},
    {"wider answers", "INPUT (a STRING) OUTPUT (c INT)", "INPUT (a STRING) OUTPUT (c BIGINT)",
     "model 'o': OUTPUT column 'c' is BIGINT, want what INT can hold"},
    {"answers that may be null", "INPUT (a STRING) OUTPUT (c INT NOT NULL)", "INPUT (a STRING) OUTPUT (c INT)",
     "model 'o': OUTPUT column 'c' is INT, want what INT NOT NULL can hold"},
    {"another type", "INPUT (a STRING) OUTPUT (c STRING)", "INPUT (a STRING) OUTPUT (c INT)",
     "model 'o': OUTPUT column 'c' is INT, want what STRING can hold"},
    {"more digits behind the point", "INPUT (a STRING) OUTPUT (c DECIMAL(9, 2))", "INPUT (a STRING) OUTPUT (c DECIMAL(9, 3))",
     "model 'o': OUTPUT column 'c' is DECIMAL(9, 3), want what DECIMAL(9, 2) can hold"},
    {"another part", "INPUT (a STRING) OUTPUT (c ROW<x INT>)", "INPUT (a STRING) OUTPUT (c ROW<y INT>)",
     "model 'o': OUTPUT column 'c' is ROW<`y` INT>, want what ROW<`x` INT> can hold"},
    {"a question that may be null", "INPUT (a STRING) OUTPUT (c STRING)", "INPUT (a STRING NOT NULL) OUTPUT (c STRING)",
     "model 'o': INPUT column 'a' is STRING NOT NULL, want what STRING can hold"},
    {"another name", "INPUT (a STRING, b INT) OUTPUT (c STRING)", "INPUT (b STRING, a INT) OUTPUT (c STRING)",
     "model 'o': INPUT column 1 is 'b', want 'a'"},
    {"another column", "INPUT (a STRING) OUTPUT (c STRING)", "INPUT (a STRING) OUTPUT (c STRING, d INT)",
     "model 'o' has 2 OUTPUT columns, want the same 1"},
};

static void which_stands_in_for_which(void **state) {
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct statements one = parse(pairs[i].one, "m", ""), other = parse(pairs[i].other, "o", "");
        struct error why = {0};
        int rc = model_check_fallback(one.items[0].model, other.items[0].model, &why);
        if (rc != (pairs[i].want != NULL ? -EINVAL : 0) || (rc != 0 && strcmp(why.text, pairs[i].want) != 0)) {
            fail_msg("%s: %d %s", pairs[i].says, rc, why.text);
        }
        statements_free(&one);
        statements_free(&other);
    }
}

// Chains: each model's name and the next one.
static const struct {
    const char *says;
    const char *links[6][2];
    const char *want;
} chains[] = {
    {"none", {{"a", ""}}, NULL},
    {"four", {{"a", "b"}, {"b", "c"}, {"c", "d"}, {"d", ""}}, NULL},
    {"five", {{"a", "b"}, {"b", "c"}, {"c", "d"}, {"d", "e"}, {"e", ""}},
     "option 'fallback.model' of model 'd': got 'e', want at most 3 models behind 'a'"},
    {"itself", {{"a", "a"}}, "option 'fallback.model' of model 'a': got 'a', which leads back to itself, want a model that is not before it"},
    {"a ring", {{"a", "b"}, {"b", "c"}, {"c", "b"}},
     "option 'fallback.model' of model 'c': got 'b', which leads back to itself, want a model that is not before it"},
    {"one that is not there", {{"a", "b"}, {"b", "x"}}, "option 'fallback.model' of model 'b': got 'x', want a model that exists"},
};

struct known {
    struct statements lists[6];
    size_t n;
};

static const struct model *find(void *arg, struct slice name) {
    const struct known *known = arg;
    for (size_t i = 0; i < known->n; i++) {
        if (slice_is(name, known->lists[i].items[0].model->name)) {
            return known->lists[i].items[0].model;
        }
    }
    return NULL;
}

static void chains_end(void **state) {
    for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
        struct known known = {.n = 0};
        for (; known.n < 6 && chains[i].links[known.n][0] != NULL; known.n++) {
            known.lists[known.n] = parse("INPUT (t STRING) OUTPUT (s STRING)", chains[i].links[known.n][0], chains[i].links[known.n][1]);
        }
        struct error why = {0};
        int rc = model_check_chain(known.lists[0].items[0].model, find, &known, &why);
        if ((rc == 0) != (chains[i].want == NULL) || (rc != 0 && strcmp(why.text, chains[i].want) != 0)) {
            fail_msg("%s: %s", chains[i].says, why.text);
        }
        for (size_t k = 0; k < known.n; k++) {
            statements_free(&known.lists[k]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_stands_in_for_which),
        cmocka_unit_test(chains_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
