// HTTP answers of strangers, to each API of each provider. The first byte picks the API, the second the
// status; the rest is the body.
#include "common/json.h"
#include "common/providers.h"
#include "worker/provider.h"
#include "worker/vectors.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// One model of each API.
static const char *const models[] = {
    "'provider' = 'openai', 'endpoint' = 'http://h/v1/chat/completions'",
    "'provider' = 'openai', 'endpoint' = 'http://h/v1/responses'",
    "'provider' = 'azure-openai', 'endpoint' = 'http://h'",
    "'provider' = 'ollama'",
    "'provider' = 'vllm', 'endpoint' = 'http://h'",
    "'provider' = 'llama.cpp', 'endpoint' = 'http://h'",
    "'provider' = 'openai', 'task' = 'embedding', 'dimensions' = '2'",
    "'provider' = 'anthropic', 'max.tokens' = '99'",
    "'provider' = 'kserve', 'endpoint' = 'http://h'",
    "'provider' = 'http', 'endpoint' = 'http://h', 'request.template' = '{{records}}', 'answer.path' = '$..a', 'usage.input.path' = '$..i', 'usage.output.path' = '$.o'",
    "'provider' = 'gemini'",
    "'provider' = 'gemini', 'task' = 'embedding', 'dimensions' = '2'",
};
#define N_MODELS (sizeof(models) / sizeof(models[0]))

static const struct model *model_of(size_t i) {
    static struct statements lists[N_MODELS];
    if (lists[i].n == 0) {
        bool is_vectors = strstr(models[i], "embedding") != NULL;
        struct buf sql;
        struct error why = {0};
        buf_init(&sql, 4096);
        int rc = buf_addf(&sql,
                          "CREATE MODEL m INPUT (t STRING) OUTPUT (s %s) WITH (%s, 'model' = 'x', "
                          "'batch.size' = '4');",
                          is_vectors ? "ARRAY<FLOAT>" : "STRING", models[i]);
        rc = rc != 0 ? rc : model_sql_parse(buf_slice(&sql), "fuzz", &lists[i], &why);
        assert(rc == 0);
        buf_free(&sql);
    }
    return lists[i].items[0].model;
}

static void fuzz_vectors(const struct reply *reply, const struct answer *answer) {
    static const uint64_t slots[] = {7, 6, 5, 4};
    static struct parsed parsed;
    struct question question = {.model = reply->model, .slots = slots, .count = reply->count};
    buf_init(&parsed.items, 1 << 20);
    vectors_pack(&question, answer, &parsed);
    assert(parsed.n_items <= question.count);
    assert(parsed.outcome == OUTCOME_OK || parsed.detail[0] != '\0');
    buf_free(&parsed.items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int statuses[] = {200, 200, 200, 429, 400, 401, 500, 503, 302, 529};
    if (size < 2) {
        return 0;
    }
    struct reply reply = {
        .status = statuses[data[1] % 10],
        .body = {.p = (const char *)data + 2, .n = size - 2},
        .should_retry = -1,
        .model = model_of(data[0] % N_MODELS),
        .count = 4,
        .n_prompt = 40000,
    };
    struct answer answer = {0};
    provider_dialect(reply.model)->read(&reply, &answer);
    assert(answer.outcome == OUTCOME_OK || answer.detail[0] != '\0');
    assert(answer.cached_tokens + answer.cache_write_tokens <= answer.input_tokens);
    assert(answer.reasoning_tokens <= answer.output_tokens);
    if (answer.outcome == OUTCOME_OK && reply.model->api->kind == API_TENSORS) {
        struct json_object *items = NULL; // made here: always JSON, an item for each record
        assert(json_parse(answer.text, &items, NULL) == 0);
        assert(json_object_array_length(items) == reply.count);
        json_object_put(items);
    }
    if (answer.vectors != NULL) {
        fuzz_vectors(&reply, &answer);
    }
    answer_clear(&answer);
    return 0;
}
