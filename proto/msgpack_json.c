// msgpack to JSON and back, value by value. Invariant: on failure the buf is as it was. Called for
// rows on the way in (rows.c) and for results on the way out (result.c).
#include "proto/record.h"

#include "common/base64.h"
#include "common/json.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int undo(struct buf *out, size_t n, int rc) {
    if (rc != 0 && out->p != NULL) {
        out->n = n;
        out->p[n] = '\0';
    }
    return rc;
}

// ---- To JSON ------------------------------------------------------------------------------------

static int add_base64(struct buf *out, struct slice s) {
    int rc = buf_add_byte(out, '"');
    rc = rc == 0 ? base64_add(out, s) : rc;
    return rc == 0 ? buf_add_byte(out, '"') : rc;
}

// A number of 32 bits has fewer digits than the double it became: the fewest that read back.
static int add_real(struct buf *out, const struct pack_value *v) {
    if (!v->single || v->real != v->real || v->real - v->real != 0) {
        return json_add_double(out, v->real);
    }
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v->real);
        if ((double)strtof(text, NULL) == v->real) {
            break;
        }
    }
    return buf_add_str(out, text);
}

// A name in JSON is a string; numbers and booleans become one.
static int add_name(struct buf *out, struct slice *rest) {
    struct pack_value v;
    if (pack_next(rest, &v) != 1) {
        return -EPROTO;
    }
    switch (v.type) {
    case PACK_STR:
        return slice_utf8_error(v.bytes) < 0 ? json_add_string(out, v.bytes) : -EPROTO;
    case PACK_UINT:
        return buf_addf(out, "\"%llu\"", (unsigned long long)v.u);
    case PACK_INT:
        return buf_addf(out, "\"%lld\"", (long long)v.i);
    case PACK_BOOL:
        return buf_add_str(out, v.truth ? "\"true\"" : "\"false\"");
    default:
        return -EPROTO;
    }
}

static int add_value(struct buf *out, struct slice *rest, int depth);

static int add_many(struct buf *out, struct slice *rest, const struct pack_value *v, int depth) {
    bool is_map = v->type == PACK_MAP;
    if (depth == FRAME_MAX_DEPTH) {
        return -EPROTO;
    }
    int rc = buf_add_byte(out, is_map ? '{' : '[');
    for (uint32_t i = 0; rc == 0 && i < v->count; i++) {
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        if (rc == 0 && is_map) {
            rc = add_name(out, rest);
            rc = rc == 0 ? buf_add_byte(out, ':') : rc;
        }
        rc = rc == 0 ? add_value(out, rest, depth + 1) : rc;
    }
    return rc == 0 ? buf_add_byte(out, is_map ? '}' : ']') : rc;
}

static int add_value(struct buf *out, struct slice *rest, int depth) {
    struct pack_value v;
    if (pack_next(rest, &v) != 1) {
        return -EPROTO;
    }
    switch (v.type) {
    case PACK_NIL:
        return buf_add_str(out, "null");
    case PACK_BOOL:
        return buf_add_str(out, v.truth ? "true" : "false");
    case PACK_UINT:
        return buf_addf(out, "%llu", (unsigned long long)v.u);
    case PACK_INT:
        return buf_addf(out, "%lld", (long long)v.i);
    case PACK_REAL:
        return add_real(out, &v);
    case PACK_STR:
        return slice_utf8_error(v.bytes) < 0 ? json_add_string(out, v.bytes) : -EPROTO;
    case PACK_BIN:
        return add_base64(out, v.bytes);
    case PACK_ARRAY:
    case PACK_MAP:
        return add_many(out, rest, &v, depth);
    case PACK_EXT:
        return -EPROTO;
    }
    return -EPROTO;
}

int msgpack_to_json(struct slice value, struct buf *out) {
    size_t start = out->n;
    int rc = add_value(out, &value, 0);
    return undo(out, start, rc == 0 && value.n > 0 ? -EPROTO : rc);
}

// ---- From JSON ----------------------------------------------------------------------------------

static int pack_object(struct json_object *value, struct buf *out) {
    int rc = pack_map(out, (uint32_t)json_object_object_length(value));
    // A name has no length of its own in json-c; json_parse refuses a NUL in one.
    json_object_object_foreach(value, name, member) {
        rc = rc == 0 ? pack_str(out, slice_of(name)) : rc;
        rc = rc == 0 ? json_to_msgpack(member, out) : rc;
    }
    return rc;
}

static int pack_list(struct json_object *value, struct buf *out) {
    size_t n = json_object_array_length(value);
    int rc = pack_array(out, (uint32_t)n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = json_to_msgpack(json_object_array_get_idx(value, i), out);
    }
    return rc;
}

int json_to_msgpack(struct json_object *value, struct buf *out) {
    switch (json_object_get_type(value)) {
    case json_type_null:
        return pack_nil(out);
    case json_type_boolean:
        return pack_bool(out, json_object_get_boolean(value));
    case json_type_double:
        return pack_real(out, json_object_get_double(value));
    case json_type_int: {
        int64_t i = json_object_get_int64(value);
        return i < 0 ? pack_int(out, i) : pack_uint(out, json_object_get_uint64(value));
    }
    case json_type_string:
        return pack_str(out, json_text(value));
    case json_type_array:
        return pack_list(value, out);
    case json_type_object:
        return pack_object(value, out);
    }
    return -EINVAL;
}
