// schema: the JSON Schema of a model's answer, made from its OUTPUT columns, within what every
// provider's strict mode takes: all fields required, none beside them.
#ifndef HEADRACE_WORKER_SCHEMA_H
#define HEADRACE_WORKER_SCHEMA_H

#include "common/bytes.h"
#include "common/model.h"

// schema_add_item appends the schema of one item: an object with the index, when numbered, and each
// column. MAP is a string that holds JSON, since strict modes know no other; DATE and the TIMESTAMPs
// are strings with a format; a classification's value is one of its labels.
// Returns 0 or -EMSGSIZE.
MUST_CHECK int schema_add_item(const struct model *model, bool numbered, struct buf *out);

// schema_add_list appends the schema of an object whose only member "items" is an array of item.
MUST_CHECK int schema_add_list(struct slice item, struct buf *out);

#endif
