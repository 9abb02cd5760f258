// A dead letter as a blob and as JSON. Invariant: what letter_pack writes letter_unpack reads, field by
// field in the same order. Called by collect (pack), redrive and letters (unpack).
#include "coordinator/letter.h"

#include "common/image.h"
#include "common/json.h"
#include "common/model.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>
#include <inttypes.h>

#define LETTER_VERSION 1
#define LETTER_FIELDS 13

int letter_pack(const struct letter *l, struct buf *out) {
    int rc = pack_array(out, LETTER_FIELDS);
    rc = rc ? rc : pack_uint(out, LETTER_VERSION);
    rc = rc ? rc : pack_str(out, l->model);
    rc = rc ? rc : pack_uint(out, l->revision);
    rc = rc ? rc : pack_bin(out, l->options);
    rc = rc ? rc : pack_bin(out, l->id);
    rc = rc ? rc : pack_bin(out, l->key);
    rc = rc ? rc : pack_bin(out, l->producer);
    rc = rc ? rc : pack_uint(out, l->seq);
    rc = rc ? rc : pack_bin(out, l->values);
    rc = rc ? rc : pack_str(out, slice_of(outcome_of(l->outcome)->text));
    rc = rc ? rc : pack_text(out, l->sentence, ERROR_MAX);
    rc = rc ? rc : pack_uint(out, l->attempts);
    return rc ? rc : pack_bool(out, l->has_row);
}

static int bin_next(struct slice *rest, struct slice *bytes) {
    struct pack_value v;
    if (pack_next(rest, &v) != 1 || v.type != PACK_BIN) {
        return -EPROTO;
    }
    *bytes = v.bytes;
    return 0;
}

int letter_unpack(struct slice blob, struct letter *l) {
    *l = (struct letter){0};
    uint32_t count = 0;
    uint64_t version = 0, revision = 0, attempts = 0;
    struct slice outcome = SLICE_NONE;
    struct pack_value has_row = {0};
    int rc = pack_array_next(&blob, &count);
    rc = rc ? rc : pack_uint_next(&blob, &version);
    if (rc != 0 || count != LETTER_FIELDS || version != LETTER_VERSION) {
        return -EPROTO;
    }
    rc = rc ? rc : pack_str_next(&blob, &l->model);
    rc = rc ? rc : pack_uint_next(&blob, &revision);
    rc = rc ? rc : bin_next(&blob, &l->options);
    rc = rc ? rc : bin_next(&blob, &l->id);
    rc = rc ? rc : bin_next(&blob, &l->key);
    rc = rc ? rc : bin_next(&blob, &l->producer);
    rc = rc ? rc : pack_uint_next(&blob, &l->seq);
    rc = rc ? rc : bin_next(&blob, &l->values);
    rc = rc ? rc : pack_str_next(&blob, &outcome);
    rc = rc ? rc : pack_str_next(&blob, &l->sentence);
    rc = rc ? rc : pack_uint_next(&blob, &attempts);
    if (rc != 0 || pack_next(&blob, &has_row) != 1 || has_row.type != PACK_BOOL ||
        revision > UINT32_MAX) {
        return -EPROTO;
    }
    int parsed = outcome_parse(outcome);
    l->revision = (uint32_t)revision;
    l->attempts = (uint32_t)attempts;
    l->outcome = parsed >= 0 ? (enum outcome)parsed : OUTCOME_BAD_RECORD;
    l->has_row = has_row.truth;
    return 0;
}

static int add_text(struct buf *out, const char *name, struct slice text) {
    int rc = buf_addf(out, ",\"%s\":", name);
    return rc ? rc : json_add_string(out, text);
}

// add_field appends a value; of an image what it is: its bytes are asked again, never shown.
static int add_field(struct slice value, struct buf *out) {
    struct slice at = value;
    struct pack_value v;
    if (pack_next(&at, &v) == 1 && v.type == PACK_BIN) {
        return buf_addf(out, "\"<%s, %zu bytes>\"", image_media_type(image_kind(v.bytes)), v.bytes.n);
    }
    return msgpack_to_json(value, out);
}

// add_fields appends the record's values by the columns' names, or by number when those are not known.
static int add_fields(const struct letter *l, const struct model *model, struct buf *out) {
    struct slice rest = l->values, value;
    uint32_t n;
    int rc = pack_array_next(&rest, &n);
    rc = rc ? rc : buf_add_str(out, ",\"fields\":{");
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        if (pack_whole(&rest, &value) != 1) {
            return -EPROTO;
        }
        rc = i > 0 ? buf_add_byte(out, ',') : 0;
        if (model != NULL && i < model->n_input) {
            rc = rc ? rc : json_add_string(out, slice_of(model->input[i].name));
        } else {
            rc = rc ? rc : buf_addf(out, "\"%" PRIu32 "\"", i + 1);
        }
        rc = rc ? rc : buf_add_byte(out, ':');
        rc = rc ? rc : add_field(value, out);
    }
    return rc ? rc : buf_add_byte(out, '}');
}

int letter_json(const struct letter *l, uint32_t partition, struct slice id, const struct model *model,
                bool fields, struct buf *out) {
    int rc = buf_addf(out, "{\"letter\":\"%" PRIu32 "/%.*s\"", partition, SLICE_FMT(id));
    rc = rc ? rc : add_text(out, "id", l->id);
    rc = rc || l->key.n == 0 ? rc : add_text(out, "key", l->key);
    if (l->producer.n > 0) {
        rc = rc ? rc : add_text(out, "producer", l->producer);
        rc = rc ? rc : buf_addf(out, ",\"seq\":%" PRIu64, l->seq);
    }
    rc = rc ? rc : add_text(out, "model", l->model);
    rc = rc ? rc : buf_addf(out, ",\"revision\":%" PRIu32, l->revision);
    rc = rc ? rc : buf_add_str(out, ",\"error\":{\"code\":");
    rc = rc ? rc : json_add_string(out, slice_of(outcome_of(l->outcome)->text));
    rc = rc ? rc : add_text(out, "message", l->sentence);
    rc = rc ? rc : buf_addf(out, ",\"attempts\":%" PRIu32 "},\"row\":%s", l->attempts,
                            l->has_row ? "true" : "false");
    rc = rc || !fields ? rc : add_fields(l, model, out);
    return rc ? rc : buf_add_byte(out, '}');
}
