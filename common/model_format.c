// What an answer looks like: response.format and the options that belong to it. Invariant: a format
// that passed can carry every OUTPUT column of every record of a batch. Called by model_check.c.
#include "common/model_parts.h"

#include "common/json.h"
#include "common/jsonpath.h"
#include "common/mem.h"
#include "common/pattern.h"
#include "common/xpath.h"

#include <string.h>

// check_text: a text is one value of one record.
static int check_text(const struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (o->batch_size > 1) {
        return error_set(
            why, model_blame(model, "batch.size", line),
            "option 'batch.size': got %lld with 'response.format' = 'text', want 1, or "
            "'response.format' = 'json': an answer for several records must carry an index",
            (long long)o->batch_size);
    }
    if (model->n_output > 1) {
        return error_set(
            why, model_blame(model, "response.format", line),
            "option 'response.format': got 'text' with %zu OUTPUT columns, want 'json': a "
            "text is one value",
            model->n_output);
    }
    return 0;
}

// check_unused refuses an option that its format does not look at.
static int check_unused(const struct model *model, int *line, struct error *why) {
    static const struct {
        const char *name, *format;
        int response;
    } owners[] = {{"response.pattern", "regex", RESPONSE_REGEX},
                  {"response.delimiter", "delimited", RESPONSE_DELIMITED},
                  {"response.quote", "delimited", RESPONSE_DELIMITED}};
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
        if (model_setting_of(model, owners[i].name) != NULL &&
            model->options.response_format != owners[i].response) {
            return error_set(why, model_blame(model, owners[i].name, line),
                             "option '%s': got a value without 'response.format' = '%s', which "
                             "alone uses it",
                             owners[i].name, owners[i].format);
        }
    }
    return 0;
}

static int check_delimited(const struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (o->response_quote[0] != '\0' && strchr(o->response_delimiter, o->response_quote[0]) != NULL) {
        return error_set(why, model_blame(model, "response.quote", line),
                         "option 'response.quote': got '%s', which 'response.delimiter' holds too, "
                         "want another",
                         o->response_quote);
    }
    if (strpbrk(o->response_delimiter, "\r\n") != NULL || (o->response_quote[0] & 0x80) != 0 ||
        strpbrk(o->response_quote, "\r\n") != NULL) {
        return error_set(why, model_blame(model, "response.delimiter", line),
                         "option 'response.delimiter': got a line break or a quote that is not "
                         "ASCII, want text within a line");
    }
    return 0;
}

// check_null_input: a record that is skipped has null in every OUTPUT column.
static int check_null_input(const struct model *model, int *line, struct error *why) {
    for (size_t i = 0; model->options.null_input == NULL_SKIP && i < model->n_output; i++) {
        if (model->output[i].not_null) {
            return error_set(why, model_blame(model, "null.input", line),
                             "option 'null.input': got 'skip' with OUTPUT column '%s' NOT NULL, want "
                             "'pass' or 'error', or columns that may be null",
                             model->output[i].name);
        }
    }
    return 0;
}

int model_check_format(const struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    int rc = check_unused(model, line, why);
    rc = rc != 0 ? rc : check_null_input(model, line, why);
    if (rc != 0 || o->response_format == RESPONSE_JSON) {
        return rc;
    }
    if (o->structured_output == STRUCTURED_REQUIRED) {
        const struct model_setting *format = model_setting_of(model, "response.format");
        return error_set(why, model_blame(model, "structured.output", line),
                         "option 'structured.output': got 'required' with 'response.format' = "
                         "'%.16s', want 'json'",
                         format != NULL ? format->value : "");
    }
    if (o->response_format == RESPONSE_TEXT) {
        return check_text(model, line, why);
    }
    return o->response_format == RESPONSE_DELIMITED ? check_delimited(model, line, why) : 0;
}

// want_group refuses a pattern without a group for a field.
static int want_group(const struct model *model, const char *field, int *line, struct error *why) {
    if (pattern_group(model->response_pattern, field) > 0) {
        return 0;
    }
    return error_set(why, model_blame(model, "response.pattern", line),
                     "option 'response.pattern': got no group '%.60s', want (?<%.60s>...) in it: "
                     "each field is read from the group of its name",
                     field, field);
}

static int check_pattern(struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (o->response_pattern[0] == '\0') {
        return error_set(why, model_blame(model, "response.format", line),
                         "option 'response.pattern': missing, want for example "
                         "'response.pattern' = '^(?<index>\\d+): (?<label>.*)$'");
    }
    model->response_pattern = pattern_compile(slice_of(o->response_pattern), PATTERN_LINES, why);
    if (model->response_pattern == NULL) {
        error_prefix(why, "option 'response.pattern': ");
        return model_blame(model, "response.pattern", line);
    }
    if (o->batch_size > 1 && o->batch_prompt_template[0] == '\0') {
        return error_set(why, model_blame(model, "response.format", line),
                         "option 'batch.prompt.template': missing, want one with "
                         "'response.format' = 'regex': only it can say what answer is wanted");
    }
    int rc = o->batch_size > 1 ? want_group(model, o->response_index_field, line, why) : 0;
    for (size_t i = 0; rc == 0 && i < model->n_output; i++) {
        rc = want_group(model, model->n_output == 1 ? o->response_value_field : model->output[i].name,
                        line, why);
    }
    return rc;
}

int model_check_path(struct model *model, int *line, struct error *why) {
    const char *text = model->options.response_path;
    bool given = model_setting_of(model, "response.path") != NULL;
    switch (model->options.response_format) {
    case RESPONSE_JSON:
        model->response_path = jsonpath_compile(slice_of(text), why);
        break;
    case RESPONSE_XML:
        model->response_xpath = xpath_compile(slice_of(given ? text : "/*/*"), why);
        break;
    case RESPONSE_REGEX:
        return check_pattern(model, line, why);
    default:
        return 0;
    }
    if (model->response_path == NULL && model->response_xpath == NULL) {
        error_prefix(why, "option 'response.path': ");
        return model_blame(model, "response.path", line);
    }
    return 0;
}

// ---- Tasks --------------------------------------------------------------------------------------

#define LABELS_MAX 512

static int bad_labels(const struct model *model, const char *got, int *line, struct error *why) {
    return error_set(why, model_blame(model, "labels", line),
                     "option 'labels': got %s, want 1 to %d different strings that are not empty, as "
                     "[\"positive\", \"negative\"] or positive,negative",
                     got, LABELS_MAX);
}

// add_label adds one. Labels that differ in case alone are the same.
static bool add_label(struct model *model, struct slice text) {
    text = slice_trim(text);
    for (size_t i = 0; i < model->n_labels; i++) {
        if (slice_is_nocase(text, model->labels[i])) {
            return false;
        }
    }
    if (text.n == 0 || memchr(text.p, '\0', text.n) != NULL) {
        return false;
    }
    model->labels[model->n_labels++] = slice_dup(text);
    return true;
}

static int read_labels(struct model *model, int *line, struct error *why) {
    struct json_object *list = NULL;
    int rc = json_parse(slice_of(model->options.labels), &list, NULL);
    size_t n = rc == 0 && json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    if (n == 0 || n > LABELS_MAX) {
        json_object_put(list);
        return bad_labels(model, "something else", line, why);
    }
    model->labels = mem_zalloc(n * sizeof(model->labels[0]));
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (!add_label(model, json_text(json_object_array_get_idx(list, i)))) {
            rc = bad_labels(model, "one that is empty, no string, or there already", line, why);
        }
    }
    json_object_put(list);
    return rc;
}

int model_check_task(struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    const struct column *column = &model->output[0];
    bool number = column->type >= TYPE_INT && column->type <= TYPE_DECIMAL;
    if (o->task == TASK_REGRESSION && !number) {
        return error_set(why, model_blame(model, "task", line),
                         "option 'task': got 'regression' with OUTPUT column '%s' %s, want a number: INT, "
                         "BIGINT, FLOAT, DOUBLE or DECIMAL",
                         column->name, column_type_name(column->type));
    }
    if (o->labels[0] == '\0') {
        return 0;
    }
    if (o->task != TASK_CLASSIFICATION || column->type != TYPE_STRING) {
        return error_set(why, model_blame(model, "labels", line),
                         "option 'labels': got a value %s, want it with 'task' = 'classification' and "
                         "a first OUTPUT column of STRING",
                         o->task != TASK_CLASSIFICATION ? "for another task" : "for another type");
    }
    return read_labels(model, line, why);
}
