// libxml2, hardened. Invariant: no document reaches beyond its own bytes: no network, no file, no
// DOCTYPE, so no entities but the five of XML; no expression runs past its step limit. Called by
// model checks and by the reader of XML answers.
#include "common/xpath.h"

#include "common/mem.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STEPS 1000000 // of one query

struct xpath {
    xmlXPathCompExprPtr compiled;
};

// no_entity is asked for external entities and has none.
static xmlParserInputPtr no_entity(const char *url, const char *id, xmlParserCtxtPtr context) {
    return NULL;
}

static void no_message(void *arg, xmlErrorPtr error) {
}

static void no_text(void *arg, const char *format, ...) {
}

static void prepare(void) {
    static bool done;
    if (!done) {
        done = true;
        xmlInitParser();
        xmlSetExternalEntityLoader(no_entity);
        xmlSetStructuredErrorFunc(NULL, no_message);
        xmlSetGenericErrorFunc(NULL, no_text);
    }
}

void xpath_free(struct xpath *path) {
    if (path != NULL) {
        xmlXPathFreeCompExpr(path->compiled);
        free(path);
    }
}

static long give_nodes(xmlNodeSetPtr set, xpath_found *found, void *arg) {
    long n = 0;
    xmlXPathNodeSetSort(set);
    for (int i = 0; set != NULL && i < set->nodeNr; i++) {
        if (set->nodeTab[i]->type != XML_ELEMENT_NODE) {
            continue;
        }
        int rc = found(arg, set->nodeTab[i]);
        if (rc != 0) {
            return rc;
        }
        n++;
    }
    return n;
}

long xpath_query(const struct xpath *path, xmlDocPtr doc, xpath_found *found, void *arg) {
    xmlXPathContextPtr context = xmlXPathNewContext(doc);
    if (context == NULL) {
        abort();
    }
    context->opLimit = MOST_STEPS;
    context->error = no_message;
    xmlXPathObjectPtr result = xmlXPathCompiledEval(path->compiled, context);
    long rc;
    if (result == NULL) {
        int limit = XPATH_OP_LIMIT_EXCEEDED - XPATH_EXPRESSION_OK + XML_XPATH_EXPRESSION_OK;
        rc = context->lastError.code == limit ? -E2BIG : -EINVAL;
    } else if (result->type != XPATH_NODESET) {
        rc = -EINVAL;
    } else {
        rc = give_nodes(result->nodesetval, found, arg);
    }
    xmlXPathFreeObject(result);
    xmlXPathFreeContext(context);
    return rc;
}

xmlDocPtr xpath_document(struct slice text) {
    prepare();
    if (text.n == 0 || text.n > XPATH_DOCUMENT_MAX || slice_has_nocase(text, "<!DOCTYPE")) {
        return NULL;
    }
    xmlParserCtxtPtr context = xmlNewParserCtxt();
    if (context == NULL) {
        abort();
    }
    xmlDocPtr doc = xmlCtxtReadMemory(context, text.p, (int)text.n, NULL, "UTF-8",
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                          XML_PARSE_NOCDATA | XML_PARSE_COMPACT);
    if (doc != NULL && (doc->intSubset != NULL || doc->extSubset != NULL)) {
        xmlFreeDoc(doc);
        doc = NULL;
    }
    xmlFreeParserCtxt(context);
    return doc;
}

static int on_nothing(void *arg, xmlNodePtr element) {
    return 0;
}

// finds_elements tries a path on the smallest document.
static bool finds_elements(const struct xpath *path) {
    xmlDocPtr doc = xpath_document(SLICE_LIT("<a/>"));
    long n = xpath_query(path, doc, on_nothing, NULL);
    xmlFreeDoc(doc);
    return n >= 0;
}

struct xpath *xpath_compile(struct slice text, struct error *why) {
    prepare();
    if (text.n == 0 || memchr(text.p, '\0', text.n) != NULL) {
        error_set(why, -EINVAL, "got %s, want an XPath 1.0 expression",
                  text.n == 0 ? "nothing" : "a NUL byte");
        return NULL;
    }
    char *copy = slice_dup(text);
    xmlXPathContextPtr context = xmlXPathNewContext(NULL);
    if (context == NULL) {
        abort();
    }
    context->opLimit = MOST_STEPS;
    context->error = no_message;
    xmlXPathCompExprPtr compiled = xmlXPathCtxtCompile(context, (const xmlChar *)copy);
    struct xpath *path = NULL;
    if (compiled == NULL) {
        error_set(why, -EINVAL, "offset %d: got something else, want an XPath 1.0 expression",
                  context->lastError.int1);
    } else {
        path = mem_zalloc(sizeof(*path));
        path->compiled = compiled;
        if (!finds_elements(path)) {
            xpath_free(path);
            path = NULL;
            error_set(why, -EINVAL, "got something that finds no elements, or a function that XPath "
                                    "1.0 does not have, want a path to elements");
        }
    }
    xmlXPathFreeContext(context);
    free(copy);
    return path;
}
