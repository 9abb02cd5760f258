// jsonpath: RFC 9535 queries over json-c values, compiled once, run many times.
#ifndef HEADRACE_COMMON_JSONPATH_H
#define HEADRACE_COMMON_JSONPATH_H

#include "common/bytes.h"
#include "common/error.h"

#include <json-c/json.h>

struct jsonpath;

// jsonpath_compile reads a query such as `$[*]`, `$.items[0:5]['name']`, `$..x`, `$[?@.score > 3]`.
// Returns the query (free with jsonpath_free), or NULL with why ("offset 3: got ..., want ...").
// Source: RFC 9535, whole: filters, and the functions length, count, match, search, value. A literal
// regular expression that is no I-Regexp (RFC 9485) never matches, as the RFC wants it.
struct jsonpath *jsonpath_compile(struct slice text, struct error *why);
void jsonpath_free(struct jsonpath *path); // path may be NULL

// jsonpath_found is called for each node in the order of RFC 9535. value is borrowed and may be NULL
// (JSON null). Return 0 to go on; any other value stops the query and is returned by it.
typedef int jsonpath_found(void *arg, struct json_object *value);

// jsonpath_query visits at most max_nodes nodes (selected, walked through, or compared in a
// filter; a regular expression counts for as many as it has bytes and more) and returns the number found, -E2BIG past max_nodes, or what found returned when not 0.
MUST_CHECK long jsonpath_query(const struct jsonpath *path, struct json_object *root, size_t max_nodes,
                               jsonpath_found *found, void *arg);

#endif
