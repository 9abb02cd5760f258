// elements: a JSON document with one long array, as it comes in, without holding the array.
//
// Each element of the array is handed on as a line of its own; what is left, the document with an
// empty array, is small and held. Whether an element or the rest is right JSON is for a JSON parser
// to say: here only strings and brackets are followed.
#ifndef HEADRACE_TESTS_PROVIDER_ELEMENTS_H
#define HEADRACE_TESTS_PROVIDER_ELEMENTS_H

#include "common/bytes.h"
#include "common/error.h"

#define ELEMENTS_PATH_MAX  4
#define ELEMENTS_DEPTH_MAX 64
#define ELEMENTS_NAME_MAX  64

// elements_sink gets one element, line feeds in it replaced by spaces. Returns 0 or a negative
// errno.
typedef int elements_sink(void *arg, struct slice element);

struct elements {
    const char *path[ELEMENTS_PATH_MAX]; // names of the members down to the array
    size_t n_path;
    elements_sink *sink;
    void *arg;
    struct buf rest;                   // the document without the elements
    struct buf element;                // the one that comes in
    char brackets[ELEMENTS_DEPTH_MAX]; // open ones, '{' or '['
    size_t depth;
    size_t matched;                   // of path, by the open objects
    char name[ELEMENTS_NAME_MAX + 1]; // the string read last; the value's name after a colon
    size_t n_name;
    bool in_string, escaped;
    bool is_value; // a colon came after the name
    bool inside;   // the array
    bool found;    // the array has been there
    bool comma;    // inside: an element must come
};

// elements_init begins.
//   path      n_path names, 1 to ELEMENTS_PATH_MAX; lives for ever. "a_name" is taken for "aName"
//   too most      bytes of an element
void elements_init(struct elements *e, const char *const *path, size_t n_path, size_t most,
                   elements_sink *sink, void *arg);
void elements_free(struct elements *e);
// elements_add takes the next bytes. Returns 0, -EINVAL with why (brackets that do not fit, an
// element or a rest that is too long), or what the sink returned.
MUST_CHECK int elements_add(struct elements *e, struct slice bytes, struct error *why);
// elements_end says whether the document is whole. Returns 0 or -EINVAL with why.
MUST_CHECK int elements_end(const struct elements *e, struct error *why);

#endif
