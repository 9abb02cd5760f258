// OpenAI chat completions, and every endpoint that speaks the same. Invariant: read never trusts a
// type: whatever is missing or of another type is "not there".
// Source: platform.openai.com/docs/api-reference/chat, 2026-11.
#include "worker/openai.h"

#include "common/json.h"
#include "worker/parts.h"

// ---- The request --------------------------------------------------------------------------------

static int add_message(const char *role, struct slice text, bool first, struct buf *out) {
    int rc = buf_addf(out, "%s{\"role\":\"%s\",\"content\":", first ? "" : ",", role);
    rc = rc != 0 ? rc : json_add_string(out, text);
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int add_part(const struct ask *ask, const struct part *part, struct buf *out) {
    if (!part->is_image) {
        int rc = buf_add_str(out, "{\"type\":\"text\",\"text\":");
        rc = rc != 0 ? rc : json_add_string(out, part->text);
        return rc != 0 ? rc : buf_add_byte(out, '}');
    }
    int rc = buf_add_str(out, "{\"type\":\"image_url\",\"image_url\":{\"url\":");
    rc = rc != 0 ? rc : parts_add_url(part, out);
    rc = rc != 0 ? rc : openai_add_detail(ask->model, out);
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

static int add_user(const struct ask *ask, struct buf *out) {
    bool first = ask->system.n == 0;
    if (!parts_has_mark(ask->user)) {
        return add_message("user", ask->user, first, out);
    }
    int rc = buf_addf(out, "%s{\"role\":\"user\",\"content\":[", first ? "" : ",");
    rc = rc != 0 ? rc : parts_add(ask, ask->user, add_part, out);
    return rc != 0 ? rc : buf_add_str(out, "]}");
}

static int add_schema(struct slice schema, struct buf *out) {
    int rc = buf_add_str(out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
                              "\"name\":\"answer\",\"strict\":true,\"schema\":");
    rc = rc != 0 ? rc : buf_add_slice(out, schema);
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

static int add_options(const struct model *model, struct slice schema, struct buf *out) {
    const struct model_options *o = &model->options;
    int rc = body_add_number("temperature", o->temperature, out);
    rc = rc != 0 ? rc : body_add_number("top_p", o->top_p, out);
    rc = rc != 0 ? rc : body_add_count(openai_max_tokens(model), o->max_tokens, out);
    rc = rc != 0 ? rc : body_add_count("seed", o->seed, out);
    if (rc == 0 && o->stop[0] != '\0') {
        rc = buf_addf(out, ",\"stop\":%s", o->stop);
    }
    return rc == 0 && schema.n > 0 ? add_schema(schema, out) : rc;
}

static int chat_write(const struct ask *ask, struct buf *body) {
    int rc = buf_add_str(body, "{\"model\":");
    rc = rc != 0 ? rc : json_add_string(body, slice_of(ask->model->options.model));
    rc = rc != 0 ? rc : buf_add_str(body, ",\"messages\":[");
    if (rc == 0 && ask->system.n > 0) {
        rc = add_message("system", ask->system, true, body);
    }
    rc = rc != 0 ? rc : add_user(ask, body);
    rc = rc != 0 ? rc : buf_add_byte(body, ']');
    rc = rc != 0 ? rc : add_options(ask->model, ask->schema, body);
    return rc != 0 ? rc : openai_finish_body(ask->model, body);
}

// ---- The answer ---------------------------------------------------------------------------------

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

// read_text borrows a message's content: a string, or the text parts of an array one after another.
static void read_text(struct json_object *message, struct answer *answer) {
    struct json_object *content = json_get(message, "content");
    if (!json_object_is_type(content, json_type_array)) {
        answer->text = json_text(content);
        return;
    }
    buf_init(&answer->made, ANSWER_TEXT_MAX);
    size_t n = json_object_array_length(content);
    for (size_t i = 0; i < n; i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        if (buf_add_slice(&answer->made, json_text(json_get(part, "text"))) != 0) {
            break; // no longer than the reply that it came from
        }
    }
    answer->text = buf_slice(&answer->made);
}

static void read_choice(struct json_object *choice, struct answer *answer) {
    struct json_object *message = json_get(choice, "message");
    answer->finish = finish_of(json_text(json_get(choice, "finish_reason")));
    read_text(message, answer);
    if (answer->finish == FINISH_FILTERED || json_get(message, "refusal") != NULL) {
        answer->finish = FINISH_FILTERED;
        answer_fail(answer, OUTCOME_FILTERED, "the provider's filter or the model refused to answer");
    } else if (answer->finish == FINISH_LENGTH && slice_trim(answer->text).n == 0) {
        answer_fail(answer, OUTCOME_TRUNCATED,
                    "the answer ended at the token limit before any text: raise 'max.tokens'");
    } else if (answer->finish == FINISH_TOOL && answer->text.n == 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "the model called a tool and gave no text");
    }
}

// is_cut says that the server has read far less than was sent. No tokenizer puts more than CUT_BYTES of
// text that people write into a token; counts that small may leave out what was cached.
#define CUT_BYTES 8
#define CUT_LEAST 1024
static bool is_cut(const struct reply *reply, const struct answer *answer) {
    return reply->model->provider->id == PROVIDER_OLLAMA && answer->usage_known &&
           answer->input_tokens >= CUT_LEAST && reply->n_prompt / CUT_BYTES > answer->input_tokens;
}

static void chat_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(reply->model->provider->id, reply, answer);
    if (root == NULL) {
        return;
    }
    openai_read_usage(json_get(root, "usage"), answer);
    openai_read_top(root, answer);
    struct json_object *choices = json_get(root, "choices");
    struct json_object *choice = json_object_is_type(choices, json_type_array) &&
                                         json_object_array_length(choices) > 0
                                     ? json_object_array_get_idx(choices, 0)
                                     : NULL;
    if (json_get(choice, "message") == NULL) {
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no choices[0].message");
        return;
    }
    if (is_cut(reply, answer)) {
        answer_fail(answer, OUTCOME_TOO_LARGE,
                    "the server has cut the prompt to its context: raise OLLAMA_CONTEXT_LENGTH, or "
                    "lower 'batch.size'");
        return;
    }
    read_choice(choice, answer);
}

const struct dialect openai_chat = {.write = chat_write, .read = chat_read};
