// multipart/form-data in pieces of any size, and what is refused.
#include "tests/provider/multipart.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define TYPE "multipart/form-data; boundary=xXx"
#define PART(name, more, value)                                                                    \
    "--xXx\r\nContent-Disposition: form-data; name=\"" name "\"" more "\r\n\r\n" value "\r\n"
#define FILE_MORE "; filename=\"in.jsonl\"\r\nContent-Type: application/jsonl"

// What came, as one text: "name/filename=bytes;".
struct seen {
    struct buf text;
    char last[MULTIPART_NAME_MAX];
};

static int on_bytes(void *arg, const char *name, const char *filename, struct slice bytes) {
    struct seen *seen = arg;
    int rc = 0;
    if (strcmp(seen->last, name) != 0) {
        strcpy(seen->last, name);
        rc = buf_addf(&seen->text, ";%s/%s=", name, filename);
    }
    return rc != 0 ? rc : buf_add_slice(&seen->text, bytes);
}

// feed gives a body in pieces of `piece` bytes. Returns 0 or the first error.
static int feed(const char *type, const char *body, size_t n, size_t piece, struct seen *seen) {
    struct multipart m;
    *seen = (struct seen){.text = {.max = 65536}};
    int rc = multipart_init(&m, slice_of(type), on_bytes, seen, NULL);
    for (size_t at = 0; rc == 0 && at < n; at += piece) {
        rc = multipart_add(&m, slice_sub((struct slice){.p = body, .n = n}, at, piece), NULL);
    }
    rc = rc != 0 ? rc : multipart_end(&m, NULL);
    multipart_free(&m);
    return rc;
}

static void a_form_reads_the_same_in_pieces_of_any_size(void **state) {
    static const char body[] = PART("purpose", "", "batch")
        PART("file", FILE_MORE, "{\"a\":1}\r\n--xX\r\n{\"b\":\"\r\n--\"}\n")
            PART("empty", "", "") "--xXx--\r\n";
    for (size_t piece = 1; piece < sizeof(body); piece++) {
        struct seen seen;
        assert_int_equal(feed(TYPE, body, sizeof(body) - 1, piece, &seen), 0);
        assert_string_equal(
            seen.text.p, ";purpose/=batch;file/in.jsonl={\"a\":1}\r\n--xX\r\n{\"b\":\"\r\n--\"}\n"
                         ";empty/=");
        buf_free(&seen.text);
    }
}

static void what_is_not_a_whole_form_is_refused(void **state) {
    static const struct {
        const char *what, *type, *body;
    } cases[] = {
        {"no boundary in the type", "multipart/form-data", "--xXx--\r\n"},
        {"an empty boundary", "multipart/form-data; boundary=", "----\r\n"},
        {"another type", "application/json; boundary=xXx", "--xXx--\r\n"},
        {"a boundary of 71 bytes",
         "multipart/form-data; boundary="
         "1234567890123456789012345678901234567890123456789012345678901234567890x",
         ""},
        {"nothing", TYPE, ""},
        {"another boundary", TYPE, "--yYy\r\n"},
        {"no closing boundary", TYPE, PART("a", "", "b")},
        {"a part without a name", TYPE,
         "--xXx\r\nContent-Disposition: form-data\r\n\r\nb\r\n--xXx--\r\n"},
        {"a part without headers", TYPE, "--xXx\r\n\r\n\r\nb\r\n--xXx--\r\n"},
        {"a disposition that is no form's", TYPE,
         "--xXx\r\nContent-Disposition: inline; name=\"a\"\r\n\r\nb\r\n--xXx--\r\n"},
        {"words after a boundary", TYPE, "--xXxwords\r\n"},
        {"a line that ends without a carriage return", TYPE,
         "--xXx\nContent-Disposition: form-data\n\nb"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct seen seen;
        if (feed(cases[i].type, cases[i].body, strlen(cases[i].body), 7, &seen) != -EINVAL) {
            fail_msg("taken: %s", cases[i].what);
        }
        buf_free(&seen.text);
    }
}

static void a_boundary_may_be_quoted(void **state) {
    struct seen seen;
    const char *body = "--a b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--a b--";
    assert_int_equal(
        feed("multipart/form-data; boundary=\"a b\"; charset=utf-8", body, strlen(body), 5, &seen),
        0);
    assert_string_equal(seen.text.p, ";x/=1");
    buf_free(&seen.text);
}

static int stop(void *arg, const char *name, const char *filename, struct slice bytes) {
    return bytes.n > 0 ? -ENOSPC : 0;
}

static void what_the_sink_says_is_handed_on(void **state) {
    struct multipart m;
    assert_int_equal(multipart_init(&m, slice_of(TYPE), stop, NULL, NULL), 0);
    assert_int_equal(multipart_add(&m, slice_of(PART("a", "", "b") "--xXx--"), NULL), -ENOSPC);
    multipart_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_reads_the_same_in_pieces_of_any_size),
        cmocka_unit_test(what_is_not_a_whole_form_is_refused),
        cmocka_unit_test(a_boundary_may_be_quoted),
        cmocka_unit_test(what_the_sink_says_is_handed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
