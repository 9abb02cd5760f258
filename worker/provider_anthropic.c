// Anthropic messages. Invariants: only blocks of type text are the answer; a breakpoint of the prompt
// cache stands behind text that is the same in every call of the model, and nowhere else.
// Source: platform.claude.com/docs/en/api/messages, 2026-11.
#include "worker/provider.h"

#include "common/json.h"
#include "worker/fixed.h"
#include "worker/parts.h"

#include <stdio.h>
#include <string.h>

#define CACHED ",\"cache_control\":{\"type\":\"ephemeral\"}"

static int headers(const struct model *model, struct buf *lines) {
    int rc = buf_add_str(lines, "anthropic-version: 2023-06-01\n");
    if (rc != 0 || model->options.api_key[0] == '\0') {
        return rc;
    }
    return buf_addf(lines, "x-api-key: %s\n", model->options.api_key);
}

// ---- The request --------------------------------------------------------------------------------

static int add_block(struct slice text, bool cached, struct buf *out) {
    int rc = buf_add_str(out, "[{\"type\":\"text\",\"text\":");
    rc = rc != 0 ? rc : json_add_string(out, text);
    return rc != 0 ? rc : buf_add_str(out, cached ? CACHED "}" : "}");
}

static int add_part(const struct ask *ask, const struct part *part, struct buf *out) {
    if (!part->is_image) {
        int rc = buf_add_str(out, "{\"type\":\"text\",\"text\":");
        rc = rc != 0 ? rc : json_add_string(out, part->text);
        return rc != 0 ? rc : buf_add_byte(out, '}');
    }
    bool is_link = part->bytes.n == 0;
    int rc = is_link ? buf_add_str(out, "{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":")
                     : buf_addf(out, "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"%s\","
                                     "\"data\":", image_media_type(part->kind));
    rc = rc != 0 ? rc : is_link ? parts_add_url(part, out) : parts_add_base64(part, out);
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

// add_prompt writes system and user. The cache takes what comes before a breakpoint as a whole: behind
// the fixed part of the user message when there is one, else behind the system message.
static int add_prompt(const struct ask *ask, struct buf *out) {
    bool fixed = fixed_system(ask->model);
    size_t n = fixed ? fixed_prefix(ask->model, ask->user) : 0;
    int rc = 0;
    if (ask->system.n > 0) {
        rc = buf_add_str(out, ",\"system\":");
        rc = rc != 0 ? rc : add_block(ask->system, fixed && n == 0, out);
        rc = rc != 0 ? rc : buf_add_byte(out, ']');
    }
    rc = rc != 0 ? rc : buf_add_str(out, ",\"messages\":[{\"role\":\"user\",\"content\":");
    if (n == 0 && !parts_has_mark(ask->user)) {
        rc = rc != 0 ? rc : json_add_string(out, ask->user);
        return rc != 0 ? rc : buf_add_str(out, "}]");
    }
    rc = rc != 0 ? rc : n > 0 ? add_block(slice_sub(ask->user, 0, n), true, out) : buf_add_byte(out, '[');
    rc = rc == 0 && n > 0 ? buf_add_byte(out, ',') : rc;
    rc = rc != 0 ? rc : parts_add(ask, slice_sub(ask->user, n, ask->user.n), add_part, out);
    return rc != 0 ? rc : buf_add_str(out, "]}]");
}

// Limits of structured output: parameters with union types, [T,"null"], of one request.
#define UNIONS_MOST 16

static size_t count_unions(struct slice schema) {
    static const char mark[] = "\"type\":[";
    size_t n = 0;
    for (const char *at = schema.p, *end = schema.p + schema.n; at < end; n++) {
        at = memmem(at, (size_t)(end - at), mark, sizeof(mark) - 1);
        if (at == NULL) {
            break;
        }
        at++;
    }
    return n;
}

// takes_schema: a schema that is sure to be refused is left out, unless it must go along.
static bool takes_schema(const struct ask *ask) {
    return ask->schema.n > 0 && (count_unions(ask->schema) <= UNIONS_MOST ||
                                 ask->model->options.structured_output == STRUCTURED_REQUIRED);
}

static int messages_write(const struct ask *ask, struct buf *body) {
    const struct model_options *o = &ask->model->options;
    int rc = buf_add_str(body, "{\"model\":");
    rc = rc != 0 ? rc : json_add_string(body, slice_of(o->model));
    rc = rc != 0 ? rc : body_add_count("max_tokens", o->max_tokens, body);
    rc = rc != 0 ? rc : add_prompt(ask, body);
    rc = rc != 0 ? rc : body_add_number("temperature", o->temperature, body);
    rc = rc != 0 ? rc : body_add_number("top_p", o->top_p, body);
    if (rc == 0 && o->stop[0] != '\0') {
        rc = buf_addf(body, ",\"stop_sequences\":%s", o->stop);
    }
    if (rc == 0 && takes_schema(ask)) {
        rc = buf_add_str(body, ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":");
        rc = rc != 0 ? rc : buf_add_slice(body, ask->schema);
        rc = rc != 0 ? rc : buf_add_str(body, "}}");
    }
    rc = rc != 0 ? rc : buf_add_byte(body, '}');
    return rc != 0 ? rc : body_merge(ask->model, body);
}

// ---- The answer ---------------------------------------------------------------------------------

static enum finish finish_of(struct slice reason) {
    static const struct {
        const char *name;
        enum finish finish;
    } rows[] = {
        {.name = "end_turn", .finish = FINISH_STOP},
        {.name = "stop_sequence", .finish = FINISH_STOP},
        {.name = "max_tokens", .finish = FINISH_LENGTH},
        {.name = "model_context_window_exceeded", .finish = FINISH_LENGTH},
        {.name = "refusal", .finish = FINISH_FILTERED},
        {.name = "tool_use", .finish = FINISH_TOOL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_is(reason, rows[i].name)) {
            return rows[i].finish;
        }
    }
    return reason.n == 0 ? FINISH_STOP : FINISH_OTHER;
}

#define TOKENS_MOST 1000000000000 // more than any context; a sum of three cannot wrap

// read_usage: input_tokens leaves out what was read from the cache and written to it.
static void read_usage(struct json_object *usage, struct answer *answer) {
    uint64_t fresh = 0, read = 0, written = 0, out = 0, thought = 0;
    bool known =
        answer_count(usage, "input_tokens", &fresh) && answer_count(usage, "output_tokens", &out);
    (void)answer_count(usage, "cache_read_input_tokens", &read);
    (void)answer_count(usage, "cache_creation_input_tokens", &written);
    answer->usage_known =
        known && fresh <= TOKENS_MOST && read <= TOKENS_MOST && written <= TOKENS_MOST;
    if (!answer->usage_known) {
        return;
    }
    struct json_object *details = json_get(usage, "output_tokens_details");
    answer->input_tokens = fresh + read + written;
    answer->cached_tokens = read;
    answer->cache_write_tokens = written;
    answer->output_tokens = out;
    if (answer_count(details, "thinking_tokens", &thought) && thought <= out) {
        answer->reasoning_tokens = thought;
    }
    text_clean(json_text(json_get(usage, "service_tier")), answer->service_tier,
               sizeof(answer->service_tier));
}

// read_content puts the blocks of text together; thinking comes before them and is skipped.
static void read_content(struct json_object *content, struct answer *answer) {
    size_t n = json_object_array_length(content);
    buf_init(&answer->made, ANSWER_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        struct json_object *block = json_object_array_get_idx(content, i);
        if (slice_is(json_text(json_get(block, "type")), "text") &&
            buf_add_slice(&answer->made, json_text(json_get(block, "text"))) != 0) {
            break; // no longer than the reply that it came from
        }
    }
    answer->text = buf_slice(&answer->made);
}

static void fail_refusal(struct json_object *root, struct answer *answer) {
    char category[64];
    text_clean(json_text(json_get(json_get(root, "stop_details"), "category")), category,
               sizeof(category));
    answer_fail(answer, OUTCOME_FILTERED, "the model or the provider's filter refused to answer");
    if (category[0] != '\0') {
        size_t n = strlen(answer->detail);
        snprintf(answer->detail + n, sizeof(answer->detail) - n, ": %s", category);
    }
}

static void messages_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(reply->model->provider->id, reply, answer);
    text_clean(json_text(json_get(answer->root, "request_id")), answer->request_id,
               sizeof(answer->request_id));
    if (root == NULL) {
        return;
    }
    struct json_object *content = json_get(root, "content");
    read_usage(json_get(root, "usage"), answer);
    text_clean(json_text(json_get(root, "model")), answer->served_model, sizeof(answer->served_model));
    answer->finish = finish_of(json_text(json_get(root, "stop_reason")));
    if (answer->finish == FINISH_FILTERED) {
        fail_refusal(root, answer); // what stands before it is to be thrown away
        return;
    }
    if (!json_object_is_type(content, json_type_array)) {
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no content");
        return;
    }
    read_content(content, answer);
    if (answer->finish == FINISH_LENGTH && slice_trim(answer->text).n == 0) {
        answer_fail(answer, OUTCOME_TRUNCATED,
                    "the answer ended at the token limit before any text: raise 'max.tokens', which counts "
                    "thinking too");
    } else if (answer->finish == FINISH_TOOL && answer->text.n == 0) {
        answer_fail(answer, OUTCOME_UNREADABLE, "the model called a tool and gave no text");
    }
}

static const struct dialect messages = {.write = messages_write, .read = messages_read};

const struct provider provider_anthropic = {
    .headers = headers,
    .limits = LIMITS_ANTHROPIC,
    .dialects = {[API_MESSAGES] = &messages},
};
