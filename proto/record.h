// record: records in, and the compact forms in which they travel. Results are in proto/result.h.
#ifndef HEADRACE_PROTO_RECORD_H
#define HEADRACE_PROTO_RECORD_H

#include "common/bytes.h"
#include "common/error.h"
#include "proto/outcome.h"
#include "proto/result.h"

#include <msgpack.h>

struct model;

#define RECORD_MAX_BYTES (1024 * 1024) // of one row as it comes in, what is in strings and bin not counted
#define RECORD_LONG_MAX_BYTES (16 * 1024 * 1024) // of a whole row for a model with images
#define RECORD_ID_MAX 1024             // bytes of an id or key

// ---- Rows as producers send them --------------------------------------------------------------
//
// A frame holds one or many rows: JSON objects (one, JSON Lines, or one JSON array of them) or
// msgpack maps (one, many in a row, or one array of them). A row is enveloped,
//   {"id":…, "key":…, "model":…, "options":{…}, "fields":{…}}
// when it has an object "fields" and no column that the envelope does not know; otherwise it is flat
// and its members are the fields, with the id in id_column and the key in key_column. An id or key may
// be a string, an integer or a boolean, and is kept as text.

struct row {
    struct slice id, key, model; // empty when not given
    struct slice options;        // msgpack map of str to str; empty when none
    struct slice fields;         // msgpack map as sent, or made from JSON
    size_t n_bytes;              // of the whole row as it came
    enum outcome outcome;        // OUTCOME_OK, or why the row is no record: BAD_RECORD, TOO_LONG
    struct error why;            // "row 3: offset 17: got ..., want ..." when not OK
};

struct row_columns {
    struct slice id, key; // names of the flat form's columns; empty: "id" and "key"
    size_t max_bytes;     // of one row, at most RECORD_LONG_MAX_BYTES; 0: RECORD_MAX_BYTES
};

// rows_read calls each for every row of a frame, good or bad, in order; a bad row never hides the
// next one (JSON resumes at the next line). All slices are valid during the call only.
// A row over max_bytes, or with more than RECORD_MAX_BYTES outside of strings, is TOO_LONG, an id or key over RECORD_ID_MAX a BAD_RECORD. Of members of
// the same name the last one counts. A bad row's id is set when it could be read.
// An empty frame has no rows. Returns the number of rows, or what each returned when it was not 0.
// A frame that is neither JSON nor msgpack is one bad row. columns may be NULL.
typedef int row_fn(void *arg, const struct row *row);
MUST_CHECK long rows_read(struct slice frame, const struct row_columns *columns, row_fn *each, void *arg);

// record_values makes the compact values from a row's fields: a msgpack array with one value per
// INPUT column in the model's order, cast to its type (a number in a string is taken for a number
// column; 1/0/"true"/"false" for BOOLEAN; a number or boolean for STRING becomes its text).
// Appends to out. Returns 0; -EINVAL with why ("column 'text': got an array, want STRING"; missing;
// null for NOT NULL); -EMSGSIZE.
MUST_CHECK int record_values(const struct model *model, struct slice fields, struct buf *out,
                             struct error *why);

// record_weight is the bytes of text that cost as many tokens as a record's values: an image counts by its
// pixels.
//   text_bytes  what a text counts; NULL: its bytes
size_t record_weight(const struct model *model, struct slice values,
                     size_t (*text_bytes)(const void *arg, struct slice text), const void *arg);

// ---- Records inside ---------------------------------------------------------------------------

// How a record travels from coordinator to worker, in DISPATCH: msgpack [slot, values], slot: its
// place in the batch, 0..1023, values: bin that holds the array of record_values.
MUST_CHECK int record_pack(struct buf *out, uint64_t slot, struct slice values);
// record_next reads one from *rest and moves it on. 1: got one; 0: end; -EPROTO.
MUST_CHECK int record_next(struct slice *rest, uint64_t *slot, struct slice *values);

// How an item of an answer travels back, in REPORT: msgpack [slot, outcome text, payload]; payload is
// bin (msgpack array, one value per OUTPUT column) when the outcome is ok, else str (a sentence).
MUST_CHECK int item_pack(struct buf *out, uint64_t slot, enum outcome outcome, struct slice payload);
MUST_CHECK int item_next(struct slice *rest, uint64_t *slot, enum outcome *outcome, struct slice *payload);

// Option overrides: msgpack map of str to str, names sorted, so that equal maps are equal bytes.
// options_canonical appends any such map, rewritten; numbers and booleans become their text. No map
// and an empty one append nothing. 0, -EMSGSIZE, -EPROTO with why when it is no such map.
MUST_CHECK int options_canonical(struct slice map, struct buf *out, struct error *why);
// options_get reads pair number i, from 0, of a canonical map (empty: none). 1: got it; 0: there are
// no more; -EPROTO.
MUST_CHECK int options_get(struct slice map, size_t i, struct slice *name, struct slice *value);

// msgpack_to_json appends one msgpack value as JSON; bin becomes base64 text. 0, -EPROTO, -EMSGSIZE.
MUST_CHECK int msgpack_to_json(struct slice value, struct buf *out);
// json_to_msgpack appends a JSON value (NULL: null) as msgpack. 0, -EMSGSIZE; then out is cut off
// anywhere.
struct json_object;
MUST_CHECK int json_to_msgpack(struct json_object *value, struct buf *out);

#endif
