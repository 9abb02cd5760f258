// Any bytes as a message; what is taken is packed again and read back.
#include "proto/messages.h"

#include "proto/frame.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct message m;
    struct error why = {0};
    if (message_unpack((struct slice){(const char *)data, size}, &m, &why) != 0) {
        assert(why.text[0] != '\0');
        return 0;
    }
    struct buf out = {.max = FRAME_MAX_BYTES};
    int rc = message_pack(&m, &out);
    assert(rc == 0);
    rc = message_unpack(buf_slice(&out), &m, &why);
    assert(rc == 0);
    buf_free(&out);
    return 0;
}
