// CREATE MODEL: tests/cases/model_sql.test, the examples of docs/models.md, and what does not fit
// into a text file. Every statement that parses is written back, parsed again and compared.
#include "common/model.h"

#include "common/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILE_MAX_BYTES (1 << 20)
#define MODEL_M        "CREATE MODEL m INPUT (a STRING) OUTPUT (b STRING)"
#define WITH_W         "WITH ('provider' = 'openai', 'endpoint' = 'http://h/v1', 'model' = 'x'"

static char *read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        fail_msg("%s: cannot be opened", path);
    }
    char *text = mem_alloc(FILE_MAX_BYTES);
    size_t n = fread(text, 1, FILE_MAX_BYTES - 1, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

// ---- Round trip ---------------------------------------------------------------------------------

static void same_columns(const char *says, const struct column *a, size_t n_a,
                         const struct column *b, size_t n_b) {
    if (n_a != n_b) {
        fail_msg("%s: %zu columns came back as %zu", says, n_a, n_b);
    }
    for (size_t i = 0; i < n_a; i++) {
        const char *one = a[i].comment != NULL ? a[i].comment : "(none)";
        const char *two = b[i].comment != NULL ? b[i].comment : "(none)";
        if (strcmp(a[i].name, b[i].name) != 0 || a[i].type != b[i].type ||
            a[i].not_null != b[i].not_null || strcmp(one, two) != 0) {
            fail_msg("%s: column %s came back as %s", says, a[i].name, b[i].name);
        }
    }
}

static bool same_number(double a, double b) {
    return a == b || (isnan(a) && isnan(b));
}

// same_options compares every field of the table.
static void same_options(const char *says, const struct model_options *a,
                         const struct model_options *b) {
#define SAME_TEXT(x, y)   (strcmp((x), (y)) == 0)
#define SAME_TEMPLATE     SAME_TEXT
#define SAME_PATH         SAME_TEXT
#define SAME_SECRET       SAME_TEXT
#define SAME_JSON         SAME_TEXT
#define SAME_COUNT(x, y)  ((x) == (y))
#define SAME_MS           SAME_COUNT
#define SAME_CHOICE       SAME_COUNT
#define SAME_FLAG         SAME_COUNT
#define SAME_NUMBER(x, y) same_number((x), (y))
#define MODEL_OPTION(field, name, type, def, least, most, want, text)                              \
    if (!SAME_##type(a->field, b->field)) {                                                        \
        fail_msg("%s: option %s came back different", says, name);                                 \
    }
#include "common/model_options.def"
#undef MODEL_OPTION
}

static void same_models(const char *says, const struct model *a, const struct model *b) {
    assert_string_equal(a->name, b->name);
    same_columns(says, a->input, a->n_input, b->input, b->n_input);
    same_columns(says, a->output, a->n_output, b->output, b->n_output);
    same_options(says, &a->options, &b->options);
    assert_true((a->comment == NULL) == (b->comment == NULL));
    assert_true(a->n_settings == b->n_settings);
    assert_true((a->batch_template == NULL) == (b->batch_template == NULL));
    assert_true((b->response_path == NULL) == (b->options.response_format != RESPONSE_JSON));
}

// write_all writes every statement back and checks that it parses to the same.
static void write_all(const char *says, const struct statements *list, struct buf *out) {
    for (size_t i = 0; i < list->n; i++) {
        size_t from = out->n;
        assert_int_equal(model_to_sql(list->items[i].model, out), 0);
        struct statements again;
        struct error why = {0};
        struct slice text = {out->p + from, out->n - from};
        if (model_sql_parse(text, "again", &again, &why) != 0 || again.n != 1) {
            fail_msg("%s: what was written does not parse: %s", says, why.text);
        }
        same_models(says, list->items[i].model, again.items[0].model);
        struct buf twice;
        buf_init(&twice, FILE_MAX_BYTES);
        assert_int_equal(model_to_sql(again.items[0].model, &twice), 0);
        assert_true(slice_eq(buf_slice(&twice), text));
        buf_free(&twice);
        statements_free(&again);
    }
}

// ---- Cases --------------------------------------------------------------------------------------

// fill puts $M and $W into a case's SQL.
static void fill(const char *sql, struct buf *out) {
    for (const char *p = sql; *p != '\0'; p++) {
        if (p[0] == '$' && (p[1] == 'M' || p[1] == 'W')) {
            assert_int_equal(buf_add_str(out, p[1] == 'M' ? MODEL_M : WITH_W), 0);
            p++;
        } else {
            assert_int_equal(buf_add_byte(out, *p), 0);
        }
    }
}

static void run_case(const char *says, const char *sql, const char *want) {
    struct buf text, got;
    buf_init(&text, FILE_MAX_BYTES);
    buf_init(&got, FILE_MAX_BYTES);
    fill(sql, &text);
    struct statements list;
    struct error why = {0};
    if (model_sql_parse(buf_slice(&text), "models.sql", &list, &why) != 0) {
        assert_true(list.n == 0 && list.items == NULL);
        assert_int_equal(buf_addf(&got, "error: %s\n", why.text), 0);
    } else {
        write_all(says, &list, &got);
        if (strncmp(want, "ok\n", 3) == 0) {
            buf_clear(&got);
            assert_int_equal(buf_add_str(&got, "ok\n"), 0);
        }
        for (size_t i = 0; i < list.n_warnings; i++) {
            assert_int_equal(buf_addf(&got, "warning: %s\n", list.warnings[i]), 0);
        }
    }
    if (strcmp(got.p != NULL ? got.p : "", want) != 0) {
        fail_msg("%s:\ngot  %swant %s", says, got.p, want);
    }
    statements_free(&list);
    buf_free(&text);
    buf_free(&got);
}

static void cases(void **state) {
    (void)state;
    char *text = read_file("cases/model_sql.test");
    int n = 0;
    for (char *p = strstr(text, "\n# "); p != NULL; n++) {
        char *says = p + 3, *sql = strchr(says, '\n') + 1;
        char *line = strstr(sql - 1, "\n----\n");
        assert_non_null(line);
        char *want = line + 6, *next = strstr(want, "\n# ");
        char *end = next != NULL ? next : want + strlen(want);
        sql[-1] = line[line >= sql ? 0 : 1] = '\0';
        char *copy = mem_dup(want, (size_t)(end - want));
        run_case(says, sql, copy);
        free(copy);
        p = next;
    }
    free(text);
    assert_true(n > 60);
}

// ---- Examples of the documentation
// ---------------------------------------------------------------

// examples parses every SQL statement of a page. Returns how many there are.
static int examples(const char *page) {
    char *text = read_file(page);
    int n = 0;
    for (char *p = text; (p = strstr(p, "```sql\n")) != NULL; n++) {
        p += strlen("```sql\n");
        char *end = strstr(p, "\n```");
        assert_non_null(end);
        struct statements list;
        struct error why = {0};
        if (model_sql_parse((struct slice){p, (size_t)(end - p)}, "docs", &list, &why) != 0) {
            fail_msg("%s, example %d: %s", page, n + 1, why.text);
        }
        assert_true(list.n > 0);
        statements_free(&list);
        p = end;
    }
    free(text);
    return n;
}

static void documentation(void **state) {
    (void)state;
    assert_true(examples("../docs/models.md") > 0);
    assert_true(examples("../docs/flink.md") >= 6);
}

// every_option_of_flink looks for Flink's options in the page that maps them, and at what the parser
// makes of each beside the three that every model needs: it is never "not known".
static void every_option_of_flink(void **state) {
    (void)state;
    static const char *const names[] = {
        "api-key", "context-overflow-action", "endpoint", "error-handling-strategy",
        "max-context-size", "model", "retry-fallback-strategy", "retry-num", "max-tokens", "n",
        "presence-penalty", "response-format", "seed", "stop", "system-prompt", "temperature", "top-p",
        "dimension", "provider", "model-name", "model-version", "timeout", "auth-token",
        "circuit-breaker-enabled", "circuit-breaker-failure-threshold",
        "circuit-breaker-half-open-requests", "circuit-breaker-timeout", "compression",
        "custom-headers", "flatten-batch-dim", "health-check-enabled",
        "health-check-interval", "max-retries", "priority", "retry-initial-backoff",
        "retry-max-backoff", "default-value", "sequence-end", "sequence-id", "sequence-id-auto-increment",
        "sequence-start"};
    char *page = read_file("../docs/flink.md");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char row[96], sql[512];
        snprintf(row, sizeof(row), "| `%s` |", names[i]);
        if (strstr(page, row) == NULL) {
            fail_msg("docs/flink.md has no row for '%s'", names[i]);
        }
        snprintf(sql, sizeof(sql), MODEL_M WITH_W ", '%s' = '')", names[i]);
        struct statements list;
        struct error why = {0};
        (void)!model_sql_parse(slice_of(sql), "f", &list, &why);
        if (strstr(why.text, "not known") != NULL) {
            fail_msg("'%s': %s", names[i], why.text);
        }
        statements_free(&list);
    }
    free(page);
}

// ---- What a text file cannot hold
// ----------------------------------------------------------------

static const struct {
    const char *says;
    struct slice text;
    const char *want; // the sentence; NULL: it parses
} raw[] = {
    {"a byte order mark is skipped", SLICE_LIT("\xef\xbb\xbf" MODEL_M WITH_W ")"), NULL},
    {"line ends of two bytes", SLICE_LIT("\r\n\r\n" MODEL_M "\r\n" WITH_W ")\r\n;\r\n"), NULL},
    {"bytes that are not UTF-8", SLICE_LIT("\n" MODEL_M WITH_W ",\n'stop'='\xff')"),
     "f:3: got bytes that are not UTF-8, want UTF-8 text"},
    {"a NUL byte", SLICE_LIT("CREATE\n\0MODEL"), "f:2: got a NUL byte, want text"},
    {"a control character in a name", SLICE_LIT("CREATE MODEL `a\nb` INPUT (a INT) OUTPUT"),
     "f:1: model: got a name with a control character in it, want text"},
};

static void raw_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++) {
        struct statements list;
        struct error why = {0};
        int rc = model_sql_parse(raw[i].text, "f", &list, &why);
        if ((rc == 0) != (raw[i].want == NULL) ||
            (raw[i].want != NULL && strcmp(why.text, raw[i].want) != 0)) {
            fail_msg("%s: got %d %s", raw[i].says, rc, why.text);
        }
        statements_free(&list);
    }
}

// parse_long parses head, n times the same in the middle, tail.
static int parse_long(const char *head, const char *middle, size_t n, const char *tail,
                      struct error *why) {
    struct buf text;
    struct statements list;
    buf_init(&text, 4 * FILE_MAX_BYTES);
    int rc = buf_add_str(&text, head);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = buf_addf(&text, middle, (int)i);
    }
    rc = rc != 0 ? rc : buf_add_str(&text, tail);
    assert_int_equal(rc, 0);
    rc = model_sql_parse(buf_slice(&text), "f", &list, why);
    statements_free(&list);
    buf_free(&text);
    return rc;
}

static void limits(void **state) {
    (void)state;
    struct error why = {0};
    const char *out = ") OUTPUT (b INT)" WITH_W ")";
    assert_int_equal(parse_long("CREATE MODEL m INPUT (a INT", ", c%d INT", 63, out, &why), 0);
    assert_int_equal(parse_long("CREATE MODEL m INPUT (a INT", ", c%d INT", 64, out, &why),
                     -EINVAL);
    assert_string_equal(why.text, "f:1: INPUT: got more than 64 columns");
    assert_int_equal(
        parse_long("CREATE MODEL ", "m", 128, " INPUT (a INT) OUTPUT (b INT)" WITH_W ")", &why), 0);
    assert_int_equal(parse_long("CREATE MODEL ", "m", 129, " INPUT (a INT", &why), -EINVAL);
    assert_string_equal(why.text, "f:1: model: got a name of 129 bytes, want 1 to 128");
    assert_int_equal(parse_long("", " ", FILE_MAX_BYTES, "", &why), 0);
    assert_int_equal(parse_long("", " ", FILE_MAX_BYTES + 1, "", &why), -EINVAL);
    assert_int_equal(parse_long("", ";", FILE_MAX_BYTES, "", &why), 0);
    assert_int_equal(parse_long(MODEL_M WITH_W ", 'prompt.template' = '", "%d", 100000, "')", &why),
                     -EINVAL);
    assert_non_null(strstr(why.text, "option 'prompt.template': got 488890 bytes"));
}

static void flags_and_lines(void **state) {
    (void)state;
    struct statements list;
    struct error why = {0};
    struct slice text =
        SLICE_LIT("\n" MODEL_M WITH_W ");\n\nCREATE OR REPLACE MODEL n INPUT (a INT)"
                  " OUTPUT (b INT)" WITH_W ",\n'batch.size' = '7');"
                  "CREATE MODEL IF NOT EXISTS o INPUT (a INT) OUTPUT (b INT)" WITH_W ")");
    assert_int_equal(model_sql_parse(text, "f", &list, &why), 0);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.items[0].line, 2);
    assert_int_equal(list.items[1].line, 4);
    assert_true(list.items[1].or_replace && !list.items[1].if_not_exists);
    assert_true(list.items[2].if_not_exists && !list.items[2].or_replace);
    assert_int_equal(list.items[1].model->options.batch_size, 7);
    assert_string_equal(list.items[1].model->settings[0].name, "batch.size");
    assert_int_equal(list.items[1].model->settings[0].line, 5);
    assert_int_equal(list.items[2].model->revision, 0);
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases),  cmocka_unit_test(documentation),   cmocka_unit_test(raw_texts),
        cmocka_unit_test(limits), cmocka_unit_test(flags_and_lines),
        cmocka_unit_test(every_option_of_flink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
