// Runs the expression of a filter for one node. Invariant: each expression, each node looked at and
// each pair compared is counted in run->n_left, so that the time is bounded; the expression's
// nesting and the document's depth bound the stack. Called by jsonpath.c.
#include "common/iregexp.h"
#include "common/json.h"
#include "common/jsonpath_internal.h"

#include <errno.h>
#include <string.h>

#define REGEXP_COST      64    // steps that one match counts for, beside its bytes
#define REGEXP_LOST_COST 20000 // of one that was given up

// A value of RFC 9535's ValueType.
struct operand {
    bool nothing;             // there is no value
    bool is_count;            // the value is count
    int64_t count;
    struct json_object *json; // else this; borrowed; NULL: null
};

static int spend(struct jsonpath_run *run, size_t n) {
    if (run->n_left < n) {
        run->n_left = 0;
        return -E2BIG;
    }
    run->n_left -= n;
    return 0;
}

struct finding {
    struct json_object *first;
    int64_t n, most; // most: enough to know
};

static int on_node(void *arg, struct json_object *value) {
    struct finding *f = arg;
    f->first = f->n == 0 ? value : f->first;
    return ++f->n >= f->most ? 1 : 0;
}

// find runs a filter's query. Returns 0 or -E2BIG.
static int find(struct jsonpath_run *run, const struct jsonpath_expr *expr,
                struct json_object *node, int64_t most, struct finding *out) {
    *out = (struct finding){.most = most};
    int rc = jsonpath_run_query(run, &expr->query, expr->from_root ? run->root : node, on_node, out);
    return rc < 0 ? rc : 0;
}

// length_of: RFC 9535 section 2.4.4: characters, elements or members.
static struct operand length_of(const struct operand *of) {
    struct operand out = {.is_count = true};
    struct json_object *json = of->nothing || of->is_count ? NULL : of->json;
    struct slice text = json_text(json);
    switch (json_object_get_type(json)) {
    case json_type_string:
        for (size_t i = 0; i < text.n; i++) {
            out.count += ((unsigned char)text.p[i] & 0xC0) != 0x80;
        }
        return out;
    case json_type_array:
        out.count = (int64_t)json_object_array_length(json);
        return out;
    case json_type_object:
        out.count = json_object_object_length(json);
        return out;
    default:
        return (struct operand){.nothing = true};
    }
}

// evaluate finds the value of an expression of ValueType.
static int evaluate(struct jsonpath_run *run, const struct jsonpath_expr *expr,
                    struct json_object *node, struct operand *out) {
    struct finding f = {0};
    struct operand inner;
    int rc = spend(run, 1);
    *out = (struct operand){0};
    if (rc != 0) {
        return rc;
    }
    switch (expr->kind) {
    case EXPR_LITERAL:
        out->json = expr->literal;
        return 0;
    case EXPR_LENGTH:
        rc = evaluate(run, expr->left, node, &inner);
        rc = rc != 0 ? rc : spend(run, json_text(inner.json).n / 16);
        *out = rc == 0 ? length_of(&inner) : *out;
        return rc;
    case EXPR_COUNT:
        rc = find(run, expr->left, node, INT64_MAX, &f);
        *out = (struct operand){.is_count = true, .count = f.n};
        return rc;
    case EXPR_VALUE:
        rc = find(run, expr->left, node, 2, &f);
        break;
    default: // a singular query
        rc = find(run, expr, node, 2, &f);
    }
    *out = (struct operand){.nothing = f.n != 1, .json = f.first};
    return rc;
}

// ---- Comparing ----------------------------------------------------------------------------------

struct number {
    bool is_whole, is_large; // large: past int64, in u
    int64_t i;
    uint64_t u;
    double d;
};

static bool number_of(const struct operand *of, struct number *out) {
    struct json_object *json = of->json;
    *out = (struct number){0};
    if (of->is_count) {
        *out = (struct number){.is_whole = true, .i = of->count, .d = (double)of->count};
        return true;
    }
    if (json_object_is_type(json, json_type_int)) {
        out->is_whole = true;
        out->i = json_object_get_int64(json);
        out->u = out->i > 0 ? json_object_get_uint64(json) : 0;
        out->is_large = out->u > INT64_MAX;
        out->d = out->is_large ? (double)out->u : (double)out->i;
        return true;
    }
    out->d = json_object_is_type(json, json_type_double) ? json_object_get_double(json) : 0;
    return json_object_is_type(json, json_type_double);
}

static int compare_numbers(const struct number *a, const struct number *b) {
    if (!a->is_whole || !b->is_whole) {
        return (a->d > b->d) - (a->d < b->d);
    }
    if (a->is_large || b->is_large) {
        return a->is_large && b->is_large ? (a->u > b->u) - (a->u < b->u)
                                          : (int)a->is_large - (int)b->is_large;
    }
    return (a->i > b->i) - (a->i < b->i);
}

static int is_equal(struct jsonpath_run *run, struct json_object *a, struct json_object *b);

static int is_equal_array(struct jsonpath_run *run, struct json_object *a, struct json_object *b) {
    size_t n = json_object_array_length(a);
    int rc = n == json_object_array_length(b);
    for (size_t i = 0; rc == 1 && i < n; i++) {
        rc = is_equal(run, json_object_array_get_idx(a, i), json_object_array_get_idx(b, i));
    }
    return rc;
}

static int is_equal_object(struct jsonpath_run *run, struct json_object *a, struct json_object *b) {
    int rc = json_object_object_length(a) == json_object_object_length(b);
    json_object_object_foreach(a, name, member) {
        struct json_object *other = NULL;
        if (rc == 1) {
            rc = json_object_object_get_ex(b, name, &other) ? is_equal(run, member, other) : 0;
        }
        if (rc != 1) {
            break;
        }
    }
    return rc;
}

// is_equal compares two values whole. Returns 1, 0 or -E2BIG.
static int is_equal(struct jsonpath_run *run, struct json_object *a, struct json_object *b) {
    struct number x, y;
    int rc = spend(run, 1 + json_text(a).n / 64);
    if (rc != 0) {
        return rc;
    }
    bool is_number = number_of(&(struct operand){.json = a}, &x);
    if (is_number != number_of(&(struct operand){.json = b}, &y)) {
        return 0;
    }
    if (is_number) {
        return compare_numbers(&x, &y) == 0;
    }
    if (json_object_get_type(a) != json_object_get_type(b)) {
        return 0;
    }
    switch (json_object_get_type(a)) {
    case json_type_string:
        return slice_eq(json_text(a), json_text(b));
    case json_type_boolean:
        return json_object_get_boolean(a) == json_object_get_boolean(b);
    case json_type_array:
        return is_equal_array(run, a, b);
    case json_type_object:
        return is_equal_object(run, a, b);
    default:
        return 1; // null
    }
}

static int compare_text(struct slice a, struct slice b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0; // the order of bytes is that of characters in UTF-8
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

// is_less: only numbers and strings have an order.
static int is_less(const struct operand *a, const struct operand *b) {
    struct number x, y;
    if (number_of(a, &x)) {
        return number_of(b, &y) && compare_numbers(&x, &y) < 0;
    }
    return !a->is_count && !b->is_count && json_object_is_type(a->json, json_type_string) &&
           json_object_is_type(b->json, json_type_string) &&
           compare_text(json_text(a->json), json_text(b->json)) < 0;
}

static int is_same(struct jsonpath_run *run, const struct operand *a, const struct operand *b) {
    struct number x, y;
    if (a->nothing || b->nothing) {
        return a->nothing && b->nothing;
    }
    if (a->is_count || b->is_count) {
        return number_of(a, &x) && number_of(b, &y) && compare_numbers(&x, &y) == 0;
    }
    return is_equal(run, a->json, b->json);
}

// compare: RFC 9535 section 2.3.5.2.2. Nothing is equal to nothing and less than nothing.
static int compare(struct jsonpath_run *run, enum jsonpath_op op, const struct operand *a,
                   const struct operand *b) {
    bool ordered = !a->nothing && !b->nothing;
    int rc;
    switch (op) {
    case OP_EQ:
        return is_same(run, a, b);
    case OP_NE:
        rc = is_same(run, a, b);
        return rc < 0 ? rc : !rc;
    case OP_LT:
        return ordered && is_less(a, b);
    case OP_GT:
        return ordered && is_less(b, a);
    case OP_LE:
        return ordered && is_less(a, b) ? 1 : is_same(run, a, b);
    case OP_GE:
        return ordered && is_less(b, a) ? 1 : is_same(run, a, b);
    }
    return 0;
}

// ---- Tests --------------------------------------------------------------------------------------

static int matches(struct jsonpath_run *run, const struct iregexp *re, struct slice text) {
    int rc = iregexp_matches(re, text);
    return rc >= 0 ? rc : spend(run, REGEXP_LOST_COST);
}

// holds_regexp: match() and search(), RFC 9535 sections 2.4.6 and 2.4.7.
static int holds_regexp(struct jsonpath_run *run, const struct jsonpath_expr *expr,
                        struct json_object *node) {
    struct operand text, regexp;
    int rc = evaluate(run, expr->left, node, &text);
    rc = rc != 0 ? rc : evaluate(run, expr->right, node, &regexp);
    if (rc != 0) {
        return rc;
    }
    bool usable = !text.nothing && !text.is_count && !regexp.nothing && !regexp.is_count &&
                  json_object_is_type(text.json, json_type_string) &&
                  json_object_is_type(regexp.json, json_type_string);
    rc = spend(run, REGEXP_COST + (usable ? json_text(text.json).n : 0));
    if (rc != 0 || !usable) {
        return rc;
    }
    if (expr->right->kind == EXPR_LITERAL) {
        return expr->regexp != NULL ? matches(run, expr->regexp, json_text(text.json)) : 0;
    }
    rc = spend(run, REGEXP_COST + json_text(regexp.json).n);
    struct iregexp *re =
        rc == 0 ? iregexp_compile(json_text(regexp.json), expr->kind == EXPR_MATCH) : NULL;
    rc = rc == 0 && re != NULL ? matches(run, re, json_text(text.json)) : rc;
    iregexp_free(re);
    return rc;
}

int jsonpath_holds(struct jsonpath_run *run, const struct jsonpath_expr *expr,
                   struct json_object *node) {
    struct finding f;
    struct operand a, b;
    int rc = spend(run, 1);
    for (; rc == 0 && (expr->kind == EXPR_OR || expr->kind == EXPR_AND); expr = expr->right) {
        int holds = jsonpath_holds(run, expr->left, node);
        if (holds < 0 || holds == (expr->kind == EXPR_OR)) {
            return holds;
        }
        rc = spend(run, 1);
    }
    if (rc != 0) {
        return rc;
    }
    switch (expr->kind) {
    case EXPR_NOT:
        rc = jsonpath_holds(run, expr->left, node);
        return rc < 0 ? rc : !rc;
    case EXPR_COMPARE:
        rc = evaluate(run, expr->left, node, &a);
        rc = rc != 0 ? rc : evaluate(run, expr->right, node, &b);
        return rc != 0 ? rc : compare(run, expr->op, &a, &b);
    case EXPR_MATCH:
    case EXPR_SEARCH:
        return holds_regexp(run, expr, node);
    default: // a query that stands as a test
        rc = find(run, expr, node, 1, &f);
        return rc != 0 ? rc : f.n > 0;
    }
}
