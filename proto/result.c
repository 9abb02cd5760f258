// Results as the outbox keeps them and as consumers see them. A blob is msgpack in a row:
//   [1, n, model, revision, batch, call, request_id, prompt_hash, served_model, warning, latency_us,
//    [column, ...]]                                                                    once
// with metadata, http_status, http_headers behind the columns when the model has such columns, and
// service_tier last when there is one;
//   [id, key, producer, seq, outcome, payload, attempts, input, cached, output, cost]  n times
// with cache_write, reasoning behind them when there are any, and behind these twice what went before it,
// [model, revision, outcome, sentence] or nil: fallback, default.
// Its names and the shared part stand once, however many results there are. Invariant: on failure the
// buf is as it was. Called by deliver.
#include "proto/result.h"

#include "common/json.h"
#include "common/model.h"
#include "proto/frame.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>
#include <stdio.h>

#define BLOB_VERSION 1   // of what is kept in Redis
#define SHARED_COUNT 12  // values of the first array
#define METADATA_COUNT 3 // more with metadata columns
#define RESULT_COUNT 11  // values of each result
#define RESULT_MORE  13  // with tokens that few calls have
#define RESULT_NOTED 15  // with what went before it, too
#define NOTE_COUNT   4
#define META_COUNT 17
#define EXACT_MOST 9007199254740992.0 // 2^53: integers up to here are exact in a double

static int undo(struct buf *out, size_t n, int rc) {
    if (rc != 0 && out->p != NULL) {
        out->n = n;
        out->p[n] = '\0';
    }
    return rc;
}

// ---- Into a blob --------------------------------------------------------------------------------

// add_number writes a whole number as an integer: most shares are small ones.
static int add_number(struct buf *out, double number) {
    if (number >= 0 && number <= EXACT_MOST && number == (double)(uint64_t)number) {
        return pack_uint(out, (uint64_t)number);
    }
    return pack_real(out, number);
}

int result_blob_begin(struct buf *out, const struct result_shared *s, size_t n) {
    size_t start = out->n;
    uint32_t n_metadata = s->metadata != 0 ? METADATA_COUNT : 0;
    int rc = pack_array(out, SHARED_COUNT + n_metadata + (s->service_tier.n > 0));
    rc = rc == 0 ? pack_uint(out, BLOB_VERSION) : rc;
    rc = rc == 0 ? pack_uint(out, n) : rc;
    rc = rc == 0 ? pack_str(out, s->model) : rc;
    rc = rc == 0 ? pack_uint(out, s->revision) : rc;
    rc = rc == 0 ? pack_uint(out, s->batch) : rc;
    rc = rc == 0 ? pack_uint(out, s->call) : rc;
    rc = rc == 0 ? pack_text(out, s->request_id, ERROR_MAX) : rc;
    rc = rc == 0 ? pack_text(out, s->prompt_hash, ERROR_MAX) : rc;
    rc = rc == 0 ? pack_text(out, s->served_model, ERROR_MAX) : rc;
    rc = rc == 0 ? pack_text(out, s->warning, ERROR_MAX) : rc;
    rc = rc == 0 ? pack_uint(out, s->latency_us) : rc;
    rc = rc == 0 ? pack_array(out, (uint32_t)s->n_columns) : rc;
    for (size_t i = 0; rc == 0 && i < s->n_columns; i++) {
        rc = pack_str(out, slice_of(s->columns[i]));
    }
    if (rc == 0 && s->metadata != 0) {
        rc = pack_uint(out, s->metadata);
        rc = rc == 0 ? pack_uint(out, s->http_status) : rc;
        rc = rc == 0 ? pack_bin(out, s->http_headers) : rc;
    }
    if (rc == 0 && s->service_tier.n > 0) {
        rc = pack_text(out, s->service_tier, ERROR_MAX);
    }
    return undo(out, start, rc);
}

static int add_note(struct buf *out, const struct result_note *note) {
    if (note == NULL) {
        return pack_nil(out);
    }
    int rc = pack_array(out, NOTE_COUNT);
    rc = rc == 0 ? pack_str(out, note->model) : rc;
    rc = rc == 0 ? pack_uint(out, note->revision) : rc;
    rc = rc == 0 ? pack_str(out, slice_of(outcome_of(note->outcome)->text)) : rc;
    return rc == 0 ? pack_text(out, note->sentence, ERROR_MAX) : rc;
}

int result_blob_add(struct buf *out, const struct result *r) {
    size_t start = out->n;
    bool has_notes = r->fallback != NULL || r->defaulted != NULL;
    bool has_more = has_notes || r->cache_write_tokens > 0 || r->reasoning_tokens > 0;
    int rc = pack_array(out, has_notes ? RESULT_NOTED : has_more ? RESULT_MORE : RESULT_COUNT);
    rc = rc == 0 ? pack_str(out, r->id) : rc;
    rc = rc == 0 ? pack_str(out, r->key) : rc;
    rc = rc == 0 ? pack_str(out, r->producer) : rc;
    rc = rc == 0 ? pack_uint(out, r->seq) : rc;
    rc = rc == 0 ? pack_str(out, slice_of(outcome_of(r->outcome)->text)) : rc;
    if (rc == 0) {
        rc = r->outcome == OUTCOME_OK ? pack_bin(out, r->payload)
                                      : pack_text(out, r->payload, ERROR_MAX);
    }
    rc = rc == 0 ? pack_uint(out, r->attempts) : rc;
    rc = rc == 0 ? add_number(out, r->input_tokens) : rc;
    rc = rc == 0 ? add_number(out, r->cached_tokens) : rc;
    rc = rc == 0 ? add_number(out, r->output_tokens) : rc;
    if (rc == 0) {
        rc = r->cost >= 0 ? add_number(out, r->cost) : pack_nil(out);
    }
    if (rc == 0 && has_more) {
        rc = add_number(out, r->cache_write_tokens);
        rc = rc == 0 ? add_number(out, r->reasoning_tokens) : rc;
    }
    if (rc == 0 && has_notes) {
        rc = add_note(out, r->fallback);
        rc = rc == 0 ? add_note(out, r->defaulted) : rc;
    }
    return undo(out, start, rc);
}

// ---- Out of a blob ------------------------------------------------------------------------------

struct blob {
    uint64_t n, revision, batch, call, latency_us, metadata, http_status;
    struct slice model, request_id, prompt_hash, served_model, service_tier, warning, http_headers;
    struct slice columns[MODEL_COLUMNS_MAX];
    uint32_t n_columns;
};

// What went before a result; n of the outcome is 0 when there is nothing.
struct note {
    struct slice model, outcome, sentence;
    uint64_t revision;
};

// One result as it is in the blob.
struct kept {
    struct slice id, key, producer, outcome, payload;
    uint64_t seq, attempts;
    struct slice input, cached, write, output, reasoning, cost; // msgpack numbers; cost may be nil
    struct note fallback, defaulted;
};

// take_bytes reads a str, or a bin in its place.
static int take_bytes(struct slice *rest, struct slice *bytes) {
    struct pack_value v;
    if (pack_next(rest, &v) != 1 || (v.type != PACK_STR && v.type != PACK_BIN)) {
        return -EPROTO;
    }
    *bytes = v.bytes;
    return 0;
}

// take_number borrows a number, or nil where there is none.
static int take_number(struct slice *rest, struct slice *number) {
    struct pack_value v;
    struct slice start = *rest;
    if (pack_next(rest, &v) != 1 ||
        (v.type != PACK_UINT && v.type != PACK_REAL && v.type != PACK_NIL)) {
        return -EPROTO;
    }
    *number = (struct slice){start.p, start.n - rest->n};
    return 0;
}

static int read_blob(struct slice *rest, struct blob *b) {
    uint32_t count;
    uint64_t version;
    b->metadata = b->http_status = 0;
    b->http_headers = b->service_tier = SLICE_NONE;
    if (pack_array_next(rest, &count) != 0 || count < SHARED_COUNT ||
        (count -= SHARED_COUNT) > METADATA_COUNT + 1 || count == METADATA_COUNT - 1 ||
        pack_uint_next(rest, &version) != 0 || version != BLOB_VERSION ||
        pack_uint_next(rest, &b->n) != 0 || pack_str_next(rest, &b->model) != 0 ||
        pack_uint_next(rest, &b->revision) != 0 || pack_uint_next(rest, &b->batch) != 0 ||
        pack_uint_next(rest, &b->call) != 0 || pack_str_next(rest, &b->request_id) != 0 ||
        pack_str_next(rest, &b->prompt_hash) != 0 || pack_str_next(rest, &b->served_model) != 0 ||
        pack_str_next(rest, &b->warning) != 0 || pack_uint_next(rest, &b->latency_us) != 0 ||
        pack_array_next(rest, &b->n_columns) != 0 || b->n_columns > MODEL_COLUMNS_MAX) {
        return -EPROTO;
    }
    for (uint32_t i = 0; i < b->n_columns; i++) {
        if (pack_str_next(rest, &b->columns[i]) != 0) {
            return -EPROTO;
        }
    }
    if (count >= METADATA_COUNT &&
        (pack_uint_next(rest, &b->metadata) != 0 || pack_uint_next(rest, &b->http_status) != 0 ||
         take_bytes(rest, &b->http_headers) != 0)) {
        return -EPROTO;
    }
    if (count % METADATA_COUNT == 1 && pack_str_next(rest, &b->service_tier) != 0) {
        return -EPROTO;
    }
    return b->n <= rest->n ? 0 : -EPROTO;
}

// read_note reads what went before a result, or nil.
static int read_note(struct slice *rest, struct note *note) {
    uint32_t count;
    struct slice start = *rest;
    struct pack_value v;
    *note = (struct note){0};
    if (pack_next(rest, &v) == 1 && v.type == PACK_NIL) {
        return 0;
    }
    *rest = start;
    if (pack_array_next(rest, &count) != 0 || count != NOTE_COUNT || pack_str_next(rest, &note->model) != 0 ||
        pack_uint_next(rest, &note->revision) != 0 || pack_str_next(rest, &note->outcome) != 0 ||
        pack_str_next(rest, &note->sentence) != 0) {
        return -EPROTO;
    }
    return 0;
}

static int read_kept(struct slice *rest, struct kept *k) {
    uint32_t count;
    k->write = k->reasoning = SLICE_LIT("\0"); // 0
    k->fallback = k->defaulted = (struct note){0};
    if (pack_array_next(rest, &count) != 0 || (count != RESULT_COUNT && count != RESULT_MORE && count != RESULT_NOTED) ||
        pack_str_next(rest, &k->id) != 0 || pack_str_next(rest, &k->key) != 0 ||
        pack_str_next(rest, &k->producer) != 0 || pack_uint_next(rest, &k->seq) != 0 ||
        pack_str_next(rest, &k->outcome) != 0 || take_bytes(rest, &k->payload) != 0 ||
        pack_uint_next(rest, &k->attempts) != 0 || take_number(rest, &k->input) != 0 ||
        take_number(rest, &k->cached) != 0 || take_number(rest, &k->output) != 0 ||
        take_number(rest, &k->cost) != 0) {
        return -EPROTO;
    }
    bool has_notes = count == RESULT_NOTED, has_more = has_notes || count == RESULT_MORE;
    if ((has_more && (take_number(rest, &k->write) != 0 || take_number(rest, &k->reasoning) != 0)) ||
        (has_notes && (read_note(rest, &k->fallback) != 0 || read_note(rest, &k->defaulted) != 0))) {
        return -EPROTO;
    }
    return 0;
}

long result_blob_count(struct slice blob) {
    struct blob b;
    return read_blob(&blob, &b) == 0 ? (long)b.n : -EPROTO;
}

// ---- As a consumer sees it ----------------------------------------------------------------------

// Writes either format; after the first failure it does nothing more.
struct writer {
    struct buf *out;
    enum result_format format;
    bool is_first; // JSON: the next name needs no comma
    int rc;
};

static void put(struct writer *w, int rc) {
    w->rc = w->rc == 0 ? rc : w->rc;
}

static void map_begin(struct writer *w, uint32_t count) {
    if (w->rc == 0) {
        put(w, w->format == RESULT_JSON ? buf_add_byte(w->out, '{') : pack_map(w->out, count));
    }
    w->is_first = true;
}

static void map_end(struct writer *w) {
    if (w->rc == 0 && w->format == RESULT_JSON) {
        put(w, buf_add_byte(w->out, '}'));
    }
    w->is_first = false;
}

static void add_text(struct writer *w, struct slice text) {
    if (w->rc != 0) {
        return;
    }
    if (slice_utf8_error(text) >= 0) {
        put(w, -EPROTO);
        return;
    }
    put(w, w->format == RESULT_JSON ? json_add_string(w->out, text) : pack_str(w->out, text));
}

static void add_name(struct writer *w, struct slice name) {
    if (w->rc == 0 && w->format == RESULT_JSON && !w->is_first) {
        put(w, buf_add_byte(w->out, ','));
    }
    w->is_first = false;
    add_text(w, name);
    if (w->rc == 0 && w->format == RESULT_JSON) {
        put(w, buf_add_byte(w->out, ':'));
    }
}

static void add_null(struct writer *w) {
    if (w->rc == 0) {
        put(w, w->format == RESULT_JSON ? buf_add_str(w->out, "null") : pack_nil(w->out));
    }
}

static void add_uint(struct writer *w, uint64_t u) {
    if (w->rc == 0) {
        put(w, w->format == RESULT_JSON ? buf_addf(w->out, "%llu", (unsigned long long)u)
                                        : pack_uint(w->out, u));
    }
}

// add_packed adds one msgpack value.
static void add_packed(struct writer *w, struct slice value) {
    if (w->rc == 0) {
        put(w, w->format == RESULT_JSON ? msgpack_to_json(value, w->out) : buf_add_slice(w->out, value));
    }
}

static void add_text_or_null(struct writer *w, const char *name, struct slice text) {
    add_name(w, slice_of(name));
    if (text.n > 0) {
        add_text(w, text);
    } else {
        add_null(w);
    }
}

static void add_number_as(struct writer *w, const char *name, struct slice number) {
    add_name(w, slice_of(name));
    add_packed(w, number);
}

// has_values says whether the values fit the columns. What a broken worker sent must not stand between
// a consumer and all results behind it.
static bool has_values(const struct blob *b, const struct kept *k) {
    struct slice values = k->payload;
    uint32_t n;
    return frame_scan(k->payload, 1, NULL) == 1 && pack_array_next(&values, &n) == 0 &&
           n == b->n_columns;
}

static void add_columns(struct writer *w, const struct blob *b, const struct kept *k, bool ok) {
    struct slice values = k->payload, value;
    uint32_t n;
    if (ok && pack_array_next(&values, &n) != 0) {
        put(w, -EPROTO);
    }
    for (uint32_t i = 0; i < b->n_columns; i++) {
        add_name(w, b->columns[i]);
        if (!ok) {
            add_null(w);
        } else if (pack_whole(&values, &value) == 1) {
            add_packed(w, value);
        } else {
            put(w, -EPROTO);
        }
    }
}

// add_metadata adds what went wrong in the columns that the model has for it.
static void add_metadata(struct writer *w, const struct blob *b, const struct kept *k, bool ok) {
    bool has_headers = b->http_headers.n > 0 && frame_scan(b->http_headers, 1, NULL) == 1;
    bool known[N_METADATA] = {[METADATA_ERROR_STRING] = true,
                              [METADATA_HTTP_STATUS] = b->http_status > 0,
                              [METADATA_HTTP_HEADERS] = has_headers};
    bool is_default = k->defaulted.outcome.n > 0;
    for (int i = 0; i < N_METADATA; i++) {
        if (!MODEL_HAS(b->metadata, i)) {
            continue;
        }
        add_name(w, slice_of(model_metadata_name(i)));
        if ((ok && !is_default) || !known[i]) {
            add_null(w);
        } else if (i == METADATA_ERROR_STRING) {
            add_text(w, is_default ? k->defaulted.sentence : k->payload);
        } else if (i == METADATA_HTTP_STATUS) {
            add_uint(w, b->http_status);
        } else {
            add_packed(w, b->http_headers);
        }
    }
}

static uint32_t count_metadata(const struct blob *b) {
    uint32_t n = 0;
    for (int i = 0; i < N_METADATA; i++) {
        n += MODEL_HAS(b->metadata, i);
    }
    return n;
}

static void add_error(struct writer *w, const struct kept *k, bool ok) {
    add_name(w, SLICE_LIT("error"));
    if (ok) {
        add_null(w);
        return;
    }
    map_begin(w, 3);
    add_name(w, SLICE_LIT("code"));
    add_text(w, k->outcome);
    add_name(w, SLICE_LIT("message"));
    add_text(w, k->payload);
    add_name(w, SLICE_LIT("attempts"));
    add_uint(w, k->attempts);
    map_end(w);
}

static void add_batch(struct writer *w, const struct blob *b) {
    char text[17] = "";
    if (b->batch > 0) {
        snprintf(text, sizeof(text), "%016llx", (unsigned long long)b->batch);
    }
    add_text_or_null(w, "batch", slice_of(text));
    add_name(w, SLICE_LIT("call"));
    if (b->call > 0) {
        add_uint(w, b->call);
    } else {
        add_null(w);
    }
}

static void add_note_as(struct writer *w, const char *name, const struct note *note, bool with_model) {
    if (note->outcome.n == 0) {
        return;
    }
    add_name(w, slice_of(name));
    map_begin(w, with_model ? 4 : 2);
    if (with_model) {
        add_text_or_null(w, "model", note->model);
        add_name(w, SLICE_LIT("revision"));
        add_uint(w, note->revision);
    }
    add_name(w, SLICE_LIT("code"));
    add_text(w, note->outcome);
    add_name(w, SLICE_LIT("message"));
    add_text(w, note->sentence);
    map_end(w);
}

static void add_meta(struct writer *w, const struct blob *b, const struct kept *k) {
    char number[16];
    struct buf latency = {.max = sizeof(number)};
    put(w, add_number(&latency, (double)b->latency_us / 1000));
    add_name(w, SLICE_LIT("meta"));
    map_begin(w, META_COUNT + (k->fallback.outcome.n > 0) + (k->defaulted.outcome.n > 0));
    add_text_or_null(w, "model", b->model);
    add_name(w, SLICE_LIT("revision"));
    add_uint(w, b->revision);
    add_batch(w, b);
    add_text_or_null(w, "request_id", b->request_id);
    add_text_or_null(w, "served_model", b->served_model);
    add_number_as(w, "input_tokens", k->input);
    add_number_as(w, "cached_tokens", k->cached);
    add_number_as(w, "cache_write_tokens", k->write);
    add_number_as(w, "output_tokens", k->output);
    add_number_as(w, "reasoning_tokens", k->reasoning);
    add_number_as(w, "cost", k->cost);
    add_name(w, SLICE_LIT("attempts"));
    add_uint(w, k->attempts);
    add_number_as(w, "latency_ms", buf_slice(&latency));
    add_text_or_null(w, "prompt_hash", b->prompt_hash);
    add_text_or_null(w, "service_tier", b->service_tier);
    add_text_or_null(w, "warning", b->warning);
    add_note_as(w, "fallback", &k->fallback, true);
    add_note_as(w, "default", &k->defaulted, false);
    map_end(w);
    buf_free(&latency);
}

static void add_result(struct writer *w, const struct blob *b, struct kept *k, bool meta) {
    bool ok = slice_is(k->outcome, outcome_of(OUTCOME_OK)->text);
    if (ok && !has_values(b, k)) {
        ok = false;
        k->outcome = slice_of(outcome_of(OUTCOME_BAD_VALUE)->text);
        k->payload = SLICE_LIT("the worker's values do not fit the OUTPUT columns");
    }
    bool has_key = k->key.n > 0, has_producer = k->producer.n > 0;
    map_begin(w, 2 + has_key + 2 * has_producer + b->n_columns + count_metadata(b) + meta);
    add_name(w, SLICE_LIT("id"));
    add_text(w, k->id);
    if (has_key) {
        add_name(w, SLICE_LIT("key"));
        add_text(w, k->key);
    }
    if (has_producer) {
        add_name(w, SLICE_LIT("producer"));
        add_text(w, k->producer);
        add_name(w, SLICE_LIT("seq"));
        add_uint(w, k->seq);
    }
    add_columns(w, b, k, ok);
    add_metadata(w, b, k, ok);
    add_error(w, k, ok);
    if (meta) {
        add_meta(w, b, k);
    }
    map_end(w);
    if (w->rc == 0 && w->format == RESULT_JSON) {
        put(w, buf_add_byte(w->out, '\n'));
    }
}

int result_blob_expand(struct slice blob, size_t from, size_t n, enum result_format format, bool meta,
                       struct buf *out) {
    struct blob b;
    struct writer w = {.out = out, .format = format};
    size_t start = out->n;
    struct slice rest = blob, skipped;
    if (read_blob(&rest, &b) != 0 || from > b.n || n > b.n - from) {
        return -EPROTO;
    }
    for (size_t i = 0; i < from; i++) {
        if (pack_whole(&rest, &skipped) != 1) {
            return -EPROTO;
        }
    }
    for (size_t i = 0; w.rc == 0 && i < n; i++) {
        struct kept k;
        put(&w, read_kept(&rest, &k));
        if (w.rc == 0) {
            add_result(&w, &b, &k, meta);
        }
    }
    return undo(out, start, w.rc);
}
