// Any bytes sent to /control: they change everything they name within its bounds, or nothing.
#include "tests/provider/control.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct quota quota;
    struct quota_config config = {.most = {[LIMIT_RPM] = 60}, .day_us = 1000000, .by_key = true};
    struct batch_faults faults;
    struct control control = {.quota = &quota, .batch_faults = &faults};
    batch_faults_init(&faults);
    quota_init(&quota, &config);
    quota_pool(&quota, 1, SLICE_LIT("m"), 1);
    char *bytes = malloc(size > 0 ? size : 1); // its own block, so that ASan sees its end
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)data[i];
    }
    if (control_change(&control, (struct slice){.p = bytes, .n = size}, 2, NULL) != 0) {
        assert(quota.config.most[LIMIT_RPM] == 60 && quota.config.stranger == 0 && control.until_us == 0);
    }
    for (int i = 0; i < LIMIT_COUNT; i++) {
        assert(quota.config.most[i] >= 0 && quota.config.most[i] <= METER_MOST);
    }
    for (int i = 0; i < BATCH_FAULT_COUNT; i++) {
        assert(faults.rate[i] >= 0 && faults.rate[i] <= 1 && faults.times[i] >= -1);
    }
    assert(quota.config.stranger >= 0 && quota.config.stranger <= 1);
    free(bytes);
    quota_free(&quota);
    return 0;
}
