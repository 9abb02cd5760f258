// Renders a compiled template. Contexts are frames on the C stack, each pointing at the one around
// it; the compiler bounds sections in one another and MOST_PARTIALS bounds partials, so the stack
// is bounded too. Invariant: a failed rendering leaves out as it was. Called for each prompt.
#include "common/template_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PARTIALS 32 // in one another

struct frame {
    struct template_value value; // its text, if any, holds as long as the frame
    const struct frame *up;      // the context around it, NULL for the root
};

// indent is the blanks before a partial alone on its line: they go before each of its lines.
struct indent {
    struct slice blanks;
    const struct indent *up; // of the partial around it, which go first
};

struct renderer {
    const struct template_source *source;
    struct buf *out;
    const struct indent *indent; // NULL when the lines are not moved
    bool is_line_start;          // nothing of this line of the template was written yet
    int n_partials;              // in how many partials we are
};

static int render_range(struct renderer *r, const struct template *t, size_t from, size_t to,
                        const struct frame *top);

static int add_indent(struct renderer *r, const struct indent *indent) {
    if (indent == NULL) {
        return 0;
    }
    int rc = add_indent(r, indent->up);
    return rc == 0 ? buf_add_slice(r->out, indent->blanks) : rc;
}

static int start_line(struct renderer *r) {
    if (!r->is_line_start) {
        return 0;
    }
    r->is_line_start = false;
    return add_indent(r, r->indent);
}

static int render_literal(struct renderer *r, struct slice text) {
    if (r->indent == NULL) {
        return buf_add_slice(r->out, text);
    }
    int rc = 0;
    while (rc == 0 && text.n > 0) {
        const char *newline = memchr(text.p, '\n', text.n);
        size_t n = newline != NULL ? (size_t)(newline - text.p) + 1 : text.n;
        rc = start_line(r);
        if (rc == 0) {
            rc = buf_add(r->out, text.p, n);
        }
        r->is_line_start = newline != NULL;
        text = slice_sub(text, n, text.n);
    }
    return rc;
}

// cut_name takes the part of a dotted name before its first dot.
static struct slice cut_name(struct slice *name) {
    const char *dot = memchr(name->p, '.', name->n);
    size_t n = dot != NULL ? (size_t)(dot - name->p) : name->n;
    struct slice first = slice_sub(*name, 0, n);
    *name = slice_sub(*name, n + 1, name->n);
    return first;
}

// look_up finds a name's value. The first part is searched for outwards; what follows a dot only in
// what the part before it gave. What is not there is falsy.
static struct template_value look_up(struct renderer *r, const struct frame *top,
                                     struct slice name) {
    const struct template_source *source = r->source;
    if (slice_is(name, ".")) {
        return top->value;
    }
    struct template_value value = {.kind = TEMPLATE_FALSE};
    struct slice part = cut_name(&name);
    const struct frame *f = top;
    while (f != NULL && !(f->value.kind == TEMPLATE_NODE &&
                          source->get(source->arg, f->value.node, part, &value))) {
        f = f->up;
    }
    while (f != NULL && name.n > 0) {
        struct template_value within = {.kind = TEMPLATE_FALSE};
        part = cut_name(&name);
        if (value.kind != TEMPLATE_NODE || !source->get(source->arg, value.node, part, &within)) {
            return (struct template_value){.kind = TEMPLATE_FALSE};
        }
        value = within;
    }
    return f != NULL ? value : (struct template_value){.kind = TEMPLATE_FALSE};
}

static int render_variable(struct renderer *r, const struct template_node *node,
                           const struct frame *top) {
    int rc = start_line(r);
    if (rc != 0) {
        return rc;
    }
    struct template_value value = look_up(r, top, node->text);
    if (value.kind == TEMPLATE_LIST && r->source->list != NULL) {
        return r->source->list(r->source->arg, value.node, value.n, r->out);
    }
    if (value.kind != TEMPLATE_TEXT) {
        return 0;
    }
    if (node->kind == TEMPLATE_VARIABLE && !value.is_raw && r->source->escape != NULL) {
        return r->source->escape(r->source->arg, value.text, r->out);
    }
    return buf_add_slice(r->out, value.text);
}

static bool is_truthy(const struct template_value *value) {
    switch (value->kind) {
    case TEMPLATE_FALSE:
        return false;
    case TEMPLATE_TEXT:
        return value->text.n > 0;
    case TEMPLATE_NODE:
        return true;
    case TEMPLATE_LIST:
        return value->n > 0;
    }
    return false;
}

// render_with renders a section's body with value as its context. The source may reuse a text's
// bytes at its next call, so a text that becomes a context is copied.
static int render_with(struct renderer *r, const struct template *t, size_t i,
                       const struct template_value *value, const struct frame *top) {
    struct frame frame = {.value = *value, .up = top};
    char *text = NULL;
    if (value->kind == TEMPLATE_TEXT) {
        text = slice_dup(value->text);
        frame.value.text.p = text;
    }
    int rc = render_range(r, t, i + 1, t->nodes[i].end, &frame);
    free(text);
    return rc;
}

static int render_section(struct renderer *r, const struct template *t, size_t i,
                          const struct frame *top) {
    struct template_value value = look_up(r, top, t->nodes[i].text);
    if (!is_truthy(&value)) {
        return 0;
    }
    if (value.kind != TEMPLATE_LIST) {
        return render_with(r, t, i, &value, top);
    }
    int rc = 0;
    for (size_t k = 0; rc == 0 && k < value.n; k++) {
        struct template_value item = {.kind = TEMPLATE_FALSE};
        r->source->item(r->source->arg, value.node, k, &item);
        rc = render_with(r, t, i, &item, top);
    }
    return rc;
}

static int render_inverted(struct renderer *r, const struct template *t, size_t i,
                           const struct frame *top) {
    struct template_value value = look_up(r, top, t->nodes[i].text);
    return is_truthy(&value) ? 0 : render_range(r, t, i + 1, t->nodes[i].end, top);
}

// render_partial renders another template in the current context. Alone on its line it moves all
// its lines right by what stood before it; among text it starts in the middle of a line.
static int render_partial(struct renderer *r, const struct template_node *node,
                          const struct frame *top) {
    const struct template_source *source = r->source;
    const struct template *t = node->partial != NULL      ? node->partial
                               : source->partial != NULL ? source->partial(source->arg, node->text)
                                                         : NULL;
    const struct indent *outer = r->indent;
    struct indent inner = {.blanks = node->indent, .up = outer};
    int rc = node->is_alone ? 0 : start_line(r);
    if (rc != 0 || t == NULL) {
        return rc;
    }
    if (r->n_partials == MOST_PARTIALS) {
        return -ELOOP;
    }
    r->n_partials++;
    if (!node->is_alone) {
        r->indent = NULL;
    } else if (node->indent.n > 0) {
        r->indent = &inner;
    }
    r->is_line_start = node->is_alone;
    rc = render_range(r, t, 0, t->n_nodes, top);
    r->is_line_start = node->is_alone;
    r->indent = outer;
    r->n_partials--;
    return rc;
}

static int render_node(struct renderer *r, const struct template *t, size_t i,
                       const struct frame *top) {
    const struct template_node *node = &t->nodes[i];
    switch (node->kind) {
    case TEMPLATE_LITERAL:
        return render_literal(r, node->text);
    case TEMPLATE_VARIABLE:
    case TEMPLATE_RAW:
        return render_variable(r, node, top);
    case TEMPLATE_SECTION:
        return render_section(r, t, i, top);
    case TEMPLATE_INVERTED:
        return render_inverted(r, t, i, top);
    case TEMPLATE_PARTIAL:
        return render_partial(r, node, top);
    }
    return -EINVAL;
}

static int render_range(struct renderer *r, const struct template *t, size_t from, size_t to,
                        const struct frame *top) {
    int rc = 0;
    while (rc == 0 && from < to) {
        rc = render_node(r, t, from, top);
        const struct template_node *node = &t->nodes[from];
        bool has_body = node->kind == TEMPLATE_SECTION || node->kind == TEMPLATE_INVERTED;
        from = has_body ? node->end : from + 1;
    }
    return rc;
}

int template_render_value(const struct template *t, const struct template_source *source,
                          const struct template_value *root, struct buf *out) {
    size_t n = out->n;
    struct frame frame = {.value = *root};
    struct renderer r = {.source = source, .out = out, .is_line_start = true};
    int rc = render_range(&r, t, 0, t->n_nodes, &frame);
    if (rc != 0 && out->p != NULL) {
        out->n = n;
        out->p[n] = '\0';
    }
    return rc;
}

int template_render(const struct template *t, const struct template_source *source,
                    const void *root, struct buf *out) {
    struct template_value value = {.kind = TEMPLATE_NODE, .node = root};
    return template_render_value(t, source, &value, out);
}
