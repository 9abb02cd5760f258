// OpenAI chat completions. Invariant: an answer depends on the request, the seed and the request's number
// alone, so that a run can be repeated. Called through the table of APIs.
#include "tests/provider/api.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>

static const char *const fields[] = {
    "model", "messages", "audio", "frequency_penalty", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "reasoning_effort",
    "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
    "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
    "verbosity",
};

static int read_messages(struct chat *chat, struct error *why) {
    struct json_object *messages = json_get(chat->root, "messages");
    if (!json_object_is_type(messages, json_type_array) || json_object_array_length(messages) == 0) {
        return error_set(why, -EINVAL, "messages: want an array of one or more");
    }
    for (size_t i = 0; i < json_object_array_length(messages); i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        struct slice role = json_text(json_get(message, "role"));
        struct json_object *content = json_get(message, "content");
        if (role.n == 0 || content == NULL) {
            return error_set(why, -EINVAL, "messages[%zu]: want role and content", i);
        }
        if (chat_add_parts(chat, slice_is(role, "user"), content, why) != 0) {
            error_prefix(why, "messages[%zu]: ", i);
            return -EINVAL;
        }
    }
    return 0;
}

// read_format takes the schema; a flat one, as responses have it, is not read, as servers do.
static int read_format(struct chat *chat, bool strict, struct error *why) {
    struct json_object *format = json_get(chat->root, "response_format");
    struct slice type = json_text(json_get(format, "type"));
    struct json_object *wrapped = json_get(format, "json_schema");
    chat->json = type.n > 0 && !slice_is(type, "text");
    chat->schema = json_get(wrapped, "schema");
    if (!strict || !slice_is(type, "json_schema")) {
        return 0;
    }
    if (json_text(json_get(wrapped, "name")).n == 0) {
        return error_set(why, -EINVAL, "Missing required parameter: 'response_format.json_schema.name'.");
    }
    return json_object_get_boolean(json_get(wrapped, "strict")) ? api_check_strict(chat->schema, why) : 0;
}

int api_chat_read(struct chat *chat, bool strict, struct error *why) {
    int rc = read_messages(chat, why);
    if (rc == 0 && strict) {
        rc = api_check_fields(chat->root, fields, sizeof(fields) / sizeof(fields[0]), why);
    }
    rc = rc != 0 ? rc : read_format(chat, strict, why);
    struct json_object *most = json_get(chat->root, "max_completion_tokens");
    most = most != NULL ? most : json_get(chat->root, "max_tokens");
    chat->max_tokens = json_object_get_int64(most);
    return rc;
}

int api_chat_write(struct job *job, struct chat *chat, uint64_t draw, struct slice content,
                   struct buf *out) {
    int rc = buf_addf(out,
                      "{\"id\":\"chatcmpl-%016" PRIx64 "\",\"object\":\"chat.completion\","
                      "\"created\":%lld,\"model\":",
                      draw,
                      1764000000LL + (long long)job->n); // not the clock: answers can be repeated
    rc = rc != 0 ? rc : json_add_string(out, chat->model);
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",\"choices\":[{\"index\":0,\"finish_reason\":\"%s\",\"logprobs\":null,"
                            "\"message\":{\"role\":\"assistant\",\"content\":",
                            job->finish);
    if (rc == 0) {
        rc = job->fault == FAULT_REFUSAL
                 ? buf_add_str(out, "null,\"refusal\":\"I'm sorry, I cannot help with that.\"")
                 : json_add_string(out, content);
    }
    rc = rc != 0 || job->fault == FAULT_REFUSAL ? rc : buf_add_str(out, ",\"refusal\":null");
    return rc != 0 ? rc
                   : buf_addf(out,
                              ",\"annotations\":[]}}],\"usage\":{\"prompt_tokens\":%zu,"
                              "\"completion_tokens\":%zu,\"total_tokens\":%zu,"
                              "\"prompt_tokens_details\":{\"cached_tokens\":0},"
                              "\"completion_tokens_details\":{\"reasoning_tokens\":0}},"
                              "\"service_tier\":\"default\"}",
                              job->input_tokens, job->output_tokens,
                              job->input_tokens + job->output_tokens);
}
