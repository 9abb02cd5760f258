// outcome: what becomes of a call or a record; made from outcome.def.
#ifndef HEADRACE_PROTO_OUTCOME_H
#define HEADRACE_PROTO_OUTCOME_H

#include "common/bytes.h"

enum outcome {
#define OUTCOME(name, text, action, tries, sentence) OUTCOME_##name,
#include "proto/outcome.def"
#undef OUTCOME
    OUTCOME_COUNT
};

enum outcome_action {
    ACTION_KEEP,
    ACTION_REASK,
    ACTION_FALLBACK,
    ACTION_SPLIT,
    ACTION_ISOLATE,
    ACTION_RETRY,
    ACTION_LOST,
    ACTION_WAIT,
    ACTION_AGAIN,
    ACTION_FAIL,
    ACTION_STOP,
};

struct outcome_row {
    const char *text;     // as it stands on the wire, in results, logs and metrics
    const char *sentence; // for a human
    enum outcome_action action;
    int tries;            // 1 if it uses one of max.retries
};

// outcome_of returns the row; o must be a valid outcome.
const struct outcome_row *outcome_of(enum outcome o);
// outcome_parse finds an outcome by its text, or returns -1.
int outcome_parse(struct slice text);

#endif
