// bytes: slices that borrow, bufs that own and refuse to grow past their ceiling.
#include "common/bytes.h"
#include "common/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_slice_compare(void **state) {
    assert_true(slice_eq(SLICE_NONE, slice_of("")));
    assert_true(slice_eq(SLICE_NONE, slice_of(NULL)));
    assert_true(slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0b")));
    assert_false(slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0c")));
    assert_true(slice_is(SLICE_LIT("abc"), "abc"));
    assert_false(slice_is(SLICE_LIT("abc"), "ab"));
    assert_false(slice_is(SLICE_LIT("a\0"), "a"));
    assert_true(slice_is_nocase(SLICE_LIT("Retry-After"), "retry-after"));
    assert_false(slice_is_nocase(SLICE_LIT("retry"), "retry-after"));
    assert_true(slice_is_nocase(SLICE_NONE, ""));
    assert_true(slice_starts(SLICE_LIT("ipc://x"), "ipc://"));
    assert_true(slice_starts(SLICE_NONE, ""));
    assert_false(slice_starts(SLICE_LIT("ipc"), "ipc://"));
    assert_true(slice_has_nocase(SLICE_LIT("maximum CONTEXT length"), "context l"));
    assert_true(slice_has_nocase(SLICE_LIT("abc"), "C"));
    assert_false(slice_has_nocase(SLICE_LIT("abc"), "abcd"));
    assert_true(slice_has_nocase(SLICE_NONE, ""));
}

static void test_slice_cut(void **state) {
    struct slice a = SLICE_LIT("hello");
    assert_true(slice_is(slice_sub(a, 1, 3), "ell"));
    assert_true(slice_is(slice_sub(a, 3, 100), "lo"));
    assert_true(slice_is(slice_sub(a, 3, SIZE_MAX), "lo"));
    assert_int_equal(slice_sub(a, 5, 1).n, 0);
    assert_int_equal(slice_sub(a, SIZE_MAX, 1).n, 0);
    assert_true(slice_is(slice_trim(SLICE_LIT(" \t\r\n a b \n")), "a b"));
    assert_int_equal(slice_trim(SLICE_LIT(" \n ")).n, 0);
    assert_int_equal(slice_trim(SLICE_NONE).n, 0);
    char *copy = slice_dup(slice_sub(a, 0, 4));
    assert_string_equal(copy, "hell");
    free(copy);
    copy = slice_dup(SLICE_NONE);
    assert_string_equal(copy, "");
    free(copy);
}

static void test_utf8(void **state) {
    static const struct {
        const char *name;
        const char *text;
        long want;
    } cases[] = {
        {"nothing", "", -1},
        {"ASCII longer than a word", "0123456789abcdefg", -1},
        {"each length", "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", -1},
        {"the last character", "\xF4\x8F\xBF\xBF", -1},
        {"past the last character", "\xF4\x90\x80\x80", 0},
        {"a byte that starts nothing", "a\xFF", 1},
        {"a continuation alone", "ab\x80", 2},
        {"a character cut short", "abc\xE2\x82", 3},
        {"a character cut short by ASCII", "\xE2\x82z", 0},
        {"an overlong slash of two bytes", "\xC0\xAF", 0},
        {"an overlong slash of three bytes", "\xE0\x80\xAF", 0},
        {"an overlong slash of four bytes", "\xF0\x80\x80\xAF", 0},
        {"a surrogate", "\xED\xA0\x80", 0},
        {"the character before the surrogates", "\xED\x9F\xBF", -1},
        {"a bad byte after whole words", "0123456789abcdef\xC3", 16},
        {"five bytes", "\xF8\x88\x80\x80\x80", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t n = strlen(cases[i].text);
        char *exact = mem_alloc(n); // ASan sees a read past the end
        memcpy(exact, cases[i].text, n);
        long got = slice_utf8_error((struct slice){.p = exact, .n = n});
        free(exact);
        if (got != cases[i].want) {
            fail_msg("%s: got %ld, want %ld", cases[i].name, got, cases[i].want);
        }
    }
    assert_int_equal(slice_utf8_error(SLICE_NONE), -1);
}

static void test_slice_copy(void **state) {
    char into[6];
    assert_true(slice_copy(SLICE_LIT("hello"), into, sizeof(into)));
    assert_string_equal(into, "hello");
    assert_false(slice_copy(SLICE_LIT("hello!"), into, sizeof(into)));
    assert_string_equal(into, "hello");
    assert_false(slice_copy(SLICE_LIT("abcd\xC3\xA4"), into, sizeof(into)));
    assert_string_equal(into, "abcd"); // not half a character
    assert_true(slice_copy(SLICE_LIT("abc\xC3\xA4"), into, sizeof(into)));
    assert_string_equal(into, "abc\xC3\xA4");
    assert_true(slice_copy(SLICE_NONE, into, sizeof(into)));
    assert_string_equal(into, "");
    assert_false(slice_copy(SLICE_LIT("a"), into, 1));
    assert_string_equal(into, "");
}

static void test_buf_add(void **state) {
    struct buf b;
    buf_init(&b, 1000);
    assert_null(b.p);
    assert_int_equal(buf_slice(&b).n, 0);
    assert_int_equal(buf_add(&b, "ab", 2), 0);
    assert_int_equal(buf_add_slice(&b, SLICE_LIT("c\0")), 0);
    assert_int_equal(buf_add_slice(&b, SLICE_NONE), 0);
    assert_int_equal(buf_add_str(&b, "d"), 0);
    assert_int_equal(buf_add_byte(&b, 'e'), 0);
    assert_int_equal(buf_addf(&b, "%d-%s", 42, "f"), 0);
    assert_true(slice_eq(buf_slice(&b), SLICE_LIT("abc\0de42-f")));
    assert_int_equal(b.p[b.n], '\0');
    buf_clear(&b);
    assert_int_equal(b.n, 0);
    assert_string_equal(b.p, "");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf_add_byte(&b, 'x'), 0);
    }
    assert_int_equal(buf_add_byte(&b, 'x'), -EMSGSIZE);
    assert_int_equal(strlen(b.p), 1000);
    buf_free(&b);
    assert_null(b.p);
    assert_int_equal(b.max, 1000);
}

static void test_buf_ceiling(void **state) {
    struct buf b = {.max = 4};
    assert_int_equal(buf_add_str(&b, "abc"), 0);
    assert_int_equal(buf_add_str(&b, "de"), -EMSGSIZE);
    assert_int_equal(buf_addf(&b, "%d", 10), -EMSGSIZE);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -EMSGSIZE);
    assert_string_equal(b.p, "abc");
    assert_int_equal(buf_add_str(&b, "d"), 0);
    assert_string_equal(b.p, "abcd");
    buf_free(&b);
    struct buf none = {0};
    assert_int_equal(buf_add_byte(&none, 'a'), -EMSGSIZE);
    assert_int_equal(buf_add(&none, NULL, 0), 0);
    buf_free(&none);
}

static void test_buf_reserve_and_take(void **state) {
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(buf_reserve(&b, 100), 0);
    memset(b.p, 'y', 100);
    b.n += 100;
    assert_int_equal(buf_slice(&b).n, 100);
    char *taken = buf_take(&b);
    assert_int_equal(taken[99], 'y');
    free(taken);
    assert_null(b.p);
    taken = buf_take(&b);
    assert_string_equal(taken, "");
    free(taken);
    assert_int_equal(buf_add_str(&b, "again"), 0);
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice_compare),
        cmocka_unit_test(test_slice_cut),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_slice_copy),
        cmocka_unit_test(test_buf_add),
        cmocka_unit_test(test_buf_ceiling),
        cmocka_unit_test(test_buf_reserve_and_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
