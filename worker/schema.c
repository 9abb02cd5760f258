// JSON Schema from OUTPUT. Invariant: what the schema lets through is cast without an error, except for
// bounds that it does not say. Called by prompt when a model is looked over.
#include "worker/schema.h"

#include "common/json.h"
#include "worker/prompt.h"

static const char *const plain_types[] = {
    [TYPE_STRING] = "\"string\"",      [TYPE_BOOLEAN] = "\"boolean\"",
    [TYPE_INT] = "\"integer\"",        [TYPE_BIGINT] = "\"integer\"",
    [TYPE_FLOAT] = "\"number\"",       [TYPE_DOUBLE] = "\"number\"",
    [TYPE_DECIMAL] = "\"number\"",     [TYPE_DATE] = "\"string\"",
    [TYPE_TIMESTAMP] = "\"string\"",   [TYPE_TIMESTAMP_LTZ] = "\"string\"",
    [TYPE_BYTES] = "\"string\"",       [TYPE_ARRAY] = "\"array\"",
    [TYPE_MAP] = "\"string\"",         [TYPE_ROW] = "\"object\"",
};

// What a type's own text cannot say.
static const char *const notes[] = {
    [TYPE_DATE] = ",\"format\":\"date\"",
    [TYPE_TIMESTAMP] = ",\"format\":\"date-time\"",
    [TYPE_TIMESTAMP_LTZ] = ",\"format\":\"date-time\"",
    [TYPE_ROW] = NULL,
};

static int add_type(const struct type *type, struct buf *out);

static int add_fields(const struct type *row, struct buf *out) {
    int rc = buf_add_str(out, ",\"properties\":{");
    for (size_t i = 0; rc == 0 && i < row->n_fields; i++) {
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(out, slice_of(row->fields[i].name));
        rc = rc != 0 ? rc : buf_add_str(out, ":{");
        rc = rc != 0 ? rc : add_type(row->fields[i].type, out);
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
    }
    rc = rc != 0 ? rc : buf_add_str(out, "},\"required\":[");
    for (size_t i = 0; rc == 0 && i < row->n_fields; i++) {
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(out, slice_of(row->fields[i].name));
    }
    return rc != 0 ? rc : buf_add_str(out, "],\"additionalProperties\":false");
}

// add_type appends a type's members, without the braces around them.
static int add_type(const struct type *type, struct buf *out) {
    int rc = buf_addf(out, type->not_null ? "\"type\":%s" : "\"type\":[%s,\"null\"]",
                      plain_types[type->kind]);
    if (rc == 0 && notes[type->kind] != NULL) {
        rc = buf_add_str(out, notes[type->kind]);
    }
    if (rc == 0 && type->kind == TYPE_ARRAY) {
        rc = buf_add_str(out, ",\"items\":{");
        rc = rc != 0 ? rc : add_type(type->inner, out);
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
    }
    return rc == 0 && type->kind == TYPE_ROW ? add_fields(type, out) : rc;
}

// description_of is a column's comment, or what its type asks for and the schema cannot say.
static const char *description_of(const struct column *column) {
    if (column->comment != NULL && column->comment[0] != '\0') {
        return column->comment;
    }
    switch (column->type) {
    case TYPE_MAP:
        return "a JSON object";
    case TYPE_BYTES:
        return "base64";
    default:
        return NULL;
    }
}

// add_labels appends what a classification's value may be.
static int add_labels(const struct model *model, struct buf *out) {
    int rc = buf_add_str(out, ",\"enum\":[");
    for (size_t i = 0; rc == 0 && i < model->n_labels; i++) {
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(out, slice_of(model->labels[i]));
    }
    return rc != 0 ? rc : buf_add_str(out, model->output[0].not_null ? "]" : ",null]");
}

static int add_column(const struct model *model, size_t i, struct buf *out) {
    const struct column *column = &model->output[i];
    const char *description = description_of(column);
    struct type plain;
    int rc = json_add_string(out, slice_of(prompt_value_field(model, i)));
    rc = rc != 0 ? rc : buf_add_str(out, ":{");
    rc = rc != 0 ? rc : add_type(column_full(column, &plain), out);
    rc = rc == 0 && i == 0 && model->n_labels > 0 ? add_labels(model, out) : rc;
    if (rc == 0 && description != NULL) {
        rc = buf_add_str(out, ",\"description\":");
        rc = rc != 0 ? rc : json_add_string(out, slice_of(description));
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

int schema_add_item(const struct model *model, bool numbered, struct buf *out) {
    struct slice index = slice_of(model->options.response_index_field);
    int rc = buf_add_str(out, "{\"type\":\"object\",\"properties\":{");
    if (rc == 0 && numbered) {
        rc = json_add_string(out, index);
        rc = rc != 0 ? rc : buf_add_str(out, ":{\"type\":\"integer\"}");
    }
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        rc = numbered || i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : add_column(model, i, out);
    }
    rc = rc != 0 ? rc : buf_add_str(out, "},\"required\":[");
    if (rc == 0 && numbered) {
        rc = json_add_string(out, index);
    }
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        rc = numbered || i > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(out, slice_of(prompt_value_field(model, i)));
    }
    return rc != 0 ? rc : buf_add_str(out, "],\"additionalProperties\":false}");
}

int schema_add_list(struct slice item, struct buf *out) {
    int rc = buf_add_str(out, "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\","
                              "\"items\":");
    rc = rc != 0 ? rc : buf_add_slice(out, item);
    return rc != 0 ? rc
                   : buf_add_str(out, "}},\"required\":[\"items\"],\"additionalProperties\":false}");
}
