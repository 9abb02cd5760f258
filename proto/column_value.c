// Values of INPUT columns. Invariant: what was appended is of the column's type, so that whoever reads it
// later looks at no type again. Called by record_values.
#include "proto/column_value.h"

#include "common/base64.h"
#include "common/image.h"
#include "common/json.h"
#include "common/model.h"
#include "common/providers.h"
#include "proto/record.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_TEXT_MAX 64 // bytes of a number in a string
#define WANT_MAX 256       // bytes of a type in a sentence
#define LIST_MAX (4 * RECORD_MAX_BYTES) // of an array in a string, as msgpack

// Where a value is to go.
struct place {
    const struct model *model;
    const char *column;
    const struct type *type;
    bool is_tensor;              // no nulls in arrays, and all of one length
    size_t element[TYPE_DEPTH_MAX]; // from 1, of each array around it
    size_t n_elements;
};

int column_value_text(const struct pack_value *v, struct buf *text) {
    switch (v->type) {
    case PACK_BOOL:
        return buf_add_str(text, v->truth ? "true" : "false");
    case PACK_UINT:
        return buf_addf(text, "%llu", (unsigned long long)v->u);
    case PACK_INT:
        return buf_addf(text, "%lld", (long long)v->i);
    case PACK_REAL:
        return isfinite(v->real) ? json_add_double(text, v->real) : -EINVAL;
    default:
        return -EINVAL;
    }
}

// is_number says whether text is a number as JSON writes one; a plus sign, spaces, hexadecimal and
// names such as NaN are not. *whole: no fraction and no exponent.
static bool is_number(const char *p, bool *whole) {
    p += *p == '-';
    size_t n = strspn(p, "0123456789");
    if (n == 0) {
        return false;
    }
    p += n;
    *whole = true;
    if (*p == '.') {
        *whole = false;
        n = strspn(p + 1, "0123456789");
        p += 1 + n;
        if (n == 0) {
            return false;
        }
    }
    if (*p == 'e' || *p == 'E') {
        *whole = false;
        p += 1 + (p[1] == '+' || p[1] == '-');
        n = strspn(p, "0123456789");
        p += n;
        if (n == 0) {
            return false;
        }
    }
    return *p == '\0';
}

// number_of turns a number in a string into the number. false: it holds none.
static bool number_of(struct slice text, struct pack_value *v) {
    char copy[NUMBER_TEXT_MAX];
    bool whole = false;
    text = slice_trim(text);
    if (text.n >= sizeof(copy)) {
        return false;
    }
    slice_copy(text, copy, sizeof(copy));
    if (strlen(copy) != text.n || !is_number(copy, &whole)) {
        return false;
    }
    errno = 0;
    long long i = whole ? strtoll(copy, NULL, 10) : 0;
    if (whole && errno == 0) {
        *v = (struct pack_value){.type = i < 0 ? PACK_INT : PACK_UINT};
        v->i = i;
    } else {
        *v = (struct pack_value){.type = PACK_REAL, .real = strtod(copy, NULL)};
    }
    return true;
}

static int misfit(const struct place *c, const char *got, struct error *why) {
    char at[TYPE_DEPTH_MAX * 32] = "";
    size_t n = 0;
    for (size_t i = 0; i < c->n_elements; i++) {
        n += (size_t)snprintf(at + n, sizeof(at) - n, ", element %zu", c->element[i]);
    }
    struct buf want;
    buf_init(&want, WANT_MAX);
    int rc = type_add_text(c->type, &want);
    rc = error_set(why, -EINVAL, "column '%s'%s: got %s, want %s%s", c->column, at, got,
                   rc == 0 ? want.p : column_type_name(c->type->kind), c->type->not_null ? " NOT NULL" : "");
    buf_free(&want);
    return rc;
}

static int add_string_value(const struct place *c, const struct pack_value *v, struct buf *out,
                            struct error *why) {
    if (v->type == PACK_STR) {
        return pack_str(out, v->bytes);
    }
    struct buf text = {.max = NUMBER_TEXT_MAX};
    int rc = column_value_text(v, &text);
    if (rc == 0) {
        rc = pack_str(out, buf_slice(&text));
    } else {
        rc = misfit(c, v->type == PACK_REAL ? "a number that is not finite" : pack_describe(v), why);
    }
    buf_free(&text);
    return rc;
}

static int add_boolean_value(const struct place *c, const struct pack_value *v, struct buf *out,
                             struct error *why) {
    if (v->type == PACK_BOOL) {
        return pack_bool(out, v->truth);
    }
    if (v->type == PACK_UINT && v->u <= 1) {
        return pack_bool(out, v->u == 1);
    }
    if (v->type == PACK_STR &&
        (slice_is_nocase(v->bytes, "true") || slice_is_nocase(v->bytes, "false"))) {
        return pack_bool(out, slice_is_nocase(v->bytes, "true"));
    }
    return misfit(c, v->type == PACK_STR ? "a string that is neither true nor false" : pack_describe(v),
                  why);
}

static int add_integer_value(const struct place *c, const struct pack_value *v, struct buf *out,
                             struct error *why) {
    int64_t least = c->type->kind == TYPE_INT ? INT32_MIN : INT64_MIN;
    int64_t most = c->type->kind == TYPE_INT ? INT32_MAX : INT64_MAX;
    int64_t i = 0;
    bool fits;
    if (v->type == PACK_UINT) {
        fits = v->u <= (uint64_t)most;
        i = (int64_t)v->u;
    } else if (v->type == PACK_INT) {
        fits = v->i >= least;
        i = v->i;
    } else if (v->type == PACK_REAL) {
        if (!isfinite(v->real) || v->real != trunc(v->real)) {
            return misfit(c, "a number with a fraction", why);
        }
        // 2^63 is the least double past int64; comparing with INT64_MAX would round up to it.
        fits = v->real >= (double)least && v->real < (double)most + (c->type->kind == TYPE_INT ? 1 : 0);
        i = fits ? (int64_t)v->real : 0;
    } else {
        return misfit(c, pack_describe(v), why);
    }
    return fits ? pack_int(out, i) : misfit(c, "an integer out of range", why);
}

static int add_real_value(const struct place *c, const struct pack_value *v, struct buf *out,
                          struct error *why) {
    double real;
    if (v->type == PACK_UINT) {
        real = (double)v->u;
    } else if (v->type == PACK_INT) {
        real = (double)v->i;
    } else if (v->type == PACK_REAL) {
        real = v->real;
    } else {
        return misfit(c, pack_describe(v), why);
    }
    if (!isfinite(real)) {
        return misfit(c, "a number that is not finite", why);
    }
    if (c->type->kind == TYPE_FLOAT && fabs(real) > (double)FLT_MAX) {
        return misfit(c, "a number out of range", why);
    }
    return pack_real(out, real);
}

// ---- Images -------------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static int bad_image(const struct place *c, struct error *why,
                                                           const char *format, ...) {
    char got[ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(got, sizeof(got), format, args);
    va_end(args);
    return error_set(why, -EINVAL, "column '%s': got %s", c->column, got);
}

// check_image holds an image's bytes against what the provider takes.
static int check_image(const struct place *c, struct slice bytes, struct error *why) {
    const struct model *model = c->model;
    enum image_kind kind = image_kind(bytes);
    uint32_t width, height;
    if (kind == IMAGE_NONE) {
        return bad_image(c, why, "%zu bytes of something else than a PNG, JPEG, GIF or WEBP image", bytes.n);
    }
    if (model->provider == NULL) {
        return 0; // nobody to be held against
    }
    const struct provider_images *images = provider_images_of(model->provider->id);
    if ((images->kinds & IMAGE_BIT(kind)) == 0) {
        return bad_image(c, why, "a %s image, which %s does not take", image_kind_name(kind),
                         model->provider->name);
    }
    if (images->bytes > 0 && base64_size(bytes.n) > images->bytes) {
        return bad_image(c, why, "an image of %zu bytes, want at most %zu: %s takes no more", bytes.n,
                         images->bytes / 4 * 3, model->provider->name);
    }
    bool is_known = image_size(bytes, &width, &height) == 0;
    if (images->side > 0 && is_known && (width > images->side || height > images->side)) {
        return bad_image(c, why, "an image of %ux%u pixels, want at most %u a side: %s takes no more", width,
                         height, images->side, model->provider->name);
    }
    return 0;
}

static int add_link(const struct place *c, struct slice link, struct buf *out, struct error *why) {
    const struct model *model = c->model;
    if (!image_is_link(link)) {
        return bad_image(c, why, "a URL with a space, a control character or without a host in it, or one of "
                                 "more than %d bytes", IMAGE_LINK_MAX);
    }
    if (model->api != NULL && !provider_takes_links(model)) {
        return bad_image(c, why, "a URL, want the image's bytes: %s",
                         model->api->images == API_IMAGES_DATA ? "the provider takes no links"
                                                               : "'image.links' is not on");
    }
    return pack_str(out, link);
}

static int add_image_text(const struct place *c, struct slice text, struct buf *out, struct error *why) {
    const char *fault;
    struct buf bytes;
    text = slice_trim(text);
    if (slice_is_nocase(slice_sub(text, 0, 7), "http://") || slice_is_nocase(slice_sub(text, 0, 8), "https://")) {
        return add_link(c, text, out, why);
    }
    buf_init(&bytes, RECORD_LONG_MAX_BYTES);
    int rc = image_from_text(text, &bytes, &fault);
    if (rc == -EINVAL) {
        rc = bad_image(c, why, "%s, want an image's bytes, base64, a data: URL or an http(s) URL; the path of a "
                               "file is read by headrace run and headrace submit alone", fault);
    }
    rc = rc != 0 ? rc : check_image(c, buf_slice(&bytes), why);
    rc = rc != 0 ? rc : pack_bin(out, buf_slice(&bytes));
    buf_free(&bytes);
    return rc;
}

static int add_image(const struct place *c, const struct pack_value *v, struct buf *out, struct error *why) {
    if (v->type == PACK_STR) {
        return add_image_text(c, v->bytes, out, why);
    }
    if (v->type != PACK_BIN) {
        return bad_image(c, why, "%s, want an image's bytes, or text", pack_describe(v));
    }
    int rc = check_image(c, v->bytes, why);
    return rc != 0 ? rc : pack_bin(out, v->bytes);
}

// ---- Values -------------------------------------------------------------------------------------

static int add_scalar(const struct place *c, const struct pack_value *v, struct buf *out, struct error *why) {
    switch (c->type->kind) {
    case TYPE_STRING:
        return add_string_value(c, v, out, why);
    case TYPE_BOOLEAN:
        return add_boolean_value(c, v, out, why);
    case TYPE_IMAGE:
        return add_image(c, v, out, why);
    default:
        break;
    }
    struct pack_value number = *v;
    if (v->type == PACK_STR && !number_of(v->bytes, &number)) {
        return misfit(c, "a string that is no number", why);
    }
    return c->type->kind == TYPE_INT || c->type->kind == TYPE_BIGINT ? add_integer_value(c, &number, out, why)
                                                                     : add_real_value(c, &number, out, why);
}

static int add_any(const struct place *c, struct slice *field, struct buf *out, struct error *why);

// add_list casts the elements of an array; *rest stands behind its head.
static int add_list(const struct place *c, uint32_t count, struct slice *rest, struct buf *out,
                    struct error *why) {
    struct place inner = *c;
    uint32_t first = 0;
    inner.type = c->type->inner;
    inner.n_elements++;
    int rc = pack_array(out, count);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        struct slice at = *rest;
        struct pack_value v = {0};
        uint32_t n;
        inner.element[c->n_elements] = i + 1;
        if (c->is_tensor && pack_next(&at, &v) == 1 && v.type == PACK_NIL) {
            return misfit(&inner, "null, which a tensor cannot hold", why);
        }
        bool is_list = c->is_tensor && v.type == PACK_ARRAY;
        n = is_list ? v.count : 0;
        first = i == 0 ? n : first;
        if (n != first) {
            char got[96];
            snprintf(got, sizeof(got), "an array of %u behind one of %u, which no tensor can hold", n, first);
            return misfit(&inner, got, why);
        }
        rc = add_any(&inner, rest, out, why);
    }
    return rc;
}

// add_json_list casts an array that stands in a string, as rows of CSV have it.
static int add_json_list(const struct place *c, struct slice text, struct buf *out, struct error *why) {
    struct json_object *json = NULL;
    struct buf packed;
    buf_init(&packed, LIST_MAX);
    int rc = json_parse(text, &json, NULL);
    if (rc != 0 || !json_object_is_type(json, json_type_array)) {
        rc = misfit(c, "a string that is no JSON array", why);
    }
    rc = rc != 0 ? rc : json_to_msgpack(json, &packed);
    struct slice field = buf_slice(&packed);
    rc = rc != 0 ? rc : add_any(c, &field, out, why);
    json_object_put(json);
    buf_free(&packed);
    return rc;
}

// add_any casts one value at *field and moves on.
static int add_any(const struct place *c, struct slice *field, struct buf *out, struct error *why) {
    struct pack_value v = {0};
    if (pack_next(field, &v) != 1) {
        return misfit(c, "nothing", why);
    }
    if (v.type == PACK_NIL) {
        return c->type->not_null ? misfit(c, "null", why) : pack_nil(out);
    }
    if (c->type->kind == TYPE_ARRAY) {
        bool in_text = v.type == PACK_STR && c->n_elements == 0;
        return v.type == PACK_ARRAY ? add_list(c, v.count, field, out, why)
               : in_text            ? add_json_list(c, v.bytes, out, why)
                                    : misfit(c, pack_describe(&v), why);
    }
    return add_scalar(c, &v, out, why);
}

int column_value_add(const struct model *model, const struct column *column, struct slice field,
                     struct buf *out, struct error *why) {
    struct type plain;
    struct place place = {
        .model = model,
        .column = column->name,
        .type = column_full(column, &plain),
        .is_tensor = model->api != NULL && (model->api->tasks & API_TASKS_TENSORS) != 0,
    };
    return field.n > 0 ? add_any(&place, &field, out, why) : misfit(&place, "no such column", why);
}
