// Records inside: what a model takes of a row, how records and answers travel, option overrides.
// Invariant: on failure the buf is as it was. Called by intake, batch, dispatch and collect, and by
// the worker's receive and report.
#include "proto/record.h"

#include "common/json.h"
#include "common/model.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_TEXT_MAX 64  // bytes of a number in a string
#define OPTIONS_MAX 256     // overrides of one submission

static int undo(struct buf *out, size_t n, int rc) {
    if (rc != 0 && out->p != NULL) {
        out->n = n;
        out->p[n] = '\0';
    }
    return rc;
}

// ---- Values -------------------------------------------------------------------------------------

// text_of writes what stands for a number or boolean as text.
static int text_of(const struct pack_value *v, struct buf *text) {
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

static int misfit(const struct column *c, const char *got, struct error *why) {
    return error_set(why, -EINVAL, "column '%s': got %s, want %s%s", c->name, got,
                     column_type_name(c->type), c->not_null ? " NOT NULL" : "");
}

static int add_string_value(const struct column *c, const struct pack_value *v, struct buf *out,
                            struct error *why) {
    if (v->type == PACK_STR) {
        return pack_str(out, v->bytes);
    }
    struct buf text = {.max = NUMBER_TEXT_MAX};
    int rc = text_of(v, &text);
    if (rc == 0) {
        rc = pack_str(out, buf_slice(&text));
    } else {
        rc = misfit(c, v->type == PACK_REAL ? "a number that is not finite" : pack_describe(v), why);
    }
    buf_free(&text);
    return rc;
}

static int add_boolean_value(const struct column *c, const struct pack_value *v, struct buf *out,
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

static int add_integer_value(const struct column *c, const struct pack_value *v, struct buf *out,
                             struct error *why) {
    int64_t least = c->type == TYPE_INT ? INT32_MIN : INT64_MIN;
    int64_t most = c->type == TYPE_INT ? INT32_MAX : INT64_MAX;
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
        fits = v->real >= (double)least && v->real < (double)most + (c->type == TYPE_INT ? 1 : 0);
        i = fits ? (int64_t)v->real : 0;
    } else {
        return misfit(c, pack_describe(v), why);
    }
    return fits ? pack_int(out, i) : misfit(c, "an integer out of range", why);
}

static int add_real_value(const struct column *c, const struct pack_value *v, struct buf *out,
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
    if (c->type == TYPE_FLOAT && fabs(real) > (double)FLT_MAX) {
        return misfit(c, "a number out of range", why);
    }
    return pack_real(out, real);
}

static int add_column(const struct column *c, const struct pack_value *v, struct buf *out,
                      struct error *why) {
    if (v->type == PACK_NIL) {
        return c->not_null ? misfit(c, "null", why) : pack_nil(out);
    }
    switch (c->type) {
    case TYPE_STRING:
        return add_string_value(c, v, out, why);
    case TYPE_BOOLEAN:
        return add_boolean_value(c, v, out, why);
    default:
        break;
    }
    struct pack_value number = *v;
    if (v->type == PACK_STR && !number_of(v->bytes, &number)) {
        return misfit(c, "a string that is no number", why);
    }
    return c->type == TYPE_INT || c->type == TYPE_BIGINT ? add_integer_value(c, &number, out, why)
                                                         : add_real_value(c, &number, out, why);
}

int record_values(const struct model *model, struct slice fields, struct buf *out, struct error *why) {
    struct pack_value found[MODEL_COLUMNS_MAX];
    bool is_there[MODEL_COLUMNS_MAX] = {0};
    uint32_t n;
    if (pack_map_next(&fields, &n) != 0) {
        return error_set(why, -EINVAL, "got fields that are no map, want a map of columns");
    }
    for (; n > 0; n--) {
        struct slice name, value;
        if (pack_str_next(&fields, &name) != 0 || pack_whole(&fields, &value) != 1) {
            return error_set(why, -EINVAL, "got a field without a name or a value, want both");
        }
        int i = model_input_index(model, name);
        if (i >= 0 && pack_next(&value, &found[i]) == 1) {
            is_there[i] = true;
        }
    }
    size_t start = out->n;
    int rc = pack_array(out, (uint32_t)model->n_input);
    for (size_t i = 0; rc == 0 && i < model->n_input; i++) {
        const struct column *c = &model->input[i];
        rc = is_there[i] ? add_column(c, &found[i], out, why) : misfit(c, "no such column", why);
    }
    return undo(out, start, rc);
}

// ---- Records and items on their way -------------------------------------------------------------

int record_pack(struct buf *out, uint64_t slot, struct slice values) {
    size_t start = out->n;
    int rc = pack_array(out, 2);
    rc = rc == 0 ? pack_uint(out, slot) : rc;
    rc = rc == 0 ? pack_bin(out, values) : rc;
    return undo(out, start, rc);
}

// next_head reads [slot, of an array of n.
static int next_head(struct slice *rest, uint32_t n, uint64_t *slot) {
    uint32_t count;
    if (pack_array_next(rest, &count) != 0 || count != n || pack_uint_next(rest, slot) != 0 ||
        *slot >= MODEL_BATCH_MAX) {
        return -EPROTO;
    }
    return 0;
}

int record_next(struct slice *rest, uint64_t *slot, struct slice *values) {
    if (rest->n == 0) {
        return 0;
    }
    struct pack_value v;
    if (next_head(rest, 2, slot) != 0 || pack_next(rest, &v) != 1 || v.type != PACK_BIN) {
        return -EPROTO;
    }
    *values = v.bytes;
    return 1;
}

int item_pack(struct buf *out, uint64_t slot, enum outcome outcome, struct slice payload) {
    size_t start = out->n;
    int rc = pack_array(out, 3);
    rc = rc == 0 ? pack_uint(out, slot) : rc;
    rc = rc == 0 ? pack_str(out, slice_of(outcome_of(outcome)->text)) : rc;
    if (rc == 0) {
        rc = outcome == OUTCOME_OK ? pack_bin(out, payload) : pack_text(out, payload, ERROR_MAX);
    }
    return undo(out, start, rc);
}

// is_values says whether bytes are one msgpack array that may be kept and unpacked later.
static bool is_values(struct slice bytes) {
    uint32_t n;
    return frame_scan(bytes, 1, NULL) == 1 && pack_array_next(&bytes, &n) == 0;
}

int item_next(struct slice *rest, uint64_t *slot, enum outcome *outcome, struct slice *payload) {
    if (rest->n == 0) {
        return 0;
    }
    struct slice text;
    struct pack_value v;
    if (next_head(rest, 3, slot) != 0 || pack_str_next(rest, &text) != 0 || pack_next(rest, &v) != 1) {
        return -EPROTO;
    }
    int found = outcome_parse(text);
    bool fits = found == OUTCOME_OK ? v.type == PACK_BIN && is_values(v.bytes)
                                    : v.type == PACK_STR && slice_utf8_error(v.bytes) < 0;
    if (found < 0 || !fits) {
        return -EPROTO;
    }
    *outcome = (enum outcome)found;
    *payload = v.bytes;
    return 1;
}

// ---- Option overrides ---------------------------------------------------------------------------

struct pair {
    struct slice name;
    struct pack_value value;
};

static int compare_pairs(const void *left, const void *right) {
    const struct pair *a = left, *b = right;
    size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;
    int order = n > 0 ? memcmp(a->name.p, b->name.p, n) : 0;
    return order != 0 ? order : (a->name.n > b->name.n) - (a->name.n < b->name.n);
}

// option_error begins a sentence with the option's name, cut where a character ends.
static int option_error(struct slice option, const char *got, struct error *why) {
    char name[MODEL_NAME_MAX + 1];
    slice_copy(option, name, sizeof(name));
    return error_set(why, -EPROTO, "option '%s': got %s", name, got);
}

static int read_pairs(struct slice map, struct pair *pairs, uint32_t *n, struct error *why) {
    long rc = frame_scan(map, 1, why);
    if (rc < 0) {
        return (int)rc;
    }
    if (pack_map_next(&map, n) != 0) {
        return error_set(why, -EPROTO, "got options that are no map, want a map of option to value");
    }
    if (*n > OPTIONS_MAX) {
        return error_set(why, -EPROTO, "got %u options, want at most %d", *n, OPTIONS_MAX);
    }
    for (uint32_t i = 0; i < *n; i++) {
        if (pack_str_next(&map, &pairs[i].name) != 0) {
            return error_set(why, -EPROTO, "got an option whose name is no string");
        }
        if (pack_next(&map, &pairs[i].value) != 1 || pairs[i].value.type == PACK_MAP ||
            pairs[i].value.type == PACK_ARRAY || pairs[i].value.type == PACK_BIN ||
            pairs[i].value.type == PACK_NIL) {
            char got[64];
            snprintf(got, sizeof(got), "%s, want a string", pack_describe(&pairs[i].value));
            return option_error(pairs[i].name, got, why);
        }
    }
    return 0;
}

static int add_pair(const struct pair *pair, struct buf *out, struct error *why) {
    int rc = pack_str(out, pair->name);
    if (rc != 0 || pair->value.type == PACK_STR) {
        return rc == 0 ? pack_str(out, pair->value.bytes) : rc;
    }
    struct buf text = {.max = NUMBER_TEXT_MAX};
    rc = text_of(&pair->value, &text);
    rc = rc == 0 ? pack_str(out, buf_slice(&text))
                 : option_error(pair->name, "a number that is not finite", why);
    buf_free(&text);
    return rc;
}

int options_canonical(struct slice map, struct buf *out, struct error *why) {
    struct pair pairs[OPTIONS_MAX];
    uint32_t n = 0;
    int rc = map.n > 0 ? read_pairs(map, pairs, &n, why) : 0;
    if (rc != 0 || n == 0) {
        return rc;
    }
    qsort(pairs, n, sizeof(pairs[0]), compare_pairs);
    size_t start = out->n;
    rc = pack_map(out, n);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        if (i > 0 && slice_eq(pairs[i - 1].name, pairs[i].name)) {
            rc = option_error(pairs[i].name, "it twice", why);
        }
        rc = rc == 0 ? add_pair(&pairs[i], out, why) : rc;
    }
    return undo(out, start, rc);
}

int options_get(struct slice map, size_t i, struct slice *name, struct slice *value) {
    uint32_t n;
    if (map.n == 0) {
        return 0;
    }
    if (pack_map_next(&map, &n) != 0) {
        return -EPROTO;
    }
    if (i >= n) {
        return 0;
    }
    for (size_t at = 0; at <= i; at++) {
        if (pack_str_next(&map, name) != 0 || pack_str_next(&map, value) != 0) {
            return -EPROTO;
        }
    }
    return 1;
}
