// template: compiles the input and renders it over made-up data, in which every name is something:
// its first letter says what. A partial is the template itself, which must end as a loop or not at
// all.
#include "common/template.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_OUT   (64u << 10)
#define MOST_CALLS 20000 // to the source: sections over lists in one another grow without end

struct world {
    const struct template *t;
    int n_calls;
    char text[8]; // overwritten by each call, as the source's promise allows
};

static void set_value(struct world *w, char c, struct template_value *value) {
    *value = (struct template_value){.kind = TEMPLATE_FALSE, .node = w};
    memset(w->text, c != '\0' ? c : '?', sizeof(w->text));
    if (++w->n_calls > MOST_CALLS) {
        return;
    }
    switch (c & 3) {
    case 0:
        value->kind = TEMPLATE_TEXT;
        value->text = (struct slice){.p = w->text, .n = (size_t)(c & 7)};
        return;
    case 1:
        value->kind = TEMPLATE_NODE;
        return;
    case 2:
        value->kind = TEMPLATE_LIST;
        value->n = (size_t)(c >> 2 & 1) + 1;
        return;
    }
}

static bool get(void *arg, const void *node, struct slice name, struct template_value *value) {
    if (name.n == 0 || memchr(name.p, '.', name.n) != NULL || node != arg) {
        abort();
    }
    set_value(arg, name.p[0], value);
    return name.n < 4;
}

static void item(void *arg, const void *list, size_t i, struct template_value *value) {
    if (list != arg || i > 1) {
        abort();
    }
    set_value(arg, (char)i, value);
}

static int escape(void *arg, struct slice text, struct buf *out) {
    return buf_addf(out, "%zu", text.n);
}

static const struct template *partial(void *arg, struct slice name) {
    struct world *w = arg;
    return ++w->n_calls > MOST_CALLS ? NULL : w->t;
}

static void on_name(void *arg, struct slice name) {
    if (name.n == 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct error why = {""};
    struct slice text = {.p = (const char *)data, .n = size};
    struct world w = {.t = template_compile(text, &why)};
    if (w.t == NULL) {
        if (strncmp(why.text, "line ", 5) != 0) {
            abort();
        }
        return 0;
    }
    template_names(w.t, on_name, NULL);
    struct template_source source = {
        .get = get, .item = item, .escape = escape, .partial = partial, .arg = &w};
    struct buf out;
    buf_init(&out, MOST_OUT);
    int rc = template_render(w.t, &source, &w, &out);
    if (rc != 0 && ((rc != -EMSGSIZE && rc != -ELOOP) || out.n != 0)) {
        abort();
    }
    buf_free(&out);
    template_free((struct template *)w.t);
    return 0;
}
