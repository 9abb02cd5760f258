// sentiment: the simulator's own opinion of a text, a pure function of it: a word list with
// negation.
#ifndef HEADRACE_TESTS_PROVIDER_SENTIMENT_H
#define HEADRACE_TESTS_PROVIDER_SENTIMENT_H

#include "common/bytes.h"

// sentiment_of returns 1 for positive, -1 for negative, 0 for neutral. Any bytes are fine.
int sentiment_of(struct slice text);
// sentiment_name is "positive", "negative" or "neutral".
const char *sentiment_name(int sentiment);

#endif
