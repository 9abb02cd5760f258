// Forms of "try again later".
#include "worker/retry_after.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void later_has_many_forms(void **state) {
    const int64_t now = 1790000000000; // Mon, 21 Sep 2026 14:13:20 GMT
    assert_int_equal(retry_after_parse(SLICE_LIT("20"), now), 20000);
    assert_int_equal(retry_after_parse(SLICE_LIT(" 0.25 "), now), 250);
    assert_int_equal(retry_after_parse(SLICE_LIT("Mon, 21 Sep 2026 14:13:50 GMT"), now), 30000);
    assert_int_equal(retry_after_parse(SLICE_LIT("Mon, 21 Sep 2020 14:13:50 GMT"), now), 0);
    assert_int_equal(retry_after_parse(SLICE_LIT("9999999999999"), now), 86400000);
    assert_int_equal(retry_after_parse(SLICE_LIT("-5"), now), -1);
    assert_int_equal(retry_after_parse(SLICE_LIT("soon"), now), -1);
    assert_int_equal(retry_after_parse(SLICE_NONE, now), -1);
    assert_int_equal(duration_parse(SLICE_LIT("6m0s")), 360000);
    assert_int_equal(duration_parse(SLICE_LIT("12ms")), 12);
    assert_int_equal(duration_parse(SLICE_LIT("1m12.5s")), 72500);
    assert_int_equal(duration_parse(SLICE_LIT("1h2m3s")), 3723000);
    assert_int_equal(duration_parse(SLICE_LIT("")), -1);
    assert_int_equal(duration_parse(SLICE_LIT("7")), -1);
    assert_int_equal(duration_parse(SLICE_LIT("1s!")), -1);
    assert_int_equal(retry_after_hint(SLICE_LIT("Please try again in 9.816s. Visit")), 9816);
    assert_int_equal(retry_after_hint(SLICE_LIT("Try again in 1m2s.")), 62000);
    assert_int_equal(retry_after_hint(SLICE_LIT("retry after 37 seconds")), 37000);
    assert_int_equal(retry_after_hint(SLICE_LIT("try again in a while")), -1);
    assert_int_equal(retry_after_hint(SLICE_LIT("try again in ")), -1);
}

static void times_have_one_form(void **state) {
    const int64_t now = 1790000000000; // 2026-09-21T14:13:20Z
    assert_int_equal(time_until(SLICE_LIT("2026-09-21T14:13:25Z"), now), 5000);
    assert_int_equal(time_until(SLICE_LIT("2026-09-21t14:13:20.25z"), now), 250);
    assert_int_equal(time_until(SLICE_LIT("2026-09-21T16:13:21+02:00"), now), 1000);
    assert_int_equal(time_until(SLICE_LIT("2026-09-21T09:43:21-04:30"), now), 1000);
    assert_int_equal(time_until(SLICE_LIT("2025-01-01T00:00:00Z"), now), 0);
    assert_int_equal(time_until(SLICE_LIT("2036-01-01T00:00:00Z"), now), 86400000);
    assert_int_equal(time_until(SLICE_LIT("2026-09-21T14:13:25"), now), -1);
    assert_int_equal(time_until(SLICE_LIT("2026-13-21T14:13:25Z"), now), -1);
    assert_int_equal(time_until(SLICE_LIT("2026-09-21"), now), -1);
    assert_int_equal(time_until(SLICE_LIT("60"), now), -1);
    assert_int_equal(time_until(SLICE_NONE, now), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_has_many_forms),
        cmocka_unit_test(times_have_one_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
