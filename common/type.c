// Types of columns. Invariant: a type is made whole: DECIMAL has its digits, ARRAY and MAP their inner
// type, ROW at least one field once it is read. Called by the model's reader, by casts and schemas.
#include "common/type.h"

#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>

static const char *const type_names[] = {
    [TYPE_STRING] = "STRING",   [TYPE_BOOLEAN] = "BOOLEAN",     [TYPE_INT] = "INT",
    [TYPE_BIGINT] = "BIGINT",   [TYPE_FLOAT] = "FLOAT",         [TYPE_DOUBLE] = "DOUBLE",
    [TYPE_DECIMAL] = "DECIMAL", [TYPE_DATE] = "DATE",           [TYPE_TIMESTAMP] = "TIMESTAMP",
    [TYPE_BYTES] = "BYTES",     [TYPE_TIMESTAMP_LTZ] = "TIMESTAMP_LTZ",
    [TYPE_ARRAY] = "ARRAY",     [TYPE_MAP] = "MAP",             [TYPE_ROW] = "ROW",
    [TYPE_IMAGE] = "IMAGE",
};

// What a type's name may have in brackets behind it.
enum brackets { BRACKETS_NONE, BRACKETS_LENGTH, BRACKETS_SECONDS, BRACKETS_DIGITS };

static const struct {
    const char *name;
    enum column_type kind;
    enum brackets brackets;
} plain[] = {
    {"STRING", TYPE_STRING, BRACKETS_NONE},
    {"VARCHAR", TYPE_STRING, BRACKETS_LENGTH},
    {"CHAR", TYPE_STRING, BRACKETS_LENGTH},
    {"BOOLEAN", TYPE_BOOLEAN, BRACKETS_NONE},
    {"INT", TYPE_INT, BRACKETS_NONE},
    {"INTEGER", TYPE_INT, BRACKETS_NONE},
    {"BIGINT", TYPE_BIGINT, BRACKETS_NONE},
    {"FLOAT", TYPE_FLOAT, BRACKETS_NONE},
    {"DOUBLE", TYPE_DOUBLE, BRACKETS_NONE},
    {"DECIMAL", TYPE_DECIMAL, BRACKETS_DIGITS},
    {"DEC", TYPE_DECIMAL, BRACKETS_DIGITS},
    {"NUMERIC", TYPE_DECIMAL, BRACKETS_DIGITS},
    {"DATE", TYPE_DATE, BRACKETS_NONE},
    {"TIMESTAMP", TYPE_TIMESTAMP, BRACKETS_SECONDS},
    {"TIMESTAMP_LTZ", TYPE_TIMESTAMP_LTZ, BRACKETS_SECONDS},
    {"BYTES", TYPE_BYTES, BRACKETS_NONE},
    {"IMAGE", TYPE_IMAGE, BRACKETS_NONE},
    {"VARBINARY", TYPE_BYTES, BRACKETS_LENGTH},
    {"BINARY", TYPE_BYTES, BRACKETS_LENGTH},
};

const char *column_type_name(enum column_type type) {
    return type_names[type];
}

struct type *type_new(enum column_type kind) {
    struct type *type = mem_zalloc(sizeof(*type));
    type->kind = kind;
    type->precision = kind == TYPE_DECIMAL ? 10 : 6; // Flink's own
    return type;
}

void type_free(struct type *type) {
    if (type == NULL) {
        return;
    }
    type_free(type->inner);
    for (size_t i = 0; i < type->n_fields; i++) {
        free(type->fields[i].name);
        type_free(type->fields[i].type);
    }
    free(type->fields);
    free(type);
}

struct type *type_copy(const struct type *type) {
    if (type == NULL) {
        return NULL;
    }
    struct type *copy = mem_zalloc(sizeof(*copy));
    *copy = *type;
    copy->inner = type_copy(type->inner);
    copy->fields = type->n_fields > 0 ? mem_zalloc(type->n_fields * sizeof(copy->fields[0])) : NULL;
    for (size_t i = 0; i < type->n_fields; i++) {
        copy->fields[i].name = mem_dup_str(type->fields[i].name);
        copy->fields[i].type = type_copy(type->fields[i].type);
    }
    return copy;
}

// set_numbers fills in what stood in brackets.
static int set_numbers(struct type *type, enum brackets brackets, long first, long second,
                       struct error *why) {
    const char *name = column_type_name(type->kind);
    if (first < 0) {
        return 0;
    }
    if (brackets == BRACKETS_NONE) {
        return error_set(why, -EINVAL, "type %s: got a length, want none", name);
    }
    if (second >= 0 && brackets != BRACKETS_DIGITS) {
        return error_set(why, -EINVAL, "type %s: got two numbers, want one", name);
    }
    if (brackets == BRACKETS_LENGTH) { // not enforced
        return first > 0 ? 0 : error_set(why, -EINVAL, "type VARCHAR: got %ld, want a length from 1",
                                         first);
    }
    if (brackets == BRACKETS_SECONDS) {
        type->precision = (int)first;
        return first <= TIMESTAMP_PRECISION_MAX
                   ? 0
                   : error_set(why, -EINVAL, "type %s: got %ld digits of a second, want 0 to %d", name,
                               first, TIMESTAMP_PRECISION_MAX);
    }
    type->precision = (int)first;
    type->scale = second >= 0 ? (int)second : 0;
    if (first < 1 || first > DECIMAL_PRECISION_MAX || type->scale > first) {
        return error_set(why, -EINVAL,
                         "type DECIMAL: got (%ld, %ld), want 1 to %d digits, and no more of them "
                         "behind the point",
                         first, second >= 0 ? second : 0, DECIMAL_PRECISION_MAX);
    }
    return 0;
}

struct type *type_plain(struct slice name, long first, long second, struct error *why) {
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (!slice_is_nocase(name, plain[i].name)) {
            continue;
        }
        struct type *type = type_new(plain[i].kind);
        if (set_numbers(type, plain[i].brackets, first, second, why) != 0) {
            type_free(type);
            return NULL;
        }
        return type;
    }
    char word[40];
    slice_copy(name, word, sizeof(word));
    error_set(why, -EINVAL,
              "type '%s': not supported, want STRING (or VARCHAR(n), CHAR(n)), BOOLEAN, INT, BIGINT, "
              "FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIMESTAMP(p), TIMESTAMP_LTZ(p), BYTES, "
              "IMAGE, ARRAY<type>, MAP<STRING, type> or ROW<name type, ...>",
              word);
    return NULL;
}

int type_add_field(struct type *row, struct slice name, struct type **type, struct error *why) {
    int rc = 0;
    for (size_t i = 0; i < row->n_fields; i++) {
        if (slice_is(name, row->fields[i].name)) {
            rc = error_set(why, -EINVAL, "type ROW: field '%.*s' stands there twice", SLICE_FMT(name));
        }
    }
    if (rc == 0 && row->n_fields == TYPE_FIELDS_MAX) {
        rc = error_set(why, -EINVAL, "type ROW: got more than %d fields", TYPE_FIELDS_MAX);
    }
    if (rc != 0) {
        type_free(*type);
    } else {
        row->fields = mem_realloc(row->fields, (row->n_fields + 1) * sizeof(row->fields[0]));
        row->fields[row->n_fields++] = (struct type_field){.name = slice_dup(name), .type = *type};
    }
    *type = NULL;
    return rc;
}

int type_depth(const struct type *type) {
    int depth = type->inner != NULL ? type_depth(type->inner) : 0;
    for (size_t i = 0; i < type->n_fields; i++) {
        int field = type_depth(type->fields[i].type);
        depth = field > depth ? field : depth;
    }
    return depth + 1;
}

static int add_inner(const struct type *type, struct buf *out) {
    int rc = type_add_text(type, out);
    return rc == 0 && type->not_null ? buf_add_str(out, " NOT NULL") : rc;
}

// add_name writes a field's name in back quotes.
static int add_name(const char *name, struct buf *out) {
    int rc = buf_add_byte(out, '`');
    for (const char *c = name; rc == 0 && *c != '\0'; c++) {
        rc = *c == '`' ? buf_add_byte(out, '`') : 0;
        rc = rc != 0 ? rc : buf_add_byte(out, *c);
    }
    return rc != 0 ? rc : buf_add_str(out, "` ");
}

int type_add_text(const struct type *type, struct buf *out) {
    int rc = buf_add_str(out, column_type_name(type->kind));
    if (rc != 0) {
        return rc;
    }
    switch (type->kind) {
    case TYPE_DECIMAL:
        return buf_addf(out, "(%d, %d)", type->precision, type->scale);
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMP_LTZ:
        return buf_addf(out, "(%d)", type->precision);
    case TYPE_ARRAY:
        rc = buf_add_byte(out, '<');
        break;
    case TYPE_MAP:
        rc = buf_add_str(out, "<STRING, ");
        break;
    case TYPE_ROW:
        rc = buf_add_byte(out, '<');
        break;
    default:
        return 0;
    }
    rc = rc == 0 && type->inner != NULL ? add_inner(type->inner, out) : rc;
    for (size_t i = 0; rc == 0 && i < type->n_fields; i++) {
        rc = i > 0 ? buf_add_str(out, ", ") : 0;
        rc = rc != 0 ? rc : add_name(type->fields[i].name, out);
        rc = rc != 0 ? rc : add_inner(type->fields[i].type, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, '>');
}
