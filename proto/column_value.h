// column_value: what one INPUT column takes of a row's field: cast to the column's type, or refused.
#ifndef HEADRACE_PROTO_COLUMN_VALUE_H
#define HEADRACE_PROTO_COLUMN_VALUE_H

#include "common/bytes.h"
#include "common/error.h"
#include "proto/pack.h"

struct column;
struct model;

// column_value_add appends a column's value as msgpack.
//   field  one whole msgpack value; empty: the row has no such column
// A number in a string is taken for a number column; 1/0/"true"/"false" for BOOLEAN; a number or boolean
// for STRING becomes its text; an ARRAY's elements are cast one by one, also of JSON in a string. Where columns are tensors an
// array may hold no null, and arrays in arrays must be of one length.
// An IMAGE becomes bin, its bytes, or str, an http(s) URL: from bin, base64, a data: URL or such a URL;
// what the model's provider would refuse is refused. A path is never opened.
// Returns 0; -EINVAL with why ("column 'a', element 2: got null, want INT NOT NULL"); -EMSGSIZE. Then out
// holds a part of it.
MUST_CHECK int column_value_add(const struct model *model, const struct column *column, struct slice field,
                                struct buf *out, struct error *why);

// column_value_text appends a number or boolean as text. Returns 0, -EINVAL for anything else and for
// what is not finite, or -EMSGSIZE.
MUST_CHECK int column_value_text(const struct pack_value *value, struct buf *text);

#endif
