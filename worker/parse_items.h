// parse_items: the items that a reader of an answer's format lists, each a JSON object of fields,
// whatever the format was. What parse.c and parse_FORMAT.c share; nobody else includes this.
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
    struct buf scratch;                // of a format's reader
};

// One response.format: a file of its own and a row in parse.c.
struct format {
    const char *name;
    // read lists the items of an answer, or sets out->outcome to why there are none. text is UTF-8,
    // with more than white space in it; it need not be NUL-ended. It names each repair by parse_warn.
    void (*read)(struct parser *p, const struct question *q, struct slice text, struct parsed *out);
    bool with_blanks; // white space at the text's ends is left there
};

void parse_json(struct parser *p, const struct question *q, struct slice text, struct parsed *out);
void parse_xml(struct parser *p, const struct question *q, struct slice text, struct parsed *out);
void parse_delimited(struct parser *p, const struct question *q, struct slice text, struct parsed *out);
void parse_regex(struct parser *p, const struct question *q, struct slice text, struct parsed *out);
void parse_text(struct parser *p, const struct question *q, struct slice text, struct parsed *out);

// parse_warn adds the name of a repair to out->warning, once.
void parse_warn(struct parsed *out, const char *name);
void parse_fail(struct parsed *out, enum outcome outcome, const char *detail);
// parse_own keeps a value until the answer is read. Returns false when there are too many.
bool parse_own(struct parser *p, struct json_object *root);
// parse_item_add lists an item that one of the owned values holds; past ITEMS_MAX it sets overflow.
void parse_item_add(struct parser *p, const struct question *q, struct json_object *json);
// parse_item_set gives an item of a format without types a field. An empty text is null where the
// column is no STRING. False: there is such a field already.
bool parse_item_set(const struct question *q, struct json_object *item, const char *name,
                    struct slice text);

#endif
