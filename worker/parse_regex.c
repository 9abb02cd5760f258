// An answer read by a pattern: each match is an item, each named group a field. Invariant: matches
// never overlap, and each moves on. Called by parse.c.
#include "worker/parse_items.h"

#include "common/pattern.h"
#include "worker/prompt.h"

// set_field gives an item what a group holds; a group that took no part is no field.
static void set_field(const struct question *q, struct json_object *item, const char *name,
                      struct slice text) {
    const struct pattern *pattern = q->model->response_pattern;
    struct slice found;
    if (pattern_get(pattern, text, pattern_group(pattern, name), &found)) {
        (void)parse_item_set(q, item, name, slice_trim(found));
    }
}

void parse_regex(struct parser *p, const struct question *q, struct slice text, struct parsed *out) {
    size_t from = 0, at, end;
    int rc = 0;
    while (from <= text.n && !p->overflow &&
           (rc = pattern_match(q->model->response_pattern, text, from, &at, &end)) == 1) {
        if (q->cut && end == text.n) {
            break; // more of it may have been to come
        }
        struct json_object *item = json_object_new_object();
        set_field(q, item, q->model->options.response_index_field, text);
        for (size_t i = 0; i < q->model->n_output; i++) {
            set_field(q, item, prompt_value_field(q->model, i), text);
        }
        if (parse_own(p, item)) {
            parse_item_add(p, q, item);
        }
        from = end > from ? end : from + 1;
        while (from < text.n && ((unsigned char)text.p[from] & 0xC0) == 0x80) {
            from++;
        }
    }
    if (rc < 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "'response.pattern' takes too many steps on the answer");
    } else if (p->n_items == 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "'response.pattern' matches nowhere in the answer");
    }
}
