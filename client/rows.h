// rows: what a user's files hold, row by row: JSON Lines, CSV with a header (RFC 4180), lines of text.
// Blank lines are skipped, a byte order mark and CR LF are fine. A row that cannot be read comes out
// as a row too, in its place, with file, line and reason; it never hides the next one.
#ifndef HEADRACE_CLIENT_ROWS_H
#define HEADRACE_CLIENT_ROWS_H

#include "common/bytes.h"
#include "common/error.h"
#include "proto/outcome.h"

enum rows_format { ROWS_AUTO, ROWS_JSONL, ROWS_CSV, ROWS_TEXT };

// rows_format_parse reads "auto", "jsonl", "csv" or "text"; -EINVAL with why otherwise.
//   what  names the option in the sentence
MUST_CHECK int rows_format_parse(const char *what, const char *text, enum rows_format *format,
                                 struct error *why);

struct rows_config {
    char *const *files;      // n_files paths; "-" is standard input; at least one
    size_t n_files;
    enum rows_format format; // AUTO: .csv and .tsv by name, .txt and .log are text, else JSON Lines
    const char *column;      // text: the member that holds the line; NULL: text is refused
    size_t max_bytes;        // most bytes of one row
};

struct rows_row {
    const char *file;      // as given by the user; "standard input" for "-"
    uint64_t line;         // where the row begins, from 1
    struct slice json;     // one JSON object without a line break; empty when not OK
    struct slice csv;      // CSV: the record as it stands, without its line end; else empty
    enum outcome outcome;  // OUTCOME_OK, BAD_RECORD or TOO_LONG
    struct error why;      // when not OK: "FILE:LINE: ..."
};

struct rows;

// rows_open opens the first file and reads a CSV header. files must live as long as the rows.
// Returns NULL with why: a file that cannot be opened (each is tried at once), files of different
// formats, a JSON array instead of JSON Lines, a header that is missing, empty or names a column twice.
struct rows *rows_open(const struct rows_config *config, struct error *why);
void rows_close(struct rows *rows); // rows may be NULL

// rows_next reads the next row. Slices in *row are valid until the next call.
// Returns 1; 0 at the end of the last file; -EAGAIN when standard input or a pipe has nothing yet
// (wait until rows_fd is readable); -EIO or -EINVAL with why when a file cannot be read, a pipe holds
// a JSON array, or another file's CSV header differs from the first one's.
MUST_CHECK int rows_next(struct rows *rows, struct rows_row *row, struct error *why);

// rows_fd is the descriptor to wait for after -EAGAIN.
int rows_fd(const struct rows *rows);
// rows_format is the format that AUTO turned out to be.
enum rows_format rows_format(const struct rows *rows);
// rows_delimiter is what stands between the fields of a CSV record: ',' or, for .tsv, a tab.
char rows_delimiter(const struct rows *rows);
// rows_await_header reads a pipe's CSV header, which rows_open leaves to rows_next, and waits for it.
// Nothing is done when it was read. Returns 0, or a negative errno with why.
MUST_CHECK int rows_await_header(struct rows *rows, struct error *why);
// rows_header borrows the CSV columns' names, *n of them; NULL for other formats, and while it was not
// read.
char *const *rows_header(const struct rows *rows, size_t *n);
// rows_progress says how many bytes were read, and how many there are: 0 when not known.
void rows_progress(const struct rows *rows, uint64_t *read_bytes, uint64_t *total_bytes);

// csv_record finds the end of the record that text begins with: a line break outside quotes.
//   end  text is all there is; its end ends the record too
// Returns the record's length without the line break and sets *used to the length with it; -EAGAIN
// when more text is needed; -EINVAL when a quote is opened and never closed.
MUST_CHECK long csv_record(struct slice text, char delimiter, bool end, size_t *used);

// csv_field reads the next field of a record into *field (cleared before), unquoted, and moves *rest
// on. Begin with *rest = record and *more = true; *more turns false after the last field.
// Returns 0, -EINVAL with why when text follows a closing quote, or -EMSGSIZE.
MUST_CHECK int csv_field(struct slice *rest, bool *more, char delimiter, struct buf *field,
                         struct error *why);

// csv_add_field appends a field, quoted when it needs to be. Returns 0 or -EMSGSIZE.
MUST_CHECK int csv_add_field(struct buf *out, char delimiter, struct slice field);

#endif
