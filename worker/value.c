// Scalars between msgpack, JSON and the types of columns. Reads without allocating; every byte that
// is read was checked to be there. Called by prompt and parse.
#include "worker/value.h"

#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <stdlib.h>
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

int value_next(struct slice *rest, struct value *value) {
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

static const char *json_type_text(struct json_object *json) {
    switch (json_object_get_type(json)) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return "a boolean";
    case json_type_int:
        return "an integer";
    case json_type_double:
        return "a number";
    case json_type_string:
        return "a string";
    case json_type_array:
        return "an array";
    case json_type_object:
        return "an object";
    }
    return "?";
}

static int wrong_type(const struct column *column, struct json_object *json, struct error *why) {
    return error_set(why, -EINVAL, "column '%s': got %s, want %s%s", column->name,
                     json_type_text(json), column_type_name(column->type),
                     column->not_null ? " NOT NULL" : "");
}

static int pack_text(const struct column *column, struct json_object *json, msgpack_packer *packer,
                     struct error *why) {
    switch (json_object_get_type(json)) {
    case json_type_string:
    case json_type_int:
    case json_type_double:
    case json_type_boolean: {
        struct slice s = json_text(json);
        if (!json_object_is_type(json, json_type_string)) {
            s = slice_of(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
        }
        return msgpack_pack_str(packer, s.n) == 0 && msgpack_pack_str_body(packer, s.p, s.n) == 0
                   ? 0
                   : -EMSGSIZE;
    }
    default:
        return wrong_type(column, json, why);
    }
}

static int pack_boolean(const struct column *column, struct json_object *json,
                        msgpack_packer *packer, struct error *why) {
    struct slice s = slice_trim(json_text(json));
    int truth = -1;
    if (json_object_is_type(json, json_type_boolean)) {
        truth = json_object_get_boolean(json);
    } else if (json_object_is_type(json, json_type_int)) {
        int64_t n = json_object_get_int64(json);
        truth = n == 0 || n == 1 ? (int)n : -1;
    } else if (slice_is_nocase(s, "true") || slice_is(s, "1")) {
        truth = 1;
    } else if (slice_is_nocase(s, "false") || slice_is(s, "0")) {
        truth = 0;
    }
    if (truth < 0) {
        return wrong_type(column, json, why);
    }
    return (truth ? msgpack_pack_true(packer) : msgpack_pack_false(packer)) == 0 ? 0 : -EMSGSIZE;
}

// number_of reads a JSON number or a number in a string. *whole says that it is exactly *integer.
static bool number_of(struct json_object *json, double *real, int64_t *integer, bool *whole) {
    *whole = false;
    if (json_object_is_type(json, json_type_int)) {
        *integer = json_object_get_int64(json);
        *real = (double)*integer;
        // json-c clamps what does not fit into int64: such a number is not that integer.
        *whole = *integer != INT64_MAX || json_object_get_uint64(json) == INT64_MAX;
        return true;
    }
    if (json_object_is_type(json, json_type_double)) {
        *real = json_object_get_double(json);
    } else {
        struct slice s = slice_trim(json_text(json));
        char text[64];
        if (s.n == 0 || s.n >= sizeof(text) || memchr(s.p, '\0', s.n) != NULL ||
            strchr("+-.0123456789", s.p[0]) == NULL || slice_has_nocase(s, "x")) {
            return false;
        }
        memcpy(text, s.p, s.n);
        text[s.n] = '\0';
        char *end;
        errno = 0;
        *integer = strtoll(text, &end, 10);
        *whole = errno == 0 && *end == '\0';
        *real = strtod(text, &end);
        if (*end != '\0') {
            return false;
        }
    }
    if (!isfinite(*real)) {
        return false;
    }
    // 2^53: past it a double does not tell one integer from the next.
    if (!*whole && floor(*real) == *real && fabs(*real) <= 9007199254740992.0) {
        *integer = (int64_t)*real;
        *whole = true;
    }
    return true;
}

static int pack_number(const struct column *column, struct json_object *json,
                       msgpack_packer *packer, struct error *why) {
    double real;
    int64_t integer;
    bool whole;
    if (json_object_is_type(json, json_type_boolean) || !number_of(json, &real, &integer, &whole)) {
        return wrong_type(column, json, why);
    }
    if (column->type == TYPE_FLOAT || column->type == TYPE_DOUBLE) {
        if (column->type == TYPE_FLOAT && fabs(real) > 3.4028234663852886e38) {
            return error_set(why, -EINVAL, "column '%s': got %g, want FLOAT", column->name, real);
        }
        return msgpack_pack_double(packer, real) == 0 ? 0 : -EMSGSIZE;
    }
    if (!whole || (column->type == TYPE_INT && (integer < INT32_MIN || integer > INT32_MAX))) {
        return error_set(why, -EINVAL, "column '%s': got %.17g, want %s", column->name, real,
                         column_type_name(column->type));
    }
    return msgpack_pack_int64(packer, integer) == 0 ? 0 : -EMSGSIZE;
}

int value_pack_answer(const struct column *column, struct json_object *json, struct buf *out,
                      struct error *why) {
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_buf);
    if (json == NULL) {
        if (column->not_null) {
            return wrong_type(column, json, why);
        }
        return msgpack_pack_nil(&packer) == 0 ? 0 : -EMSGSIZE;
    }
    switch (column->type) {
    case TYPE_STRING:
        return pack_text(column, json, &packer, why);
    case TYPE_BOOLEAN:
        return pack_boolean(column, json, &packer, why);
    default:
        return pack_number(column, json, &packer, why);
    }
}
