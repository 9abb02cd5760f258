// Rank files and texts from outside: the input is the lines of a rank file, a zero byte, and a text.
#include "common/tokenizer.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *zero = memchr(data, 0, size);
    size_t n = zero != NULL ? (size_t)(zero - data) : size;
    struct buf ranks;
    buf_init(&ranks, 1 << 20);
    int rc = 0;
    for (unsigned i = 0; i < 256; i++) { // every byte has a rank, or nothing would ever be counted
        rc |= buf_addf(&ranks, "%c%c== %u\n", digits[i >> 2], digits[(i & 3) << 4], i + 1000);
    }
    rc |= buf_add(&ranks, (const char *)data, n);
    struct error why = {0};
    struct tokenizer *t = rc == 0 ? tokenizer_read(buf_slice(&ranks), "fuzz", &why) : NULL;
    struct slice text = {.p = (const char *)data + n, .n = size - n};
    if (t != NULL && tokenizer_count(t, text) > text.n) {
        __builtin_trap(); // a token is at least a byte
    }
    tokenizer_free(t);
    buf_free(&ranks);
    return 0;
}
