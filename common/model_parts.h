// model_parts: what the files model*.c share among themselves; nobody else includes it.
#ifndef HEADRACE_COMMON_MODEL_PARTS_H
#define HEADRACE_COMMON_MODEL_PARTS_H

#include "common/model.h"

// ---- model_option.c: the option table -----------------------------------------------------------

enum option_type {
    OPTION_TEXT,
    OPTION_TEMPLATE,
    OPTION_PATH,
    OPTION_SECRET,
    OPTION_JSON,
    OPTION_COUNT,
    OPTION_MS,
    OPTION_NUMBER,
    OPTION_CHOICE,
    OPTION_FLAG,
};

// One row of model_options.def.
struct option_row {
    const char *name;
    enum option_type type;
    const char *def;    // "" when there is none
    double least, most; // of the number, or of the length in bytes
    const char *want;
    size_t offset; // in struct model_options
};

// option_rows returns the table.
const struct option_row *option_rows(size_t *n);

// option_find looks a name up as a user writes it: any case; '.', '-' and '_' alike or left out;
// Flink's names; behind "openai.". Returns NULL with why (which never repeats a value).
const struct option_row *option_find(struct slice name, struct error *why);

// option_squash writes the letters and digits of a name in lower case. Returns false when they do not
// fit, or when there is anything but letters, digits, '.', '-' and '_'.
bool option_squash(struct slice name, char *into, size_t size);

// option_name is option_find for a name that is in the table as it stands, or NULL.
const struct option_row *option_exact(const char *name);

// option_read parses one value into options, which borrows the text of TEXT-like values.
// Returns 0, or -EINVAL with why: "option 'batch.size': got '0', want a whole number, 1 to 1024".
// A SECRET's or JSON's text is never in why.
MUST_CHECK int option_read(const struct option_row *row, const char *value,
                           struct model_options *options, struct error *why);

// option_partial says whether a name is template.NAME; then partial is the NAME, as it was written.
bool option_partial(struct slice name, struct slice *partial);

// option_canonical brings a value into the one form that is kept: a comma-separated list becomes
// a JSON array. Returns a new string.
char *option_canonical(const struct option_row *row, struct slice value);

// ---- model_check.c: the whole of a model --------------------------------------------------------

// ---- model_template.c: templates and the names in them ------------------------------------------

// model_check_templates compiles the templates and the partials that they include. As model_check.
MUST_CHECK int model_check_templates(struct model *model, int *line, struct error *why);
// model_link_template gives a compiled template of an option the model's partials. As model_check.
MUST_CHECK int model_link_template(const struct model *model, struct template *t, const char *option,
                                   int *line, struct error *why);

// ---- model_default.c: what stands for an answer -------------------------------------------------

// model_check_default casts option default.value to the OUTPUT columns. As model_check.
MUST_CHECK int model_check_default(struct model *model, int *line, struct error *why);

// ---- model_provider.c: what a provider wants of a model -----------------------------------------

// model_check_provider finds the provider and its API (model->provider, model->api) and checks the
// options against them. Returns 0, or -EINVAL with why and the line of the option.
MUST_CHECK int model_check_provider(struct model *model, int *line, struct error *why);

// ---- model_http.c: the options of provider http -------------------------------------------------

// model_check_http compiles the request's template and the paths into the answer. As model_check; does
// nothing for other providers.
MUST_CHECK int model_check_http(struct model *model, int *line, struct error *why);

// ---- model_image.c: images in INPUT -------------------------------------------------------------

// model_check_images counts the columns of IMAGE (model->n_images) and checks them against the provider
// and the templates. As model_check.
MUST_CHECK int model_check_images(struct model *model, int *line, struct error *why);

// model_check_column refuses a column that cannot join the n of a list: name, length, one too many,
// one there already, a name that results need (output).
MUST_CHECK int model_check_column(const struct column *list, size_t n, struct slice name,
                                  bool output, struct error *why);

// model_check_name refuses a name of a model or column that is empty, too long, or has control
// bytes.
MUST_CHECK int model_check_name(const char *what, struct slice name, struct error *why);

// model_check fills options, templates and path from columns and settings, and checks them all.
// Returns 0, or -EINVAL with why; *line is then the setting's line, or 0 when no setting is at
// fault.
MUST_CHECK int model_check(struct model *model, int *line, struct error *why);

// model_setting_of returns the setting of an option, or NULL when it was not written.
const struct model_setting *model_setting_of(const struct model *model, const char *name);

// model_blame makes *line the line where the option stands. Returns -EINVAL.
int model_blame(const struct model *model, const char *name, int *line);

// ---- model_format.c: what an answer looks like ---------------------------------------------------

// model_check_format refuses a response.format that cannot carry what the model wants, and
// model_check_path compiles where its items are. As model_check.
MUST_CHECK int model_check_format(const struct model *model, int *line, struct error *why);
MUST_CHECK int model_check_path(struct model *model, int *line, struct error *why);
// model_check_task reads the labels and looks whether the first OUTPUT column can hold what the task
// gives. As model_check.
MUST_CHECK int model_check_task(struct model *model, int *line, struct error *why);

// secret_next finds the next ${NAME} at or after *at, and moves *at behind it.
// Returns 1 with name; 0: no more; -EINVAL: a "${" that no NAME and "}" follow.
MUST_CHECK int secret_next(struct slice text, size_t *at, struct slice *name);

// ---- model.c
// --------------------------------------------------------------------------------------

// model_set_option adds a setting under whatever name a user may have written. Returns 0, or -EINVAL with
// why: not known, there already, not UTF-8.
MUST_CHECK int model_set_option(struct model *model, struct slice name, struct slice value, int line,
                                struct error *why);

// model_set adds a setting, in its place by name.
//   value  a new string, taken
// Returns 0, or -EINVAL with why when the option is there already.
MUST_CHECK int model_set(struct model *model, const struct option_row *row, char *value, int line,
                         struct error *why);

// ---- model_flink.c: options of Flink's model providers -------------------------------------------

// An option that is not looked at before the statement ends: it may depend on others.
struct flink_option {
    char *name, *value; // as written; owned
    int line;
    struct flink_option *next;
};

// flink_is_own says whether an option is one that Flink has and that means something else here, or
// nothing: such a one is handed to flink_apply.
bool flink_is_own(struct slice name, struct slice value);

// flink_apply carries the options over into the model's settings, and fills in what a statement in
// Flink's spelling leaves to Flink's defaults.
//   dashes  an option was spelled with '-', as Flink does
//   warn    is called for each option that is left out or changed
// Returns 0, or -EINVAL with why and the line.
MUST_CHECK int flink_apply(struct model *model, const struct flink_option *list, bool dashes,
                           void (*warn)(void *arg, int line, const char *text), void *arg, int *line,
                           struct error *why);

// ---- model_sql.re, model_sql.y
// -------------------------------------------------------------------

// One token of SQL. Invariant: text lies in the copy of the file that the lexer reads.
struct sql_token {
    struct slice text; // with its quotes
    int line;          // where it starts, from 1
};

struct sql_lexer {
    const char *at; // NUL-ended; no NUL before the end
    int line;
};

// sql_lex returns the number of the next token (SQL_... of the generated header), 0 at the end, or
// SQL_ILLEGAL, SQL_OPEN_STRING, SQL_OPEN_NAME, SQL_OPEN_COMMENT, which no rule of the grammar
// takes.
int sql_lex(struct sql_lexer *lexer, struct sql_token *token);

// What the grammar's actions work on.
struct sql_parser {
    const char *file;
    struct statements *out;
    struct model *model; // of the statement that is being read; NULL between statements
    bool or_replace, if_not_exists;
    int line;              // where the statement starts
    int before, before2;   // the kinds of the token before this one, and of the one before that
    struct sql_token last; // the token before this one
    int n_open_types;      // '<' of types without their '>' so far
    struct flink_option *flink; // of this statement, in their order; owned
    bool dashes;                // an option of this statement is spelled with '-'
    bool failed;           // why is filled
    struct error *why;
};

void sql_begin(struct sql_parser *p, struct sql_token create, struct sql_token name,
               bool or_replace, bool if_not_exists);
// sql_temporary warns: there is nothing like it here.
void sql_temporary(struct sql_parser *p, struct sql_token word);
void sql_comment(struct sql_parser *p, struct sql_token text);
void sql_option(struct sql_parser *p, struct sql_token name, struct sql_token value);
void sql_end(struct sql_parser *p);

// A column as far as it is read.
struct sql_column {
    struct sql_token name, comment; // comment.text.n is 0 when there is none
    struct type *type;              // NULL once something failed
    bool metadata;                  // METADATA stands there
};

// Types as they are read. Each takes the types it is given; NULL in or out: something failed.
//   first, second  the numbers in brackets; NULL: none
struct type *sql_type(struct sql_parser *p, struct sql_token name, const struct sql_token *first,
                      const struct sql_token *second);
struct type *sql_generic(struct sql_parser *p, struct sql_token name, struct type *key,
                         struct type *inner); // ARRAY<inner>: key is NULL; MAP<key, inner>
struct type *sql_row(struct sql_parser *p, struct type *row, struct sql_token name,
                     struct type *field); // row is NULL for the first field
// sql_add_column takes column->type.
void sql_add_column(struct sql_parser *p, struct sql_column *column, bool output);

// sql_fail writes "file:line: sentence" into why, unless something failed before.
void sql_fail(struct sql_parser *p, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// sql_expected writes the sentence for a token that does not fit.
//   want  the n kinds that would
// A string's text is never said, nor a word next to a string: it may be a credential.
void sql_expected(struct sql_parser *p, int kind, struct sql_token got, const int *want, size_t n);

// The parser that lemon makes.
void *model_sqlAlloc(void *(*alloc)(size_t));
void model_sqlFree(void *parser, void (*release)(void *));
void model_sql(void *parser, int kind, struct sql_token token, struct sql_parser *p);

#endif
