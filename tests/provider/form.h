// form: the shapes of an answer: JSON, and those that a prompt shows: elements, lines with a header, a list.
#ifndef HEADRACE_TESTS_PROVIDER_FORM_H
#define HEADRACE_TESTS_PROVIDER_FORM_H

#include "tests/provider/chat.h"

// form_read looks in the words around the records for an example of another form than JSON, and learns the
// form, the index field and the fields from it:
//   <item INDEX="..."><FIELD>...</FIELD></item>      elements in <items>
//   fields with 'D' between them under this header:  and in the next line INDEX, D, FIELD, D, ...
//   <number>: <FIELD>                                a line for each record
// Returns whether there is one.
bool form_read(struct chat *chat, struct slice words);

// What stands before and behind all items, and in a code fence's first line.
MUST_CHECK int form_begin(const struct chat *chat, struct buf *out);
MUST_CHECK int form_end(const struct chat *chat, struct buf *out);
const char *form_name(const struct chat *chat);

// form_item appends one item of a form other than JSON.
//   values  a text for each of the chat's fields; NULL: the item has none
MUST_CHECK int form_item(const struct chat *chat, int64_t index, const struct slice *values, struct buf *out);

#endif
