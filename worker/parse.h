// parse: the answer's text becomes one value or error a record, matched by index only. Step 8 of
// the path.
#ifndef HEADRACE_WORKER_PARSE_H
#define HEADRACE_WORKER_PARSE_H

#include "common/bytes.h"
#include "common/model.h"
#include "proto/outcome.h"

struct parser;

#define PARSE_WARNING_MAX 128

// What an answer came to. Records without an item are missing.
struct parsed {
    enum outcome outcome;  // OK, TRUNCATED (good items kept), SHIFTED, UNREADABLE, EMPTY
    struct buf items;      // REPORT.items: [slot, outcome, values or sentence], see proto/record.h
    size_t n_items;        // of them, good or bad
    char detail[256];      // a sentence when outcome is not OK; never the answer's text
    char warning[PARSE_WARNING_MAX]; // names of the repairs with spaces between; empty: none
};

// The question that an answer belongs to.
struct question {
    const struct model *model;
    bool batched;          // the records were numbered 1..count
    bool cut;              // the provider stopped at the token limit
    const uint64_t *slots; // of each record, in prompt order
    size_t count;          // at least 1
};

// parser_new makes the scratch memory that calls of parse_answer share. A parser reads answers of
// up to count MODEL_BATCH_MAX.
struct parser *parser_new(void);
void parser_free(struct parser *parser);

// parse_answer reads an answer's text. out->items keeps its memory from call to call and is emptied
// first; its ceiling bounds the items.
//
// Repairs, each named in out->warning:
//   byte-order-mark, code-fence, prose   text around the answer
//   trailing-comma, single-quotes, nan, literal, bare-key, control-character, comment
//                       JSON made strict: see worker/repair.h
//   several-values      more than one JSON value with items (JSON Lines, ...): all are read
//   repaired            an array or XML that is not well-formed as a whole: its whole items are kept
//   cut-array           an array or element that is never closed: its whole items are kept
//   wrapped, no-root    the array is the only array inside an object; XML without a root element
//   bare-ampersand      XML with an '&' that begins no reference
//   ragged-line, broken-line   lines that are left out
//   out-of-range        an item's number belongs to no record: ignored
//   no-index            an item without a number: ignored
//   repeated            two equal items for one record: one is used
//   lone-index          the only item of an answer to a call for one record, whatever its number
//   shifted-index       response.best.effort: all numbers are off by the same, and were put right
// Items for one record with different values: that record is DUPLICATE. A value that does not fit
// its column: BAD_VALUE. Numbers that lie together but outside 1..count: SHIFTED, nothing is kept.
void parse_answer(struct parser *parser, const struct question *question, struct slice text,
                  struct parsed *out);

#endif
