// sheet: a text whose lines have cells with commas between: the first line names the columns, in any
// order; empty lines and those with '#' in front are passed over. No quotes: no cell needs a comma.
#ifndef HEADRACE_COMMON_SHEET_H
#define HEADRACE_COMMON_SHEET_H

#include "common/bytes.h"
#include "common/error.h"

#define SHEET_COLUMNS_MAX 16
#define SHEET_CELL_SHOWN 40 // bytes of a cell in an error

// What a kind of sheet has. Its words stand in errors.
struct sheet_kind {
    const char *columns[SHEET_COLUMNS_MAX];
    size_t n_columns;
    size_t n_needed;    // the first so many must be there
    const char *needed; // "provider, model and as_of"
    const char *rows;   // "price": what a row is
    size_t most_bytes;  // of a file
};

// Where the reading is, for the errors of callbacks.
struct sheet {
    const char *file;
    size_t line; // from 1
    struct error *why;
};

// Called for each row: begin, cell for each cell, and end; all but begin and drop return 0, or what
// sheet_refuse returned: then drop follows and the reading ends.
struct sheet_handlers {
    void (*begin)(void *arg, const struct sheet *sheet);
    int (*cell)(void *arg, const struct sheet *sheet, size_t column, struct slice cell);
    int (*end)(void *arg, const struct sheet *sheet);
    void (*drop)(void *arg);
    void *arg;
};

// sheet_parse reads a text; file is its name in errors. Returns 0, or -EINVAL with why.
MUST_CHECK int sheet_parse(const struct sheet_kind *kind, struct slice text, const char *file,
                           const struct sheet_handlers *on, struct error *why);
// sheet_load reads a file. Returns what sheet_parse does, or a negative errno: it cannot be read.
MUST_CHECK int sheet_load(const struct sheet_kind *kind, const char *file, const struct sheet_handlers *on,
                          struct error *why);
// sheet_refuse says "FILE:LINE: NAME: got 'GOT', want WANT"; returns -EINVAL.
int sheet_refuse(const struct sheet *sheet, const char *name, struct slice got, const char *want);

#endif
