// msgpack by hand: a cursor that borrows and a writer that appends. Invariant: a read never looks
// past rest->n, and on failure *rest is as it was. Called by everything in proto and by whoever
// keeps msgpack of its own.
#include "proto/pack.h"

#include <errno.h>
#include <string.h>

// ---- Reading ------------------------------------------------------------------------------------

static uint64_t big_endian(const unsigned char *p, size_t n) {
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

// What the bytes 0xc0 to 0xdf say: type, bytes of the number that follows, and bytes that a length
// has to be enlarged by (the type byte of an ext).
static const struct lead {
    signed char type; // enum pack_type, or -1: no type
    unsigned char width;
    unsigned char more;
} leads[] = {
    [0x00] = {PACK_NIL, 0, 0},   [0x01] = {-1, 0, 0},         [0x02] = {PACK_BOOL, 0, 0},
    [0x03] = {PACK_BOOL, 0, 0},  [0x04] = {PACK_BIN, 1, 0},   [0x05] = {PACK_BIN, 2, 0},
    [0x06] = {PACK_BIN, 4, 0},   [0x07] = {PACK_EXT, 1, 1},   [0x08] = {PACK_EXT, 2, 1},
    [0x09] = {PACK_EXT, 4, 1},   [0x0a] = {PACK_REAL, 4, 0},  [0x0b] = {PACK_REAL, 8, 0},
    [0x0c] = {PACK_UINT, 1, 0},  [0x0d] = {PACK_UINT, 2, 0},  [0x0e] = {PACK_UINT, 4, 0},
    [0x0f] = {PACK_UINT, 8, 0},  [0x10] = {PACK_INT, 1, 0},   [0x11] = {PACK_INT, 2, 0},
    [0x12] = {PACK_INT, 4, 0},   [0x13] = {PACK_INT, 8, 0},   [0x14] = {PACK_EXT, 0, 2},
    [0x15] = {PACK_EXT, 0, 3},   [0x16] = {PACK_EXT, 0, 5},   [0x17] = {PACK_EXT, 0, 9},
    [0x18] = {PACK_EXT, 0, 17},  [0x19] = {PACK_STR, 1, 0},   [0x1a] = {PACK_STR, 2, 0},
    [0x1b] = {PACK_STR, 4, 0},   [0x1c] = {PACK_ARRAY, 2, 0}, [0x1d] = {PACK_ARRAY, 4, 0},
    [0x1e] = {PACK_MAP, 2, 0},   [0x1f] = {PACK_MAP, 4, 0},
};

static void set_int(struct pack_value *value, int64_t i) {
    if (i >= 0) {
        value->type = PACK_UINT;
        value->u = (uint64_t)i;
    } else {
        value->type = PACK_INT;
        value->i = i;
    }
}

static void set_real(struct pack_value *value, uint64_t bits, size_t width) {
    value->type = PACK_REAL;
    value->single = width == 4;
    if (value->single) {
        uint32_t half = (uint32_t)bits;
        float f;
        memcpy(&f, &half, sizeof(f));
        value->real = (double)f;
    } else {
        memcpy(&value->real, &bits, sizeof(bits));
    }
}

static int set_bytes(struct slice *rest, struct pack_value *value, enum pack_type type, size_t head,
                     uint64_t n) {
    if (n > rest->n - head) {
        return -EPROTO;
    }
    value->type = type;
    value->bytes = (struct slice){rest->p + head, (size_t)n};
    rest->p += head + n;
    rest->n -= head + n;
    return 1;
}

static int next_lead(struct slice *rest, struct pack_value *value, unsigned char first) {
    struct lead lead = leads[first - 0xc0];
    size_t head = 1u + lead.width;
    if (lead.type < 0 || rest->n < head) {
        return -EPROTO;
    }
    uint64_t number = big_endian((const unsigned char *)rest->p + 1, lead.width);
    switch ((enum pack_type)lead.type) {
    case PACK_STR:
    case PACK_BIN:
    case PACK_EXT:
        return set_bytes(rest, value, (enum pack_type)lead.type, head, number + lead.more);
    case PACK_NIL:
        value->type = PACK_NIL;
        break;
    case PACK_BOOL:
        value->type = PACK_BOOL;
        value->truth = first == 0xc3;
        break;
    case PACK_UINT:
        value->type = PACK_UINT;
        value->u = number;
        break;
    case PACK_INT: {
        unsigned shift = 64 - 8u * lead.width; // the sign is the top bit of the width that was sent
        set_int(value, (int64_t)(number << shift) >> shift);
        break;
    }
    case PACK_REAL:
        set_real(value, number, lead.width);
        break;
    case PACK_ARRAY:
    case PACK_MAP:
        value->type = (enum pack_type)lead.type;
        value->count = (uint32_t)number;
        break;
    }
    rest->p += head;
    rest->n -= head;
    return 1;
}

int pack_next(struct slice *rest, struct pack_value *value) {
    if (rest->n == 0) {
        return 0;
    }
    unsigned char first = (unsigned char)rest->p[0];
    value->single = false;
    if (first >= 0xa0 && first < 0xc0) {
        return set_bytes(rest, value, PACK_STR, 1, first & 0x1f);
    }
    if (first >= 0xc0 && first < 0xe0) {
        return next_lead(rest, value, first);
    }
    if (first < 0x80 || first >= 0xe0) {
        set_int(value, (signed char)first);
    } else {
        value->type = first < 0x90 ? PACK_MAP : PACK_ARRAY;
        value->count = first & 0x0f;
    }
    rest->p++;
    rest->n--;
    return 1;
}

int pack_whole(struct slice *rest, struct slice *value) {
    if (rest->n == 0) {
        return 0;
    }
    struct slice at = *rest;
    // Values still to come. Each takes a byte at least, so more than at.n is a lie.
    for (uint64_t n_left = 1; n_left > 0; n_left--) {
        struct pack_value v = {0};
        if (n_left > at.n || pack_next(&at, &v) != 1) {
            return -EPROTO;
        }
        n_left += v.type == PACK_ARRAY ? v.count : v.type == PACK_MAP ? 2 * (uint64_t)v.count : 0;
    }
    *value = (struct slice){rest->p, rest->n - at.n};
    *rest = at;
    return 1;
}

// next_of reads a value of one type.
static int next_of(struct slice *rest, enum pack_type type, struct pack_value *value) {
    struct slice at = *rest;
    if (pack_next(&at, value) != 1 || value->type != type) {
        return -EPROTO;
    }
    *rest = at;
    return 0;
}

int pack_str_next(struct slice *rest, struct slice *str) {
    struct pack_value v = {0};
    int rc = next_of(rest, PACK_STR, &v);
    if (rc == 0) {
        *str = v.bytes;
    }
    return rc;
}

int pack_uint_next(struct slice *rest, uint64_t *u) {
    struct pack_value v = {0};
    int rc = next_of(rest, PACK_UINT, &v);
    if (rc == 0) {
        *u = v.u;
    }
    return rc;
}

int pack_array_next(struct slice *rest, uint32_t *count) {
    struct pack_value v = {0};
    int rc = next_of(rest, PACK_ARRAY, &v);
    if (rc == 0) {
        *count = v.count;
    }
    return rc;
}

int pack_map_next(struct slice *rest, uint32_t *count) {
    struct pack_value v = {0};
    int rc = next_of(rest, PACK_MAP, &v);
    if (rc == 0) {
        *count = v.count;
    }
    return rc;
}

const char *pack_describe(const struct pack_value *value) {
    static const char *const names[] = {
        [PACK_NIL] = "null",           [PACK_BOOL] = "a boolean", [PACK_UINT] = "an integer",
        [PACK_INT] = "a negative integer", [PACK_REAL] = "a floating-point number",
        [PACK_STR] = "a string",       [PACK_BIN] = "binary data", [PACK_ARRAY] = "an array",
        [PACK_MAP] = "a map",          [PACK_EXT] = "an ext type",
    };
    return names[value->type];
}

// ---- Writing ------------------------------------------------------------------------------------

// put appends a first byte and a big-endian number of width bytes.
static int put(struct buf *out, unsigned char first, uint64_t number, size_t width) {
    char bytes[9] = {(char)first};
    for (size_t i = 0; i < width; i++) {
        bytes[1 + i] = (char)(number >> 8 * (width - 1 - i));
    }
    return buf_add(out, bytes, 1 + width);
}

int pack_nil(struct buf *out) {
    return buf_add_byte(out, (char)0xc0);
}

int pack_bool(struct buf *out, bool truth) {
    return buf_add_byte(out, (char)(truth ? 0xc3 : 0xc2));
}

int pack_uint(struct buf *out, uint64_t u) {
    if (u < 0x80) {
        return buf_add_byte(out, (char)u);
    }
    return u <= UINT8_MAX    ? put(out, 0xcc, u, 1)
           : u <= UINT16_MAX ? put(out, 0xcd, u, 2)
           : u <= UINT32_MAX ? put(out, 0xce, u, 4)
                             : put(out, 0xcf, u, 8);
}

int pack_int(struct buf *out, int64_t i) {
    if (i >= 0) {
        return pack_uint(out, (uint64_t)i);
    }
    if (i >= -32) {
        return buf_add_byte(out, (char)i);
    }
    return i >= INT8_MIN    ? put(out, 0xd0, (uint64_t)i, 1)
           : i >= INT16_MIN ? put(out, 0xd1, (uint64_t)i, 2)
           : i >= INT32_MIN ? put(out, 0xd2, (uint64_t)i, 4)
                            : put(out, 0xd3, (uint64_t)i, 8);
}

int pack_single(struct buf *out, float real) {
    uint32_t bits;
    memcpy(&bits, &real, sizeof(bits));
    return put(out, 0xca, bits, 4);
}

int pack_real(struct buf *out, double real) {
    uint64_t bits;
    memcpy(&bits, &real, sizeof(bits));
    return put(out, 0xcb, bits, 8);
}

// put_bytes appends a head and the bytes, both or neither.
static int put_bytes(struct buf *out, unsigned char first, size_t width, struct slice s) {
    size_t start = out->n;
    int rc = s.n > UINT32_MAX ? -EMSGSIZE : put(out, first, s.n, width);
    rc = rc == 0 ? buf_add_slice(out, s) : rc;
    if (rc != 0) {
        out->n = start;
    }
    return rc;
}

int pack_str(struct buf *out, struct slice s) {
    return s.n < 32            ? put_bytes(out, (unsigned char)(0xa0 | s.n), 0, s)
           : s.n <= UINT8_MAX  ? put_bytes(out, 0xd9, 1, s)
           : s.n <= UINT16_MAX ? put_bytes(out, 0xda, 2, s)
                               : put_bytes(out, 0xdb, 4, s);
}

int pack_text(struct buf *out, struct slice text, size_t most) {
    if (text.n > most) {
        text.n = most;
        while (text.n > 0 && ((unsigned char)text.p[text.n] & 0xC0) == 0x80) {
            text.n--;
        }
    }
    int rc = pack_str(out, text);
    if (rc != 0) {
        return rc;
    }
    char *p = out->p + out->n - text.n;
    for (long bad; (bad = slice_utf8_error((struct slice){p, text.n})) >= 0;) {
        p[bad] = '?';
        p += bad + 1;
        text.n -= (size_t)bad + 1;
    }
    return 0;
}

int pack_bin(struct buf *out, struct slice s) {
    return s.n <= UINT8_MAX    ? put_bytes(out, 0xc4, 1, s)
           : s.n <= UINT16_MAX ? put_bytes(out, 0xc5, 2, s)
                               : put_bytes(out, 0xc6, 4, s);
}

int pack_array(struct buf *out, uint32_t count) {
    return count < 16            ? buf_add_byte(out, (char)(0x90 | count))
           : count <= UINT16_MAX ? put(out, 0xdc, count, 2)
                                 : put(out, 0xdd, count, 4);
}

int pack_map(struct buf *out, uint32_t count) {
    return count < 16            ? buf_add_byte(out, (char)(0x80 | count))
           : count <= UINT16_MAX ? put(out, 0xde, count, 2)
                                 : put(out, 0xdf, count, 4);
}
