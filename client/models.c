// `headrace models`: a coordinator's models: list, show one, create from a file. The coordinator
// answers {"models": [{"name", "revision", "sql"}, ...]}.
#include "client/ask.h"
#include "client/commands.h"
#include "client/setup.h"

#include "common/json.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct models_options {
#define OPTION OPTION_FIELD
#include "client/ask_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(models_options, __VA_ARGS__)
#include "client/ask_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace models",
    .args = "list | show NAME | create FILE",
    .text = "Lists a coordinator's models, shows one as CREATE MODEL, or creates those of a file.",
    .after = "Exit status: 0 done; 2 wrong options, no such model, or statements that were refused; 5 "
             "no answer.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
    .most_args = 2,
};

// get_models asks for all models. Returns the answer's array (free *value), or NULL with why.
static struct json_object *get_models(const struct models_options *options,
                                      struct json_object **value, struct error *why) {
    struct message get = {.kind = MESSAGE_STATUS_GET, .status_get.about = SLICE_LIT("models")};
    int status = ask_json(options->coordinator, &get, options->timeout, value, why);
    struct json_object *models = status == 0 ? json_get(*value, "models") : NULL;
    if (status == 0 && !json_object_is_type(models, json_type_array)) {
        error_set(why, -EPROTO, "the coordinator's answer has no models");
        return NULL;
    }
    return models;
}

static int list(const struct models_options *options) {
    struct error why = {0};
    struct json_object *value = NULL;
    struct json_object *models = get_models(options, &value, &why);
    for (size_t i = 0; models != NULL && i < json_object_array_length(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);
        struct slice name = json_text(json_get(model, "name"));
        printf("%.*s\trevision %lld\n", SLICE_FMT(name),
               (long long)json_object_get_int64(json_get(model, "revision")));
    }
    json_object_put(value);
    return models != NULL ? 0 : client_say(EXIT_PART_LOST, "%s", why.text);
}

static int show(const struct models_options *options, const char *name) {
    struct error why = {0};
    struct json_object *value = NULL;
    struct json_object *models = get_models(options, &value, &why);
    int code = models != NULL ? -1 : client_say(EXIT_PART_LOST, "%s", why.text);
    for (size_t i = 0; models != NULL && i < json_object_array_length(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);
        if (slice_is(json_text(json_get(model, "name")), name)) {
            struct slice sql = json_text(json_get(model, "sql"));
            printf("%.*s\n", SLICE_FMT(sql));
            code = 0;
        }
    }
    json_object_put(value);
    return code >= 0 ? code : client_say(EXIT_BAD_USE, "got no model '%s'; headrace models list", name);
}

static int create(const struct models_options *options, const char *file) {
    struct error why = {0};
    struct statements statements = {0};
    if (file == NULL || *file == '\0') {
        return client_say(EXIT_BAD_USE, "models create: got no file of CREATE MODEL statements, want "
                                        "models create FILE");
    }
    if (setup_load_models(file, &statements, &why) < 0) {
        return client_say(EXIT_BAD_USE, "%s", why.text);
    }
    statements_free(&statements);
    uint64_t n = 0;
    int status = ask_create(options->coordinator, file, options->timeout, &n, &why);
    if (status < 0) {
        return client_say(status == -EPERM ? EXIT_BAD_USE : EXIT_PART_LOST, "%s", why.text);
    }
    printf("%llu model%s created or changed\n", (unsigned long long)n, n == 1 ? "" : "s");
    return 0;
}

int models_main(int argc, char **argv) {
    struct models_options options = {0};
    struct error why = {0};
    const char *args[2] = {NULL, NULL};
    log_setup("models", LOG_WARN);
    int code = EXIT_BAD_USE;
    int n = options_parse(&program, argc, argv, &options, args, &why);
    if (n < 0) {
        client_say(code, "%s", why.text);
    } else if (n == 1 && strcmp(args[0], "list") == 0) {
        code = list(&options);
    } else if (n == 2 && strcmp(args[0], "show") == 0) {
        code = show(&options, args[1]);
    } else if (n >= 1 && strcmp(args[0], "create") == 0 && (n == 1 || *options.file == '\0')) {
        code = create(&options, n == 2 ? args[1] : options.file);
    } else {
        client_say(code, "got 'models %s%s%s', want: headrace models list | show NAME | create FILE",
                   n > 0 ? args[0] : "", n > 1 ? " " : "", n > 1 ? args[1] : "");
    }
    options_free(&program, &options);
    return code;
}
