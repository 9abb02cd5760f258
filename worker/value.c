// Values between msgpack, JSON and the types of columns. Reads without allocating; every byte that
// is read was checked to be there. Called by prompt and parse.
#include "worker/value.h"

#include "common/base64.h"
#include "common/json.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>
#include <inttypes.h>
#include <msgpack.h>
#include <string.h>

// take cuts n bytes off the front of *rest, or returns NULL.
static const char *take(struct slice *rest, size_t n) {
    if (rest->n < n) {
        return NULL;
    }
    const char *p = rest->p;
    rest->p += n;
    rest->n -= n;
    return p;
}

// take_uint reads a big-endian number of 1, 2, 4 or 8 bytes.
static int take_uint(struct slice *rest, size_t n, uint64_t *value) {
    const char *p = take(rest, n);
    if (p == NULL) {
        return -EPROTO;
    }
    *value = 0;
    for (size_t i = 0; i < n; i++) {
        *value = *value << 8 | (unsigned char)p[i];
    }
    return 0;
}

long value_array(struct slice *rest) {
    const char *p = take(rest, 1);
    if (p == NULL) {
        return -EPROTO;
    }
    unsigned char head = (unsigned char)*p;
    uint64_t n = head & 0x0f;
    if ((head & 0xf0) == 0x90) {
        return (long)n;
    }
    if (head != 0xdc && head != 0xdd) {
        return -EPROTO;
    }
    if (take_uint(rest, head == 0xdc ? 2 : 4, &n) != 0 || n > rest->n) {
        return -EPROTO;
    }
    return (long)n;
}

static int take_string(struct slice *rest, uint64_t n, struct value *value) {
    const char *p = n <= rest->n ? take(rest, (size_t)n) : NULL;
    if (p == NULL) {
        return -EPROTO;
    }
    value->kind = VALUE_STRING;
    value->text = (struct slice){.p = p, .n = (size_t)n};
    return 0;
}

static int take_bytes(struct slice *rest, uint64_t n, struct value *value) {
    int rc = take_string(rest, n, value);
    value->kind = VALUE_BYTES;
    return rc;
}

static int take_float(struct slice *rest, bool wide, struct value *value) {
    uint64_t bits;
    if (take_uint(rest, wide ? 8 : 4, &bits) != 0) {
        return -EPROTO;
    }
    value->kind = VALUE_DOUBLE;
    if (wide) {
        memcpy(&value->real, &bits, sizeof(value->real));
    } else {
        uint32_t narrow = (uint32_t)bits;
        float f;
        memcpy(&f, &narrow, sizeof(f));
        value->real = (double)f;
    }
    return 0;
}

static int take_int(struct slice *rest, size_t n, bool is_signed, struct value *value) {
    uint64_t bits;
    if (take_uint(rest, n, &bits) != 0 || (!is_signed && bits > INT64_MAX)) {
        return -EPROTO;
    }
    if (is_signed && n < 8 && (bits >> (8 * n - 1)) != 0) {
        bits |= UINT64_MAX << (8 * n); // carry the sign up
    }
    value->kind = VALUE_INT;
    value->integer = (int64_t)bits;
    return 0;
}

// is_array_head: the first byte of an array.
static bool is_array_head(unsigned char head) {
    return (head & 0xf0) == 0x90 || head == 0xdc || head == 0xdd;
}

int value_next(struct slice *rest, struct value *value) {
    if (rest->n > 0 && is_array_head((unsigned char)rest->p[0])) {
        *value = (struct value){.kind = VALUE_ARRAY};
        return pack_whole(rest, &value->text) == 1 ? 0 : -EPROTO;
    }
    const char *p = take(rest, 1);
    if (p == NULL) {
        return -EPROTO;
    }
    unsigned char head = (unsigned char)*p;
    uint64_t n;
    *value = (struct value){0};
    if (head <= 0x7f || head >= 0xe0) {
        value->kind = VALUE_INT;
        value->integer = (int8_t)head;
        return 0;
    }
    if ((head & 0xe0) == 0xa0) {
        return take_string(rest, head & 0x1f, value);
    }
    switch (head) {
    case 0xc0:
        return 0;
    case 0xc2:
    case 0xc3:
        value->kind = VALUE_BOOL;
        value->truth = head == 0xc3;
        return 0;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_uint(rest, (size_t)1 << (head - 0xc4), &n) == 0 ? take_bytes(rest, n, value) : -EPROTO;
    case 0xca:
    case 0xcb:
        return take_float(rest, head == 0xcb, value);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return take_int(rest, (size_t)1 << (head - 0xcc), false, value);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take_int(rest, (size_t)1 << (head - 0xd0), true, value);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_uint(rest, (size_t)1 << (head - 0xd9), &n) == 0 ? take_string(rest, n, value)
                                                                    : -EPROTO;
    default:
        return -EPROTO;
    }
}

int value_next_u64(struct slice *rest, uint64_t *number) {
    if (rest->n > 0 && (unsigned char)rest->p[0] == 0xcf) {
        take(rest, 1);
        return take_uint(rest, 8, number);
    }
    struct value value;
    if (value_next(rest, &value) != 0 || value.kind != VALUE_INT || value.integer < 0) {
        return -EPROTO;
    }
    *number = (uint64_t)value.integer;
    return 0;
}

int value_add_json(const struct value *value, struct buf *out) {
    switch (value->kind) {
    case VALUE_NULL:
        return buf_add_str(out, "null");
    case VALUE_BOOL:
        return buf_add_str(out, value->truth ? "true" : "false");
    case VALUE_INT:
        return buf_addf(out, "%" PRId64, value->integer);
    case VALUE_DOUBLE:
        return json_add_double(out, value->real);
    case VALUE_STRING:
        return json_add_string(out, value->text);
    case VALUE_ARRAY:
        return msgpack_to_json(value->text, out);
    case VALUE_BYTES: {
        int rc = buf_add_byte(out, '"');
        rc = rc != 0 ? rc : base64_add(out, value->text);
        return rc != 0 ? rc : buf_add_byte(out, '"');
    }
    }
    return -EINVAL;
}

int value_add_text(const struct value *value, struct buf *out) {
    if (value->kind == VALUE_NULL) {
        return 0;
    }
    return value->kind == VALUE_STRING ? buf_add_slice(out, value->text) : value_add_json(value, out);
}

static int write_buf(void *arg, const char *p, size_t n) {
    return buf_add(arg, p, n);
}

int value_pack_array(struct buf *out, size_t n) {
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_buf);
    return msgpack_pack_array(&packer, n) == 0 ? 0 : -EMSGSIZE;
}
