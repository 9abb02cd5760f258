// tokens: how many tokens a text is. The one place to ask, for whoever needs to know before a call.
#ifndef HEADRACE_COMMON_TOKENS_H
#define HEADRACE_COMMON_TOKENS_H

#include "common/bytes.h"

#include <stdint.h>

#define TOKENS_A_MESSAGE 4 // what a chat message costs besides its text
#define TOKENS_BYTES 4     // of a token, in English text

// tokens_estimate says about how many tokens a text is: one for each TOKENS_BYTES bytes, rounded up.
uint64_t tokens_estimate(struct slice text);

#endif
