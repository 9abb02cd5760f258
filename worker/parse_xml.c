// An answer in XML: items are the elements that an XPath finds; a field is a child element or an
// attribute of its name. Invariant: an element that the answer left open is never an item, so that no
// value is cut. Called by parse.c.
#include "worker/parse_items.h"

#include "common/xpath.h"
#include "worker/prompt.h"

#include <errno.h>
#include <string.h>

#define OPEN_MAX 64   // elements in one another that a cut answer may leave open
#define PIECES_MAX 256 // of an answer whose tags do not match; one in more pieces is not read

struct finding {
    struct parser *parser;
    const struct question *question;
    xmlNodePtr open[OPEN_MAX]; // elements that the text did not close
    size_t n_open;
};

// ---- Fields -------------------------------------------------------------------------------------

static struct slice text_of(const xmlChar *text) {
    return slice_of((const char *)text);
}

static xmlNodePtr child_of(xmlNodePtr element, const char *name) {
    xmlNodePtr child = element->children;
    while (child != NULL && !(child->type == XML_ELEMENT_NODE && text_of(child->name).n > 0 &&
                              strcmp((const char *)child->name, name) == 0)) {
        child = child->next;
    }
    return child;
}

static bool has_children(xmlNodePtr element) {
    for (xmlNodePtr child = element->children; child != NULL; child = child->next) {
        if (child->type == XML_ELEMENT_NODE) {
            return true;
        }
    }
    return false;
}

// type_of_child is the type of a part of a made type, NULL when it has no such part.
static const struct type *type_of_child(const struct type *type, const char *name) {
    for (size_t i = 0; i < type->n_fields; i++) {
        if (strcmp(type->fields[i].name, name) == 0) {
            return type->fields[i].type;
        }
    }
    return type->inner;
}

// json_of makes an element's content what its type wants: its elements as an array or as the members of
// an object, or its text. An empty text is null for all but STRING.
static struct json_object *json_of(const struct type *type, xmlNodePtr element) {
    bool made = type->kind == TYPE_ARRAY || type->kind == TYPE_MAP || type->kind == TYPE_ROW;
    if (!made || !has_children(element)) {
        xmlChar *content = xmlNodeGetContent(element);
        struct slice s = slice_trim(text_of(content));
        struct json_object *value = NULL;
        if (s.n > 0 || type->kind == TYPE_STRING) {
            value = json_object_new_string_len(s.n > 0 ? s.p : "", (int)s.n);
        }
        xmlFree(content);
        return value;
    }
    bool array = type->kind == TYPE_ARRAY;
    struct json_object *value = array ? json_object_new_array() : json_object_new_object();
    for (xmlNodePtr child = element->children; child != NULL; child = child->next) {
        const char *name = (const char *)child->name;
        const struct type *inner =
            child->type == XML_ELEMENT_NODE ? type_of_child(type, name) : NULL;
        if (inner == NULL) {
            continue;
        }
        struct json_object *part = json_of(inner, child);
        if (array) {
            json_object_array_add(value, part);
        } else {
            json_object_object_add(value, name, part);
        }
    }
    return value;
}

// set_field finds a field: an attribute, then a child element.
static void set_field(const struct question *q, struct json_object *item, xmlNodePtr element,
                      const char *name, const struct type *type) {
    xmlChar *attribute = xmlGetNoNsProp(element, (const xmlChar *)name);
    xmlNodePtr child = child_of(element, name);
    if (attribute != NULL) {
        (void)parse_item_set(q, item, name, slice_trim(text_of(attribute)));
        xmlFree(attribute);
    } else if (child != NULL && !json_object_object_get_ex(item, name, NULL)) {
        json_object_object_add(item, name, json_of(type, child));
    }
}

// set_content takes the text of an element without elements in it for the only column's value. An empty one
// says nothing: the value was left out.
static void set_content(const struct question *q, struct json_object *item, xmlNodePtr element) {
    const char *name = prompt_value_field(q->model, 0);
    if (q->model->n_output == 1 && !json_object_object_get_ex(item, name, NULL) &&
        !has_children(element)) {
        xmlChar *content = xmlNodeGetContent(element);
        struct slice text = slice_trim(text_of(content));
        if (text.n > 0) {
            (void)parse_item_set(q, item, name, text);
        }
        xmlFree(content);
    }
}

static int on_element(void *arg, xmlNodePtr element) {
    struct finding *f = arg;
    const struct question *q = f->question;
    for (size_t i = 0; i < f->n_open; i++) {
        if (f->open[i] == element) {
            return 0;
        }
    }
    struct json_object *item = json_object_new_object();
    struct type plain = {.kind = TYPE_STRING};
    set_field(q, item, element, q->model->options.response_index_field, &plain);
    for (size_t i = 0; i < q->model->n_output; i++) {
        const struct type *type = column_full(&q->model->output[i], &plain);
        set_field(q, item, element, prompt_value_field(q->model, i), type);
    }
    set_content(q, item, element);
    if (parse_own(f->parser, item)) {
        parse_item_add(f->parser, q, item);
    }
    return f->parser->overflow ? 1 : 0;
}

// ---- Repair -------------------------------------------------------------------------------------

static bool is_name_first(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

// tag_name returns the name in a tag at s ("<name" or "</name").
static struct slice tag_name(struct slice s) {
    size_t from = s.n > 1 && s.p[1] == '/' ? 2 : 1, n = from;
    while (n < s.n && strchr(" \t\r\n/>", s.p[n]) == NULL) {
        n++;
    }
    return slice_sub(s, from, n - from);
}

static size_t index_of(struct slice s, const char *what) {
    const char *found = s.n > 0 ? memmem(s.p, s.n, what, strlen(what)) : NULL;
    return found != NULL ? (size_t)(found - s.p) + strlen(what) : s.n + 1;
}

// tag_end returns how long the tag, comment or CDATA at s is; past s.n: it has no end.
static size_t tag_end(struct slice s) {
    if (slice_starts(s, "<!--")) {
        return index_of(s, "-->");
    }
    if (slice_starts(s, "<![CDATA[")) {
        return index_of(s, "]]>");
    }
    if (slice_starts(s, "<?")) {
        return index_of(s, "?>");
    }
    char quote = '\0';
    for (size_t i = 1; i < s.n && s.p[i] != '<'; i++) { // nor may it stand in a value
        if (quote != '\0') {
            quote = s.p[i] == quote ? '\0' : quote;
        } else if (s.p[i] == '"' || s.p[i] == '\'') {
            quote = s.p[i];
        } else if (s.p[i] == '>') {
            return i + 1;
        }
    }
    return s.n + 1;
}

// is_reference: an entity of XML or a character's number begins at s, which begins with '&'.
static bool is_reference(struct slice s) {
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_starts(s, known[i])) {
            return true;
        }
    }
    size_t i = slice_starts(s, "&#x") ? 3 : slice_starts(s, "&#") ? 2 : s.n, from = i;
    const char *digits = i == 3 ? "0123456789abcdefABCDEF" : "0123456789";
    while (i < s.n && s.p[i] != '\0' && strchr(digits, s.p[i]) != NULL) {
        i++;
    }
    return i > from && i < s.n && s.p[i] == ';';
}

// What mend goes through and what it finds.
struct mending {
    struct buf *out;
    struct slice open[OPEN_MAX]; // names of the elements that are open
    size_t n_open;
    size_t whole, n_whole_open;  // length of out and open elements after the last closing tag
    struct slice whole_open[OPEN_MAX];
    bool escaped;                // an '&' was
    struct slice last;           // name of the element that was closed last
    struct slice rest;           // behind what cannot be a tag; empty: there is nothing
};

// mend_tag copies a tag and keeps account of what is open. False: it cannot be.
static bool mend_tag(struct mending *m, struct slice tag) {
    if (buf_add_slice(m->out, tag) != 0) {
        return false;
    }
    if (tag.p[1] == '!' || tag.p[1] == '?') {
        return true;
    }
    bool closes = tag.p[1] == '/', alone = tag.n > 2 && tag.p[tag.n - 2] == '/';
    if (closes) {
        if (m->n_open == 0 || !slice_eq(m->open[m->n_open - 1], tag_name(tag))) {
            return false;
        }
        m->n_open--;
    } else if (!alone) {
        if (m->n_open == OPEN_MAX) {
            return false;
        }
        m->open[m->n_open++] = tag_name(tag);
    }
    if (closes || alone) {
        m->last = tag_name(tag);
        m->whole = m->out->n;
        m->n_whole_open = m->n_open;
        memcpy(m->whole_open, m->open, sizeof(m->open));
    }
    return true;
}

// mend copies text, escapes a bare '&', and stops where a tag cannot be.
static void mend(struct mending *m, struct slice text) {
    size_t i = 0;
    while (i < text.n) {
        struct slice rest = slice_sub(text, i, text.n);
        if (rest.p[0] == '<') {
            size_t n = tag_end(rest);
            if (n > rest.n || n < 3) {
                m->rest = slice_sub(rest, 1, rest.n);
                return;
            }
            size_t before = m->out->n;
            if (!mend_tag(m, slice_sub(rest, 0, n))) {
                m->out->n = before;
                m->rest = slice_sub(rest, n, rest.n);
                return;
            }
            i += n;
            continue;
        }
        bool bare = rest.p[0] == '&' && !is_reference(rest);
        m->escaped |= bare;
        if ((bare ? buf_add_str(m->out, "&amp;") : buf_add_byte(m->out, rest.p[0])) != 0) {
            return;
        }
        i++;
    }
}

// strip cuts what stands before the first tag and behind the last one.
static struct slice strip(struct slice text, struct parsed *out) {
    size_t from = 0, to = text.n;
    while (from + 1 < text.n && !(text.p[from] == '<' && (is_name_first(text.p[from + 1]) ||
                                                         text.p[from + 1] == '?'))) {
        from++;
    }
    while (to > from && text.p[to - 1] != '>') {
        to--;
    }
    bool fenced = memmem(text.p, text.n, "```", 3) != NULL;
    bool is_cut = memchr(text.p + to, '<', text.n - to) != NULL; // in the middle of a tag
    if (from > 0 || (to < text.n && !is_cut)) {
        parse_warn(out, fenced ? "code-fence" : "prose");
    }
    return slice_sub(text, from, to - from);
}

// A piece of an answer, to its end or to a tag that cannot be.
struct piece {
    struct slice text;
    struct slice open[OPEN_MAX]; // names of the elements that it stands in
    size_t n_open;
    struct slice last;           // name of the element that was closed last before it; empty: none was
};

// next_piece sets piece to what follows a tag that cannot be, from the next element on of the name that was
// closed last. What a text that is not escaped has made of the items before it shows there: their own
// numbers come again. False: nothing follows.
static bool next_piece(const struct mending *m, struct piece *piece) {
    char begin[80];
    slice_copy(m->last, begin + 1, sizeof(begin) - 1);
    begin[0] = '<';
    struct slice rest = m->rest;
    size_t n = strlen(begin), skip;
    while ((skip = index_of(rest, begin)) <= rest.n && skip < rest.n && strchr(" \t\r\n/>", rest.p[skip]) == NULL) {
        rest = slice_sub(rest, skip, rest.n);
    }
    if (m->last.n == 0 || m->last.n + 1 != n || skip >= rest.n) {
        return false;
    }
    piece->text = slice_sub(rest, skip - n, rest.n);
    if (m->whole > 0) {
        piece->n_open = m->n_whole_open;
        memcpy(piece->open, m->whole_open, sizeof(piece->open));
    }
    piece->last = m->last;
    return true;
}

// close_open writes the ends of what is open behind the last whole element.
static bool close_open(const struct mending *m, struct buf *out) {
    int rc = 0;
    for (size_t i = m->n_whole_open; rc == 0 && i > 0; i--) {
        rc = buf_add_str(out, "</");
        rc = rc != 0 ? rc : buf_add_slice(out, m->whole_open[i - 1]);
        rc = rc != 0 ? rc : buf_add_byte(out, '>');
    }
    return rc == 0;
}

// with_root reads a text of several roots.
static xmlDocPtr with_root(struct slice text) {
    struct buf whole;
    xmlDocPtr doc = NULL;
    buf_init(&whole, XPATH_DOCUMENT_MAX);
    if (buf_add_str(&whole, "<items>") == 0 && buf_add_slice(&whole, text) == 0 &&
        buf_add_str(&whole, "</items>") == 0) {
        doc = xpath_document(buf_slice(&whole));
    }
    buf_free(&whole);
    return doc;
}

// note_open finds the n elements that the text left open: the last one, and the last one in each.
static void note_open(struct finding *f, xmlNodePtr node, size_t n) {
    f->n_open = 0;
    for (size_t i = 0; i < n && node != NULL; i++) {
        while (node != NULL && node->type != XML_ELEMENT_NODE) {
            node = node->prev;
        }
        if (node != NULL) {
            f->open[f->n_open++] = node;
            node = xmlGetLastChild(node);
        }
    }
}

// mended makes a document of a piece that is none: several roots get one around them, what is left open
// at the end is closed behind the last whole element. piece becomes what follows, if anything does.
static xmlDocPtr mended(struct parser *p, struct piece *piece, struct finding *f, struct parsed *out) {
    struct mending m = {.out = &p->scratch, .last = piece->last};
    struct slice text = piece->text;
    buf_clear(&p->scratch);
    for (size_t i = 0; i < piece->n_open; i++) {
        if (buf_add_byte(m.out, '<') != 0 || buf_add_slice(m.out, piece->open[i]) != 0 ||
            buf_add_byte(m.out, '>') != 0) {
            return NULL;
        }
        m.open[m.n_open++] = piece->open[i];
    }
    if (slice_starts(text, "<?")) {
        text = slice_sub(text, tag_end(text), text.n);
    }
    mend(&m, text);
    piece->text = SLICE_NONE;
    if (m.rest.n > 0) {
        (void)next_piece(&m, piece);
    }
    if (m.whole == 0) {
        return NULL;
    }
    p->scratch.n = m.whole;
    if (!close_open(&m, &p->scratch)) {
        return NULL;
    }
    xmlDocPtr doc = xpath_document(buf_slice(&p->scratch));
    bool wrapped = doc == NULL;
    doc = wrapped ? with_root(buf_slice(&p->scratch)) : doc;
    if (doc == NULL) {
        return NULL;
    }
    parse_warn(out, wrapped ? "no-root" : m.n_whole_open > 0 ? "cut-array" : "repaired");
    if (m.escaped) {
        parse_warn(out, "bare-ampersand");
    }
    xmlNodePtr node = xmlDocGetRootElement(doc);
    note_open(f, wrapped && node != NULL ? xmlGetLastChild(node) : node, m.n_whole_open);
    return doc;
}

// list_items lists the items of a document, and frees it. Returns how many, or a negative errno.
static long list_items(const struct question *q, xmlDocPtr doc, struct finding *f) {
    long n = xpath_query(q->model->response_xpath, doc, on_element, f);
    xmlFreeDoc(doc);
    return n;
}

void parse_xml(struct parser *p, const struct question *q, struct slice text, struct parsed *out) {
    struct finding f = {.parser = p, .question = q};
    struct piece piece = {.text = SLICE_NONE};
    xmlDocPtr doc = NULL;
    if (text.n <= XPATH_DOCUMENT_MAX && !slice_has_nocase(text, "<!DOCTYPE")) {
        text = strip(text, out);
        doc = xpath_document(text);
        if (doc == NULL) {
            piece.text = text;
            doc = mended(p, &piece, &f, out);
        }
    }
    if (doc == NULL) {
        parse_fail(out, OUTCOME_UNREADABLE, "the answer is not XML, nor can it be made to be");
        return;
    }
    long n = list_items(q, doc, &f);
    for (int i = 1; n >= 0 && piece.text.n > 0; i++) {
        if (i == PIECES_MAX) {
            p->n_items = 0;
            parse_fail(out, OUTCOME_UNREADABLE, "the answer is XML whose tags do not match, in too many pieces");
            return;
        }
        parse_warn(out, "repaired");
        doc = mended(p, &piece, &f, out);
        n = doc != NULL ? list_items(q, doc, &f) : n;
    }
    if (n < 0) {
        parse_fail(out, OUTCOME_UNREADABLE,
                   n == -EINVAL ? "'response.path' does not find elements"
                                : "'response.path' takes too many steps on the answer");
    } else if (p->n_items == 0) {
        parse_fail(out, OUTCOME_UNREADABLE, "the answer has no elements where 'response.path' looks");
    }
}
