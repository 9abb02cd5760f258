// The table of limit profiles.
#include "common/limit_profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_a_provider_has_the_row_that_names_it(void **state) {
    assert_string_equal(limit_profile_of(SLICE_LIT("anthropic"))->name, "anthropic");
    assert_string_equal(limit_profile_of(SLICE_LIT("openai"))->name, "openai");
    assert_true(limit_profile_of(SLICE_LIT("openai"))->charges_cap);
    assert_false(limit_profile_of(SLICE_LIT("anthropic"))->charges_cached);
}

static void test_a_provider_in_no_row_is_taken_for_a_window(void **state) {
    const struct limit_profile *p = limit_profile_of(SLICE_LIT("ollama"));
    assert_string_equal(p->name, "window");
    assert_int_equal(p->refill, LIMIT_REFILL_UNKNOWN);
    assert_string_equal(limit_profile_of(SLICE_LIT(""))->name, "window"); // rows without a provider do not match
}

static void test_every_name_that_is_told_can_be_found(void **state) {
    struct buf names;
    buf_init(&names, 4096);
    assert_int_equal(limit_profile_names(&names), 0);
    size_t n = 0, from = 0;
    for (size_t i = 0; i <= names.n; i++) {
        if (i == names.n || names.p[i] == '|') {
            const struct limit_profile *p = limit_profile_find((struct slice){.p = names.p + from, .n = i - from});
            assert_non_null(p);
            assert_in_range(p->day_offset_min + 1, 0, 24 * 60);
            from = i + 1;
            n++;
        }
    }
    assert_true(n >= 6);
    assert_null(limit_profile_find(SLICE_LIT("nobody's")));
    assert_null(limit_profile_find(SLICE_LIT("")));
    buf_free(&names);
    struct buf small;
    buf_init(&small, 4);
    assert_int_not_equal(limit_profile_names(&small), 0);
    buf_free(&small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_provider_has_the_row_that_names_it),
        cmocka_unit_test(test_a_provider_in_no_row_is_taken_for_a_window),
        cmocka_unit_test(test_every_name_that_is_told_can_be_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
