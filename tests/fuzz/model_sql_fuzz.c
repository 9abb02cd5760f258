// Any bytes as SQL: a refusal says why, and what parses is written back to what parses to the same.
#include "common/model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// write_back appends the model as SQL; it is never much longer than what was read.
static void write_back(const struct model *model, struct buf *out, size_t size) {
    buf_init(out, 10 * size + 4096);
    if (model_to_sql(model, out) != 0) {
        abort();
    }
}

static void check(const struct model *model, size_t size) {
    struct buf first, second;
    struct statements again;
    struct error why;
    write_back(model, &first, size);
    if (first.n <= 1024 * 1024) {
        if (model_sql_parse(buf_slice(&first), "again", &again, &why) != 0 || again.n != 1) {
            abort();
        }
        write_back(again.items[0].model, &second, size);
        if (!slice_eq(buf_slice(&first), buf_slice(&second))) {
            abort();
        }
        buf_free(&second);
        statements_free(&again);
    }
    buf_free(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct statements list;
    struct error why = {0};
    if (model_sql_parse((struct slice){(const char *)data, size}, "fuzz", &list, &why) != 0) {
        if (why.text[0] == '\0' || list.n != 0) {
            abort();
        }
        return 0;
    }
    for (size_t i = 0; i < list.n; i++) {
        check(list.items[i].model, size);
    }
    statements_free(&list);
    return 0;
}
