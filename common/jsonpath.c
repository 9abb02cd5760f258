// Runs a compiled JSONPath query over json-c values: depth first, which yields the nodes in the
// order of RFC 9535. Invariant: every node selected or walked through is counted before it is
// looked into, so that max_nodes bounds the time; a selector only goes down, so that the document's
// depth bounds the stack. Called for each answer of a provider.
#include "common/jsonpath_internal.h"

#include <errno.h>

struct query {
    const struct jsonpath *path;
    struct jsonpath_run *run;
    jsonpath_found *found; // the caller's
    void *arg;             // the caller's
};

static int visit(struct query *q, size_t i, struct json_object *node);

static bool count_node(struct query *q) {
    if (q->run->n_left == 0) {
        return false;
    }
    q->run->n_left--;
    return true;
}

// take_child gives a child on that the selector s, a wildcard or filter, selects.
static int take_child(struct query *q, size_t i, const struct jsonpath_selector *s,
                      struct json_object *child) {
    if (s->kind == JSONPATH_FILTER) {
        int holds = jsonpath_holds(q->run, s->filter, child);
        return holds > 0 ? visit(q, i, child) : holds;
    }
    return visit(q, i, child);
}

static int select_all(struct query *q, size_t i, const struct jsonpath_selector *s,
                      struct json_object *node) {
    int rc = 0;
    if (json_object_is_type(node, json_type_array)) {
        size_t n = json_object_array_length(node);
        for (size_t k = 0; rc == 0 && k < n; k++) {
            rc = take_child(q, i, s, json_object_array_get_idx(node, k));
        }
    } else if (json_object_is_type(node, json_type_object)) {
        json_object_object_foreach(node, name, member) {
            (void)name;
            rc = take_child(q, i, s, member);
            if (rc != 0) {
                break;
            }
        }
    }
    return rc;
}

static int select_name(struct query *q, size_t i, const struct jsonpath_selector *s,
                       struct json_object *node) {
    struct json_object *member = NULL; // stays so for a member that is null
    if (s->has_nul || !json_object_is_type(node, json_type_object) ||
        !json_object_object_get_ex(node, s->name, &member)) {
        return 0;
    }
    return visit(q, i, member);
}

static int select_index(struct query *q, size_t i, int64_t index, struct json_object *node) {
    if (!json_object_is_type(node, json_type_array)) {
        return 0;
    }
    int64_t n = (int64_t)json_object_array_length(node);
    int64_t k = index < 0 ? n + index : index;
    return k < 0 || k >= n ? 0 : visit(q, i, json_object_array_get_idx(node, (size_t)k));
}

static int64_t clip(int64_t value, int64_t least, int64_t most) {
    return value < least ? least : value > most ? most : value;
}

// select_slice: the bounds are those of RFC 9535 section 2.3.4.2.2.
static int select_slice(struct query *q, size_t i, const struct jsonpath_slice *s,
                        struct json_object *node) {
    if (!json_object_is_type(node, json_type_array) || s->step == 0) {
        return 0;
    }
    int64_t n = (int64_t)json_object_array_length(node);
    bool is_up = s->step > 0;
    int64_t start = s->has_start ? s->start : is_up ? 0 : n - 1;
    int64_t end = s->has_end ? s->end : is_up ? n : -n - 1;
    start = start >= 0 ? start : n + start;
    end = end >= 0 ? end : n + end;
    int64_t from = is_up ? clip(start, 0, n) : clip(start, -1, n - 1);
    int64_t to = is_up ? clip(end, 0, n) : clip(end, -1, n - 1);
    int rc = 0;
    for (int64_t k = from; rc == 0 && (is_up ? k < to : k > to); k += s->step) {
        rc = visit(q, i, json_object_array_get_idx(node, (size_t)k));
    }
    return rc;
}

static int apply_selector(struct query *q, size_t i, const struct jsonpath_selector *s,
                          struct json_object *node) {
    switch (s->kind) {
    case JSONPATH_NAME:
        return select_name(q, i, s, node);
    case JSONPATH_WILDCARD:
    case JSONPATH_FILTER:
        return select_all(q, i, s, node);
    case JSONPATH_INDEX:
        return select_index(q, i, s->index, node);
    case JSONPATH_SLICE:
        return select_slice(q, i, &s->slice, node);
    }
    return 0;
}

// apply gives node's children that segment i selects to the segment after it.
static int apply(struct query *q, size_t i, struct json_object *node) {
    const struct jsonpath_segment *segment = &q->path->segments[i];
    int rc = 0;
    for (size_t k = 0; rc == 0 && k < segment->n_selectors; k++) {
        rc = apply_selector(q, i + 1, &segment->selectors[k], node);
    }
    return rc;
}

// descend applies segment i to node and then to all that is in it, a node before its children.
static int descend(struct query *q, size_t i, struct json_object *node) {
    if (!count_node(q)) {
        return -E2BIG;
    }
    int rc = apply(q, i, node);
    if (rc != 0) {
        return rc;
    }
    if (json_object_is_type(node, json_type_array)) {
        size_t n = json_object_array_length(node);
        for (size_t k = 0; rc == 0 && k < n; k++) {
            rc = descend(q, i, json_object_array_get_idx(node, k));
        }
    } else if (json_object_is_type(node, json_type_object)) {
        json_object_object_foreach(node, name, member) {
            (void)name;
            rc = descend(q, i, member);
            if (rc != 0) {
                break;
            }
        }
    }
    return rc;
}

// visit takes a node that the segments before i selected; past the last one it is found.
static int visit(struct query *q, size_t i, struct json_object *node) {
    if (!count_node(q)) {
        return -E2BIG;
    }
    if (i == q->path->n_segments) {
        return q->found(q->arg, node);
    }
    return q->path->segments[i].is_descendant ? descend(q, i, node) : apply(q, i, node);
}

int jsonpath_run_query(struct jsonpath_run *run, const struct jsonpath *path,
                       struct json_object *from, jsonpath_found *found, void *arg) {
    struct query q = {.path = path, .run = run, .found = found, .arg = arg};
    return visit(&q, 0, from);
}

struct counted {
    long n;
    jsonpath_found *found;
    void *arg;
};

static int on_counted(void *arg, struct json_object *value) {
    struct counted *c = arg;
    c->n++;
    return c->found(c->arg, value);
}

long jsonpath_query(const struct jsonpath *path, struct json_object *root, size_t max_nodes,
                    jsonpath_found *found, void *arg) {
    struct jsonpath_run run = {.root = root, .n_left = max_nodes};
    struct counted c = {.found = found, .arg = arg};
    int rc = jsonpath_run_query(&run, path, root, on_counted, &c);
    return rc != 0 ? rc : c.n;
}
