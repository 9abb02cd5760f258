// merge: an input row and its result make one line of output.
//   JSON Lines  the row's own text, with the OUTPUT columns, "error" and, when asked for, "meta" added
//               before its closing brace; a member of the row with one of these names is left out
//   CSV         the row's own fields, then the OUTPUT columns, "error" and, when asked for, "meta"
// A row that could not be read: {"file", "line", OUTPUT columns null, "error"}.
#ifndef HEADRACE_CLIENT_MERGE_H
#define HEADRACE_CLIENT_MERGE_H

#include "client/rows.h"

#include <json-c/json.h>

struct model;

struct merge {
    const struct model *model; // whose OUTPUT columns are added; borrowed
    bool meta;                 // add "meta"
    bool csv;                  // CSV, else JSON Lines
    char delimiter;            // CSV
    char *const *header;       // CSV: names of the row's own columns; borrowed
    size_t n_header;
};

// merge_header appends the CSV header and a line break; nothing for JSON Lines. 0 or -EMSGSIZE.
MUST_CHECK int merge_header(const struct merge *merge, struct buf *out);

// merge_result appends the line of a row that has a result.
//   row     json (JSON Lines) or csv (CSV) is used; file and line stand before an error's message
//   result  the result as the coordinator sends it, see result_blob_expand in proto/record.h
// Returns 0 or -EMSGSIZE.
MUST_CHECK int merge_result(const struct merge *merge, const struct rows_row *row,
                            struct json_object *result, struct buf *out);

// merge_bad appends the line of a row that could not be read: row->outcome and row->why say why.
MUST_CHECK int merge_bad(const struct merge *merge, const struct rows_row *row, struct buf *out);

// json_drop_members appends a JSON object's text, without its closing brace and white space before
// it, and without the members that `is_dropped` names. Text that is kept is kept byte by byte.
//   object  the text of one valid JSON object
// Returns how many members were kept, or -EMSGSIZE.
typedef bool json_is_dropped(const void *arg, struct slice name);
MUST_CHECK long json_drop_members(struct slice object, json_is_dropped *is_dropped, const void *arg,
                                  struct buf *out);

#endif
