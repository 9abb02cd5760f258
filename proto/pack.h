// pack: msgpack written into a buf and read by a cursor, without allocation. Reading checks every
// length against the bytes that are there, so it is safe on any input; frame_scan (proto/frame.h)
// says in one sentence what is wrong with a stranger's bytes before anything is taken from them.
// Source: https://github.com/msgpack/msgpack/blob/master/spec.md
#ifndef HEADRACE_PROTO_PACK_H
#define HEADRACE_PROTO_PACK_H

#include "common/bytes.h"

enum pack_type {
    PACK_NIL,
    PACK_BOOL,
    PACK_UINT, // an integer >= 0, however it was written
    PACK_INT,  // an integer < 0
    PACK_REAL,
    PACK_STR,
    PACK_BIN,
    PACK_ARRAY,
    PACK_MAP,
    PACK_EXT,
};

struct pack_value {
    enum pack_type type;
    bool single; // PACK_REAL that stood as 32 bits
    union {
        bool truth;
        uint64_t u;
        int64_t i;
        double real;
        struct slice bytes; // PACK_STR, PACK_BIN, PACK_EXT; borrowed
        uint32_t count;     // PACK_ARRAY: items; PACK_MAP: pairs; they follow
    };
};

// pack_next reads one value, or the head of an array or map, from *rest and moves it on.
// Returns 1; 0 when *rest is empty; -EPROTO for a value that is cut short or of no type.
MUST_CHECK int pack_next(struct slice *rest, struct pack_value *value);
// pack_whole reads one value with all that is in it, as bytes. Returns as pack_next does; nesting is
// not bounded, since it takes no stack.
MUST_CHECK int pack_whole(struct slice *rest, struct slice *value);
// pack_str_next reads one str. 0, or -EPROTO when the next value is none.
MUST_CHECK int pack_str_next(struct slice *rest, struct slice *str);
// pack_uint_next reads one integer >= 0. 0, or -EPROTO when the next value is none.
MUST_CHECK int pack_uint_next(struct slice *rest, uint64_t *u);
// pack_array_next reads the head of an array, pack_map_next that of a map. 0 or -EPROTO.
MUST_CHECK int pack_array_next(struct slice *rest, uint32_t *count);
MUST_CHECK int pack_map_next(struct slice *rest, uint32_t *count);
// pack_describe names what a value is, for a sentence: "a map", "null", "a negative integer".
const char *pack_describe(const struct pack_value *value);

// Writing appends the shortest form. All return 0 or -EMSGSIZE.
MUST_CHECK int pack_nil(struct buf *out);
MUST_CHECK int pack_bool(struct buf *out, bool truth);
MUST_CHECK int pack_uint(struct buf *out, uint64_t u);
MUST_CHECK int pack_int(struct buf *out, int64_t i);
MUST_CHECK int pack_real(struct buf *out, double real);
MUST_CHECK int pack_single(struct buf *out, float real); // in 32 bits
MUST_CHECK int pack_str(struct buf *out, struct slice s);
// pack_text writes a sentence for people so that every reader takes it: cut at a character's border to
// most bytes, and each byte that is not UTF-8 becomes '?'.
MUST_CHECK int pack_text(struct buf *out, struct slice text, size_t most);
MUST_CHECK int pack_bin(struct buf *out, struct slice s);
MUST_CHECK int pack_array(struct buf *out, uint32_t count);
MUST_CHECK int pack_map(struct buf *out, uint32_t count);

#endif
