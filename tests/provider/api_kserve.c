// Open Inference Protocol v2, as Triton speaks it: a model that takes any input tensors, of elements or of
// arrays, and has the outputs of the table below. One whose inputs' names begin with "flat" has no
// dimension for records: a request is one. Faults of answers become faults of tensors: wrong
// first dimensions, data that do not fill the shape. Called through the table of APIs.
#include "tests/provider/api.h"
#include "common/json.h"
#include "tests/provider/answer.h"
#include "tests/provider/sentiment.h"

#include <errno.h>
#include <inttypes.h>

#define BATCH_MOST 64
#define TEXT_MAX (8u << 20)
#define VECTOR_NUMBERS 8
#define RANK_MOST 8
#define ELEMENTS_MOST 1000000

static const char *const fields[] = {"id", "parameters", "inputs", "outputs"};
static const char *const tensor_fields[] = {"name", "shape", "datatype", "parameters", "data"};

static const struct {
    const char *datatype;
    json_type type, or_type;
} datatypes[] = {
    {"BYTES", json_type_string, json_type_string}, {"BOOL", json_type_boolean, json_type_boolean},
    {"INT32", json_type_int, json_type_int},       {"INT64", json_type_int, json_type_int},
    {"FP32", json_type_double, json_type_int},     {"FP64", json_type_double, json_type_int},
};
#define N_DATATYPES (sizeof(datatypes) / sizeof(datatypes[0]))

// ---- The request --------------------------------------------------------------------------------

static int64_t dimension_of(struct json_object *shape, size_t i) {
    struct json_object *n = json_object_array_get_idx(shape, i);
    return json_object_is_type(n, json_type_int) ? json_object_get_int64(n) : -1;
}

// An input tensor: so many records of so many elements.
struct tensor {
    int64_t n, width;
};

static int read_shape(struct json_object *input, struct slice name, bool flat, struct tensor *t,
                      struct error *why) {
    struct json_object *shape = json_get(input, "shape");
    size_t rank = json_object_is_type(shape, json_type_array) ? json_object_array_length(shape) : 0;
    *t = (struct tensor){.n = flat ? 1 : dimension_of(shape, 0), .width = 1};
    for (size_t i = flat ? 0 : 1; i < rank && t->width > 0 && t->width < ELEMENTS_MOST; i++) {
        t->width *= dimension_of(shape, i);
    }
    if (rank == 0 || rank > RANK_MOST || t->n < 1 || t->width < 1 || t->width > ELEMENTS_MOST) {
        return error_set(why, -EINVAL, "unexpected shape for input '%.*s' for model 'd'. Expected [-1,-1]",
                         SLICE_FMT(name));
    }
    if (t->n > BATCH_MOST) {
        return error_set(why, -EINVAL, "inference request batch-size must be <= %d for 'd'", BATCH_MOST);
    }
    return 0;
}

static int check_data(struct json_object *input, struct slice name, int64_t n, struct error *why) {
    struct slice datatype = json_text(json_get(input, "datatype"));
    struct json_object *data = json_get(input, "data");
    size_t k = 0;
    while (k < N_DATATYPES && !slice_is(datatype, datatypes[k].datatype)) {
        k++;
    }
    if (k == N_DATATYPES) {
        return error_set(why, -EINVAL, "inference input '%.*s' data-type is not known", SLICE_FMT(name));
    }
    if (!json_object_is_type(data, json_type_array) || json_object_array_length(data) != (size_t)n) {
        return error_set(why, -EINVAL, "unexpected size of data for input '%.*s'", SLICE_FMT(name));
    }
    for (int64_t i = 0; i < n; i++) {
        struct json_object *value = json_object_array_get_idx(data, (size_t)i);
        if (!json_object_is_type(value, datatypes[k].type) &&
            !json_object_is_type(value, datatypes[k].or_type)) {
            return error_set(why, -EINVAL, "unable to parse 'data' of input '%.*s': attempt to access JSON "
                             "of another type", SLICE_FMT(name));
        }
    }
    return 0;
}

static bool is_flat(struct json_object *input) {
    return slice_starts(json_text(json_get(input, "name")), "flat");
}

static int check_input(struct json_object *input, int64_t *n, struct error *why) {
    struct slice name = json_text(json_get(input, "name"));
    if (!json_object_is_type(input, json_type_object) || name.n == 0) {
        return error_set(why, -EINVAL, "failed to parse the request: an input without a name");
    }
    int rc = api_check_fields(input, tensor_fields, sizeof(tensor_fields) / sizeof(tensor_fields[0]), why);
    struct tensor t;
    rc = rc == 0 ? read_shape(input, name, is_flat(input), &t, why) : rc;
    if (rc != 0) {
        return -EINVAL;
    }
    if (*n != 0 && *n != t.n) {
        return error_set(why, -EINVAL, "input '%.*s' batch size does not match other inputs", SLICE_FMT(name));
    }
    *n = t.n;
    return check_data(input, name, t.n * t.width, why);
}

// add_text joins the elements of record i of n with spaces.
static int add_text(struct chat *chat, struct json_object *inputs, size_t i, size_t n, struct buf *text) {
    int rc = 0;
    buf_clear(text);
    for (size_t k = 0; rc == 0 && k < json_object_array_length(inputs); k++) {
        struct json_object *data = json_get(json_object_array_get_idx(inputs, k), "data");
        size_t width = json_object_array_length(data) / n;
        for (size_t at = i * width; rc == 0 && at < (i + 1) * width; at++) {
            rc = text->n > 0 ? buf_add_byte(text, ' ') : 0;
            rc = rc != 0 ? rc : buf_add_str(text, json_object_get_string(json_object_array_get_idx(data, at)));
        }
    }
    struct json_object *whole = json_object_new_string_len(text->n > 0 ? text->p : "", (int)text->n);
    rc = rc != 0 ? rc : chat_add_input(chat, (int64_t)i + 1, whole);
    json_object_put(whole);
    return rc;
}

static int read_inputs(struct chat *chat, struct error *why) {
    struct json_object *inputs = json_get(chat->root, "inputs");
    int64_t n = 0;
    if (!json_object_is_type(inputs, json_type_array) || json_object_array_length(inputs) == 0) {
        return error_set(why, -EINVAL, "failed to parse the request: want 'inputs'");
    }
    for (size_t k = 0; k < json_object_array_length(inputs); k++) {
        if (check_input(json_object_array_get_idx(inputs, k), &n, why) != 0) {
            return -EINVAL;
        }
    }
    struct buf text;
    int rc = 0;
    buf_init(&text, TEXT_MAX);
    for (size_t i = 0; rc == 0 && i < (size_t)n; i++) {
        rc = add_text(chat, inputs, i, (size_t)n, &text);
    }
    buf_free(&text);
    return rc == 0 ? 0 : error_set(why, -EINVAL, "an element is too long");
}

// ---- The answer ---------------------------------------------------------------------------------

static int add_tag(uint64_t hash, struct slice text, struct buf *out) {
    return buf_addf(out, "\"h:%016" PRIx64 "\"", hash);
}

static int add_sentiment(uint64_t hash, struct slice text, struct buf *out) {
    return json_add_string(out, slice_of(sentiment_name(sentiment_of(text))));
}

static int add_score(uint64_t hash, struct slice text, struct buf *out) {
    return buf_addf(out, "%d", (int)(hash % 100));
}

// add_vector writes the numbers of api_embeddings.c.
static int add_vector(uint64_t hash, struct slice text, struct buf *out) {
    int rc = 0;
    for (int k = 0; rc == 0 && k < VECTOR_NUMBERS; k++) {
        rc = k > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_double(out, ((double)((hash >> (8 * k)) & 0xff) - 128) / 128);
    }
    return rc;
}

static const struct output {
    const char *name, *datatype;
    int width; // elements of a record
    int (*add)(uint64_t hash, struct slice text, struct buf *out);
} outputs[] = {
    {"tag", "BYTES", 1, add_tag},
    {"sentiment", "BYTES", 1, add_sentiment},
    {"score", "INT64", 1, add_score},
    {"vector", "FP32", VECTOR_NUMBERS, add_vector},
};
#define N_OUTPUTS (sizeof(outputs) / sizeof(outputs[0]))

static const struct output *output_of(struct slice name) {
    for (size_t i = 0; i < N_OUTPUTS; i++) {
        if (slice_is(name, outputs[i].name)) {
            return &outputs[i];
        }
    }
    return NULL;
}

int api_kserve_read(struct chat *chat, bool strict, struct error *why) {
    chat->vectors = true; // no prompt, no text
    int rc = strict ? api_check_fields(chat->root, fields, sizeof(fields) / sizeof(fields[0]), why) : 0;
    rc = rc != 0 ? rc : read_inputs(chat, why);
    struct json_object *wanted = json_get(chat->root, "outputs");
    size_t n = json_object_is_type(wanted, json_type_array) ? json_object_array_length(wanted) : 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct slice name = json_text(json_get(json_object_array_get_idx(wanted, i), "name"));
        if (output_of(name) == NULL) {
            rc = error_set(why, -EINVAL, "unexpected inference output '%.*s' for model 'd'", SLICE_FMT(name));
        }
    }
    return rc;
}

// What a fault does to a tensor: how many records its shape counts, and how many its data have.
static void sizes_of(const struct job *job, size_t n, size_t *shape, size_t *data) {
    *shape = *data = n;
    switch (job->fault) {
    case FAULT_MISSING:
    case FAULT_SHIFTED:
        *shape = *data = n - 1;
        break;
    case FAULT_DUPLICATE:
    case FAULT_OUT_OF_RANGE:
        *shape = *data = n + 1;
        break;
    case FAULT_TRUNCATED:
    case FAULT_LENGTH:
        *data = n / 2;
        break;
    default:
        break;
    }
}

static int add_output(const struct output *o, struct job *job, struct chat *chat, size_t struck,
                      struct buf *out) {
    size_t n = chat->n_slots, n_shape, n_data;
    sizes_of(job, n, &n_shape, &n_data);
    bool flat = is_flat(json_object_array_get_idx(json_get(chat->root, "inputs"), 0));
    int rc = buf_addf(out, "{\"name\":\"%s\",\"datatype\":\"%s\",\"shape\":[", o->name, o->datatype);
    if (rc == 0 && (!flat || n_shape != n)) {
        rc = buf_addf(out, "%zu,", n_shape);
    }
    rc = rc != 0 ? rc : buf_addf(out, "%d],\"data\":[", o->width);
    for (size_t i = 0; rc == 0 && i < n_data; i++) {
        size_t skipped = n_data < n && i >= struck ? 1 : 0; // one is left out, or one comes twice
        struct chat_slot *slot = &chat->slots[(i + skipped) % n];
        bool wrong = job->fault == FAULT_WRONG_TYPE && i == struck;
        struct slice text = chat_text(chat, slot);
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : wrong ? buf_add_str(out, "{}") : o->add(answer_hash(text), text, out);
        slot->item_end = n_shape == n && n_data == n && !wrong ? out->n : 0;
    }
    return rc != 0 ? rc : buf_add_str(out, "]}");
}

int api_kserve_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                     struct buf *out) {
    struct json_object *wanted = json_get(chat->root, "outputs");
    size_t n = json_object_is_type(wanted, json_type_array) ? json_object_array_length(wanted) : 0;
    bool none = job->fault == FAULT_EMPTY;
    int rc = buf_add_str(out, "{\"model_name\":\"d\",\"model_version\":\"1\",\"outputs\":");
    if (rc == 0 && job->fault == FAULT_MALFORMED) {
        return buf_add_str(out, "\"oops\"}");
    }
    rc = rc != 0 ? rc : buf_add_byte(out, '[');
    for (size_t i = 0; rc == 0 && !none && i < (n > 0 ? n : N_OUTPUTS); i++) {
        struct json_object *one = n > 0 ? json_object_array_get_idx(wanted, i) : NULL;
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc
                     : add_output(n > 0 ? output_of(json_text(json_get(one, "name"))) : &outputs[i], job, chat,
                                  (size_t)(draw % chat->n_slots), out);
    }
    job->output_tokens = 0;
    return rc != 0 ? rc : buf_add_str(out, "]}");
}
