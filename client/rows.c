// Rows out of files: a window over the current file's bytes, from which whole rows are cut.
//
// Invariant: window[from..n) is what was read and not yet handed out; a row's slices point into the
// window or into `made`, and neither changes until the next rows_next. Called by run.c and submit.c.
#include "client/rows.h"

#include "common/json.h"
#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)
#define HEADER_MAX 4096 // columns

struct rows {
    struct rows_config config;
    enum rows_format format;
    char delimiter;
    size_t file;          // index of the current file
    int fd;               // of it; -1: none
    bool is_regular;      // reads never wait
    bool at_end;          // of the current file: no more bytes will come
    bool at_start;        // nothing of the current file was handed out
    bool wants_header;    // CSV: the current file's was not read yet
    bool skipping;        // inside a line that was too long, until its end
    uint64_t line;        // of window.p[from], from 1
    size_t from;          // first byte not handed out
    struct buf window;
    struct buf made;      // JSON made from CSV or text
    struct buf field;     // one CSV field
    char **header;
    size_t n_header;
    uint64_t read_bytes, total_bytes; // over all files; total 0: not known
};

int rows_format_parse(const char *what, const char *text, enum rows_format *format,
                      struct error *why) {
    static const struct {
        const char *name;
        enum rows_format format;
    } names[] = {
        {"auto", ROWS_AUTO},
        {"jsonl", ROWS_JSONL},
        {"csv", ROWS_CSV},
        {"text", ROWS_TEXT},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(text, names[i].name) == 0) {
            *format = names[i].format;
            return 0;
        }
    }
    return error_set(why, -EINVAL, "%s: got '%s', want auto, jsonl, csv or text", what, text);
}

static bool is_stdin(const char *file) {
    return strcmp(file, "-") == 0;
}

static const char *file_name(const struct rows *rows) {
    const char *file = rows->config.files[rows->file];
    return is_stdin(file) ? "standard input" : file;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

static enum rows_format format_by_name(const char *file) {
    if (ends_with(file, ".csv") || ends_with(file, ".tsv")) {
        return ROWS_CSV;
    }
    if (ends_with(file, ".txt") || ends_with(file, ".log")) {
        return ROWS_TEXT;
    }
    return ROWS_JSONL;
}

// check_no_array refuses a file whose first character that counts is '[': its rows would all be bad.
//   text  what the file begins with
static int check_no_array(const char *file, struct slice text, struct error *why) {
    if (slice_starts(text, "\xef\xbb\xbf")) {
        text = slice_sub(text, 3, text.n);
    }
    text = slice_trim(text);
    if (text.n == 0 || text.p[0] != '[') {
        return 0;
    }
    return error_set(why, -EINVAL,
                     "%s: got a JSON array, want JSON Lines: one object a line, e.g. jq -c '.[]' %s",
                     is_stdin(file) ? "standard input" : file, is_stdin(file) ? "" : file);
}

// check_start looks into a file that will be read later.
static int check_start(const char *file, struct error *why) {
    char text[256];
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : 0;
    if (fd >= 0) {
        close(fd);
    }
    return n > 0 ? check_no_array(file, (struct slice){text, (size_t)n}, why) : 0;
}

// check_files says at once what is wrong with the last of many files, and adds up their sizes.
static int check_files(struct rows *rows, struct error *why) {
    const struct rows_config *config = &rows->config;
    bool known = true;
    for (size_t i = 0; i < config->n_files; i++) {
        const char *file = config->files[i];
        enum rows_format format =
            config->format == ROWS_AUTO ? format_by_name(file) : config->format;
        if (i > 0 && format != rows->format) {
            return error_set(why, -EINVAL,
                             "'%s' and '%s' are of different formats: say --format, or run them apart",
                             config->files[0], file);
        }
        rows->format = format;
        struct stat st;
        if (is_stdin(file)) {
            known = known && fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode);
        } else if (access(file, R_OK) != 0 || stat(file, &st) != 0) {
            int code = -errno;
            return error_set(why, code, "cannot read input '%s': %s", file, strerror(-code));
        } else if (S_ISDIR(st.st_mode)) {
            return error_set(why, -EISDIR, "cannot read input '%s': it is a folder", file);
        } else {
            known = known && S_ISREG(st.st_mode);
        }
        bool is_file = !is_stdin(file) && S_ISREG(st.st_mode);
        if (is_file && format == ROWS_JSONL && check_start(file, why) < 0) {
            return -EINVAL;
        }
        rows->total_bytes += known ? (uint64_t)st.st_size : 0;
    }
    rows->total_bytes = known ? rows->total_bytes : 0;
    return 0;
}

static int open_file(struct rows *rows, struct error *why) {
    const char *file = rows->config.files[rows->file];
    rows->fd = is_stdin(file) ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (rows->fd < 0) {
        int code = -errno;
        return error_set(why, code, "cannot read input '%s': %s", file, strerror(-code));
    }
    struct stat st;
    rows->is_regular = fstat(rows->fd, &st) == 0 && S_ISREG(st.st_mode);
    rows->at_end = false;
    rows->at_start = true;
    rows->wants_header = rows->format == ROWS_CSV;
    rows->skipping = false;
    rows->line = 1;
    rows->from = 0;
    buf_clear(&rows->window);
    return 0;
}

static void close_file(struct rows *rows) {
    if (rows->fd > STDIN_FILENO) {
        close(rows->fd);
    }
    rows->fd = -1;
}

// fill reads once. Returns 0, -EAGAIN when there is nothing yet, or -EIO with why.
static int fill(struct rows *rows, struct error *why) {
    if (!rows->is_regular) {
        struct pollfd p = {.fd = rows->fd, .events = POLLIN};
        if (poll(&p, 1, 0) == 0) {
            return -EAGAIN;
        }
    }
    if (rows->from > 0) {
        memmove(rows->window.p, rows->window.p + rows->from, rows->window.n - rows->from);
        rows->window.n -= rows->from;
        rows->from = 0;
    }
    int status = buf_reserve(&rows->window, READ_BYTES);
    assert(status == 0); // callers cut or skip a row before it gets near the ceiling
    ssize_t n = read(rows->fd, rows->window.p + rows->window.n, READ_BYTES);
    if (n < 0) {
        int code = errno;
        return code == EAGAIN || code == EINTR
                   ? -EAGAIN
                   : error_set(why, -EIO, "cannot read '%s': %s", file_name(rows), strerror(code));
    }
    rows->at_end = n == 0;
    rows->window.n += (size_t)n;
    rows->read_bytes += (uint64_t)n;
    return 0;
}

static struct slice rest_of(const struct rows *rows) {
    struct slice all = buf_slice(&rows->window);
    return slice_sub(all, rows->from, all.n);
}

static uint64_t count_lines(struct slice text) {
    uint64_t n = 0;
    const char *at;
    while (text.n > 0 && (at = memchr(text.p, '\n', text.n)) != NULL) {
        n++;
        text = slice_sub(text, (size_t)(at - text.p) + 1, text.n);
    }
    return n;
}

// advance hands out `used` bytes: the next row begins after them.
static void advance(struct rows *rows, size_t used) {
    rows->line += count_lines(slice_sub(rest_of(rows), 0, used));
    rows->from += used;
    rows->at_start = false;
}

__attribute__((format(printf, 4, 5))) static void spoil(struct rows_row *row, enum outcome outcome,
                                                        const struct error *cause,
                                                        const char *format, ...) {
    char text[ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    row->outcome = outcome;
    row->json = SLICE_NONE;
    error_set(&row->why, 0, "%s:%llu: %s%s", row->file, (unsigned long long)row->line, text,
              cause != NULL ? cause->text : "");
}

// next_record cuts one record without its line end. Returns 1 with *record, 0 at the end of the file,
// or a negative errno; a record that cannot be cut spoils the row and returns 1.
static int next_record(struct rows *rows, struct rows_row *row, struct slice *record,
                       struct error *why) {
    for (;;) {
        struct slice rest = rest_of(rows);
        if (rows->skipping) {
            const char *end = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;
            rows->skipping = end == NULL && !rows->at_end;
            advance(rows, end != NULL ? (size_t)(end - rest.p) + 1 : rest.n);
            rest = rest_of(rows);
        }
        if (rows->at_start && rest.n >= 3 && memcmp(rest.p, "\xef\xbb\xbf", 3) == 0) {
            advance(rows, 3);
            rest = rest_of(rows);
        }
        if (rows->at_start && rows->format == ROWS_JSONL &&
            check_no_array(rows->config.files[rows->file], rest, why) < 0) {
            return -EINVAL;
        }
        bool is_short_start = rows->at_start && rest.n < 3;
        if (rest.n == 0 && rows->at_end) {
            return 0;
        }
        size_t used = 0;
        long n = -EAGAIN;
        if (!rows->skipping && (!is_short_start || rows->at_end)) {
            if (rows->format == ROWS_CSV) {
                n = csv_record(rest, rows->delimiter, rows->at_end, &used);
            } else {
                const char *end = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;
                if (end != NULL || rows->at_end) {
                    n = end != NULL ? end - rest.p : (long)rest.n;
                    used = (size_t)n + (end != NULL);
                }
            }
        }
        row->line = rows->line;
        if (n > (long)rows->config.max_bytes ||
            (n == -EAGAIN && rest.n > rows->config.max_bytes)) {
            spoil(row, OUTCOME_TOO_LONG, NULL, "the row is longer than %zu bytes",
                  rows->config.max_bytes);
            rows->skipping = n < 0; // resumes at the next line, even of a quote never closed
            advance(rows, n < 0 ? 0 : used);
            return 1;
        }
        if (n == -EINVAL) {
            spoil(row, OUTCOME_BAD_RECORD, NULL, "a quote is opened and never closed");
            rows->skipping = true;
            return 1;
        }
        if (n >= 0) {
            *record = slice_sub(rest, 0, (size_t)n);
            advance(rows, used);
            if (slice_trim(*record).n > 0) {
                return 1;
            }
            continue;
        }
        int status = fill(rows, why);
        if (status < 0) {
            return status;
        }
    }
}

static void read_jsonl(struct rows_row *row, struct slice line) {
    struct json_object *value = NULL;
    struct error why = {0};
    line = slice_trim(line);
    if (json_parse(line, &value, &why) < 0) {
        spoil(row, OUTCOME_BAD_RECORD, &why, "not JSON: ");
        return;
    }
    if (!json_object_is_type(value, json_type_object)) {
        spoil(row, OUTCOME_BAD_RECORD, NULL, "got %s %s, want a JSON object",
              json_object_is_type(value, json_type_array) ? "an" : "a",
              json_type_to_name(json_object_get_type(value)));
    } else {
        row->json = line;
    }
    json_object_put(value);
}

static bool check_utf8(struct rows_row *row, struct slice text) {
    long at = slice_utf8_error(text);
    if (at >= 0) {
        spoil(row, OUTCOME_BAD_RECORD, NULL, "byte %ld of the row is not UTF-8", at + 1);
    }
    return at < 0;
}

static void read_text(struct rows *rows, struct rows_row *row, struct slice line) {
    if (line.n > 0 && line.p[line.n - 1] == '\r') {
        line.n--;
    }
    if (!check_utf8(row, line)) {
        return;
    }
    buf_clear(&rows->made);
    int status = buf_add_byte(&rows->made, '{');
    status = status ? status : json_add_string(&rows->made, slice_of(rows->config.column));
    status = status ? status : buf_add_str(&rows->made, ": ");
    status = status ? status : json_add_string(&rows->made, line);
    status = status ? status : buf_add_byte(&rows->made, '}');
    if (status < 0) {
        spoil(row, OUTCOME_TOO_LONG, NULL, "the row is too long once it is written as JSON");
        return;
    }
    row->json = buf_slice(&rows->made);
}

// add_member appends `"name": "field"` to the object being made.
static int add_member(struct rows *rows, size_t i) {
    int status = i > 0 ? buf_add_str(&rows->made, ", ") : 0;
    status = status ? status : json_add_string(&rows->made, slice_of(rows->header[i]));
    status = status ? status : buf_add_str(&rows->made, ": ");
    return status ? status : json_add_string(&rows->made, buf_slice(&rows->field));
}

static void read_csv(struct rows *rows, struct rows_row *row, struct slice record) {
    row->csv = record;
    if (!check_utf8(row, record)) {
        return;
    }
    buf_clear(&rows->made);
    struct error why = {0};
    bool more = true;
    size_t n = 0;
    int status = buf_add_byte(&rows->made, '{');
    for (struct slice rest = record; status == 0 && more; n++) {
        status = csv_field(&rest, &more, rows->delimiter, &rows->field, &why);
        if (status == 0 && n < rows->n_header) {
            status = add_member(rows, n);
        }
    }
    if (status == -EINVAL) {
        spoil(row, OUTCOME_BAD_RECORD, &why, "field %zu: ", n);
    } else if (status < 0 || buf_add_byte(&rows->made, '}') < 0) {
        spoil(row, OUTCOME_TOO_LONG, NULL, "the row is too long once it is written as JSON");
    } else if (n != rows->n_header) {
        spoil(row, OUTCOME_BAD_RECORD, NULL, "got %zu field%s, want %zu as the header has", n,
              n == 1 ? "" : "s", rows->n_header);
    } else {
        row->json = buf_slice(&rows->made);
    }
}

static void free_names(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(names[i]);
    }
    free(names);
}

// split_header reads the names of a header's columns. Returns 0 or -EINVAL with why.
static int split_header(struct rows *rows, struct slice record, char ***names, size_t *n,
                        struct error *why) {
    char **list = NULL;
    size_t count = 0;
    bool more = true;
    int status = 0;
    while (status == 0 && more) {
        status = csv_field(&record, &more, rows->delimiter, &rows->field, why);
        if (status == 0) {
            list = mem_realloc(list, (count + 1) * sizeof(*list));
            list[count++] = slice_dup(slice_trim(buf_slice(&rows->field)));
            status = *list[count - 1] == '\0'
                         ? error_set(why, -EINVAL, "column %zu has no name", count)
                         : 0;
        }
        for (size_t i = 0; status == 0 && i + 1 < count; i++) {
            if (strcmp(list[i], list[count - 1]) == 0) {
                status = error_set(why, -EINVAL, "column '%s' is there twice", list[i]);
            }
        }
        if (status == 0 && count > HEADER_MAX) {
            status = error_set(why, -EINVAL, "more than %d columns", HEADER_MAX);
        }
    }
    if (status < 0) {
        free_names(list, count);
        return status;
    }
    *names = list;
    *n = count;
    return 0;
}

static bool same_names(char **a, size_t n_a, char **b, size_t n_b) {
    for (size_t i = 0; n_a == n_b && i < n_a; i++) {
        if (strcmp(a[i], b[i]) != 0) {
            return false;
        }
    }
    return n_a == n_b;
}

// read_header reads the header of the current file: the first one is kept, others must equal it.
// Returns 1, 0 for a file without a line, -EAGAIN, or a negative errno with why.
static int read_header(struct rows *rows, struct error *why) {
    struct rows_row row = {.file = file_name(rows)};
    struct slice record = SLICE_NONE;
    int status = next_record(rows, &row, &record, why);
    if (status <= 0) {
        return status;
    }
    if (row.outcome != OUTCOME_OK) {
        return error_set(why, -EINVAL, "%s", row.why.text);
    }
    char **names = NULL;
    size_t n = 0;
    if (slice_utf8_error(record) >= 0) {
        status = error_set(why, -EINVAL, "not UTF-8");
    } else {
        status = split_header(rows, record, &names, &n, why);
    }
    if (status < 0) {
        error_prefix(why, "%s:%llu: CSV header: ", row.file, (unsigned long long)row.line);
        return -EINVAL;
    }
    rows->wants_header = false;
    if (rows->header == NULL) {
        rows->header = names;
        rows->n_header = n;
        return 1;
    }
    bool is_same = same_names(rows->header, rows->n_header, names, n);
    free_names(names, n);
    return is_same ? 1
                   : error_set(why, -EINVAL, "%s:%llu: CSV header: its columns differ from those of '%s'",
                               row.file, (unsigned long long)row.line, rows->config.files[0]);
}

int rows_await_header(struct rows *rows, struct error *why) {
    int status = rows->wants_header && rows->file == 0 ? read_header(rows, why) : 1;
    while (status == -EAGAIN) {
        struct pollfd p = {.fd = rows->fd, .events = POLLIN};
        poll(&p, 1, -1);
        status = read_header(rows, why);
    }
    if (status == 0) {
        status = error_set(why, -EINVAL, "%s: got an empty file, want a CSV header", file_name(rows));
    }
    return status < 0 ? status : 0;
}

struct rows *rows_open(const struct rows_config *config, struct error *why) {
    struct rows *rows = mem_zalloc(sizeof(*rows));
    rows->config = *config;
    rows->fd = -1;
    buf_init(&rows->window, 2 * config->max_bytes + 4 * READ_BYTES);
    buf_init(&rows->made, 6 * config->max_bytes + READ_BYTES);
    buf_init(&rows->field, config->max_bytes + READ_BYTES);
    if (check_files(rows, why) < 0) {
        goto fail;
    }
    rows->delimiter = ends_with(config->files[0], ".tsv") ? '\t' : ',';
    if (rows->format == ROWS_TEXT && config->column == NULL) {
        error_set(why, -EINVAL, "lines of text need a model with one INPUT column");
        goto fail;
    }
    if (open_file(rows, why) < 0) {
        goto fail;
    }
    if (rows->format == ROWS_CSV && rows->is_regular && rows_await_header(rows, why) < 0) {
        goto fail;
    }
    return rows;
fail:
    rows_close(rows);
    return NULL;
}

void rows_close(struct rows *rows) {
    if (rows == NULL) {
        return;
    }
    close_file(rows);
    buf_free(&rows->window);
    buf_free(&rows->made);
    buf_free(&rows->field);
    free_names(rows->header, rows->n_header);
    free(rows);
}

static void read_row(struct rows *rows, struct rows_row *row, struct slice record) {
    switch (rows->format) {
    case ROWS_CSV:
        read_csv(rows, row, record);
        break;
    case ROWS_TEXT:
        read_text(rows, row, record);
        break;
    default:
        read_jsonl(row, record);
        break;
    }
}

int rows_next(struct rows *rows, struct rows_row *row, struct error *why) {
    while (rows->file < rows->config.n_files) {
        if (rows->fd < 0) {
            int status = open_file(rows, why);
            if (status < 0) {
                return status;
            }
        }
        int status = 1;
        if (rows->wants_header) {
            status = read_header(rows, why); // of another file, or of a pipe
        }
        *row = (struct rows_row){.file = file_name(rows), .outcome = OUTCOME_OK};
        struct slice record = SLICE_NONE;
        if (status > 0) {
            status = next_record(rows, row, &record, why);
        }
        if (status < 0) {
            return status;
        }
        if (status > 0) {
            if (row->outcome == OUTCOME_OK) {
                read_row(rows, row, record);
            }
            return 1;
        }
        close_file(rows);
        rows->file++;
    }
    return 0;
}

int rows_fd(const struct rows *rows) {
    return rows->fd;
}

enum rows_format rows_format(const struct rows *rows) {
    return rows->format;
}

char rows_delimiter(const struct rows *rows) {
    return rows->delimiter;
}

char *const *rows_header(const struct rows *rows, size_t *n) {
    *n = rows->n_header;
    return rows->header;
}

void rows_progress(const struct rows *rows, uint64_t *read_bytes, uint64_t *total_bytes) {
    *read_bytes = rows->read_bytes;
    *total_bytes = rows->total_bytes;
}
