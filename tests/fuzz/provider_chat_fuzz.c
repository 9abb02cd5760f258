// Any bytes as a chat completion request: read, answered with each fault, nothing crashes.
#include "tests/provider/answer.h"
#include "tests/provider/api.h"
#include "tests/provider/chat.h"
#include "tests/provider/completion.h"

#include <stdint.h>
#include <stdlib.h>

// fuzz_api takes the bytes for a request of an API, and answers it.
static void fuzz_api(const struct api *api, struct slice body) {
    static struct chat chat;
    if (chat_read_as(api, true, body, &chat, NULL) == 0) {
        struct buf out;
        struct job job = {.n = 1, .finish = "stop", .input_tokens = chat.input_tokens};
        buf_init(&out, 1 << 20);
        if (completion_write(api, &job, &chat, 1, &out) == 0 && out.n == 0) {
            abort();
        }
        buf_free(&out);
    }
    chat_free(&chat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct chat chat;
    struct slice body = {.p = (const char *)data, .n = size};
    if (chat_read(body, &chat, NULL) == 0) {
        struct buf out;
        buf_init(&out, 1 << 20);
        for (int fault = 0; fault < FAULT_COUNT; fault++) {
            buf_clear(&out);
            int rc = answer_write(&chat, (enum fault)fault, (uint64_t)fault, &out);
            if (rc != 0 && out.n > out.max) {
                abort();
            }
        }
        buf_free(&out);
    }
    chat_free(&chat);
    static const char *const paths[] = {"/v1/chat/completions", "/v1/responses", "/v1/embeddings",
                                        "/v1/messages", "/v1beta/models/m:generateContent",
                                        "/v1beta/models/m:batchEmbedContents"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        fuzz_api(api_find(slice_of(paths[i])), body);
    }
    return 0;
}
