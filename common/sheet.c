// Sheets of cells. Called by prices.c and limits_file.c.
#include "common/sheet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct reading {
    const struct sheet_kind *kind;
    const struct sheet_handlers *on;
    struct sheet sheet;
    size_t order[SHEET_COLUMNS_MAX]; // column of each cell
    size_t n_order;                  // 0: the line of names is still to come
};

int sheet_refuse(const struct sheet *sheet, const char *name, struct slice got, const char *want) {
    char shown[SHEET_CELL_SHOWN];
    const char *dots = slice_copy(got, shown, sizeof(shown)) ? "" : "...";
    return error_set(sheet->why, -EINVAL, "%s:%zu: %s: got '%s%s', want %s", sheet->file, sheet->line, name,
                     shown, dots, want);
}

// next_cell cuts a cell off the line; false: there was none left.
static bool next_cell(struct slice *line, bool *more, struct slice *cell) {
    if (!*more) {
        return false;
    }
    const char *comma = line->n > 0 ? memchr(line->p, ',', line->n) : NULL;
    size_t n = comma != NULL ? (size_t)(comma - line->p) : line->n;
    *cell = slice_trim(slice_sub(*line, 0, n));
    *more = comma != NULL;
    *line = slice_sub(*line, n + 1, line->n);
    return true;
}

static int refuse_name(const struct reading *r, struct slice cell) {
    char want[512] = "each once, of ";
    for (size_t i = 0; i < r->kind->n_columns; i++) {
        size_t n = strlen(want);
        snprintf(want + n, sizeof(want) - n, "%s%s", i > 0 ? ", " : "", r->kind->columns[i]);
    }
    return sheet_refuse(&r->sheet, "the line of column names", cell, want);
}

static int read_names(struct reading *r, struct slice line) {
    struct slice cell;
    bool has[SHEET_COLUMNS_MAX] = {0};
    for (bool more = true; next_cell(&line, &more, &cell);) {
        size_t i = 0;
        while (i < r->kind->n_columns && !slice_is_nocase(cell, r->kind->columns[i])) {
            i++;
        }
        if (i == r->kind->n_columns || has[i]) {
            return refuse_name(r, cell);
        }
        has[i] = true;
        r->order[r->n_order++] = i;
    }
    for (size_t i = 0; i < r->kind->n_needed; i++) {
        if (!has[i]) {
            return error_set(r->sheet.why, -EINVAL, "%s:%zu: got no column '%s', want %s", r->sheet.file,
                             r->sheet.line, r->kind->columns[i], r->kind->needed);
        }
    }
    return 0;
}

static int read_row(struct reading *r, struct slice line) {
    const struct sheet_handlers *on = r->on;
    struct slice cell = SLICE_NONE;
    size_t n = 0;
    int rc = 0;
    on->begin(on->arg, &r->sheet);
    for (bool more = true; rc == 0 && next_cell(&line, &more, &cell); n++) {
        rc = n < r->n_order ? on->cell(on->arg, &r->sheet, r->order[n], cell) : 0;
    }
    if (rc == 0 && n != r->n_order) {
        rc = error_set(r->sheet.why, -EINVAL, "%s:%zu: got %zu cells, want %zu, as in the line of names",
                       r->sheet.file, r->sheet.line, n, r->n_order);
    }
    rc = rc != 0 ? rc : on->end(on->arg, &r->sheet);
    if (rc != 0) {
        on->drop(on->arg);
    }
    return rc;
}

int sheet_parse(const struct sheet_kind *kind, struct slice text, const char *file,
                const struct sheet_handlers *on, struct error *why) {
    struct reading r = {.kind = kind, .on = on, .sheet = {.file = file, .why = why}};
    int rc = 0;
    if (slice_starts(text, "\xEF\xBB\xBF")) {
        text = slice_sub(text, 3, text.n);
    }
    while (rc == 0 && text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        struct slice line = slice_trim(slice_sub(text, 0, n));
        text = slice_sub(text, n + 1, text.n);
        r.sheet.line++;
        if (line.n > 0 && line.p[0] != '#') {
            rc = r.n_order == 0 ? read_names(&r, line) : read_row(&r, line);
        }
    }
    if (rc == 0 && r.n_order == 0) {
        rc = error_set(why, -EINVAL, "%s: got no line, want one of column names and one for each %s", file,
                       kind->rows);
    }
    return rc;
}

int sheet_load(const struct sheet_kind *kind, const char *file, const struct sheet_handlers *on,
               struct error *why) {
    FILE *f = fopen(file, "rb");
    if (f == NULL) {
        return error_set(why, -errno, "cannot read '%s': %s", file, strerror(errno));
    }
    struct buf text;
    buf_init(&text, kind->most_bytes);
    char chunk[4096];
    int rc = 0;
    for (size_t n; rc == 0 && (n = fread(chunk, 1, sizeof(chunk), f)) > 0;) {
        rc = buf_add(&text, chunk, n);
    }
    if (rc != 0) {
        error_set(why, rc, "'%s' is longer than %zu bytes", file, kind->most_bytes);
    } else if (ferror(f)) {
        rc = error_set(why, -EIO, "cannot read '%s': it is no file", file);
    }
    fclose(f);
    rc = rc != 0 ? rc : sheet_parse(kind, buf_slice(&text), file, on, why);
    buf_free(&text);
    return rc;
}
