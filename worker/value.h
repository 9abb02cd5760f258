// value: one column's value: read from a record's msgpack, and made from a model's answer.
#ifndef HEADRACE_WORKER_VALUE_H
#define HEADRACE_WORKER_VALUE_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"

#include <json-c/json.h>

enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_INT, VALUE_DOUBLE, VALUE_STRING };

struct value {
    enum value_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        struct slice text; // borrowed from the msgpack
    };
};

// value_array reads the head of a msgpack array at *rest and moves on. Returns its count, or -EPROTO.
MUST_CHECK long value_array(struct slice *rest);
// value_next reads one scalar at *rest and moves on. Returns 0, or -EPROTO for anything that is not
// nil, bool, an integer of 64 bits, a float or a str.
MUST_CHECK int value_next(struct slice *rest, struct value *value);

// value_next_u64 reads a whole number of 0..2^64-1 at *rest and moves on. Returns 0 or -EPROTO.
MUST_CHECK int value_next_u64(struct slice *rest, uint64_t *number);

// value_add_json appends it as JSON, value_add_text as plain text (null: nothing). 0 or -EMSGSIZE.
MUST_CHECK int value_add_json(const struct value *value, struct buf *out);
MUST_CHECK int value_add_text(const struct value *value, struct buf *out);

// value_pack_array begins a msgpack array of n values. Returns 0 or -EMSGSIZE.
MUST_CHECK int value_pack_array(struct buf *out, size_t n);
// value_pack_answer casts what a model answered to the type of an OUTPUT column and appends it as
// msgpack. A number in a string is taken for a number column; "true"/"false"/1/0 for BOOLEAN; a
// number or boolean for STRING becomes its text.
//   json  NULL stands for JSON null
// Returns 0; -EINVAL with why ("column 'score': got a string, want INT"); -EMSGSIZE.
MUST_CHECK int value_pack_answer(const struct column *column, struct json_object *json,
                                 struct buf *out, struct error *why);

#endif
