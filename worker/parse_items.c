// The list of items that an answer's reader fills: what all formats share. Invariant: a number is one
// only if it is written as one; the list never grows past ITEMS_MAX. Called by parse_FORMAT.c.
#include "worker/parse_items.h"

#include "worker/prompt.h"

#include <stdio.h>
#include <string.h>

void parse_fail(struct parsed *out, enum outcome outcome, const char *detail) {
    out->outcome = outcome;
    snprintf(out->detail, sizeof(out->detail), "%s", detail);
}

bool parse_own(struct parser *p, struct json_object *root) {
    if (p->n_roots == VALUES_MAX) {
        json_object_put(root);
        p->overflow = true;
        return false;
    }
    p->roots[p->n_roots++] = root;
    return true;
}

void parse_warn(struct parsed *out, const char *name) {
    if (name[0] == '\0' || strstr(out->warning, name) != NULL) {
        return;
    }
    size_t n = strlen(out->warning);
    if (n + strlen(name) + 2 > sizeof(out->warning)) {
        return; // no half names
    }
    snprintf(out->warning + n, sizeof(out->warning) - n, "%s%s", n > 0 ? " " : "", name);
}

#define INDEX_FAR 1000000000 // what is further from any record is no number of one

static bool index_of(struct json_object *field, int64_t *index) {
    if (json_object_is_type(field, json_type_int)) {
        *index = json_object_get_int64(field);
        return *index > -INDEX_FAR && *index < INDEX_FAR;
    }
    struct slice s = slice_trim(json_text(field));
    if (s.n == 0 || s.n > 9) {
        return false;
    }
    *index = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }
        *index = *index * 10 + (s.p[i] - '0');
    }
    return true;
}

void parse_item_add(struct parser *p, const struct question *q, struct json_object *json) {
    if (p->n_items == ITEMS_MAX) {
        p->overflow = true;
        return;
    }
    struct item *item = &p->items[p->n_items++];
    *item = (struct item){.json = json};
    struct json_object *field = json_get(json, q->model->options.response_index_field);
    item->has_index = field != NULL && index_of(field, &item->index);
}

// is_text_column asks whether a field is the value of a STRING column, or of none.
static bool is_text_column(const struct question *q, const char *name) {
    for (size_t i = 0; i < q->model->n_output; i++) {
        if (strcmp(prompt_value_field(q->model, i), name) == 0) {
            return q->model->output[i].type == TYPE_STRING;
        }
    }
    return true;
}

bool parse_item_set(const struct question *q, struct json_object *item, const char *name,
                    struct slice text) {
    if (json_object_object_get_ex(item, name, NULL)) {
        return false;
    }
    struct json_object *value = NULL;
    if (slice_trim(text).n > 0 || is_text_column(q, name)) {
        value = json_object_new_string_len(text.n > 0 ? text.p : "", (int)text.n);
    }
    json_object_object_add(item, name, value);
    return true;
}
