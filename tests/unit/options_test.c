// Options: four sources, the later wins; every value meets the same bounds.
#include "common/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct test_options {
    const char *redis;
    int64_t workers;
    int64_t timeout;
    int64_t memory;
    int64_t loud;
    struct option_list bind;
};

#define OPTION(...) OPTION_ROW(test_options, __VA_ARGS__)
static const struct option_spec rows[] = {
    OPTION(redis, "redis", 'r', TEXT, "", 1, 20, "ADDR", "where Redis is")
    OPTION(workers, "max-workers", 'w', COUNT, "64", 1, 4096, "N", "how many")
    OPTION(timeout, "timeout", 0, MS, "60s", 100, 600000, "TIME", "how long")
    OPTION(memory, "memory", 0, BYTES, "1M", 0, INT64_MAX, "SIZE", "how much")
    OPTION(loud, "loud", 'l', FLAG, "off", 0, 1, NULL, "say more")
    OPTION(bind, "bind", 'b', LIST, "tcp://a,tcp://b", 0, 3, "ADDR", "where to listen")
};
#undef OPTION

static const struct option_program program = {
    .name = "headrace-test",
    .args = "FILE",
    .text = "tests options",
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .most_args = 1,
};

#define MOST_WORDS 12

static int parse(const char *const *words, struct test_options *o, const char **args,
                 struct error *why) {
    char *argv[MOST_WORDS + 2] = {"somewhere/else"};
    int argc = 1;
    for (size_t i = 0; i < MOST_WORDS && words[i] != NULL; i++) {
        argv[argc++] = (char *)words[i];
    }
    *o = (struct test_options){0};
    *why = (struct error){0};
    return options_parse(&program, argc, argv, o, args, why);
}

static void defaults_pass_the_same_parser(void **state) {
    struct test_options o;
    struct error why;
    const char *args[1];
    assert_int_equal(parse((const char *[]){"-r", "here", NULL}, &o, args, &why), 0);
    assert_string_equal(o.redis, "here");
    assert_int_equal(o.workers, 64);
    assert_int_equal(o.timeout, 60000);
    assert_int_equal(o.memory, 1048576);
    assert_int_equal(o.loud, 0);
    assert_int_equal(o.bind.n, 2);
    assert_string_equal(o.bind.items[1], "tcp://b");
    options_free(&program, &o);
}

static void the_command_line_takes_all_forms(void **state) {
    struct test_options o;
    struct error why;
    const char *args[1];
    const char *words[MOST_WORDS] = {"--redis=x", "in.jsonl", "-lw",       "2k", "--bind",
                                     "p",         "--bind=q", "--timeout", "1m", NULL};
    assert_int_equal(parse(words, &o, args, &why), 1);
    assert_string_equal(args[0], "in.jsonl");
    assert_string_equal(o.redis, "x");
    assert_int_equal(o.workers, 2000);
    assert_int_equal(o.timeout, 60000);
    assert_int_equal(o.loud, 1);
    assert_int_equal(o.bind.n, 2);
    assert_string_equal(o.bind.items[0], "p");
    assert_string_equal(o.bind.items[1], "q");
    options_free(&program, &o);
}

static void write_config(char *path, const char *text) {
    strcpy(path, "headrace-options-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void later_sources_win(void **state) {
    char path[64];
    write_config(path, "# all of it\nredis = from the file\n\nmax-workers=7\ntimeout = 5s\n"
                       "loud = on\nbind = one\nbind = two");
    struct test_options o;
    struct error why;
    const char *args[1];
    setenv("HEADRACE_MAX_WORKERS", "8", 1);
    setenv("HEADRACE_TIMEOUT", "6s", 1);
    int rc = parse((const char *[]){"--timeout", "7s", "--config", path, NULL}, &o, args, &why);
    unsetenv("HEADRACE_MAX_WORKERS");
    unsetenv("HEADRACE_TIMEOUT");
    unlink(path);
    assert_string_equal(why.text, "");
    assert_int_equal(rc, 0);
    assert_string_equal(o.redis, "from the file");
    assert_int_equal(o.workers, 8);
    assert_int_equal(o.timeout, 7000);
    assert_int_equal(o.loud, 1);
    assert_int_equal(o.bind.n, 2);
    assert_string_equal(o.bind.items[0], "one");
    options_free(&program, &o);
}

static const struct refusal {
    const char *name;
    const char *words[MOST_WORDS];
    const char *config; // text of a file, or NULL
    const char *want;   // in the sentence
} refusals[] = {
    {"a required option is missing", {NULL}, NULL, "--redis is missing: want where Redis is"},
    {"an unknown long option", {"--nope=3"}, NULL, "got '--nope', want an option of headrace-test"},
    {"an unknown letter", {"-r", "x", "-z"}, NULL, "got '-z', want an option"},
    {"an unknown letter among known ones", {"-r", "x", "-lzl"}, NULL, "got '-lzl'"},
    {"a value is missing", {"--redis"}, NULL, "--redis: got no value, want where Redis is"},
    {"a flag with a value", {"--loud=7"}, NULL, "--loud: got a value, want none"},
    {"too many plain arguments", {"-rx", "a", "b"}, NULL, "got argument 'b', want at most 1"},
    {"a number past its bound", {"-rx", "-w", "5k"}, NULL, "--max-workers: got '5k', want 1 to 4096"},
    {"an earlier value is checked too", {"-rx", "-w0", "-w", "5"}, NULL, "got '0', want 1 to"},
    {"a number past int64", {"-rx", "--memory=99999999999G"}, NULL, "--memory: got"},
    {"an unknown unit", {"-rx", "--timeout=5d"}, NULL, "--timeout: got '5d', want a time"},
    {"a text too long, not repeated", {"-r", "redis://:password@host"}, NULL,
     "--redis: got 22 bytes, want at most 20"},
    {"too many values of a list", {"-rx", "-ba", "-bb", "-bc", "-bd"}, NULL,
     "--bind: got 4 values, want 0 to 3"},
    {"an unknown name in the file", {NULL}, "redis = x\nrediss = y\n",
     ":2: got 'rediss', want the name of an option"},
    {"a line without equals sign", {NULL}, "\n\nredis x\n", ":3: got a line without '='"},
    {"a bad flag in the file", {NULL}, "loud = loud\n", ":1: loud: got 'loud', want on or off"},
};

static void what_is_refused_is_named(void **state) {
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *c = &refusals[i];
        char path[64] = "";
        if (c->config != NULL) {
            write_config(path, c->config);
            setenv("HEADRACE_CONFIG", path, 1);
        }
        struct test_options o;
        struct error why;
        const char *args[1];
        int rc = parse(c->words, &o, args, &why);
        unsetenv("HEADRACE_CONFIG");
        unlink(path);
        if (rc != -EINVAL || strstr(why.text, c->want) == NULL) {
            fail_msg("%s: got %d '%s', want '%s'", c->name, rc, why.text, c->want);
        }
        assert_null(o.redis);
        assert_int_equal(o.bind.n, 0);
    }
}

static const struct number {
    enum option_type type;
    const char *text;
    int64_t value; // -1: refused
} numbers[] = {
    {OPTION_COUNT, "0", 0},       {OPTION_COUNT, "12", 12},      {OPTION_COUNT, "3M", 3000000},
    {OPTION_COUNT, "", -1},       {OPTION_COUNT, " 1", -1},      {OPTION_COUNT, "+1", -1},
    {OPTION_COUNT, "1.5", -1},    {OPTION_COUNT, "0x10", -1},    {OPTION_COUNT, "k", -1},
    {OPTION_COUNT, "-1", -1},     {OPTION_COUNT, "1kk", -1},     {OPTION_MS, "250", -1},
    {OPTION_MS, "250ms", 250},    {OPTION_MS, "2h", 7200000},    {OPTION_MS, "2H", -1},     {OPTION_MS, "0", 0},
    {OPTION_BYTES, "16k", 16384}, {OPTION_BYTES, "16kB", 16384}, {OPTION_BYTES, "2GB", 2147483648},
    {OPTION_BYTES, "7B", 7},      {OPTION_FLAG, "on", 1},        {OPTION_FLAG, "no", 0},
    {OPTION_FLAG, "", -1},
};

static void numbers_and_units(void **state) {
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const struct number *c = &numbers[i];
        int64_t value = -1;
        struct error why;
        int rc = option_value_parse("it", c->type, c->text, 0, INT64_MAX, &value, &why);
        if (value != c->value || (rc == 0) != (c->value >= 0)) {
            fail_msg("'%s': got %d %lld", c->text, rc, (long long)value);
        }
    }
}

static void a_plain_number_is_a_time_only_where_the_name_says_ms(void **state) {
    int64_t value = -1;
    struct error why;
    assert_int_equal(option_value_parse("--latency-ms", OPTION_MS, "250", 0, 1000, &value, &why), 0);
    assert_int_equal(value, 250);
    assert_int_equal(
        option_value_parse("option 'batch.timeout.ms'", OPTION_MS, "300", 0, 1000, &value, &why), 0);
    assert_int_equal(option_value_parse("--idle-exit", OPTION_MS, "2", 0, 1000, &value, &why), -22);
    assert_string_equal(why.text, "--idle-exit: got '2', want a time with its unit: 2ms, 2s, 2m or 2h");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_pass_the_same_parser),
        cmocka_unit_test(the_command_line_takes_all_forms),
        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(what_is_refused_is_named),
        cmocka_unit_test(numbers_and_units),
        cmocka_unit_test(a_plain_number_is_a_time_only_where_the_name_says_ms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
