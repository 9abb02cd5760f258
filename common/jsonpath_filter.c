// Reads the expression of a filter selector into a tree. One function a rule of the grammar, each
// named in its comment. Invariant: what is read is well-typed (RFC 9535 section 2.4.3), so that
// running it cannot fail for its sake. Called by jsonpath_compile.c.
#include "common/iregexp.h"
#include "common/json.h"
#include "common/jsonpath_internal.h"
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>

void jsonpath_expr_free(struct jsonpath_expr *expr) {
    while (expr != NULL) { // chains lean right
        struct jsonpath_expr *right = expr->right;
        jsonpath_expr_free(expr->left);
        jsonpath_clear(&expr->query);
        json_object_put(expr->literal);
        iregexp_free(expr->regexp);
        free(expr);
        expr = right;
    }
}

static struct jsonpath_expr *expr_new(enum jsonpath_expr_kind kind) {
    struct jsonpath_expr *expr = mem_zalloc(sizeof(*expr));
    expr->kind = kind;
    return expr;
}

// is_singular: a query that finds one node at most (RFC 9535 section 2.3.5.1).
static bool is_singular(const struct jsonpath *query) {
    for (size_t i = 0; i < query->n_segments; i++) {
        const struct jsonpath_segment *s = &query->segments[i];
        if (s->is_descendant || s->n_selectors != 1 ||
            (s->selectors[0].kind != JSONPATH_NAME && s->selectors[0].kind != JSONPATH_INDEX)) {
            return false;
        }
    }
    return true;
}

// is_value asks whether an expression is of ValueType.
static bool is_value(const struct jsonpath_expr *expr) {
    switch (expr->kind) {
    case EXPR_LITERAL:
    case EXPR_LENGTH:
    case EXPR_COUNT:
    case EXPR_VALUE:
        return true;
    case EXPR_QUERY:
        return is_singular(&expr->query);
    default:
        return false;
    }
}

// is_logical asks whether an expression may stand as a test.
static bool is_logical(const struct jsonpath_expr *expr) {
    return expr->kind == EXPR_MATCH || expr->kind == EXPR_SEARCH || expr->kind == EXPR_QUERY;
}

// read_query: filter-query = rel-query / jsonpath-query.
static int read_query(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    *expr = expr_new(EXPR_QUERY);
    (*expr)->from_root = peek(p) == '$';
    p->at++;
    return jsonpath_read_segments(p, &(*expr)->query);
}

// number_end returns where a number ends: number = (int / "-0") [ frac ] [ exp ].
static size_t number_end(const struct jsonpath_parser *p) {
    size_t at = p->at;
    while (at < p->text.n && (is_digit(p->text.p[at]) || strchr("+-.eE", p->text.p[at]) != NULL) &&
           p->text.p[at] != '\0') {
        at++;
    }
    return at;
}

// read_literal: literal = number / string-literal; true, false and null are read_word's.
static int read_literal(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    *expr = expr_new(EXPR_LITERAL);
    if (peek(p) == '\'' || peek(p) == '"') {
        int rc = jsonpath_read_string(p);
        struct slice s = buf_slice(&p->string);
        (*expr)->literal = json_object_new_string_len(s.n > 0 ? s.p : "", (int)s.n);
        return rc;
    }
    size_t end = number_end(p);
    struct slice text = slice_sub(p->text, p->at, end - p->at);
    if (json_parse(text, &(*expr)->literal, NULL) != 0) { // JSON's numbers are the same
        return jsonpath_fail(p, "a number as in JSON");
    }
    p->at = end;
    return 0;
}

enum parameter { OF_VALUE = 1, OF_NODES };

static const struct function {
    const char *name;
    enum jsonpath_expr_kind kind;
    enum parameter parameters[2];
} functions[] = {
    {.name = "length", .kind = EXPR_LENGTH, .parameters = {OF_VALUE}},
    {.name = "count", .kind = EXPR_COUNT, .parameters = {OF_NODES}},
    {.name = "value", .kind = EXPR_VALUE, .parameters = {OF_NODES}},
    {.name = "match", .kind = EXPR_MATCH, .parameters = {OF_VALUE, OF_VALUE}},
    {.name = "search", .kind = EXPR_SEARCH, .parameters = {OF_VALUE, OF_VALUE}},
};

static int read_operand(struct jsonpath_parser *p, struct jsonpath_expr **expr);

static int read_argument(struct jsonpath_parser *p, enum parameter type,
                         struct jsonpath_expr **expr) {
    size_t from = p->at;
    int rc = read_operand(p, expr);
    if (rc != 0) {
        return rc;
    }
    bool fits = type == OF_VALUE ? is_value(*expr) : (*expr)->kind == EXPR_QUERY;
    if (!fits) {
        p->at = from;
        return jsonpath_fail(p, type == OF_VALUE ? "a value: a literal, a query for one node, or a "
                                                   "function that returns a value"
                                                 : "a query");
    }
    return 0;
}

// read_call: function-expr = function-name "(" S [argument *(S "," S argument)] S ")", after "(".
static int read_call(struct jsonpath_parser *p, const struct function *f,
                     struct jsonpath_expr **expr) {
    *expr = expr_new(f->kind);
    struct jsonpath_expr **arguments[2] = {&(*expr)->left, &(*expr)->right};
    for (size_t i = 0; i < 2 && f->parameters[i] != 0; i++) {
        skip_space(p);
        if (i > 0 && !take(p, ',')) {
            return jsonpath_fail(p, "',' and another argument");
        }
        skip_space(p);
        int rc = read_argument(p, f->parameters[i], arguments[i]);
        if (rc != 0) {
            return rc;
        }
    }
    skip_space(p);
    if (!take(p, ')')) {
        return jsonpath_fail(p, "')' after the function's arguments");
    }
    const struct jsonpath_expr *right = (*expr)->right;
    if (right != NULL && right->kind == EXPR_LITERAL &&
        json_object_is_type(right->literal, json_type_string)) {
        (*expr)->regexp = iregexp_compile(json_text(right->literal), f->kind == EXPR_MATCH);
    }
    return 0;
}

// read_word: true, false, null, or a function; function-name = LCALPHA *(LCALPHA / "_" / DIGIT).
static int read_word(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    size_t from = p->at;
    while ((peek(p) >= 'a' && peek(p) <= 'z') || peek(p) == '_' || is_digit(peek(p))) {
        p->at++;
    }
    struct slice word = slice_sub(p->text, from, p->at - from);
    bool is_call = take(p, '(');
    for (size_t i = 0; is_call && i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (slice_is(word, functions[i].name)) {
            return read_call(p, &functions[i], expr);
        }
    }
    if (!is_call && (slice_is(word, "true") || slice_is(word, "false") || slice_is(word, "null"))) {
        *expr = expr_new(EXPR_LITERAL);
        bool is_null = slice_is(word, "null");
        (*expr)->literal = is_null ? NULL : json_object_new_boolean(slice_is(word, "true"));
        return 0;
    }
    p->at = from;
    return jsonpath_fail(p, "true, false, null, length(), count(), match(), search() or value()");
}

// read_operand: what can stand on a side of a comparison, as a test, or as an argument.
static int read_operand(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    int c = peek(p), rc;
    if (++p->n_nested > JSONPATH_NEST_MAX) {
        rc = jsonpath_fail(p, "less nesting than 32 levels");
    } else if (c == '@' || c == '$') {
        rc = read_query(p, expr);
    } else if (c == '\'' || c == '"' || c == '-' || is_digit(c)) {
        rc = read_literal(p, expr);
    } else if (c >= 'a' && c <= 'z') {
        rc = read_word(p, expr);
    } else {
        rc = jsonpath_fail(p, "'@', '$', a literal, a function, '!' or '('");
    }
    p->n_nested--;
    return rc;
}

// take_op: comparison-op.
static bool take_op(struct jsonpath_parser *p, enum jsonpath_op *op) {
    static const struct {
        const char *text;
        enum jsonpath_op op;
    } ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"<", OP_LT}, {">", OP_GT}};
    struct slice rest = slice_sub(p->text, p->at, p->text.n);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (slice_starts(rest, ops[i].text)) {
            *op = ops[i].op;
            p->at += strlen(ops[i].text);
            return true;
        }
    }
    return false;
}

// want_value refuses what cannot be compared.
static int want_value(struct jsonpath_parser *p, size_t at, const struct jsonpath_expr *expr) {
    if (is_value(expr)) {
        return 0;
    }
    p->at = at;
    return jsonpath_fail(p, "a value to compare: a query that finds more than one node is none");
}

// read_comparison: comparison-expr = comparable S comparison-op S comparable; or a test-expr.
static int read_comparison(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    size_t from = p->at;
    struct jsonpath_expr *left = NULL;
    int rc = read_operand(p, &left);
    *expr = left;
    if (rc != 0) {
        return rc;
    }
    size_t after = p->at;
    enum jsonpath_op op;
    skip_space(p);
    if (!take_op(p, &op)) {
        bool is_test = is_logical(left);
        p->at = is_test ? after : from;
        return is_test ? 0 : jsonpath_fail(p, "a comparison or a query: a value alone is no test");
    }
    *expr = expr_new(EXPR_COMPARE);
    (*expr)->op = op;
    (*expr)->left = left;
    rc = want_value(p, from, left);
    skip_space(p);
    size_t right = p->at;
    rc = rc != 0 ? rc : read_operand(p, &(*expr)->right);
    return rc != 0 ? rc : want_value(p, right, (*expr)->right);
}

// read_basic: basic-expr = paren-expr / comparison-expr / test-expr.
static int read_basic(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    if (take(p, '!')) {
        *expr = expr_new(EXPR_NOT);
        skip_space(p);
        if (peek(p) == '(') {
            return read_basic(p, &(*expr)->left);
        }
        size_t from = p->at;
        int rc = read_operand(p, &(*expr)->left);
        if (rc == 0 && !is_logical((*expr)->left)) {
            p->at = from;
            rc = jsonpath_fail(p, "a query, match(), search() or '(' after '!'");
        }
        return rc;
    }
    if (!take(p, '(')) {
        return read_comparison(p, expr);
    }
    skip_space(p);
    int rc = jsonpath_read_filter(p, expr);
    skip_space(p);
    return rc != 0 ? rc : take(p, ')') ? 0 : jsonpath_fail(p, "'&&', '||' or ')'");
}

// read_joined: logical-and-expr = basic-expr *(S "&&" S basic-expr), logical-or-expr the same of
// those with "||".
static int read_joined(struct jsonpath_parser *p, enum jsonpath_expr_kind kind,
                       struct jsonpath_expr **expr) {
    char sign = kind == EXPR_OR ? '|' : '&';
    int rc = kind == EXPR_OR ? read_joined(p, EXPR_AND, expr) : read_basic(p, expr);
    for (struct jsonpath_expr **last = expr; rc == 0;) {
        size_t from = p->at;
        skip_space(p);
        if (!take(p, sign) || !take(p, sign)) {
            p->at = from;
            return 0;
        }
        skip_space(p);
        struct jsonpath_expr *both = expr_new(kind); // the chain leans right, read from the left
        both->left = *last;
        *last = both;
        last = &both->right;
        rc = kind == EXPR_OR ? read_joined(p, EXPR_AND, last) : read_basic(p, last);
    }
    return rc;
}

// jsonpath_read_filter: logical-expr = logical-or-expr.
int jsonpath_read_filter(struct jsonpath_parser *p, struct jsonpath_expr **expr) {
    *expr = NULL;
    if (++p->n_nested > JSONPATH_NEST_MAX) {
        return jsonpath_fail(p, "less nesting than 32 levels");
    }
    int rc = read_joined(p, EXPR_OR, expr);
    p->n_nested--;
    return rc;
}
