// jsonpath: cases/jsonpath.test, limits, and the public compliance suite of RFC 9535 where it is
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

static char *read_file(const char *path) {
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

// check_case runs one line of cases/jsonpath.test and returns whether all is as it says.
static bool check_case(struct json_object *test) {
    struct error why = {""};
    struct slice error = json_text(json_get(test, "error"));
    struct jsonpath *path = jsonpath_compile(json_text(json_get(test, "query")), &why);
    if (path == NULL || error.n > 0) {
        bool ok = path == NULL && error.n > 0 && strstr(why.text, error.p) != NULL;
        if (!ok) {
            print_message("got '%s', want '%.*s'\n", why.text, SLICE_FMT(error));
        }
        jsonpath_free(path);
        return ok;
    }
    struct json_object *found = answer(path, json_get(test, "document"));
    bool ok = json_object_equal(found, json_get(test, "found"));
    if (!ok) {
        print_message("found %s\n", json_object_to_json_string(found));
    }
    json_object_put(found);
    jsonpath_free(path);
    return ok;
}

static void test_cases(void **state) {
    char *text = read_file("cases/jsonpath.test");
    assert_non_null(text);
    size_t n_failed = 0, n_run = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] == '#') {
            continue;
        }
        struct json_object *test;
        struct error why = {""};
        if (json_parse(slice_of(line), &test, &why) != 0) {
            fail_msg("%s: %s", line, why.text);
        }
        n_run++;
        if (!check_case(test)) {
            print_message("failed: %s\n", json_text(json_get(test, "name")).p);
            n_failed++;
        }
        json_object_put(test);
    }
    free(text);
    assert_true(n_run > 0);
    assert_int_equal(n_failed, 0);
}

static void test_bad_utf8(void **state) {
    struct error why = {""};
    assert_null(jsonpath_compile(slice_of("$['\xFF']"), &why));
    assert_string_equal(why.text, "offset 3: got bytes that are not UTF-8, want UTF-8");
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
    return read_file(path);
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
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_bad_utf8),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_compliance_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
