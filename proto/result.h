// result: what becomes of a record: kept as part of a blob, seen by consumers as JSON or msgpack.
#ifndef HEADRACE_PROTO_RESULT_H
#define HEADRACE_PROTO_RESULT_H

#include "common/bytes.h"
#include "proto/outcome.h"

// What the results of one commit share.
struct result_shared {
    struct slice model;      // name
    uint32_t revision;
    uint64_t batch, call;    // 0: no call was made
    struct slice request_id; // of the provider
    struct slice prompt_hash;
    struct slice served_model, service_tier; // as the provider named them; empty: it did not
    struct slice warning;    // what had to be repaired; empty: nothing
    uint64_t latency_us;
    const char *const *columns; // OUTPUT columns' names
    size_t n_columns;           // 0 when the model is not known
    unsigned metadata;          // of the model: enum model_metadata
    unsigned http_status;       // 0: there was no HTTP answer
    struct slice http_headers;  // msgpack map of str to array of str; empty: not known
};

// What went before an answer: an error that did not become the record's result.
struct result_note {
    struct slice model;    // which gave up; empty: not told
    uint32_t revision;
    enum outcome outcome;
    struct slice sentence;
};

struct result {
    struct slice id, key;     // key empty: none given
    struct slice producer;    // empty: came without acks
    uint64_t seq;             // the producer's; 0 without
    enum outcome outcome;     // OUTCOME_OK: values stand; else: an error
    struct slice payload;     // values: msgpack array, one per OUTPUT column; or the error's sentence
    uint32_t attempts;        // calls that this record was part of
    double input_tokens, cached_tokens, output_tokens; // its share of those calls
    double cache_write_tokens, reasoning_tokens;       // likewise: parts of input and of output
    double cost;              // USD, its share; < 0: price not known
    const struct result_note *fallback; // why the record's own model gave up; NULL: it answered, or none did
    const struct result_note *defaulted; // the error that option default.value stands for; NULL: none
};

// A result blob is what the outbox keeps of one commit: the shared part and the results, compact.
// result_blob_begin, then result_blob_add n times with exactly the n that was announced. Sentences are
// cut to ERROR_MAX bytes and made UTF-8. 0 or -EMSGSIZE; then out is as it was.
MUST_CHECK int result_blob_begin(struct buf *out, const struct result_shared *shared, size_t n);
MUST_CHECK int result_blob_add(struct buf *out, const struct result *result);

enum result_format { RESULT_JSON, RESULT_MSGPACK };

// result_blob_count returns how many results a blob holds, or -EPROTO.
MUST_CHECK long result_blob_count(struct slice blob);

// result_blob_expand appends results from..from+n-1 of a blob as a consumer sees them, JSON Lines or
// msgpack maps one after another:
//   {"id":…,"key":…,"producer":…,"seq":…, COLUMN:…, "error":null|{"code","message","attempts"},
//    "meta":{"model","revision","batch","call","request_id","served_model","input_tokens",
//            "cached_tokens","cache_write_tokens","output_tokens","reasoning_tokens","cost","attempts",
//            "latency_ms","prompt_hash","service_tier","warning"}}
// and, only where there is one, behind these "fallback": {"model","revision","code","message"} and
// "default": {"code","message"}.
// Metadata columns that the model declares stand behind its others: null beside values.
// key, producer and seq are left out when there is none; columns are null beside an error; meta only
// when asked for; batch is 16 hex digits; cost is null when not known.
// What of meta is not known (no call was made) is null too. Values that do not fit the columns become a
// bad-value error. Returns 0; -EPROTO for a blob that is
// damaged or holds fewer; -EMSGSIZE.
MUST_CHECK int result_blob_expand(struct slice blob, size_t from, size_t n, enum result_format format,
                                  bool meta, struct buf *out);

#endif
