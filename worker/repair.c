// Lenient reading of JSON. Invariant: every byte of what comes out was in the text or is a fixed
// replacement of one construct; where two readings are possible, there is none. Called by parse_json.
#include "worker/repair.h"

#include "common/json.h"

#include <errno.h>
#include <string.h>

#define KEYS_MAX 128 // of one object

struct reader {
    struct slice text;
    size_t at;
    struct buf *out;
    unsigned what;
    int depth;
};

const char *repair_name(unsigned bit) {
    switch (bit) {
    case REPAIR_TRAILING_COMMA:
        return "trailing-comma";
    case REPAIR_SINGLE_QUOTES:
        return "single-quotes";
    case REPAIR_NAN:
        return "nan";
    case REPAIR_LITERAL:
        return "literal";
    case REPAIR_BARE_KEY:
        return "bare-key";
    case REPAIR_CONTROL:
        return "control-character";
    case REPAIR_COMMENT:
        return "comment";
    default:
        return NULL;
    }
}

static int peek(const struct reader *r) {
    return r->at < r->text.n ? (unsigned char)r->text.p[r->at] : -1;
}

static bool take(struct reader *r, char c) {
    if (peek(r) != c) {
        return false;
    }
    r->at++;
    return true;
}

static bool at_text(const struct reader *r, const char *text) {
    return slice_starts(slice_sub(r->text, r->at, r->text.n), text);
}

// skip_comment moves over one comment. False: there is none, or it has no end.
static bool skip_comment(struct reader *r) {
    const char *end = at_text(r, "//") ? "\n" : at_text(r, "/*") ? "*/" : NULL;
    struct slice rest = slice_sub(r->text, r->at, r->text.n);
    const char *found = end != NULL ? memmem(rest.p, rest.n, end, strlen(end)) : NULL;
    if (found == NULL) {
        return false;
    }
    r->what |= REPAIR_COMMENT;
    r->at += (size_t)(found - rest.p) + strlen(end);
    return true;
}

static void skip_space(struct reader *r) {
    do {
        while (peek(r) == ' ' || peek(r) == '\t' || peek(r) == '\n' || peek(r) == '\r') {
            r->at++;
        }
    } while (peek(r) == '/' && skip_comment(r));
}

static int read_value(struct reader *r);

// read_escape copies what follows a backslash; whether it is an escape of JSON is checked with the
// whole.
static int read_escape(struct reader *r) {
    if (take(r, '\'')) {
        r->what |= REPAIR_CONTROL;
        return buf_add_byte(r->out, '\'');
    }
    if (peek(r) < 0) {
        return -EINVAL;
    }
    int rc = buf_add_byte(r->out, '\\');
    return rc != 0 ? rc : buf_add_byte(r->out, r->text.p[r->at++]);
}

static int add_control(struct reader *r, int c) {
    r->what |= REPAIR_CONTROL;
    return buf_addf(r->out, "\\u%04x", (unsigned)c);
}

static int read_string(struct reader *r) {
    char quote = (char)peek(r);
    r->at++;
    r->what |= quote == '\'' ? REPAIR_SINGLE_QUOTES : 0;
    int rc = buf_add_byte(r->out, '"');
    while (rc == 0 && !take(r, quote)) {
        int c = peek(r);
        if (c < 0) {
            return -EINVAL;
        }
        r->at++;
        rc = c == '\\'                  ? read_escape(r)
             : c < 0x20                 ? add_control(r, c)
             : c == '"'                 ? buf_add_str(r->out, "\\\"")
                                        : buf_add_byte(r->out, (char)c);
    }
    return rc != 0 ? rc : buf_add_byte(r->out, '"');
}

static bool is_word(int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '+' || c == '.';
}

static struct slice read_word(struct reader *r) {
    size_t from = r->at;
    while (is_word(peek(r))) {
        r->at++;
    }
    return slice_sub(r->text, from, r->at - from);
}

// read_plain reads a number or a literal.
static int read_plain(struct reader *r) {
    static const struct {
        const char *word, *json;
        unsigned what;
    } words[] = {
        {"true", "true", 0},
        {"false", "false", 0},
        {"null", "null", 0},
        {"True", "true", REPAIR_LITERAL},
        {"False", "false", REPAIR_LITERAL},
        {"None", "null", REPAIR_LITERAL},
        {"NaN", "null", REPAIR_NAN},
        {"Infinity", "null", REPAIR_NAN},
        {"-Infinity", "null", REPAIR_NAN},
    };
    struct slice word = read_word(r);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_is(word, words[i].word)) {
            r->what |= words[i].what;
            return buf_add_str(r->out, words[i].json);
        }
    }
    bool number = word.n > 0 && (word.p[0] == '-' || (word.p[0] >= '0' && word.p[0] <= '9'));
    return number ? buf_add_slice(r->out, word) : -EINVAL; // json_parse looks at it again
}

// read_end asks after an element whether there is one more. 1: yes; 0: no; -EINVAL.
static int read_end(struct reader *r, char close) {
    skip_space(r);
    if (take(r, close)) {
        return 0;
    }
    if (!take(r, ',')) {
        return -EINVAL;
    }
    skip_space(r);
    if (take(r, close)) {
        r->what |= REPAIR_TRAILING_COMMA;
        return 0;
    }
    return buf_add_byte(r->out, ',') == 0 ? 1 : -EMSGSIZE;
}

static int read_array(struct reader *r) {
    r->at++;
    int rc = buf_add_byte(r->out, '[');
    skip_space(r);
    if (rc == 0 && take(r, ']')) {
        return buf_add_byte(r->out, ']');
    }
    do {
        skip_space(r);
        rc = rc < 0 ? rc : read_value(r);
        rc = rc < 0 ? rc : read_end(r, ']');
    } while (rc > 0);
    return rc < 0 ? rc : buf_add_byte(r->out, ']');
}

static int read_key(struct reader *r) {
    if (peek(r) == '"' || peek(r) == '\'') {
        return read_string(r);
    }
    struct slice word = read_word(r);
    if (word.n == 0) {
        return -EINVAL;
    }
    r->what |= REPAIR_BARE_KEY;
    return json_add_string(r->out, word);
}

// A key of the object being read: where it lies in out.
struct key {
    size_t at, n;
};

static bool has_key(const struct reader *r, const struct key *keys, size_t n, struct key key) {
    for (size_t i = 0; i < n; i++) {
        if (keys[i].n == key.n && memcmp(r->out->p + keys[i].at, r->out->p + key.at, key.n) == 0) {
            return true;
        }
    }
    return false;
}

static int read_object(struct reader *r) {
    struct key keys[KEYS_MAX];
    size_t n = 0;
    r->at++;
    int rc = buf_add_byte(r->out, '{');
    skip_space(r);
    if (rc == 0 && take(r, '}')) {
        return buf_add_byte(r->out, '}');
    }
    do {
        struct key key = {.at = r->out->n};
        skip_space(r);
        rc = rc < 0 ? rc : read_key(r);
        key.n = r->out->n - key.at;
        if (rc < 0 || n == KEYS_MAX || has_key(r, keys, n, key)) {
            return -EINVAL;
        }
        keys[n++] = key;
        skip_space(r);
        rc = take(r, ':') ? buf_add_byte(r->out, ':') : -EINVAL;
        skip_space(r);
        rc = rc < 0 ? rc : read_value(r);
        rc = rc < 0 ? rc : read_end(r, '}');
    } while (rc > 0);
    return rc < 0 ? rc : buf_add_byte(r->out, '}');
}

static int read_value(struct reader *r) {
    int c = peek(r), rc;
    if (++r->depth > JSON_MAX_DEPTH) {
        return -EINVAL;
    }
    switch (c) {
    case '[':
        rc = read_array(r);
        break;
    case '{':
        rc = read_object(r);
        break;
    case '"':
    case '\'':
        rc = read_string(r);
        break;
    default:
        rc = read_plain(r);
    }
    r->depth--;
    return rc;
}

size_t repair_json(struct slice text, struct buf *out, unsigned *what) {
    struct reader r = {.text = text, .out = out};
    size_t before = out->n;
    *what = 0;
    if (peek(&r) != '[' && peek(&r) != '{') {
        return 0;
    }
    if (read_value(&r) != 0) {
        if (out->p != NULL) {
            out->n = before;
            out->p[before] = '\0';
        }
        return 0;
    }
    *what = r.what;
    return r.at;
}
