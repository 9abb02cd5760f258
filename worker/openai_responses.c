// OpenAI responses. Invariant: only parts of type output_text are the answer; reasoning, tool calls and
// whatever comes later are skipped.
// Source: platform.openai.com/docs/api-reference/responses, 2026-11.
#include "worker/openai.h"

#include "common/json.h"
#include "worker/parts.h"

// ---- The request --------------------------------------------------------------------------------

static int add_schema(struct slice schema, struct buf *out) {
    int rc = buf_add_str(out, ",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"answer\","
                              "\"strict\":true,\"schema\":");
    rc = rc != 0 ? rc : buf_add_slice(out, schema);
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

static int add_part(const struct ask *ask, const struct part *part, struct buf *out) {
    int rc = buf_add_str(out, part->is_image ? "{\"type\":\"input_image\",\"image_url\":"
                                             : "{\"type\":\"input_text\",\"text\":");
    rc = rc != 0 ? rc : part->is_image ? parts_add_url(part, out) : json_add_string(out, part->text);
    rc = rc == 0 && part->is_image ? openai_add_detail(ask->model, out) : rc;
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int add_input(const struct ask *ask, struct buf *out) {
    if (!parts_has_mark(ask->user)) {
        return json_add_string(out, ask->user);
    }
    int rc = buf_add_str(out, "[{\"role\":\"user\",\"content\":[");
    rc = rc != 0 ? rc : parts_add(ask, ask->user, add_part, out);
    return rc != 0 ? rc : buf_add_str(out, "]}]");
}

// store: nothing of a bulk job is to be kept at the provider; option 'params' may say otherwise.
static int responses_write(const struct ask *ask, struct buf *body) {
    const struct model_options *o = &ask->model->options;
    int rc = buf_add_str(body, "{\"model\":");
    rc = rc != 0 ? rc : json_add_string(body, slice_of(o->model));
    if (rc == 0 && ask->system.n > 0) {
        rc = buf_add_str(body, ",\"instructions\":");
        rc = rc != 0 ? rc : json_add_string(body, ask->system);
    }
    rc = rc != 0 ? rc : buf_add_str(body, ",\"input\":");
    rc = rc != 0 ? rc : add_input(ask, body);
    rc = rc != 0 ? rc : buf_add_str(body, ",\"store\":false");
    rc = rc != 0 ? rc : body_add_number("temperature", o->temperature, body);
    rc = rc != 0 ? rc : body_add_number("top_p", o->top_p, body);
    rc = rc != 0 ? rc : body_add_count("max_output_tokens", o->max_tokens, body);
    rc = rc != 0 || ask->schema.n == 0 ? rc : add_schema(ask->schema, body);
    return rc != 0 ? rc : openai_finish_body(ask->model, body);
}

// ---- The answer ---------------------------------------------------------------------------------

// read_parts appends a message's text; true when a part is a refusal.
static bool read_parts(struct json_object *item, struct answer *answer) {
    struct json_object *content = json_get(item, "content");
    bool refused = false;
    size_t n = json_object_is_type(content, json_type_array) ? json_object_array_length(content) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        struct slice type = json_text(json_get(part, "type"));
        if (slice_is(type, "output_text") &&
            buf_add_slice(&answer->made, json_text(json_get(part, "text"))) != 0) {
            return refused; // no longer than the reply that it came from
        }
        refused |= slice_is(type, "refusal");
    }
    return refused;
}

// read_output walks the items; true when one is a refusal.
static bool read_output(struct json_object *output, struct answer *answer) {
    bool refused = false;
    size_t n = json_object_array_length(output);
    buf_init(&answer->made, ANSWER_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_array_get_idx(output, i);
        struct slice type = json_text(json_get(item, "type"));
        if (slice_is(type, "message")) {
            refused |= read_parts(item, answer);
        } else if (slice_is(type, "function_call")) {
            answer->finish = FINISH_TOOL;
        }
    }
    answer->text = buf_slice(&answer->made);
    return refused;
}

static void read_status(struct json_object *root, struct answer *answer) {
    struct slice status = json_text(json_get(root, "status"));
    struct slice reason = json_text(json_get(json_get(root, "incomplete_details"), "reason"));
    if (slice_is(status, "incomplete")) {
        answer->finish = slice_is(reason, "max_output_tokens") ? FINISH_LENGTH
                         : slice_is(reason, "content_filter")  ? FINISH_FILTERED
                                                               : FINISH_OTHER;
    } else if (status.n > 0 && !slice_is(status, "completed")) {
        answer->finish = FINISH_OTHER;
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with a response that is not completed");
    }
}

static void responses_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(reply->model->provider->id, reply, answer);
    if (root == NULL) {
        return;
    }
    openai_read_usage(json_get(root, "usage"), answer);
    openai_read_top(root, answer);
    read_status(root, answer);
    struct json_object *output = json_get(root, "output");
    bool refused = json_object_is_type(output, json_type_array) && read_output(output, answer);
    if (answer->outcome != OUTCOME_OK) {
        return;
    }
    if (!json_object_is_type(output, json_type_array)) {
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no output");
    } else if (refused || answer->finish == FINISH_FILTERED) {
        answer->finish = FINISH_FILTERED;
        answer_fail(answer, OUTCOME_FILTERED, "the provider's filter or the model refused to answer");
    } else if (answer->finish == FINISH_LENGTH && slice_trim(answer->text).n == 0) {
        answer_fail(answer, OUTCOME_TRUNCATED,
                    "the answer ended at the token limit before any text: raise 'max.tokens'");
    } else if (answer->finish == FINISH_TOOL && answer->text.n == 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "the model called a tool and gave no text");
    }
}

const struct dialect openai_responses = {.write = responses_write, .read = responses_read};
