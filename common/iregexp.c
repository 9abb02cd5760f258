// Checks an I-Regexp by its grammar and writes it anew for PCRE2. One function a rule of RFC 9485
// section 4, each named in its comment. Invariant: what PCRE2 gets holds no construct of its own
// beyond groups, classes, quantifiers and categories. Called by jsonpath.
#include "common/iregexp.h"

#include "common/mem.h"
#include "common/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES  4096
#define MOST_NESTED 60

struct iregexp {
    struct pattern *pattern;
};

struct reader {
    struct slice text;
    size_t at;
    size_t n_nested;
    struct buf *out;
};

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

static bool is_one_of(int c, const char *set) {
    return c > 0 && strchr(set, c) != NULL;
}

// take_into copies the next byte.
static int take_into(struct reader *r) {
    return buf_add_byte(r->out, r->text.p[r->at++]);
}

// read_category: "{" charProp "}", after \p or \P.
static int read_category(struct reader *r) {
    static const struct {
        char group;
        const char *members;
    } groups[] = {{'L', "lmotu"}, {'M', "cen"}, {'N', "dlo"},  {'P', "cdefios"},
                  {'Z', "lps"},   {'S', "ckmo"}, {'C', "cfno"}};
    int rc = peek(r) == '{' ? take_into(r) : -EINVAL;
    const char *members = NULL;
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        members = peek(r) == groups[i].group ? groups[i].members : members;
    }
    if (rc != 0 || members == NULL) {
        return -EINVAL;
    }
    rc = take_into(r);
    if (rc == 0 && is_one_of(peek(r), members)) {
        rc = take_into(r);
    }
    return rc == 0 && peek(r) == '}' ? take_into(r) : -EINVAL;
}

// read_escape: SingleCharEsc, or with is_class also charClassEsc. *is_class says which it was.
static int read_escape(struct reader *r, bool *is_class) {
    r->at++;
    int rc = buf_add_byte(r->out, '\\');
    int c = peek(r);
    if (rc == 0 && *is_class && (c == 'p' || c == 'P')) {
        rc = take_into(r);
        return rc == 0 ? read_category(r) : rc;
    }
    *is_class = false;
    return rc == 0 && is_one_of(c, "()*+-.?[\\]^nrt{|}") ? take_into(r) : -EINVAL;
}

// read_plain copies a character that means itself.
static int read_plain(struct reader *r, bool in_class) {
    int c = peek(r);
    if (c < 0x80 && (in_class ? is_one_of(c, "^&~:=.") : is_one_of(c, "#&~"))) {
        int rc = buf_add_byte(r->out, '\\');
        return rc == 0 ? take_into(r) : rc;
    }
    int rc = take_into(r);
    while (rc == 0 && (peek(r) & 0xC0) == 0x80 && peek(r) >= 0) {
        rc = take_into(r);
    }
    return rc;
}

// read_cc_char: CCchar. A class escape is one too where is_class allows it.
static int read_cc_char(struct reader *r, bool *is_class) {
    int c = peek(r);
    if (c == '\\') {
        return read_escape(r, is_class);
    }
    *is_class = false;
    return c < 0 || is_one_of(c, "-[]") ? -EINVAL : read_plain(r, true);
}

// read_class: charClassExpr = "[" [ "^" ] ( "-" / CCE1 ) *CCE1 [ "-" ] "]".
static int read_class(struct reader *r) {
    int rc = take_into(r);
    if (rc == 0 && peek(r) == '^') {
        rc = take_into(r);
    }
    for (bool first = true; rc == 0 && (first || peek(r) != ']'); first = false) {
        bool is_class = true;
        if (take(r, '-')) { // first or last
            rc = first || peek(r) == ']' ? buf_add_str(r->out, "\\-") : -EINVAL;
            continue;
        }
        rc = read_cc_char(r, &is_class);
        bool is_range = peek(r) == '-' && r->at + 1 < r->text.n && r->text.p[r->at + 1] != ']';
        if (rc == 0 && is_range) {
            rc = is_class ? -EINVAL : take_into(r);
            bool is_end_class = false;
            rc = rc != 0 ? rc : read_cc_char(r, &is_end_class);
        }
    }
    return rc == 0 ? take_into(r) : rc;
}

static int read_digits(struct reader *r) {
    int rc = peek(r) >= '0' && peek(r) <= '9' ? 0 : -EINVAL;
    while (rc == 0 && peek(r) >= '0' && peek(r) <= '9') {
        rc = take_into(r);
    }
    return rc;
}

// read_quantifier: quantifier = "*" / "+" / "?" / "{" QuantExact [ "," [ QuantExact ] ] "}".
static int read_quantifier(struct reader *r) {
    if (is_one_of(peek(r), "*+?")) {
        return take_into(r);
    }
    if (peek(r) != '{') {
        return 0;
    }
    int rc = take_into(r);
    rc = rc != 0 ? rc : read_digits(r);
    if (rc == 0 && peek(r) == ',') {
        rc = take_into(r);
        rc = rc != 0 || peek(r) == '}' ? rc : read_digits(r);
    }
    return rc == 0 && peek(r) == '}' ? take_into(r) : -EINVAL;
}

static int read_branches(struct reader *r);

static int read_group(struct reader *r) {
    r->at++;
    int rc = ++r->n_nested > MOST_NESTED ? -EINVAL : buf_add_str(r->out, "(?:");
    rc = rc != 0 ? rc : read_branches(r);
    r->n_nested--;
    return rc == 0 && peek(r) == ')' ? take_into(r) : -EINVAL;
}

// read_atom: atom = NormalChar / charClass / ( "(" i-regexp ")" ).
static int read_atom(struct reader *r) {
    bool is_class = true;
    switch (peek(r)) {
    case '(':
        return read_group(r);
    case '[':
        return read_class(r);
    case '\\':
        return read_escape(r, &is_class);
    case '.':
        r->at++;
        return buf_add_str(r->out, "[^\\n\\r]");
    default:
        return is_one_of(peek(r), ")*+?]{}|") ? -EINVAL : read_plain(r, false);
    }
}

// read_branches: i-regexp = branch *( "|" branch ), branch = *( atom [ quantifier ] ).
static int read_branches(struct reader *r) {
    int rc = 0;
    while (rc == 0 && peek(r) >= 0 && peek(r) != ')') {
        if (peek(r) == '|') {
            rc = take_into(r);
            continue;
        }
        rc = read_atom(r);
        rc = rc != 0 ? rc : read_quantifier(r);
    }
    return rc;
}

struct iregexp *iregexp_compile(struct slice text, bool whole) {
    if (text.n > MOST_BYTES || slice_utf8_error(text) >= 0) {
        return NULL;
    }
    struct buf out;
    buf_init(&out, 8 * MOST_BYTES);
    struct reader r = {.text = text, .out = &out};
    int rc = buf_add_str(&out, "(?:");
    rc = rc != 0 ? rc : read_branches(&r);
    rc = rc != 0 ? rc : buf_add_byte(&out, ')');
    struct pattern *pattern = NULL;
    if (rc == 0 && r.at == text.n) {
        pattern = pattern_compile(buf_slice(&out), whole ? PATTERN_WHOLE : 0, NULL);
    }
    buf_free(&out);
    if (pattern == NULL) {
        return NULL;
    }
    struct iregexp *re = mem_zalloc(sizeof(*re));
    re->pattern = pattern;
    return re;
}

void iregexp_free(struct iregexp *re) {
    if (re != NULL) {
        pattern_free(re->pattern);
        free(re);
    }
}

int iregexp_matches(const struct iregexp *re, struct slice text) {
    size_t at, end;
    return pattern_match(re->pattern, text, 0, &at, &end);
}
