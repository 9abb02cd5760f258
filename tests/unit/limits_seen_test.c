// What headers told of limits, packed and read back.
#include "proto/limits_seen.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void what_was_packed_reads_back(void **state) {
    struct limits_seen in, out, none;
    struct buf packed;
    buf_init(&packed, 1024);
    limits_seen_clear(&none);
    in = none;
    assert_int_equal(limits_seen_pack(&in, &packed), 0);
    assert_int_equal(packed.n, 0);
    for (int i = 0; i < N_LIMIT_KINDS; i++) {
        in.of[i] = (struct limit_seen){1000 * i, i % 2 == 0 ? LIMIT_ABSENT : i, INT64_MAX - i};
    }
    in.of[LIMIT_OUTPUT_TOKENS] =
        (struct limit_seen){LIMIT_ABSENT, LIMIT_ABSENT, LIMIT_ABSENT};
    assert_int_equal(limits_seen_pack(&in, &packed), 0);
    assert_int_equal(limits_seen_unpack(buf_slice(&packed), &out), 0);
    assert_memory_equal(&in, &out, sizeof(in));
    // Every shorter text is refused, and leaves nothing behind.
    for (size_t n = 1; n < packed.n; n++) {
        assert_int_equal(limits_seen_unpack(slice_sub(buf_slice(&packed), 0, n), &out), -EPROTO);
        assert_memory_equal(&out, &none, sizeof(out));
    }
    buf_free(&packed);
}

static const struct {
    const char *name;
    const char *bytes;
    size_t n;
    int rc;
    int64_t limit; // of LIMIT_REQUESTS
} cases[] = {
    // clang-format off
    {"empty bytes say nothing", "", 0, 0, -1},
    {"an empty map says nothing", "\x80", 1, 0, -1},
    {"three numbers", "\x81\x00\x93\x05\x01\xc0", 6, 0, 5},
    {"a fourth item is skipped, whatever it is", "\x81\x00\x94\x05\x01\xc0\x91\xa1x", 9, 0, 5},
    {"a kind that nobody knows is skipped", "\x82\x7f\x93\x01\x01\x01\x00\x93\x05\x01\xc0", 11, 0, 5},
    {"a number past the range is absent",
     "\x81\x00\x93\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01\xc0", 14, 0, -1},
    {"a negative number is refused", "\x81\x00\x93\xff\x01\xc0", 6, -EPROTO, -1},
    {"two numbers are refused", "\x81\x00\x92\x05\x01", 5, -EPROTO, -1},
    {"bytes behind the map are refused", "\x81\x00\x93\x05\x01\xc0\xc0", 7, -EPROTO, -1},
    {"an array is refused", "\x91\x00", 2, -EPROTO, -1},
    {"a name for a kind is refused", "\x81\xa1r\x93\x05\x01\xc0", 7, -EPROTO, -1},
    // clang-format on
};

static void bytes_of_strangers(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct limits_seen seen;
        struct slice packed = {.p = cases[i].bytes, .n = cases[i].n};
        int rc = limits_seen_unpack(packed, &seen);
        if (rc != cases[i].rc || seen.of[LIMIT_REQUESTS].limit != cases[i].limit) {
            fail_msg("%s: got %d and %lld", cases[i].name, rc,
                     (long long)seen.of[LIMIT_REQUESTS].limit);
        }
    }
}

static void kinds_have_names(void **state) {
    assert_string_equal(limit_kind_name(LIMIT_REQUESTS), "requests");
    assert_string_equal(limit_kind_name(LIMIT_PROJECT_TOKENS), "project-tokens");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_packed_reads_back),
        cmocka_unit_test(bytes_of_strangers),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
