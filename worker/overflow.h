// overflow: prompts that are longer than the model's context (context.size, context.overflow).
#ifndef HEADRACE_WORKER_OVERFLOW_H
#define HEADRACE_WORKER_OVERFLOW_H

#include "common/model.h"

// overflow_room is how many bytes of prompt a model's context has room for: what context.size leaves of
// max.tokens, at TOKENS_BYTES a token, or less if a refusal told so. INT64_MAX: not known.
//   learned  in bytes, of refusals; 0: none came
int64_t overflow_room(const struct model *model, int64_t learned);

// overflow_learn reads what a provider said when it refused a prompt as too long: "maximum context length is
// 8192 tokens, however you requested 10234 tokens". Returns the bytes that there is room for, always less than
// n_prompt.
int64_t overflow_learn(const struct model *model, struct slice sentence, size_t n_prompt);

// overflow_cut writes a record again with its largest STRING value shorter by at least n_bytes as they stand in
// a prompt, whole characters at its tail or head (context.overflow). Nothing else of it changes.
//   record  as DISPATCH carries it
//   cut     how many bytes of the value are gone
//   column  which it is
// Returns 0; -ENODATA: it has no such value with anything in it; -EPROTO; -EMSGSIZE.
MUST_CHECK int overflow_cut(const struct model *model, struct slice record, size_t n_bytes, struct buf *out,
                            size_t *cut, const char **column);

#endif
