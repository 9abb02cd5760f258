// Reads a JSONPath query (RFC 9535) into segments and selectors. One function a rule of the
// grammar, each named in its comment. Invariant: what compiles is well-formed and valid, so that
// running it cannot fail for the query's sake. Called when a model is created or loaded.
#include "common/jsonpath_internal.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// The range of I-JSON (RFC 7493 section 2.2), to which RFC 9535 section 2.1 holds all integers.
#define MOST_INT    ((INT64_C(1) << 53) - 1)
#define MOST_DIGITS 16

int jsonpath_fail(struct jsonpath_parser *p, const char *want) {
    int c = peek(p);
    if (c < 0) {
        return error_set(p->why, -EINVAL, "offset %zu: got the end, want %s", p->at, want);
    }
    if (c <= ' ' || c >= 0x7F) {
        return error_set(p->why, -EINVAL, "offset %zu: got byte 0x%02x, want %s", p->at, c, want);
    }
    return error_set(p->why, -EINVAL, "offset %zu: got '%c', want %s", p->at, c, want);
}

// is_name_first: name-first; all that is not ASCII counts, its UTF-8 was checked.
static bool is_name_first(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static void set_name(struct jsonpath_selector *s, struct slice name) {
    s->kind = JSONPATH_NAME;
    s->name = slice_dup(name);
    s->has_nul = name.n > 0 && memchr(name.p, '\0', name.n) != NULL;
}

// parse_shorthand: member-name-shorthand = name-first *name-char.
static int parse_shorthand(struct jsonpath_parser *p, struct jsonpath_selector *s) {
    size_t from = p->at;
    if (!is_name_first(peek(p))) {
        return jsonpath_fail(p, "a member's name, '*' or '['");
    }
    while (is_name_first(peek(p)) || is_digit(peek(p))) {
        p->at++;
    }
    set_name(s, slice_sub(p->text, from, p->at - from));
    return 0;
}

static int parse_hex4(struct jsonpath_parser *p, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int c = peek(p), lower = c | 0x20;
        if (is_digit(c)) {
            *code = *code << 4 | (uint32_t)(c - '0');
        } else if (c > 0 && lower >= 'a' && lower <= 'f') {
            *code = *code << 4 | (uint32_t)(lower - 'a' + 10);
        } else {
            return jsonpath_fail(p, "four hexadecimal digits after \\u");
        }
    }
    return 0;
}

static int add_utf8(struct buf *b, uint32_t code) {
    char bytes[4];
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {[1] = 0, [2] = 0xC0, [3] = 0xE0, [4] = 0xF0};
    for (size_t i = n - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    bytes[0] = (char)(lead[n] | code);
    return buf_add(b, bytes, n);
}

// parse_hexchar: hexchar = non-surrogate / (high-surrogate "\" %x75 low-surrogate), after "\u".
static int parse_hexchar(struct jsonpath_parser *p) {
    uint32_t code, low = 0;
    int rc = parse_hex4(p, &code);
    if (rc != 0) {
        return rc;
    }
    if (code >= 0xDC00 && code <= 0xDFFF) {
        return jsonpath_fail(p, "the first half of a surrogate pair before its second");
    }
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (!take(p, '\\') || !take(p, 'u')) {
            return jsonpath_fail(p, "the second half of a surrogate pair");
        }
        rc = parse_hex4(p, &low);
        if (rc != 0) {
            return rc;
        }
        if (low < 0xDC00 || low > 0xDFFF) {
            return jsonpath_fail(p, "the second half of a surrogate pair before this");
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    return add_utf8(&p->string, code);
}

// parse_escape: what may follow a backslash: ESC quote, or escapable.
static int parse_escape(struct jsonpath_parser *p, char quote) {
    static const char plain[] = "/\\bfnrt", means[] = "/\\\b\f\n\r\t";
    int c = peek(p);
    if (take(p, 'u')) {
        return parse_hexchar(p);
    }
    const char *found = c > 0 ? strchr(plain, c) : NULL;
    if (c != quote && found == NULL) {
        return jsonpath_fail(p, "one of /\\bfnrtu or the string's own quote after a backslash");
    }
    p->at++;
    return buf_add_byte(&p->string, found != NULL ? means[found - plain] : quote);
}

int jsonpath_read_string(struct jsonpath_parser *p) {
    char quote = (char)peek(p);
    int rc = 0;
    p->at++;
    buf_clear(&p->string);
    while (rc == 0 && !take(p, quote)) {
        int c = peek(p);
        if (c < 0x20) {
            return jsonpath_fail(p, c < 0 ? "a quote at the string's end" : "control characters escaped");
        }
        p->at++;
        rc = c == '\\' ? parse_escape(p, quote) : buf_add_byte(&p->string, (char)c);
    }
    return rc;
}

// parse_int: int = "0" / (["-"] DIGIT1 *DIGIT), within I-JSON's range.
static int parse_int(struct jsonpath_parser *p, int64_t *value) {
    size_t from = p->at;
    bool minus = take(p, '-');
    if (!is_digit(peek(p)) || (minus && peek(p) == '0')) {
        return jsonpath_fail(p, minus ? "a digit from 1 to 9" : "an integer");
    }
    bool is_zero = peek(p) == '0';
    size_t n = 0;
    *value = 0;
    for (; is_digit(peek(p)); p->at++, n++) {
        if (n == 1 && is_zero) {
            return jsonpath_fail(p, "no digit after a leading zero");
        }
        *value = n < MOST_DIGITS ? *value * 10 + (peek(p) - '0') : MOST_INT + 1;
    }
    if (*value > MOST_INT) {
        return error_set(p->why, -EINVAL, "offset %zu: got an integer past 2^53-1, want less",
                         from);
    }
    *value = minus ? -*value : *value;
    return 0;
}

static bool is_int_first(int c) {
    return is_digit(c) || c == '-';
}

// parse_slice: slice-selector = [start S] ":" S [end S] [":" [S step ]], p at the first colon.
static int parse_slice(struct jsonpath_parser *p, struct jsonpath_slice *slice) {
    p->at++;
    slice->step = 1;
    skip_space(p);
    if (is_int_first(peek(p))) {
        slice->has_end = true;
        int rc = parse_int(p, &slice->end);
        if (rc != 0) {
            return rc;
        }
        skip_space(p);
    }
    if (take(p, ':')) {
        skip_space(p);
        if (is_int_first(peek(p))) {
            return parse_int(p, &slice->step);
        }
    }
    return 0;
}

// parse_index_or_slice: which of the two it is shows only at the colon.
static int parse_index_or_slice(struct jsonpath_parser *p, struct jsonpath_selector *s) {
    struct jsonpath_slice slice = {0};
    if (peek(p) != ':') {
        int rc = parse_int(p, &slice.start);
        if (rc != 0) {
            return rc;
        }
        size_t after = p->at;
        skip_space(p);
        if (peek(p) != ':') {
            p->at = after;
            s->kind = JSONPATH_INDEX;
            s->index = slice.start;
            return 0;
        }
        slice.has_start = true;
    }
    int rc = parse_slice(p, &slice);
    s->kind = JSONPATH_SLICE;
    s->slice = slice;
    return rc;
}

// parse_selector: selector = name / wildcard / slice / index / filter.
static int parse_selector(struct jsonpath_parser *p, struct jsonpath_selector *s) {
    int c = peek(p);
    if (c == '\'' || c == '"') {
        int rc = jsonpath_read_string(p);
        if (rc == 0) {
            set_name(s, buf_slice(&p->string));
        }
        return rc;
    }
    if (take(p, '*')) {
        s->kind = JSONPATH_WILDCARD;
        return 0;
    }
    if (is_int_first(c) || c == ':') {
        return parse_index_or_slice(p, s);
    }
    if (take(p, '?')) {
        skip_space(p);
        s->kind = JSONPATH_FILTER;
        return jsonpath_read_filter(p, &s->filter);
    }
    return jsonpath_fail(p, "a quoted name, an index, a slice, '*' or '?'");
}

static struct jsonpath_selector *new_selector(struct jsonpath_segment *segment) {
    size_t n = segment->n_selectors;
    if ((n & (n - 1)) == 0) { // full at each power of two
        segment->selectors =
            mem_realloc(segment->selectors, (n > 0 ? 2 * n : 1) * sizeof(*segment->selectors));
    }
    segment->n_selectors++;
    segment->selectors[n] = (struct jsonpath_selector){.kind = JSONPATH_WILDCARD};
    return &segment->selectors[n];
}

// parse_brackets: bracketed-selection, after its "[".
static int parse_brackets(struct jsonpath_parser *p, struct jsonpath_segment *segment) {
    do {
        skip_space(p);
        int rc = parse_selector(p, new_selector(segment));
        if (rc != 0) {
            return rc;
        }
        skip_space(p);
    } while (take(p, ','));
    return take(p, ']') ? 0 : jsonpath_fail(p, "',' or ']'");
}

// parse_segment: child-segment / descendant-segment.
static int parse_segment(struct jsonpath_parser *p, struct jsonpath_segment *segment) {
    if (take(p, '[')) {
        return parse_brackets(p, segment);
    }
    take(p, '.'); // it was seen
    segment->is_descendant = take(p, '.');
    if (segment->is_descendant && take(p, '[')) {
        return parse_brackets(p, segment);
    }
    struct jsonpath_selector *s = new_selector(segment);
    return take(p, '*') ? 0 : parse_shorthand(p, s); // it is a wildcard from birth
}

static struct jsonpath_segment *new_segment(struct jsonpath *path) {
    size_t n = path->n_segments;
    if ((n & (n - 1)) == 0) {
        path->segments = mem_realloc(path->segments, (n > 0 ? 2 * n : 1) * sizeof(*path->segments));
    }
    path->n_segments++;
    path->segments[n] = (struct jsonpath_segment){0};
    return &path->segments[n];
}

int jsonpath_read_segments(struct jsonpath_parser *p, struct jsonpath *path) {
    int rc = 0;
    while (rc == 0) {
        size_t from = p->at;
        skip_space(p);
        if (peek(p) != '.' && peek(p) != '[') {
            p->at = from;
            break;
        }
        rc = parse_segment(p, new_segment(path));
    }
    return rc;
}

// parse_query: jsonpath-query = "$" *(S segment). White space at either end is not part of it.
static int parse_query(struct jsonpath_parser *p, struct jsonpath *path) {
    long bad = slice_utf8_error(p->text);
    if (bad >= 0) {
        return error_set(p->why, -EINVAL, "offset %ld: got bytes that are not UTF-8, want UTF-8",
                         bad);
    }
    if (!take(p, '$')) {
        return jsonpath_fail(p, "'$'");
    }
    int rc = jsonpath_read_segments(p, path);
    return rc != 0 || p->at == p->text.n ? rc : jsonpath_fail(p, "'.', '..', '[' or the end");
}

struct jsonpath *jsonpath_compile(struct slice text, struct error *why) {
    struct jsonpath_parser p = {.text = text, .why = why};
    buf_init(&p.string, text.n + 1); // no escape is shorter than what it stands for
    struct jsonpath *path = mem_zalloc(sizeof(*path));
    if (parse_query(&p, path) != 0) {
        jsonpath_free(path);
        path = NULL;
    }
    buf_free(&p.string);
    return path;
}

void jsonpath_clear(struct jsonpath *path) {
    for (size_t i = 0; i < path->n_segments; i++) {
        struct jsonpath_segment *segment = &path->segments[i];
        for (size_t j = 0; j < segment->n_selectors; j++) {
            if (segment->selectors[j].kind == JSONPATH_NAME) {
                free(segment->selectors[j].name);
            } else if (segment->selectors[j].kind == JSONPATH_FILTER) {
                jsonpath_expr_free(segment->selectors[j].filter);
            }
        }
        free(segment->selectors);
    }
    free(path->segments);
    *path = (struct jsonpath){0};
}

void jsonpath_free(struct jsonpath *path) {
    if (path != NULL) {
        jsonpath_clear(path);
        free(path);
    }
}
