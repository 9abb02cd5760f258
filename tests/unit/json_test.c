// json: what is accepted, what is refused and where, and how it is written.
#include "common/json.h"
#include "common/mem.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_TEXT 65536

struct parse_case {
    const char *name;
    const char *text;
    size_t n;         // bytes of text, NULs included
    const char *want; // as json_add writes it; NULL: refused
    const char *why;  // what the sentence must contain
};

#define TEXT(s) .text = (s), .n = sizeof(s) - 1

static const struct parse_case parse_cases[] = {
    {"null is a value without an object", TEXT("null"), "null"},
    {"a byte order mark is skipped", TEXT("\xEF\xBB\xBF{}"), "{}"},
    {"white space around a value is fine", TEXT(" \t\r\n[ 1 , 2 ] \n"), "[1,2]"},
    {"members keep their order", TEXT("{\"b\":1,\"a\":{\"c\":[]}}"), "{\"b\":1,\"a\":{\"c\":[]}}"},
    {"the last of two members with one name counts", TEXT("{\"a\":1,\"a\":2}"), "{\"a\":2}"},
    {"every escape is read", TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\""),
     "\"\\\"\\\\/\\b\\f\\n\\r\\t\xC3\xA4\""},
    {"a surrogate pair is one character", TEXT("\"\\uD83D\\uDE00\""), "\"\xF0\x9F\x98\x80\""},
    {"half a surrogate pair becomes U+FFFD", TEXT("\"\\uD83Dx\""), "\"\xEF\xBF\xBDx\""},
    {"half a pair before another escape", TEXT("\"\\uD83D\\u0041\""), "\"\xEF\xBF\xBD\x41\""},
    {"NUL in a string is kept", TEXT("\"a\\u0000b\""), "\"a\\u0000b\""},
    {"the biggest int64", TEXT("9223372036854775807"), "9223372036854775807"},
    {"the smallest int64", TEXT("-9223372036854775808"), "-9223372036854775808"},
    {"the biggest uint64", TEXT("18446744073709551615"), "18446744073709551615"},
    {"a double keeps its text", TEXT("[1.10,1E+2,-0.0,1e-7]"), "[1.10,1E+2,-0.0,1e-7]"},
    {"minus zero is an integer", TEXT("-0"), "0"},
    {"true and false", TEXT("[true,false]"), "[true,false]"},

    {"nothing", TEXT(""), NULL, "offset 0: got the end, want a JSON value"},
    {"only white space", TEXT("  \n"), NULL, "offset 3: got the end"},
    {"text after the value", TEXT("{} x"), NULL, "offset 3: got 'x', want nothing after"},
    {"a second value", TEXT("1 2"), NULL, "offset 2: got '2'"},
    {"NaN", TEXT("[NaN]"), NULL, "offset 1: got 'N', want a JSON value"},
    {"Infinity", TEXT("Infinity"), NULL, "offset 0: got 'I'"},
    {"minus Infinity", TEXT("-Infinity"), NULL, "offset 1: got 'I', want a digit"},
    {"one more than uint64", TEXT("18446744073709551616"), NULL, "64 bits"},
    {"one less than int64", TEXT("-9223372036854775809"), NULL, "64 bits"},
    {"thirty digits", TEXT("[100000000000000000000000000000]"), NULL, "offset 1: got an integer"},
    {"a number beyond a double", TEXT("1e999"), NULL, "beyond a double"},
    {"a leading zero", TEXT("01"), NULL, "offset 1: got '1'"},
    {"a leading plus", TEXT("+1"), NULL, "got '+'"},
    {"a point without digits", TEXT("[1.]"), NULL, "a digit after the point"},
    {"an exponent without digits", TEXT("1e"), NULL, "a digit of the exponent"},
    {"a word too long", TEXT("nullx"), NULL, "offset 4: got 'x'"},
    {"a word in capitals", TEXT("True"), NULL, "got 'T'"},
    {"a trailing comma in an array", TEXT("[1,]"), NULL, "offset 3: got ']'"},
    {"a trailing comma in an object", TEXT("{\"a\":1,}"), NULL, "offset 7: got '}'"},
    {"single quotes", TEXT("{'a':1}"), NULL, "offset 1: got '''"},
    {"a name without quotes", TEXT("{a:1}"), NULL, "offset 1: got 'a'"},
    {"a comment", TEXT("/* x */ 1"), NULL, "got '/'"},
    {"an array not closed", TEXT("[1"), NULL, "offset 2: got the end, want ',' or ']'"},
    {"a string not closed", TEXT("\"a"), NULL, "want '\"' at the end"},
    {"a string that ends in a backslash", TEXT("\"a\\"), NULL, "got the end"},
    {"a line break in a string", TEXT("\"a\nb\""), NULL, "offset 2: got byte 0x0a"},
    {"an unknown escape", TEXT("\"\\x41\""), NULL, "got 'x'"},
    {"a short \\u", TEXT("\"\\u12\""), NULL, "four hexadecimal"},
    {"a NUL byte after the value", TEXT("1\0"), NULL, "offset 1: got byte 0x00"},
    {"NUL in a member's name", TEXT("{\"a\\u0000b\":1}"), NULL, "member's name"},
    {"bad UTF-8", TEXT("[\"ok\xFF\"]"), NULL, "offset 4: got bytes that are not UTF-8"},
    {"an overlong UTF-8 form", TEXT("\"\xC0\x80\""), NULL, "UTF-8"},
    {"a surrogate in UTF-8", TEXT("\"\xED\xA0\x80\""), NULL, "UTF-8"},
};

static char *written(struct json_object *value) {
    struct buf b;
    buf_init(&b, MOST_TEXT);
    assert_int_equal(json_add(&b, value), 0);
    return buf_take(&b);
}

static void check_parse(const struct parse_case *c) {
    char *exact = mem_alloc(c->n); // ASan sees a read past the end
    memcpy(exact, c->text, c->n);
    struct json_object *value = NULL;
    struct error why = {""};
    int rc = json_parse((struct slice){.p = exact, .n = c->n}, &value, &why);
    free(exact);
    if (c->want == NULL) {
        if (rc != -EINVAL || value != NULL || strstr(why.text, c->why) == NULL) {
            fail_msg("%s: got %d, '%s', want '%s'", c->name, rc, why.text, c->why);
        }
        return;
    }
    if (rc != 0) {
        fail_msg("%s: refused: %s", c->name, why.text);
    }
    char *got = written(value);
    if (strcmp(got, c->want) != 0) {
        fail_msg("%s: got %s, want %s", c->name, got, c->want);
    }
    free(got);
    json_object_put(value);
}

static void test_parse(void **state) {
    for (size_t i = 0; i < sizeof(parse_cases) / sizeof(parse_cases[0]); i++) {
        check_parse(&parse_cases[i]);
    }
}

static int parse_levels(int levels, const char *core) {
    struct buf b;
    buf_init(&b, MOST_TEXT);
    for (int i = 0; i < levels; i++) {
        assert_int_equal(buf_add_byte(&b, '['), 0);
    }
    assert_int_equal(buf_add_str(&b, core), 0);
    for (int i = 0; i < levels; i++) {
        assert_int_equal(buf_add_byte(&b, ']'), 0);
    }
    struct json_object *value;
    int rc = json_parse(buf_slice(&b), &value, NULL);
    json_object_put(value);
    buf_free(&b);
    return rc;
}

static void test_depth(void **state) {
    assert_int_equal(parse_levels(JSON_MAX_DEPTH, "1"), 0);
    assert_int_equal(parse_levels(JSON_MAX_DEPTH, ""), 0);
    assert_int_equal(parse_levels(JSON_MAX_DEPTH + 1, ""), -EINVAL);
    assert_int_equal(parse_levels(JSON_MAX_DEPTH, "{}"), -EINVAL);
    assert_int_equal(parse_levels(MOST_TEXT / 4, "{"), -EINVAL);
}

static void test_types(void **state) {
    struct json_object *value;
    assert_int_equal(json_parse(slice_of("[1,1.0,18446744073709551615]"), &value, NULL), 0);
    struct json_object *one = json_object_array_get_idx(value, 0);
    assert_int_equal(json_object_get_type(one), json_type_int);
    assert_int_equal(json_object_get_type(json_object_array_get_idx(value, 1)), json_type_double);
    assert_true(json_object_get_uint64(json_object_array_get_idx(value, 2)) == UINT64_MAX);
    json_object_put(value);
}

// Rows one after another, with and without white space, until nothing is left.
static void test_first(void **state) {
    static const char *const texts[] = {"{\"a\":1}", "[2]", "3", "\"x\"", "true", "null"};
    struct slice rest = SLICE_LIT("\xEF\xBB\xBF{\"a\":1}[2]3 \"x\"true\n\nnull \n");
    size_t n = 0, used;
    struct json_object *value;
    while (json_parse_first(rest, &value, &used, NULL) == 0) {
        assert_true(n < sizeof(texts) / sizeof(texts[0]));
        char *got = written(value);
        assert_string_equal(got, texts[n++]);
        free(got);
        json_object_put(value);
        rest = slice_sub(rest, used, rest.n);
    }
    assert_int_equal(n, sizeof(texts) / sizeof(texts[0]));
    assert_int_equal(json_parse_first(rest, &value, &used, NULL), -ENODATA);
    assert_null(value);

    struct error why;
    assert_int_equal(json_parse_first(SLICE_NONE, &value, &used, &why), -ENODATA);
    assert_int_equal(json_parse_first(slice_of(" 12abc"), &value, &used, &why), -EINVAL);
    assert_string_equal(why.text, "offset 3: got 'a', want the end of the value");
    assert_int_equal(json_parse_first(slice_of("{} \xFF"), &value, &used, &why), 0);
    assert_int_equal(used, 2);
    json_object_put(value);
}

static void test_long_strings(void **state) {
    struct buf text, want;
    buf_init(&text, MOST_TEXT);
    buf_init(&want, MOST_TEXT);
    assert_int_equal(buf_add_str(&text, "{\""), 0);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(buf_add_str(&text, "a\\n"), 0);
        assert_int_equal(buf_add_str(&want, "a\n"), 0);
    }
    assert_int_equal(buf_add_str(&text, "\":\"\\u0062\"}"), 0);
    struct json_object *value;
    assert_int_equal(json_parse(buf_slice(&text), &value, NULL), 0);
    assert_true(slice_is(json_text(json_get(value, want.p)), "b"));
    json_object_put(value);
    buf_free(&text);
    buf_free(&want);
}

static void test_add_string(void **state) {
    static const struct {
        const char *name;
        const char *text;
        size_t n;
        const char *want;
    } cases[] = {
        {"empty", TEXT(""), "\"\""},
        {"a slash stays", TEXT("a/b"), "\"a/b\""},
        {"quote and backslash", TEXT("\"\\"), "\"\\\"\\\\\""},
        {"control characters", TEXT("\n\x01\x1F\x7F\xC2\x85\0"),
         "\"\\n\\u0001\\u001f\\u007f\\u0085\\u0000\""},
        {"line and paragraph separator", TEXT("\xE2\x80\xA8-\xE2\x80\xA9"), "\"\\u2028-\\u2029\""},
        {"their neighbours stay", TEXT("\xE2\x80\xA7\xE2\x80\xAA\xC2\xA0"),
         "\"\xE2\x80\xA7\xE2\x80\xAA\xC2\xA0\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b;
        buf_init(&b, MOST_TEXT);
        struct slice s = {.p = cases[i].text, .n = cases[i].n};
        assert_int_equal(json_add_string(&b, s), 0);
        if (strcmp(b.p, cases[i].want) != 0) {
            fail_msg("%s: got %s, want %s", cases[i].name, b.p, cases[i].want);
        }
        buf_free(&b);
    }
}

static void test_ceiling(void **state) {
    struct json_object *value;
    assert_int_equal(json_parse(slice_of("{\"a\":[1,\"x\"]}"), &value, NULL), 0);
    for (size_t max = 1; max <= 14; max++) {
        struct buf b;
        buf_init(&b, max);
        assert_int_equal(buf_add_byte(&b, '>'), 0);
        int rc = json_add(&b, value);
        assert_int_equal(rc, max < 14 ? -EMSGSIZE : 0);
        assert_string_equal(b.p, max < 14 ? ">" : ">{\"a\":[1,\"x\"]}");
        buf_free(&b);
    }
    json_object_put(value);
    struct buf b;
    buf_init(&b, 5);
    assert_int_equal(json_add_string(&b, slice_of("abcd")), -EMSGSIZE);
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

static void test_doubles(void **state) {
    static const struct {
        double value;
        const char *want;
    } cases[] = {
        {0, "0"},
        {1, "1"},
        {0.1, "0.1"},
        {1.0 / 3, "0.3333333333333333"},
        {1e20, "1e+20"},
        {5e-324, "5e-324"},
        {-2.5e-7, "-2.5e-07"},
        {0.1 + 0.2, "0.30000000000000004"},
        {NAN, "null"},
        {-INFINITY, "null"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b;
        buf_init(&b, 64);
        assert_int_equal(json_add_double(&b, cases[i].value), 0);
        assert_string_equal(b.p, cases[i].want);
        buf_free(&b);
    }
    struct json_object *made = json_object_new_double(0.1);
    char *text = written(made);
    assert_string_equal(text, "0.1");
    free(text);
    json_object_put(made);
}

static void test_get(void **state) {
    struct json_object *value;
    struct slice text = SLICE_LIT("{\"a\":\"x\\u0000y\",\"n\":null,\"i\":1}");
    assert_int_equal(json_parse(text, &value, NULL), 0);
    assert_true(slice_eq(json_text(json_get(value, "a")), SLICE_LIT("x\0y")));
    assert_null(json_get(value, "n"));
    assert_null(json_get(value, "b"));
    assert_null(json_get(NULL, "b"));
    assert_null(json_get(json_get(value, "i"), "b"));
    assert_int_equal(json_text(json_get(value, "i")).n, 0);
    assert_int_equal(json_text(NULL).n, 0);
    json_object_put(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_types),        cmocka_unit_test(test_first),
        cmocka_unit_test(test_long_strings), cmocka_unit_test(test_add_string),
        cmocka_unit_test(test_ceiling),      cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_get),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
