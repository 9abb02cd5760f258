// repair: what is good JSON stays the same value; what was repaired never takes more than there is.
#include "common/json.h"
#include "worker/repair.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice text = {.p = (const char *)data, .n = size};
    struct json_object *as_is = NULL, *repaired = NULL;
    struct buf out;
    unsigned what;
    if (slice_utf8_error(text) >= 0) {
        return 0;
    }
    buf_init(&out, 1 << 20);
    size_t n = repair_json(text, &out, &what);
    if (n > size || (n == 0 && out.n != 0)) {
        abort();
    }
    bool good = n > 0 && json_parse(buf_slice(&out), &repaired, NULL) == 0;
    if (good && json_parse(slice_sub(text, 0, n), &as_is, NULL) == 0 && what == 0 &&
        !json_object_equal(as_is, repaired)) {
        abort();
    }
    json_object_put(as_is);
    json_object_put(repaired);
    buf_free(&out);
    return 0;
}
