// tokenizer: counts tokens exactly as byte-pair encoding with a rank file does. A rank file has a line a
// token, "BASE64 RANK", as OpenAI publishes them (cl100k_base.tiktoken, o200k_base.tiktoken).
#ifndef HEADRACE_COMMON_TOKENIZER_H
#define HEADRACE_COMMON_TOKENIZER_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdint.h>

struct tokenizer;

#define TOKENIZER_FILE_MAX (64 * 1024 * 1024)

// tokenizer_load reads a rank file. Its size says how text is split before: more than 150,000 ranks as
// o200k does, fewer as cl100k. Returns NULL with why: file, line, what it got, what it wanted.
struct tokenizer *tokenizer_load(const char *path, struct error *why);
// tokenizer_read does the same with the text of such a file.
struct tokenizer *tokenizer_read(struct slice text, const char *name, struct error *why);
void tokenizer_free(struct tokenizer *tokenizer);

// tokenizer_count says how many tokens a UTF-8 text is. Bytes that are no UTF-8 count as the pieces
// between them. A run without a break of more than 4096 bytes is cut there, so its count may be a little
// high. Time grows with the text's length.
uint64_t tokenizer_count(const struct tokenizer *tokenizer, struct slice text);

#endif
