// Gemini: generateContent, and batchEmbedContents for vectors. Invariants: parts that are thoughts are
// no part of the answer; vectors have no index, so an answer with more or fewer than there were texts
// counts for none of them.
// Source: ai.google.dev/api/generate-content and ai.google.dev/api/embeddings, 2026-11.
#include "worker/provider.h"

#include "common/json.h"
#include "worker/parts.h"
#include "worker/vectors.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int headers(const struct model *model, struct buf *lines) {
    if (model->options.api_key[0] == '\0') {
        return 0;
    }
    return buf_addf(lines, "x-goog-api-key: %s\n", model->options.api_key);
}

// ---- The schema ---------------------------------------------------------------------------------
// responseSchema is OpenAPI's, in part: names of types in capitals, nullable, no additionalProperties,
// formats but for date-time refused, no null among the words of an enum.

static int add_schema(struct json_object *schema, struct buf *out);

static int add_type(struct json_object *type, struct buf *out) {
    bool nullable = json_object_is_type(type, json_type_array);
    struct slice name = json_text(nullable ? json_object_array_get_idx(type, 0) : type);
    int rc = buf_add_str(out, "\"type\":\"");
    for (size_t i = 0; rc == 0 && i < name.n; i++) {
        rc = buf_add_byte(out, (char)toupper((unsigned char)name.p[i]));
    }
    return rc != 0 ? rc : buf_add_str(out, nullable ? "\",\"nullable\":true" : "\"");
}

static int add_enum(struct json_object *words, struct buf *out) {
    size_t n = json_object_array_length(words), n_added = 0;
    int rc = buf_add_str(out, ",\"enum\":[");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_object *word = json_object_array_get_idx(words, i);
        if (word != NULL) {
            rc = n_added++ > 0 ? buf_add_byte(out, ',') : 0;
            rc = rc != 0 ? rc : json_add_string(out, json_text(word));
        }
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

static int add_properties(struct json_object *properties, struct buf *out) {
    const char *comma = "";
    int rc = buf_add_str(out, ",\"properties\":{");
    json_object_object_foreach(properties, name, property) {
        rc = rc != 0 ? rc : buf_add_str(out, comma);
        rc = rc != 0 ? rc : json_add_string(out, slice_of(name));
        rc = rc != 0 ? rc : buf_add_byte(out, ':');
        rc = rc != 0 ? rc : add_schema(property, out);
        comma = ",";
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// add_member appends a member as it is under another name.
static int add_member(const char *name, struct json_object *value, struct buf *out) {
    if (value == NULL) {
        return 0;
    }
    int rc = buf_addf(out, ",\"%s\":", name);
    return rc != 0 ? rc : json_add(out, value);
}

static int add_schema(struct json_object *schema, struct buf *out) {
    struct json_object *format = json_get(schema, "format"), *words = json_get(schema, "enum");
    struct json_object *items = json_get(schema, "items"), *required = json_get(schema, "required");
    struct json_object *properties = json_get(schema, "properties");
    int rc = buf_add_byte(out, '{');
    rc = rc != 0 ? rc : add_type(json_get(schema, "type"), out);
    if (rc == 0 && slice_is(json_text(format), "date-time")) {
        rc = add_member("format", format, out);
    }
    rc = rc != 0 ? rc : add_member("description", json_get(schema, "description"), out);
    if (rc == 0 && json_object_is_type(words, json_type_array)) {
        rc = add_enum(words, out);
    }
    if (rc == 0 && items != NULL) {
        rc = buf_add_str(out, ",\"items\":");
        rc = rc != 0 ? rc : add_schema(items, out);
    }
    if (rc == 0 && json_object_is_type(properties, json_type_object)) {
        rc = add_properties(properties, out);
        rc = rc != 0 ? rc : add_member("required", required, out);
        rc = rc != 0 ? rc : add_member("propertyOrdering", required, out); // all are, in their order
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int add_answer_schema(struct slice text, struct buf *out) {
    struct json_object *schema = NULL;
    int rc = json_parse(text, &schema, NULL);
    rc = rc != 0 ? rc
                 : buf_add_str(out, ",\"responseMimeType\":\"application/json\",\"responseSchema\":");
    rc = rc != 0 ? rc : add_schema(schema, out);
    json_object_put(schema);
    return rc;
}

// ---- Text: the request --------------------------------------------------------------------------

static int add_parts(struct slice text, struct buf *out) {
    int rc = buf_add_str(out, "\"parts\":[{\"text\":");
    rc = rc != 0 ? rc : json_add_string(out, text);
    return rc != 0 ? rc : buf_add_str(out, "}]}");
}

static int add_part(const struct ask *ask, const struct part *part, struct buf *out) {
    if (!part->is_image) {
        int rc = buf_add_str(out, "{\"text\":");
        rc = rc != 0 ? rc : json_add_string(out, part->text);
        return rc != 0 ? rc : buf_add_byte(out, '}');
    }
    int rc = part->bytes.n == 0 ? -EPROTO // it takes no links: intake has seen to that
                                : buf_addf(out, "{\"inlineData\":{\"mimeType\":\"%s\",\"data\":",
                                           image_media_type(part->kind));
    rc = rc != 0 ? rc : parts_add_base64(part, out);
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

static int add_user(const struct ask *ask, struct buf *out) {
    if (!parts_has_mark(ask->user)) {
        return add_parts(ask->user, out);
    }
    int rc = buf_add_str(out, "\"parts\":[");
    rc = rc != 0 ? rc : parts_add(ask, ask->user, add_part, out);
    return rc != 0 ? rc : buf_add_str(out, "]}");
}

// add_config appends members, each with a comma before it.
static int add_config(const struct ask *ask, struct buf *out) {
    const struct model_options *o = &ask->model->options;
    int rc = body_add_number("temperature", o->temperature, out);
    rc = rc != 0 ? rc : body_add_number("topP", o->top_p, out);
    rc = rc != 0 ? rc : body_add_count("maxOutputTokens", o->max_tokens, out);
    rc = rc != 0 ? rc : body_add_count("seed", o->seed, out);
    if (rc == 0 && o->stop[0] != '\0') {
        rc = buf_addf(out, ",\"stopSequences\":%s", o->stop);
    }
    return rc == 0 && ask->schema.n > 0 ? add_answer_schema(ask->schema, out) : rc;
}

static int generate_write(const struct ask *ask, struct buf *body) {
    int rc = buf_add_byte(body, '{');
    if (rc == 0 && ask->system.n > 0) {
        rc = buf_add_str(body, "\"systemInstruction\":{");
        rc = rc != 0 ? rc : add_parts(ask->system, body);
        rc = rc != 0 ? rc : buf_add_byte(body, ',');
    }
    rc = rc != 0 ? rc : buf_add_str(body, "\"contents\":[{\"role\":\"user\",");
    rc = rc != 0 ? rc : add_user(ask, body);
    rc = rc != 0 ? rc : buf_add_byte(body, ']');
    struct buf config;
    buf_init(&config, body->max);
    rc = rc != 0 ? rc : add_config(ask, &config);
    if (rc == 0 && config.n > 0) {
        rc = buf_add_str(body, ",\"generationConfig\":{");
        rc = rc != 0 ? rc : buf_add_slice(body, slice_sub(buf_slice(&config), 1, config.n));
        rc = rc != 0 ? rc : buf_add_byte(body, '}');
    }
    buf_free(&config);
    rc = rc != 0 ? rc : buf_add_byte(body, '}');
    return rc != 0 ? rc : body_merge(ask->model, body);
}

// ---- Text: the answer ---------------------------------------------------------------------------

static enum finish finish_of(struct slice reason) {
    static const char *const filtered[] = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT",
                                           "SPII",   "LANGUAGE"};
    for (size_t i = 0; i < sizeof(filtered) / sizeof(filtered[0]); i++) {
        if (slice_is(reason, filtered[i])) {
            return FINISH_FILTERED;
        }
    }
    return slice_starts(reason, "IMAGE_")               ? FINISH_FILTERED
           : slice_is(reason, "MAX_TOKENS")              ? FINISH_LENGTH
           : reason.n == 0 || slice_is(reason, "STOP")   ? FINISH_STOP
                                                         : FINISH_OTHER;
}

#define TOKENS_MOST 1000000000000 // more than any context; a sum of two cannot wrap

// read_usage: thoughts stand beside the candidates, prompts of tools beside the prompt.
static void read_usage(struct json_object *usage, struct answer *answer) {
    uint64_t in = 0, tools = 0, cached = 0, out = 0, thoughts = 0;
    bool known = answer_count(usage, "promptTokenCount", &in);
    (void)answer_count(usage, "toolUsePromptTokenCount", &tools);
    (void)answer_count(usage, "cachedContentTokenCount", &cached);
    (void)answer_count(usage, "candidatesTokenCount", &out); // left out when there is none
    (void)answer_count(usage, "thoughtsTokenCount", &thoughts);
    answer->usage_known = known && in <= TOKENS_MOST && tools <= TOKENS_MOST && out <= TOKENS_MOST &&
                          thoughts <= TOKENS_MOST;
    if (answer->usage_known) {
        answer->input_tokens = in + tools;
        answer->cached_tokens = cached <= in ? cached : 0;
        answer->output_tokens = out + thoughts;
        answer->reasoning_tokens = thoughts;
    }
}

static void read_top(struct json_object *root, struct answer *answer) {
    read_usage(json_get(root, "usageMetadata"), answer);
    text_clean(json_text(json_get(root, "modelVersion")), answer->served_model,
               sizeof(answer->served_model));
    text_clean(json_text(json_get(root, "responseId")), answer->request_id, sizeof(answer->request_id));
}

static void read_parts(struct json_object *parts, struct answer *answer) {
    size_t n = json_object_is_type(parts, json_type_array) ? json_object_array_length(parts) : 0;
    buf_init(&answer->made, ANSWER_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        if (json_get(part, "functionCall") != NULL) {
            answer->finish = FINISH_TOOL;
        }
        if (!json_object_get_boolean(json_get(part, "thought")) &&
            buf_add_slice(&answer->made, json_text(json_get(part, "text"))) != 0) {
            break; // no longer than the reply that it came from
        }
    }
    answer->text = buf_slice(&answer->made);
}

// fail_for says why in Google's word.
static void fail_for(struct answer *answer, enum outcome outcome, const char *sentence,
                     struct slice reason) {
    char word[64];
    text_clean(reason, word, sizeof(word));
    answer->outcome = outcome;
    snprintf(answer->detail, sizeof(answer->detail), "%s: %s", sentence, word);
}

static void read_candidate(struct json_object *candidate, struct answer *answer) {
    struct slice reason = json_text(json_get(candidate, "finishReason"));
    answer->finish = finish_of(reason);
    if (answer->finish == FINISH_FILTERED) {
        fail_for(answer, OUTCOME_FILTERED, "the provider's filter stopped the answer", reason);
        return;
    }
    read_parts(json_get(json_get(candidate, "content"), "parts"), answer);
    if (slice_trim(answer->text).n > 0) {
        return;
    }
    if (answer->finish == FINISH_LENGTH) {
        answer_fail(answer, OUTCOME_TRUNCATED,
                    "the answer ended at the token limit before any text: raise 'max.tokens', which counts "
                    "thinking too");
    } else if (answer->finish == FINISH_TOOL) {
        answer_fail(answer, OUTCOME_UNREADABLE, "the model called a tool and gave no text");
    } else if (answer->finish == FINISH_OTHER) {
        fail_for(answer, OUTCOME_UNREADABLE, "the answer ended without any text", reason);
    }
}

static void generate_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(reply->model->provider->id, reply, answer);
    if (root == NULL) {
        return;
    }
    read_top(root, answer);
    struct json_object *candidates = json_get(root, "candidates");
    struct slice blocked = json_text(json_get(json_get(root, "promptFeedback"), "blockReason"));
    size_t n =
        json_object_is_type(candidates, json_type_array) ? json_object_array_length(candidates) : 0;
    if (blocked.n > 0) {
        answer->finish = FINISH_FILTERED;
        fail_for(answer, OUTCOME_FILTERED, "the provider's filter blocked the prompt", blocked);
    } else if (n == 0 || json_object_array_get_idx(candidates, 0) == NULL) {
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no candidates[0]");
    } else {
        read_candidate(json_object_array_get_idx(candidates, 0), answer);
    }
}

// ---- Vectors ------------------------------------------------------------------------------------

// add_input writes one request of the batch; each names the model, and option 'params' goes into each.
static int add_input(const struct ask *ask, size_t i, struct buf *one) {
    const char *model = ask->model->options.model;
    buf_clear(one);
    int rc = buf_add_str(one, "{\"model\":");
    if (rc == 0 && strncmp(model, "models/", strlen("models/")) == 0) {
        rc = json_add_string(one, slice_of(model));
    } else if (rc == 0) {
        struct buf name;
        buf_init(&name, one->max);
        rc = buf_addf(&name, "models/%s", model);
        rc = rc != 0 ? rc : json_add_string(one, buf_slice(&name));
        buf_free(&name);
    }
    rc = rc != 0 ? rc : buf_add_str(one, ",\"content\":{");
    rc = rc != 0 ? rc : add_parts(ask->inputs[i], one);
    rc = rc != 0 ? rc : body_add_count("outputDimensionality", ask->model->options.dimensions, one);
    rc = rc != 0 ? rc : buf_add_byte(one, '}');
    return rc != 0 ? rc : body_merge(ask->model, one);
}

static int embed_write(const struct ask *ask, struct buf *body) {
    struct buf one;
    buf_init(&one, body->max);
    int rc = buf_add_str(body, "{\"requests\":[");
    for (size_t i = 0; rc == 0 && i < ask->count; i++) {
        rc = i > 0 ? buf_add_byte(body, ',') : 0;
        rc = rc != 0 ? rc : add_input(ask, i, &one);
        rc = rc != 0 ? rc : buf_add_slice(body, buf_slice(&one));
    }
    buf_free(&one);
    return rc != 0 ? rc : buf_add_str(body, "]}");
}

static void embed_read(const struct reply *reply, struct answer *answer) {
    struct json_object *root = reply_json(reply->model->provider->id, reply, answer);
    if (root == NULL) {
        return;
    }
    read_top(root, answer);
    struct json_object *embeddings = json_get(root, "embeddings");
    if (!json_object_is_type(embeddings, json_type_array)) {
        answer_fail(answer, OUTCOME_TRANSIENT, "HTTP 200 with JSON that has no embeddings");
        return;
    }
    size_t n = json_object_array_length(embeddings);
    if (n != reply->count) {
        answer->outcome = OUTCOME_SHIFTED;
        snprintf(answer->detail, sizeof(answer->detail), "got %zu vectors for %zu texts", n, reply->count);
        return;
    }
    vectors_begin(answer, reply->count);
    for (size_t i = 0; i < n; i++) {
        struct json_object *values = json_get(json_object_array_get_idx(embeddings, i), "values");
        if (vectors_add(answer, i, values) != 0) {
            continue; // the record stays without one, and is asked again
        }
    }
}

static const struct dialect generate = {.write = generate_write, .read = generate_read};
static const struct dialect embed = {.write = embed_write, .read = embed_read};

const struct provider provider_gemini = {
    .headers = headers,
    .limits = LIMITS_NONE, // it tells of them in errors alone
    .dialects = {[API_GENERATE] = &generate, [API_BATCH_EMBED] = &embed},
};
