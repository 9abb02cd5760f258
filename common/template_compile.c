// Reads a Mustache template into a flat list of nodes. A tag that stands alone on its line takes
// the line with it, unless it is a variable. Invariant: sections are closed in the order they were
// opened, at most MOST_NESTED deep, so that a section's body is a range of nodes and rendering
// needs little stack. Called when a model is created or loaded.
#include "common/template_internal.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIGILS         "#^/>&!={" // what a tag that is no plain variable starts with
#define MOST_NESTED    64         // sections in one another: bounds the stack of the renderer
#define MOST_DELIMITER 16         // bytes: what a sane pair of delimiters stays far below

struct tag {
    size_t at;         // offset of its first byte
    size_t end;        // offset after its last byte
    char sigil;        // '#', '^', '/', '>', '&', '!', '=', '{', or ' ' for a plain variable
    struct slice text; // between the delimiters and the sigil, trimmed
};

struct parser {
    struct template *t;
    struct slice text;             // t->text
    size_t at;                     // offset of the next byte
    size_t from;                   // offset of the first byte not yet in a node
    struct slice open, close;      // delimiters, borrowed from text or constants
    size_t nested[MOST_NESTED];    // nodes of the sections that are open
    size_t nested_at[MOST_NESTED]; // offsets of their tags
    size_t n_nested;
    struct error *why; // may be NULL
};

// set_place puts "line L, column C: " before the sentence. Columns count characters, from 1.
static int set_place(struct parser *p, size_t at) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        if (p->text.p[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)p->text.p[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    error_prefix(p->why, "line %zu, column %zu: ", line, column);
    return -EINVAL;
}

#define FAIL(p, at, ...) (error_set((p)->why, -EINVAL, __VA_ARGS__), set_place(p, at))

// shown cuts what an error quotes.
static struct slice shown(struct slice s) {
    return slice_sub(s, 0, 64);
}

static size_t find(struct slice hay, size_t from, struct slice needle) {
    const char *found =
        from < hay.n ? memmem(hay.p + from, hay.n - from, needle.p, needle.n) : NULL;
    return found != NULL ? (size_t)(found - hay.p) : hay.n;
}

static struct template_node *new_node(struct parser *p, enum template_node_kind kind) {
    struct template *t = p->t;
    size_t n = t->n_nodes;
    if ((n & (n - 1)) == 0) { // full at each power of two
        t->nodes = mem_realloc(t->nodes, (n > 0 ? 2 * n : 1) * sizeof(*t->nodes));
    }
    t->n_nodes++;
    t->nodes[n] = (struct template_node){.kind = kind};
    return &t->nodes[n];
}

// add_literal makes a node of the text from p->from up to `to`.
static void add_literal(struct parser *p, size_t to) {
    if (to > p->from) {
        new_node(p, TEMPLATE_LITERAL)->text = slice_sub(p->text, p->from, to - p->from);
    }
}

// read_tag reads the tag at p->at, where the opening delimiter stands.
static int read_tag(struct parser *p, struct tag *tag) {
    *tag = (struct tag){.at = p->at, .sigil = ' '};
    size_t at = p->at + p->open.n;
    if (at < p->text.n && p->text.p[at] != '\0' && strchr(SIGILS, p->text.p[at]) != NULL) {
        tag->sigil = p->text.p[at++];
    }
    char closing[MOST_DELIMITER + 1]; // "}}}" and "=}}" close with one byte more
    size_t n_extra = tag->sigil == '{' || tag->sigil == '=';
    closing[0] = tag->sigil == '{' ? '}' : '=';
    memcpy(closing + n_extra, p->close.p, p->close.n);
    struct slice close = {.p = closing, .n = n_extra + p->close.n};
    size_t end = find(p->text, at, close);
    if (end == p->text.n) {
        return FAIL(p, tag->at, "got a tag that is not closed, want '%.*s' after it",
                    SLICE_FMT(close));
    }
    tag->text = slice_trim(slice_sub(p->text, at, end - at));
    tag->end = end + close.n;
    return 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

// is_alone asks whether nothing but blanks shares the tag's lines, and says where the first of them
// starts and where the line after them does.
static bool is_alone(const struct parser *p, const struct tag *tag, size_t *start, size_t *next) {
    size_t from = tag->at, to = tag->end;
    while (from > 0 && is_blank(p->text.p[from - 1])) {
        from--;
    }
    if (from > 0 && p->text.p[from - 1] != '\n') {
        return false;
    }
    while (to < p->text.n && is_blank(p->text.p[to])) {
        to++;
    }
    if (to < p->text.n && p->text.p[to] == '\r') {
        to++;
        if (to == p->text.n || p->text.p[to] != '\n') {
            return false;
        }
    }
    if (to < p->text.n && p->text.p[to] != '\n') {
        return false;
    }
    *start = from;
    *next = to < p->text.n ? to + 1 : to;
    return true;
}

// check_name refuses what no data can ever answer. "." is the current item, a.b.c goes down.
static int check_name(struct parser *p, const struct tag *tag) {
    struct slice name = tag->text;
    if (name.n == 0) {
        return FAIL(p, tag->at, "got a tag without a name, want one");
    }
    for (size_t i = 0; i < name.n; i++) {
        if ((unsigned char)name.p[i] <= ' ') {
            return FAIL(p, tag->at, "got the name '%.*s', want one without white space",
                        SLICE_FMT(shown(name)));
        }
    }
    if (tag->sigil == ' ' && strchr(SIGILS, name.p[0]) != NULL) {
        return FAIL(p, tag->at, "got '%.*s', want '%c' right after the delimiter",
                    SLICE_FMT(shown(name)), name.p[0]);
    }
    if (tag->sigil == ' ' && strchr("<$", name.p[0]) != NULL) {
        return FAIL(p, tag->at, "got '%.*s', want a name: parents and blocks are not supported",
                    SLICE_FMT(shown(name)));
    }
    if (tag->sigil == '>' || slice_is(name, ".")) {
        return 0;
    }
    if (name.p[0] == '.' || name.p[name.n - 1] == '.' || find(name, 0, SLICE_LIT("..")) < name.n) {
        return FAIL(p, tag->at, "got the name '%.*s', want something around each dot",
                    SLICE_FMT(shown(name)));
    }
    return 0;
}

// set_delimiters reads "<% %>", the text of a tag {{=<% %>=}}.
static int set_delimiters(struct parser *p, const struct tag *tag) {
    struct slice s = tag->text;
    size_t n = 0;
    while (n < s.n && (unsigned char)s.p[n] > ' ') {
        n++;
    }
    struct slice open = slice_sub(s, 0, n), close = slice_trim(slice_sub(s, n, s.n));
    bool is_good = open.n > 0 && close.n > 0 && open.n < MOST_DELIMITER &&
                   close.n < MOST_DELIMITER && memchr(s.p, '=', s.n) == NULL;
    for (size_t i = 0; i < close.n; i++) {
        is_good = is_good && (unsigned char)close.p[i] > ' ';
    }
    if (!is_good) {
        return FAIL(p, tag->at,
                    "got the delimiters '%.*s', want two, with white space between, no '=' and "
                    "under %d bytes each",
                    SLICE_FMT(shown(s)), MOST_DELIMITER);
    }
    p->open = open;
    p->close = close;
    return 0;
}

static int open_section(struct parser *p, const struct tag *tag) {
    if (p->n_nested == MOST_NESTED) {
        return FAIL(p, tag->at, "got sections more than %d deep, want fewer", MOST_NESTED);
    }
    p->nested[p->n_nested] = p->t->n_nodes;
    p->nested_at[p->n_nested] = tag->at;
    p->n_nested++;
    new_node(p, tag->sigil == '#' ? TEMPLATE_SECTION : TEMPLATE_INVERTED)->text = tag->text;
    return 0;
}

static int close_section(struct parser *p, const struct tag *tag) {
    if (p->n_nested == 0) {
        return FAIL(p, tag->at, "got the end of section '%.*s', want none: no section is open",
                    SLICE_FMT(shown(tag->text)));
    }
    struct template_node *section = &p->t->nodes[p->nested[p->n_nested - 1]];
    if (!slice_eq(section->text, tag->text)) {
        return FAIL(p, tag->at, "got the end of section '%.*s', want the end of '%.*s'",
                    SLICE_FMT(shown(tag->text)), SLICE_FMT(shown(section->text)));
    }
    section->end = p->t->n_nodes;
    p->n_nested--;
    return 0;
}

// add_tag makes of a tag what it stands for; indent is the blanks before it when it is alone.
static int add_tag(struct parser *p, const struct tag *tag, bool alone, struct slice indent) {
    if (tag->sigil == '!') {
        return 0;
    }
    if (tag->sigil == '=') {
        return set_delimiters(p, tag);
    }
    if (check_name(p, tag) != 0) {
        return -EINVAL;
    }
    struct template_node *node;
    switch (tag->sigil) {
    case '#':
    case '^':
        return open_section(p, tag);
    case '/':
        return close_section(p, tag);
    case '>':
        node = new_node(p, TEMPLATE_PARTIAL);
        node->is_alone = alone;
        node->indent = indent;
        break;
    default:
        node = new_node(p, tag->sigil == ' ' ? TEMPLATE_VARIABLE : TEMPLATE_RAW);
    }
    node->text = tag->text;
    return 0;
}

// parse_tag takes the text before the tag at p->at, and the tag.
static int parse_tag(struct parser *p) {
    struct tag tag;
    if (read_tag(p, &tag) != 0) {
        return -EINVAL;
    }
    bool is_variable = tag.sigil == ' ' || tag.sigil == '&' || tag.sigil == '{';
    size_t start = tag.at, next = tag.end;
    bool alone = !is_variable && is_alone(p, &tag, &start, &next);
    add_literal(p, start);
    p->at = p->from = next;
    return add_tag(p, &tag, alone, slice_sub(p->text, start, tag.at - start));
}

static int parse(struct parser *p) {
    for (;;) {
        p->at = find(p->text, p->at, p->open);
        if (p->at >= p->text.n) {
            break;
        }
        if (parse_tag(p) != 0) {
            return -EINVAL;
        }
    }
    add_literal(p, p->text.n);
    if (p->n_nested > 0) {
        struct template_node *section = &p->t->nodes[p->nested[p->n_nested - 1]];
        return FAIL(p, p->nested_at[p->n_nested - 1], "section '%.*s' is not closed",
                    SLICE_FMT(shown(section->text)));
    }
    return 0;
}

struct template *template_compile(struct slice text, struct error *why) {
    struct template *t = mem_zalloc(sizeof(*t));
    t->text = slice_dup(text);
    struct parser p = {
        .t = t,
        .text = {.p = t->text, .n = text.n},
        .open = SLICE_LIT("{{"),
        .close = SLICE_LIT("}}"),
        .why = why,
    };
    if (parse(&p) != 0) {
        template_free(t);
        return NULL;
    }
    return t;
}

void template_free(struct template *t) {
    if (t != NULL) {
        free(t->nodes);
        free(t->text);
        free(t);
    }
}

// next_outside returns the node after i that no section's body hides; an inverted section pushes no
// context and hides nothing.
static size_t next_outside(const struct template *t, size_t i) {
    return t->nodes[i].kind == TEMPLATE_SECTION ? t->nodes[i].end : i + 1;
}

static bool is_repeated(const struct template *t, size_t i) {
    for (size_t k = 0; k < i; k = next_outside(t, k)) {
        if (t->nodes[k].kind != TEMPLATE_LITERAL && t->nodes[k].partial == NULL &&
            slice_eq(t->nodes[k].text, t->nodes[i].text)) {
            return true;
        }
    }
    return false;
}

void template_names(const struct template *t, void (*each)(void *arg, struct slice name),
                    void *arg) {
    for (size_t i = 0; i < t->n_nodes; i = next_outside(t, i)) {
        if (t->nodes[i].partial != NULL) {
            template_names(t->nodes[i].partial, each, arg);
        } else if (t->nodes[i].kind != TEMPLATE_LITERAL && !is_repeated(t, i)) {
            each(arg, t->nodes[i].text);
        }
    }
}

typedef void walk_fn(void *arg, struct slice name, bool inside);

// walk is template_walk for a template that stands inside of the section already, or does not.
static void walk(const struct template *t, const char *section, bool inside, walk_fn *each, void *arg) {
    size_t end = inside ? t->n_nodes : 0; // of the outermost section of that name around node i
    for (size_t i = 0; i < t->n_nodes; i++) {
        const struct template_node *node = &t->nodes[i];
        if (node->partial != NULL) {
            walk(node->partial, section, i < end, each, arg);
        } else if (node->kind != TEMPLATE_LITERAL) {
            each(arg, node->text, i < end);
        }
        if (i >= end && node->kind == TEMPLATE_SECTION && slice_is(node->text, section)) {
            end = node->end;
        }
    }
}

void template_walk(const struct template *t, const char *section, walk_fn *each, void *arg) {
    walk(t, section, false, each, arg);
}

// ---- Partials -----------------------------------------------------------------------------------

int template_link(struct template *t, template_find_fn *look_up, void *arg, struct error *why) {
    for (size_t i = 0; i < t->n_nodes; i++) {
        struct template_node *node = &t->nodes[i];
        if (node->kind != TEMPLATE_PARTIAL) {
            continue;
        }
        node->partial = look_up(arg, node->text);
        if (node->partial == NULL) {
            return error_set(why, -ENOENT, "got '{{> %.*s}}'", (int)(node->text.n < 64 ? node->text.n : 64),
                             node->text.p);
        }
    }
    return 0;
}

// count_partials counts how many partials a template brings in all, and stops at one too many: a chain that
// is as deep as this comes back to itself, or is as good as one that does.
static size_t count_partials(const struct template *t, int depth, size_t n) {
    for (size_t i = 0; i < t->n_nodes && n <= TEMPLATE_PARTIALS_MAX; i++) {
        const struct template *partial = t->nodes[i].partial;
        if (partial != NULL) {
            n = depth == 0 ? TEMPLATE_PARTIALS_MAX + 1 : count_partials(partial, depth - 1, n + 1);
        }
    }
    return n;
}

bool template_is_endless(const struct template *t) {
    return count_partials(t, TEMPLATE_DEPTH_MAX, 0) > TEMPLATE_PARTIALS_MAX;
}
