// The fixed part of prompts. Invariant: what is called fixed was found at the beginning of the rendered
// message; a template that cannot be followed has no fixed part. Called by providers with a prompt cache.
#include "worker/fixed.h"

#include "common/template.h"
#include "worker/instruct.h"

#include <string.h>

#define INSTRUCTION_MAX (1024 * 1024)

// on_name: schema and labels follow from the model alone.
static void on_name(void *arg, struct slice name) {
    bool *varies = arg;
    *varies |= !slice_is(name, "schema") && !slice_is(name, "labels");
}

static bool is_fixed(const struct template *t) {
    bool varies = false;
    template_names(t, on_name, &varies);
    return !varies;
}

bool fixed_system(const struct model *model) {
    return model->system_template == NULL || is_fixed(model->system_template);
}

// literal_part is what stands before a template's first tag. A tag that has a line of its own takes the
// white space before it along.
static struct slice literal_part(const char *text) {
    const char *tag = strstr(text, "{{");
    struct slice part = {.p = text, .n = tag != NULL ? (size_t)(tag - text) : strlen(text)};
    while (tag != NULL && part.n > 0 && strchr(" \t", part.p[part.n - 1]) != NULL) {
        part.n--;
    }
    return part;
}

size_t fixed_prefix(const struct model *model, struct slice user) {
    bool batched = model->options.batch_size > 1;
    const char *text = batched ? model->options.batch_prompt_template : model->options.prompt_template;
    struct buf made;
    buf_init(&made, INSTRUCTION_MAX);
    struct slice part = literal_part(text);
    if (batched && model->batch_template == NULL) {
        part = instruct_batch(model, &made) == 0 ? buf_slice(&made) : SLICE_NONE;
    }
    bool found = part.n < user.n && slice_trim(part).n > 0 && slice_trim(slice_sub(user, part.n, user.n)).n > 0 &&
                 slice_eq(slice_sub(user, 0, part.n), part);
    buf_free(&made);
    return found ? part.n : 0;
}
