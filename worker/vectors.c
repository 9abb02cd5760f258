// Vectors. Invariant: a vector stands at the record whose index the provider gave it, and every number
// is finite. Called by the readers of embeddings and by the parse step.
#include "worker/vectors.h"

#include "common/json.h"
#include "common/mem.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define VECTOR_MOST 65536 // numbers of one vector
#define PAYLOAD_MAX (VECTOR_MOST * 9 + 16)

void vectors_begin(struct answer *answer, size_t count) {
    answer->vectors = mem_zalloc(count * sizeof(answer->vectors[0]));
    buf_init(&answer->made, ANSWER_TEXT_MAX);
}

static int add_float(struct answer *answer, float number) {
    return isfinite(number) ? buf_add(&answer->made, &number, sizeof(number)) : -EINVAL;
}

static int add_numbers(struct answer *answer, struct json_object *value) {
    size_t n = json_object_array_length(value);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_object *number = json_object_array_get_idx(value, i);
        bool is_number = json_object_is_type(number, json_type_double) ||
                         json_object_is_type(number, json_type_int);
        rc = is_number ? add_float(answer, (float)json_object_get_double(number)) : -EINVAL;
    }
    return rc;
}

// digit_of is the value of a base64 digit, or -1. Source: RFC 4648, section 4.
static int digit_of(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

// add_base64 decodes floats; they are little-endian on the wire, whatever this machine is.
static int add_base64(struct answer *answer, struct slice text) {
    uint32_t bits = 0, word = 0;
    int n_bits = 0, n_bytes = 0, rc = 0;
    while (text.n > 0 && text.p[text.n - 1] == '=') {
        text.n--;
    }
    for (size_t i = 0; rc == 0 && i < text.n; i++) {
        int digit = digit_of(text.p[i]);
        if (digit < 0) {
            return -EINVAL;
        }
        bits = (bits << 6) | (uint32_t)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            word |= ((bits >> n_bits) & 0xff) << (8 * n_bytes);
            if (++n_bytes == 4) {
                float number;
                memcpy(&number, &word, sizeof(number));
                rc = add_float(answer, number);
                word = 0;
                n_bytes = 0;
            }
        }
    }
    return rc == 0 && n_bytes != 0 ? -EINVAL : rc;
}

int vectors_add(struct answer *answer, size_t i, struct json_object *value) {
    struct vector *vector = &answer->vectors[i];
    if (vector->n > 0) {
        vector->n = 0; // two for one record: neither is sure
        vector->at = SIZE_MAX;
        return -EINVAL;
    }
    size_t at = answer->made.n;
    int rc = json_object_is_type(value, json_type_array)    ? add_numbers(answer, value)
             : json_object_is_type(value, json_type_string) ? add_base64(answer, json_text(value))
                                                            : -EINVAL;
    size_t n = (answer->made.n - at) / sizeof(float);
    if (rc != 0 || n == 0 || n > VECTOR_MOST || vector->at == SIZE_MAX) {
        answer->made.n = at;
        return -EINVAL;
    }
    *vector = (struct vector){.at = at, .n = n};
    return 0;
}

// ---- Items --------------------------------------------------------------------------------------

static bool is_double(const struct model *model) {
    const struct type *full = model->output[0].full;
    return full != NULL && full->inner != NULL && full->inner->kind == TYPE_DOUBLE;
}

static int pack_vector(const struct question *q, const struct answer *answer, const struct vector *v,
                       struct buf *payload) {
    bool wide = is_double(q->model);
    int rc = pack_array(payload, 1);
    rc = rc != 0 ? rc : pack_array(payload, (uint32_t)v->n);
    for (size_t i = 0; rc == 0 && i < v->n; i++) {
        float number;
        memcpy(&number, answer->made.p + v->at + i * sizeof(number), sizeof(number));
        rc = wide ? pack_real(payload, number) : pack_single(payload, number);
    }
    return rc;
}

static int pack_item(const struct question *q, const struct answer *answer, size_t i,
                     struct buf *payload, struct parsed *out) {
    const struct vector *v = &answer->vectors[i];
    int64_t want = q->model->options.dimensions;
    if (want != MODEL_UNSET && (uint64_t)want != v->n) {
        char why[96];
        snprintf(why, sizeof(why), "got a vector of %zu numbers, want %lld", v->n, (long long)want);
        return item_pack(&out->items, q->slots[i], OUTCOME_BAD_VALUE, slice_of(why));
    }
    buf_clear(payload);
    int rc = pack_vector(q, answer, v, payload);
    return rc != 0 ? rc : item_pack(&out->items, q->slots[i], OUTCOME_OK, buf_slice(payload));
}

void vectors_pack(const struct question *q, const struct answer *answer, struct parsed *out) {
    struct buf payload;
    int rc = 0;
    buf_init(&payload, PAYLOAD_MAX);
    buf_clear(&out->items);
    out->n_items = 0;
    out->detail[0] = out->warning[0] = '\0';
    for (size_t i = 0; rc == 0 && i < q->count; i++) {
        if (answer->vectors[i].n > 0) {
            rc = pack_item(q, answer, i, &payload, out);
            out->n_items++;
        }
    }
    buf_free(&payload);
    out->outcome = rc == 0 && out->n_items > 0 ? OUTCOME_OK : OUTCOME_UNREADABLE;
    if (out->outcome != OUTCOME_OK) {
        snprintf(out->detail, sizeof(out->detail),
                 rc != 0 ? "the vectors are longer than a report may be" : "the answer has no vector");
    }
}
