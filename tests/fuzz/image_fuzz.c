// Images of strangers: their first bytes, and the texts that they stand in.
#include "common/image.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice bytes = {.p = (const char *)data, .n = size};
    struct buf out = {.max = 1 << 20};
    uint32_t width = 0, height = 0;
    const char *fault = NULL;
    if (image_size(bytes, &width, &height) == 0) {
        assert(image_kind(bytes) != IMAGE_NONE && width > 0 && height > 0);
    }
    size_t tokens = image_tokens(bytes);
    assert(tokens > 0 && tokens <= 1600);
    if (image_from_text(bytes, &out, &fault) == 0) {
        assert(image_kind(buf_slice(&out)) != IMAGE_NONE);
    } else {
        assert(out.n == 0);
    }
    (void)image_is_link(bytes);
    buf_free(&out);
    return 0;
}
