// What frame_scan lets through, the cursor reads to its end; what it refuses has a sentence.
#include "proto/frame.h"

#include "proto/pack.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice all = {(const char *)data, size}, rest = all, value;
    struct error why = {0};
    long n = frame_scan(all, 0, &why);
    assert(n >= 0 || why.text[0] != '\0');
    long n_read = 0;
    int rc;
    while ((rc = pack_whole(&rest, &value)) == 1) {
        n_read++;
    }
    assert(n < 0 || (rc == 0 && n_read == n));
    return 0;
}
