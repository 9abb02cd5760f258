// An answer of lines with fields between delimiters (RFC 4180 with any delimiter and quote). Fields go
// by the names in a header line, or by their numbers from 1 when the model names them by number.
// Invariant: a line is an item only if it has as many fields as the first one; what is ragged, or
// ends inside a quote, is left out and asked again. Called by parse.c.
#include "worker/parse_items.h"

#include "worker/prompt.h"

#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 256 // of one line

// Where the reader stands.
struct lines {
    struct slice rest;
    struct slice delimiter;
    char quote;          // NUL: none
    struct slice text;   // of the line just read, as it was
    struct slice fields[FIELDS_MAX];
    size_t n;            // fields of the line; 0: it was empty
    bool is_broken;      // it ended inside of a quote, or had more than FIELDS_MAX fields
    bool is_ended;       // by a line break
    struct buf *unquoted; // fields that had doubled quotes in them
};

// Where each value is.
struct layout {
    size_t n;                           // fields of a line; 0: not known yet
    size_t index;                       // of the number, from 0; SIZE_MAX: none
    size_t values[MODEL_COLUMNS_MAX];   // of each OUTPUT column
};

static bool at_delimiter(struct slice s, struct slice delimiter) {
    return s.n >= delimiter.n && memcmp(s.p, delimiter.p, delimiter.n) == 0;
}

static bool at_line_end(struct slice s) {
    return s.n == 0 || s.p[0] == '\n' || (s.p[0] == '\r' && (s.n == 1 || s.p[1] == '\n'));
}

// skip moves on by n bytes, which are there; at the end it stands behind the last one.
static void skip(struct lines *l, size_t n) {
    l->rest.p += n;
    l->rest.n -= n;
}

// read_quoted reads a field at its opening quote. False: it has no end.
static bool read_quoted(struct lines *l, struct slice *field) {
    size_t from = l->unquoted->n;
    skip(l, 1);
    for (;;) {
        const char *end = l->rest.n > 0 ? memchr(l->rest.p, l->quote, l->rest.n) : NULL;
        size_t n = end != NULL ? (size_t)(end - l->rest.p) : l->rest.n;
        if (end == NULL || buf_add(l->unquoted, l->rest.p, n) != 0) {
            skip(l, l->rest.n); // what follows may be inside of the quotes
            return false;
        }
        skip(l, n + 1);
        if (l->rest.n == 0 || l->rest.p[0] != l->quote) {
            break;
        }
        if (buf_add_byte(l->unquoted, l->quote) != 0) {
            skip(l, l->rest.n);
            return false;
        }
        skip(l, 1);
    }
    *field = (struct slice){.p = l->unquoted->p + from, .n = l->unquoted->n - from};
    return true;
}

// skip_blanks moves over spaces, but not over a delimiter that begins with one.
static void skip_blanks(struct lines *l) {
    while (l->rest.n > 0 && (l->rest.p[0] == ' ' || l->rest.p[0] == '\t') &&
           !at_delimiter(l->rest, l->delimiter)) {
        skip(l, 1);
    }
}

// read_plain reads up to the next delimiter or line end.
static struct slice read_plain(struct lines *l) {
    const char *from = l->rest.p;
    while (!at_line_end(l->rest) && !at_delimiter(l->rest, l->delimiter)) {
        skip(l, 1);
    }
    return slice_trim((struct slice){.p = from, .n = (size_t)(l->rest.p - from)});
}

static void read_field(struct lines *l) {
    struct slice field = SLICE_NONE;
    skip_blanks(l);
    if (l->quote != '\0' && l->rest.n > 0 && l->rest.p[0] == l->quote) {
        l->is_broken |= !read_quoted(l, &field);
        l->is_broken |= read_plain(l).n > 0; // text behind the quote
    } else {
        field = read_plain(l);
    }
    if (l->n == FIELDS_MAX) {
        l->is_broken = true;
        return;
    }
    l->fields[l->n++] = field;
}

// next_line reads one line. False: there is none. The buffer of unquoted fields has room for the
// whole answer from the start, so that its bytes do not move.
static bool next_line(struct lines *l) {
    if (l->rest.n == 0) {
        return false;
    }
    l->n = 0;
    l->is_broken = false;
    buf_clear(l->unquoted);
    const char *from = l->rest.p;
    do {
        if (l->n > 0) {
            skip(l, l->delimiter.n);
        }
        read_field(l);
    } while (at_delimiter(l->rest, l->delimiter));
    l->text = slice_trim((struct slice){.p = from, .n = (size_t)(l->rest.p - from)});
    l->is_ended = l->rest.n > 0;
    skip(l, l->rest.n > 1 && l->rest.p[0] == '\r' ? 2 : l->rest.n > 0 ? 1 : 0);
    return true;
}

// field_number reads a field's name as a number from 1, or returns 0.
static size_t field_number(const char *name) {
    size_t n = strspn(name, "0123456789");
    return n > 0 && n <= 3 && name[n] == '\0' ? (size_t)atoi(name) : 0;
}

static size_t find_field(const struct lines *l, const char *name) {
    for (size_t i = 0; i < l->n; i++) {
        if (slice_is_nocase(slice_trim(l->fields[i]), name)) {
            return i;
        }
    }
    return SIZE_MAX;
}

// layout_by_number: the names are numbers. Several OUTPUT columns stand in their order in the fields
// that the index leaves. True: so it is.
static bool layout_by_number(const struct question *q, struct layout *layout) {
    size_t index = field_number(q->model->options.response_index_field);
    size_t value = field_number(q->model->options.response_value_field);
    layout->index = q->batched && index > 0 ? index - 1 : SIZE_MAX;
    if (q->model->n_output == 1) {
        layout->values[0] = value - 1;
        return value > 0 && (index > 0 || !q->batched);
    }
    for (size_t i = 0, at = 0; i < q->model->n_output; i++, at++) {
        at += at == layout->index;
        layout->values[i] = at;
    }
    return index > 0;
}

// layout_by_header takes a line for the header if it names every field.
static bool layout_by_header(const struct question *q, const struct lines *l, struct layout *layout) {
    layout->index = find_field(l, q->model->options.response_index_field);
    if (q->batched && layout->index == SIZE_MAX) {
        return false;
    }
    for (size_t i = 0; i < q->model->n_output; i++) {
        layout->values[i] = find_field(l, prompt_value_field(q->model, i));
        if (layout->values[i] == SIZE_MAX) {
            return false;
        }
    }
    layout->n = l->n;
    return true;
}

// is_number_line asks whether a line has a number where the index should be.
static bool is_number_line(const struct lines *l, const struct layout *layout) {
    if (layout->index == SIZE_MAX) {
        return true;
    }
    struct slice s = layout->index < l->n ? slice_trim(l->fields[layout->index]) : SLICE_NONE;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return i > 0 || s.p[0] != '-' ? false : s.n > 1;
        }
    }
    return s.n > 0;
}

static void add_line(struct parser *p, const struct question *q, const struct lines *l,
                     const struct layout *layout) {
    struct json_object *item = json_object_new_object();
    if (layout->index < l->n) {
        (void)parse_item_set(q, item, q->model->options.response_index_field, l->fields[layout->index]);
    }
    for (size_t i = 0; i < q->model->n_output; i++) {
        if (layout->values[i] < l->n) {
            (void)parse_item_set(q, item, prompt_value_field(q->model, i), l->fields[layout->values[i]]);
        }
    }
    if (parse_own(p, item)) {
        parse_item_add(p, q, item);
    }
}

// take_line decides what a line is: an item, the header again, ragged, or prose.
static void take_line(struct parser *p, const struct question *q, const struct lines *l,
                      struct layout *layout, struct parsed *out) {
    struct layout again;
    if (layout_by_header(q, l, &again)) {
        return; // once more
    }
    if (!is_number_line(l, layout)) {
        parse_warn(out, "prose");
        return;
    }
    size_t n = layout->n > 0 ? layout->n : l->n;
    if (l->n != n) {
        parse_warn(out, "ragged-line");
        return;
    }
    layout->n = n;
    add_line(p, q, l, layout);
}

void parse_delimited(struct parser *p, const struct question *q, struct slice text,
                     struct parsed *out) {
    const struct model_options *o = &q->model->options;
    bool tab = strcmp(o->response_delimiter, "\\t") == 0;
    struct lines l = {.rest = text,
                      .delimiter = slice_of(tab ? "\t" : o->response_delimiter),
                      .quote = o->response_quote[0],
                      .unquoted = &p->scratch};
    struct layout layout = {0};
    bool known = layout_by_number(q, &layout);
    buf_clear(&p->scratch);
    if (buf_reserve(&p->scratch, text.n + 1) != 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "the answer is too long");
        return;
    }
    while (!p->overflow && next_line(&l)) {
        if (slice_starts(l.text, "```")) {
            parse_warn(out, "code-fence");
        } else if (l.is_broken || (q->cut && !l.is_ended)) {
            parse_warn(out, "broken-line");
        } else if (l.text.n > 0 && !known) {
            known = layout_by_header(q, &l, &layout);
            if (!known) {
                parse_warn(out, "prose");
            }
        } else if (l.text.n > 0) {
            take_line(p, q, &l, &layout, out);
        }
    }
    if (p->n_items == 0) {
        parse_fail(out, OUTCOME_UNREADABLE,
                   known ? "the answer has no line with fields"
                         : "the answer has no header line that names the fields");
    }
}
