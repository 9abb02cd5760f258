// Reads JSON text into json-c's values (json_write.c writes). json-c's own tokener is not used: it
// takes NaN, control characters in strings, overlong UTF-8 and a NUL as the end, and it switches
// the locale for each text, which costs more than reading a small row does. Invariant: what
// json_parse accepts is RFC 8259, and no byte past the value is read. Called by all who read
// records, answers, options.
//
// The decimal point is LC_NUMERIC's, which stays "C": no program of ours calls setlocale.
#include "common/json.h"
#include "common/mem.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_SLOTS 8  // json-c reserves 32 in each array otherwise
#define SAFE_DIGITS 18 // so many digits always fit an int64
#define MOST_DIGITS 20 // the longest uint64

struct reader {
    const char *start; // the text, for offsets
    const char *p;     // next byte
    const char *end;   // past the last byte
    char *scratch;     // small, or allocated: a string without its escapes, or NUL-terminated
    size_t cap;        // bytes of scratch
    struct error *why; // may be NULL
    char small[256];   // most names and numbers need no allocation
};

// must_have ends the process as mem_alloc does: json-c's NULL would pass for a JSON null.
static struct json_object *must_have(struct json_object *value) {
    if (value == NULL) {
        fprintf(stderr, "headrace: out of memory\n");
        abort();
    }
    return value;
}

static int fail(struct reader *r, const char *want) {
    size_t at = (size_t)(r->p - r->start);
    if (r->p == r->end) {
        return error_set(r->why, -EINVAL, "offset %zu: got the end, want %s", at, want);
    }
    unsigned char c = (unsigned char)*r->p;
    if (c > ' ' && c < 0x7F) {
        return error_set(r->why, -EINVAL, "offset %zu: got '%c', want %s", at, c, want);
    }
    return error_set(r->why, -EINVAL, "offset %zu: got byte 0x%02x, want %s", at, c, want);
}

static int fail_at(struct reader *r, const char *p, const char *sentence) {
    return error_set(r->why, -EINVAL, "offset %zu: %s", (size_t)(p - r->start), sentence);
}

static void skip_space(struct reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r')) {
        r->p++;
    }
}

static bool is_next(const struct reader *r, char c) {
    return r->p < r->end && *r->p == c;
}

static bool is_digit(const struct reader *r) {
    return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

// reserve makes scratch hold n bytes and a NUL.
static void reserve(struct reader *r, size_t n) {
    if (n < r->cap) {
        return;
    }
    r->cap = n + 1;
    r->scratch = mem_realloc(r->scratch == r->small ? NULL : r->scratch, r->cap);
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// read_hex4 reads the four digits of \uXXXX; r->p is at the first and ends past the last.
static int read_hex4(struct reader *r, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = r->p < r->end ? hex_value(*r->p) : -1;
        if (digit < 0) {
            return fail(r, "four hexadecimal digits after \\u");
        }
        *code = *code << 4 | (uint32_t)digit;
        r->p++;
    }
    return 0;
}

static char *put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

// read_unicode reads what follows "\u", with the second half of a surrogate pair. Half a pair alone
// is legal JSON that no UTF-8 can say: it becomes U+FFFD.
static int read_unicode(struct reader *r, char **out) {
    uint32_t code, low;
    int rc = read_hex4(r, &code);
    if (rc != 0) {
        return rc;
    }
    if (code >= 0xD800 && code <= 0xDBFF && r->end - r->p >= 2 && r->p[0] == '\\' &&
        r->p[1] == 'u') {
        const char *second = r->p;
        r->p += 2;
        rc = read_hex4(r, &low);
        if (rc != 0) {
            return rc;
        }
        if (low >= 0xDC00 && low <= 0xDFFF) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else {
            r->p = second; // not its half: an escape of its own
        }
    }
    *out = put_utf8(*out, code >= 0xD800 && code <= 0xDFFF ? 0xFFFD : code);
    return 0;
}

static int read_escape(struct reader *r, char **out) {
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    r->p++; // the backslash
    if (is_next(r, 'u')) {
        r->p++;
        return read_unicode(r, out);
    }
    const char *found = r->p < r->end && *r->p != '\0' ? strchr(plain, *r->p) : NULL;
    if (found == NULL) {
        return fail(r, "one of \"\\/bfnrtu after a backslash");
    }
    *(*out)++ = means[found - plain];
    r->p++;
    return 0;
}

// unescape copies the raw bytes from r->p up to close into scratch, escapes resolved.
static int unescape(struct reader *r, const char *close, struct slice *s) {
    reserve(r, (size_t)(close - r->p)); // no escape is shorter than what it stands for
    char *out = r->scratch;
    while (r->p < close) {
        const char *slash = memchr(r->p, '\\', (size_t)(close - r->p));
        size_t n = (size_t)((slash != NULL ? slash : close) - r->p);
        memcpy(out, r->p, n);
        out += n;
        r->p += n;
        if (slash != NULL) {
            int rc = read_escape(r, &out);
            if (rc != 0) {
                return rc;
            }
        }
    }
    *s = (struct slice){.p = r->scratch, .n = (size_t)(out - r->scratch)};
    return 0;
}

// read_string reads a string, r->p at its quote. *s borrows the text itself, or scratch when there
// are escapes; either way it holds until the next string.
static int read_string(struct reader *r, struct slice *s) {
    const char *from = ++r->p;
    bool has_escape = false;
    unsigned char seen = 0;
    while (r->p < r->end && *r->p != '"') {
        unsigned char c = (unsigned char)*r->p;
        if (c < 0x20) {
            return fail(r, "control characters escaped in a string");
        }
        if (c == '\\') {
            has_escape = true;
            if (++r->p == r->end) {
                break;
            }
            c = (unsigned char)*r->p;
            if (c < 0x20) {
                return fail(r, "one of \"\\/bfnrtu after a backslash");
            }
        }
        seen |= c;
        r->p++;
    }
    if (r->p == r->end) {
        return fail(r, "'\"' at the end of a string");
    }
    const char *close = r->p;
    *s = (struct slice){.p = from, .n = (size_t)(close - from)};
    long bad = seen >= 0x80 ? slice_utf8_error(*s) : -1;
    if (bad >= 0) {
        return fail_at(r, from + bad, "got bytes that are not UTF-8, want UTF-8");
    }
    if (has_escape) {
        r->p = from;
        int rc = unescape(r, close, s);
        if (rc != 0) {
            return rc;
        }
    }
    r->p = close + 1;
    return 0;
}

// scan_number walks over a number's grammar (RFC 8259 section 6).
static int scan_number(struct reader *r, bool *is_integer) {
    *is_integer = true;
    r->p += *r->p == '-';
    if (!is_digit(r)) {
        return fail(r, "a digit");
    }
    if (*r->p == '0') {
        r->p++;
    } else {
        while (is_digit(r)) {
            r->p++;
        }
    }
    if (is_next(r, '.')) {
        *is_integer = false;
        r->p++;
        if (!is_digit(r)) {
            return fail(r, "a digit after the point");
        }
        while (is_digit(r)) {
            r->p++;
        }
    }
    if (is_next(r, 'e') || is_next(r, 'E')) {
        *is_integer = false;
        r->p++;
        r->p += is_next(r, '+') || is_next(r, '-');
        if (!is_digit(r)) {
            return fail(r, "a digit of the exponent");
        }
        while (is_digit(r)) {
            r->p++;
        }
    }
    return 0;
}

static int make_integer(struct reader *r, const char *from, struct json_object **value) {
    bool minus = *from == '-';
    const char *digits = from + minus;
    size_t n = (size_t)(r->p - digits);
    if (n <= SAFE_DIGITS) {
        int64_t sum = 0;
        for (const char *p = digits; p < r->p; p++) {
            sum = sum * 10 + (*p - '0');
        }
        *value = must_have(json_object_new_int64(minus ? -sum : sum));
        return 0;
    }
    char text[MOST_DIGITS + 2] = "";
    errno = n > MOST_DIGITS ? ERANGE : 0;
    if (errno == 0) {
        memcpy(text, from, n + minus);
        text[n + minus] = '\0';
        int64_t i = strtoll(text, NULL, 10);
        if (errno == 0) {
            *value = must_have(json_object_new_int64(i));
        } else if (!minus) {
            errno = 0;
            uint64_t u = strtoull(text, NULL, 10);
            *value = errno == 0 ? must_have(json_object_new_uint64(u)) : NULL;
        }
    }
    if (errno != 0) {
        return fail_at(r, from, "got an integer that 64 bits cannot hold, want -2^63 to 2^64-1");
    }
    return 0;
}

static int read_number(struct reader *r, struct json_object **value) {
    const char *from = r->p;
    bool is_integer;
    int rc = scan_number(r, &is_integer);
    if (rc != 0) {
        return rc;
    }
    if (is_integer) {
        return make_integer(r, from, value);
    }
    size_t n = (size_t)(r->p - from);
    reserve(r, n);
    memcpy(r->scratch, from, n);
    r->scratch[n] = '\0';
    double number = strtod(r->scratch, NULL);
    if (!isfinite(number)) {
        return fail_at(r, from, "got a number beyond a double's range, want a finite one");
    }
    *value = must_have(json_object_new_double_s(number, r->scratch));
    return 0;
}

static bool read_word(struct reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0) {
        return false;
    }
    r->p += n;
    return true;
}

static int read_value(struct reader *r, int depth, struct json_object **value);

static int read_array(struct reader *r, int depth, struct json_object **value) {
    struct json_object *array = must_have(json_object_new_array_ext(ARRAY_SLOTS));
    int rc = 0;
    r->p++;
    skip_space(r);
    bool is_more = !is_next(r, ']');
    while (rc == 0 && is_more) {
        struct json_object *item = NULL;
        skip_space(r);
        rc = read_value(r, depth, &item);
        if (rc != 0) {
            break;
        }
        if (json_object_array_add(array, item) != 0) {
            must_have(NULL);
        }
        skip_space(r);
        is_more = is_next(r, ',');
        if (is_more) {
            r->p++;
        } else if (!is_next(r, ']')) {
            rc = fail(r, "',' or ']' after an array's item");
        }
    }
    if (rc != 0) {
        json_object_put(array);
        return rc;
    }
    r->p++;
    *value = array;
    return 0;
}

// read_member reads one `"name": value` into object.
static int read_member(struct reader *r, int depth, struct json_object *object) {
    skip_space(r);
    if (!is_next(r, '"')) {
        return fail(r, "'\"' before a member's name");
    }
    const char *from = r->p;
    struct slice name;
    int rc = read_string(r, &name);
    if (rc != 0) {
        return rc;
    }
    if (name.n > 0 && memchr(name.p, '\0', name.n) != NULL) {
        return fail_at(r, from, "got \\u0000 in a member's name, which cannot be kept");
    }
    // The value's own strings reuse scratch, so the name is kept beside it.
    char small[64];
    char *kept = name.n < sizeof(small) ? small : mem_alloc(name.n + 1);
    memcpy(kept, name.p, name.n);
    kept[name.n] = '\0';
    skip_space(r);
    struct json_object *value = NULL;
    if (is_next(r, ':')) {
        r->p++;
        skip_space(r);
        rc = read_value(r, depth, &value);
    } else {
        rc = fail(r, "':' after a member's name");
    }
    if (rc == 0 && json_object_object_add(object, kept, value) != 0) {
        must_have(NULL);
    }
    if (kept != small) {
        free(kept);
    }
    return rc;
}

static int read_object(struct reader *r, int depth, struct json_object **value) {
    struct json_object *object = must_have(json_object_new_object());
    int rc = 0;
    r->p++;
    skip_space(r);
    bool is_more = !is_next(r, '}');
    while (rc == 0 && is_more) {
        rc = read_member(r, depth, object);
        if (rc != 0) {
            break;
        }
        skip_space(r);
        is_more = is_next(r, ',');
        if (is_more) {
            r->p++;
        } else if (!is_next(r, '}')) {
            rc = fail(r, "',' or '}' after an object's member");
        }
    }
    if (rc != 0) {
        json_object_put(object);
        return rc;
    }
    r->p++;
    *value = object;
    return 0;
}

// read_value reads the value at r->p; depth says how many arrays and objects it stands in.
static int read_value(struct reader *r, int depth, struct json_object **value) {
    struct slice s;
    int rc;
    *value = NULL;
    switch (r->p < r->end ? *r->p : '\0') {
    case '{':
    case '[':
        if (depth >= JSON_MAX_DEPTH) {
            return error_set(r->why, -EINVAL,
                             "offset %zu: got more than %d levels of arrays and "
                             "objects, want at most that",
                             (size_t)(r->p - r->start), JSON_MAX_DEPTH);
        }
        return *r->p == '{' ? read_object(r, depth + 1, value) : read_array(r, depth + 1, value);
    case '"':
        rc = read_string(r, &s);
        if (rc == 0 && s.n > INT_MAX) { // json-c counts a string's bytes in an int
            return fail_at(r, r->p, "got a string of more than 2^31-1 bytes, want less");
        }
        if (rc == 0) {
            *value = must_have(json_object_new_string_len(s.p, (int)s.n));
        }
        return rc;
    case 't':
    case 'f':
        if (read_word(r, "true") || read_word(r, "false")) {
            *value = must_have(json_object_new_boolean(r->p[-2] == 'u'));
            return 0;
        }
        break;
    case 'n':
        if (read_word(r, "null")) {
            return 0;
        }
        break;
    default:
        if (is_digit(r) || is_next(r, '-')) {
            return read_number(r, value);
        }
    }
    return fail(r, "a JSON value");
}

// is_glued asks whether a number or word goes on where it had to end, as in 01, 12abc, nullx.
static bool is_glued(const struct reader *r) {
    if (r->p == r->end || r->p[-1] == '"' || r->p[-1] == '}' || r->p[-1] == ']') {
        return false;
    }
    char c = *r->p;
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '+' || c == '-' || c == '_';
}

// read_text reads the first value; r->p ends right after it. *value is NULL unless 0 is returned.
static int read_text(struct reader *r, struct slice text, struct json_object **value,
                     struct error *why) {
    *value = NULL;
    *r = (struct reader){.why = why, .cap = sizeof(r->small)};
    r->scratch = r->small;
    r->p = r->start = text.n > 0 ? text.p : "";
    r->end = r->start + text.n;
    (void)read_word(r, "\xEF\xBB\xBF");
    skip_space(r);
    if (r->p == r->end) {
        return -ENODATA;
    }
    int rc = read_value(r, 0, value);
    if (rc == 0 && is_glued(r)) {
        rc = fail(r, "the end of the value");
    }
    if (r->scratch != r->small) {
        free(r->scratch);
    }
    if (rc != 0) {
        json_object_put(*value);
        *value = NULL;
    }
    return rc;
}

int json_parse(struct slice text, struct json_object **value, struct error *why) {
    struct reader r;
    int rc = read_text(&r, text, value, why);
    if (rc == -ENODATA) {
        return fail(&r, "a JSON value");
    }
    if (rc != 0) {
        return rc;
    }
    skip_space(&r);
    if (r.p < r.end) {
        json_object_put(*value);
        *value = NULL;
        return fail(&r, "nothing after the value");
    }
    return 0;
}

int json_parse_first(struct slice text, struct json_object **value, size_t *used,
                     struct error *why) {
    struct reader r;
    int rc = read_text(&r, text, value, why);
    *used = rc == 0 ? (size_t)(r.p - r.start) : 0;
    return rc;
}

struct slice json_text(struct json_object *value) {
    if (!json_object_is_type(value, json_type_string)) {
        return SLICE_NONE;
    }
    return (struct slice){.p = json_object_get_string(value),
                          .n = (size_t)json_object_get_string_len(value)};
}

struct json_object *json_get(struct json_object *value, const char *name) {
    struct json_object *member = NULL;
    if (json_object_is_type(value, json_type_object)) {
        json_object_object_get_ex(value, name, &member);
    }
    return member;
}
