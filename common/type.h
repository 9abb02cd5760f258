// type: what a column may hold: a plain type, or one that is made of others.
#ifndef HEADRACE_COMMON_TYPE_H
#define HEADRACE_COMMON_TYPE_H

#include "common/bytes.h"
#include "common/error.h"

enum column_type {
    TYPE_STRING,
    TYPE_BOOLEAN,
    TYPE_INT,    // 32 bits
    TYPE_BIGINT, // 64 bits
    TYPE_FLOAT,
    TYPE_DOUBLE,
    TYPE_DECIMAL,       // precision, scale
    TYPE_DATE,
    TYPE_TIMESTAMP,     // precision; without a zone
    TYPE_TIMESTAMP_LTZ, // precision; an instant
    TYPE_BYTES,
    TYPE_ARRAY,         // inner
    TYPE_MAP,           // inner: of the values; the keys are STRING
    TYPE_ROW,           // fields
    TYPE_IMAGE,         // INPUT alone
};
const char *column_type_name(enum column_type type); // "STRING", ...

#define TYPE_DEPTH_MAX 8            // types in one another
#define TYPE_FIELDS_MAX 64          // of one ROW
#define DECIMAL_PRECISION_MAX 38    // digits
#define TIMESTAMP_PRECISION_MAX 9   // digits of a second

struct type_field;

struct type {
    enum column_type kind;
    bool not_null;
    int precision, scale;      // of DECIMAL; precision of TIMESTAMP
    struct type *inner;        // of ARRAY and MAP; owned
    struct type_field *fields; // of ROW; owned
    size_t n_fields;
};

struct type_field {
    char *name;        // owned
    struct type *type; // owned
};

struct type *type_new(enum column_type kind);
void type_free(struct type *type); // type may be NULL
struct type *type_copy(const struct type *type); // NULL stays NULL

// type_plain finds the type of a name such as INT, VARCHAR or NUMERIC, any case, with the two numbers
// in brackets behind it, -1 where there is none.
// Returns a new type, or NULL with why.
struct type *type_plain(struct slice name, long first, long second, struct error *why);

// type_add_field puts a field into a ROW and takes its type.
// Returns 0, or -EINVAL with why: too many, or there already. The type is taken in any case.
MUST_CHECK int type_add_field(struct type *row, struct slice name, struct type **type,
                              struct error *why);

// type_depth is how many types are in one another, at least 1.
int type_depth(const struct type *type);

// type_add_text appends it as SQL, "ARRAY<DECIMAL(10, 2) NOT NULL>", without its own NOT NULL. Returns
// 0 or -EMSGSIZE.
MUST_CHECK int type_add_text(const struct type *type, struct buf *out);

#endif
