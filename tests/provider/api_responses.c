// OpenAI responses: the input is a text or an array of messages; the answer stands behind an item of
// reasoning. Called through the table of APIs.
#include "tests/provider/api.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LEAST_TOKENS 16

static const char *const fields[] = {
    "model", "input", "instructions", "max_output_tokens", "store", "temperature", "top_p", "text",
    "reasoning", "metadata", "parallel_tool_calls", "previous_response_id", "service_tier", "stream",
    "stream_options", "tools", "tool_choice", "truncation", "include", "user", "background", "prompt",
    "prompt_cache_key", "safety_identifier", "top_logprobs", "max_tool_calls", "conversation",
};

static int read_input(struct chat *chat, struct error *why) {
    struct json_object *input = json_get(chat->root, "input");
    struct json_object *instructions = json_get(chat->root, "instructions");
    if (instructions != NULL && chat_add_message(chat, false, instructions) != 0) {
        return error_set(why, -EINVAL, "instructions: too long");
    }
    if (json_object_is_type(input, json_type_string)) {
        return chat_add_message(chat, true, input) == 0 ? 0 : error_set(why, -EINVAL, "input: too long");
    }
    if (!json_object_is_type(input, json_type_array) || json_object_array_length(input) == 0) {
        return error_set(why, -EINVAL, "Missing required parameter: 'input'.");
    }
    for (size_t i = 0; i < json_object_array_length(input); i++) {
        struct json_object *message = json_object_array_get_idx(input, i);
        bool user = slice_is(json_text(json_get(message, "role")), "user");
        if (json_get(message, "content") == NULL) {
            return error_set(why, -EINVAL, "input[%zu]: want role and content", i);
        }
        if (chat_add_parts(chat, user, json_get(message, "content"), why) != 0) {
            error_prefix(why, "input[%zu]: ", i);
            return -EINVAL;
        }
    }
    return 0;
}

static int read_format(struct chat *chat, bool strict, struct error *why) {
    struct json_object *format = json_get(json_get(chat->root, "text"), "format");
    struct slice type = json_text(json_get(format, "type"));
    chat->json = type.n > 0 && !slice_is(type, "text");
    chat->schema = json_get(format, "schema");
    if (!strict || !slice_is(type, "json_schema")) {
        return 0;
    }
    if (json_text(json_get(format, "name")).n == 0) {
        return error_set(why, -EINVAL, "Missing required parameter: 'text.format.name'.");
    }
    return json_object_get_boolean(json_get(format, "strict")) ? api_check_strict(chat->schema, why) : 0;
}

int api_responses_read(struct chat *chat, bool strict, struct error *why) {
    if (strict && json_get(chat->root, "response_format") != NULL) {
        return error_set(why, -EINVAL,
                         "Unsupported parameter: 'response_format'. In the Responses API, this parameter "
                         "has moved to 'text.format'.");
    }
    int rc = strict ? api_check_fields(chat->root, fields, sizeof(fields) / sizeof(fields[0]), why) : 0;
    rc = rc != 0 ? rc : read_input(chat, why);
    rc = rc != 0 ? rc : read_format(chat, strict, why);
    struct json_object *most = json_get(chat->root, "max_output_tokens");
    chat->max_tokens = json_object_get_int64(most);
    if (rc == 0 && most != NULL && chat->max_tokens < LEAST_TOKENS) {
        rc = error_set(why, -EINVAL, "Invalid 'max_output_tokens': Expected a value >= %d.", LEAST_TOKENS);
    }
    return rc;
}

int api_responses_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                        struct buf *out) {
    bool whole = strcmp(job->finish, "stop") == 0;
    const char *reason = strcmp(job->finish, "length") == 0 ? "max_output_tokens" : job->finish;
    int rc = buf_addf(out,
                      "{\"id\":\"resp_%016" PRIx64 "\",\"object\":\"response\",\"created_at\":%lld,"
                      "\"status\":\"%s\",\"error\":null,\"incomplete_details\":",
                      draw, 1764000000LL + (long long)job->n, whole ? "completed" : "incomplete");
    rc = rc != 0 ? rc : whole ? buf_add_str(out, "null") : buf_addf(out, "{\"reason\":\"%s\"}", reason);
    rc = rc != 0 ? rc : buf_add_str(out, ",\"model\":");
    rc = rc != 0 ? rc : json_add_string(out, chat->model);
    rc = rc != 0 ? rc
                 : buf_add_str(out, ",\"output\":[{\"type\":\"reasoning\",\"id\":\"rs_1\",\"summary\":[]},"
                                    "{\"type\":\"message\",\"id\":\"msg_1\",\"role\":\"assistant\","
                                    "\"status\":\"completed\",\"content\":[");
    if (rc == 0 && job->fault == FAULT_REFUSAL) {
        rc = buf_add_str(out, "{\"type\":\"refusal\",\"refusal\":\"I'm sorry, I cannot help.\"}");
    } else if (rc == 0) {
        rc = buf_add_str(out, "{\"type\":\"output_text\",\"annotations\":[],\"text\":");
        rc = rc != 0 ? rc : json_add_string(out, content);
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
    }
    return rc != 0 ? rc
                   : buf_addf(out,
                              "]}],\"usage\":{\"input_tokens\":%zu,\"output_tokens\":%zu,"
                              "\"total_tokens\":%zu,\"input_tokens_details\":{\"cached_tokens\":0},"
                              "\"output_tokens_details\":{\"reasoning_tokens\":0}},"
                              "\"service_tier\":\"default\"}",
                              job->input_tokens, job->output_tokens,
                              job->input_tokens + job->output_tokens);
}
