// The table of APIs, credentials, and checks that several APIs make. Called by serve and the APIs.
#include "tests/provider/api.h"
#include "common/json.h"

#include <errno.h>
#include <string.h>

#define DEPTH_MAX 10 // levels of a strict schema

const struct api api_chat = {.name = "chat", .head = "/v1/", .end = "/chat/completions",
                             .picture = picture_chat, .read = api_chat_read,
     .write = api_chat_write};

static const struct api rows[] = {
    {.name = "responses", .head = "/v1/", .end = "/responses", .picture = picture_responses, .read = api_responses_read,
     .write = api_responses_write},
    {.name = "embeddings", .head = "/v1/", .end = "/embeddings", .read = api_embeddings_read,
     .write = api_embeddings_write},
    {.name = "azure chat", .head = "/openai/", .end = "/chat/completions", .key = API_KEY_AZURE,
     .picture = picture_chat, .read = api_chat_read,
     .write = api_chat_write},
    {.name = "azure responses", .head = "/openai/", .end = "/responses", .key = API_KEY_AZURE,
     .picture = picture_responses, .read = api_responses_read, .write = api_responses_write},
    {.name = "azure embeddings", .head = "/openai/", .end = "/embeddings", .key = API_KEY_AZURE,
     .read = api_embeddings_read, .write = api_embeddings_write},
    {.name = "messages", .head = "/v1/", .end = "/messages", .key = API_KEY_ANTHROPIC,
     .style = TELL_ANTHROPIC, .must = "anthropic-version", .picture = picture_messages,
     .read = api_messages_read,
     .write = api_messages_write},
    {.name = "kserve", .head = "/v2/models/", .end = "/infer", .plain_errors = true, .model = "d",
     .read = api_kserve_read, .write = api_kserve_write},
    {.name = "generate", .head = "/v1beta/models/", .end = ":generateContent", .key = API_KEY_GEMINI,
     .style = TELL_GEMINI, .model_in_path = true, .picture = picture_generate,
     .read = api_generate_read,
     .write = api_generate_write},
    {.name = "batch embed", .head = "/v1beta/models/", .end = ":batchEmbedContents",
     .key = API_KEY_GEMINI, .style = TELL_GEMINI, .model_in_path = true, .read = api_batch_embed_read,
     .write = api_batch_embed_write},
};

static const struct api *const batch_rows[] = {&api_files_openai, &api_batches_openai,
                                               &api_batches_anthropic, &api_files_gemini,
                                               &api_batches_gemini, &api_files_azure, &api_batches_azure};

static bool is_path_of(const struct api *api, struct slice path) {
    size_t n = strlen(api->end);
    return slice_starts(path, api->head) && path.n >= n &&
           slice_is(slice_sub(path, path.n - n, n), api->end);
}

const struct api *api_find(struct slice path) {
    for (size_t i = 0; i < sizeof(batch_rows) / sizeof(batch_rows[0]); i++) {
        if (batch_rows[i]->owns(path)) {
            return batch_rows[i];
        }
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (is_path_of(&rows[i], path)) {
            return &rows[i];
        }
    }
    return is_path_of(&api_chat, path) ? &api_chat : NULL;
}

struct slice api_key_of(const struct api *api, const struct httpd_request *request) {
    struct slice bearer = httpd_header(request, "Authorization");
    struct slice plain = httpd_header(request, "api-key");
    bearer = slice_starts(bearer, "Bearer ") ? slice_sub(bearer, 7, bearer.n) : SLICE_NONE;
    if (api->key == API_KEY_BEARER) {
        return bearer;
    }
    if (api->key == API_KEY_ANTHROPIC) {
        return httpd_header(request, "x-api-key");
    }
    if (api->key == API_KEY_GEMINI) {
        return httpd_header(request, "x-goog-api-key");
    }
    return plain.n > 0 && bearer.n > 0 ? SLICE_NONE : plain.n > 0 ? plain : bearer;
}

const char *api_unknown_field(struct json_object *object, const char *const *names, size_t n) {
    json_object_object_foreach(object, name, value) {
        (void)value;
        size_t i = 0;
        while (i < n && strcmp(name, names[i]) != 0) {
            i++;
        }
        if (i == n) {
            return name;
        }
    }
    return NULL;
}

int api_check_fields(struct json_object *object, const char *const *names, size_t n,
                     struct error *why) {
    const char *name = api_unknown_field(object, names, n);
    return name == NULL ? 0
                        : error_set(why, -EINVAL, "Unrecognized request argument supplied: %.60s", name);
}

// ---- Strict schemas -----------------------------------------------------------------------------

static bool is_required(struct json_object *schema, const char *name) {
    struct json_object *required = json_get(schema, "required");
    size_t n = json_object_is_type(required, json_type_array) ? json_object_array_length(required) : 0;
    for (size_t i = 0; i < n; i++) {
        if (slice_is(json_text(json_object_array_get_idx(required, i)), name)) {
            return true;
        }
    }
    return false;
}

static int check_strict(struct json_object *schema, int depth, struct error *why);

static int check_object(struct json_object *schema, int depth, struct error *why) {
    struct json_object *properties = json_get(schema, "properties"), *more = NULL;
    if (!json_object_object_get_ex(schema, "additionalProperties", &more) ||
        !json_object_is_type(more, json_type_boolean) || json_object_get_boolean(more)) {
        return error_set(why, -EINVAL,
                         "Invalid schema for response_format: 'additionalProperties' is required to be "
                         "supplied and to be false.");
    }
    json_object_object_foreach(properties, name, property) {
        if (!is_required(schema, name)) {
            return error_set(why, -EINVAL,
                             "Invalid schema for response_format: 'required' is required to include "
                             "every key in properties. Missing '%.60s'.",
                             name);
        }
        if (check_strict(property, depth + 1, why) != 0) {
            return -EINVAL;
        }
    }
    return 0;
}

static int check_strict(struct json_object *schema, int depth, struct error *why) {
    static const char *const banned[] = {"allOf", "not", "dependentRequired", "dependentSchemas",
                                         "if",    "then", "else", "oneOf"};
    if (depth > DEPTH_MAX) {
        return error_set(why, -EINVAL, "Invalid schema for response_format: more than %d levels.",
                         DEPTH_MAX);
    }
    for (size_t i = 0; i < sizeof(banned) / sizeof(banned[0]); i++) {
        if (json_get(schema, banned[i]) != NULL) {
            return error_set(why, -EINVAL, "Invalid schema for response_format: '%s' is not permitted.",
                             banned[i]);
        }
    }
    int rc = json_object_is_type(json_get(schema, "properties"), json_type_object)
                 ? check_object(schema, depth, why)
                 : 0;
    struct json_object *items = json_get(schema, "items");
    return rc != 0 || items == NULL ? rc : check_strict(items, depth + 1, why);
}

int api_check_strict(struct json_object *schema, struct error *why) {
    if (!slice_is(json_text(json_get(schema, "type")), "object")) {
        return error_set(why, -EINVAL,
                         "Invalid schema for response_format: schema must be a JSON Schema of 'type: "
                         "\"object\"'.");
    }
    return check_strict(schema, 1, why);
}
