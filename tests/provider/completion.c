// The answer to a chat completion. Invariant: it depends on the request, the seed and the request's
// number alone, so that a run can be repeated. Called by serve.
#include "tests/provider/completion.h"
#include "common/json.h"
#include "tests/provider/answer.h"

#include <inttypes.h>

#define CONTENT_MAX (8u << 20)

static int write_body(const struct job *job, const struct chat *chat, uint64_t draw,
                      struct slice content, struct buf *out) {
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

// bound_answer keeps an answer within the caller's max tokens, as a provider does.
static void bound_answer(struct job *job, struct chat *chat, struct buf *content) {
    size_t most = chat->max_tokens > 0 ? (size_t)chat->max_tokens * 4 : SIZE_MAX;
    job->finish = job->fault == FAULT_LENGTH   ? "length"
                  : job->fault == FAULT_FILTER ? "content_filter"
                                               : "stop";
    if (content->n > most) {
        content->n = most;
        job->finish = "length";
        for (size_t i = 0; i < chat->n_slots; i++) {
            chat->slots[i].item_end = chat->slots[i].item_end > most ? 0 : chat->slots[i].item_end;
        }
    }
    job->output_tokens = content->n > 0 ? (content->n + 3) / 4 : 1;
}

int completion_write(struct job *job, struct chat *chat, uint64_t seed, struct buf *body) {
    struct buf content;
    buf_init(&content, CONTENT_MAX);
    uint64_t draw = fault_random(seed, job->n, ITEM_SALT);
    int rc = answer_write(chat, job->fault, draw, &content);
    bound_answer(job, chat, &content);
    rc = rc != 0 ? rc : write_body(job, chat, draw, buf_slice(&content), body);
    buf_free(&content);
    return rc;
}
