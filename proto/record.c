// Records inside: what a model takes of a row, how records and answers travel, option overrides.
// Invariant: on failure the buf is as it was. Called by intake, batch, dispatch and collect, and by
// the worker's receive and report.
#include "proto/record.h"

#include "common/image.h"
#include "common/model.h"
#include "common/tokens.h"
#include "proto/column_value.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <errno.h>
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

int record_values(const struct model *model, struct slice fields, struct buf *out, struct error *why) {
    struct slice found[MODEL_COLUMNS_MAX] = {0};
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
        if (i >= 0) {
            found[i] = value;
        }
    }
    size_t start = out->n;
    int rc = pack_array(out, (uint32_t)model->n_input);
    for (size_t i = 0; rc == 0 && i < model->n_input; i++) {
        rc = column_value_add(model, &model->input[i], found[i], out, why);
    }
    return undo(out, start, rc);
}

static size_t weight_of(const struct column *column, const struct pack_value *v, struct slice whole,
                        size_t (*text_bytes)(const void *arg, struct slice text), const void *arg) {
    if (column->type == TYPE_IMAGE && v->type != PACK_NIL) {
        return image_tokens(v->type == PACK_BIN ? v->bytes : SLICE_NONE) * TOKENS_BYTES;
    }
    return text_bytes != NULL ? text_bytes(arg, whole) : whole.n;
}

size_t record_weight(const struct model *model, struct slice values,
                     size_t (*text_bytes)(const void *arg, struct slice text), const void *arg) {
    uint32_t n;
    size_t sum = 0;
    if (model->n_images == 0 || pack_array_next(&values, &n) != 0) {
        return text_bytes != NULL ? text_bytes(arg, values) : values.n;
    }
    for (uint32_t i = 0; i < n && i < model->n_input; i++) {
        struct slice whole, at;
        struct pack_value v;
        if (pack_whole(&values, &whole) != 1) {
            break;
        }
        at = whole;
        sum += pack_next(&at, &v) == 1 ? weight_of(&model->input[i], &v, whole, text_bytes, arg) : 0;
    }
    return sum;
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
    rc = column_value_text(&pair->value, &text);
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
