// The pre-scan of hostile msgpack, and the cursor and writer under it.
#include "proto/frame.h"

#include "common/mem.h"
#include "proto/pack.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct scan_case {
    const char *name;
    struct slice bytes;
    int values;       // as frame_scan takes it
    long want;        // how many values, or -EPROTO
    const char *said; // in the sentence
} cases[] = {
#define S(text) {text, sizeof(text) - 1}
    {"nothing, where that is fine", S(""), 0, 0, ""},
    {"nothing, where one value is wanted", S(""), 1, -EPROTO, "offset 0: got no bytes"},
    {"nothing, where some are wanted", S(""), -1, -EPROTO, "offset 0: got no bytes"},
    {"three values", S("\x01\xa1x\xc0"), 0, 3, ""},
    {"two values, where one is wanted", S("\x01\x02"), 1, -EPROTO, "offset 1: got 1 more bytes"},
    {"nested arrays and maps", S("\x92\x81\xa1x\x90\x93\x01\x02\x80"), 1, 1, ""},
    {"every width of integer",
     S("\xcc\x01\xcd\0\x01\xce\0\0\0\x01\xcf\0\0\0\0\0\0\0\x01"
       "\xd0\x01\xd1\0\x01\xd2\0\0\0\x01\xd3\0\0\0\0\0\0\0\x01\xff\x7f"), 0, 10, ""},
    {"the byte that is no type", S("\xc1"), 1, -EPROTO, "offset 0: got byte 0xc1"},
    {"an array of four thousand million", S("\xdd\xff\xff\xff\xff"), 1, -EPROTO,
     "got an array of 4294967295 values, want at most the 0 bytes that follow"},
    {"a map whose values cannot fit", S("\x82\x01\x02\x03"), 1, -EPROTO, "got a map of 4 values"},
    {"an array one value short", S("\x92\x91\x01"), 1, -EPROTO, "offset 3: got the end"},
    {"a string longer than the bytes", S("\xdb\xff\xff\xff\xff" "abc"), 1, -EPROTO,
     "offset 0: got byte 0xdb and 7 more"},
    {"binary data longer than the bytes", S("\xc6\x00\x00\x00\x04" "abc"), 1, -EPROTO, "offset 0"},
    {"an overlong form", S("\xa2\xc0\x80"), 1, -EPROTO, "offset 1: got byte 0xc0 in a string"},
    {"half a surrogate pair", S("\xa3\xed\xa0\x80"), 1, -EPROTO, "offset 1: got byte 0xed"},
    {"binary data may be anything", S("\xc4\x02\xff\xc0"), 1, 1, ""},
    {"a fixext", S("\x91\xd8\x01" "0123456789abcdef"), 1, -EPROTO, "offset 1: got an ext type"},
    {"an ext of eight bits", S("\xc7\x00\x05"), 1, -EPROTO, "offset 0: got an ext type"},
    {"sixteen levels", S("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01"), 1, 1, ""},
    {"seventeen levels", S("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x90"), 1,
     -EPROTO, "offset 16: got an array at depth 17"},
    {"levels that were left do not count", S("\x93\x91\x91\x90\x91\x91\x90\x91\x91\x90"), 1, 1, ""},
};

static void scans(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct scan_case *c = &cases[i];
        char *copy = mem_alloc(c->bytes.n);
        memcpy(copy, c->bytes.p, c->bytes.n);
        struct error why = {0};
        long n = frame_scan((struct slice){copy, c->bytes.n}, c->values, &why);
        if (n != c->want || strstr(why.text, c->said) == NULL) {
            fail_msg("%s: got %ld '%s', want %ld '%s'", c->name, n, why.text, c->want, c->said);
        }
        // What holds whole values without an ext is refused at every cut inside the last one.
        for (size_t cut = 0; c->values == 1 && n == 1 && cut < c->bytes.n; cut++) {
            assert_int_equal(frame_scan((struct slice){copy, cut}, 1, NULL), -EPROTO);
        }
        free(copy);
    }
}

static void integers_take_the_shortest_form(void **state) {
    static const struct {
        int64_t i;
        size_t n;
    } cases_of[] = {{0, 1},        {127, 1},        {128, 2},        {255, 2},       {256, 3},
                    {65535, 3},    {65536, 5},      {4294967295, 5}, {4294967296, 9}, {INT64_MAX, 9},
                    {-1, 1},       {-32, 1},        {-33, 2},        {-128, 2},      {-129, 3},
                    {-32768, 3},   {-32769, 5},     {INT32_MIN, 5},  {(int64_t)INT32_MIN - 1, 9},
                    {INT64_MIN, 9}};
    for (size_t i = 0; i < sizeof(cases_of) / sizeof(cases_of[0]); i++) {
        struct buf out = {.max = 64};
        struct pack_value v;
        assert_int_equal(pack_int(&out, cases_of[i].i), 0);
        struct slice rest = buf_slice(&out);
        assert_int_equal(out.n, cases_of[i].n);
        assert_int_equal(pack_next(&rest, &v), 1);
        assert_int_equal(v.type, cases_of[i].i < 0 ? PACK_INT : PACK_UINT);
        assert_true(v.i == cases_of[i].i && rest.n == 0);
        buf_free(&out);
    }
}

static void lengths_at_their_borders_come_back(void **state) {
    static const size_t lengths[] = {0, 15, 16, 31, 32, 255, 256, 65535, 65536};
    char *text = mem_alloc(65536);
    memset(text, 'x', 65536);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct buf out = {.max = 1 << 20};
        struct slice s = {text, lengths[i]}, back;
        uint32_t n = 0, m = 0;
        struct pack_value v;
        assert_int_equal(pack_str(&out, s), 0);
        assert_int_equal(pack_bin(&out, s), 0);
        assert_int_equal(pack_array(&out, (uint32_t)lengths[i]), 0);
        assert_int_equal(pack_map(&out, (uint32_t)lengths[i]), 0);
        struct slice rest = buf_slice(&out);
        assert_int_equal(pack_str_next(&rest, &back), 0);
        assert_true(slice_eq(back, s));
        assert_int_equal(pack_next(&rest, &v), 1);
        assert_true(v.type == PACK_BIN && slice_eq(v.bytes, s));
        assert_int_equal(pack_array_next(&rest, &n), 0);
        assert_int_equal(pack_map_next(&rest, &m), 0);
        assert_true(n == lengths[i] && m == lengths[i] && rest.n == 0);
        buf_free(&out);
    }
    free(text);
}

static void numbers_come_back_bit_by_bit(void **state) {
    static const double reals[] = {0.0, -0.0, 0.1, 1e308, -5e-324, INFINITY};
    for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
        struct buf out = {.max = 64};
        struct pack_value v;
        assert_int_equal(pack_real(&out, reals[i]), 0);
        struct slice rest = buf_slice(&out);
        assert_int_equal(pack_next(&rest, &v), 1);
        assert_true(v.type == PACK_REAL && !v.single);
        assert_memory_equal(&v.real, &reals[i], sizeof(double));
        buf_free(&out);
    }
}

static void a_failed_read_moves_nothing(void **state) {
    struct slice rest = SLICE_LIT("\x92\x01"), start = rest, value;
    uint64_t u;
    assert_int_equal(pack_uint_next(&rest, &u), -EPROTO);
    assert_int_equal(pack_str_next(&rest, &value), -EPROTO);
    assert_int_equal(pack_whole(&rest, &value), -EPROTO);
    assert_true(rest.p == start.p && rest.n == start.n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans),
        cmocka_unit_test(integers_take_the_shortest_form),
        cmocka_unit_test(lengths_at_their_borders_come_back),
        cmocka_unit_test(numbers_come_back_bit_by_bit),
        cmocka_unit_test(a_failed_read_moves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
