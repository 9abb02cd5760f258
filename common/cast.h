// cast: what a model answered becomes the value of an OUTPUT column, or a sentence that says why not.
// The rules are those of docs/models.md, "Casting".
#ifndef HEADRACE_COMMON_CAST_H
#define HEADRACE_COMMON_CAST_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"

#include <json-c/json.h>

// cast_answer casts a value to the type of an OUTPUT column and appends it as msgpack: DECIMAL, DATE
// and TIMESTAMP as str, BYTES as bin, ROW and MAP as maps.
//   json  NULL stands for JSON null
// Returns 0; -EINVAL with why ("column 'score': got a string, want INT", never the text itself);
// -EMSGSIZE. Then out is cut off anywhere.
MUST_CHECK int cast_answer(const struct column *column, struct json_object *json, struct buf *out,
                           struct error *why);

// cast_label takes one of the model's labels, whatever its case, and appends it as the model spells it.
// As cast_answer.
MUST_CHECK int cast_label(const struct model *model, struct json_object *json, struct buf *out,
                          struct error *why);

// cast_decimal writes a number in text with exactly scale digits behind the point, rounded half up.
// Returns 0; -EINVAL for what is no number; -ERANGE for one of more than precision digits.
MUST_CHECK int cast_decimal(struct slice text, int precision, int scale, char *into, size_t size);

// cast_date checks YYYY-MM-DD of the years 1 to 9999 and writes it. Returns 0 or -EINVAL.
MUST_CHECK int cast_date(struct slice text, char *into, size_t size);

// cast_timestamp reads YYYY-MM-DD, or that with T or a space and HH:MM[:SS[.fraction]], and perhaps Z
// or +HH:MM, and writes it in UTC as YYYY-MM-DDTHH:MM:SS[.fraction] with at most precision digits,
// zeros at the end left out. Returns 0 or -EINVAL.
MUST_CHECK int cast_timestamp(struct slice text, int precision, char *into, size_t size);

#endif
