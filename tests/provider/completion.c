// The answer to a request, in the shape of its API. Invariant: it depends on the request, the seed and the request's
// number alone, so that a run can be repeated. Called by serve.
#include "tests/provider/completion.h"
#include "tests/provider/answer.h"
#include "tests/provider/api.h"

#define CONTENT_MAX (8u << 20)

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

int completion_write(const struct api *api, struct job *job, struct chat *chat, uint64_t seed,
                     struct buf *body) {
    struct buf content;
    buf_init(&content, CONTENT_MAX);
    uint64_t draw = fault_random(seed, job->n, ITEM_SALT);
    int rc = chat->vectors ? 0 : answer_write(chat, job->fault, draw, &content);
    bound_answer(job, chat, &content);
    rc = rc != 0 ? rc : api->write(job, chat, draw, buf_slice(&content), body);
    buf_free(&content);
    return rc;
}
