// A dry run over rows that a test writes: calls and tokens that can be counted by hand, and times.
#include "client/dry_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct bad {
    size_t n;
    char first[256];
};

static void on_bad(void *arg, const struct error *why) {
    struct bad *bad = arg;
    if (bad->n++ == 0) {
        slice_copy(slice_of(why->text), bad->first, sizeof(bad->first));
    }
}

static struct model *make(struct statements *list, const char *options) {
    char sql[1024];
    struct error why = {0};
    snprintf(sql, sizeof(sql),
             "CREATE MODEL m INPUT (t STRING) OUTPUT (a STRING) WITH ('provider' = 'openai', "
             "'endpoint' = 'http://127.0.0.1/v1'%s%s)",
             strstr(options, "'model'") == NULL ? ", 'model' = 'x'" : "", options);
    if (model_sql_parse(slice_of(sql), "t", list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    return list->items[0].model;
}

// count runs dry over text.
static struct dry_run count(const char *text, const char *options, int64_t partitions, struct bad *bad) {
    char path[] = "/tmp/dry_run_test.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    struct statements list;
    struct error why = {0};
    char *files[] = {path};
    struct rows_config rows = {.files = files, .n_files = 1, .format = ROWS_JSONL, .max_bytes = 1 << 20};
    struct dry_run_config config = {
        .model = make(&list, options), .rows = rows_open(&rows, &why), .id_column = "",
        .key_column = "", .partitions = partitions, .answer_tokens = 3, .bad = on_bad, .arg = bad};
    assert_non_null(config.rows);
    struct dry_run run;
    int rc = dry_run_count(&config, &run, &why);
    if (rc != 0) {
        fail_msg("%s", why.text);
    }
    rows_close(config.rows);
    statements_free(&list);
    unlink(path);
    return run;
}

#define ROW(id) "{\"id\":\"" id "\",\"t\":\"12345678\"}\n"

static const struct {
    const char *says, *text, *options;
    int64_t partitions;
    uint64_t records, bad, calls, single_calls, output;
} cases[] = {
    {"no row, no call", "", "", 1, 0, 0, 0, 0, 0},
    {"one by one", ROW("1") ROW("2") ROW("3"), "", 1, 3, 0, 3, 0, 9},
    {"in twos", ROW("1") ROW("2") ROW("3"), ", 'batch.size' = '2'", 1, 3, 0, 2, 3, 9},
    {"whole batches leave none behind", ROW("1") ROW("2"), ", 'batch.size' = '2'", 1, 2, 0, 1, 2, 6},
    {"a token bound ends a batch", ROW("1") ROW("2") ROW("3"),
     ", 'batch.size' = '9', 'batch.max.tokens' = '20'", 1, 3, 0, 2, 3, 9},
    {"max.tokens bounds an answer", ROW("1") ROW("2") ROW("3"), ", 'batch.size' = '9', 'max.tokens' = '5'",
     1, 3, 0, 1, 3, 5},
    {"bad rows make no call", ROW("1") "nonsense\n{\"id\":\"2\",\"t\":{}}\n", "", 1, 1, 2, 1, 0, 3},
    {"another model's row makes none",
     ROW("1") "{\"id\":\"2\",\"model\":\"other\",\"fields\":{\"t\":\"x\"}}\n", "", 1, 1, 1, 1, 0, 3},
};

static void counts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bad bad = {0};
        struct dry_run run = count(cases[i].text, cases[i].options, cases[i].partitions, &bad);
        if (run.batched.records != cases[i].records || run.bad != cases[i].bad || bad.n != run.bad ||
            run.batched.calls != cases[i].calls || run.single.calls != cases[i].single_calls ||
            run.batched.output_tokens != cases[i].output) {
            fail_msg("%s: records %llu, bad %llu, calls %llu and %llu, output %llu", cases[i].says,
                     (unsigned long long)run.batched.records, (unsigned long long)run.bad,
                     (unsigned long long)run.batched.calls, (unsigned long long)run.single.calls,
                     (unsigned long long)run.batched.output_tokens);
        }
    }
}

static void input_is_the_prompts_bytes(void **state) {
    (void)state;
    struct bad bad = {0};
    // The prompt is the bare value of 8 bytes: 2 tokens, and 4 of the message.
    struct dry_run run = count(ROW("1") ROW("2"), "", 1, &bad);
    assert_int_equal(run.batched.input_tokens, 12);
    // A system message of 5 bytes: 2 tokens and 4.
    run = count(ROW("1"), ", 'system.prompt' = 'Hello'", 1, &bad);
    assert_int_equal(run.batched.input_tokens, 12);
}

static void bad_rows_are_told_with_their_line(void **state) {
    (void)state;
    struct bad bad = {0};
    char text[4096] = ROW("1");
    for (int i = 0; i < 30; i++) {
        strcat(text, "{\"id\":\"x\"}\n");
    }
    struct dry_run run = count(text, ", 'batch.size' = '2'", 1, &bad);
    assert_int_equal(run.bad + run.batched.records, 31);
    strcat(text, "{\"t\":[]}\n");
    bad = (struct bad){0};
    run = count("\n{\"t\":[]}\n", "", 1, &bad);
    assert_int_equal(run.bad, 1);
    assert_non_null(strstr(bad.first, ":2: column 't'"));
}

static const struct {
    const char *says, *options, *limit;
    double minutes;
} times[] = {
    {"no limit", "", NULL, 0},
    {"requests", ", 'limit.rpm' = '10'", "limit.rpm", 10},
    {"tokens in and out", ", 'limit.rpm' = '1000', 'limit.tpm' = '100'", "limit.tpm", 15},
    {"tokens out", ", 'limit.otpm' = '10', 'limit.itpm' = '1000'", "limit.otpm", 50},
    {"requests a day", ", 'limit.rpd' = '50', 'limit.rpm' = '10'", "limit.rpd", 2880},
};

static void time_is_that_of_the_limit_that_binds(void **state) {
    (void)state;
    const struct dry_run_sum sum = {.calls = 100, .input_tokens = 1000, .output_tokens = 500};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct statements list;
        const char *limit;
        double minutes = dry_run_minutes(&make(&list, times[i].options)->options, &sum, &limit);
        if (minutes != times[i].minutes || (limit == NULL) != (times[i].limit == NULL) ||
            (limit != NULL && strcmp(limit, times[i].limit) != 0)) {
            fail_msg("%s: got %f by %s", times[i].says, minutes, limit != NULL ? limit : "none");
        }
        statements_free(&list);
    }
}

// Two calls, of two records and of one; a job's lines cost half by the table of prices.
static const struct {
    const char *says, *options, *want;
} texts[] = {
    {"a job beside the calls", ", 'model' = 'gpt-5.4-mini'", "with 'mode' = 'batch': 1 job at the provider"},
    {"jobs of one line", ", 'model' = 'gpt-5.4-mini', 'mode' = 'batch', 'batch.job.rows' = '1'",
     "as the model has it, 'mode' = 'batch': 2 jobs at the provider"},
};

static void jobs_stand_beside_calls(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct bad bad = {0};
        char options[256];
        snprintf(options, sizeof(options), ", 'batch.size' = '2'%s", texts[i].options);
        struct dry_run run = count(ROW("1") ROW("2") ROW("3"), options, 1, &bad);
        struct statements list;
        struct dry_run_config config = {.model = make(&list, options)};
        struct buf text;
        buf_init(&text, 65536);
        assert_int_equal(dry_run_text(&config, &run, &text), 0);
        char cost[32];
        snprintf(cost, sizeof(cost), "$%.4f", run.batched.cost / 2);
        const char *line = strstr(text.p, "cost in jobs");
        if (!run.is_priced || line == NULL || strstr(line, cost) == NULL || strstr(line, texts[i].want) == NULL) {
            fail_msg("%s: got\n%s", texts[i].says, text.p);
        }
        buf_free(&text);
        statements_free(&list);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts), cmocka_unit_test(input_is_the_prompts_bytes),
        cmocka_unit_test(bad_rows_are_told_with_their_line),
        cmocka_unit_test(time_is_that_of_the_limit_that_binds),
        cmocka_unit_test(jobs_stand_beside_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
