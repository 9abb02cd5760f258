// parse_items: the JSON values in an answer's text, and the items in them. What parse.c and
// parse_items.c share; nobody else includes this.
#ifndef HEADRACE_WORKER_PARSE_ITEMS_H
#define HEADRACE_WORKER_PARSE_ITEMS_H

#include "common/json.h"
#include "worker/parse.h"

#define ITEMS_MAX (4 * MODEL_BATCH_MAX) // more items than this in one answer are not read
#define VALUES_MAX ITEMS_MAX            // JSON values in one answer

struct item {
    struct json_object *json; // borrowed from one of the parser's roots
    int64_t index;            // as answered, then put right
    bool has_index;
    bool ignored;
};

struct parser {
    struct json_object *roots[VALUES_MAX]; // owned: what items borrow from
    size_t n_roots;
    struct item items[ITEMS_MAX];
    size_t n_items;
    bool overflow;                     // there were more items than ITEMS_MAX
    struct item *first[MODEL_BATCH_MAX]; // the item of each record
    bool clash[MODEL_BATCH_MAX];       // two items that differ
    struct buf payload;
};

// parse_warn adds the name of a repair to out->warning, once.
void parse_warn(struct parsed *out, const char *name);
// items_of lists the items of one JSON value and takes it.
void items_of(struct parser *p, const struct question *q, struct json_object **root, struct parsed *out);
// values_find lists the items of every JSON array or object in a text that is not JSON as a whole.
void values_find(struct parser *p, const struct question *q, struct slice text, struct parsed *out);

#endif
