// Forms of answers. Invariant: a text never ends its item: it is escaped in elements, quoted in lines with a
// header, and in a list it is one word. So an answer that was cut shows it, but for a list. Called by chat,
// which reads, and by answer, which writes.
#include "tests/provider/form.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// ---- Reading ------------------------------------------------------------------------------------

// after finds what stands behind a mark; false: it is not there.
static bool after(struct slice text, const char *mark, struct slice *rest) {
    const char *at = text.n > 0 ? memmem(text.p, text.n, mark, strlen(mark)) : NULL;
    if (at != NULL) {
        *rest = slice_sub(text, (size_t)(at - text.p) + strlen(mark), text.n);
    }
    return at != NULL;
}

// until cuts a text before a mark, or returns all of it.
static struct slice until(struct slice text, const char *mark) {
    const char *at = text.n > 0 ? memmem(text.p, text.n, mark, strlen(mark)) : NULL;
    return at != NULL ? slice_sub(text, 0, (size_t)(at - text.p)) : text;
}

static bool read_elements(struct chat *chat, struct slice words) {
    struct slice rest;
    if (!after(words, "<item ", &rest)) {
        return false;
    }
    (void)slice_copy(slice_trim(until(rest, "=")), chat->index_field, sizeof(chat->index_field));
    struct slice inside = until(rest, "</item>"), name;
    while (after(inside, "><", &name) || after(inside, ">\n<", &name)) {
        name = until(name, ">");
        chat_add_field(chat, name);
        char end[68];
        size_t n = name.n < 64 ? name.n : 64;
        snprintf(end, sizeof(end), "</%.*s", (int)n, name.p);
        if (!after(inside, end, &inside)) {
            break;
        }
    }
    chat->form = FORM_ELEMENTS;
    return true;
}

static bool read_header(struct chat *chat, struct slice words) {
    struct slice header, told;
    if (!after(words, "under this header:\n", &header)) {
        return false;
    }
    header = until(header, "\n");
    bool has_quotes = after(until(words, "under this header"), "with '", &told);
    struct slice delimiter = has_quotes ? until(told, "'") : SLICE_LIT(",");
    if (slice_is(delimiter, "a tab")) {
        delimiter = SLICE_LIT("\t");
    }
    (void)slice_copy(delimiter, chat->delimiter, sizeof(chat->delimiter));
    (void)slice_copy(until(header, chat->delimiter), chat->index_field, sizeof(chat->index_field));
    while (after(header, chat->delimiter, &header)) {
        chat_add_field(chat, slice_trim(until(header, chat->delimiter)));
    }
    chat->form = FORM_HEADER;
    return chat->delimiter[0] != '\0';
}

static bool read_list(struct chat *chat, struct slice words) {
    struct slice rest;
    if (!after(words, "<number>: <", &rest)) {
        return false;
    }
    chat_add_field(chat, until(rest, ">"));
    chat->form = FORM_LIST;
    return true;
}

bool form_read(struct chat *chat, struct slice words) {
    return read_elements(chat, words) || read_header(chat, words) || read_list(chat, words);
}

// ---- Writing ------------------------------------------------------------------------------------

const char *form_name(const struct chat *chat) {
    static const char *const names[] = {
        [FORM_JSON] = "json", [FORM_ELEMENTS] = "xml", [FORM_HEADER] = "csv", [FORM_LIST] = ""};
    return names[chat->form];
}

int form_begin(const struct chat *chat, struct buf *out) {
    if (chat->form == FORM_ELEMENTS) {
        return buf_add_str(out, "<items>");
    }
    int rc = chat->form == FORM_HEADER ? buf_add_str(out, chat->index_field) : 0;
    for (size_t i = 0; rc == 0 && chat->form == FORM_HEADER && i < chat->n_fields; i++) {
        rc = buf_add_str(out, chat->delimiter);
        rc = rc != 0 ? rc : buf_add_str(out, chat->fields[i].name);
    }
    return rc != 0 || chat->form != FORM_HEADER ? rc : buf_add_byte(out, '\n');
}

int form_end(const struct chat *chat, struct buf *out) {
    return chat->form == FORM_ELEMENTS ? buf_add_str(out, "</items>") : 0;
}

static int add_escaped(struct slice text, struct buf *out) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < text.n; i++) {
        char c = text.p[i];
        rc = c == '<'   ? buf_add_str(out, "&lt;")
             : c == '&' ? buf_add_str(out, "&amp;")
                        : buf_add_byte(out, c);
    }
    return rc;
}

static int add_element(const struct chat *chat, int64_t index, const struct slice *values, struct buf *out) {
    int rc = buf_addf(out, "<item %s=\"%" PRId64 "\">", chat->index_field, index);
    for (size_t i = 0; rc == 0 && values != NULL && i < chat->n_fields; i++) {
        rc = buf_addf(out, "<%s>", chat->fields[i].name);
        rc = rc != 0 ? rc : add_escaped(values[i], out);
        rc = rc != 0 ? rc : buf_addf(out, "</%s>", chat->fields[i].name);
    }
    return rc != 0 ? rc : buf_add_str(out, "</item>");
}

static int add_quoted(struct slice text, struct buf *out) {
    int rc = buf_add_byte(out, '"');
    for (size_t i = 0; rc == 0 && i < text.n; i++) {
        rc = text.p[i] == '"' ? buf_add_byte(out, '"') : 0;
        rc = rc != 0 ? rc : buf_add_byte(out, text.p[i]);
    }
    return rc != 0 ? rc : buf_add_byte(out, '"');
}

static int add_line(const struct chat *chat, int64_t index, const struct slice *values, struct buf *out) {
    int rc = buf_addf(out, "%" PRId64, index);
    for (size_t i = 0; rc == 0 && values != NULL && i < chat->n_fields; i++) {
        rc = buf_add_str(out, chat->delimiter);
        bool is_text = chat->fields[i].type == 's';
        rc = rc != 0 ? rc : is_text ? add_quoted(values[i], out) : buf_add_slice(out, values[i]);
    }
    return rc != 0 ? rc : buf_add_byte(out, '\n');
}

int form_item(const struct chat *chat, int64_t index, const struct slice *values, struct buf *out) {
    if (chat->form == FORM_ELEMENTS) {
        return add_element(chat, index, values, out);
    }
    if (chat->form == FORM_HEADER) {
        return add_line(chat, index, values, out);
    }
    struct slice value = values != NULL ? values[0] : SLICE_NONE;
    return buf_addf(out, "%" PRId64 ": %.*s\n", index, SLICE_FMT(value));
}
