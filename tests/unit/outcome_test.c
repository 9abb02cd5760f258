// Outcomes: every row has a text of its own that finds it again.
#include "proto/outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void every_outcome_is_found_by_its_text(void **state) {
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        const struct outcome_row *row = outcome_of((enum outcome)i);
        if (outcome_parse(slice_of(row->text)) != i || strlen(row->text) > 32) {
            fail_msg("'%s' is not the text of one outcome, or over the 32 bytes of REPORT.outcome",
                     row->text);
        }
        assert_true(row->sentence[0] != '\0');
        assert_true(row->tries == 0 || row->tries == 1);
    }
}

static void other_texts_are_none(void **state) {
    static const char *const texts[] = {"", "OK", "ok ", "okay", "o"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(outcome_parse(slice_of(texts[i])), -1);
    }
}

// Rows that cost nothing must not use a try: waiting and refusals that no repeat can mend.
static void waiting_uses_no_try(void **state) {
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        const struct outcome_row *row = outcome_of((enum outcome)i);
        bool free_of_charge = row->action == ACTION_WAIT || row->action == ACTION_AGAIN ||
                              row->action == ACTION_STOP || row->action == ACTION_KEEP;
        assert_true(!free_of_charge || row->tries == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_outcome_is_found_by_its_text),
        cmocka_unit_test(other_texts_are_none),
        cmocka_unit_test(waiting_uses_no_try),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
