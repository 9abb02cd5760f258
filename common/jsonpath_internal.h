// A compiled JSONPath query, shared by jsonpath_compile.c (which makes it) and jsonpath.c (which
// runs it), and by nobody else.
#ifndef HEADRACE_COMMON_JSONPATH_INTERNAL_H
#define HEADRACE_COMMON_JSONPATH_INTERNAL_H

#include "common/jsonpath.h"

// What a selector picks among a node's children (RFC 9535 section 2.3). A filter `?` is to be one
// more kind here, with its expression tree in the union, one more case in parse_selector, and one
// more in apply_selector.
enum jsonpath_kind {
    JSONPATH_NAME,     // the member of this name
    JSONPATH_WILDCARD, // every child
    JSONPATH_INDEX,    // one item, from the end when negative
    JSONPATH_SLICE,    // start:end:step
};

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

#endif
