// Any endpoint that takes JSON and answers JSON: option 'request.template' makes the body, 'answer.path'
// says where the answer is in what comes back. Invariant: {{name}} writes a whole JSON value, so that no
// text of a record ends the string that it stands in. Called through the table of providers.
#include "worker/openai.h"

#include "common/json.h"
#include "common/jsonpath.h"
#include "common/template.h"
#include "proto/record.h"
#include "worker/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#define NODES_MAX 1000000 // that a path may visit in one body
#define FOUND_MAX 4096    // values that answer.path may find

// ---- The request --------------------------------------------------------------------------------

// What a rendering reads. One lives for the time of one request.
struct rendering {
    const struct ask *ask;
    struct buf scratch; // what get lends until the next call
};

static int add_values(const struct model *model, size_t index, struct slice values, struct buf *out) {
    long n = value_array(&values);
    int rc = n == (long)model->n_input ? buf_addf(out, "{\"index\":%zu", index) : -EPROTO;
    for (size_t i = 0; rc == 0 && i < model->n_input; i++) {
        struct value value;
        rc = value_next(&values, &value);
        rc = rc != 0 ? rc : buf_add_byte(out, ',');
        rc = rc != 0 ? rc : json_add_string(out, slice_of(model->input[i].name));
        rc = rc != 0 ? rc : buf_add_byte(out, ':');
        rc = rc != 0 ? rc : value_add_json(&value, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// add_records writes all records as an array of objects, numbered from 1.
static int add_records(const struct ask *ask, struct buf *out) {
    struct slice rest = ask->records, values;
    int rc = buf_add_byte(out, '[');
    for (size_t i = 0; rc == 0 && i < ask->count; i++) {
        uint64_t slot;
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc == 0 && record_next(&rest, &slot, &values) != 1 ? -EPROTO : rc;
        rc = rc != 0 ? rc : add_values(ask->model, i + 1, values, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

static int add_count(const struct ask *ask, struct buf *out) {
    return buf_addf(out, "%zu", ask->count);
}

static int add_schema(const struct ask *ask, struct buf *out) {
    return buf_add_slice(out, ask->schema);
}

static int add_number(double value, struct buf *out) {
    return isnan(value) ? 0 : json_add_double(out, value);
}

static int add_temperature(const struct ask *ask, struct buf *out) {
    return add_number(ask->model->options.temperature, out);
}

static int add_top_p(const struct ask *ask, struct buf *out) {
    return add_number(ask->model->options.top_p, out);
}

static int add_whole(int64_t value, struct buf *out) {
    return value == MODEL_UNSET ? 0 : buf_addf(out, "%" PRId64, value);
}

static int add_max_tokens(const struct ask *ask, struct buf *out) {
    return add_whole(ask->model->options.max_tokens, out);
}

static int add_seed(const struct ask *ask, struct buf *out) {
    return add_whole(ask->model->options.seed, out);
}

static int add_stop(const struct ask *ask, struct buf *out) {
    return buf_add_str(out, ask->model->options.stop);
}

// Names that stand for JSON; nothing written means that it was not given.
static const struct {
    const char *name;
    int (*add)(const struct ask *ask, struct buf *out);
} json_names[] = {
    {.name = "records", .add = add_records},         {.name = "count", .add = add_count},
    {.name = "schema", .add = add_schema},           {.name = "temperature", .add = add_temperature},
    {.name = "top_p", .add = add_top_p},             {.name = "max_tokens", .add = add_max_tokens},
    {.name = "seed", .add = add_seed},               {.name = "stop", .add = add_stop},
};

static struct template_value text_value(struct slice text, bool there) {
    return (struct template_value){.kind = there ? TEMPLATE_TEXT : TEMPLATE_FALSE, .text = text};
}

static bool on_get(void *arg, const void *node, struct slice name, struct template_value *out) {
    struct rendering *r = arg;
    const struct ask *ask = r->ask;
    if (slice_is(name, "prompt")) {
        *out = text_value(ask->user, true);
        return true;
    }
    if (slice_is(name, "system")) {
        *out = text_value(ask->system, ask->system.n > 0);
        return true;
    }
    if (slice_is(name, "model")) {
        *out = text_value(slice_of(ask->model->options.model), true);
        return true;
    }
    for (size_t i = 0; i < sizeof(json_names) / sizeof(json_names[0]); i++) {
        if (slice_is(name, json_names[i].name)) {
            buf_clear(&r->scratch);
            if (json_names[i].add(ask, &r->scratch) != 0) {
                return false; // the body lacks a value then, and is no JSON
            }
            *out = text_value(buf_slice(&r->scratch), r->scratch.n > 0);
            out->is_raw = true; // it is JSON already
            return true;
        }
    }
    return false;
}

static void on_item(void *arg, const void *list, size_t i, struct template_value *out) {
    *out = (struct template_value){.kind = TEMPLATE_FALSE}; // there are no lists
}

static int on_escape(void *arg, struct slice text, struct buf *out) {
    return json_add_string(out, text);
}

// check_body makes sure that the body is JSON and applies option 'params' to it.
static int check_body(const struct model *model, struct buf *body) {
    struct json_object *whole = NULL;
    int rc = json_parse(buf_slice(body), &whole, NULL);
    json_object_put(whole);
    return rc != 0 ? rc : body_merge(model, body);
}

static int http_write(const struct ask *ask, struct buf *body) {
    struct rendering r = {.ask = ask};
    struct template_source source = {.get = on_get, .item = on_item, .escape = on_escape, .arg = &r};
    buf_init(&r.scratch, body->max);
    int rc = template_render(ask->model->request_template, &source, &r, body);
    buf_free(&r.scratch);
    return rc != 0 ? rc : check_body(ask->model, body);
}

// ---- The answer ---------------------------------------------------------------------------------

struct found {
    struct json_object *values[FOUND_MAX]; // borrowed; NULL stands for null
    size_t n;
    bool strings; // all of them
};

static int on_found(void *arg, struct json_object *value) {
    struct found *found = arg;
    if (found->n == FOUND_MAX) {
        return -E2BIG;
    }
    found->strings = found->strings && json_object_is_type(value, json_type_string);
    found->values[found->n++] = value;
    return 0;
}

// add_found writes several values as one text: strings one after another, others as an array.
static int add_found(const struct found *found, struct buf *out) {
    int rc = found->strings || found->n == 1 ? 0 : buf_add_byte(out, '[');
    for (size_t i = 0; rc == 0 && i < found->n; i++) {
        rc = i > 0 && !found->strings ? buf_add_byte(out, ',') : 0;
        rc = rc != 0          ? rc
             : found->strings ? buf_add_slice(out, json_text(found->values[i]))
                              : json_add(out, found->values[i]);
    }
    return rc != 0 || found->strings || found->n == 1 ? rc : buf_add_byte(out, ']');
}

static void read_text(const struct model *model, struct json_object *root, struct answer *answer) {
    struct found found = {.strings = true};
    if (jsonpath_query(model->answer_path, root, NODES_MAX, on_found, &found) < 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "'answer.path' finds more in the answer than can be meant");
        return;
    }
    if (found.n == 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "'answer.path' finds nothing in the answer");
        return;
    }
    if (found.n == 1 && (found.strings || found.values[0] == NULL)) {
        answer->text = json_text(found.values[0]);
        return;
    }
    buf_init(&answer->made, ANSWER_TEXT_MAX);
    if (add_found(&found, &answer->made) != 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "the answer is longer than can be read");
        return;
    }
    answer->text = buf_slice(&answer->made);
}

static int on_count(void *arg, struct json_object *value) {
    uint64_t *count = arg;
    if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0) {
        return -EINVAL;
    }
    *count = (uint64_t)json_object_get_int64(value);
    return 0;
}

static bool read_count(const struct jsonpath *path, struct json_object *root, uint64_t *count) {
    uint64_t n = 0;
    if (path == NULL || jsonpath_query(path, root, NODES_MAX, on_count, &n) != 1) {
        return false;
    }
    *count = n;
    return true;
}

static void read_usage(const struct model *model, struct json_object *root, struct answer *answer) {
    uint64_t in = 0, out = 0;
    answer->usage_known = read_count(model->usage_input_path, root, &in) &&
                          read_count(model->usage_output_path, root, &out);
    if (answer->usage_known) {
        answer->input_tokens = in;
        answer->output_tokens = out;
    }
}

// read_root is reply_json for endpoints that answer with any 2xx, and with an array too.
static struct json_object *read_root(const struct reply *reply, struct answer *answer) {
    struct reply good = *reply;
    good.status = reply->status >= 200 && reply->status <= 299 ? 200 : reply->status;
    if (good.status == 200 && slice_starts(slice_trim(reply->body), "[") &&
        json_parse(reply->body, &answer->root, NULL) == 0) {
        return answer->root;
    }
    return reply_json(PROVIDER_HTTP, &good, answer);
}

static void http_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = read_root(reply, answer);
    if (root == NULL) {
        return;
    }
    read_usage(reply->model, root, answer);
    read_text(reply->model, root, answer);
}

static const struct dialect http_template = {.write = http_write, .read = http_read};

const struct provider provider_http = {
    .headers = openai_bearer,
    .limits = LIMITS_NONE,
    .dialects = {[API_TEMPLATE] = &http_template},
};
