// A compiled template, shared by template_compile.c (which makes it) and template.c (which renders
// it), and by nobody else.
#ifndef HEADRACE_COMMON_TEMPLATE_INTERNAL_H
#define HEADRACE_COMMON_TEMPLATE_INTERNAL_H

#include "common/template.h"

#define TEMPLATE_DEPTH_MAX    8    // linked partials in one another
#define TEMPLATE_PARTIALS_MAX 1000 // that one template brings in all

enum template_node_kind {
    TEMPLATE_LITERAL,  // text to copy
    TEMPLATE_VARIABLE, // {{name}}
    TEMPLATE_RAW,      // {{{name}}} or {{&name}}
    TEMPLATE_SECTION,  // {{#name}}
    TEMPLATE_INVERTED, // {{^name}}
    TEMPLATE_PARTIAL,  // {{>name}}
};

// A template is a flat list of nodes. A section's body follows it, up to `end`.
struct template_node {
    enum template_node_kind kind;
    struct slice text;   // the literal, or the name; borrowed from the template's text
    struct slice indent; // a partial alone on its line: the white space before it; same owner
    bool is_alone;       // a partial alone on its line
    const struct template *partial; // linked; NULL: the source is asked
    size_t end;          // a section: the index of the first node after its body
};

struct template {
    char *text;                  // owned copy of what was compiled
    struct template_node *nodes; // owned
    size_t n_nodes;
};

#endif
