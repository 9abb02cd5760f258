// Casts of what a model answered. Invariant: a value is cast exactly or refused; nothing is guessed
// from words. A sentence says what kind of value came, never its text. Called by worker/parse.c and
// model_default.c.
#include "common/cast.h"

#include "common/base64.h"
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_MAX 160  // bytes of "column 'x', element 3, field 'y'"
#define BYTES_MAX (8 * 1024 * 1024)

// Where a cast stands.
struct cast {
    msgpack_packer packer;
    struct error *why;
    char place[PLACE_MAX];
};

static int write_buf(void *arg, const char *p, size_t n) {
    return buf_add(arg, p, n);
}

static const char *kind_of(struct json_object *json) {
    switch (json_object_get_type(json)) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return "a boolean";
    case json_type_int:
        return "an integer";
    case json_type_double:
        return "a number";
    case json_type_string:
        return "a string";
    case json_type_array:
        return "an array";
    case json_type_object:
        return "an object";
    }
    return "?";
}

// refuse says what came and what was wanted; form explains the type, "" when there is nothing to.
static int refuse(struct cast *c, const struct type *type, const char *got, const char *form) {
    struct buf text;
    buf_init(&text, 256);
    int rc = type_add_text(type, &text);
    error_set(c->why, -EINVAL, "%s: got %s, want %s%s%s", c->place, got,
              rc == 0 ? text.p : column_type_name(type->kind), type->not_null ? " NOT NULL" : "", form);
    buf_free(&text);
    return -EINVAL;
}

static int pack_str(struct cast *c, struct slice s) {
    return msgpack_pack_str(&c->packer, s.n) == 0 && msgpack_pack_str_body(&c->packer, s.p, s.n) == 0
               ? 0
               : -EMSGSIZE;
}

// ---- Plain types --------------------------------------------------------------------------------

// text_of is a scalar's text; empty for others.
static struct slice text_of(struct json_object *json) {
    switch (json_object_get_type(json)) {
    case json_type_string:
        return json_text(json);
    case json_type_int:
    case json_type_double:
    case json_type_boolean:
        return slice_of(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
    default:
        return SLICE_NONE;
    }
}

static int cast_string(struct cast *c, const struct type *type, struct json_object *json) {
    bool scalar = !json_object_is_type(json, json_type_array) &&
                  !json_object_is_type(json, json_type_object);
    return scalar ? pack_str(c, text_of(json)) : refuse(c, type, kind_of(json), "");
}

static int cast_boolean(struct cast *c, const struct type *type, struct json_object *json) {
    struct slice s = slice_trim(json_text(json));
    int truth = -1;
    if (json_object_is_type(json, json_type_boolean)) {
        truth = json_object_get_boolean(json);
    } else if (json_object_is_type(json, json_type_int)) {
        int64_t n = json_object_get_int64(json);
        truth = n == 0 || n == 1 ? (int)n : -1;
    } else if (slice_is_nocase(s, "true") || slice_is(s, "1")) {
        truth = 1;
    } else if (slice_is_nocase(s, "false") || slice_is(s, "0")) {
        truth = 0;
    }
    if (truth < 0) {
        return refuse(c, type, kind_of(json), "");
    }
    return (truth ? msgpack_pack_true(&c->packer) : msgpack_pack_false(&c->packer)) == 0 ? 0
                                                                                         : -EMSGSIZE;
}

// number_of reads a JSON number or a number in a string. *whole says that it is exactly *integer.
static bool number_of(struct json_object *json, double *real, int64_t *integer, bool *whole) {
    *whole = false;
    if (json_object_is_type(json, json_type_int)) {
        *integer = json_object_get_int64(json);
        *real = (double)*integer;
        // json-c clamps what does not fit into int64: such a number is not that integer.
        *whole = *integer != INT64_MAX || json_object_get_uint64(json) == INT64_MAX;
        return true;
    }
    if (json_object_is_type(json, json_type_double)) {
        *real = json_object_get_double(json);
    } else {
        struct slice s = slice_trim(json_text(json));
        char text[64];
        if (s.n == 0 || s.n >= sizeof(text) || memchr(s.p, '\0', s.n) != NULL ||
            strchr("+-.0123456789", s.p[0]) == NULL || slice_has_nocase(s, "x")) {
            return false;
        }
        memcpy(text, s.p, s.n);
        text[s.n] = '\0';
        char *end;
        errno = 0;
        *integer = strtoll(text, &end, 10);
        *whole = errno == 0 && *end == '\0';
        *real = strtod(text, &end);
        if (*end != '\0') {
            return false;
        }
    }
    if (!isfinite(*real)) {
        return false;
    }
    // 2^53: past it a double does not tell one integer from the next.
    if (!*whole && floor(*real) == *real && fabs(*real) <= 9007199254740992.0) {
        *integer = (int64_t)*real;
        *whole = true;
    }
    return true;
}

static int cast_number(struct cast *c, const struct type *type, struct json_object *json) {
    double real;
    int64_t integer;
    bool whole;
    char got[64];
    if (json_object_is_type(json, json_type_boolean) || !number_of(json, &real, &integer, &whole)) {
        return refuse(c, type, kind_of(json), "");
    }
    snprintf(got, sizeof(got), "%.17g", real);
    if (type->kind == TYPE_FLOAT || type->kind == TYPE_DOUBLE) {
        if (type->kind == TYPE_FLOAT && fabs(real) > 3.4028234663852886e38) {
            return refuse(c, type, got, "");
        }
        return msgpack_pack_double(&c->packer, real) == 0 ? 0 : -EMSGSIZE;
    }
    if (!whole || (type->kind == TYPE_INT && (integer < INT32_MIN || integer > INT32_MAX))) {
        return refuse(c, type, got, "");
    }
    return msgpack_pack_int64(&c->packer, integer) == 0 ? 0 : -EMSGSIZE;
}

// ---- Types that travel as text ------------------------------------------------------------------

static int cast_exact(struct cast *c, const struct type *type, struct json_object *json) {
    char text[2 * DECIMAL_PRECISION_MAX];
    bool number = !json_object_is_type(json, json_type_boolean);
    int rc = number ? cast_decimal(text_of(json), type->precision, type->scale, text, sizeof(text))
                    : -EINVAL;
    if (rc == -ERANGE) {
        return refuse(c, type, "a number of more digits", "");
    }
    return rc == 0 ? pack_str(c, slice_of(text)) : refuse(c, type, kind_of(json), "");
}

static int cast_day(struct cast *c, const struct type *type, struct json_object *json) {
    char text[16];
    return cast_date(json_text(json), text, sizeof(text)) == 0
               ? pack_str(c, slice_of(text))
               : refuse(c, type, kind_of(json), " as YYYY-MM-DD");
}

static int cast_moment(struct cast *c, const struct type *type, struct json_object *json) {
    char text[48];
    if (cast_timestamp(json_text(json), type->precision, text, sizeof(text)) != 0) {
        return refuse(c, type, kind_of(json), " as YYYY-MM-DDTHH:MM:SS");
    }
    if (type->kind == TYPE_TIMESTAMP_LTZ) {
        strcat(text, "Z");
    }
    return pack_str(c, slice_of(text));
}

static int cast_bytes(struct cast *c, const struct type *type, struct json_object *json) {
    struct buf bytes;
    buf_init(&bytes, BYTES_MAX);
    int rc = json_object_is_type(json, json_type_string)
                 ? base64_decode(slice_trim(json_text(json)), &bytes)
                 : -EINVAL;
    if (rc == 0) {
        rc = msgpack_pack_bin(&c->packer, bytes.n) == 0 &&
                     msgpack_pack_bin_body(&c->packer, bytes.p, bytes.n) == 0
                 ? 0
                 : -EMSGSIZE;
    } else if (rc == -EINVAL) {
        rc = refuse(c, type, kind_of(json), " in base64");
    }
    buf_free(&bytes);
    return rc;
}

// ---- Types made of others -----------------------------------------------------------------------

static int cast_value(struct cast *c, const struct type *type, struct json_object *json);

// cast_inner casts a part; name and number say which.
static int cast_inner(struct cast *c, const struct type *type, struct json_object *json,
                      const char *what, const char *name, size_t number) {
    size_t n = strlen(c->place);
    if (name != NULL) {
        snprintf(c->place + n, sizeof(c->place) - n, ", %s '%.40s'", what, name);
    } else {
        snprintf(c->place + n, sizeof(c->place) - n, ", %s %zu", what, number);
    }
    int rc = cast_value(c, type, json);
    c->place[n] = '\0';
    return rc;
}

static int cast_array(struct cast *c, const struct type *type, struct json_object *json) {
    size_t n = json_object_array_length(json);
    int rc = msgpack_pack_array(&c->packer, n) == 0 ? 0 : -EMSGSIZE;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = cast_inner(c, type->inner, json_object_array_get_idx(json, i), "element", NULL, i + 1);
    }
    return rc;
}

static int cast_map(struct cast *c, const struct type *type, struct json_object *json) {
    int rc = msgpack_pack_map(&c->packer, (size_t)json_object_object_length(json)) == 0 ? 0 : -EMSGSIZE;
    json_object_object_foreach(json, name, member) {
        rc = rc == 0 ? pack_str(c, slice_of(name)) : rc;
        // A key is the model's text, which an error does not repeat.
        rc = rc == 0 ? cast_inner(c, type->inner, member, "a value", NULL, 0) : rc;
    }
    return rc;
}

static int cast_row(struct cast *c, const struct type *type, struct json_object *json) {
    int rc = msgpack_pack_map(&c->packer, type->n_fields) == 0 ? 0 : -EMSGSIZE;
    for (size_t i = 0; rc == 0 && i < type->n_fields; i++) {
        const struct type_field *field = &type->fields[i];
        rc = pack_str(c, slice_of(field->name));
        rc = rc != 0 ? rc
                     : cast_inner(c, field->type, json_get(json, field->name), "field", field->name, 0);
    }
    return rc;
}

// cast_made casts to ARRAY, MAP or ROW; a string may hold the JSON of one.
static int cast_made(struct cast *c, const struct type *type, struct json_object *json) {
    struct json_object *parsed = NULL;
    if (json_object_is_type(json, json_type_string) &&
        json_parse(slice_trim(json_text(json)), &parsed, NULL) == 0) {
        json = parsed;
    }
    bool fits = json_object_is_type(json, type->kind == TYPE_ARRAY ? json_type_array : json_type_object);
    int rc = !fits                       ? refuse(c, type, kind_of(json), "")
             : type->kind == TYPE_ARRAY  ? cast_array(c, type, json)
             : type->kind == TYPE_MAP    ? cast_map(c, type, json)
                                         : cast_row(c, type, json);
    json_object_put(parsed);
    return rc;
}

static int cast_value(struct cast *c, const struct type *type, struct json_object *json) {
    if (json == NULL) {
        return type->not_null                            ? refuse(c, type, "null", "")
               : msgpack_pack_nil(&c->packer) == 0 ? 0
                                                   : -EMSGSIZE;
    }
    switch (type->kind) {
    case TYPE_STRING:
        return cast_string(c, type, json);
    case TYPE_BOOLEAN:
        return cast_boolean(c, type, json);
    case TYPE_DECIMAL:
        return cast_exact(c, type, json);
    case TYPE_DATE:
        return cast_day(c, type, json);
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMP_LTZ:
        return cast_moment(c, type, json);
    case TYPE_BYTES:
        return cast_bytes(c, type, json);
    case TYPE_ARRAY:
    case TYPE_MAP:
    case TYPE_ROW:
        return cast_made(c, type, json);
    default:
        return cast_number(c, type, json);
    }
}

int cast_answer(const struct column *column, struct json_object *json, struct buf *out,
                struct error *why) {
    struct cast c = {.why = why};
    struct type plain;
    msgpack_packer_init(&c.packer, out, write_buf);
    snprintf(c.place, sizeof(c.place), "column '%.100s'", column->name);
    return cast_value(&c, column_full(column, &plain), json);
}

int cast_label(const struct model *model, struct json_object *json, struct buf *out,
               struct error *why) {
    struct slice text = slice_trim(json_text(json));
    msgpack_packer packer;
    if (json == NULL && !model->output[0].not_null) {
        return cast_answer(&model->output[0], NULL, out, why);
    }
    msgpack_packer_init(&packer, out, write_buf);
    for (size_t i = 0; i < model->n_labels; i++) {
        struct slice label = slice_of(model->labels[i]);
        if (slice_is_nocase(text, model->labels[i])) {
            return msgpack_pack_str(&packer, label.n) == 0 &&
                           msgpack_pack_str_body(&packer, label.p, label.n) == 0
                       ? 0
                       : -EMSGSIZE;
        }
    }
    char list[400] = "";
    for (size_t i = 0, n = 0; i < model->n_labels; i++) {
        bool fits = n + strlen(model->labels[i]) + 10 < sizeof(list);
        snprintf(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "", fits ? model->labels[i] : "...");
        n = strlen(list);
        if (!fits) {
            break;
        }
    }
    return error_set(why, -EINVAL, "column '%.100s': got none of the labels, want one of: %s",
                     model->output[0].name, list);
}
