// Rows of answers. Invariant: memory holds one block and one row, whatever the file holds. Called by job.
#include "worker/job_rows.h"

#include "common/json.h"

#include <errno.h>
#include <string.h>

#define BLOCK_BYTES (64 * 1024)
#define NAME_MAX_BYTES 64

void job_rows_init(struct job_rows *rows, const struct job_spool *spool, const char *array) {
    *rows = (struct job_rows){.spool = spool, .array = array};
    buf_init(&rows->block, BLOCK_BYTES);
    buf_init(&rows->row, JOB_ROW_MAX);
    buf_init(&rows->name, NAME_MAX_BYTES);
    buf_init(&rows->around, JOB_AROUND_MAX);
}

void job_rows_free(struct job_rows *rows) {
    buf_free(&rows->block);
    buf_free(&rows->row);
    buf_free(&rows->name);
    buf_free(&rows->around);
}

// fill reads the next block when this one is used up. 1; 0 at the end; a negative errno.
static int fill(struct job_rows *rows) {
    if (rows->used < rows->block.n) {
        return 1;
    }
    buf_clear(&rows->block);
    rows->used = 0;
    int rc = buf_reserve(&rows->block, BLOCK_BYTES);
    int64_t n = rc != 0 ? rc : job_spool_read(rows->spool, rows->at, rows->block.p, BLOCK_BYTES);
    if (n <= 0) {
        return (int)n;
    }
    rows->block.n = (size_t)n;
    rows->at += (uint64_t)n;
    return 1;
}

static void keep(struct job_rows *rows, struct slice bytes) {
    rows->too_long = rows->too_long || buf_add_slice(&rows->row, bytes) != 0;
}

// whole gives a row that has ended to the caller.
static int whole(struct job_rows *rows, struct slice *row) {
    if (rows->too_long) {
        rows->too_long = false;
        buf_clear(&rows->row);
        return -EMSGSIZE;
    }
    *row = slice_trim(buf_slice(&rows->row));
    return 1;
}

static int next_line(struct job_rows *rows, struct slice *row) {
    int rc;
    buf_clear(&rows->row);
    while ((rc = fill(rows)) == 1) {
        struct slice rest = slice_sub(buf_slice(&rows->block), rows->used, rows->block.n);
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end != NULL ? (size_t)(end - rest.p) : rest.n;
        keep(rows, slice_sub(rest, 0, n));
        rows->used += n + (end != NULL);
        if (end != NULL && (rows->too_long || slice_trim(buf_slice(&rows->row)).n > 0)) {
            return whole(rows, row);
        }
        if (end != NULL) {
            buf_clear(&rows->row);
        }
    }
    bool rest = rows->too_long || slice_trim(buf_slice(&rows->row)).n > 0;
    return rc == 0 && rest ? whole(rows, row) : rc; // the last line may lack its end
}

// ---- An array -----------------------------------------------------------------------------------

// in_row says that the byte at hand belongs to an element.
static bool in_row(const struct job_rows *rows) {
    return rows->inside > 0 && rows->depth >= rows->inside;
}

// step_string takes a byte of a string.
static void step_string(struct job_rows *rows, char c) {
    if (rows->escaped) {
        rows->escaped = false;
    } else if (c == '\\') {
        rows->escaped = true;
    } else if (c == '"') {
        rows->in_string = false;
        return;
    }
    if (rows->inside == 0 && buf_add_byte(&rows->name, c) != 0) {
        buf_clear(&rows->name); // a long one is no name that is looked for
    }
}

// opens takes '{' or '['. Only the first array of the name has rows: what comes after it says the same.
static void opens(struct job_rows *rows, char c) {
    rows->depth++;
    if (rows->inside == 0 && c == '[' && slice_is(buf_slice(&rows->name), rows->array)) {
        rows->inside = rows->depth + 1;
        rows->again = rows->found;
        rows->found = true;
    }
}

// step_open takes a byte outside of strings. True: an element has ended with it.
static bool step_open(struct job_rows *rows, char c) {
    if (c == '"') {
        rows->in_string = true;
        buf_clear(&rows->name);
    } else if (c == '{' || c == '[') {
        opens(rows, c);
    } else if (c == '}' || c == ']') {
        rows->depth--;
        if (rows->inside > 0 && rows->depth == rows->inside - 1) {
            return true;
        }
        if (rows->inside > 0 && rows->depth < rows->inside - 1) {
            rows->inside = 0; // the array has ended
        }
    }
    return false;
}

// keep_around keeps a byte that is in no element; between elements there is nothing to keep. What is too
// long makes no JSON any more.
static void keep_around(struct job_rows *rows, char c) {
    bool between = rows->inside > 0 && rows->depth == rows->inside - 1 && c != '[';
    if (!between && buf_add_byte(&rows->around, c) != 0) {
        buf_clear(&rows->around);
    }
    size_t at = (size_t)rows->depth - 1;
    if (rows->depth_head == 0 && !rows->in_string && (c == '{' || c == '[') && rows->depth > 0 &&
        at < sizeof(rows->closers)) {
        rows->closers[at] = c == '{' ? '}' : ']';
        if (rows->found) {
            rows->depth_head = rows->depth;
            rows->n_head = rows->around.n;
        }
    }
}

// mend_around makes JSON again of what is around a damaged array: what stands before it, closed.
static int mend_around(struct job_rows *rows) {
    struct json_object *json = NULL;
    bool good = json_parse(buf_slice(&rows->around), &json, NULL) == 0;
    json_object_put(json);
    if (good) {
        return 0;
    }
    rows->around.n = rows->n_head;
    int rc = 0;
    for (int i = rows->depth_head; rc == 0 && i > 0; i--) {
        rc = buf_add_byte(&rows->around, rows->closers[i - 1]);
    }
    return -EPROTO;
}

static int next_element(struct job_rows *rows, struct slice *row) {
    int rc;
    buf_clear(&rows->row);
    while ((rc = fill(rows)) == 1) {
        struct slice rest = slice_sub(buf_slice(&rows->block), rows->used, rows->block.n);
        size_t from = 0;
        for (size_t i = 0; i < rest.n; i++) {
            char c = rest.p[i];
            bool was_in = in_row(rows), ends = false;
            if (rows->in_string) {
                step_string(rows, c);
            } else {
                ends = step_open(rows, c);
            }
            if (!was_in && in_row(rows)) {
                from = i;
            } else if (!was_in) {
                keep_around(rows, c);
            }
            if (ends && !rows->again) {
                keep(rows, slice_sub(rest, from, i + 1 - from));
                rows->used += i + 1;
                return whole(rows, row);
            }
        }
        if (in_row(rows) && !rows->again) {
            keep(rows, slice_sub(rest, from, rest.n));
        }
        rows->used = rows->block.n;
    }
    return rc == 0 ? mend_around(rows) : rc;
}

int job_rows_next(struct job_rows *rows, struct slice *row) {
    return rows->array != NULL ? next_element(rows, row) : next_line(rows, row);
}
