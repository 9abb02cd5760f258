// value: one column's value as it is read from a record's msgpack.
#ifndef HEADRACE_WORKER_VALUE_H
#define HEADRACE_WORKER_VALUE_H

#include "common/bytes.h"

enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_INT, VALUE_DOUBLE, VALUE_STRING, VALUE_ARRAY,
                  VALUE_BYTES };

struct value {
    enum value_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        struct slice text; // borrowed from the msgpack; ARRAY: all of it as it stands there
    };
};

// value_array reads the head of a msgpack array at *rest and moves on. Returns its count, or -EPROTO.
MUST_CHECK long value_array(struct slice *rest);
// value_next reads one value at *rest and moves on. Returns 0, or -EPROTO for anything that is not
// nil, bool, an integer of 64 bits, a float, a str, a bin or a whole array.
MUST_CHECK int value_next(struct slice *rest, struct value *value);

// value_next_u64 reads a whole number of 0..2^64-1 at *rest and moves on. Returns 0 or -EPROTO.
MUST_CHECK int value_next_u64(struct slice *rest, uint64_t *number);

// value_add_json appends it as JSON, value_add_text as plain text (null: nothing; an array: as JSON;
// bytes: in base64). 0, -EMSGSIZE, or -EPROTO for an array that cannot be read.
MUST_CHECK int value_add_json(const struct value *value, struct buf *out);
MUST_CHECK int value_add_text(const struct value *value, struct buf *out);

// value_pack_array begins a msgpack array of n values. Returns 0 or -EMSGSIZE.
MUST_CHECK int value_pack_array(struct buf *out, size_t n);
#endif
