// Gemini's generateContent and batchEmbedContents: the model stands in the path, a schema is OpenAPI's in
// part, vectors come in the order of their texts. The answer's text comes after a thought. Called through
// the table of APIs.
#include "tests/provider/api.h"
#include "common/json.h"
#include "tests/provider/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define DEPTH_MAX        32
#define INPUTS_MOST      100
#define USUAL_DIMENSIONS 8
#define MOST_DIMENSIONS  4096
#define THOUGHT_TOKENS   3

#define N(names) (sizeof(names) / sizeof(names[0]))

// check_names refuses names that are not known, as Google words it.
static int check_names(struct json_object *object, const char *const *names, size_t n, const char *at,
                       struct error *why) {
    const char *name = api_unknown_field(object, names, n);
    return name == NULL ? 0
                        : error_set(why, -EINVAL,
                                    "Invalid JSON payload received. Unknown name \"%.60s\" at '%s': Cannot "
                                    "find field.", name, at);
}

// --- schemas -------------------------------------------------------------------------------------

#define SCHEMA_AT "generation_config.response_schema"

static int check_schema(struct json_object *schema, int depth, struct error *why);

static int check_words(struct json_object *words, struct error *why) {
    size_t n = json_object_is_type(words, json_type_array) ? json_object_array_length(words) : 0;
    for (size_t i = 0; i < n; i++) {
        if (json_text(json_object_array_get_idx(words, i)).n == 0) {
            return error_set(why, -EINVAL, SCHEMA_AT ".enum[%zu]: cannot be empty", i);
        }
    }
    return 0;
}

static int check_object(struct json_object *schema, int depth, struct error *why) {
    struct json_object *properties = json_get(schema, "properties");
    int rc = json_object_is_type(properties, json_type_object) && json_object_object_length(properties) > 0
                 ? 0
                 : error_set(why, -EINVAL, SCHEMA_AT ".properties: should be non-empty for OBJECT type");
    if (rc == 0) {
        json_object_object_foreach(properties, name, property) {
            (void)name;
            rc = rc != 0 ? rc : check_schema(property, depth + 1, why);
        }
    }
    return rc;
}

static int check_schema(struct json_object *schema, int depth, struct error *why) {
    static const char *const known[] = {
        "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties",
        "required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example",
        "anyOf", "propertyOrdering", "default", "items", "minimum", "maximum",
    };
    static const char *const types[] = {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"};
    struct slice type = json_text(json_get(schema, "type"));
    struct slice format = json_text(json_get(schema, "format"));
    struct json_object *items = json_get(schema, "items");
    size_t i = 0;
    while (i < N(types) && !slice_is(type, types[i])) {
        i++;
    }
    if (i == N(types) || depth > DEPTH_MAX) {
        return error_set(why, -EINVAL, "Invalid value at '" SCHEMA_AT ".type', \"%.*s\"",
                         SLICE_FMT(slice_sub(type, 0, 20)));
    }
    if (slice_is(type, "STRING") && format.n > 0 && !slice_is(format, "enum") &&
        !slice_is(format, "date-time")) {
        return error_set(why, -EINVAL, SCHEMA_AT ": only 'enum' and 'date-time' are supported for STRING "
                                       "type");
    }
    if (slice_is(type, "ARRAY") && items == NULL) {
        return error_set(why, -EINVAL, SCHEMA_AT ".items: missing field");
    }
    int rc = check_names(schema, known, N(known), SCHEMA_AT, why);
    rc = rc != 0 ? rc : check_words(json_get(schema, "enum"), why);
    rc = rc == 0 && slice_is(type, "OBJECT") ? check_object(schema, depth, why) : rc;
    return rc != 0 || items == NULL ? rc : check_schema(items, depth + 1, why);
}

// --- generateContent -----------------------------------------------------------------------------

static int read_config(struct chat *chat, bool strict, struct error *why) {
    static const char *const known[] = {
        "temperature", "topP", "topK", "seed", "candidateCount", "stopSequences", "maxOutputTokens",
        "responseMimeType", "responseSchema", "responseJsonSchema", "presencePenalty", "frequencyPenalty",
        "responseLogprobs", "logprobs", "thinkingConfig", "responseModalities", "mediaResolution",
    };
    struct json_object *config = json_get(chat->root, "generationConfig");
    struct json_object *stop = json_get(config, "stopSequences");
    chat->json = slice_is(json_text(json_get(config, "responseMimeType")), "application/json");
    chat->schema = json_get(config, "responseSchema");
    chat->max_tokens = json_object_get_int64(json_get(config, "maxOutputTokens"));
    if (!strict || config == NULL) {
        return 0;
    }
    int rc = check_names(config, known, N(known), "generation_config", why);
    if (rc == 0 && json_object_is_type(stop, json_type_array) && json_object_array_length(stop) > 5) {
        return error_set(why, -EINVAL, "stop_sequences: at most 5");
    }
    if (rc == 0 && chat->schema != NULL && !chat->json) {
        return error_set(why, -EINVAL, "response_schema: only with a response_mime_type of JSON");
    }
    return rc != 0 || chat->schema == NULL ? rc : check_schema(chat->schema, 1, why);
}

int api_generate_read(struct chat *chat, bool strict, struct error *why) {
    static const char *const known[] = {
        "contents", "systemInstruction", "generationConfig", "safetySettings", "tools", "toolConfig",
        "cachedContent", "serviceTier", "labels",
    };
    struct json_object *contents = json_get(chat->root, "contents");
    struct json_object *system = json_get(chat->root, "systemInstruction");
    size_t n = json_object_is_type(contents, json_type_array) ? json_object_array_length(contents) : 0;
    int rc = strict ? check_names(chat->root, known, N(known), "request", why) : 0;
    if (rc == 0 && n == 0) {
        rc = error_set(why, -EINVAL, "GenerateContentRequest.contents: contents is not specified");
    }
    if (rc == 0 && system != NULL && chat_add_message(chat, false, json_get(system, "parts")) != 0) {
        rc = error_set(why, -EINVAL, "systemInstruction: too long");
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_object *content = json_object_array_get_idx(contents, i);
        struct json_object *parts = json_get(content, "parts");
        struct slice role = json_text(json_get(content, "role"));
        if (role.n > 0 && !slice_is(role, "user") && !slice_is(role, "model")) {
            return error_set(why, -EINVAL, "Please use a valid role: user, model.");
        }
        if (!json_object_is_type(parts, json_type_array) || json_object_array_length(parts) == 0) {
            return error_set(why, -EINVAL, "GenerateContentRequest.contents[%zu].parts: must not be empty", i);
        }
        if (chat_add_parts(chat, !slice_is(role, "model"), parts, why) != 0) {
            return -EINVAL;
        }
    }
    return rc != 0 ? rc : read_config(chat, strict, why);
}

int api_generate_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                       struct buf *out) {
    bool blocked = job->fault == FAULT_FILTER, stopped = job->fault == FAULT_REFUSAL;
    const char *reason = stopped ? "SAFETY" : strcmp(job->finish, "length") == 0 ? "MAX_TOKENS" : "STOP";
    int rc = buf_add_byte(out, '{');
    if (rc == 0 && blocked) {
        rc = buf_add_str(out, "\"promptFeedback\":{\"blockReason\":\"PROHIBITED_CONTENT\"}");
    } else if (rc == 0) {
        rc = buf_addf(out, "\"candidates\":[{\"index\":0,\"finishReason\":\"%s\"", reason);
        if (rc == 0 && !stopped) {
            rc = buf_add_str(out, ",\"content\":{\"role\":\"model\",\"parts\":[{\"thought\":true,\"text\":"
                                  "\"[{\"},{\"text\":");
            rc = rc != 0 ? rc : json_add_string(out, content);
            rc = rc != 0 ? rc : buf_add_str(out, "}]}");
        }
        rc = rc != 0 ? rc : buf_add_str(out, "}]");
    }
    size_t answered = job->output_tokens;
    job->output_tokens += THOUGHT_TOKENS;
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",\"usageMetadata\":{\"promptTokenCount\":%zu,\"candidatesTokenCount\":%zu,"
                            "\"thoughtsTokenCount\":%d,\"totalTokenCount\":%zu},\"responseId\":\"%016" PRIx64
                            "\",\"modelVersion\":",
                            job->input_tokens, answered, THOUGHT_TOKENS,
                            job->input_tokens + job->output_tokens, draw);
    rc = rc != 0 ? rc : json_add_string(out, chat->model);
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// --- batchEmbedContents --------------------------------------------------------------------------

static int read_input(struct chat *chat, struct json_object *request, size_t i, bool strict,
                      struct error *why) {
    static const char *const known[] = {"model", "content", "taskType", "title", "outputDimensionality"};
    struct json_object *parts = json_get(json_get(request, "content"), "parts");
    struct json_object *dimensions = json_get(request, "outputDimensionality");
    struct json_object *part =
        json_object_is_type(parts, json_type_array) && json_object_array_length(parts) == 1
            ? json_object_array_get_idx(parts, 0)
            : NULL;
    int rc = strict ? check_names(request, known, N(known), "requests", why) : 0;
    if (rc == 0 && !slice_starts(json_text(json_get(request, "model")), "models/")) {
        rc = error_set(why, -EINVAL, "BatchEmbedContentsRequest.requests[%zu].model: unexpected model name "
                                     "format", i);
    }
    if (rc == 0 && json_text(json_get(part, "text")).n == 0) {
        rc = error_set(why, -EINVAL, "BatchEmbedContentsRequest.requests[%zu].content: is empty", i);
    }
    chat->dimensions = dimensions != NULL ? json_object_get_int64(dimensions) : USUAL_DIMENSIONS;
    if (rc == 0 && (chat->dimensions < 1 || chat->dimensions > MOST_DIMENSIONS)) {
        rc = error_set(why, -EINVAL, "output_dimensionality: out of range");
    }
    if (rc == 0 && chat_add_input(chat, (int64_t)i, json_get(part, "text")) != 0) {
        rc = error_set(why, -EINVAL, "requests[%zu]: too long", i);
    }
    return rc;
}

int api_batch_embed_read(struct chat *chat, bool strict, struct error *why) {
    static const char *const known[] = {"requests"};
    struct json_object *requests = json_get(chat->root, "requests");
    size_t n = json_object_is_type(requests, json_type_array) ? json_object_array_length(requests) : 0;
    int rc = strict ? check_names(chat->root, known, N(known), "request", why) : 0;
    chat->vectors = true;
    if (rc == 0 && (n == 0 || n > INPUTS_MOST)) {
        rc = error_set(why, -EINVAL,
                       "BatchEmbedContentsRequest.requests: at most %d requests can be in one batch, and at "
                       "least one", INPUTS_MOST);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = read_input(chat, json_object_array_get_idx(requests, i), i, strict, why);
    }
    return rc;
}

// n_told is how many vectors come: one too few or too many leaves no order to go by.
static size_t n_told(const struct job *job, size_t n) {
    return job->fault == FAULT_EMPTY                                           ? 0
           : job->fault == FAULT_MISSING                                       ? n - 1
           : job->fault == FAULT_OUT_OF_RANGE || job->fault == FAULT_DUPLICATE ? n + 1
                                                                               : n;
}

int api_batch_embed_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                          struct buf *out) {
    size_t struck = (size_t)(draw % chat->n_slots), n = n_told(job, chat->n_slots);
    bool wrong = job->fault == FAULT_MALFORMED;
    int rc = buf_add_str(out, wrong ? "{\"embeddings\":\"oops\"" : "{\"embeddings\":[");
    job->output_tokens = 0;
    for (size_t i = 0; rc == 0 && i < n && !wrong; i++) {
        struct chat_slot *slot = &chat->slots[i < chat->n_slots ? i : 0];
        bool none = job->fault == FAULT_WRONG_TYPE && i == struck;
        rc = buf_add_str(out, i > 0 ? ",{\"values\":" : "{\"values\":");
        rc = rc != 0 ? rc
             : none  ? buf_add_str(out, "{}")
                     : api_add_vector(answer_hash(chat_text(chat, slot)), chat->dimensions, out);
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
        slot->item_end = none || n != chat->n_slots ? 0 : out->n;
    }
    return rc != 0 ? rc : buf_add_str(out, wrong ? "}" : "]}");
}
