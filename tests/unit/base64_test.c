// base64: both ways, and what is refused. Source of the vectors: RFC 4648, section 10.
#include "common/base64.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *name;
    struct slice bytes;
    const char *text;
} vectors[] = {
    {"nothing", SLICE_LIT(""), ""},
    {"one byte", SLICE_LIT("f"), "Zg=="},
    {"two bytes", SLICE_LIT("fo"), "Zm8="},
    {"three bytes", SLICE_LIT("foo"), "Zm9v"},
    {"six bytes", SLICE_LIT("foobar"), "Zm9vYmFy"},
    {"every bit", SLICE_LIT("\xff\xfe\xfb\0\x80"), "//77AIA="},
};

static void bytes_become_text_and_come_back(void **state) {
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct buf text = {.max = 64}, bytes = {.max = 64};
        assert_int_equal(base64_add(&text, vectors[i].bytes), 0);
        assert_true(slice_is(buf_slice(&text), vectors[i].text));
        assert_int_equal(text.n, base64_size(vectors[i].bytes.n));
        assert_int_equal(base64_decode(buf_slice(&text), &bytes), 0);
        assert_true(slice_eq(buf_slice(&bytes), vectors[i].bytes));
        buf_free(&text);
        buf_free(&bytes);
    }
}

static const struct {
    const char *name, *text, *want; // want NULL: refused
} texts[] = {
    {"no padding", "Zm8", "fo"},
    {"the other alphabet", "__77", "\xff\xfe\xfb"},
    {"a lone digit", "Z", NULL},
    {"a lone digit with padding", "Zm9vZ===", NULL},
    {"bits left over", "Zh==", NULL},
    {"a space", "Zm 9v", NULL},
    {"a line break", "Zm9v\nYmFy", NULL},
    {"padding inside", "Zg==Zg==", NULL},
    {"another character", "Zm9*", NULL},
};

static void only_base64_is_read(void **state) {
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf bytes = {.max = 64};
        assert_int_equal(buf_add_byte(&bytes, '-'), 0);
        int rc = base64_decode(slice_of(texts[i].text), &bytes);
        if (rc != (texts[i].want != NULL ? 0 : -EINVAL) || (rc != 0 && bytes.n != 1) ||
            (rc == 0 && strcmp(bytes.p + 1, texts[i].want) != 0)) {
            fail_msg("%s: got %d", texts[i].name, rc);
        }
        buf_free(&bytes);
    }
}

static void a_ceiling_holds(void **state) {
    struct buf small = {.max = 4};
    assert_int_equal(base64_add(&small, SLICE_LIT("foobar")), -EMSGSIZE);
    assert_int_equal(base64_decode(SLICE_LIT("Zm9vYmFyZm9vYmFy"), &small), -EMSGSIZE);
    assert_int_equal(small.n, 0);
    buf_free(&small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_become_text_and_come_back),
        cmocka_unit_test(only_base64_is_read),
        cmocka_unit_test(a_ceiling_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
