// A document with a long array in pieces of any size: elements one by one, the rest as it stands.
#include "tests/provider/elements.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static const char *const requests[] = {"requests"};
static const char *const inlined[] = {"batch", "inputConfig", "requests", "requests"};

static int on_element(void *arg, struct slice element) {
    struct buf *seen = arg;
    int rc = buf_add_slice(seen, element);
    return rc != 0 ? rc : buf_add_byte(seen, '|');
}

// feed gives a document in pieces. Returns 0 or the first error; seen gets "ELEMENT|ELEMENT|" and
// the rest.
static int feed(const char *text, size_t piece, bool deep, size_t most, struct buf *seen) {
    struct elements e;
    *seen = (struct buf){.max = 65536};
    elements_init(&e, deep ? inlined : requests, deep ? 4 : 1, most, on_element, seen);
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < strlen(text); at += piece) {
        rc = elements_add(&e, slice_sub(slice_of(text), at, piece), NULL);
    }
    rc = rc != 0 ? rc : elements_end(&e, NULL);
    rc = rc != 0 ? rc : buf_add_slice(seen, buf_slice(&e.rest));
    elements_free(&e);
    return rc;
}

static void elements_come_one_by_one_and_the_rest_stays(void **state) {
    static const struct {
        const char *what;
        bool deep;
        const char *text, *want;
    } cases[] = {
        {"objects", false, "{\"requests\":[{\"a\":[1,2]}, {\"b\":\"],\"}]}",
         "{\"a\":[1,2]}|{\"b\":\"],\"}|{\"requests\":[]}"},
        {"none", false, "{\"requests\" : [ ] }", "{\"requests\" : [] }"},
        {"line feeds become spaces", false, "{\"requests\":[{\n\"a\":\r\n1}\n]}",
         "{ \"a\":  1}|{\"requests\":[]}"},
        {"an escaped quote", false, "{\"requests\":[\"a\\\"],[\",2]}",
         "\"a\\\"],[\"|2|{\"requests\":[]}"},
        {"the name elsewhere", false,
         "{\"x\":{\"requests\":[1]},\"y\":\"requests\",\"requests\":[2]}",
         "2|{\"x\":{\"requests\":[1]},\"y\":\"requests\",\"requests\":[]}"},
        {"the name is a longer one's end", false, "{\"my_requests\":[1]}", "{\"my_requests\":[1]}"},
        {"a second array of the name", false, "{\"requests\":[1],\"requests\":[2]}",
         "1|{\"requests\":[],\"requests\":[2]}"},
        {"no array there", false, "{\"requests\":{\"requests\":[1]}}",
         "{\"requests\":{\"requests\":[1]}}"},
        {"an array around", false, "[{\"requests\":[1]}]", "[{\"requests\":[1]}]"},
        {"a deep one", true,
         "{\"batch\":{\"inputConfig\":{\"requests\":{\"requests\":[1,2]}},\"displayName\":\"j\"}}",
         "1|2|{\"batch\":{\"inputConfig\":{\"requests\":{\"requests\":[]}},\"displayName\":\"j\"}"
         "}"},
        {"its other spelling", true,
         "{\"batch\":{\"input_config\":{\"requests\":{\"requests\":[1]}}}}",
         "1|{\"batch\":{\"input_config\":{\"requests\":{\"requests\":[]}}}}"},
        {"its sisters", true,
         "{\"a\":{\"inputConfig\":{\"requests\":{\"requests\":[1]}}},\"batch\":{\"x\":[{}],"
         "\"inputConfig\":{\"y\":{\"requests\":[3]},\"requests\":{\"requests\":[2]}}}}",
         "2|{\"a\":{\"inputConfig\":{\"requests\":{\"requests\":[1]}}},\"batch\":{\"x\":[{}],"
         "\"inputConfig\":{\"y\":{\"requests\":[3]},\"requests\":{\"requests\":[]}}}}"},
        {"one level too few", true, "{\"batch\":{\"inputConfig\":{\"requests\":[1]}}}",
         "{\"batch\":{\"inputConfig\":{\"requests\":[1]}}}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t piece = 1; piece <= strlen(cases[i].text); piece++) {
            struct buf seen;
            int rc = feed(cases[i].text, piece, cases[i].deep, 1000, &seen);
            if (rc != 0 || strcmp(seen.p, cases[i].want) != 0) {
                fail_msg("%s in pieces of %zu: %d, %s", cases[i].what, piece, rc, seen.p);
            }
            buf_free(&seen);
        }
    }
}

static void what_cannot_be_followed_is_refused(void **state) {
    static const struct {
        const char *what, *text;
    } cases[] = {
        {"an end in the middle", "{\"requests\":[{}"},
        {"an end in a string", "{\"requests"},
        {"a bracket too many", "{}}"},
        {"brackets that do not fit", "{\"requests\":[}]"},
        {"a comma too many", "{\"requests\":[1,,2]}"},
        {"a comma before the first", "{\"requests\":[,1]}"},
        {"a comma after the last", "{\"requests\":[1,]}"},
        {"a line feed in a string", "{\"requests\":[\"a\nb\"]}"},
        {"an element that is too long", "{\"requests\":[\"12345678901234567890\"]}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf seen;
        if (feed(cases[i].text, 3, false, 16, &seen) != -EINVAL) {
            fail_msg("taken: %s", cases[i].what);
        }
        buf_free(&seen);
    }
}

static void more_levels_than_there_are_bounds_for_are_refused(void **state) {
    char text[ELEMENTS_DEPTH_MAX + 2];
    memset(text, '[', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    struct buf seen;
    assert_int_equal(feed(text, 1, false, 16, &seen), -EINVAL);
    buf_free(&seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_come_one_by_one_and_the_rest_stays),
        cmocka_unit_test(what_cannot_be_followed_is_refused),
        cmocka_unit_test(more_levels_than_there_are_bounds_for_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
