// Letters and batches as Redis keeps them: damaged blobs are refused, never believed.
#include "coordinator/batch.h"
#include "coordinator/letter.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice blob = {.p = (const char *)data, .n = size};
    struct letter letter;
    if (letter_unpack(blob, &letter) == 0) {
        struct buf out;
        buf_init(&out, 1 << 20);
        (void)!letter_json(&letter, 3, SLICE_LIT("1-0"), NULL, true, &out);
        buf_clear(&out);
        struct letter again;
        if (letter_pack(&letter, &out) != 0 || letter_unpack(buf_slice(&out), &again) != 0 ||
            !slice_eq(letter.id, again.id) || !slice_eq(letter.values, again.values)) {
            abort(); // what can be read can be written and read again
        }
        buf_free(&out);
    }
    struct slice model, options;
    uint32_t revision;
    (void)!batch_peek(blob, &model, &revision, &options);
    return 0;
}
