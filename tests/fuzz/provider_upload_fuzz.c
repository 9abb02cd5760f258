// Any body of an upload, in any pieces: the first byte says what kind it is and how it is cut. A
// form and a document are held to their bounds, and what is taken does not depend on the cuts.
#include "tests/provider/upload.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const path[] = {"batch", "inputConfig", "requests", "requests"};

static struct upload *feed(uint8_t how, struct slice body, size_t piece) {
    struct upload *u = how & 1
                           ? upload_array("", path + (how & 2 ? 0 : 3), how & 2 ? 4 : 1, 4096)
                           : upload_form("", SLICE_LIT("multipart/form-data; boundary=b"), 4096);
    for (size_t at = 0; at < body.n; at += piece) {
        struct slice cut = slice_sub(body, at, piece);
        char *own = malloc(cut.n); // its own block, so that ASan sees its end
        memcpy(own, cut.p, cut.n);
        upload_add(u, (struct slice){.p = own, .n = cut.n});
        free(own);
    }
    return u;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    struct slice body = {.p = (const char *)data + 1, .n = size - 1};
    struct upload *whole = feed(data[0], body, body.n + 1),
                  *cut = feed(data[0], body, 1 + data[0] / 4);
    int rc = upload_end(whole);
    assert(upload_end(cut) == rc);
    assert(whole->n == body.n && (rc != 0 || (body.n <= 4096 && whole->spool->n <= 2 * body.n)));
    if (rc == 0) {
        assert(whole->spool->n == cut->spool->n && whole->n_elements == cut->n_elements);
        assert(whole->n_fields == cut->n_fields && whole->has_file == cut->has_file);
    }
    upload_free(whole);
    upload_free(cut);
    return 0;
}
