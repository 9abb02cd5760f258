// A JSON document with one long array, as it comes in. Invariant: every byte goes either to `rest`
// or to `element`, and depth is the number of brackets open. Called by uploads.
#include "tests/provider/elements.h"

#include <ctype.h>
#include <errno.h>

#define REST_MAX (1u << 20)

void elements_init(struct elements *e, const char *const *path, size_t n_path, size_t most,
                   elements_sink *sink, void *arg) {
    *e = (struct elements){.n_path = n_path, .sink = sink, .arg = arg};
    for (size_t i = 0; i < n_path; i++) {
        e->path[i] = path[i];
    }
    buf_init(&e->rest, REST_MAX);
    buf_init(&e->element, most);
}

void elements_free(struct elements *e) {
    buf_free(&e->rest);
    buf_free(&e->element);
}

// is_named compares the last name with "aName", of which "a_name" is another spelling.
static bool is_named(const struct elements *e, const char *want) {
    size_t at = 0;
    for (size_t i = 0; i < e->n_name; i++) {
        char c = e->name[i];
        if (c == '_' && want[at] != '_' && i + 1 < e->n_name) {
            c = (char)toupper((unsigned char)e->name[++i]);
        }
        if (want[at] == '\0' || c != want[at]) {
            return false;
        }
        at++;
    }
    return want[at] == '\0';
}

static int keep(struct elements *e, char c, struct error *why) {
    int rc = e->inside ? buf_add_byte(&e->element, c == '\n' || c == '\r' ? ' ' : c)
                       : buf_add_byte(&e->rest, c);
    return rc == 0 ? 0
                   : error_set(why, -EINVAL,
                               e->inside ? "a request of the batch is too long"
                                         : "the document is too long");
}

// give hands the element on.
static int give(struct elements *e, struct error *why) {
    struct slice element = slice_trim(buf_slice(&e->element));
    if (element.n == 0) {
        return error_set(why, -EINVAL, "the array of requests has a comma too many");
    }
    int rc = e->sink(e->arg, element);
    if (e->element.cap > (1u << 20)) {
        buf_free(&e->element); // one long element is no reason to keep its room
    }
    buf_clear(&e->element);
    return rc;
}

static int open_bracket(struct elements *e, char c, struct error *why) {
    if (e->depth == ELEMENTS_DEPTH_MAX) {
        return error_set(why, -EINVAL, "more than %d levels", ELEMENTS_DEPTH_MAX);
    }
    bool on_path = !e->inside && e->matched == e->depth - (e->depth > 0) && e->depth <= e->n_path &&
                   (e->depth == 0 || (e->is_value && is_named(e, e->path[e->depth - 1])));
    int rc = keep(e, c, why);
    if (on_path && c == '[' && e->depth == e->n_path && !e->found) {
        e->inside = e->found = true;
    } else if (on_path && c == '{') {
        e->matched = e->depth;
    }
    e->brackets[e->depth++] = c;
    e->is_value = false;
    return rc;
}

static int close_bracket(struct elements *e, char c, struct error *why) {
    if (e->depth == 0 || e->brackets[e->depth - 1] != (c == '}' ? '{' : '[')) {
        return error_set(why, -EINVAL, "a bracket is closed that is not open");
    }
    e->depth--;
    int rc = 0;
    if (e->inside && e->depth == e->n_path) {
        bool none = slice_trim(buf_slice(&e->element)).n == 0;
        rc = none && !e->comma ? 0 : give(e, why);
        e->inside = false;
    }
    if (!e->inside && e->matched > 0 && e->depth <= e->matched) {
        e->matched = e->depth > 0 ? e->depth - 1 : 0;
    }
    e->is_value = false;
    return rc != 0 ? rc : keep(e, c, why);
}

static int add_string_byte(struct elements *e, char c, struct error *why) {
    if (e->escaped) {
        e->escaped = false;
    } else if (c == '\\') {
        e->escaped = true;
    } else if (c == '"') {
        e->in_string = false;
    }
    if (e->in_string && !e->inside) {
        e->n_name += e->n_name <= ELEMENTS_NAME_MAX;
        e->name[e->n_name - 1] = c;
    }
    return (unsigned char)c < 0x20
               ? error_set(why, -EINVAL, "a control character stands in a string")
               : keep(e, c, why);
}

static int add_byte(struct elements *e, char c, struct error *why) {
    switch (c) {
    case '"':
        e->in_string = true;
        e->n_name = e->inside ? e->n_name : 0;
        return keep(e, c, why);
    case '{':
    case '[':
        return open_bracket(e, c, why);
    case '}':
    case ']':
        return close_bracket(e, c, why);
    case ':':
        e->is_value = true;
        return keep(e, c, why);
    case ',':
        e->is_value = false;
        if (e->inside && e->depth == e->n_path + 1) {
            e->comma = true;
            return give(e, why);
        }
        return keep(e, c, why);
    default:
        return keep(e, c, why);
    }
}

int elements_add(struct elements *e, struct slice bytes, struct error *why) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < bytes.n; i++) {
        rc = e->in_string ? add_string_byte(e, bytes.p[i], why) : add_byte(e, bytes.p[i], why);
    }
    return rc;
}

int elements_end(const struct elements *e, struct error *why) {
    return e->depth == 0 && !e->in_string
               ? 0
               : error_set(why, -EINVAL, "the document ends in the middle");
}
