// Bytes on disk: lines of any length through a window, reads anywhere, owners.
#include "tests/provider/spool.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LONG 300000 // bytes of a line: more than a window, and than waits to be written

static struct spool *spool_of(const char *text) {
    struct error why;
    struct spool *spool = spool_new("", &why);
    assert_non_null(spool);
    assert_int_equal(spool_add(spool, slice_of(text)), 0);
    assert_int_equal(spool_flush(spool), 0);
    return spool;
}

// lines joins all lines with '|'.
static void lines(const struct spool *spool, char *into, size_t size) {
    struct spool_window window = {0};
    struct slice line;
    uint64_t at = 0;
    into[0] = '\0';
    while (spool_line(spool, &window, at, 1000000, &line) == 1) {
        size_t n = strlen(into);
        snprintf(into + n, size - n, "%.*s|", SLICE_FMT(line));
        at += line.n + 1;
    }
    spool_window_free(&window);
}

static void lines_end_at_line_feeds_or_at_the_end(void **state) {
    static const char *const cases[][2] = {
        {"", ""}, {"\n", "|"}, {"a", "a|"}, {"a\n", "a|"}, {"a\nb", "a|b|"}, {"a\n\nb\n", "a||b|"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char seen[64];
        struct spool *spool = spool_of(cases[i][0]);
        lines(spool, seen, sizeof(seen));
        assert_string_equal(seen, cases[i][1]);
        spool_leave(&spool);
        assert_null(spool);
    }
}

static void a_long_line_is_read_whole_and_those_after_it_too(void **state) {
    char *text = malloc(LONG + 1);
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    struct spool *spool = spool_of("first\n");
    assert_int_equal(spool_add(spool, slice_of(text)), 0);
    assert_int_equal(spool_add(spool, SLICE_LIT("\nlast")), 0);
    assert_int_equal(spool_flush(spool), 0);
    assert_int_equal(spool->n, 6 + LONG + 5);
    struct spool_window window = {0};
    struct slice line;
    assert_int_equal(spool_line(spool, &window, 0, LONG, &line), 1);
    assert_true(slice_is(line, "first"));
    assert_int_equal(spool_line(spool, &window, 6, LONG, &line), 1);
    assert_true(slice_is(line, text));
    assert_int_equal(spool_line(spool, &window, 6, LONG - 1, &line), -EMSGSIZE);
    assert_int_equal(spool_line(spool, &window, 7 + LONG, LONG, &line), 1);
    assert_true(slice_is(line, "last"));
    assert_int_equal(spool_line(spool, &window, spool->n, LONG, &line), 0);
    spool_window_free(&window);
    spool_leave(&spool);
    free(text);
}

static void reads_go_anywhere_but_past_the_end(void **state) {
    struct spool *spool = spool_of("0123456789");
    struct spool_window window = {0};
    struct slice bytes;
    assert_int_equal(spool_read(spool, &window, 7, 3, &bytes), 0);
    assert_true(slice_is(bytes, "789"));
    assert_int_equal(spool_read(spool, &window, 0, 2, &bytes), 0);
    assert_true(slice_is(bytes, "01"));
    assert_int_equal(spool_read(spool, &window, 8, 3, &bytes), -EIO);
    assert_int_equal(spool_read(spool, &window, 11, 0, &bytes), -EIO);
    spool_window_free(&window);
    spool_leave(&spool);
}

static void the_last_owner_ends_it(void **state) {
    struct spool *spool = spool_of("x"), *other = spool_share(spool);
    spool_leave(&spool);
    assert_int_equal(other->n, 1);
    spool_leave(&other);
    spool_leave(&other);
}

static void a_folder_that_is_not_there_is_told(void **state) {
    struct error why = {0};
    assert_null(spool_new("/nowhere/at/all", &why));
    assert_non_null(strstr(why.text, "/nowhere/at/all"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_at_line_feeds_or_at_the_end),
        cmocka_unit_test(a_long_line_is_read_whole_and_those_after_it_too),
        cmocka_unit_test(reads_go_anywhere_but_past_the_end),
        cmocka_unit_test(the_last_owner_ends_it),
        cmocka_unit_test(a_folder_that_is_not_there_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
