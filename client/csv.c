// CSV as RFC 4180 has it: records may span lines inside quotes, a quote is doubled inside quotes.
// Lenient in one point: a quote in the middle of an unquoted field stands for itself. The scanner for
// a record's end and the reader of fields follow the same rules. Called by rows.c and merge.c.
#include "client/rows.h"

#include <errno.h>
#include <string.h>

// quoted_end returns the offset after the closing quote of the quoted field at `from`, or 0 when it
// is not in text.
static size_t quoted_end(struct slice text, size_t from) {
    size_t i = from + 1;
    while (i < text.n) {
        const char *quote = memchr(text.p + i, '"', text.n - i);
        if (quote == NULL) {
            return 0;
        }
        i = (size_t)(quote - text.p) + 1;
        if (i < text.n && text.p[i] == '"') {
            i++;
            continue;
        }
        return i;
    }
    return 0;
}

long csv_record(struct slice text, char delimiter, bool end, size_t *used) {
    size_t i = 0;
    bool at_field = true;
    while (i < text.n) {
        char c = text.p[i];
        if (at_field && c == '"') {
            size_t after = quoted_end(text, i);
            // A quote that is the last byte so far may turn out to be half of a doubled one.
            if (after == 0 || (after == text.n && !end)) {
                return end ? -EINVAL : -EAGAIN;
            }
            i = after;
            at_field = false;
            continue;
        }
        if (c == '\n') {
            *used = i + 1;
            return (long)(i > 0 && text.p[i - 1] == '\r' ? i - 1 : i);
        }
        at_field = c == delimiter;
        i++;
    }
    if (!end) {
        return -EAGAIN;
    }
    *used = text.n;
    return (long)(text.n > 0 && text.p[text.n - 1] == '\r' ? text.n - 1 : text.n);
}

// add_quoted appends the inside of a quoted field, doubled quotes made single.
static int add_quoted(struct buf *field, struct slice inside) {
    while (inside.n > 0) {
        const char *quote = memchr(inside.p, '"', inside.n);
        size_t n = quote == NULL ? inside.n : (size_t)(quote - inside.p) + 1;
        int status = buf_add(field, inside.p, n);
        if (status < 0) {
            return status;
        }
        n += quote != NULL; // its twin
        inside = slice_sub(inside, n, inside.n);
    }
    return 0;
}

int csv_field(struct slice *rest, bool *more, char delimiter, struct buf *field, struct error *why) {
    buf_clear(field);
    if (rest->n > 0 && rest->p[0] == '"') {
        size_t end = quoted_end(*rest, 0);
        if (end == 0) {
            return error_set(why, -EINVAL, "a quote is opened and never closed");
        }
        if (end < rest->n && rest->p[end] != delimiter) {
            return error_set(why, -EINVAL, "got text after a closing quote, want '%c' or the end",
                             delimiter);
        }
        int status = add_quoted(field, slice_sub(*rest, 1, end - 2));
        if (status < 0) {
            return status;
        }
        *more = end < rest->n;
        *rest = slice_sub(*rest, end + (*more ? 1 : 0), rest->n);
        return 0;
    }
    const char *stop = rest->n > 0 ? memchr(rest->p, delimiter, rest->n) : NULL;
    size_t n = stop == NULL ? rest->n : (size_t)(stop - rest->p);
    *more = stop != NULL;
    int status = n > 0 ? buf_add(field, rest->p, n) : 0;
    *rest = slice_sub(*rest, n + (*more ? 1 : 0), rest->n);
    return status;
}

static bool needs_quotes(struct slice field, char delimiter) {
    for (size_t i = 0; i < field.n; i++) {
        char c = field.p[i];
        if (c == delimiter || c == '"' || c == '\n' || c == '\r') {
            return true;
        }
    }
    return field.n > 0 && (field.p[0] == ' ' || field.p[field.n - 1] == ' ');
}

int csv_add_field(struct buf *out, char delimiter, struct slice field) {
    if (!needs_quotes(field, delimiter)) {
        return field.n > 0 ? buf_add_slice(out, field) : 0;
    }
    size_t before = out->n;
    int status = buf_add_byte(out, '"');
    for (size_t i = 0; status == 0 && i < field.n; i++) {
        if (field.p[i] == '"') {
            status = buf_add_byte(out, '"');
        }
        if (status == 0) {
            status = buf_add_byte(out, field.p[i]);
        }
    }
    if (status == 0) {
        status = buf_add_byte(out, '"');
    }
    if (status < 0) {
        out->n = before;
    }
    return status;
}
