// Options of Flink's model providers that are spelled otherwise here, or that mean nothing here: a
// CREATE MODEL written for Flink does here what it does there. Invariant: afterwards the model's
// settings hold nothing but rows of model_options.def, and whatever was left out has been warned
// of. Called by model_sql_read.c. docs/flink.md says the same to a reader. Source: Flink 2.3,
// docs/connectors/models/openai and triton, and the option classes behind them.
#include "common/model_parts.h"

#include "common/json.h"
#include "common/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX  (256 * 1024) // of 'params' with what is put into it
#define NAME_ROOM 64

// What a statement's options are applied to.
struct flink {
    struct model *model;
    void (*warn)(void *arg, int line, const char *text);
    void *arg;
    struct error *why;
    bool no_retry; // error-handling-strategy is not 'retry'
};

typedef int apply_fn(struct flink *flink, const struct flink_option *option);

static void warn(struct flink *flink, const struct flink_option *option, const char *what) {
    char text[ERROR_MAX];
    snprintf(text, sizeof(text), "option '%.60s': %s", option->name, what);
    flink->warn(flink->arg, option->line, text);
}

static int refuse(struct flink *flink, const struct flink_option *option, const char *want) {
    return error_set(flink->why, -EINVAL, "option '%.60s': got '%.60s', want %s", option->name,
                     option->value, want);
}

static int set(struct flink *flink, const char *name, const char *value, int line) {
    return model_set(flink->model, option_exact(name), mem_dup_str(value), line, flink->why);
}

// set_new leaves a setting alone that the statement has itself.
static int set_new(struct flink *flink, const char *name, const char *value, int line) {
    return model_setting_of(flink->model, name) != NULL ? 0 : set(flink, name, value, line);
}

static void replace(struct model_setting *setting, char *value) {
    free(setting->value);
    setting->value = value;
}

// own_setting is model_setting_of to change it.
static struct model_setting *own_setting(struct model *model, const char *name) {
    const struct model_setting *found = model_setting_of(model, name);
    return found != NULL ? &model->settings[found - model->settings] : NULL;
}

// ---- What goes into the request's body ----------------------------------------------------------

// write_json takes object, and keeps it as the option's value.
static int write_json(struct flink *flink, const char *name, struct json_object *object, int line) {
    struct buf text;
    buf_init(&text, BODY_MAX);
    int rc = json_add(&text, object);
    json_object_put(object);
    if (rc != 0) {
        buf_free(&text);
        return error_set(flink->why, -EINVAL, "option '%s': longer than %d bytes", name, BODY_MAX);
    }
    struct model_setting *setting = own_setting(flink->model, name);
    if (setting == NULL) {
        return model_set(flink->model, option_exact(name), buf_take(&text), line, flink->why);
    }
    replace(setting, buf_take(&text));
    return 0;
}

// add_missing puts members into an object that it does not have.
static void add_missing(struct json_object *into, struct json_object *more) {
    json_object_object_foreach(more, name, value) {
        if (!json_object_object_get_ex(into, name, NULL)) {
            json_object_object_add(into, name, json_object_get(value));
        }
    }
}

// add_param puts a field into 'params', as far as it is not there; takes value.
static int add_param(struct flink *flink, const char *field, struct json_object *value, int line) {
    struct json_object *params = NULL;
    const struct model_setting *setting = model_setting_of(flink->model, "params");
    if (setting == NULL) {
        params = json_object_new_object();
    } else if (json_parse(slice_of(setting->value), &params, NULL) != 0 ||
               !json_object_is_type(params, json_type_object)) {
        json_object_put(params);
        json_object_put(value);
        return 0; // model_check says what is wrong with it
    }
    struct json_object *old;
    if (json_object_object_get_ex(params, field, &old)) {
        if (json_object_is_type(old, json_type_object) && json_object_is_type(value, json_type_object)) {
            add_missing(old, value);
        }
        json_object_put(value);
    } else {
        json_object_object_add(params, field, value);
    }
    return write_json(flink, "params", params, line);
}

static int apply_presence_penalty(struct flink *flink, const struct flink_option *option) {
    struct json_object *value = NULL;
    int rc = json_parse(slice_trim(slice_of(option->value)), &value, NULL);
    bool is_number = rc == 0 && (json_object_is_type(value, json_type_double) ||
                                 json_object_is_type(value, json_type_int));
    double number = is_number ? json_object_get_double(value) : 9;
    if (number < -2 || number > 2) {
        json_object_put(value);
        return refuse(flink, option, "a number, -2 to 2");
    }
    return add_param(flink, "presence_penalty", value, option->line);
}

// apply_response_format: the answer is the column's text, whatever is in it.
static int apply_response_format(struct flink *flink, const struct flink_option *option) {
    struct json_object *type = json_object_new_object();
    json_object_object_add(type, "type", json_object_new_string("json_object"));
    int rc = add_param(flink, "response_format", type, option->line);
    return rc != 0 ? rc : set(flink, "response.format", "text", option->line);
}

// ---- Errors -------------------------------------------------------------------------------------

// error_row is what IGNORE and FAILOVER are here; NULL for another word.
static const char *error_row(const char *value) {
    return slice_is_nocase(slice_of(value), "ignore")     ? "error-row"
           : slice_is_nocase(slice_of(value), "failover") ? "fail"
                                                          : NULL;
}

static int apply_error_handling(struct flink *flink, const struct flink_option *option) {
    if (slice_is_nocase(slice_of(option->value), "retry")) {
        return 0; // as ever; retry-fallback-strategy says what comes then
    }
    const char *row = error_row(option->value);
    if (row == NULL) {
        return refuse(flink, option, "one of 'retry', 'failover', 'ignore'");
    }
    flink->no_retry = true;
    struct model_setting *retries = own_setting(flink->model, "max.retries");
    if (retries != NULL) {
        replace(retries, mem_dup_str("0")); // Flink looks at retry-num only to retry
    } else if (set(flink, "max.retries", "0", option->line) != 0) {
        return -EINVAL;
    }
    return set(flink, "on.error", row, option->line);
}

static int apply_retry_fallback(struct flink *flink, const struct flink_option *option) {
    const char *row = error_row(option->value);
    if (row == NULL) {
        return refuse(flink, option, "one of 'failover', 'ignore'");
    }
    return flink->no_retry ? 0 : set(flink, "on.error", row, option->line);
}

// ---- Credentials and headers --------------------------------------------------------------------

// apply_placeholder: '<YOUR KEY>' is no key but says that one goes there.
static int apply_placeholder(struct flink *flink, const struct flink_option *option) {
    const struct model_setting *provider = model_setting_of(flink->model, "provider");
    char name[NAME_ROOM], value[NAME_ROOM + 16], text[2 * NAME_ROOM + 64];
    slice_copy(slice_of(provider != NULL ? provider->value : ""), name, sizeof(name));
    for (char *p = name; *p != '\0'; p++) {
        *p = (char)(isalnum((unsigned char)*p) ? toupper((unsigned char)*p) : '_');
    }
    snprintf(value, sizeof(value), "${%s_API_KEY}", name);
    snprintf(text, sizeof(text), "got a placeholder; it is taken as '%s'", value);
    warn(flink, option, text);
    return set(flink, "api_key", value, option->line);
}

static int apply_auth_token(struct flink *flink, const struct flink_option *option) {
    struct slice value = slice_trim(slice_of(option->value));
    if (slice_is_nocase(slice_sub(value, 0, 7), "bearer ")) {
        value = slice_trim(slice_sub(value, 7, value.n));
    }
    char *copy = slice_dup(value);
    return model_set(flink->model, option_exact("api_key"), copy, option->line, flink->why);
}

// apply_headers: a JSON object as it is, or 'X-A:1,X-B:2' as Flink reads a map.
static int apply_headers(struct flink *flink, const struct flink_option *option) {
    struct slice rest = slice_trim(slice_of(option->value));
    if (rest.n > 0 && rest.p[0] == '{') {
        return set(flink, "headers", option->value, option->line);
    }
    struct json_object *headers = json_object_new_object();
    while (rest.n > 0) {
        const char *comma = memchr(rest.p, ',', rest.n);
        struct slice pair = slice_sub(rest, 0, comma != NULL ? (size_t)(comma - rest.p) : rest.n);
        const char *colon = memchr(pair.p, ':', pair.n);
        if (colon == NULL) {
            json_object_put(headers);
            return error_set(flink->why, -EINVAL,
                             "option '%.60s': got something else (not repeated here), want "
                             "'Name:value,Name:value' or a JSON object of strings",
                             option->name);
        }
        size_t at = (size_t)(colon - pair.p);
        struct slice text = slice_trim(slice_sub(pair, at + 1, pair.n));
        char *name = slice_dup(slice_trim(slice_sub(pair, 0, at)));
        json_object_object_add(headers, name, json_object_new_string_len(text.p, (int)text.n));
        free(name);
        rest = slice_sub(rest, pair.n + (comma != NULL), rest.n);
    }
    return write_json(flink, "headers", headers, option->line);
}

// ---- What has no meaning ------------------------------------------------------------------------

// is_provider says whether the statement's provider is called so.
static bool is_provider(const struct flink *flink, const char *name) {
    const struct model_setting *provider = model_setting_of(flink->model, "provider");
    return provider != NULL && slice_is_nocase(slice_of(provider->value), name);
}

// apply_triton: Triton speaks the protocol that is called kserve here.
static int apply_triton(struct flink *flink, const struct flink_option *option) {
    return set(flink, "provider", "kserve", option->line);
}

// apply_version: Confluent's model_version is the model; beside a name it is Triton's.
static int apply_version(struct flink *flink, const struct flink_option *option) {
    if (model_setting_of(flink->model, "model") == NULL) {
        return set(flink, "model", option->value, option->line);
    }
    if (!is_provider(flink, "kserve")) {
        warn(flink, option, "left out: it is given beside the model's name");
        return 0;
    }
    bool is_latest =
        slice_is_nocase(slice_of(option->value), "latest"); // what the server takes itself
    return is_latest ? 0 : set(flink, "tensor.version", option->value, option->line);
}

static int apply_flatten(struct flink *flink, const struct flink_option *option) {
    return set(flink, "tensor.flat", option->value, option->line);
}

// apply_priority: Triton's own, which goes with each request. Ours is a word, see flink_is_own.
static int apply_priority(struct flink *flink, const struct flink_option *option) {
    struct json_object *number = NULL, *parameters = NULL;
    int rc = json_parse(slice_trim(slice_of(option->value)), &number, NULL);
    if (rc != 0 || !json_object_is_type(number, json_type_int) || json_object_get_int64(number) < 0 ||
        json_object_get_int64(number) > 255) {
        json_object_put(number);
        return refuse(flink, option, "one of 'interactive', 'normal', 'bulk', or with Triton a whole number, 0 to 255");
    }
    if (!is_provider(flink, "kserve")) {
        json_object_put(number);
        warn(flink, option, "left out: a number is Triton's; want 'interactive', 'normal' or 'bulk'");
        return 0;
    }
    parameters = json_object_new_object();
    json_object_object_add(parameters, "priority", number);
    return add_param(flink, "parameters", parameters, option->line);
}

// is_text says whether an option has a value, whatever its case.
static bool is_text(const struct flink_option *option, const char *text) {
    return slice_is_nocase(slice_trim(slice_of(option->value)), text);
}

// The breaker here is always on, and its numbers are fixed: what says the same is no news.
static int apply_breaker(struct flink *flink, const struct flink_option *option) {
    if (!is_text(option, "true")) {
        warn(flink, option, "left out: the circuit breaker is always on");
    }
    return 0;
}

static int apply_threshold(struct flink *flink, const struct flink_option *option) {
    char *end;
    double threshold = strtod(option->value, &end);
    if (end == option->value || threshold != 0.5) {
        warn(flink, option, "left out: the circuit breaker opens when half of the calls fail");
    }
    return 0;
}

static int apply_health(struct flink *flink, const struct flink_option *option) {
    if (!is_text(option, "false")) {
        warn(flink, option, "left out: the calls themselves show a server's health");
    }
    return 0;
}

// apply_overflow: a row that Flink skips is an error row here. What is cut stands in meta in any case.
static int apply_overflow(struct flink *flink, const struct flink_option *option) {
    static const struct {
        const char *flinks, *ours;
    } actions[] = {{"truncatedtail", "truncate-tail"}, {"truncatedtaillog", "truncate-tail"},
                   {"truncatedhead", "truncate-head"}, {"truncatedheadlog", "truncate-head"},
                   {"skipped", "error"},               {"skippedlog", "error"}};
    char squashed[NAME_ROOM];
    bool is_word = option_squash(slice_of(option->value), squashed, sizeof(squashed));
    for (size_t i = 0; is_word && i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(actions[i].flinks, squashed) == 0) {
            if (actions[i].ours[0] == 'e') {
                warn(flink, option, "a row that is too long is an error row, and not left out");
            }
            return set(flink, "context.overflow", actions[i].ours, option->line);
        }
    }
    return refuse(flink, option, "one of 'truncated-tail', 'truncated-head', 'skipped', or one of these with '-log'");
}

// The rows: squashed names, in the order in which they are applied.
static const struct row {
    const char *name;
    apply_fn *apply;
    const char *ignored; // why it is left out; NULL when apply is there
} rows[] = {
    {.name = "provider", .apply = apply_triton},
    {.name = "apikey", .apply = apply_placeholder},
    {.name = "authtoken", .apply = apply_auth_token},
    {.name = "customheaders", .apply = apply_headers},
    {.name = "flattenbatchdim", .apply = apply_flatten},
    {.name = "modelversion", .apply = apply_version},
    {.name = "presencepenalty", .apply = apply_presence_penalty},
    {.name = "responseformat", .apply = apply_response_format},
    {.name = "errorhandlingstrategy", .apply = apply_error_handling},
    {.name = "retryfallbackstrategy", .apply = apply_retry_fallback},
    {.name = "n", .ignored = "left out: one answer is asked for, and it counts"},
    {.name = "contextoverflowaction", .apply = apply_overflow},
    {.name = "compression", .ignored = "left out: requests are sent as they are"},
    {.name = "priority", .apply = apply_priority},
    {.name = "sequenceid", .ignored = "left out: calls keep no state between them"},
    {.name = "sequencestart", .ignored = "left out: calls keep no state between them"},
    {.name = "sequenceend", .ignored = "left out: calls keep no state between them"},
    {.name = "sequenceidautoincrement", .ignored = "left out: calls keep no state between them"},
    {.name = "retryinitialbackoff",
     .ignored = "left out: the waits are fixed, 0.5 s doubled up to 30 s"},
    {.name = "retrymaxbackoff",
     .ignored = "left out: the waits are fixed, 0.5 s doubled up to 30 s"},
    {.name = "healthcheckenabled", .apply = apply_health},
    {.name = "healthcheckinterval",
     .ignored = "left out: the calls themselves show a server's health"},
    {.name = "circuitbreakerenabled", .apply = apply_breaker},
    {.name = "circuitbreakerfailurethreshold", .apply = apply_threshold},
    {.name = "circuitbreakerhalfopenrequests",
     .ignored = "left out: one call tries whether the server is back, and a good answer closes the breaker"},
    {.name = "circuitbreakertimeout",
     .ignored = "left out: an open breaker waits 1 s at most, doubled up to 30 s"},
};

static const struct row *find_row(struct slice name) {
    char squashed[NAME_ROOM];
    if (slice_is_nocase(slice_sub(name, 0, 7), "openai.")) {
        name = slice_sub(name, 7, name.n);
    }
    if (!option_squash(name, squashed, sizeof(squashed))) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, squashed) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static bool is_placeholder(struct slice value) {
    value = slice_trim(value);
    return value.n > 2 && value.p[0] == '<' && value.p[value.n - 1] == '>';
}

bool flink_is_own(struct slice name, struct slice value) {
    const struct row *row = find_row(name);
    if (row == NULL) {
        return false;
    }
    char squashed[NAME_ROOM];
    if (row->apply == apply_response_format) { // its other values are ours too
        return option_squash(value, squashed, sizeof(squashed)) &&
               strcmp(squashed, "jsonobject") == 0;
    }
    if (row->apply == apply_triton) {
        return slice_is_nocase(slice_trim(value), "triton");
    }
    if (row->apply == apply_priority) { // a word is our own
        struct slice text = slice_trim(value);
        return text.n > 0 && memchr("+-.0123456789", text.p[0], 13) != NULL;
    }
    return row->apply != apply_placeholder || is_placeholder(value);
}

// ---- Defaults -----------------------------------------------------------------------------------

// is_flinks says whether a statement has no option but such as Flink has too. One with an option of
// our own was written for headrace, and means the defaults here.
static bool is_flinks(const struct model *model) {
    static const char *const names[] = {
        "api_key",       "batch.max.tokens",   "context.overflow", "context.size", "default.value", "dimensions", "endpoint",
        "headers",       "max.retries",        "max.tokens", "model",
        "provider",      "request.timeout.ms", "seed",       "stop",
        "system.prompt", "temperature",        "top.p"};
    size_t n = sizeof(names) / sizeof(names[0]);
    for (size_t i = 0, j = 0; i < model->n_settings; i++) {
        while (j < n && strcmp(names[j], model->settings[i].name) < 0) {
            j++; // both are sorted
        }
        if (j == n || strcmp(names[j], model->settings[i].name) != 0) {
            return false;
        }
    }
    return true;
}

static bool ends_in_embeddings(const char *url) {
    static const char tail[] = "/embeddings";
    size_t n = strcspn(url, "?#"), n_tail = sizeof(tail) - 1;
    while (n > 0 && url[n - 1] == '/') {
        n--;
    }
    return n >= n_tail && memcmp(url + n - n_tail, tail, n_tail) == 0;
}

// fill_defaults: in Flink the endpoint alone says what the task is, and an answer is its text.
static int fill_defaults(struct flink *flink, bool flinks) {
    const struct model *model = flink->model;
    const struct model_setting *endpoint = model_setting_of(model, "endpoint");
    if (endpoint != NULL && ends_in_embeddings(endpoint->value)) {
        return set_new(flink, "task", "embedding", endpoint->line);
    }
    if (is_provider(flink, "kserve")) {
        return 0; // an answer is a tensor
    }
    bool one_text = model->n_output == 1 && model->output[0].type == TYPE_STRING;
    return flinks && one_text ? set_new(flink, "response.format", "text", 0) : 0;
}

int flink_apply(struct model *model, const struct flink_option *list, bool dashes,
                void (*warn_fn)(void *arg, int line, const char *text), void *arg, int *line,
                struct error *why) {
    bool flinks = dashes && is_flinks(model);
    struct flink flink = {.model = model, .warn = warn_fn, .arg = arg, .why = why};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (const struct flink_option *option = list; option != NULL; option = option->next) {
            if (find_row(slice_of(option->name)) != &rows[i]) {
                continue;
            }
            if (rows[i].ignored != NULL) {
                warn(&flink, option, rows[i].ignored);
            } else if (rows[i].apply(&flink, option) != 0) {
                *line = option->line;
                return -EINVAL;
            }
        }
    }
    *line = 0;
    return fill_defaults(&flink, flinks);
}
