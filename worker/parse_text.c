// An answer that is the value itself, as it stands. Invariant: one item, of a single prompt and one
// column, which CREATE MODEL made sure of. Called by parse.c.
#include "worker/parse_items.h"

#include "worker/prompt.h"

void parse_text(struct parser *p, const struct question *q, struct slice text, struct parsed *out) {
    if (q->cut) {
        parse_fail(out, OUTCOME_TRUNCATED, "the answer ended at the token limit");
        return;
    }
    struct json_object *item = json_object_new_object();
    struct json_object *value = json_object_new_string_len(text.p, (int)text.n);
    json_object_object_add(item, prompt_value_field(q->model, 0), value);
    if (parse_own(p, item)) {
        parse_item_add(p, q, item);
    }
}
