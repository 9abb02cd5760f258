// Anthropic messages: max_tokens is required, system stands at the top, a schema keeps to a subset of its
// own; the answer's text comes after a block of thinking. Called through the table of APIs.
#include "tests/provider/api.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define BREAKPOINTS_MOST 4
#define CACHE_LEAST      1024 // tokens
#define DEPTH_MAX        32
#define OPTIONALS_MOST   24
#define UNIONS_MOST      16

static const char *const fields[] = {
    "model", "messages", "max_tokens", "system", "stop_sequences", "metadata", "service_tier",
    "inference_geo", "thinking", "output_config", "tools", "tool_choice", "cache_control", "stream",
    "temperature", "top_p", "top_k", "container", "context_management", "mcp_servers",
};
#define N(names) (sizeof(names) / sizeof(names[0]))

// --- schemas -------------------------------------------------------------------------------------

struct subset {
    size_t n_optional, n_unions;
};

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

static int check_schema(struct json_object *schema, int depth, struct subset *s, struct error *why);

static int check_object(struct json_object *schema, int depth, struct subset *s, struct error *why) {
    struct json_object *more = NULL, *properties = json_get(schema, "properties");
    if (!json_object_object_get_ex(schema, "additionalProperties", &more) ||
        !json_object_is_type(more, json_type_boolean) || json_object_get_boolean(more)) {
        return error_set(why, -EINVAL,
                         "output_config.format.schema: For 'object' type, 'additionalProperties' must be "
                         "explicitly set to false");
    }
    int rc = 0;
    if (json_object_is_type(properties, json_type_object)) {
        json_object_object_foreach(properties, name, property) {
            s->n_optional += !is_required(schema, name);
            rc = rc != 0 ? rc : check_schema(property, depth + 1, s, why);
        }
    }
    return rc;
}

static bool is_format(struct slice format) {
    static const char *const formats[] = {"date-time", "time", "date", "duration", "email",
                                          "hostname",  "uri",  "ipv4", "ipv6",     "uuid"};
    for (size_t i = 0; i < N(formats); i++) {
        if (slice_is(format, formats[i])) {
            return true;
        }
    }
    return format.n == 0;
}

static int check_schema(struct json_object *schema, int depth, struct subset *s, struct error *why) {
    static const char *const known[] = {
        "type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "default", "required", "properties",
        "additionalProperties", "format", "minItems", "pattern", "items", "description", "title",
    };
    struct json_object *type = json_get(schema, "type");
    const char *name = depth > DEPTH_MAX ? "depth" : api_unknown_field(schema, known, N(known));
    if (name != NULL) {
        return error_set(why, -EINVAL, "output_config.format.schema: property '%.60s' is not supported",
                         name);
    }
    if (!is_format(json_text(json_get(schema, "format")))) {
        return error_set(why, -EINVAL, "output_config.format.schema: format is not supported");
    }
    bool is_union = json_object_is_type(type, json_type_array);
    s->n_unions += is_union || json_get(schema, "anyOf") != NULL;
    bool object = slice_is(json_text(type), "object");
    for (size_t i = 0; is_union && i < json_object_array_length(type); i++) {
        object |= slice_is(json_text(json_object_array_get_idx(type, i)), "object");
    }
    int rc = object ? check_object(schema, depth, s, why) : 0;
    struct json_object *items = json_get(schema, "items");
    return rc != 0 || items == NULL ? rc : check_schema(items, depth + 1, s, why);
}

static int read_format(struct chat *chat, bool strict, struct error *why) {
    struct json_object *format = json_get(json_get(chat->root, "output_config"), "format");
    struct subset subset = {0};
    if (format == NULL) {
        return 0;
    }
    chat->schema = json_get(format, "schema");
    chat->json = true;
    if (!slice_is(json_text(json_get(format, "type")), "json_schema") ||
        !json_object_is_type(chat->schema, json_type_object)) {
        return error_set(why, -EINVAL, "output_config.format: want type json_schema and a schema");
    }
    int rc = strict ? check_schema(chat->schema, 1, &subset, why) : 0;
    if (rc == 0 && (subset.n_optional > OPTIONALS_MOST || subset.n_unions > UNIONS_MOST)) {
        rc = error_set(why, -EINVAL, "output_config.format.schema: Schema is too complex for compilation");
    }
    return rc;
}

// --- messages ------------------------------------------------------------------------------------

// read_content adds a text or an array of blocks, and counts its breakpoints.
static int read_content(struct chat *chat, bool user, struct json_object *content, size_t *n_cached,
                        struct error *why) {
    static const char *const known[] = {"type", "text", "cache_control", "citations", "source"};
    bool blocks = json_object_is_type(content, json_type_array);
    size_t n = blocks ? json_object_array_length(content) : 0, at_last = n;
    for (size_t i = 0; i < n; i++) {
        struct json_object *block = json_object_array_get_idx(content, i);
        struct slice type = json_text(json_get(block, "type"));
        if (type.n == 0 || api_unknown_field(block, known, N(known)) != NULL) {
            return error_set(why, -EINVAL, "content.%zu: Extra inputs are not permitted", i);
        }
        if (slice_is(type, "text") && slice_trim(json_text(json_get(block, "text"))).n == 0) {
            return error_set(why, -EINVAL, "messages: text content blocks must be non-empty");
        }
        if (json_get(block, "cache_control") != NULL) {
            ++*n_cached;
            at_last = i;
        }
    }
    if (!blocks && slice_trim(json_text(content)).n == 0) {
        return error_set(why, -EINVAL, "messages: text content blocks must be non-empty");
    }
    size_t before = chat->input_tokens;
    if (chat_add_parts(chat, user, content, why) != 0) {
        return -EINVAL;
    }
    if (at_last < n) { // a block's tokens are a quarter of its bytes
        chat->cached_tokens = before;
        for (size_t i = 0; i <= at_last; i++) {
            chat->cached_tokens +=
                json_text(json_get(json_object_array_get_idx(content, i), "text")).n / 4;
        }
    }
    return 0;
}

static int read_message(struct chat *chat, struct json_object *message, size_t i, size_t *n_cached,
                        struct error *why) {
    static const char *const known[] = {"role", "content"};
    struct slice role = json_text(json_get(message, "role"));
    bool user = slice_is(role, "user");
    const char *name = api_unknown_field(message, known, N(known));
    if (name != NULL) {
        return error_set(why, -EINVAL, "messages.%zu.%.60s: Extra inputs are not permitted", i, name);
    }
    if (!user && (i == 0 || !slice_is(role, "assistant"))) {
        return error_set(why, -EINVAL, "messages: Unexpected role \"%.*s\". The Messages API accepts a "
                                       "top-level `system` parameter, not \"system\" as an input message "
                                       "role.", SLICE_FMT(slice_sub(role, 0, 20)));
    }
    return read_content(chat, user, json_get(message, "content"), n_cached, why);
}

static int read_messages(struct chat *chat, struct error *why) {
    struct json_object *messages = json_get(chat->root, "messages");
    struct json_object *system = json_get(chat->root, "system");
    size_t n = json_object_is_type(messages, json_type_array) ? json_object_array_length(messages) : 0;
    size_t n_cached = 0;
    int rc = n > 0 ? 0 : error_set(why, -EINVAL, "messages: Field required");
    rc = rc != 0 || system == NULL ? rc : read_content(chat, false, system, &n_cached, why);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = read_message(chat, json_object_array_get_idx(messages, i), i, &n_cached, why);
    }
    struct json_object *last = n > 0 ? json_object_array_get_idx(messages, n - 1) : NULL;
    if (rc == 0 && !slice_is(json_text(json_get(last, "role")), "user")) {
        rc = error_set(why, -EINVAL, "This model does not support assistant message prefill.");
    }
    if (rc == 0 && n_cached > BREAKPOINTS_MOST) {
        rc = error_set(why, -EINVAL, "A maximum of 4 blocks with cache_control may be provided.");
    }
    return rc;
}

int api_messages_read(struct chat *chat, bool strict, struct error *why) {
    const char *name = strict ? api_unknown_field(chat->root, fields, N(fields)) : NULL;
    struct json_object *most = json_get(chat->root, "max_tokens");
    struct json_object *temperature = json_get(chat->root, "temperature");
    if (name != NULL) {
        return error_set(why, -EINVAL, "%.60s: Extra inputs are not permitted", name);
    }
    if (!json_object_is_type(most, json_type_int) || json_object_get_int64(most) < 1) {
        return error_set(why, -EINVAL, "max_tokens: Field required");
    }
    if (json_object_get_double(temperature) > 1) {
        return error_set(why, -EINVAL, "temperature: Input should be less than or equal to 1");
    }
    chat->max_tokens = json_object_get_int64(most);
    int rc = read_messages(chat, why);
    return rc != 0 ? rc : read_format(chat, strict, why);
}

// --- the answer ----------------------------------------------------------------------------------

static const char *reason_of(const struct job *job) {
    return job->fault == FAULT_REFUSAL || job->fault == FAULT_FILTER ? "refusal"
           : strcmp(job->finish, "length") == 0                     ? "max_tokens"
                                                                    : "end_turn";
}

static int add_usage(const struct job *job, const struct chat *chat, struct buf *out) {
    size_t cached = chat->cached_tokens < CACHE_LEAST ? 0 : chat->cached_tokens;
    cached = cached > job->input_tokens ? job->input_tokens : cached;
    bool first = job->n == 1; // it writes, and all others read
    return buf_addf(out,
                    ",\"usage\":{\"input_tokens\":%zu,\"cache_creation_input_tokens\":%zu,"
                    "\"cache_read_input_tokens\":%zu,\"cache_creation\":{\"ephemeral_5m_input_tokens\":%zu,"
                    "\"ephemeral_1h_input_tokens\":0},\"output_tokens\":%zu,\"service_tier\":"
                    "\"standard\"}}",
                    job->input_tokens - cached, first ? cached : 0, first ? 0 : cached,
                    first ? cached : 0, job->output_tokens);
}

int api_messages_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                       struct buf *out) {
    const char *reason = reason_of(job);
    bool refused = strcmp(reason, "refusal") == 0;
    int rc = buf_addf(out, "{\"id\":\"msg_%016" PRIx64 "\",\"type\":\"message\",\"role\":\"assistant\","
                           "\"model\":", draw);
    rc = rc != 0 ? rc : json_add_string(out, chat->model);
    rc = rc != 0 ? rc : buf_add_str(out, ",\"content\":[");
    if (rc == 0 && !refused) {
        rc = buf_add_str(out, "{\"type\":\"thinking\",\"thinking\":\"[{\",\"signature\":\"c2ln\"},"
                              "{\"type\":\"text\",\"text\":");
        rc = rc != 0 ? rc : json_add_string(out, content);
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
    }
    rc = rc != 0 ? rc
                 : buf_addf(out, "],\"stop_reason\":\"%s\",\"stop_sequence\":null,\"stop_details\":%s",
                            reason,
                            refused ? "{\"type\":\"refusal\",\"category\":\"general_harms\","
                                      "\"explanation\":\"It was declined.\"}"
                                    : "null");
    return rc != 0 ? rc : add_usage(job, chat, out);
}
