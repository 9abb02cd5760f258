// Any bytes as a ledger: a report of them or a sentence.
#include "tests/provider/report.h"

#include <assert.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t most[LIMIT_COUNT] = {[LIMIT_RPM] = 60, [LIMIT_TPM] = 1000};
    if (size == 0) {
        return 0;
    }
    for (int json = 0; json < 2; json++) {
        struct report_config config = {.most = most, .by_key = true, .by_model = true, .json = json != 0};
        struct error why = {0};
        FILE *in = fmemopen((void *)data, size, "r"), *out = fopen("/dev/null", "w");
        assert(in != NULL && out != NULL);
        assert((report_write(in, &config, out, &why) != 0) == (why.text[0] != '\0'));
        fclose(in);
        fclose(out);
    }
    return 0;
}
