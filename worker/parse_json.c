// The JSON values in an answer's text, and the items in them: prose and code fences around, several
// values, arrays that are cut off or broken. Invariant: an item is taken whole or not at all, and an
// object is never taken out of a broken one. Called by parse.c.
#include "worker/parse_items.h"

#include "common/jsonpath.h"
#include "worker/prompt.h"
#include "worker/repair.h"

#include <string.h>

#define FAILED_VALUES_MAX 64            // brackets that turn out to be no JSON: keeps the time linear
#define PATH_NODES_MAX 200000           // nodes that response.path may walk through

// ---- The items of one JSON value --------------------------------------------------------------

static void items_of_array(struct parser *p, const struct question *q, struct json_object *array) {
    size_t n = json_object_array_length(array);
    for (size_t i = 0; i < n && !p->overflow; i++) {
        parse_item_add(p, q, json_object_array_get_idx(array, i));
    }
}

static bool is_item(const struct question *q, struct json_object *object) {
    struct json_object *member;
    if (json_object_object_get_ex(object, q->model->options.response_index_field, &member)) {
        return true;
    }
    for (size_t i = 0; i < q->model->n_output; i++) {
        if (json_object_object_get_ex(object, prompt_value_field(q->model, i), &member)) {
            return true;
        }
    }
    return false;
}

// only_array returns the one array among an object's members, or NULL.
static struct json_object *only_array(struct json_object *object) {
    struct json_object *found = NULL;
    json_object_object_foreach(object, name, member) {
        (void)name;
        if (json_object_is_type(member, json_type_array)) {
            if (found != NULL) {
                return NULL;
            }
            found = member;
        }
    }
    return found;
}

struct finding {
    struct parser *parser;
    const struct question *question;
};

static int on_found(void *arg, struct json_object *value) {
    struct finding *f = arg;
    parse_item_add(f->parser, f->question, value);
    return 0;
}

// items_by_default reads `$[*]`: an array's elements; or an object that is an item itself, or that
// holds "items" (what our JSON Schema asks for), or one array whatever its name.
static void items_by_default(struct parser *p, const struct question *q, struct json_object *root,
                             struct parsed *out) {
    if (json_object_is_type(root, json_type_array)) {
        items_of_array(p, q, root);
        return;
    }
    struct json_object *items = json_get(root, "items");
    bool ours = json_object_is_type(items, json_type_array) &&
                json_object_object_length(root) == 1;
    if (!ours && json_object_is_type(root, json_type_object) && is_item(q, root)) {
        parse_item_add(p, q, root);
        return;
    }
    if (json_object_is_type(items, json_type_array)) {
        items_of_array(p, q, items);
        return;
    }
    if (json_object_is_type(root, json_type_object)) {
        struct json_object *array = only_array(root);
        if (array != NULL) {
            parse_warn(out, "wrapped");
            items_of_array(p, q, array);
        }
    }
}

static bool is_default_path(const struct model *model) {
    return model->response_path == NULL || strcmp(model->options.response_path, "$[*]") == 0;
}

// items_of lists the items of one JSON value and takes it.
static void items_of(struct parser *p, const struct question *q, struct json_object **root,
                     struct parsed *out) {
    struct json_object *value = *root;
    p->roots[p->n_roots++] = value;
    *root = NULL;
    if (is_default_path(q->model)) {
        items_by_default(p, q, value, out);
        return;
    }
    size_t before = p->n_items;
    struct finding f = {.parser = p, .question = q};
    long n = jsonpath_query(q->model->response_path, value, PATH_NODES_MAX, on_found, &f);
    if (n < 0) {
        p->n_items = before; // a path that never ends finds nothing
        p->overflow = true;
    } else if (n == 0 && q->model->options.structured_output == STRUCTURED_REQUIRED) {
        items_by_default(p, q, value, out); // the schema's shape, whatever the path
    }
}

// ---- The JSON values in a text ----------------------------------------------------------------

// balanced returns how many bytes the array or object at the start of s takes, or 0 if it does not
// end. Strings are skipped; whether brackets match in kind is json_parse's business.
static size_t balanced(struct slice s) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if ((c == ']' || c == '}') && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

static bool is_opening(char c) {
    return c == '[' || c == '{';
}

// read_value reads the array or object at the start of s: as it is, or repaired.
//   what  receives the repairs, bits of enum repair
// Returns how many bytes it takes, or 0 when it is neither.
static size_t read_value(struct parser *p, struct slice s, struct json_object **json,
                         unsigned *what) {
    size_t n = balanced(s);
    *what = 0;
    if (n > 0 && json_parse(slice_sub(s, 0, n), json, NULL) == 0) {
        return n;
    }
    buf_clear(&p->scratch);
    n = repair_json(s, &p->scratch, what);
    return n > 0 && *what != 0 && json_parse(buf_slice(&p->scratch), json, NULL) == 0 ? n : 0;
}

static void warn_repairs(struct parsed *out, unsigned what) {
    for (unsigned bit = 1; repair_name(bit) != NULL; bit <<= 1) {
        if ((what & bit) != 0) {
            parse_warn(out, repair_name(bit));
        }
    }
}

// rescue walks into an array or object that is not JSON as a whole and keeps the whole objects of
// arrays in it. Returns how many bytes it went over.
static size_t rescue(struct parser *p, const struct question *q, struct slice s, size_t *n_failed,
                     struct parsed *out) {
    size_t i = 1;
    if (s.p[0] == '{') { // never take an object out of a broken item: only arrays hold items
        while (i < s.n && s.p[i] != '[') {
            i++;
        }
        return i;
    }
    while (i < s.n && p->n_roots < VALUES_MAX) {
        if (s.p[i] == '[') {
            return i; // a nested array is a value of its own
        }
        if (s.p[i] == ']') {
            return i + 1;
        }
        if (s.p[i] != '{') {
            i++;
            continue;
        }
        struct slice rest = slice_sub(s, i, s.n);
        struct json_object *json = NULL;
        unsigned what;
        size_t n = read_value(p, rest, &json, &what);
        if (n > 0) {
            size_t before = p->n_items;
            bool wanted = is_item(q, json);
            if (!wanted) {
                json_object_put(json);
            } else if (parse_own(p, json)) {
                parse_item_add(p, q, json);
            }
            if (p->n_items > before) {
                parse_warn(out, "repaired");
                warn_repairs(out, what);
            }
        } else {
            n = balanced(rest);
            if (n == 0 || ++*n_failed > FAILED_VALUES_MAX) {
                return s.n;
            }
        }
        i += n;
    }
    return i;
}

// values_find lists the items of every JSON array or object in a text that is not JSON as a whole.
static void values_find(struct parser *p, const struct question *q, struct slice text,
                        struct parsed *out) {
    size_t n_failed = 0, n_with_items = 0;
    bool prose = false; // there is text outside of arrays and objects
    for (size_t i = 0; i < text.n && n_failed <= FAILED_VALUES_MAX && p->n_roots < VALUES_MAX;) {
        if (!is_opening(text.p[i])) {
            prose |= strchr(" \t\r\n,]}", text.p[i]) == NULL || text.p[i] == '\0';
            i++;
            continue;
        }
        struct slice rest = slice_sub(text, i, text.n);
        size_t before = p->n_items;
        struct json_object *json = NULL;
        unsigned what;
        size_t n = read_value(p, rest, &json, &what);
        if (n > 0) {
            struct parsed quiet = {0}; // a value without items may be prose: its repairs do not count
            items_of(p, q, &json, &quiet);
            bool any = false;
            for (size_t k = before; k < p->n_items; k++) {
                any |= json_object_is_type(p->items[k].json, json_type_object);
            }
            if (!any) {
                p->n_items = before; // "see [1]" is no answer
                prose = true;
            } else {
                warn_repairs(out, what);
                parse_warn(out, quiet.warning);
            }
            i += n;
        } else {
            n_failed++;
            n = balanced(rest);
            i += rescue(p, q, n > 0 ? slice_sub(rest, 0, n) : rest, &n_failed, out);
            if (n == 0 && p->n_items > before) {
                parse_warn(out, "cut-array");
            }
        }
        n_with_items += p->n_items > before;
    }
    if (p->n_items == 0) {
        return;
    }
    if (prose) {
        parse_warn(out, memmem(text.p, text.n, "```", 3) != NULL ? "code-fence" : "prose");
    }
    if (n_with_items > 1) {
        parse_warn(out, "several-values");
    }
}

// parse_bare takes a JSON scalar for the value of a single prompt with one column. False: it is not.
static bool parse_bare(struct parser *p, const struct question *q, struct json_object *root) {
    bool whole = !q->cut || json_object_is_type(root, json_type_string); // 42 may be 4 of 421
    if (!whole || q->batched || q->model->n_output != 1 || root == NULL ||
        json_object_is_type(root, json_type_array) || json_object_is_type(root, json_type_object)) {
        return false;
    }
    struct json_object *item = json_object_new_object();
    json_object_object_add(item, prompt_value_field(q->model, 0), json_object_get(root));
    p->roots[p->n_roots++] = item;
    parse_item_add(p, q, item);
    return true;
}

void parse_json(struct parser *p, const struct question *q, struct slice text, struct parsed *out) {
    struct json_object *root = NULL;
    if (json_parse(text, &root, NULL) != 0) {
        values_find(p, q, text, out);
        if (p->n_items == 0) {
            parse_fail(out, OUTCOME_UNREADABLE, "the answer is not JSON, nor does it hold JSON items");
        }
        return;
    }
    if (parse_bare(p, q, root)) {
        json_object_put(root);
        return;
    }
    items_of(p, q, &root, out);
    if (p->n_items == 0 && !p->overflow) {
        bool empty = json_object_is_type(p->roots[0], json_type_array) &&
                     json_object_array_length(p->roots[0]) == 0;
        parse_fail(out, empty ? OUTCOME_EMPTY : OUTCOME_UNREADABLE,
                   "the answer has no items where 'response.path' looks");
    }
}
