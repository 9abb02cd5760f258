// Any bytes as a chat completion request: read, answered with each fault, nothing crashes.
#include "tests/provider/answer.h"
#include "tests/provider/chat.h"

#include <stdint.h>
#include <stdlib.h>

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
    return 0;
}
