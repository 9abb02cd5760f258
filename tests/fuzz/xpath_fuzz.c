// xpath: the first line is an expression, the rest is the document it runs over; without a rest, one that
// has something of everything.
#include "common/xpath.h"

#include <errno.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

static const char document[] = "<a i=\"1\"><b x=\"y\">t<c/></b><!-- c --><b>2<![CDATA[<]]></b><d>&#65;</d></a>";

static int on_found(void *arg, xmlNodePtr element) {
    long *n_found = arg;
    if (element == NULL || element->type != XML_ELEMENT_NODE) {
        abort();
    }
    (*n_found)++;
    return 0;
}

static void run(const struct xpath *path, struct slice text) {
    xmlDocPtr doc = xpath_document(text);
    if (doc == NULL) {
        return;
    }
    long n_found = 0;
    long rc = xpath_query(path, doc, on_found, &n_found);
    if (rc != n_found && rc != -E2BIG && rc != -EINVAL) {
        abort();
    }
    xmlFreeDoc(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {.p = (const char *)data, .n = size};
    const char *newline = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t n = newline != NULL ? (size_t)(newline - text.p) : size;
    struct error why = {""};
    struct xpath *path = xpath_compile(slice_sub(text, 0, n), &why);
    if (path == NULL) {
        if (why.text[0] == '\0') {
            abort();
        }
        return 0;
    }
    run(path, newline != NULL ? slice_sub(text, n + 1, size) : SLICE_LIT(document));
    xpath_free(path);
    return 0;
}
