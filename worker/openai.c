// What the APIs of OpenAI have in common: credentials, names of fields, option 'params', usage.
// Invariant: a number that is missing or of another type is "not known", never 0 tokens.
// Called by openai_*.c and the providers that speak these APIs.
#include "worker/openai.h"

#include "common/json.h"

#include <string.h>

int openai_bearer(const struct model *model, struct buf *lines) {
    if (model->options.api_key[0] == '\0') {
        return 0; // many self-hosted servers want none
    }
    return buf_addf(lines, "Authorization: Bearer %s\n", model->options.api_key);
}

// takes_completion_tokens: reasoning models want max_completion_tokens; dated versions of Azure know it
// since 2024-09-01. Servers of one's own want max_tokens.
static bool takes_completion_tokens(const struct model *model) {
    const char *version = strstr(model->options.endpoint, "api-version=20");
    if (!provider_is_azure(model)) {
        return provider_is_own(model);
    }
    return version == NULL || strncmp(version + strlen("api-version="), "2024-09-01", 10) >= 0;
}

const char *openai_max_tokens(const struct model *model) {
    switch (model->options.max_tokens_field) {
    case MAX_TOKENS_PLAIN:
        return "max_tokens";
    case MAX_TOKENS_COMPLETION:
        return "max_completion_tokens";
    default:
        return takes_completion_tokens(model) ? "max_completion_tokens" : "max_tokens";
    }
}

// ---- The request --------------------------------------------------------------------------------

int openai_add_detail(const struct model *model, struct buf *out) {
    int detail = model->options.image_detail;
    return detail == IMAGE_DETAIL_AUTO
               ? 0
               : buf_addf(out, ",\"detail\":\"%s\"", detail == IMAGE_DETAIL_LOW ? "low" : "high");
}

int openai_finish_body(const struct model *model, struct buf *body) {
    int rc = buf_add_byte(body, '}');
    return rc != 0 ? rc : body_merge(model, body);
}

// ---- The answer ---------------------------------------------------------------------------------

// either_count reads the first of two names that is there.
static bool either_count(struct json_object *object, const char *a, const char *b, uint64_t *count) {
    return answer_count(object, a, count) || answer_count(object, b, count);
}

// share_of reads a part of a whole; a part that is larger than the whole is not believed.
static uint64_t share_of(struct json_object *details, const char *name, uint64_t whole) {
    uint64_t n = 0;
    return answer_count(details, name, &n) && n <= whole ? n : 0;
}

void openai_read_usage(struct json_object *usage, struct answer *answer) {
    uint64_t in = 0, out = 0;
    bool known = either_count(usage, "prompt_tokens", "input_tokens", &in);
    known = either_count(usage, "completion_tokens", "output_tokens", &out) && known;
    answer->usage_known = known;
    if (!known) {
        return;
    }
    struct json_object *in_details = json_get(usage, "prompt_tokens_details");
    struct json_object *out_details = json_get(usage, "completion_tokens_details");
    in_details = in_details != NULL ? in_details : json_get(usage, "input_tokens_details");
    out_details = out_details != NULL ? out_details : json_get(usage, "output_tokens_details");
    answer->input_tokens = in;
    answer->output_tokens = out;
    answer->cached_tokens = share_of(in_details, "cached_tokens", in);
    answer->cache_write_tokens =
        share_of(in_details, "cache_write_tokens", in - answer->cached_tokens);
    answer->reasoning_tokens = share_of(out_details, "reasoning_tokens", out);
}

void openai_read_top(struct json_object *root, struct answer *answer) {
    text_clean(json_text(json_get(root, "model")), answer->served_model, sizeof(answer->served_model));
    text_clean(json_text(json_get(root, "service_tier")), answer->service_tier,
               sizeof(answer->service_tier));
}
