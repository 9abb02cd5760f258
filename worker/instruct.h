// instruct: what a prompt says beside the model's templates and the records.
#ifndef HEADRACE_WORKER_INSTRUCT_H
#define HEADRACE_WORKER_INSTRUCT_H

#include "common/bytes.h"
#include "common/model.h"

// instruct_labels appends a model's labels with commas between; nothing when it has none.
MUST_CHECK int instruct_labels(const struct model *model, struct buf *out);

// instruct_batch appends the prompt of a batch whose model has none of its own: it asks for
// response.format with each record's number. Nothing more than "Return only " for formats that want a
// template. Returns 0 or -EMSGSIZE.
MUST_CHECK int instruct_batch(const struct model *model, struct buf *out);

// instruct_correct appends to a call's user message why earlier answers for some of its records did
// not fit, a line each.
//   numbered     the records have numbers in the prompt, which the lines then name
//   corrections  as DISPATCH.corrections; those for other slots are skipped
//   slots        of the records, in prompt order
// Returns 0, -EPROTO or -EMSGSIZE; then user is cut off anywhere.
MUST_CHECK int instruct_correct(bool numbered, struct slice corrections, const uint64_t *slots,
                                size_t count, struct buf *user);

#endif
