// Errors of any provider over HTTP: whatever status, type and body come, an outcome and a sentence follow,
// and a wait that ends. Input: the provider, the status (two bytes), flags, the body. The first line of a
// body whose flags say so is a header about waiting or about limits.
#include "tests/fuzz/answer_case.h"
#include "worker/retry_after.h"

#define LATEST_MS (24 * 3600 * 1000)

enum flag { RETRY = 1, NO_RETRY = 2, PAGE = 4, HEADER = 8 };

static const char *const models[] = {
    "'provider' = 'openai'",
    "'provider' = 'azure-openai', 'endpoint' = 'http://h'",
    "'provider' = 'ollama'",
    "'provider' = 'llama.cpp', 'endpoint' = 'http://h'",
    "'provider' = 'anthropic', 'max.tokens' = '99'",
    "'provider' = 'kserve', 'endpoint' = 'http://h'",
    "'provider' = 'http', 'endpoint' = 'http://h', 'request.template' = '[{{prompt}}]', 'answer.path' = '$'",
    "'provider' = 'gemini'",
};
#define N_MODELS (sizeof(models) / sizeof(models[0]))

// read_header takes "name: value" in every way that an answer's headers are read; returns what it asks for.
static uint64_t read_header(const struct model *model, struct slice line) {
    const char *colon = line.n > 0 ? memchr(line.p, ':', line.n) : NULL;
    size_t n = colon != NULL ? (size_t)(colon - line.p) : 0;
    struct slice value = slice_trim(slice_sub(line, n + (colon != NULL), line.n));
    int64_t until[] = {retry_after_parse(value, 1780000000000), duration_parse(value),
                       time_until(value, 1780000000000), retry_after_hint(value)};
    struct limits_seen seen;
    struct buf packed;
    for (size_t i = 0; i < sizeof(until) / sizeof(until[0]); i++) {
        assert(until[i] >= -1);
    }
    assert(until[0] <= LATEST_MS);
    limits_seen_clear(&seen);
    limit_header_read(provider_of(model)->limits, slice_sub(line, 0, n), value, 1780000000000, &seen);
    buf_init(&packed, 4096);
    struct limits_seen again;
    assert(limits_seen_pack(&seen, &packed) == 0 && limits_seen_unpack(buf_slice(&packed), &again) == 0);
    assert(memcmp(&seen, &again, sizeof(seen)) == 0);
    buf_free(&packed);
    return until[0] > 0 ? (uint64_t)until[0] : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) {
        return 0;
    }
    char *text = mem_alloc(size);
    memcpy(text, data + 4, size - 4);
    struct slice body = {.p = text, .n = size - 4};
    struct reply reply = {
        .status = 100 + (data[1] << 8 | data[2]) % 900,
        .content_type = (data[3] & PAGE) != 0 ? SLICE_LIT("text/html") : SLICE_LIT("application/json"),
        .should_retry = (data[3] & RETRY) != 0 ? 1 : (data[3] & NO_RETRY) != 0 ? 0 : -1,
        .model = case_model(models, data[0] % N_MODELS),
        .count = 4,
    };
    if ((data[3] & HEADER) != 0) {
        const char *newline = body.n > 0 ? memchr(body.p, '\n', body.n) : NULL;
        size_t n = newline != NULL ? (size_t)(newline - body.p) : body.n;
        reply.retry_after_ms = read_header(reply.model, slice_sub(body, 0, n));
        body = slice_sub(body, n + (newline != NULL), body.n);
    }
    reply.body = body;
    case_reply(&reply);
    free(text);
    return 0;
}
