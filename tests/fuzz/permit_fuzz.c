// Replies of permit_sync.lua: whatever is read has numbers that can be reckoned with.
#include "coordinator/limiter.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct permit_reply reply;
    if (!permit_reply_parse((struct slice){.p = (const char *)data, .n = size}, &reply)) {
        return 0;
    }
    if (reply.n < 0 || reply.duration_us < 0 || reply.blocked_us < 0 || reply.calls < 0 || !isfinite(reply.scale)) {
        abort();
    }
    struct limiter l;
    struct limiter_config config = {.profile = limit_profile_find(SLICE_LIT("window")),
                                    .limit = {[LIMIT_REQUESTS] = 60, [LIMIT_TOKENS] = 1000},
                                    .calls_ms = 1000};
    struct amount cost = {.calls = 1, .input = 10, .output = 1};
    int64_t now_us = 1000000;
    limiter_init(&l, &config);
    if (limiter_request(&l, 10, 0, &cost, now_us) == NULL) {
        abort();
    }
    limiter_reply(&l, &reply, now_us);
    for (int i = 0; i < 20; i++) {
        if (limiter_may_send(&l, 0, now_us)) {
            limiter_spend(&l, &cost, now_us);
        }
        (void)limiter_next_us(&l, now_us);
        now_us += 100000;
    }
    return 0;
}
