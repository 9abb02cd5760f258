// A compiled JSONPath query, shared by jsonpath_compile.c and jsonpath_filter.c (which make it) and
// jsonpath.c and jsonpath_eval.c (which run it), and by nobody else.
#ifndef HEADRACE_COMMON_JSONPATH_INTERNAL_H
#define HEADRACE_COMMON_JSONPATH_INTERNAL_H

#include "common/jsonpath.h"

// What a selector picks among a node's children (RFC 9535 section 2.3).
enum jsonpath_kind {
    JSONPATH_NAME,     // the member of this name
    JSONPATH_WILDCARD, // every child
    JSONPATH_INDEX,    // one item, from the end when negative
    JSONPATH_SLICE,    // start:end:step
    JSONPATH_FILTER,   // children for which an expression holds
};

struct jsonpath_expr; // below

struct jsonpath_slice {
    int64_t start, end;      // only when has_start, has_end
    int64_t step;            // 1 when not given; 0 selects nothing
    bool has_start, has_end; // the defaults depend on the sign of step
};

struct jsonpath_selector {
    enum jsonpath_kind kind;
    union {
        struct {          // JSONPATH_NAME
            char *name;   // NUL-terminated, owned
            bool has_nul; // a NUL is in it, so no member of a json-c object can have it
        };
        int64_t index;               // JSONPATH_INDEX
        struct jsonpath_slice slice; // JSONPATH_SLICE
        struct jsonpath_expr *filter; // JSONPATH_FILTER, owned
    };
};

// A segment applies its selectors, in their order, to each node that the one before selected.
struct jsonpath_segment {
    struct jsonpath_selector *selectors; // owned
    size_t n_selectors;                  // 1 or more
    bool is_descendant;                  // `..`: to the node and to everything in it
};

struct jsonpath {
    struct jsonpath_segment *segments; // owned
    size_t n_segments;                 // 0: the root itself
};

// ---- Filters ------------------------------------------------------------------------------------

#define JSONPATH_NEST_MAX 32 // expressions in one another: bounds the stack

enum jsonpath_expr_kind {
    EXPR_OR,      // left, right
    EXPR_AND,     // left, right
    EXPR_NOT,     // left
    EXPR_COMPARE, // left, right, op
    EXPR_MATCH,   // left, right: match() of left by the regular expression right
    EXPR_SEARCH,  // the same for search()
    EXPR_QUERY,   // query: whether it finds anything; as a value: its node, if it is singular
    EXPR_LITERAL, // literal
    EXPR_LENGTH,  // left
    EXPR_COUNT,   // left, a query
    EXPR_VALUE,   // left, a query
};

enum jsonpath_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE };

struct iregexp;

struct jsonpath_expr {
    enum jsonpath_expr_kind kind;
    enum jsonpath_op op;               // EXPR_COMPARE
    struct jsonpath_expr *left, *right; // owned
    struct jsonpath query;             // EXPR_QUERY, owned
    bool from_root;                    // the query starts with $, not @
    struct json_object *literal;       // owned; NULL: null
    struct iregexp *regexp;            // right of a match or search, when it is a literal; owned;
                                       // NULL when it is none, or no regular expression
};

void jsonpath_expr_free(struct jsonpath_expr *expr); // expr may be NULL
void jsonpath_clear(struct jsonpath *path);

// ---- Reading ------------------------------------------------------------------------------------

struct jsonpath_parser {
    struct slice text;
    size_t at;         // offset of the next byte
    struct buf string; // the string literal being read, escapes resolved
    size_t n_nested;   // expressions around this place
    struct error *why; // may be NULL
};

// peek returns the next byte, or -1 at the end.
static inline int peek(const struct jsonpath_parser *p) {
    return p->at < p->text.n ? (unsigned char)p->text.p[p->at] : -1;
}

static inline bool take(struct jsonpath_parser *p, char c) {
    if (peek(p) != c) {
        return false;
    }
    p->at++;
    return true;
}

// skip_space: S = *B, B = space, tab, line feed, carriage return.
static inline void skip_space(struct jsonpath_parser *p) {
    while (peek(p) == ' ' || peek(p) == '\t' || peek(p) == '\n' || peek(p) == '\r') {
        p->at++;
    }
}

static inline bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

// jsonpath_fail says what stands at p->at and what should. Returns -EINVAL.
int jsonpath_fail(struct jsonpath_parser *p, const char *want);
// jsonpath_read_string reads a string literal, p at its quote; the content ends up in p->string.
MUST_CHECK int jsonpath_read_string(struct jsonpath_parser *p);
// jsonpath_read_segments reads *(S segment) and stops before what is none.
MUST_CHECK int jsonpath_read_segments(struct jsonpath_parser *p, struct jsonpath *path);
// jsonpath_read_filter reads a logical expression. *expr is to be freed, also after a failure.
MUST_CHECK int jsonpath_read_filter(struct jsonpath_parser *p, struct jsonpath_expr **expr);

// ---- Running ------------------------------------------------------------------------------------

// One run of a query, with the queries in its filters.
struct jsonpath_run {
    struct json_object *root;
    size_t n_left; // steps that may still be done
};

// jsonpath_run_query runs a query from a node and calls found as jsonpath_query does.
MUST_CHECK int jsonpath_run_query(struct jsonpath_run *run, const struct jsonpath *path,
                                  struct json_object *from, jsonpath_found *found, void *arg);
// jsonpath_holds says whether an expression holds for a node: 1 or 0, or -E2BIG.
MUST_CHECK int jsonpath_holds(struct jsonpath_run *run, const struct jsonpath_expr *expr,
                              struct json_object *node);

#endif
