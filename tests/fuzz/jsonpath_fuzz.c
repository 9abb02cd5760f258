// jsonpath: the first line is a query, the rest is the document it runs over; without a rest, one
// that has something of everything.
#include "common/json.h"
#include "common/jsonpath.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NODES 10000

static const char document[] =
    "{\"a\":[0,1,{\"a\":null,\"b\":[]},\"x\"],\"b\":{\"a\":{\"a\":[1,[2,[3]]]}},\"\":true}";

static int on_found(void *arg, struct json_object *value) {
    long *n_found = arg;
    (*n_found)++;
    return 0;
}

static void run(const struct jsonpath *path, struct slice text) {
    struct json_object *root;
    if (json_parse(text, &root, NULL) != 0) {
        return;
    }
    long n_found = 0;
    long rc = jsonpath_query(path, root, MOST_NODES, on_found, &n_found);
    if (rc != n_found && rc != -E2BIG) {
        abort();
    }
    json_object_put(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {.p = (const char *)data, .n = size};
    const char *newline = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t n = newline != NULL ? (size_t)(newline - text.p) : size;
    struct error why = {""};
    struct jsonpath *path = jsonpath_compile(slice_sub(text, 0, n), &why);
    if (path == NULL) {
        if (why.text[0] == '\0') {
            abort();
        }
        return 0;
    }
    run(path, newline != NULL ? slice_sub(text, n + 1, size) : SLICE_LIT(document));
    jsonpath_free(path);
    return 0;
}
