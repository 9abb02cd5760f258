// completion: the answer to a request, in the shape of its API.
#ifndef HEADRACE_TESTS_PROVIDER_COMPLETION_H
#define HEADRACE_TESTS_PROVIDER_COMPLETION_H

#include "tests/provider/chat.h"
#include "tests/provider/ledger.h"

#define ITEM_SALT 2 // of fault_random: which item is spoiled, and the request's id

// completion_write writes the body of an answer, spoiled as job->fault says and cut to the request's max
// tokens. Fills in job's finish and output tokens, and which slots of the chat have a right item.
// Returns 0 or -EMSGSIZE.
MUST_CHECK int completion_write(const struct api *api, struct job *job, struct chat *chat, uint64_t seed,
                                struct buf *body);

#endif
