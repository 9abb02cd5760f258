// The options of provider http: the template that makes a request and the paths into the answer.
// Invariant: a template that passed names only what a request can be made of, and every option that the
// model gives stands in it. Called by model_check.
#include "common/model_parts.h"

#include "common/jsonpath.h"
#include "common/providers.h"
#include "common/template.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// What a request's template can say, and the option that is lost unless it does.
static const struct {
    const char *name, *option;
} names[] = {
    {"prompt", NULL},
    {"records", NULL},
    {"count", NULL},
    {"model", NULL},
    {"schema", NULL},
    {"system", "system.prompt"},
    {"temperature", "temperature"},
    {"top_p", "top.p"},
    {"max_tokens", "max.tokens"},
    {"seed", "seed"},
    {"stop", "stop"},
};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

struct names_seen {
    bool seen[N_NAMES];
    char bad[64]; // the first that means nothing; empty: none
};

static void on_name(void *arg, struct slice name, bool inside) {
    struct names_seen *seen = arg;
    for (size_t i = 0; i < N_NAMES; i++) {
        if (slice_is(name, names[i].name)) {
            seen->seen[i] = true;
            return;
        }
    }
    if (seen->bad[0] == '\0') {
        slice_copy(name, seen->bad, sizeof(seen->bad));
    }
}

static bool is_seen(const struct names_seen *seen, const char *name) {
    for (size_t i = 0; i < N_NAMES; i++) {
        if (strcmp(names[i].name, name) == 0) {
            return seen->seen[i];
        }
    }
    return false;
}

static int bad_name(const struct names_seen *seen, struct error *why) {
    char list[256];
    size_t used = 0;
    for (size_t i = 0; i < N_NAMES; i++) {
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", names[i].name);
    }
    return error_set(why, -EINVAL, "option 'request.template': got '{{%s}}', want one of: %s", seen->bad, list);
}

static int lost_option(const struct model *model, const char *option, const char *name, int *line,
                       struct error *why) {
    return error_set(why, model_blame(model, option, line),
                     "option '%s': given, but 'request.template' has no {{%s}} that it would go into", option,
                     name);
}

static int check_names(const struct model *model, int *line, struct error *why) {
    struct names_seen seen = {0};
    template_walk(model->request_template, "", on_name, &seen);
    model_blame(model, "request.template", line);
    if (seen.bad[0] != '\0') {
        return bad_name(&seen, why);
    }
    if (!is_seen(&seen, "prompt") && !is_seen(&seen, "records")) {
        return error_set(why, -EINVAL,
                         "option 'request.template': got neither {{prompt}} nor {{records}}, want one of "
                         "them: the request would not hold the records");
    }
    for (size_t i = 0; i < N_NAMES; i++) {
        if (names[i].option != NULL && !seen.seen[i] && model_setting_of(model, names[i].option) != NULL) {
            return lost_option(model, names[i].option, names[i].name, line, why);
        }
    }
    bool required = model->options.structured_output == STRUCTURED_REQUIRED;
    return required && !is_seen(&seen, "schema")
               ? lost_option(model, "structured.output", "schema", line, why)
               : 0;
}

static int check_path(const struct model *model, const char *option, const char *text,
                      struct jsonpath **path, int *line, struct error *why) {
    if (text[0] == '\0') {
        return 0;
    }
    *path = jsonpath_compile(slice_of(text), why);
    if (*path == NULL) {
        error_prefix(why, "option '%s': ", option);
        return model_blame(model, option, line);
    }
    return 0;
}

int model_check_http(struct model *model, int *line, struct error *why) {
    const struct model_options *o = &model->options;
    if (model->api->kind != API_TEMPLATE) {
        return 0;
    }
    if (o->request_template[0] == '\0') {
        return error_set(why, model_blame(model, "request.template", line),
                         "option 'request.template': missing, want for example 'request.template' = "
                         "'{\"prompt\": {{prompt}}}'");
    }
    model->request_template = template_compile(slice_of(o->request_template), why);
    if (model->request_template == NULL) {
        error_prefix(why, "option 'request.template': ");
        return model_blame(model, "request.template", line);
    }
    int rc = model_link_template(model, model->request_template, "request.template", line, why);
    rc = rc != 0 ? rc : check_names(model, line, why);
    rc = rc != 0 ? rc : check_path(model, "answer.path", o->answer_path, &model->answer_path, line, why);
    rc = rc != 0 ? rc
                 : check_path(model, "usage.input.path", o->usage_input_path, &model->usage_input_path,
                              line, why);
    return rc != 0 ? rc
                   : check_path(model, "usage.output.path", o->usage_output_path,
                                &model->usage_output_path, line, why);
}
