// SQL text to checked models: feeds tokens (model_sql.re) to the grammar (model_sql.y) and does
// what its actions ask for. Invariant: the first fault is the one that is told, and nothing is done
// after it. Called by whoever reads a models file, and by those who get a model from Redis or the
// wire.
#include "common/model_parts.h"
#include "common/model_sql.h"

#include "common/mem.h"

#include <utlist.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SQL_MAX_BYTES (1024 * 1024) // of one file: a thousand models with long prompts
#define WORD_SHOWN    40            // bytes of a word that an error repeats

void statements_free(struct statements *list) {
    for (size_t i = 0; i < list->n; i++) {
        model_free(list->items[i].model);
    }
    free(list->items);
    for (size_t i = 0; i < list->n_warnings; i++) {
        free(list->warnings[i]);
    }
    free(list->warnings);
    *list = (struct statements){0};
}

// ---- Faults -------------------------------------------------------------------------------------

void sql_fail(struct sql_parser *p, int line, const char *format, ...) {
    if (p->failed) {
        return;
    }
    p->failed = true;
    char sentence[ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    error_set(p->why, -EINVAL, "%s:%d: %s", p->file, line, sentence);
}

// warn appends "file:line: text" to the warnings.
static void warn(void *arg, int line, const char *text) {
    struct sql_parser *p = arg;
    struct statements *out = p->out;
    char sentence[ERROR_MAX];
    snprintf(sentence, sizeof(sentence), "%s:%d: %s", p->file, line, text);
    out->warnings = mem_realloc(out->warnings, (out->n_warnings + 1) * sizeof(out->warnings[0]));
    out->warnings[out->n_warnings++] = mem_dup_str(sentence);
}

// want_says returns a kind's name for "want ...", or NULL when another kind stands for it.
static const char *want_says(const struct sql_parser *p, int kind) {
    static const char *const words[] = {
        [0] = "the end of the text", [SQL_CREATE] = "CREATE",   [SQL_OR] = "OR",
        [SQL_TEMPORARY] = NULL, // nobody is told to write it
        [SQL_REPLACE] = "REPLACE",   [SQL_MODEL] = "MODEL",     [SQL_IF] = "IF NOT EXISTS",
        [SQL_NOT] = "NOT",           [SQL_EXISTS] = "EXISTS",   [SQL_INPUT] = "INPUT",
        [SQL_OUTPUT] = "OUTPUT",     [SQL_COMMENT] = "COMMENT", [SQL_WITH] = "WITH",
        [SQL_NULL] = "NULL",         [SQL_NUMBER] = "a number", [SQL_STRING] = "a 'quoted string'",
        [SQL_LEFT] = "'('",          [SQL_RIGHT] = "')'",       [SQL_COMMA] = "','",
        [SQL_EQUALS] = "'='",        [SQL_SEMICOLON] = "';'",   [SQL_DOT] = "'.'",
    };
    if (kind == SQL_NAME) {
        return p->before == SQL_NAME || p->before == SQL_QUOTED ? "a type" : "a name";
    }
    if (kind == SQL_GREATER) {
        return p->n_open_types > 0 ? "'>'" : NULL;
    }
    return (size_t)kind < sizeof(words) / sizeof(words[0]) ? words[kind] : NULL;
}

// got_says writes what the token is.
static void got_says(const struct sql_parser *p, int kind, struct sql_token got, char *into,
                     size_t size) {
    bool may_be_secret = p->before == SQL_STRING || p->before == SQL_EQUALS;
    char word[WORD_SHOWN];
    slice_copy(got.text, word, sizeof(word));
    if (kind == 0) {
        snprintf(into, size, "the end of the text");
    } else if (kind == SQL_STRING) {
        snprintf(into, size, "a 'quoted string'");
    } else if (kind == SQL_QUOTED) {
        snprintf(into, size, "a quoted name");
    } else if (kind == SQL_ILLEGAL && (word[0] <= ' ' || word[0] == 0x7f)) {
        snprintf(into, size, "byte 0x%02x", (unsigned)(unsigned char)word[0]);
    } else if (may_be_secret && kind == SQL_NUMBER) {
        snprintf(into, size, "a number");
    } else if (may_be_secret && got.text.n > 1) {
        snprintf(into, size, "a word without quotes");
    } else {
        snprintf(into, size, "'%s'", word);
    }
}

void sql_expected(struct sql_parser *p, int kind, struct sql_token got, const int *want, size_t n) {
    if (p->model != NULL && p->before == SQL_NAME && p->before2 != SQL_LEFT &&
        p->before2 != SQL_COMMA) {
        type_free(sql_type(p, p->last, NULL, NULL)); // an unknown type is what is wrong
    }
    char list[400] = "", says[64];
    size_t used = 0;
    const char *last = NULL;
    for (size_t i = 0; i <= n; i++) {
        const char *next = i < n ? want_says(p, want[i]) : NULL;
        if (last != NULL && (next != NULL || i == n) && used < sizeof(list)) {
            const char *join = used == 0 ? "" : i == n ? " or " : ", ";
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", join, last);
        }
        last = next != NULL ? next : last;
    }
    got_says(p, kind, got, says, sizeof(says));
    sql_fail(p, got.line, "got %s, want %s", says, list[0] != '\0' ? list : "something else");
}

// unquote returns the text between a token's quotes, doubled ones made single.
static char *unquote(struct slice text) {
    char quote = text.p[0];
    if (quote != '\'' && quote != '"' && quote != '`') {
        return slice_dup(text);
    }
    char *out = mem_alloc(text.n);
    size_t n = 0;
    for (size_t i = 1; i + 1 < text.n; i++) {
        out[n++] = text.p[i];
        i += text.p[i] == quote;
    }
    out[n] = '\0';
    return out;
}

// ---- Actions of the grammar
// ----------------------------------------------------------------------

void sql_begin(struct sql_parser *p, struct sql_token create, struct sql_token name,
               bool or_replace, bool if_not_exists) {
    if (p->failed) {
        return;
    }
    p->line = create.line;
    p->or_replace = or_replace;
    p->if_not_exists = if_not_exists;
    p->model = mem_zalloc(sizeof(*p->model));
    p->model->name = unquote(name.text);
    struct error why;
    if (model_check_name("model", slice_of(p->model->name), &why) != 0) {
        sql_fail(p, name.line, "%s", why.text);
    } else if (or_replace && if_not_exists) {
        sql_fail(p, p->line, "got both OR REPLACE and IF NOT EXISTS, want one of them");
    }
}

// number_of reads a whole number of a type, or returns -1 for NULL and what is none.
static long number_of(struct sql_parser *p, const struct sql_token *token) {
    if (token == NULL) {
        return -1;
    }
    char text[8];
    bool fits = slice_copy(token->text, text, sizeof(text));
    if (!fits || strchr(text, '.') != NULL) {
        if (fits || memchr(token->text.p, '.', token->text.n) != NULL) {
            sql_fail(p, token->line, "got %.40s in a type, want a whole number", text);
        }
        return 9999999; // refused where there is a bound
    }
    return strtol(text, NULL, 10);
}

struct type *sql_type(struct sql_parser *p, struct sql_token name, const struct sql_token *first,
                      const struct sql_token *second) {
    struct error why;
    struct type *type =
        p->failed ? NULL : type_plain(name.text, number_of(p, first), number_of(p, second), &why);
    if (type == NULL) {
        sql_fail(p, name.line, "%s", why.text);
    }
    return type;
}

struct type *sql_generic(struct sql_parser *p, struct sql_token name, struct type *key,
                         struct type *inner) {
    bool is_map = slice_is_nocase(name.text, "MAP"), is_array = slice_is_nocase(name.text, "ARRAY");
    bool good = key != NULL ? is_map && key->kind == TYPE_STRING : is_array;
    struct type *type = NULL;
    if (p->failed || inner == NULL) {
        type_free(inner);
    } else if (!good) {
        type_free(inner);
        char word[WORD_SHOWN];
        slice_copy(name.text, word, sizeof(word));
        sql_fail(p, name.line, "type %s: got %s, want ARRAY<type>, MAP<STRING, type> or ROW<name type, ...>",
                 word, is_map && key != NULL ? "another key than STRING" : "types in it that do not fit");
    } else {
        type = type_new(is_map ? TYPE_MAP : TYPE_ARRAY);
        type->inner = inner;
    }
    type_free(key);
    return type;
}

struct type *sql_row(struct sql_parser *p, struct type *row, struct sql_token name,
                     struct type *field) {
    struct error why;
    if (p->failed || field == NULL) {
        type_free(row);
        type_free(field);
        return NULL;
    }
    row = row != NULL ? row : type_new(TYPE_ROW);
    char *text = unquote(name.text);
    if (model_check_name("field", slice_of(text), &why) != 0) {
        type_free(field);
        sql_fail(p, name.line, "%s", why.text);
    } else if (type_add_field(row, slice_of(text), &field, &why) != 0) {
        sql_fail(p, name.line, "%s", why.text);
    }
    free(text);
    return row;
}

// metadata_of finds a metadata column by name, or returns -1.
static int metadata_of(const char *name) {
    for (int i = 0; i < N_METADATA; i++) {
        if (strcmp(model_metadata_name(i), name) == 0) {
            return i;
        }
    }
    return -1;
}

// check_metadata: what a column of Flink's metadata must be.
static int check_metadata(const struct model *model, const char *name, int which, const struct type *type,
                          struct error *why) {
    const struct type *inner = type->inner != NULL ? type->inner->inner : NULL;
    bool fits[N_METADATA] = {
        [METADATA_ERROR_STRING] = type->kind == TYPE_STRING,
        [METADATA_HTTP_STATUS] = type->kind == TYPE_INT,
        [METADATA_HTTP_HEADERS] = type->kind == TYPE_MAP && type->inner->kind == TYPE_ARRAY &&
                                  inner != NULL && inner->kind == TYPE_STRING};
    if (which < 0) {
        return error_set(why, -EINVAL,
                         "OUTPUT: column '%.60s' is METADATA, want its name to be error-string, "
                         "http-status-code or http-headers-map",
                         name);
    }
    if (!fits[which] || type->not_null) {
        return error_set(why, -EINVAL, "OUTPUT: column '%s': got another type, want %s, and no NOT NULL",
                         name,
                         which == METADATA_ERROR_STRING  ? "STRING"
                         : which == METADATA_HTTP_STATUS ? "INT"
                                                         : "MAP<STRING, ARRAY<STRING>>");
    }
    if (MODEL_HAS(model->metadata, which)) {
        return error_set(why, -EINVAL, "OUTPUT: column '%s' stands there twice", name);
    }
    return 0;
}

// add_metadata takes a column out of the others' way. Returns true when it was one, or failed.
static bool add_metadata(struct sql_parser *p, const struct sql_column *column, const struct type *type,
                         bool output) {
    char *name = unquote(column->name.text);
    int which = metadata_of(name);
    bool is_one = output ? column->metadata || which >= 0 : column->metadata;
    struct error why;
    if (is_one && !output) {
        sql_fail(p, column->name.line, "INPUT: column '%.60s' is METADATA, which only OUTPUT may be", name);
    } else if (is_one && check_metadata(p->model, name, which, type, &why) != 0) {
        sql_fail(p, column->name.line, "%s", why.text);
    } else if (is_one) {
        p->model->metadata |= 1u << which;
    }
    free(name);
    return is_one;
}

// is_list: STRING, BOOLEAN, a number, or an ARRAY of what is one.
static bool is_list(const struct type *type) {
    return type->kind == TYPE_ARRAY ? is_list(type->inner) : type->kind <= TYPE_DOUBLE;
}

static bool may_be_input(const struct type *type) {
    return type->kind == TYPE_IMAGE || is_list(type);
}

// has_image looks into what a type is made of, too.
static bool has_image(const struct type *type) {
    bool found = type->kind == TYPE_IMAGE || (type->inner != NULL && has_image(type->inner));
    for (size_t i = 0; !found && i < type->n_fields; i++) {
        found = has_image(type->fields[i].type);
    }
    return found;
}

void sql_add_column(struct sql_parser *p, struct sql_column *column, bool output) {
    struct type *type = column->type;
    column->type = NULL;
    if (p->failed || type == NULL) {
        type_free(type);
        return;
    }
    if (add_metadata(p, column, type, output)) {
        type_free(type);
        return;
    }
    struct model *model = p->model;
    struct column **list = output ? &model->output : &model->input;
    size_t *n = output ? &model->n_output : &model->n_input;
    char *name = unquote(column->name.text);
    struct error why = {0};
    int rc = model_check_column(*list, *n, slice_of(name), output, &why);
    if (rc == 0 && !output && !may_be_input(type)) {
        rc = error_set(&why, -EINVAL,
                       "INPUT: column '%.60s' is %s, which only OUTPUT may be, want STRING, BOOLEAN, a number, "
                       "an ARRAY of these, or IMAGE",
                       name, column_type_name(type->kind));
    }
    if (rc == 0 && output && has_image(type)) {
        rc = error_set(&why, -EINVAL, "OUTPUT: column '%.60s' is of IMAGE, which only INPUT may be", name);
    }
    if (rc == 0 && type_depth(type) > TYPE_DEPTH_MAX) {
        rc = error_set(&why, -EINVAL, "column '%.60s': got more than %d types in one another", name,
                       TYPE_DEPTH_MAX);
    }
    if (rc != 0) {
        free(name);
        type_free(type);
        sql_fail(p, column->name.line, "%s", why.text);
        return;
    }
    *list = mem_realloc(*list, (*n + 1) * sizeof(**list));
    (*list)[(*n)++] = (struct column){
        .name = name,
        .type = type->kind,
        .not_null = type->not_null,
        .full = type,
        .comment = column->comment.text.n > 0 ? unquote(column->comment.text) : NULL,
    };
}

void sql_temporary(struct sql_parser *p, struct sql_token word) {
    if (!p->failed) {
        warn(p, word.line, "TEMPORARY: every model is kept; it is left out");
    }
}

void sql_comment(struct sql_parser *p, struct sql_token text) {
    if (!p->failed && text.text.n > 0) {
        p->model->comment = unquote(text.text);
    }
}

void sql_option(struct sql_parser *p, struct sql_token name, struct sql_token value) {
    if (p->failed) {
        return;
    }
    char *key = unquote(name.text), *text = unquote(value.text);
    struct error why;
    p->dashes = p->dashes || strchr(key, '-') != NULL;
    if (flink_is_own(slice_of(key), slice_of(text))) {
        struct flink_option *option = mem_zalloc(sizeof(*option));
        *option = (struct flink_option){.name = key, .value = text, .line = name.line};
        LL_APPEND(p->flink, option);
        return;
    }
    if (model_set_option(p->model, slice_of(key), slice_of(text), name.line, &why) != 0) {
        sql_fail(p, name.line, "%s", why.text);
    }
    free(key);
    free(text);
}

static void free_flink(struct sql_parser *p) {
    struct flink_option *option, *next;
    LL_FOREACH_SAFE(p->flink, option, next) {
        free(option->name);
        free(option->value);
        free(option);
    }
    p->flink = NULL;
    p->dashes = false;
}

void sql_end(struct sql_parser *p) {
    if (p->failed) {
        return;
    }
    int line = 0;
    struct error why;
    int rc = flink_apply(p->model, p->flink, p->dashes, warn, p, &line, &why);
    free_flink(p);
    if (rc != 0 || model_check(p->model, &line, &why) != 0) {
        sql_fail(p, line > 0 ? line : p->line, "%s", why.text);
        return;
    }
    struct statements *out = p->out;
    out->items = mem_realloc(out->items, (out->n + 1) * sizeof(out->items[0]));
    out->items[out->n++] = (struct statement){
        .kind = STATEMENT_CREATE_MODEL,
        .line = p->line,
        .if_not_exists = p->if_not_exists,
        .or_replace = p->or_replace,
        .model = p->model,
    };
    p->model = NULL;
}

// ---- Reading ------------------------------------------------------------------------------------

static int line_at(struct slice text, size_t at) {
    int line = 1;
    for (size_t i = 0; i < at; i++) {
        line += text.p[i] == '\n';
    }
    return line;
}

// check_bytes refuses what the lexer cannot read.
static void check_bytes(struct sql_parser *p, struct slice text) {
    if (text.n > SQL_MAX_BYTES) {
        sql_fail(p, 1, "got %zu bytes, want at most %d", text.n, SQL_MAX_BYTES);
        return;
    }
    long bad = slice_utf8_error(text);
    if (bad >= 0) {
        sql_fail(p, line_at(text, (size_t)bad), "got bytes that are not UTF-8, want UTF-8 text");
    }
    const char *nul = text.n > 0 ? memchr(text.p, '\0', text.n) : NULL;
    if (nul != NULL) {
        sql_fail(p, line_at(text, (size_t)(nul - text.p)), "got a NUL byte, want text");
    }
}

static void read_tokens(struct sql_parser *p, const char *text) {
    struct sql_lexer lexer = {.at = text, .line = 1};
    void *grammar = model_sqlAlloc(mem_alloc);
    int kind;
    do {
        struct sql_token token;
        kind = sql_lex(&lexer, &token);
        if (kind == SQL_OPEN_STRING || kind == SQL_OPEN_NAME) {
            sql_fail(p, token.line, "%s starts with %c and has no end, want another %c",
                     kind == SQL_OPEN_STRING ? "a string" : "a name", token.text.p[0],
                     token.text.p[0]);
        } else if (kind == SQL_OPEN_COMMENT) {
            sql_fail(p, token.line, "a comment starts with /* and has no end, want */");
        } else {
            model_sql(grammar, kind, token, p);
        }
        p->n_open_types += (kind == SQL_LESS) - (kind == SQL_GREATER);
        p->before2 = p->before;
        p->before = kind;
        p->last = token;
    } while (kind != 0 && !p->failed);
    model_sqlFree(grammar, free);
}

int model_sql_parse(struct slice text, const char *file, struct statements *out,
                    struct error *why) {
    *out = (struct statements){0};
    struct sql_parser p = {.file = file, .out = out, .why = why};
    if (slice_starts(text, "\xef\xbb\xbf")) {
        text = slice_sub(text, 3, text.n); // a byte order mark
    }
    check_bytes(&p, text);
    if (!p.failed) {
        char *copy = slice_dup(text);
        read_tokens(&p, copy);
        free(copy);
    }
    model_free(p.model);
    free_flink(&p);
    if (p.failed) {
        statements_free(out);
        return -EINVAL;
    }
    return 0;
}
