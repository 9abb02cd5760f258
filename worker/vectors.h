// vectors: what providers answer to task embedding: for each record a list of numbers.
#ifndef HEADRACE_WORKER_VECTORS_H
#define HEADRACE_WORKER_VECTORS_H

#include "worker/parse.h"
#include "worker/provider.h"

// vectors_begin makes room for the vectors of a call.
void vectors_begin(struct answer *answer, size_t count);
// vectors_add keeps the vector of one record.
//   i      place of the record in the prompt, from 0; below the count of vectors_begin
//   value  an array of numbers, or base64 of 32-bit floats, little-endian
// Returns 0, or -EINVAL: neither of the two, a number that is not finite, or there was one already; then
// the record has none.
MUST_CHECK int vectors_add(struct answer *answer, size_t i, struct json_object *value);

// vectors_pack makes the items of a call from an answer's vectors, as parse_answer does from a text: a
// record without a vector is missing, one whose vector has another length than option 'dimensions' is
// BAD_VALUE. With none at all the outcome is UNREADABLE.
void vectors_pack(const struct question *question, const struct answer *answer, struct parsed *out);

#endif
