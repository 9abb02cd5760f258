// json: json-c, strict and with limits, and escaped writing.
#ifndef HEADRACE_COMMON_JSON_H
#define HEADRACE_COMMON_JSON_H

#include "common/bytes.h"
#include "common/error.h"

#include <json-c/json.h>

#define JSON_MAX_DEPTH 64 // json-c crashes at 10^6 levels; nobody means more than this

// json_parse reads exactly one RFC 8259 value (white space around it is fine). Refuses what json-c
// lets through: NaN and Infinity, integers outside int64/uint64, bad UTF-8, comments, single quotes,
// trailing commas, more than JSON_MAX_DEPTH levels. A byte order mark at the start is skipped.
// Returns 0 with *value (free with json_object_put; NULL stands for JSON null), or -EINVAL with why
// ("offset 17: ..., got 'x', want ...").
MUST_CHECK int json_parse(struct slice text, struct json_object **value, struct error *why);

// json_parse_first reads the first value of text and says in *used how many bytes it took, white
// space before it included. -ENODATA: nothing but white space. -EINVAL with why: not a value.
MUST_CHECK int json_parse_first(struct slice text, struct json_object **value, size_t *used,
                                struct error *why);

// json_add_string appends s as a JSON string with its quotes. s must be UTF-8. U+2028/2029 and all
// control characters are escaped; '/' is not. Returns 0 or -EMSGSIZE.
MUST_CHECK int json_add_string(struct buf *b, struct slice s);

// json_add_double appends the shortest text that reads back as the same double; NaN and infinities
// become null. Returns 0 or -EMSGSIZE.
MUST_CHECK int json_add_double(struct buf *b, double value);

// json_add appends value compactly, strings escaped as json_add_string does, doubles with the text
// they had. Returns 0 or -EMSGSIZE.
MUST_CHECK int json_add(struct buf *b, struct json_object *value);

// json_text borrows a string object's bytes, valid while the object lives; empty for other types.
struct slice json_text(struct json_object *value);
// json_get finds a member of an object: NULL when value is not an object or has no such member, and
// also when the member is JSON null.
struct json_object *json_get(struct json_object *value, const char *name);

#endif
