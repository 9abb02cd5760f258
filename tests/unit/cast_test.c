// Decimals, dates and timestamps in text: what a value becomes, and what is none. Columns of every type, through
// the answers of a model, are cases of tests/cases/parse.test.
#include "common/cast.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum kind { DECIMAL, DATE, TIMESTAMP };

static const struct {
    const char *says;
    enum kind kind;
    const char *text;
    int precision, scale;
    int rc;
    const char *want;
} cases[] = {
    {"zeros are filled up", DECIMAL, "1.5", 6, 3, 0, "1.500"},
    {"a number without a point", DECIMAL, " 42 ", 4, 0, 0, "42"},
    {"half is rounded up", DECIMAL, "0.125", 4, 2, 0, "0.13"},
    {"away from zero, also below it", DECIMAL, "-0.125", 4, 2, 0, "-0.13"},
    {"less than half is cut", DECIMAL, "0.1249", 4, 2, 0, "0.12"},
    {"nines carry", DECIMAL, "9.996", 4, 2, 0, "10.00"},
    {"nines that carry past the precision", DECIMAL, "99.996", 4, 2, -ERANGE, NULL},
    {"a half becomes one", DECIMAL, "0.5", 1, 0, 0, "1"},
    {"a small number is zero, and has no sign", DECIMAL, "-0.004", 4, 2, 0, "0.00"},
    {"an exponent", DECIMAL, "1.25e2", 5, 1, 0, "125.0"},
    {"an exponent below zero", DECIMAL, "125E-3", 5, 3, 0, "0.125"},
    {"zeros in front do not count", DECIMAL, "000123", 3, 0, 0, "123"},
    {"too many digits", DECIMAL, "1234", 3, 0, -ERANGE, NULL},
    {"an exponent past all bounds", DECIMAL, "1e999999999999", 9, 0, -EINVAL, NULL},
    {"two points", DECIMAL, "1.2.3", 9, 2, -EINVAL, NULL},
    {"a word", DECIMAL, "twelve", 9, 2, -EINVAL, NULL},
    {"nothing", DECIMAL, "", 9, 2, -EINVAL, NULL},
    {"a sign alone", DECIMAL, "-", 9, 2, -EINVAL, NULL},
    {"a hexadecimal number", DECIMAL, "0x10", 9, 2, -EINVAL, NULL},
    {"a day", DATE, " 2026-02-28 ", 0, 0, 0, "2026-02-28"},
    {"a leap day", DATE, "2024-02-29", 0, 0, 0, "2024-02-29"},
    {"a leap day of 2000", DATE, "2000-02-29", 0, 0, 0, "2000-02-29"},
    {"none in 1900", DATE, "1900-02-29", 0, 0, -EINVAL, NULL},
    {"a month that there is not", DATE, "2026-13-01", 0, 0, -EINVAL, NULL},
    {"the year 0", DATE, "0000-01-01", 0, 0, -EINVAL, NULL},
    {"one digit of a day", DATE, "2026-1-01", 0, 0, -EINVAL, NULL},
    {"a day and more", DATE, "2026-01-01T00:00", 0, 0, -EINVAL, NULL},
    {"midnight", TIMESTAMP, "2026-01-02", 3, 0, 0, "2026-01-02T00:00:00"},
    {"a space between", TIMESTAMP, "2026-01-02 03:04:05", 3, 0, 0, "2026-01-02T03:04:05"},
    {"no seconds", TIMESTAMP, "2026-01-02T03:04Z", 3, 0, 0, "2026-01-02T03:04:00"},
    {"a fraction is cut, not rounded", TIMESTAMP, "2026-01-02T03:04:05.98765", 3, 0, 0, "2026-01-02T03:04:05.987"},
    {"zeros at its end go", TIMESTAMP, "2026-01-02T03:04:05.500Z", 6, 0, 0, "2026-01-02T03:04:05.5"},
    {"east of UTC, a day earlier", TIMESTAMP, "2026-01-01T01:00:00+02:00", 0, 0, 0, "2025-12-31T23:00:00"},
    {"west of UTC, a day later", TIMESTAMP, "2024-02-28T23:30:00-0100", 0, 0, 0, "2024-02-29T00:30:00"},
    {"out of the calendar", TIMESTAMP, "9999-12-31T23:30:00-01:00", 0, 0, -EINVAL, NULL},
    {"hour 24", TIMESTAMP, "2026-01-01T24:00:00", 0, 0, -EINVAL, NULL},
    {"a zone that there is not", TIMESTAMP, "2026-01-01T00:00:00+15:00", 0, 0, -EINVAL, NULL},
    {"a point and no fraction", TIMESTAMP, "2026-01-01T00:00:00.", 3, 0, -EINVAL, NULL},
    {"something behind", TIMESTAMP, "2026-01-01T00:00:00Z?", 3, 0, -EINVAL, NULL},
};

static void values_become_what_their_column_says(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char into[64] = "";
        struct slice text = slice_of(cases[i].text);
        int rc = cases[i].kind == DECIMAL ? cast_decimal(text, cases[i].precision, cases[i].scale, into, sizeof(into))
                 : cases[i].kind == DATE  ? cast_date(text, into, sizeof(into))
                                          : cast_timestamp(text, cases[i].precision, into, sizeof(into));
        if (rc != cases[i].rc || (rc == 0 && strcmp(into, cases[i].want) != 0)) {
            fail_msg("%s: '%s': got %d '%s', want %d '%s'", cases[i].says, cases[i].text, rc, into, cases[i].rc,
                     cases[i].want != NULL ? cases[i].want : "");
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_become_what_their_column_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
