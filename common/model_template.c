// Templates: compiled, their partials put in place, every name in them looked at. Invariant: a template
// that passed says nothing but what a prompt has, and comes to an end. Called by model_check.c and
// model_http.c.
#include "common/model_parts.h"

#include "common/mem.h"
#include "common/template.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PARTIAL_PREFIX "template."
#define PARTIAL_MAX    262144 // bytes of one

// What a template can say beside INPUT's columns.
static const char *const template_variables[] = {"index",  "count",  "records",
                                                 "schema", "labels", "now"};

// ---- Partials -----------------------------------------------------------------------------------

static const struct template *find_partial(void *arg, struct slice name) {
    const struct model *model = arg;
    for (size_t i = 0; i < model->n_partials; i++) {
        if (slice_is(name, model->partials[i].name)) {
            return model->partials[i].template;
        }
    }
    return NULL;
}

static int link_partials(const struct model *model, struct template *t, const char *option, int *line,
                         struct error *why) {
    if (template_link(t, find_partial, (void *)model, why) == 0) {
        return 0;
    }
    char got[ERROR_MAX];
    snprintf(got, sizeof(got), "%s", why->text);
    return error_set(why, model_blame(model, option, line),
                     "option '%s': %.100s, want a partial that is there: option 'template.NAME' makes one", option,
                     got);
}

int model_link_template(const struct model *model, struct template *t, const char *option, int *line,
                        struct error *why) {
    int rc = link_partials(model, t, option, line, why);
    if (rc != 0) {
        return rc;
    }
    if (template_is_endless(t)) {
        return error_set(why, model_blame(model, option, line),
                         "option '%s': got partials that include one another without end, or too many of them",
                         option);
    }
    return 0;
}

// add_partial compiles one; its names are looked at where it is included.
static int add_partial(struct model *model, const struct model_setting *setting, int *line,
                       struct error *why) {
    *line = setting->line;
    if (strlen(setting->value) > PARTIAL_MAX) {
        return error_set(why, -EINVAL, "option '%s': got %zu bytes, want a Mustache template, 0 to %d bytes",
                         setting->name, strlen(setting->value), PARTIAL_MAX);
    }
    struct template *t = template_compile(slice_of(setting->value), why);
    if (t == NULL) {
        error_prefix(why, "option '%s': ", setting->name);
        return -EINVAL;
    }
    model->partials =
        mem_realloc(model->partials, (model->n_partials + 1) * sizeof(model->partials[0]));
    model->partials[model->n_partials++] = (struct model_partial){
        .name = mem_dup_str(setting->name + strlen(PARTIAL_PREFIX)), .template = t};
    return 0;
}

static int compile_partials(struct model *model, int *line, struct error *why) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < model->n_settings; i++) {
        if (strncmp(model->settings[i].name, PARTIAL_PREFIX, strlen(PARTIAL_PREFIX)) == 0) {
            rc = add_partial(model, &model->settings[i], line, why);
        }
    }
    for (size_t pass = 0; pass < 2; pass++) { // all are linked before any is followed
        for (size_t i = 0; rc == 0 && i < model->n_partials; i++) {
            char option[MODEL_NAME_MAX];
            snprintf(option, sizeof(option), PARTIAL_PREFIX "%s", model->partials[i].name);
            rc = pass == 0 ? link_partials(model, model->partials[i].template, option, line, why)
                           : model_link_template(model, model->partials[i].template, option, line, why);
        }
    }
    return rc;
}

// ---- Names --------------------------------------------------------------------------------------

// Where a template may speak of a record's columns.
enum columns_where { COLUMNS_ANYWHERE, COLUMNS_IN_RECORDS, COLUMNS_NOWHERE };

// What on_template_name looks at.
struct name_check {
    const struct model *model;
    enum columns_where where;
    char bad[64];   // the first name that cannot be used; empty: none
    bool misplaced; // it is a column, where there is no one record
};

static void on_template_name(void *arg, struct slice name, bool in_records) {
    struct name_check *check = arg;
    if (check->bad[0] != '\0' || slice_is(name, ".")) {
        return;
    }
    for (size_t i = 0; i < sizeof(template_variables) / sizeof(template_variables[0]); i++) {
        if (slice_is(name, template_variables[i])) {
            return;
        }
    }
    bool is_column = model_input_index(check->model, name) >= 0;
    bool has_record =
        check->where == COLUMNS_ANYWHERE || (check->where == COLUMNS_IN_RECORDS && in_records);
    if (!is_column || !has_record) {
        slice_copy(name, check->bad, sizeof(check->bad));
        check->misplaced = is_column;
    }
}

// list_names writes what a template may say, cut where it does not fit.
static void list_names(const struct name_check *check, char *out, size_t size) {
    size_t used = 0;
    const char *comma = "";
    for (size_t i = 0; i < sizeof(template_variables) / sizeof(template_variables[0]); i++) {
        used += (size_t)snprintf(out + used, size - used, "%s%s", comma, template_variables[i]);
        comma = ", ";
    }
    for (size_t i = 0; check->where != COLUMNS_NOWHERE && i < check->model->n_input; i++) {
        const char *name = check->model->input[i].name;
        if (used + strlen(name) + sizeof(", ...") > size) {
            snprintf(out + used, size - used, ", ...");
            return;
        }
        used += (size_t)snprintf(out + used, size - used, ", %s", name);
    }
}

static int check_template(const struct model *model, const char *option, const char *text,
                          enum columns_where where, struct template **out, int *line,
                          struct error *why) {
    if (text[0] == '\0') {
        return 0;
    }
    *out = template_compile(slice_of(text), why);
    if (*out == NULL) {
        error_prefix(why, "option '%s': ", option);
        return model_blame(model, option, line);
    }
    if (model_link_template(model, *out, option, line, why) != 0) {
        return -EINVAL;
    }
    struct name_check check = {.model = model, .where = where};
    template_walk(*out, "records", on_template_name, &check);
    if (check.bad[0] == '\0') {
        return 0;
    }
    model_blame(model, option, line);
    if (check.misplaced && where == COLUMNS_NOWHERE) {
        return error_set(
            why, -EINVAL,
            "option '%s': got '{{%s}}', want no column here: with batch.size over 1 the "
            "system prompt stands before many records",
            option, check.bad);
    }
    if (check.misplaced) {
        return error_set(why, -EINVAL,
                         "option '%s': got '{{%s}}' outside of the records, want it between "
                         "{{#records}} and {{/records}}",
                         option, check.bad);
    }
    char names[512];
    list_names(&check, names, sizeof(names));
    return error_set(why, -EINVAL, "option '%s': got '{{%s}}', want one of: %s", option, check.bad,
                     names);
}

int model_check_templates(struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    int rc = compile_partials(model, line, why);
    rc = rc != 0 ? rc
                 : check_template(model, "system.prompt", o->system_prompt,
                            o->batch_size > 1 ? COLUMNS_NOWHERE : COLUMNS_ANYWHERE,
                            &model->system_template, line, why);
    rc = rc != 0 ? rc
                 : check_template(model, "prompt.template", o->prompt_template, COLUMNS_ANYWHERE,
                                  &model->prompt_template, line, why);
    return rc != 0 ? rc
                   : check_template(model, "batch.prompt.template", o->batch_prompt_template,
                                    COLUMNS_IN_RECORDS, &model->batch_template, line, why);
}
