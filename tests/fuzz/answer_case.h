// What the targets answer_*_fuzz.c share: a reply of a stranger, read by the reader of a provider's API.
// Input: which of the target's models, the status, the body. What must hold of any answer is here.
#ifndef HEADRACE_TESTS_FUZZ_ANSWER_CASE_H
#define HEADRACE_TESTS_FUZZ_ANSWER_CASE_H

#include "common/json.h"
#include "common/mem.h"
#include "worker/provider.h"
#include "worker/vectors.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CASE_MODELS 8 // most models of a target

// case_model makes each model once.
//   with  its options but 'model' and 'batch.size'
static inline const struct model *case_model(const char *const *with, size_t i) {
    static struct statements lists[CASE_MODELS];
    assert(i < CASE_MODELS);
    if (lists[i].n == 0) {
        bool is_vectors = strstr(with[i], "embedding") != NULL;
        struct buf sql;
        struct error why = {0};
        buf_init(&sql, 4096);
        int rc = buf_addf(&sql,
                          "CREATE MODEL m INPUT (t STRING) OUTPUT (s %s) WITH (%s, 'model' = 'x', "
                          "'batch.size' = '4');",
                          is_vectors ? "ARRAY<FLOAT>" : "STRING", with[i]);
        rc = rc != 0 ? rc : model_sql_parse(buf_slice(&sql), "fuzz", &lists[i], &why);
        assert(rc == 0);
        buf_free(&sql);
    }
    return lists[i].items[0].model;
}

static inline void case_vectors(const struct reply *reply, const struct answer *answer) {
    static const uint64_t slots[] = {7, 6, 5, 4};
    static struct parsed parsed;
    struct question question = {.model = reply->model, .slots = slots, .count = reply->count};
    buf_init(&parsed.items, 1 << 20);
    vectors_pack(&question, answer, &parsed);
    assert(parsed.n_items <= question.count);
    assert(parsed.outcome == OUTCOME_OK || parsed.detail[0] != '\0');
    buf_free(&parsed.items);
}

// case_reply reads a reply and looks at what came of it.
static inline void case_reply(const struct reply *reply) {
    struct answer answer = {0};
    provider_dialect(reply->model)->read(reply, &answer);
    assert(answer.outcome == OUTCOME_OK || answer.detail[0] != '\0');
    assert(answer.cached_tokens + answer.cache_write_tokens <= answer.input_tokens);
    assert(answer.reasoning_tokens <= answer.output_tokens);
    if (answer.outcome == OUTCOME_OK && reply->model->api->kind == API_TENSORS) {
        struct json_object *items = NULL; // made here: always JSON, an item for each record
        assert(json_parse(answer.text, &items, NULL) == 0);
        assert(json_object_array_length(items) == reply->count);
        json_object_put(items);
    }
    if (answer.vectors != NULL) {
        case_vectors(reply, &answer);
    }
    answer_clear(&answer);
}

// case_fuzz is a whole target of n models.
static inline int case_fuzz(const char *const *with, size_t n, const uint8_t *data, size_t size) {
    static const int statuses[] = {200, 200, 200, 429, 400, 401, 500, 503, 302, 529};
    if (size < 2) {
        return 0;
    }
    char *body = mem_alloc(size); // its own block, so that ASan sees its end
    memcpy(body, data + 2, size - 2);
    struct reply reply = {
        .status = statuses[data[1] % 10],
        .body = {.p = body, .n = size - 2},
        .should_retry = -1,
        .model = case_model(with, data[0] % n),
        .count = 4,
        .n_prompt = 40000,
    };
    case_reply(&reply);
    free(body);
    return 0;
}

#define CASE_TARGET(models)                                                                        \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {                                 \
        return case_fuzz(models, sizeof(models) / sizeof((models)[0]), data, size);                \
    }

#endif
