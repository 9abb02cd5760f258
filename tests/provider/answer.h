// answer: what the simulated model says to a chat, right or with a fault.
#ifndef HEADRACE_TESTS_PROVIDER_ANSWER_H
#define HEADRACE_TESTS_PROVIDER_ANSWER_H

#include "tests/provider/chat.h"
#include "tests/provider/fault.h"

// answer_write appends the message's content in the form that the chat asks for. draw picks the item
// that a fault strikes. Each slot's item_end says where its right item ends in out, 0 if it has
// none there. Values: a field with choices positive/negative gets the sentiment of the text (the
// first choice when neutral is none of them); other choices are picked by the text's hash; text
// without choices is "h:" and the hash; numbers and truths come from the hash. Returns 0 or
// -EMSGSIZE.
MUST_CHECK int answer_write(struct chat *chat, enum fault fault, uint64_t draw, struct buf *out);
// answer_hash is the stable hash of a record's text, also in the ledger: XXH3, 64 bits.
uint64_t answer_hash(struct slice text);

#endif
