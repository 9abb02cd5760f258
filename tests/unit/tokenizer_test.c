// Counting tokens with small rank files of our own, and with a published one where HEADRACE_RANKS names it.
#include "common/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void add_base64(struct buf *out, const char *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned bits = (unsigned char)p[i] << 16;
        bits |= i + 1 < n ? (unsigned)(unsigned char)p[i + 1] << 8 : 0;
        bits |= i + 2 < n ? (unsigned char)p[i + 2] : 0;
        char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63], i + 1 < n ? digits[bits >> 6 & 63] : '=',
                        i + 2 < n ? digits[bits & 63] : '='};
        assert_int_equal(buf_add(out, four, 4), 0);
    }
}

// ranks writes a rank file: every byte, then the words in their order.
static struct buf ranks(const char *const *words, size_t n_words) {
    struct buf out;
    buf_init(&out, 1 << 20);
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        add_base64(&out, &byte, 1);
        assert_int_equal(buf_addf(&out, " %d\n", i), 0);
    }
    for (size_t i = 0; i < n_words; i++) {
        add_base64(&out, words[i], strlen(words[i]));
        assert_int_equal(buf_addf(&out, " %zu\n", 256 + i), 0);
    }
    return out;
}

static const char *const WORDS[] = {"he", "ll", "hell", "hello", " w", "or", " wor", "ld", " world", "\xc3\xa9", "12"};

static void counts_as_the_merges_say(void **state) {
    static const struct {
        const char *text;
        size_t n, want;
    } cases[] = {
        {"", 0, 0},
        {"hello", 5, 1},
        {"hello world", 11, 2},
        {"hel", 3, 2},            // he + l
        {"hellhell", 8, 2},       // one piece of letters: hell + hell
        {"world", 5, 3},          // w + or + ld: " world" has a blank
        {"caf\xc3\xa9", 5, 4},    // c a f and one token for two bytes
        {"123", 3, 2},            // at most three digits a piece: 12 + 3
        {"1234", 4, 3},           // 123 | 4
        {"a\xff\xfe" "b", 4, 4},  // bytes that are no UTF-8 count as bytes
        {"x\n\n y", 5, 5},        // x, \n\n as two bytes, then " y" as two
    };
    struct buf text = ranks(WORDS, sizeof(WORDS) / sizeof(*WORDS));
    struct error why = {0};
    struct tokenizer *t = tokenizer_read(buf_slice(&text), "test", &why);
    assert_non_null(t);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        size_t got = tokenizer_count(t, (struct slice){.p = cases[i].text, .n = cases[i].n});
        if (got != cases[i].want) {
            fail_msg("'%s': got %zu tokens, want %zu", cases[i].text, got, cases[i].want);
        }
    }
    tokenizer_free(t);
    buf_free(&text);
}

static void a_long_run_ends(void **state) {
    struct buf text = ranks(WORDS, 4), run;
    buf_init(&run, 1 << 20);
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(buf_add(&run, "hell", 4), 0);
    }
    struct error why = {0};
    struct tokenizer *t = tokenizer_read(buf_slice(&text), "test", &why);
    assert_non_null(t);
    assert_int_equal(tokenizer_count(t, buf_slice(&run)), 20000); // 4096 is a multiple of 4
    tokenizer_free(t);
    buf_free(&run);
    buf_free(&text);
}

static void refuses_what_is_no_rank_file(void **state) {
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "f: byte 0x00 has no rank, want one for every byte"},
        {"hello\n", "f:1: got 'hello', want a token in base64, a space and its rank"},
        {"AA== 0\n!!!! 1\n", "f:2: got '!!!! 1', want a token in base64, a space and its rank"},
        {"AA== x\n", "f:1: got 'AA== x', want a token in base64, a space and its rank"},
        {"AA== 0\r\nAA== 1\r\n", "f:2: got a token that is there already, with rank 0"},
        {"AA== 0\n\nAQ== 99999999999\n", "f:3: got 'AQ== 99999999999', want a token in base64, a space and its rank"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct error why = {0};
        assert_null(tokenizer_read(slice_of(cases[i].text), "f", &why));
        assert_string_equal(why.text, cases[i].want);
    }
    struct error why = {0};
    assert_null(tokenizer_load("/nowhere/x.tiktoken", &why));
    assert_string_equal(why.text, "/nowhere/x.tiktoken: No such file or directory");
}

// Known counts of the published encodings, from OpenAI's own tokenizer.
static void counts_as_published(void **state) {
    const char *path = getenv("HEADRACE_RANKS");
    if (path == NULL) {
        skip();
    }
    struct error why = {0};
    struct tokenizer *t = tokenizer_load(path, &why);
    if (t == NULL) {
        fail_msg("%s", why.text);
    }
    assert_int_equal(tokenizer_count(t, SLICE_LIT("hello world")), 2);
    assert_int_equal(tokenizer_count(t, SLICE_LIT("tiktoken is great!")), 6);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_as_the_merges_say),
        cmocka_unit_test(a_long_run_ends),
        cmocka_unit_test(refuses_what_is_no_rank_file),
        cmocka_unit_test(counts_as_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
