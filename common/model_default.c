// Option default.value: what a record gets instead of an error row. Invariant: what is kept are values of
// the OUTPUT columns, cast by the rules that answers are cast by. Called by model_check.c.
#include "common/cast.h"
#include "common/json.h"
#include "common/model_parts.h"

#include <errno.h>
#include <msgpack.h>
#include <string.h>

#define VALUES_MAX (256 * 1024)

static int write_buf(void *arg, const char *p, size_t n) {
    return buf_add(arg, p, n);
}

// cast_one takes the whole text as the value of the only column; null stands for null, as in Flink.
static int cast_one(const struct model *model, const char *text, struct buf *out, struct error *why) {
    struct json_object *value = strcmp(text, "null") != 0 ? json_object_new_string(text) : NULL;
    int rc = cast_answer(&model->output[0], value, out, why);
    json_object_put(value);
    return rc;
}

static bool is_output(const struct model *model, const char *name) {
    for (size_t i = 0; i < model->n_output; i++) {
        if (strcmp(model->output[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

// cast_object takes each column's value from an object; a column that is not there is null.
static int cast_object(const struct model *model, struct json_object *object, struct buf *out,
                       struct error *why) {
    json_object_object_foreach(object, name, member) {
        (void)member;
        if (!is_output(model, name)) {
            return error_set(why, -EINVAL, "got a member '%.60s', want OUTPUT columns alone", name);
        }
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        rc = cast_answer(&model->output[i], json_get(object, model->output[i].name), out, why);
    }
    return rc;
}

static int cast_default(const struct model *model, const char *text, struct buf *out, struct error *why) {
    msgpack_packer packer;
    struct json_object *object = NULL;
    msgpack_packer_init(&packer, out, write_buf);
    int rc = msgpack_pack_array(&packer, model->n_output) == 0 ? 0 : -EMSGSIZE;
    if (rc == 0 && model->n_output == 1) {
        return cast_one(model, text, out, why);
    }
    if (rc == 0 && (json_parse(slice_of(text), &object, NULL) != 0 ||
                    !json_object_is_type(object, json_type_object))) {
        rc = error_set(why, -EINVAL, "got no JSON object, want one with a member for each of the %zu OUTPUT columns",
                       model->n_output);
    }
    rc = rc != 0 ? rc : cast_object(model, object, out, why);
    json_object_put(object);
    return rc;
}

int model_check_default(struct model *model, int *line, struct error *why) {
    const struct model_setting *setting = model_setting_of(model, "default.value");
    if (setting == NULL) {
        return 0;
    }
    if (model->options.on_error != ON_ERROR_ROW) {
        return error_set(why, model_blame(model, "default.value", line),
                         "option 'default.value': got one with 'on.error' = '%s', want that left out: a record "
                         "with a default has not failed",
                         model->options.on_error == ON_ERROR_FAIL ? "fail" : "dead-letter");
    }
    struct buf values;
    buf_init(&values, VALUES_MAX);
    int rc = cast_default(model, model->options.default_value, &values, why);
    if (rc == -EMSGSIZE) {
        error_set(why, rc, "got values of more than %d bytes", VALUES_MAX);
    }
    if (rc != 0) {
        error_prefix(why, "option 'default.value': ");
        buf_free(&values);
        return model_blame(model, "default.value", line);
    }
    model->defaults = (struct slice){.n = values.n};
    model->defaults.p = buf_take(&values);
    return 0;
}
