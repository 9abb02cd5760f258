// jsonpath: cases of our own as a table, and the public compliance suite of RFC 9535 where it is
// found: $HEADRACE_DATA/jsonpath-cts.json or ../../shared/data/jsonpath-cts.json.
#include "common/json.h"
#include "common/jsonpath.h"
#include "common/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_FILE  (1 << 20)
#define MOST_NODES 100000

static int on_found(void *arg, struct json_object *value) {
    json_object_array_add(arg, json_object_get(value));
    return 0;
}

// answer runs a query and returns all that it found as a JSON array.
static struct json_object *answer(const struct jsonpath *path, struct json_object *root) {
    struct json_object *found = json_object_new_array();
    long n = jsonpath_query(path, root, MOST_NODES, on_found, found);
    assert_int_equal(n, json_object_array_length(found));
    return found;
}

struct query_case {
    const char *name;
    const char *query;
    const char *document;
    const char *want; // a JSON array of what is found
};

static const struct query_case query_cases[] = {
    {"the root", "$", "1", "[1]"},
    {"the root may be null", "$", "null", "[null]"},
    {"a dotted name", "$.a.b", "{\"a\":{\"b\":1}}", "[1]"},
    {"a name that is not ASCII", "$.\xC3\xA4", "{\"\xC3\xA4\":1}", "[1]"},
    {"a name not there", "$.a", "{\"b\":1}", "[]"},
    {"a member that is null is found", "$.a", "{\"a\":null}", "[null]"},
    {"a name on an array", "$.a", "[1]", "[]"},
    {"single quotes", "$['a b']", "{\"a b\":1}", "[1]"},
    {"double quotes", "$[\"a'b\"]", "{\"a'b\":1}", "[1]"},
    {"a quote escaped", "$['a\\'b']", "{\"a'b\":1}", "[1]"},
    {"every escape", "$[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00E4\"]",
     "{\"\\\"\\\\/\\b\\f\\n\\r\\t\xC3\xA4\":1}", "[1]"},
    {"a surrogate pair", "$['\\uD83D\\uDE00']", "{\"\xF0\x9F\x98\x80\":1}", "[1]"},
    {"a name with NUL is nobody's", "$['a\\u0000']", "{\"a\":1}", "[]"},
    {"the empty name", "$['']", "{\"\":1}", "[1]"},
    {"an index", "$[1]", "[1,2,3]", "[2]"},
    {"an index from the end", "$[-1]", "[1,2,3]", "[3]"},
    {"an index out of range", "$[3,-4]", "[1,2,3]", "[]"},
    {"an index on an object", "$[0]", "{\"0\":1}", "[]"},
    {"a wildcard on an array", "$[*]", "[1,[2]]", "[1,[2]]"},
    {"a wildcard on an object", "$.*", "{\"b\":1,\"a\":2}", "[1,2]"},
    {"a wildcard on a scalar", "$.*", "\"x\"", "[]"},
    {"a slice", "$[1:3]", "[0,1,2,3]", "[1,2]"},
    {"a slice with a step", "$[::2]", "[0,1,2,3,4]", "[0,2,4]"},
    {"a slice backwards", "$[::-1]", "[0,1,2]", "[2,1,0]"},
    {"a slice backwards with bounds", "$[5:1:-2]", "[0,1,2,3,4,5,6]", "[5,3]"},
    {"a slice from the end", "$[-2:]", "[0,1,2]", "[1,2]"},
    {"a slice with step zero", "$[::0]", "[0,1,2]", "[]"},
    {"a slice with the largest bounds", "$[-9007199254740991:9007199254740991:9007199254740991]",
     "[0,1,2]", "[0]"},
    {"a slice with spaces", "$[ 1 : 3 : 1 ]", "[0,1,2,3]", "[1,2]"},
    {"a union keeps its order and repeats", "$[2,0,'a',0]", "[0,1,2]", "[2,0,0]"},
    {"descendants of a name", "$..a", "{\"a\":{\"a\":1},\"b\":[{\"a\":2}]}", "[{\"a\":1},1,2]"},
    {"all descendants", "$..*", "[[1],{\"a\":2}]", "[[1],{\"a\":2},1,2]"},
    {"descendants by a union", "$..[0,'a']", "[{\"a\":1},2]", "[{\"a\":1},1]"},
    {"descendants twice", "$..[*]..a", "[{\"a\":{\"a\":1}}]", "[{\"a\":1},1,1]"},
    {"space between segments", "$ .a\n[0]", "{\"a\":[1]}", "[1]"},
};

static void test_query(void **state) {
    for (size_t i = 0; i < sizeof(query_cases) / sizeof(query_cases[0]); i++) {
        const struct query_case *c = &query_cases[i];
        struct error why = {""};
        struct jsonpath *path = jsonpath_compile(slice_of(c->query), &why);
        if (path == NULL) {
            fail_msg("%s: refused: %s", c->name, why.text);
        }
        struct json_object *root;
        assert_int_equal(json_parse(slice_of(c->document), &root, NULL), 0);
        struct json_object *found = answer(path, root);
        const char *got = json_object_to_json_string_ext(found, JSON_C_TO_STRING_PLAIN |
                                                                    JSON_C_TO_STRING_NOSLASHESCAPE);
        if (strcmp(got, c->want) != 0) {
            fail_msg("%s: got %s, want %s", c->name, got, c->want);
        }
        json_object_put(found);
        json_object_put(root);
        jsonpath_free(path);
    }
}

static void test_refused(void **state) {
    static const struct {
        const char *name;
        const char *query;
        const char *why;
    } cases[] = {
        {"nothing", "", "offset 0: got the end, want '$'"},
        {"no root", "a", "offset 0: got 'a', want '$'"},
        {"space before", " $", "offset 0: got byte 0x20, want '$'"},
        {"space after", "$ ", "offset 2: got the end"},
        {"a filter", "$[?@.a]",
         "offset 2: got '?', want a name, an index, a slice or '*': filters "
         "are not supported yet"},
        {"a filter in a union", "$..[0,?@]", "filters are not supported yet"},
        {"a dot at the end", "$.", "offset 2: got the end, want a member's name"},
        {"a dash in a short name", "$.a-b", "offset 3: got '-'"},
        {"a digit first in a short name", "$.1", "offset 2: got '1'"},
        {"space after a dot", "$. a", "offset 2: got byte 0x20"},
        {"three dots", "$...a", "offset 3: got '.'"},
        {"a bracket not closed", "$[0", "offset 3: got the end, want ',' or ']'"},
        {"empty brackets", "$[]", "offset 2: got ']', want a quoted name"},
        {"a trailing comma", "$[0,]", "offset 4: got ']'"},
        {"a name without quotes", "$[a]", "offset 2: got 'a'"},
        {"a leading zero", "$[01]", "offset 3: got '1'"},
        {"minus zero", "$[-0]", "offset 3: got '0'"},
        {"an index past I-JSON", "$[9007199254740992]", "offset 2: got an integer past 2^53-1"},
        {"a step of many digits", "$[::99999999999999999999]", "past 2^53-1"},
        {"three colons", "$[:::]", "offset 4: got ':'"},
        {"the other quote escaped", "$['\\\"']", "offset 4: got '\"'"},
        {"an unknown escape", "$['\\x']", "offset 4: got 'x'"},
        {"a line feed in a name", "$['\n']", "offset 3: got byte 0x0a"},
        {"a name not closed", "$['a", "offset 4: got the end, want a quote"},
        {"a lone second half", "$['\\uDC00']", "surrogate pair"},
        {"a lone first half", "$['\\uD800']", "surrogate pair"},
        {"two first halves", "$['\\uD800\\uD800']", "surrogate pair"},
        {"bad UTF-8", "$['\xFF']", "offset 3: got bytes that are not UTF-8"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error why = {""};
        struct jsonpath *path = jsonpath_compile(slice_of(cases[i].query), &why);
        if (path != NULL || strstr(why.text, cases[i].why) == NULL) {
            fail_msg("%s: got '%s', want '%s'", cases[i].name, why.text, cases[i].why);
        }
    }
    jsonpath_free(NULL);
}

static int on_found_stop(void *arg, struct json_object *value) {
    int *n_left = arg;
    return --*n_left == 0 ? 7 : 0;
}

static void test_limits(void **state) {
    struct json_object *root, *found = json_object_new_array();
    assert_int_equal(json_parse(slice_of("[[1,2],[3,4]]"), &root, NULL), 0);
    struct jsonpath *path = jsonpath_compile(slice_of("$[*][*]"), NULL);
    assert_int_equal(jsonpath_query(path, root, 7, on_found, found), 4); // root, 2 rows, 4 items
    assert_int_equal(jsonpath_query(path, root, 6, on_found, found), -E2BIG);
    int n_left = 3;
    assert_int_equal(jsonpath_query(path, root, 7, on_found_stop, &n_left), 7);
    assert_int_equal(n_left, 0);
    jsonpath_free(path);
    path = jsonpath_compile(slice_of("$..*..*..*..*..*..*"), NULL);
    assert_int_equal(jsonpath_query(path, root, 10, on_found, found), -E2BIG);
    jsonpath_free(path);
    json_object_put(found);
    json_object_put(root);
}

static char *read_suite(void) {
    const char *folder = getenv("HEADRACE_DATA");
    char path[4096];
    snprintf(path, sizeof(path), "%s/jsonpath-cts.json",
             folder != NULL ? folder : "../../shared/data");
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return NULL;
    }
    char *text = mem_zalloc(MOST_FILE);
    size_t n = fread(text, 1, MOST_FILE - 1, f);
    fclose(f);
    assert_true(n > 0);
    return text;
}

// is_right asks whether found is the case's result, or one of its results.
static bool is_right(struct json_object *test, struct json_object *found) {
    struct json_object *results = json_get(test, "results");
    if (results == NULL) {
        return json_object_equal(found, json_get(test, "result"));
    }
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        if (json_object_equal(found, json_object_array_get_idx(results, i))) {
            return true;
        }
    }
    return false;
}

static bool passes(struct json_object *test) {
    struct jsonpath *path = jsonpath_compile(json_text(json_get(test, "selector")), NULL);
    bool is_invalid = json_object_get_boolean(json_get(test, "invalid_selector"));
    if (is_invalid || path == NULL) {
        bool is_refused = path == NULL;
        jsonpath_free(path);
        return is_invalid && is_refused;
    }
    struct json_object *found = answer(path, json_get(test, "document"));
    bool ok = is_right(test, found);
    json_object_put(found);
    jsonpath_free(path);
    return ok;
}

static void test_compliance_suite(void **state) {
    char *text = read_suite();
    if (text == NULL) {
        print_message("the compliance suite is not here\n");
        skip();
    }
    struct json_object *suite;
    struct error why = {""};
    if (json_parse(slice_of(text), &suite, &why) != 0) {
        fail_msg("the compliance suite: %s", why.text);
    }
    struct json_object *tests = json_get(suite, "tests");
    size_t n_run = 0, n_failed = 0;
    for (size_t i = 0; i < json_object_array_length(tests); i++) {
        struct json_object *test = json_object_array_get_idx(tests, i);
        struct slice selector = json_text(json_get(test, "selector"));
        if (memchr(selector.p, '?', selector.n) != NULL) {
            continue; // a filter
        }
        n_run++;
        if (!passes(test)) {
            n_failed++;
            print_message("failed: %s: %.*s\n", json_text(json_get(test, "name")).p,
                          SLICE_FMT(selector));
        }
    }
    print_message("%zu cases of the compliance suite run\n", n_run);
    assert_true(n_run > 0);
    assert_int_equal(n_failed, 0);
    json_object_put(suite);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_compliance_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
