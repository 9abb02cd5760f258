// A model's life: made by model_sql_parse or model_override, checked whole (model_check.c), written
// back as SQL. Invariant: settings are sorted by name and each option stands there once.
#include "common/model_parts.h"

#include "common/jsonpath.h"
#include "common/mem.h"
#include "common/pattern.h"
#include "common/template.h"
#include "common/xpath.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct type *column_full(const struct column *column, struct type *plain) {
    *plain = (struct type){.kind = column->type, .not_null = column->not_null};
    return column->full != NULL ? column->full : plain;
}

static void free_columns(struct column *columns, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(columns[i].name);
        free(columns[i].comment);
        type_free(columns[i].full);
    }
    free(columns);
}

void model_free(struct model *model) {
    if (model == NULL) {
        return;
    }
    free(model->name);
    free(model->comment);
    free_columns(model->input, model->n_input);
    free_columns(model->output, model->n_output);
    for (size_t i = 0; i < model->n_settings; i++) {
        free(model->settings[i].name);
        free(model->settings[i].value);
    }
    free(model->settings);
    template_free(model->system_template);
    template_free(model->prompt_template);
    template_free(model->batch_template);
    template_free(model->request_template);
    for (size_t i = 0; i < model->n_partials; i++) {
        free(model->partials[i].name);
        template_free(model->partials[i].template);
    }
    free(model->partials);
    jsonpath_free(model->answer_path);
    jsonpath_free(model->usage_input_path);
    jsonpath_free(model->usage_output_path);
    jsonpath_free(model->response_path);
    xpath_free(model->response_xpath);
    pattern_free(model->response_pattern);
    for (size_t i = 0; i < model->n_labels; i++) {
        free(model->labels[i]);
    }
    free(model->labels);
    free((char *)model->defaults.p);
    free(model);
}

static int set_named(struct model *model, const char *name, char *value, int line, struct error *why) {
    size_t i = 0;
    while (i < model->n_settings && strcmp(model->settings[i].name, name) < 0) {
        i++;
    }
    if (i < model->n_settings && strcmp(model->settings[i].name, name) == 0) {
        free(value);
        int first = model->settings[i].line;
        return first > 0
                   ? error_set(why, -EINVAL,
                               "option '%s': given twice, first in line %d and again in line %d",
                               name, first, line)
                   : error_set(why, -EINVAL, "option '%s': given twice", name);
    }
    model->settings =
        mem_realloc(model->settings, (model->n_settings + 1) * sizeof(model->settings[0]));
    memmove(model->settings + i + 1, model->settings + i,
            (model->n_settings - i) * sizeof(model->settings[0]));
    model->settings[i] =
        (struct model_setting){.name = mem_dup_str(name), .value = value, .line = line};
    model->n_settings++;
    return 0;
}

int model_set(struct model *model, const struct option_row *row, char *value, int line,
              struct error *why) {
    return set_named(model, row->name, value, line, why);
}

int model_set_option(struct model *model, struct slice name, struct slice value, int line,
                     struct error *why) {
    char own[MODEL_NAME_MAX];
    struct slice partial;
    if (option_partial(name, &partial)) {
        snprintf(own, sizeof(own), "template.%.*s", SLICE_FMT(partial));
        return slice_utf8_error(value) >= 0
                   ? error_set(why, -EINVAL, "option '%s': got bytes that are not UTF-8, want text", own)
                   : set_named(model, own, slice_dup(value), line, why);
    }
    const struct option_row *row = option_find(name, why);
    if (row == NULL) {
        return -EINVAL;
    }
    if (slice_utf8_error(value) >= 0) {
        return error_set(why, -EINVAL, "option '%s': got bytes that are not UTF-8, want text", row->name);
    }
    return model_set(model, row, option_canonical(row, value), line, why);
}

// ---- Override -----------------------------------------------------------------------------------

static struct column *copy_columns(const struct column *from, size_t n) {
    struct column *to = mem_zalloc(n * sizeof(to[0]));
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        to[i].name = mem_dup_str(from[i].name);
        to[i].full = type_copy(from[i].full);
        to[i].comment = from[i].comment != NULL ? mem_dup_str(from[i].comment) : NULL;
    }
    return to;
}

// add_overrides puts the new settings into an empty list of the copy.
static int add_overrides(struct model *copy, const struct model_setting *settings, size_t n,
                         struct error *why) {
    for (size_t i = 0; i < n; i++) {
        if (model_set_option(copy, slice_of(settings[i].name), slice_of(settings[i].value), 0, why) != 0) {
            return -EINVAL;
        }
    }
    return 0;
}

static bool has_setting(const struct model *model, const char *name) {
    for (size_t i = 0; i < model->n_settings; i++) {
        if (strcmp(model->settings[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

struct model *model_override(const struct model *model, const struct model_setting *settings,
                             size_t n, struct error *why) {
    struct model *copy = mem_zalloc(sizeof(*copy));
    copy->name = mem_dup_str(model->name);
    copy->comment = model->comment != NULL ? mem_dup_str(model->comment) : NULL;
    copy->revision = model->revision;
    copy->input = copy_columns(model->input, model->n_input);
    copy->n_input = model->n_input;
    copy->output = copy_columns(model->output, model->n_output);
    copy->n_output = model->n_output;
    copy->metadata = model->metadata;
    int line;
    int rc = add_overrides(copy, settings, n, why);
    for (size_t i = 0; rc == 0 && i < model->n_settings; i++) {
        const struct model_setting *old = &model->settings[i];
        if (!has_setting(copy, old->name)) {
            rc = set_named(copy, old->name, mem_dup_str(old->value), old->line, why);
        }
    }
    if (rc != 0 || model_check(copy, &line, why) != 0) {
        model_free(copy);
        return NULL;
    }
    return copy;
}

// ---- Back to SQL --------------------------------------------------------------------------------

// add_quoted writes text between two quotes, a quote inside twice.
static int add_quoted(struct buf *out, const char *text, char quote) {
    int rc = buf_add_byte(out, quote);
    for (const char *p = text; rc == 0 && *p != '\0'; p++) {
        rc = *p == quote ? buf_add_byte(out, quote) : 0;
        rc = rc != 0 ? rc : buf_add_byte(out, *p);
    }
    return rc != 0 ? rc : buf_add_byte(out, quote);
}

static int add_comment(struct buf *out, const char *comment) {
    if (comment == NULL) {
        return 0;
    }
    int rc = buf_add_str(out, " COMMENT ");
    return rc != 0 ? rc : add_quoted(out, comment, '\'');
}

const char *model_metadata_name(enum model_metadata which) {
    static const char *const names[N_METADATA] = {[METADATA_ERROR_STRING] = "error-string",
                                                  [METADATA_HTTP_STATUS] = "http-status-code",
                                                  [METADATA_HTTP_HEADERS] = "http-headers-map"};
    return names[which];
}

static int add_metadata(struct buf *out, unsigned metadata) {
    static const char *const types[N_METADATA] = {
        [METADATA_ERROR_STRING] = "STRING",
        [METADATA_HTTP_STATUS] = "INT",
        [METADATA_HTTP_HEADERS] = "MAP<STRING, ARRAY<STRING>>"};
    int rc = 0;
    for (int i = 0; rc == 0 && i < N_METADATA; i++) {
        if (MODEL_HAS(metadata, i)) {
            rc = buf_addf(out, ", `%s` %s METADATA", model_metadata_name(i), types[i]);
        }
    }
    return rc;
}

static int add_columns(struct buf *out, const char *word, const struct column *columns, size_t n,
                       unsigned metadata) {
    int rc = buf_addf(out, "\n%s (", word);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = buf_add_str(out, i > 0 ? ", " : "");
        rc = rc != 0 ? rc : add_quoted(out, columns[i].name, '`');
        struct type plain;
        rc = rc != 0 ? rc : buf_add_byte(out, ' ');
        rc = rc != 0 ? rc : type_add_text(column_full(&columns[i], &plain), out);
        rc = rc != 0 ? rc : buf_add_str(out, columns[i].not_null ? " NOT NULL" : "");
        rc = rc != 0 ? rc : add_comment(out, columns[i].comment);
    }
    rc = rc != 0 ? rc : add_metadata(out, metadata);
    return rc != 0 ? rc : buf_add_byte(out, ')');
}

static int add_settings(struct buf *out, const struct model *model) {
    int rc = buf_add_str(out, "\nWITH (");
    for (size_t i = 0; rc == 0 && i < model->n_settings; i++) {
        rc = buf_add_str(out, i > 0 ? ",\n  " : "\n  ");
        rc = rc != 0 ? rc : add_quoted(out, model->settings[i].name, '\'');
        rc = rc != 0 ? rc : buf_add_str(out, " = ");
        rc = rc != 0 ? rc : add_quoted(out, model->settings[i].value, '\'');
    }
    return rc != 0 ? rc : buf_add_str(out, "\n);\n");
}

int model_to_sql(const struct model *model, struct buf *out) {
    int rc = buf_add_str(out, "CREATE MODEL ");
    rc = rc != 0 ? rc : add_quoted(out, model->name, '`');
    rc = rc != 0 ? rc : add_columns(out, "INPUT", model->input, model->n_input, 0);
    rc = rc != 0 ? rc : add_columns(out, "OUTPUT", model->output, model->n_output, model->metadata);
    if (rc == 0 && model->comment != NULL) {
        rc = buf_add_str(out, "\nCOMMENT ");
        rc = rc != 0 ? rc : add_quoted(out, model->comment, '\'');
    }
    return rc != 0 ? rc : add_settings(out, model);
}

// ---- Questions ----------------------------------------------------------------------------------

static bool is_name_start(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

int secret_next(struct slice text, size_t *at, struct slice *name) {
    for (size_t i = *at; i + 1 < text.n; i++) {
        if (text.p[i] != '$' || text.p[i + 1] != '{') {
            continue;
        }
        size_t end = i + 2;
        while (end < text.n && (is_name_start(text.p[end]) ||
                                (end > i + 2 && text.p[end] >= '0' && text.p[end] <= '9'))) {
            end++;
        }
        if (end == i + 2 || end == text.n || text.p[end] != '}') {
            return -EINVAL;
        }
        *name = slice_sub(text, i + 2, end - i - 2);
        *at = end + 1;
        return 1;
    }
    *at = text.n;
    return 0;
}

int model_secrets(const struct model *model, int (*each)(void *arg, struct slice name), void *arg) {
    const char *texts[] = {model->options.api_key, model->options.headers};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct slice name;
        size_t at = 0;
        while (secret_next(slice_of(texts[i]), &at, &name) == 1) {
            int rc = each(arg, name);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

int model_input_index(const struct model *model, struct slice name) {
    for (size_t i = 0; i < model->n_input; i++) {
        if (slice_is(name, model->input[i].name)) {
            return (int)i;
        }
    }
    return -1;
}
