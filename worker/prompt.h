// prompt: records, templates and a model make the messages of one call. Step 6 of the path.
//
// A batch prompt (batch.size > 1, even when a call holds one record): batch.prompt.template, and if
// that has no placeholder for the records, a blank line and one numbered slot each, one line a slot:
//   json  {"index":1,"text":"..."}
//   xml   <record index="1"><text>...</text></record>
//   text  [1] "..."              with several columns:  [1] title: "...", body: "..."
// An image of a slot stands directly behind its number, before the other columns, as a mark of
// worker/parts.h.
// A slot cannot be closed from inside: quotes and line breaks of a record are escaped. Without
// batch.prompt.template a built-in sentence asks for the array that the parser wants.
//
// A single prompt (batch.size = 1): prompt.template, and if that names no column, a blank line and
// the record in input.format without a number (one column in text: bare). Without a template the
// record alone: bare when there is one STRING column.
//
// Placeholders: {{#records}}...{{/records}} with index and the columns, {{records}} (all slots), a
// single prompt's columns, count, index (1), schema (JSON Schema of one item), labels (with commas between), now
// (ISO 8601, UTC). {{column}} is written as the input format needs it: json: a whole JSON value with
// its quotes; xml: escaped text; text: a JSON string in a batch, bare in a single prompt.
// {{{column}}} is the text as it is: such a template gives up the slot's protection.
#ifndef HEADRACE_WORKER_PROMPT_H
#define HEADRACE_WORKER_PROMPT_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"

// What a model's templates hold; found once a model.
struct prompt_plan {
    bool batched;        // batch.size > 1
    bool has_records;    // the template places the records itself
    struct buf item_schema; // JSON Schema of one item of the answer
    struct buf schema;   // JSON Schema of the answer as sent to a provider: its root is an object
};

// prompt_plan_make looks a model over; prompt_plan_free frees it.
// Returns 0; -EINVAL with why for options that cannot work together; -EMSGSIZE.
MUST_CHECK int prompt_plan_make(const struct model *model, struct prompt_plan *plan,
                                struct error *why);
void prompt_plan_free(struct prompt_plan *plan);

// prompt_value_field is the field of an item where an OUTPUT column's value stands.
const char *prompt_value_field(const struct model *model, size_t column);

// prompt_make renders one call.
//   records       count times [slot, values], see proto/record.h
//   slots         receives the slot of each record, in prompt order; room for count
//   system, user  the two messages, appended; system stays empty when the model has none
// Returns 0; -EPROTO with why for records that cannot be read or do not have the model's columns;
// -EMSGSIZE with why past a buf's ceiling; -ELOOP with why for a template that never ends.
MUST_CHECK int prompt_make(const struct model *model, const struct prompt_plan *plan,
                           struct slice records, size_t count, uint64_t *slots, struct buf *system,
                           struct buf *user, struct error *why);

#endif
