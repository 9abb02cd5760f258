// model: a named object made by CREATE MODEL: INPUT columns, OUTPUT columns, options. Each change
// makes a new revision. A model is checked and compiled once, when it is made, and never changes.
#ifndef HEADRACE_COMMON_MODEL_H
#define HEADRACE_COMMON_MODEL_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/type.h"

#include <stdbool.h>
#include <stdint.h>

struct jsonpath;
struct pattern;
struct provider_api;
struct provider_facts;
struct template;
struct xpath;

#define MODEL_NAME_MAX 128    // bytes of a model's or column's name
#define MODEL_COLUMNS_MAX 64  // INPUT or OUTPUT columns
#define MODEL_BATCH_MAX 1024  // most records of a batch: bound of batch.size

struct column {
    char *name;            // UTF-8, 1..MODEL_NAME_MAX bytes, unique in its list
    enum column_type type;
    bool not_null;
    char *comment;         // NULL when there is none
    struct type *full;     // the whole type; NULL stands for a plain one of `type`
};

// column_full returns a column's whole type; plain is filled in for one that has none.
const struct type *column_full(const struct column *column, struct type *plain);

// Choices, in the order of their names in model_options.def.
enum model_task { TASK_TEXT_GENERATION, TASK_CLASSIFICATION, TASK_EMBEDDING, TASK_CLUSTERING,
                  TASK_REGRESSION };
enum model_mode { MODE_ONLINE, MODE_BATCH, MODE_AUTO };
enum model_null_input { NULL_PASS, NULL_ERROR, NULL_SKIP };             // null.input
enum model_format { FORMAT_JSON, FORMAT_XML, FORMAT_TEXT };           // input.format
enum model_response {                                                 // response.format
    RESPONSE_JSON,
    RESPONSE_TEXT,
    RESPONSE_XML,
    RESPONSE_DELIMITED,
    RESPONSE_REGEX,
};
enum model_structured { STRUCTURED_AUTO, STRUCTURED_OFF, STRUCTURED_REQUIRED };
enum model_fallback { FALLBACK_SPLIT, FALLBACK_SINGLE, FALLBACK_RETRY, FALLBACK_FAIL };
enum model_overflow { OVERFLOW_SPLIT, OVERFLOW_TAIL, OVERFLOW_HEAD, OVERFLOW_ERROR }; // context.overflow
enum model_best_effort { BEST_EFFORT_LONE, BEST_EFFORT_ON, BEST_EFFORT_OFF };
enum model_on_error { ON_ERROR_ROW, ON_ERROR_FAIL, ON_ERROR_DEAD_LETTER };
enum model_priority { PRIORITY_INTERACTIVE, PRIORITY_NORMAL, PRIORITY_BULK, MODEL_PRIORITIES };
enum model_image_links { IMAGE_LINKS_AUTO, IMAGE_LINKS_ON, IMAGE_LINKS_OFF };
enum model_image_detail { IMAGE_DETAIL_AUTO, IMAGE_DETAIL_LOW, IMAGE_DETAIL_HIGH };
enum model_max_tokens_field { MAX_TOKENS_AUTO, MAX_TOKENS_PLAIN, MAX_TOKENS_COMPLETION };

// A COUNT, MS or NUMBER option that was not given and has no default.
#define MODEL_UNSET (-1)

// Fields are made from model_options.def: TEXT, TEMPLATE, PATH, SECRET, JSON: const char * ("" when
// not given); COUNT, MS, BYTES: int64_t (MODEL_UNSET); NUMBER: double (NaN when not given);
// CHOICE: int, one of the enums above; FLAG: int 0 or 1. stop and labels are "" or a JSON array of strings,
// headers and params are "" or a JSON object; response_value_field is "" only with several OUTPUT
// columns.
#define MODEL_C_TEXT const char *
#define MODEL_C_TEMPLATE const char *
#define MODEL_C_PATH const char *
#define MODEL_C_SECRET const char *
#define MODEL_C_JSON const char *
#define MODEL_C_COUNT int64_t
#define MODEL_C_MS int64_t
#define MODEL_C_NUMBER double
#define MODEL_C_CHOICE int
#define MODEL_C_FLAG int
struct model_options {
#define MODEL_OPTION(field, name, type, def, least, most, want, text) MODEL_C_##type field;
#include "common/model_options.def"
#undef MODEL_OPTION
};

// An option as it was written; name is the canonical one.
struct model_setting {
    char *name;
    char *value;
    int line; // of the statement's text, from 1; 0 when it did not come from SQL
};

// What Flink calls metadata columns: what went wrong, beside OUTPUT's own columns. Nobody asks a
// provider for them; each is null in the result of a record that was answered.
enum model_metadata {
    METADATA_ERROR_STRING, // STRING: the error's sentence
    METADATA_HTTP_STATUS,  // INT
    METADATA_HTTP_HEADERS, // MAP<STRING, ARRAY<STRING>>: of the answer
    N_METADATA
};
#define MODEL_HAS(metadata, which) (((metadata) & 1u << (which)) != 0)
const char *model_metadata_name(enum model_metadata which); // "error-string", ...

// A template that others include as {{> name}}.
struct model_partial {
    char *name;                // behind "template."
    struct template *template; // never NULL
};

struct model {
    char *name;
    char *comment;                  // NULL when there is none
    uint32_t revision;              // 0 until the catalog gives one
    struct column *input, *output;
    size_t n_input, n_output;
    size_t n_images;                // INPUT columns of IMAGE
    unsigned metadata;              // bits of enum model_metadata: those that OUTPUT declares
    struct model_setting *settings; // what was written, sorted by name
    size_t n_settings;
    struct model_options options;   // the same, parsed, with defaults filled in
    struct template *system_template, *prompt_template, *batch_template; // NULL when not given
    struct jsonpath *response_path;   // of response.path, for json; NULL otherwise
    struct xpath *response_xpath;     // of response.path, for xml
    struct pattern *response_pattern; // of response.pattern, for regex
    struct model_partial *partials;   // of the options template.NAME, sorted by name
    size_t n_partials;
    struct template *request_template; // of the option of that name; NULL unless the provider is http
    struct jsonpath *answer_path, *usage_input_path, *usage_output_path; // the same
    char **labels;                    // of labels: what the first OUTPUT column may be
    size_t n_labels;                  // 0: anything
    struct slice defaults;            // of default.value: msgpack array, one value per OUTPUT column; owned; empty: none
    const struct provider_facts *provider; // of option 'provider': a row of providers.def
    const struct provider_api *api;        // the API that its calls go to
};

void model_free(struct model *model); // model may be NULL

enum statement_kind { STATEMENT_CREATE_MODEL };

// One parsed statement. A CREATE MODEL holds a whole, checked model.
struct statement {
    enum statement_kind kind;
    int line;             // where it starts, from 1
    bool if_not_exists, or_replace;
    struct model *model;  // owned
};

struct statements {
    struct statement *items;
    size_t n;
    char **warnings; // "models.sql:7: option 'priority': ...", one for each thing that is left out
    size_t n_warnings;
};

// model_sql_parse reads any number of statements, separated by ';', and checks each one whole:
// names, types, options, templates, path, credentials that are not ${NAME}.
//   text  UTF-8 SQL
//   file  stands before the line in why ("models.sql:7: option 'batch.size': got ..., want ...")
// What Flink's own statements say and has no meaning here is left out with a warning (docs/flink.md).
// Returns 0 and fills out (free with statements_free), or -EINVAL with why; out is then empty.
MUST_CHECK int model_sql_parse(struct slice text, const char *file, struct statements *out,
                               struct error *why);
void statements_free(struct statements *list);

// model_override makes a copy with other option values (the MAP[...] of one submission).
//   settings  n pairs; names may be aliases
// Returns the new model with the same name and revision, or NULL with why.
struct model *model_override(const struct model *model, const struct model_setting *settings, size_t n,
                             struct error *why);

// model_to_sql appends a CREATE MODEL statement that parses to the same model: the form that is kept
// in Redis, sent to workers and shown. Secrets stand as ${NAME}. Returns 0 or -EMSGSIZE.
MUST_CHECK int model_to_sql(const struct model *model, struct buf *out);

// model_secrets calls each for every ${NAME} in the options. Stops at and returns the first
// non-zero value.
int model_secrets(const struct model *model, int (*each)(void *arg, struct slice name), void *arg);

// model_check_fallback says whether another model can stand in for one: whatever the one is asked it can be
// asked too, and its answers fit the one's OUTPUT, both column by column. Returns 0, or -EINVAL with why.
MUST_CHECK int model_check_fallback(const struct model *model, const struct model *other, struct error *why);

// model_check_chain follows option fallback.model: each model that it comes to is there, stands in for the
// first, and is none of those before it, and they are at most MODEL_CHAIN_MAX.
//   find  finds a model by name; NULL: there is none
// Returns 0; -EINVAL or, of one that is not there, -ENOENT with why.
#define MODEL_CHAIN_MAX 4 // models of one chain, the first among them
typedef const struct model *model_find_fn(void *arg, struct slice name);
MUST_CHECK int model_check_chain(const struct model *model, model_find_fn *find, void *arg, struct error *why);

// model_input_index returns the position of an INPUT column by name, or -1.
int model_input_index(const struct model *model, struct slice name);

#endif
