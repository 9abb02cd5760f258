// The first byte chooses what the rest is taken for: rows of a frame, records, items, overrides, a
// result blob, one msgpack value.
#include "proto/record.h"

#include "common/json.h"
#include "common/model.h"
#include "common/providers.h"

#include <assert.h>
#include <string.h>

#define OUT_MAX (16 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_row(void *arg, const struct row *row) {
    static struct type integer = {.kind = TYPE_INT, .not_null = true};
    static struct type list = {.kind = TYPE_ARRAY, .inner = &integer}, lists = {.kind = TYPE_ARRAY, .inner = &list};
    static const struct provider_api tensors = {.tasks = API_TASKS_TENSORS};
    static struct column columns[] = {
        {.name = "a", .type = TYPE_ARRAY, .full = &list}, {.name = "m", .type = TYPE_ARRAY, .full = &lists},
        {.name = "t", .type = TYPE_STRING},  {.name = "b", .type = TYPE_BOOLEAN},
        {.name = "i", .type = TYPE_INT},     {.name = "l", .type = TYPE_BIGINT},
        {.name = "f", .type = TYPE_FLOAT},   {.name = "d", .type = TYPE_DOUBLE, .not_null = true},
    };
    long *n = arg;
    ++*n;
    if (row->outcome != OUTCOME_OK) {
        assert(row->why.text[0] != '\0');
        return 0;
    }
    assert(slice_utf8_error(row->id) < 0 && slice_utf8_error(row->model) < 0);
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        struct model model = {.input = &columns[i], .n_input = 1, .api = i < 2 ? &tensors : NULL};
        struct buf out = {.max = OUT_MAX}, json = {.max = OUT_MAX};
        struct error why;
        if (record_values(&model, row->fields, &out, &why) == 0) {
            int rc = msgpack_to_json(buf_slice(&out), &json);
            assert(rc == 0);
        }
        buf_free(&out);
        buf_free(&json);
    }
    return 0;
}

static void try_rows(struct slice bytes) {
    long n = 0;
    long rc = rows_read(bytes, NULL, on_row, &n);
    assert(rc == n);
}

static void try_records(struct slice bytes) {
    uint64_t slot;
    struct slice values;
    while (record_next(&bytes, &slot, &values) == 1) {
    }
}

static void try_items(struct slice bytes) {
    uint64_t slot;
    struct slice payload;
    enum outcome outcome;
    while (item_next(&bytes, &slot, &outcome, &payload) == 1) {
    }
}

static void try_options(struct slice bytes) {
    struct buf out = {.max = OUT_MAX}, again = {.max = OUT_MAX};
    struct error why;
    if (options_canonical(bytes, &out, &why) == 0) {
        int rc = options_canonical(buf_slice(&out), &again, &why);
        assert(rc == 0 && slice_eq(buf_slice(&out), buf_slice(&again)));
        struct slice name, value;
        size_t n = 0;
        while (options_get(buf_slice(&out), n, &name, &value) == 1) {
            n++;
        }
    }
    buf_free(&out);
    buf_free(&again);
}

static void try_blob(struct slice bytes) {
    long n = result_blob_count(bytes);
    for (int format = RESULT_JSON; n >= 0 && format <= RESULT_MSGPACK; format++) {
        struct buf out = {.max = OUT_MAX};
        int rc = result_blob_expand(bytes, 0, (size_t)n, (enum result_format)format, true, &out);
        assert(rc == 0 || out.n == 0);
        buf_free(&out);
    }
}

static void try_value(struct slice bytes) {
    struct buf out = {.max = OUT_MAX};
    if (msgpack_to_json(bytes, &out) == 0) {
        struct json_object *value = NULL;
        struct error why;
        int rc = json_parse(buf_slice(&out), &value, &why);
        // A member's name may hold a NUL in JSON and msgpack, and not in json-c.
        assert(rc == 0 || strstr(out.p, "\\u0000") != NULL);
        json_object_put(rc == 0 ? value : NULL);
    }
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(struct slice bytes) = {try_rows,    try_records, try_items,
                                                          try_options, try_blob,    try_value};
    if (size > 0) {
        targets[data[0] % 6]((struct slice){(const char *)data + 1, size - 1});
    }
    return 0;
}
