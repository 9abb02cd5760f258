// template: Mustache (core modules: comments, delimiters, interpolation, inverted, sections,
// partials), compiled once, rendered many times over any data through a small table of functions.
#ifndef HEADRACE_COMMON_TEMPLATE_H
#define HEADRACE_COMMON_TEMPLATE_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdbool.h>

struct template;

// template_compile reads a template; text is copied. Returns it (free with template_free), or NULL
// with why ("line 2, column 5: section 'a' is not closed").
// Source: the Mustache specification, core modules. Partials are looked up by source->partial.
struct template *template_compile(struct slice text, struct error *why);
void template_free(struct template *t); // t may be NULL

// template_link gives each partial of t the template that look_up knows under its name, borrowed as long as t
// lives. Link all templates that may stand in one another before any is rendered.
// Returns 0, or -ENOENT with why: there is none.
typedef const struct template *template_find_fn(void *arg, struct slice name);
MUST_CHECK int template_link(struct template *t, template_find_fn *look_up, void *arg, struct error *why);
// template_is_endless says whether a linked template stands in itself, or in too many others.
bool template_is_endless(const struct template *t);

// template_names calls each once for every variable, section and partial name used outside any
// section that would shadow it (dotted names whole); of a linked partial the names in it, in the place
// of its own. For checks at CREATE and to see whether a template has a placeholder for the records.
void template_names(const struct template *t, void (*each)(void *arg, struct slice name), void *arg);

// template_walk calls each for every variable, section and partial name anywhere in the template, as
// often as it stands there; inside says whether a section called `section` is around it. Linked partials
// as template_names. Neither is for templates that are endless.
void template_walk(const struct template *t, const char *section,
                   void (*each)(void *arg, struct slice name, bool inside), void *arg);

enum template_kind {
    TEMPLATE_FALSE, // falsy: null, false, an empty list; renders as nothing
    TEMPLATE_TEXT,  // truthy when a section asks, unless it is empty; renders as text
    TEMPLATE_NODE,  // an object: a section pushes it as context; renders as nothing
    TEMPLATE_LIST,  // n items: a section repeats for each; renders as the source's list says
};

struct template_value {
    enum template_kind kind;
    struct slice text; // TEMPLATE_TEXT: borrowed until the next call to the source
    const void *node;  // TEMPLATE_NODE, TEMPLATE_LIST: the source's own handle
    size_t n;          // TEMPLATE_LIST: items
    bool is_raw;       // TEMPLATE_TEXT: {{name}} writes it as it is, too
};

// Where a template's data come from. Handles (node) are the source's own.
struct template_source {
    // get looks name (no dots inside, "." never asked) up in node. Returns false when not there: the
    // search goes on in the parent context.
    bool (*get)(void *arg, const void *node, struct slice name, struct template_value *value);
    // item returns item i of a list.
    void (*item)(void *arg, const void *list, size_t i, struct template_value *value);
    // list appends what {{name}} writes of a list; never escaped. NULL: nothing. Returns 0 or -EMSGSIZE.
    int (*list)(void *arg, const void *list, size_t n, struct buf *out);
    // escape appends text as {{name}} writes it; {{{name}}} and {{&name}} write it as it is.
    // NULL: no escaping. Returns 0 or -EMSGSIZE.
    int (*escape)(void *arg, struct slice text, struct buf *out);
    // partial returns a compiled template or NULL (renders as nothing) for one that is not linked. May be
    // NULL.
    const struct template *(*partial)(void *arg, struct slice name);
    void *arg;
};

// template_render appends to out. root is the outermost context, a handle of the source.
// Returns 0, -EMSGSIZE past out's ceiling, or -ELOOP past 32 levels of partials; then out is as it
// was.
MUST_CHECK int template_render(const struct template *t, const struct template_source *source,
                               const void *root, struct buf *out);

// template_render_value does the same with any value as the outermost context, which {{.}} names. A
// text in it must hold until the call returns, whatever the source is asked.
MUST_CHECK int template_render_value(const struct template *t,
                                     const struct template_source *source,
                                     const struct template_value *root, struct buf *out);

#endif
