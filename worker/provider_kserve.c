// Open Inference Protocol v2 over HTTP with JSON tensors: Triton, KServe and their kin. An INPUT column is
// a tensor with one element, or one array, for each record; an output tensor is an OUTPUT column. Invariant: a tensor
// has no numbers of records, only places, so one whose first dimension is not the records of the call,
// or whose data do not fill its shape, makes the whole answer useless. Called through the table of
// providers. Source: Open Inference Protocol v2, inference over HTTP; Triton 2.x.
#include "worker/openai.h"

#include "common/json.h"
#include "proto/pack.h"
#include "proto/record.h"
#include "worker/prompt.h"
#include "worker/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define DIMENSIONS_MAX 8

// ---- The request --------------------------------------------------------------------------------

static const char *datatype_of(enum column_type type) {
    switch (type) {
    case TYPE_BOOLEAN:
        return "BOOL";
    case TYPE_INT:
        return "INT32";
    case TYPE_BIGINT:
        return "INT64";
    case TYPE_FLOAT:
        return "FP32";
    case TYPE_DOUBLE:
        return "FP64";
    default:
        return "BYTES";
    }
}

// The dimensions of one record's value; none for a column that is no ARRAY.
struct dimensions {
    size_t n, of[TYPE_DEPTH_MAX];
};

// value_of borrows one column's value in a record. Returns 0 or -EPROTO.
static int value_of(struct slice values, size_t column, struct slice *value) {
    uint32_t n;
    int rc = pack_array_next(&values, &n) == 0 && column < n ? 0 : -EPROTO;
    for (size_t i = 0; rc == 0 && i <= column; i++) {
        rc = pack_whole(&values, value) == 1 ? 0 : -EPROTO;
    }
    return rc;
}

// measure takes the dimensions of a value from its first elements.
static int measure(const struct type *type, struct slice value, struct dimensions *d) {
    *d = (struct dimensions){0};
    bool is_empty = false;
    for (; type->kind == TYPE_ARRAY; type = type->inner) {
        uint32_t n = 0;
        if (d->n == TYPE_DEPTH_MAX || (!is_empty && pack_array_next(&value, &n) != 0)) {
            return -EPROTO;
        }
        d->of[d->n++] = n;
        is_empty = n == 0;
    }
    return 0;
}

static int add_scalar(const struct type *type, struct slice *rest, struct buf *out) {
    struct value value;
    if (value_next(rest, &value) != 0 || value.kind == VALUE_NULL) {
        return -EPROTO; // a record with a null does not come here: option 'null.input'
    }
    if (type->kind > TYPE_STRING && type->kind <= TYPE_DOUBLE) {
        return value_add_json(&value, out);
    }
    return value.kind == VALUE_STRING ? json_add_string(out, value.text) : -EPROTO;
}

// add_elements writes one value's elements, with a comma before each but the first of the data.
//   n  elements written so far
// Returns 0, -EMSGSIZE, -EPROTO, or -ERANGE for a value of other dimensions.
static int add_elements(const struct type *type, const struct dimensions *d, size_t depth, struct slice *rest,
                        size_t *n, struct buf *out) {
    if (type->kind != TYPE_ARRAY) {
        int rc = (*n)++ > 0 ? buf_add_byte(out, ',') : 0;
        return rc != 0 ? rc : add_scalar(type, rest, out);
    }
    uint32_t count;
    int rc = pack_array_next(rest, &count) != 0 ? -EPROTO : count != d->of[depth] ? -ERANGE : 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        rc = add_elements(type->inner, d, depth + 1, rest, n, out);
    }
    return rc;
}

static int add_data(const struct ask *ask, size_t column, const struct type *type, struct dimensions *d,
                    struct buf *out) {
    struct slice rest = ask->records, values, value;
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ask->count; i++) {
        uint64_t slot;
        rc = record_next(&rest, &slot, &values) != 1 ? -EPROTO : value_of(values, column, &value);
        rc = rc == 0 && i == 0 ? measure(type, value, d) : rc;
        rc = rc != 0 ? rc : add_elements(type, d, 0, &value, &n, out);
    }
    return rc;
}

// is_unbatched: with arrays flat tensors have no dimension for records at all.
static bool is_unbatched(const struct model *model) {
    bool has_array = false;
    for (size_t i = 0; i < model->n_input; i++) {
        has_array |= model->input[i].type == TYPE_ARRAY;
    }
    return has_array && model->options.tensor_flat;
}

static int add_shape(const struct ask *ask, const struct type *type, const struct dimensions *d,
                     struct buf *out) {
    bool is_array = type->kind == TYPE_ARRAY, is_flat = ask->model->options.tensor_flat;
    int rc = is_array && is_flat ? 0 : buf_addf(out, "%zu", ask->count);
    rc = rc == 0 && !is_array && !is_flat ? buf_add_str(out, ",1") : rc;
    for (size_t i = 0; rc == 0 && i < d->n; i++) {
        rc = buf_addf(out, "%s%zu", i > 0 || !is_flat ? "," : "", d->of[i]);
    }
    return rc;
}

static int add_input(const struct ask *ask, size_t column, struct buf *data, struct buf *out) {
    const struct column *c = &ask->model->input[column];
    struct type plain;
    const struct type *type = column_full(c, &plain), *leaf = type;
    struct dimensions d = {0};
    while (leaf->kind == TYPE_ARRAY) {
        leaf = leaf->inner;
    }
    buf_clear(data);
    int rc = add_data(ask, column, type, &d, data);
    rc = rc != 0 ? rc : buf_addf(out, "%s{\"name\":", column > 0 ? "," : "");
    rc = rc != 0 ? rc : json_add_string(out, slice_of(c->name));
    rc = rc != 0 ? rc : buf_add_str(out, ",\"shape\":[");
    rc = rc != 0 ? rc : add_shape(ask, type, &d, out);
    rc = rc != 0 ? rc : buf_addf(out, "],\"datatype\":\"%s\",\"data\":[", datatype_of(leaf->kind));
    rc = rc != 0 ? rc : buf_add_slice(out, buf_slice(data));
    return rc != 0 ? rc : buf_add_str(out, "]}");
}

static int add_output(const struct ask *ask, size_t column, struct buf *out) {
    int rc = buf_addf(out, "%s{\"name\":", column > 0 ? "," : "");
    rc = rc != 0 ? rc : json_add_string(out, slice_of(prompt_value_field(ask->model, column)));
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int kserve_write(const struct ask *ask, struct buf *body) {
    struct buf data;
    buf_init(&data, body->max);
    int rc = buf_add_str(body, "{\"inputs\":[");
    for (size_t i = 0; rc == 0 && i < ask->model->n_input; i++) {
        rc = add_input(ask, i, &data, body);
    }
    buf_free(&data);
    rc = rc != 0 ? rc : buf_add_str(body, "],\"outputs\":[");
    for (size_t i = 0; rc == 0 && i < ask->model->n_output; i++) {
        rc = add_output(ask, i, body);
    }
    rc = rc != 0 ? rc : buf_add_byte(body, ']');
    return rc != 0 ? rc : openai_finish_body(ask->model, body);
}

// ---- The answer ---------------------------------------------------------------------------------

// One output tensor whose shape has been checked.
struct tensor {
    struct json_object *data;       // an array, flat or nested; borrowed
    bool nested;                    // data[i] is the array of record i
    bool whole;                     // no dimension is that of records: all of it is the only one's
    size_t dimensions[DIMENSIONS_MAX], n_dimensions; // of one record
    size_t n;                       // elements of one record
};

// count_leaves counts what is no array in nested arrays; json_parse bounds their depth.
static size_t count_leaves(struct json_object *value) {
    if (!json_object_is_type(value, json_type_array)) {
        return 1;
    }
    size_t n = json_object_array_length(value), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += count_leaves(json_object_array_get_idx(value, i));
    }
    return sum;
}

static int64_t dimension_of(struct json_object *shape, size_t i) {
    struct json_object *number = json_object_array_get_idx(shape, i);
    return json_object_is_type(number, json_type_int) ? json_object_get_int64(number) : -1;
}

// read_shape reads the dimensions of one record: those behind the first, which must be count, or all.
//   unbatched  the request had no dimension for records
static bool read_shape(struct json_object *shape, size_t count, bool unbatched, struct tensor *t) {
    size_t rank = json_object_is_type(shape, json_type_array) ? json_object_array_length(shape) : 0;
    if (rank == 0 || rank > DIMENSIONS_MAX) {
        return false;
    }
    t->n = 1;
    t->whole = unbatched && (rank == 1 || dimension_of(shape, 0) != 1);
    for (size_t i = 0; i < rank; i++) {
        int64_t n = dimension_of(shape, i);
        bool is_records = i == 0 && !t->whole;
        if (n < 1 || n > ANSWER_TEXT_MAX || (is_records && (size_t)n != count)) {
            return false;
        }
        if (!is_records) {
            t->dimensions[t->n_dimensions++] = (size_t)n;
            t->n *= (size_t)n;
            if (t->n > ANSWER_TEXT_MAX) {
                return false;
            }
        }
    }
    return true;
}

static bool read_tensor(struct json_object *output, size_t count, bool unbatched, struct tensor *t) {
    t->data = json_get(output, "data");
    if (!json_object_is_type(t->data, json_type_array) ||
        !read_shape(json_get(output, "shape"), count, unbatched, t)) {
        return false;
    }
    size_t n = json_object_array_length(t->data);
    t->nested = n > 0 && json_object_is_type(json_object_array_get_idx(t->data, 0), json_type_array);
    if (!t->nested) {
        return n == count * t->n && count_leaves(t->data) == n;
    }
    if (t->whole) {
        return count_leaves(t->data) == t->n;
    }
    bool good = n == count;
    for (size_t i = 0; good && i < count; i++) {
        good = count_leaves(json_object_array_get_idx(t->data, i)) == t->n;
    }
    return good;
}

// add_element writes what is left of a tensor below depth dimensions, from element *at on.
static int add_element(const struct tensor *t, size_t depth, size_t *at, struct buf *out) {
    if (depth == t->n_dimensions) {
        return json_add(out, json_object_array_get_idx(t->data, (*at)++));
    }
    int rc = buf_add_byte(out, '[');
    for (size_t i = 0; rc == 0 && i < t->dimensions[depth]; i++) {
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : add_element(t, depth + 1, at, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

// add_record writes a record's part of a tensor: an array where the column is one, else its only element.
static int add_record(const struct tensor *t, size_t i, bool is_array, struct buf *out) {
    size_t at = i * t->n;
    bool alone = !is_array && t->n == 1;
    if (!t->nested) {
        return add_element(t, alone ? t->n_dimensions : 0, &at, out);
    }
    struct json_object *value = t->whole ? t->data : json_object_array_get_idx(t->data, i);
    while (alone && json_object_is_type(value, json_type_array) && json_object_array_length(value) == 1) {
        value = json_object_array_get_idx(value, 0);
    }
    return json_add(out, value);
}

static struct json_object *find_output(struct json_object *outputs, const char *name) {
    size_t n = json_object_is_type(outputs, json_type_array) ? json_object_array_length(outputs) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *output = json_object_array_get_idx(outputs, i);
        if (slice_is(json_text(json_get(output, "name")), name)) {
            return output;
        }
    }
    return NULL;
}

// read_tensors finds the tensor of each OUTPUT column; false: the answer is useless and says why.
static bool read_tensors(const struct reply *reply, struct json_object *root, struct tensor *tensors,
                         struct answer *answer) {
    for (size_t i = 0; i < reply->model->n_output; i++) {
        const char *name = prompt_value_field(reply->model, i);
        struct json_object *output = find_output(json_get(root, "outputs"), name);
        tensors[i] = (struct tensor){0};
        if (output == NULL || !read_tensor(output, reply->count, is_unbatched(reply->model), &tensors[i])) {
            answer_fail(answer, OUTCOME_UNREADABLE, "");
            snprintf(answer->detail, sizeof(answer->detail),
                     output == NULL ? "the answer has no output '%.64s' (%zu records)"
                                    : "output '%.64s': want a tensor with a first dimension of %zu and data "
                                      "that fill its shape",
                     name, reply->count);
            return false;
        }
    }
    return true;
}

// add_item writes a record's values as the item that the parser knows.
static int add_item(const struct model *model, const struct tensor *tensors, size_t i, struct buf *out) {
    int rc = buf_addf(out, "%s{", i > 0 ? "," : "");
    rc = rc != 0 ? rc : json_add_string(out, slice_of(model->options.response_index_field));
    rc = rc != 0 ? rc : buf_addf(out, ":%zu", i + 1);
    for (size_t k = 0; rc == 0 && k < model->n_output; k++) {
        rc = buf_add_byte(out, ',');
        rc = rc != 0 ? rc : json_add_string(out, slice_of(prompt_value_field(model, k)));
        rc = rc != 0 ? rc : buf_add_byte(out, ':');
        rc = rc != 0 ? rc : add_record(&tensors[k], i, model->output[k].type == TYPE_ARRAY, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static void kserve_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(PROVIDER_KSERVE, reply, answer);
    struct tensor tensors[MODEL_COLUMNS_MAX];
    if (root == NULL || !read_tensors(reply, root, tensors, answer)) {
        return;
    }
    text_clean(json_text(json_get(root, "model_name")), answer->served_model, sizeof(answer->served_model));
    buf_init(&answer->made, ANSWER_TEXT_MAX);
    int rc = buf_add_byte(&answer->made, '[');
    for (size_t i = 0; rc == 0 && i < reply->count; i++) {
        rc = add_item(reply->model, tensors, i, &answer->made);
    }
    rc = rc != 0 ? rc : buf_add_byte(&answer->made, ']');
    if (rc != 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "the tensors are longer than can be read");
        return;
    }
    answer->text = buf_slice(&answer->made);
}

static const struct dialect kserve_tensors = {.write = kserve_write, .read = kserve_read};

const struct provider provider_kserve = {
    .headers = openai_bearer,
    .limits = LIMITS_NONE,
    .dialects = {[API_TENSORS] = &kserve_tensors},
};
