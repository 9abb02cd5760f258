// job_rows: the rows of a file of answers, one after another, however long the file is: lines of JSON, or
// the elements of one array inside a JSON text.
#ifndef HEADRACE_WORKER_JOB_ROWS_H
#define HEADRACE_WORKER_JOB_ROWS_H

#include "worker/job_spool.h"

#define JOB_AROUND_MAX (256 * 1024) // bytes of what is around an array
#define JOB_ROW_MAX (48 * 1024 * 1024) // bytes of one row

struct job_rows {
    const struct job_spool *spool; // borrowed
    uint64_t at;               // the next byte of the file to read
    struct buf block;          // what was read
    size_t used;               // of it
    struct buf row;            // being put together
    bool too_long;             // it is, and is skipped
    // An array: where the scan is in the JSON.
    const char *array;         // name of the member whose elements are rows; NULL: lines
    struct buf name;           // the last string
    struct buf around;         // the JSON without the elements
    int depth, inside;         // of brackets; depth of the array's elements, 0 while it was not found
    bool in_string, escaped;
    bool found, again;         // an array was found; it is another of the same name
    char closers[64];          // what would close the brackets that are open before the first array
    int depth_head;            // how many these are; 0: none was found, or too deep
    size_t n_head;             // bytes of around before its elements
};

// job_rows_init begins at a file's first byte.
//   array  rows are the elements of the first array that is the value of a member of this name; NULL: each
//          line is one
void job_rows_init(struct job_rows *rows, const struct job_spool *spool, const char *array);
void job_rows_free(struct job_rows *rows);

// job_rows_next borrows the next row until the next call; it is not known to be JSON. Empty lines are
// skipped. What is around an array is in rows->around at the end; when that is damaged, it is what stands
// before the array, closed. Returns 1; 0 at the end; -EMSGSIZE for a row that is too long, and goes on behind
// it next time; -EPROTO: the end, but the text around the array is damaged; another negative errno when the
// file cannot be read.
MUST_CHECK int job_rows_next(struct job_rows *rows, struct slice *row);

#endif
