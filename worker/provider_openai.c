// OpenAI chat completions, and every endpoint that speaks the same. Invariant: read never trusts a
// type: whatever is missing or of another type is "not there".
// Source: platform.openai.com/docs/api-reference/chat and its error guide, 2026-11.
#include "worker/provider.h"

#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define CONTEXT_STATUS {400, 413, 422, 500}

// What goes wrong at this provider; statuses that mean the same everywhere are in provider.c.
static const struct error_class classes[] = {
    {.status = {429}, .code = "insufficient_quota", .outcome = OUTCOME_QUOTA},
    {.status = {429}, .has = "exceeded your current quota", .outcome = OUTCOME_QUOTA},
    {.status = {429, 400, 403}, .code = "billing_not_active", .outcome = OUTCOME_QUOTA},
    {.status = {429, 400}, .code = "billing_hard_limit_reached", .outcome = OUTCOME_QUOTA},
    {.status = {429}, .starts = "Request too large", .outcome = OUTCOME_TOO_LARGE},
    {.status = {429}, .has = "resource unavailable", .outcome = OUTCOME_TRANSIENT},
    {.status = {429}, .outcome = OUTCOME_RATE_LIMITED},
    {.status = {400}, .code = "content_policy_violation", .outcome = OUTCOME_FILTERED},
    {.status = {400}, .code = "moderation_blocked", .outcome = OUTCOME_FILTERED},
    {.status = {400}, .code = "content_filter", .outcome = OUTCOME_FILTERED},
    {.status = {400}, .code = "invalid_prompt", .has = "policy", .outcome = OUTCOME_FILTERED},
    {.status = CONTEXT_STATUS, .code = "context_length_exceeded", .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .code = "exceed_context_size_error", .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "maximum context length", .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "exceeds the context window", .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "prompt is too long", .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "input is too long", .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "exceeds the available context size",
     .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "input token count", .has2 = "exceeds the maximum",
     .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "reduce the length of the messages",
     .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "too large to process", .has2 = "batch size",
     .outcome = OUTCOME_TOO_LARGE},
    {.status = CONTEXT_STATUS, .has = "max_tokens must be at least 1, got -",
     .outcome = OUTCOME_TOO_LARGE},
    {.status = {400}, .code = "unsupported_parameter", .outcome = OUTCOME_BAD_CONFIG},
    {.status = {400}, .code = "unsupported_value", .outcome = OUTCOME_BAD_CONFIG},
    {.status = {400}, .has = "does not support", .outcome = OUTCOME_BAD_CONFIG},
    {.status = {400}, .code = "model_not_found", .outcome = OUTCOME_BAD_CONFIG},
};
#define N_CLASSES (sizeof(classes) / sizeof(classes[0]))

// ---- The request ------------------------------------------------------------------------------

// host_of borrows the host of a URL, port and credentials cut off.
static struct slice host_of(const char *url) {
    const char *from = strstr(url, "://");
    from = from != NULL ? from + 3 : url;
    size_t n = strcspn(from, "/?#");
    struct slice host = {.p = from, .n = n};
    for (size_t i = 0; i < n; i++) {
        if (from[i] == '@') {
            host = (struct slice){.p = from + i + 1, .n = n - i - 1};
        }
    }
    for (size_t i = 0; i < host.n; i++) {
        if (host.p[i] == ':') {
            host.n = i;
        }
    }
    return host;
}

static bool is_host(const struct model *model, const char *name) {
    const char *endpoint = model->options.endpoint;
    return slice_is_nocase(host_of(endpoint[0] != '\0' ? endpoint : provider_openai.endpoint), name);
}

static bool is_azure(const struct model *model) {
    struct slice host = host_of(model->options.endpoint);
    struct slice tail = SLICE_LIT(".openai.azure.com");
    return host.n > tail.n &&
           slice_is_nocase(slice_sub(host, host.n - tail.n, tail.n), ".openai.azure.com");
}

static bool openai_enforces_schema(const struct model *model) {
    return is_host(model, "api.openai.com");
}

static const char *max_tokens_field(const struct model *model) {
    static const char *const names[] = {NULL, "max_tokens", "max_completion_tokens"};
    const char *name = names[model->options.max_tokens_field];
    if (name == NULL) {
        bool theirs = is_host(model, "api.openai.com") || is_azure(model);
        name = names[theirs ? 2 : 1];
    }
    return name;
}

static int add_message(const char *role, struct slice text, bool first, struct buf *out) {
    int rc = buf_addf(out, "%s{\"role\":\"%s\",\"content\":", first ? "" : ",", role);
    rc = rc != 0 ? rc : json_add_string(out, text);
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// add_stop writes option 'stop': a JSON array as it is, or strings with commas between.
static int add_stop(struct slice stop, struct buf *out) {
    int rc = buf_add_str(out, ",\"stop\":");
    if (rc != 0 || slice_starts(slice_trim(stop), "[")) {
        return rc != 0 ? rc : buf_add_slice(out, stop);
    }
    rc = buf_add_byte(out, '[');
    for (size_t from = 0; rc == 0 && from <= stop.n;) {
        size_t to = from;
        while (to < stop.n && stop.p[to] != ',') {
            to++;
        }
        rc = from > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : json_add_string(out, slice_sub(stop, from, to - from));
        from = to + 1;
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

static int add_number(const char *name, double value, struct buf *out) {
    if (isnan(value)) {
        return 0;
    }
    int rc = buf_addf(out, ",\"%s\":", name);
    return rc != 0 ? rc : json_add_double(out, value);
}

static int add_schema(struct slice schema, struct buf *out) {
    int rc = buf_add_str(out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
                              "\"name\":\"answer\",\"strict\":true,\"schema\":");
    rc = rc != 0 ? rc : buf_add_slice(out, schema);
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

static int add_options(const struct model *model, struct slice schema, struct buf *out) {
    const struct model_options *o = &model->options;
    int rc = add_number("temperature", o->temperature, out);
    rc = rc != 0 ? rc : add_number("top_p", o->top_p, out);
    if (rc == 0 && o->max_tokens != MODEL_UNSET) {
        rc = buf_addf(out, ",\"%s\":%" PRId64, max_tokens_field(model), o->max_tokens);
    }
    if (rc == 0 && o->seed != MODEL_UNSET) {
        rc = buf_addf(out, ",\"seed\":%" PRId64, o->seed);
    }
    if (rc == 0 && o->stop[0] != '\0') {
        rc = add_stop(slice_of(o->stop), out);
    }
    return rc == 0 && schema.n > 0 ? add_schema(schema, out) : rc;
}

// merge_params puts the members of option 'params' over the body's.
static int merge_params(struct slice params, struct buf *body) {
    struct json_object *whole = NULL, *more = NULL;
    int rc = json_parse(buf_slice(body), &whole, NULL);
    rc = rc != 0 ? rc : json_parse(params, &more, NULL);
    if (rc == 0 && json_object_is_type(more, json_type_object)) {
        json_object_object_foreach(more, name, value) {
            json_object_object_add(whole, name, json_object_get(value));
        }
        buf_clear(body);
        rc = json_add(body, whole);
    }
    json_object_put(whole);
    json_object_put(more);
    return rc;
}

static int openai_write(const struct model *model, struct slice system, struct slice user,
                        struct slice schema, struct buf *body) {
    int rc = buf_add_str(body, "{\"model\":");
    rc = rc != 0 ? rc : json_add_string(body, slice_of(model->options.model));
    rc = rc != 0 ? rc : buf_add_str(body, ",\"messages\":[");
    if (rc == 0 && system.n > 0) {
        rc = add_message("system", system, true, body);
    }
    rc = rc != 0 ? rc : add_message("user", user, system.n == 0, body);
    rc = rc != 0 ? rc : buf_add_byte(body, ']');
    rc = rc != 0 ? rc : add_options(model, schema, body);
    rc = rc != 0 ? rc : buf_add_byte(body, '}');
    if (rc == 0 && model->options.params[0] != '\0') {
        rc = merge_params(slice_of(model->options.params), body);
    }
    return rc;
}

static int openai_headers(const struct model *model, struct buf *lines) {
    if (model->options.api_key[0] == '\0') {
        return 0; // many self-hosted servers want none
    }
    return buf_addf(lines, is_azure(model) ? "api-key: %s\n" : "Authorization: Bearer %s\n",
                    model->options.api_key);
}

// ---- The answer -------------------------------------------------------------------------------

static enum finish finish_of(struct slice reason) {
    static const struct {
        const char *name;
        enum finish finish;
    } rows[] = {
        {.name = "stop", .finish = FINISH_STOP},
        {.name = "length", .finish = FINISH_LENGTH},
        {.name = "content_filter", .finish = FINISH_FILTERED},
        {.name = "tool_calls", .finish = FINISH_TOOL},
        {.name = "function_call", .finish = FINISH_TOOL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(reason, rows[i].name)) {
            return rows[i].finish;
        }
    }
    // Some servers leave it out: then the text decides.
    return reason.n == 0 ? FINISH_STOP : FINISH_OTHER;
}

static bool count_of(struct json_object *object, const char *name, uint64_t *count) {
    struct json_object *n = json_get(object, name);
    if (!json_object_is_type(n, json_type_int) || json_object_get_int64(n) < 0) {
        return false;
    }
    *count = (uint64_t)json_object_get_int64(n);
    return true;
}

static void read_usage(struct json_object *usage, struct answer *answer) {
    bool in = count_of(usage, "prompt_tokens", &answer->input_tokens);
    bool out = count_of(usage, "completion_tokens", &answer->output_tokens);
    answer->usage_known = in && out;
    if (!answer->usage_known) {
        answer->input_tokens = answer->output_tokens = 0;
        return;
    }
    if (!count_of(json_get(usage, "prompt_tokens_details"), "cached_tokens",
                  &answer->cached_tokens) ||
        answer->cached_tokens > answer->input_tokens) {
        answer->cached_tokens = 0;
    }
}

// error_status finds the status that an error inside a 200 means.
static int error_status(struct json_object *error, struct slice code, struct slice type) {
    struct json_object *number = json_get(error, "code");
    int64_t n = json_object_is_type(number, json_type_int) ? json_object_get_int64(number) : 0;
    if (slice_trim(code).n == 3 && code.p[0] >= '4' && code.p[0] <= '5') {
        n = (code.p[0] - '0') * 100 + (code.p[1] - '0') * 10 + (code.p[2] - '0');
    }
    if (n >= 400 && n <= 599) {
        return (int)n;
    }
    static const struct {
        const char *name;
        int status;
    } rows[] = {
        {.name = "insufficient_quota", .status = 429},
        {.name = "rate_limit_exceeded", .status = 429},
        {.name = "rate_limit_error", .status = 429},
        {.name = "billing_hard_limit_reached", .status = 429},
        {.name = "billing_not_active", .status = 429},
        {.name = "invalid_api_key", .status = 401},
        {.name = "authentication_error", .status = 401},
        {.name = "permission_error", .status = 403},
        {.name = "model_not_found", .status = 404},
        {.name = "not_found_error", .status = 404},
        {.name = "context_length_exceeded", .status = 400},
        {.name = "content_policy_violation", .status = 400},
        {.name = "invalid_request_error", .status = 400},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is_nocase(code, rows[i].name) || slice_is_nocase(type, rows[i].name)) {
            return rows[i].status;
        }
    }
    return 500;
}

static void read_error(const struct reply *reply, struct json_object *error, struct answer *answer) {
    struct provider_error e = {.status = reply->status};
    if (json_object_is_type(error, json_type_string)) {
        e.message = json_text(error);
    } else {
        e.code = json_text(json_get(error, "code"));
        e.type = json_text(json_get(error, "type"));
        e.message = json_text(json_get(error, "message"));
    }
    if (reply->status == 200) {
        e.status = error_status(error, e.code, e.type);
    }
    provider_classify(classes, N_CLASSES, reply, &e, answer);
}

static void fail(struct answer *answer, enum outcome outcome, const char *detail) {
    answer->outcome = outcome;
    snprintf(answer->detail, sizeof(answer->detail), "%s", detail);
}

// text_of borrows a message's content: a string, or the first text part of an array.
static struct slice text_of(struct json_object *message) {
    struct json_object *content = json_get(message, "content");
    if (!json_object_is_type(content, json_type_array)) {
        return json_text(content);
    }
    size_t n = json_object_array_length(content);
    for (size_t i = 0; i < n; i++) {
        struct slice text = json_text(json_get(json_object_array_get_idx(content, i), "text"));
        if (text.n > 0) {
            return text;
        }
    }
    return SLICE_NONE;
}

static void read_choice(struct json_object *choice, struct answer *answer) {
    struct json_object *message = json_get(choice, "message");
    answer->finish = finish_of(json_text(json_get(choice, "finish_reason")));
    answer->text = text_of(message);
    if (answer->finish == FINISH_FILTERED || json_get(message, "refusal") != NULL) {
        answer->finish = FINISH_FILTERED;
        fail(answer, OUTCOME_FILTERED, "the provider's filter or the model refused to answer");
    } else if (answer->finish == FINISH_LENGTH && slice_trim(answer->text).n == 0) {
        fail(answer, OUTCOME_TRUNCATED,
             "the answer ended at the token limit before any text: raise 'max.tokens'");
    } else if (answer->finish == FINISH_TOOL && answer->text.n == 0) {
        fail(answer, OUTCOME_UNREADABLE, "the model called a tool and gave no text");
    }
}

static void openai_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = NULL;
    if (json_parse(reply->body, &root, NULL) != 0 || !json_object_is_type(root, json_type_object)) {
        json_object_put(root);
        provider_not_json(classes, N_CLASSES, reply, answer);
        return;
    }
    answer->root = root;
    struct json_object *error = json_get(root, "error");
    if (reply->status != 200 || error != NULL) {
        // Some servers put the error's fields at the top.
        read_error(reply, error != NULL ? error : root, answer);
        return;
    }
    read_usage(json_get(root, "usage"), answer);
    text_clean(json_text(json_get(root, "model")), answer->served_model,
               sizeof(answer->served_model));
    struct json_object *choices = json_get(root, "choices");
    struct json_object *choice = json_object_is_type(choices, json_type_array) &&
                                         json_object_array_length(choices) > 0
                                     ? json_object_array_get_idx(choices, 0)
                                     : NULL;
    if (json_get(choice, "message") == NULL) {
        fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no choices[0].message");
        return;
    }
    read_choice(choice, answer);
}

const struct provider provider_openai = {
    .name = "openai",
    .endpoint = "https://api.openai.com/v1/chat/completions",
    .write = openai_write,
    .headers = openai_headers,
    .enforces_schema = openai_enforces_schema,
    .read = openai_read,
};
