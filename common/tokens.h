// tokens: how many tokens a text is. The one place to ask, for whoever needs to know before a call.
#ifndef HEADRACE_COMMON_TOKENS_H
#define HEADRACE_COMMON_TOKENS_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/tokenizer.h"

#include <stdint.h>

#define TOKENS_A_MESSAGE 4 // what a chat message costs besides its text
#define TOKENS_BYTES 4     // of a token, in English text

// tokens_count says how many tokens a text is; without a tokenizer about how many: one for each
// TOKENS_BYTES bytes, rounded up.
uint64_t tokens_count(const struct tokenizer *tokenizer, struct slice text);

// tokens_tokenizer returns the tokenizer of a rank file, which is read once and kept for the life of the
// process; NULL with why when it cannot be read, and NULL without when path is "".
const struct tokenizer *tokens_tokenizer(const char *path, struct error *why);

#endif
