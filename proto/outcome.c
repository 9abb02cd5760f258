// What becomes of a call or a record, as a table; made from outcome.def.
#include "proto/outcome.h"

#include <assert.h>

static const struct outcome_row rows[] = {
#define OUTCOME(name, text_, action_, tries_, sentence_) \
    [OUTCOME_##name] = {.text = text_, .sentence = sentence_, .action = ACTION_##action_, .tries = tries_},
#include "proto/outcome.def"
#undef OUTCOME
};

const struct outcome_row *outcome_of(enum outcome o) {
    assert((unsigned)o < OUTCOME_COUNT);
    return &rows[o];
}

int outcome_parse(struct slice text) {
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (slice_is(text, rows[i].text)) {
            return i;
        }
    }
    return -1;
}
