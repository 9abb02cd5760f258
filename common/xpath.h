// xpath: XPath 1.0 over small XML documents of strangers, by libxml2 with everything risky shut off.
#ifndef HEADRACE_COMMON_XPATH_H
#define HEADRACE_COMMON_XPATH_H

#include "common/bytes.h"
#include "common/error.h"

#include <libxml/tree.h>

struct xpath;

// xpath_compile reads an expression such as `/items/item` or `//record[@kind='answer']`.
// Returns it (free with xpath_free), or NULL with why: no XPath, a function that there is not, or a
// result that is not a set of nodes.
struct xpath *xpath_compile(struct slice text, struct error *why);
void xpath_free(struct xpath *path); // path may be NULL

// xpath_found is called for each element, in document order. Return 0 to go on; any other value
// stops the query and is returned by it.
typedef int xpath_found(void *arg, xmlNodePtr element);

// xpath_query finds elements. Returns how many; -EINVAL when the expression's result is not a set of
// nodes; -E2BIG past a million steps; or what found returned when not 0.
MUST_CHECK long xpath_query(const struct xpath *path, xmlDocPtr doc, xpath_found *found, void *arg);

#define XPATH_DOCUMENT_MAX (4 * 1024 * 1024) // bytes of a document

// xpath_document reads a document without network, entities of its own or DTD.
//   text  UTF-8, at most XPATH_DOCUMENT_MAX bytes
// Returns it (free with xmlFreeDoc), or NULL for what is not well-formed, has a DOCTYPE, or is
// nested deeper than 256.
xmlDocPtr xpath_document(struct slice text);

#endif
