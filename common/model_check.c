// The whole of a model, checked once: options against their bounds and against each other, columns,
// credentials, JSON. Invariant: a model that passed can be called without another check.
// Called by model_sql_read.c and model_override.
#include "common/batch_api.h"
#include "common/limit_profile.h"
#include "common/model_parts.h"

#include "common/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

// Columns that a result has beside OUTPUT's (proto/record.h).
static const char *const result_columns[] = {"id", "key", "producer", "seq", "error", "meta"};

int model_check_name(const char *what, struct slice name, struct error *why) {
    if (name.n == 0 || name.n > MODEL_NAME_MAX) {
        return error_set(why, -EINVAL, "%s: got a name of %zu bytes, want 1 to %d", what, name.n,
                         MODEL_NAME_MAX);
    }
    for (size_t i = 0; i < name.n; i++) {
        if ((unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7f) {
            return error_set(why, -EINVAL,
                             "%s: got a name with a control character in it, want text", what);
        }
    }
    return 0;
}

int model_check_column(const struct column *list, size_t n, struct slice name, bool output,
                       struct error *why) {
    const char *what = output ? "OUTPUT" : "INPUT";
    if (model_check_name(what, name, why) != 0) {
        return -EINVAL;
    }
    if (n >= MODEL_COLUMNS_MAX) {
        return error_set(why, -EINVAL, "%s: got more than %d columns", what, MODEL_COLUMNS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (slice_is(name, list[i].name)) {
            return error_set(why, -EINVAL, "%s: column '%.*s' stands there twice", what,
                             SLICE_FMT(name));
        }
    }
    for (size_t i = 0; output && i < sizeof(result_columns) / sizeof(result_columns[0]); i++) {
        if (slice_is(name, result_columns[i])) {
            return error_set(
                why, -EINVAL,
                "OUTPUT: column '%.*s' has a name that results use themselves (id, key, "
                "producer, seq, error, meta), want another",
                SLICE_FMT(name));
        }
    }
    return 0;
}

const struct model_setting *model_setting_of(const struct model *model, const char *name) {
    for (size_t i = 0; i < model->n_settings; i++) {
        if (strcmp(model->settings[i].name, name) == 0) {
            return &model->settings[i];
        }
    }
    return NULL;
}

int model_blame(const struct model *model, const char *name, int *line) {
    const struct model_setting *setting = model_setting_of(model, name);
    *line = setting != NULL ? setting->line : 0;
    return -EINVAL;
}

// ---- Each option --------------------------------------------------------------------------------

static int read_options(struct model *model, int *line, struct error *why) {
    size_t n;
    const struct option_row *rows = option_rows(&n);
    for (size_t i = 0; i < n; i++) {
        const struct model_setting *setting = model_setting_of(model, rows[i].name);
        const char *value = setting != NULL ? setting->value : rows[i].def;
        if (option_read(&rows[i], value, &model->options, why) != 0) {
            return model_blame(model, rows[i].name, line);
        }
    }
    struct model_options *o = &model->options;
    if (o->batch_max_tokens == MODEL_UNSET && o->context_size != MODEL_UNSET) { // a batch has to fit in, too
        int64_t answer = o->max_tokens != MODEL_UNSET && o->max_tokens < o->context_size ? o->max_tokens : 0;
        o->batch_max_tokens = o->context_size - answer;
    }
    return 0;
}

// check_endpoint wants scheme://host...; the URL is never repeated: it may hold a credential.
static int check_endpoint(const struct model *model, int *line, struct error *why) {
    const char *url = model->options.endpoint;
    size_t scheme = strncasecmp(url, "http://", 7) == 0    ? 7
                    : strncasecmp(url, "https://", 8) == 0 ? 8
                                                           : 0;
    size_t host = strcspn(url + scheme, "/?#");
    bool bad_byte = false;
    for (const char *p = url; *p != '\0'; p++) {
        bad_byte = bad_byte || (unsigned char)*p <= ' ' || *p == 0x7f;
    }
    const char *fault = scheme == 0 ? "got no http:// or https:// at its start"
                        : host == 0 ? "got no host"
                        : bad_byte  ? "got a space or control character in it"
                        : memchr(url + scheme, '@', host) != NULL
                            ? "got a user name or password in it (use api_key or headers)"
                        : strstr(url, "${") != NULL
                            ? "got ${...} in it (only api_key and headers may hold that)"
                            : NULL;
    if (fault == NULL || url[0] == '\0') {
        return 0;
    }
    return error_set(why, model_blame(model, "endpoint", line),
                     "option 'endpoint': %s, want an http:// or https:// URL", fault);
}

// ---- Credentials --------------------------------------------------------------------------------

static int check_api_key(const struct model *model, int *line, struct error *why) {
    struct slice text = slice_of(model->options.api_key), name;
    size_t at = 0;
    if (text.n == 0) {
        return 0; // a server of one's own may want none
    }
    if (secret_next(text, &at, &name) == 1 && at == text.n && name.n + 3 == text.n) {
        return 0;
    }
    return error_set(
        why, model_blame(model, "api_key", line),
        "option 'api_key': got a literal value (not repeated here), want the name of an "
        "environment variable or secret, as ${OPENAI_API_KEY}");
}

// is_credential says whether a header of this name carries one.
static bool is_credential(const char *header) {
    static const char *const words[] = {"auth", "key", "token", "secret", "password", "cookie"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (slice_has_nocase(slice_of(header), words[i])) {
            return true;
        }
    }
    return false;
}

// is_token is RFC 9110 section 5.6.2: what a header's name may be made of.
static bool is_token(const char *name) {
    if (name[0] == '\0') {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("!#$%&'*+-.^_`|~", *p) == NULL) {
            return false;
        }
    }
    return true;
}

// header_fault returns the end of a sentence, or NULL for a header that can be sent.
static const char *header_fault(const char *name, struct json_object *value) {
    if (!is_token(name)) {
        return "has a name that HTTP does not allow";
    }
    if (!json_object_is_type(value, json_type_string)) {
        return "is not a string";
    }
    struct slice text = json_text(value), secret;
    for (size_t i = 0; i < text.n; i++) {
        if (((unsigned char)text.p[i] < 0x20 && text.p[i] != '\t') || text.p[i] == 0x7f) {
            return "has a control character in it";
        }
    }
    size_t at = 0;
    int n_secrets = 0, rc;
    while ((rc = secret_next(text, &at, &secret)) == 1) {
        n_secrets++;
    }
    if (rc != 0) {
        return "has a ${ that is not ${NAME}";
    }
    if (n_secrets == 0 && is_credential(name)) {
        return "has a literal value (not repeated here), want the credential as ${NAME}";
    }
    return NULL;
}

static int check_headers(const struct model *model, int *line, struct error *why) {
    if (model->options.headers[0] == '\0') {
        return 0;
    }
    struct json_object *value = NULL;
    int rc = json_parse(slice_of(model->options.headers), &value, NULL);
    if (rc != 0 || !json_object_is_type(value, json_type_object)) {
        json_object_put(value);
        return error_set(why, model_blame(model, "headers", line),
                         "option 'headers': got something else, want a JSON object of strings, as "
                         "{\"X-Team\": \"reviews\"}");
    }
    json_object_object_foreach(value, name, header) {
        const char *fault = header_fault(name, header);
        if (fault != NULL) {
            rc = error_set(why, model_blame(model, "headers", line), "option 'headers': '%.60s' %s", name,
                           fault);
            break;
        }
    }
    json_object_put(value);
    return rc;
}

// ---- JSON ---------------------------------------------------------------------------------------

static int check_params(const struct model *model, int *line, struct error *why) {
    struct json_object *value = NULL;
    if (model->options.params[0] == '\0') {
        return 0;
    }
    if (json_parse(slice_of(model->options.params), &value, why) != 0) {
        error_prefix(why, "option 'params': not JSON: ");
        return model_blame(model, "params", line);
    }
    bool is_object = json_object_is_type(value, json_type_object);
    json_object_put(value);
    if (!is_object) {
        return error_set(why, model_blame(model, "params", line),
                         "option 'params': got JSON of another type, want an object, as "
                         "{\"reasoning_effort\": \"none\"}");
    }
    return 0;
}

static int check_stop(const struct model *model, int *line, struct error *why) {
    struct json_object *value = NULL;
    if (model->options.stop[0] == '\0') {
        return 0;
    }
    int rc = json_parse(slice_of(model->options.stop), &value, NULL);
    bool good = rc == 0 && json_object_is_type(value, json_type_array) &&
                json_object_array_length(value) > 0;
    for (size_t i = 0; good && i < json_object_array_length(value); i++) {
        good = json_text(json_object_array_get_idx(value, i)).n > 0;
    }
    json_object_put(value);
    return good ? 0
                : error_set(
                      why, model_blame(model, "stop", line),
                      "option 'stop': got something else, want a JSON array of strings that are "
                      "not empty, as [\"END\", \"###\"], or strings with commas between");
}

// ---- Options against each other -----------------------------------------------------------------

static int check_profile(const struct model *model, int *line, struct error *why) {
    const char *name = model->options.limit_profile;
    if (name[0] == '\0' || limit_profile_find(slice_of(name)) != NULL) {
        return 0;
    }
    struct buf names;
    buf_init(&names, 1024);
    int rc = limit_profile_names(&names);
    rc = rc != 0 ? rc : model_blame(model, "limit.profile", line);
    rc = error_set(why, rc, "limit.profile: got '%s', want %.*s", name, SLICE_FMT(buf_slice(&names)));
    buf_free(&names);
    return rc;
}

static int check_fields(struct model *model, int *line, struct error *why) {
    struct model_options *o = &model->options;
    if (model->n_output > 1 && o->response_value_field[0] != '\0') {
        return error_set(
            why, model_blame(model, "response.value.field", line),
            "option 'response.value.field': got '%.60s' with %zu OUTPUT columns, want it "
            "left out: each column is read by its own name",
            o->response_value_field, model->n_output);
    }
    if (model->n_output == 1 && o->response_value_field[0] == '\0') {
        o->response_value_field = model->output[0].name;
    }
    if (o->batch_size > 1 && model_input_index(model, SLICE_LIT("index")) >= 0) {
        return error_set(
            why, model_blame(model, "batch.size", line),
            "INPUT: column 'index' has the name of a record's number in a prompt, want "
            "another name, or 'batch.size' = '1'");
    }
    for (size_t i = 0; o->batch_size > 1 && i < model->n_output; i++) {
        const char *field = model->n_output == 1 ? o->response_value_field : model->output[i].name;
        if (strcmp(field, o->response_index_field) == 0) {
            return error_set(why, model_blame(model, "response.index.field", line),
                             "option 'response.index.field': got '%.60s', which is where an OUTPUT "
                             "column's value is too, want another name",
                             field);
        }
    }
    return 0;
}

// check_columns: a row's results stand beside its input.
static int check_columns(const struct model *model, struct error *why) {
    if (model->n_output == 0) {
        return error_set(why, -EINVAL, "OUTPUT: got error columns only, want a column for the answer");
    }
    for (size_t i = 0; i < model->n_output; i++) {
        if (model_input_index(model, slice_of(model->output[i].name)) >= 0) {
            return error_set(why, -EINVAL,
                             "OUTPUT: column '%s' is an INPUT column too, want another name: a row holds both",
                             model->output[i].name);
        }
    }
    return 0;
}

// check_mode wants a provider that has a batch API for jobs.
static int check_mode(const struct model *model, int *line, struct error *why) {
    static const enum provider_id having[] = {
#define BATCH_API(ID, name, rows, bytes, inline, hours, TAG) PROVIDER_##ID,
#include "common/batch_apis.def"
#undef BATCH_API
    };
    if (model->options.mode == MODE_ONLINE || batch_api_of(model) != NULL) {
        return 0;
    }
    char list[256];
    size_t used = 0;
    for (size_t i = 0; i < sizeof(having) / sizeof(having[0]); i++) {
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "",
                                 provider_facts_of(having[i])->name);
    }
    return error_set(why, model_blame(model, "mode", line),
                     "option 'mode': got '%s' with the provider %s, which has no batch API, want 'online', or "
                     "one of the providers %s",
                     model->options.mode == MODE_BATCH ? "batch" : "auto", model->provider->name, list);
}

int model_check(struct model *model, int *line, struct error *why) {
    *line = 0;
    int rc = check_columns(model, why);
    rc = rc != 0 ? rc : read_options(model, line, why);
    rc = rc != 0 ? rc : check_endpoint(model, line, why);
    rc = rc != 0 ? rc : model_check_provider(model, line, why);
    rc = rc != 0 ? rc : check_mode(model, line, why);
    rc = rc != 0 ? rc : check_api_key(model, line, why);
    rc = rc != 0 ? rc : check_headers(model, line, why);
    rc = rc != 0 ? rc : check_params(model, line, why);
    rc = rc != 0 ? rc : check_stop(model, line, why);
    rc = rc != 0 ? rc : model_check_format(model, line, why);
    rc = rc != 0 ? rc : check_profile(model, line, why);
    rc = rc != 0 ? rc : check_fields(model, line, why);
    rc = rc != 0 ? rc : model_check_task(model, line, why);
    rc = rc != 0 ? rc : model_check_default(model, line, why);
    rc = rc != 0 ? rc : model_check_path(model, line, why);
    rc = rc != 0 ? rc : model_check_templates(model, line, why);
    rc = rc != 0 ? rc : model_check_images(model, line, why);
    return rc != 0 ? rc : model_check_http(model, line, why);
}
