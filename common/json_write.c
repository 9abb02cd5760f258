// Writes JSON: strings, doubles, whole values. Invariant: what was added is RFC 8259 and one line,
// or the buf is as it was. Called by all who print records, results, requests.
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOUBLE_DIGITS 15 // so many decimal digits survive a (normal) double unchanged
#define DOUBLE_MOST   17 // so many tell any two doubles apart
#define DOUBLE_TEXT   32 // bytes of the longest "%.17g", with room

// escape_length says how many bytes at p (at least one is there) must be written as one escape: 0
// for none. Control characters are U+0000-001F and U+007F-009F.
static size_t escape_length(const char *p, const char *end) {
    unsigned char c = (unsigned char)*p;
    if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F) {
        return 1;
    }
    if (c == 0xC2 && end - p >= 2 && (unsigned char)p[1] < 0xA0) {
        return 2;
    }
    if (c == 0xE2 && end - p >= 3 && (unsigned char)p[1] == 0x80 &&
        ((unsigned char)p[2] | 1) == 0xA9) {
        return 3;
    }
    return 0;
}

static int add_escape(struct buf *b, const char *p, size_t n) {
    static const char names[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = n == 1 && *p != '\0' ? strchr(names, *p) : NULL;
    if (found != NULL) {
        char pair[2] = {'\\', letters[found - names]};
        return buf_add(b, pair, sizeof(pair));
    }
    unsigned code = (unsigned char)p[n - 1]; // U+0080-009F end in their own number
    return buf_addf(b, "\\u%04x", n == 3 ? 0x2028 + (code & 1) : code);
}

static int add_string(struct buf *b, struct slice s) {
    const char *p = s.p, *end = s.p + s.n, *from = s.p;
    int rc = buf_add_byte(b, '"');
    while (rc == 0 && p < end) {
        size_t n = escape_length(p, end);
        if (n == 0) {
            p++;
            continue;
        }
        rc = buf_add(b, from, (size_t)(p - from));
        if (rc == 0) {
            rc = add_escape(b, p, n);
        }
        p += n;
        from = p;
    }
    if (rc == 0) {
        rc = buf_add(b, from, (size_t)(end - from));
    }
    return rc == 0 ? buf_add_byte(b, '"') : rc;
}

// undo puts b back to n bytes when rc says that something did not fit.
static int undo(struct buf *b, size_t n, int rc) {
    if (rc != 0 && b->p != NULL) {
        b->n = n;
        b->p[n] = '\0';
    }
    return rc;
}

int json_add_string(struct buf *b, struct slice s) {
    size_t n = b->n;
    return undo(b, n, add_string(b, s.n > 0 ? s : SLICE_LIT("")));
}

int json_add_double(struct buf *b, double value) {
    char text[DOUBLE_TEXT] = "null";
    if (isfinite(value)) {
        // A number near zero has fewer digits than 15, so there the shortest is looked for.
        int digits = value == 0 || isnormal(value) ? DOUBLE_DIGITS : 1;
        do {
            snprintf(text, sizeof(text), "%.*g", digits, value);
        } while (digits++ < DOUBLE_MOST && strtod(text, NULL) != value);
    }
    return buf_add_str(b, text);
}

static int add_value(struct buf *b, struct json_object *value);

static int add_array(struct buf *b, struct json_object *value) {
    size_t n = json_object_array_length(value);
    int rc = buf_add_byte(b, '[');
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = i > 0 ? buf_add_byte(b, ',') : 0;
        if (rc == 0) {
            rc = add_value(b, json_object_array_get_idx(value, i));
        }
    }
    return rc == 0 ? buf_add_byte(b, ']') : rc;
}

static int add_object(struct buf *b, struct json_object *value) {
    int rc = buf_add_byte(b, '{');
    bool is_first = true;
    json_object_object_foreach(value, name, member) {
        if (rc == 0 && !is_first) {
            rc = buf_add_byte(b, ',');
        }
        if (rc == 0) {
            rc = add_string(b, slice_of(name));
        }
        if (rc == 0) {
            rc = buf_add_byte(b, ':');
        }
        if (rc == 0) {
            rc = add_value(b, member);
        }
        if (rc != 0) {
            return rc;
        }
        is_first = false;
    }
    return rc == 0 ? buf_add_byte(b, '}') : rc;
}

static int add_double(struct buf *b, struct json_object *value) {
    const char *text = json_object_get_userdata(value); // what it was read from
    return text != NULL ? buf_add_str(b, text) : json_add_double(b, json_object_get_double(value));
}

// add_integer: json-c does not say whether it holds an int64 or a uint64; only the latter can be
// more than INT64_MAX, and only then do the two readings differ for a positive number.
static int add_integer(struct buf *b, struct json_object *value) {
    int64_t i = json_object_get_int64(value);
    return i == INT64_MAX ? buf_addf(b, "%llu", (unsigned long long)json_object_get_uint64(value))
                          : buf_addf(b, "%lld", (long long)i);
}

static int add_value(struct buf *b, struct json_object *value) {
    switch (json_object_get_type(value)) {
    case json_type_null:
        return buf_add_str(b, "null");
    case json_type_boolean:
        return buf_add_str(b, json_object_get_boolean(value) ? "true" : "false");
    case json_type_double:
        return add_double(b, value);
    case json_type_int:
        return add_integer(b, value);
    case json_type_string:
        return add_string(b, json_text(value));
    case json_type_array:
        return add_array(b, value);
    case json_type_object:
        return add_object(b, value);
    }
    return -EINVAL;
}

int json_add(struct buf *b, struct json_object *value) {
    size_t n = b->n;
    return undo(b, n, add_value(b, value));
}
