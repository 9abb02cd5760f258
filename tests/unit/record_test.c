// Values of a row cast to INPUT columns; records, items and overrides there and back.
#include "proto/record.h"

#include "common/json.h"
#include "common/model.h"
#include "proto/pack.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// to_msgpack makes msgpack of JSON text. The caller frees the buf.
static struct buf to_msgpack(const char *json) {
    struct buf out = {.max = 1 << 20};
    struct json_object *value = NULL;
    struct error why = {0};
    if (json_parse(slice_of(json), &value, &why) != 0) {
        fail_msg("%s: %s", json, why.text);
    }
    assert_int_equal(json_to_msgpack(value, &out), 0);
    json_object_put(value);
    return out;
}

static const struct cast {
    const char *name;
    enum column_type type;
    bool not_null;
    const char *fields; // JSON
    const char *want;   // the values as JSON, or the sentence
} casts[] = {
    {"a string", TYPE_STRING, false, "{\"c\":\"x\"}", "[\"x\"]"},
    {"an integer for text", TYPE_STRING, false, "{\"c\":-7}", "[\"-7\"]"},
    {"an integer past int64 for text", TYPE_STRING, false, "{\"c\":18446744073709551615}",
     "[\"18446744073709551615\"]"},
    {"a fraction for text", TYPE_STRING, false, "{\"c\":1.25}", "[\"1.25\"]"},
    {"a boolean for text", TYPE_STRING, false, "{\"c\":true}", "[\"true\"]"},
    {"null", TYPE_STRING, false, "{\"c\":null}", "[null]"},
    {"null where none may be", TYPE_STRING, true, "{\"c\":null}",
     "column 'c': got null, want STRING NOT NULL"},
    {"no such column", TYPE_STRING, false, "{\"d\":1}", "column 'c': got no such column, want STRING"},
    {"the last of two", TYPE_INT, false, "{\"c\":1,\"d\":[{\"c\":5}],\"c\":2}", "[2]"},
    {"an array", TYPE_STRING, false, "{\"c\":[1]}", "column 'c': got an array, want STRING"},
    {"a map", TYPE_INT, false, "{\"c\":{}}", "column 'c': got a map, want INT"},
    {"a boolean", TYPE_BOOLEAN, false, "{\"c\":false}", "[false]"},
    {"1 for a boolean", TYPE_BOOLEAN, false, "{\"c\":1}", "[true]"},
    {"2 for a boolean", TYPE_BOOLEAN, false, "{\"c\":2}", "column 'c': got an integer, want BOOLEAN"},
    {"text for a boolean", TYPE_BOOLEAN, false, "{\"c\":\"TRUE\"}", "[true]"},
    {"other text for a boolean", TYPE_BOOLEAN, false, "{\"c\":\"yes\"}",
     "column 'c': got a string that is neither true nor false, want BOOLEAN"},
    {"the least INT", TYPE_INT, false, "{\"c\":-2147483648}", "[-2147483648]"},
    {"the most INT", TYPE_INT, false, "{\"c\":2147483647}", "[2147483647]"},
    {"one more than INT", TYPE_INT, false, "{\"c\":2147483648}",
     "column 'c': got an integer out of range, want INT"},
    {"one less than INT", TYPE_INT, false, "{\"c\":-2147483649}", "column 'c': got an integer out of"},
    {"one more than INT as text", TYPE_INT, false, "{\"c\":\"2147483648\"}", "column 'c': got an integer"},
    {"one more than INT as a fraction", TYPE_INT, false, "{\"c\":2147483648.0}", "column 'c': got an int"},
    {"the most INT as a fraction", TYPE_INT, false, "{\"c\":2147483647.0}", "[2147483647]"},
    {"a fraction for INT", TYPE_INT, false, "{\"c\":1.5}", "column 'c': got a number with a fraction"},
    {"text for INT", TYPE_INT, false, "{\"c\":\" 12 \"}", "[12]"},
    {"an exponent for INT", TYPE_INT, false, "{\"c\":\"1e3\"}", "[1000]"},
    {"a boolean for INT", TYPE_INT, false, "{\"c\":true}", "column 'c': got a boolean, want INT"},
    {"the least BIGINT", TYPE_BIGINT, false, "{\"c\":-9223372036854775808}", "[-9223372036854775808]"},
    {"the most BIGINT as text", TYPE_BIGINT, false, "{\"c\":\"9223372036854775807\"}",
     "[9223372036854775807]"},
    {"one more than BIGINT", TYPE_BIGINT, false, "{\"c\":9223372036854775808}", "column 'c': got an int"},
    {"2^63 as a fraction", TYPE_BIGINT, false, "{\"c\":9223372036854775808.0}", "column 'c': got an int"},
    {"-2^63 as a fraction", TYPE_BIGINT, false, "{\"c\":-9223372036854775808.0}", "[-9223372036854775808]"},
    {"an integer for DOUBLE", TYPE_DOUBLE, false, "{\"c\":3}", "[3]"},
    {"text for DOUBLE", TYPE_DOUBLE, false, "{\"c\":\"-0.5e-1\"}", "[-0.05]"},
    {"NaN", TYPE_DOUBLE, false, "{\"c\":\"NaN\"}", "column 'c': got a string that is no number"},
    {"infinity", TYPE_DOUBLE, false, "{\"c\":\"inf\"}", "column 'c': got a string that is no number"},
    {"hexadecimal", TYPE_DOUBLE, false, "{\"c\":\"0x10\"}", "column 'c': got a string that is no number"},
    {"an empty string", TYPE_DOUBLE, false, "{\"c\":\"\"}", "column 'c': got a string that is no number"},
    {"a lone sign", TYPE_INT, false, "{\"c\":\"-\"}", "column 'c': got a string that is no number"},
    {"a point without digits", TYPE_DOUBLE, false, "{\"c\":\"1.\"}", "column 'c': got a string that is"},
    {"a NUL behind a number", TYPE_INT, false, "{\"c\":\"1\\u0000\"}", "column 'c': got a string that is"},
    {"past DOUBLE", TYPE_DOUBLE, false, "{\"c\":\"1e999\"}", "column 'c': got a number that is not finite"},
    {"past FLOAT", TYPE_FLOAT, false, "{\"c\":1e39}", "column 'c': got a number out of range, want FLOAT"},
    {"a FLOAT", TYPE_FLOAT, false, "{\"c\":0.1}", "[0.1]"},
};

static void values_are_cast_to_the_column(void **state) {
    for (size_t i = 0; i < sizeof(casts) / sizeof(casts[0]); i++) {
        const struct cast *c = &casts[i];
        struct column column = {.name = "c", .type = c->type, .not_null = c->not_null};
        struct model model = {.input = &column, .n_input = 1};
        struct buf fields = to_msgpack(c->fields), out = {.max = 1 << 16}, json = {.max = 1 << 16};
        struct error why = {0};
        int rc = record_values(&model, buf_slice(&fields), &out, &why);
        const char *got = why.text;
        if (rc == 0) {
            assert_int_equal(msgpack_to_json(buf_slice(&out), &json), 0);
            got = json.p;
        } else {
            assert_int_equal(rc, -EINVAL);
            assert_int_equal(out.n, 0);
        }
        if (strncmp(got, c->want, strlen(c->want)) != 0) {
            fail_msg("%s: got %s, want %s", c->name, got, c->want);
        }
        buf_free(&fields);
        buf_free(&out);
        buf_free(&json);
    }
}

// Images, by provider. A PNG of 2x1 pixels, a GIF and a JPEG.
#define PNG "iVBORw0KGgoAAAANSUhEUgAAAAIAAAAB"
#define GIF "R0lGODlhAQADADs="
#define NO_IMAGE ", want an image's bytes, base64, a data: URL or an http(s) URL; the path of a file is read by " \
                 "headrace run and headrace submit alone"

static const struct {
    const char *name, *provider, *with, *field, *want;
} images[] = {
    {"base64", "openai", "", "\"" PNG "\"", "[\"" PNG "\"]"},
    {"a data: URL", "openai", "", "\"data:image/png;base64," PNG "\"", "[\"" PNG "\"]"},
    {"null", "openai", "", "null", "[null]"},
    {"a link", "anthropic", "", "\" https://h/a.png\"", "[\"https://h/a.png\"]"},
    {"a link where another host would fetch it", "openai", ", 'endpoint' = 'http://10.0.0.1'", "\"http://h/a\"",
     "column 'c': got a URL, want the image's bytes: 'image.links' is not on"},
    {"the same when it is asked for", "openai", ", 'endpoint' = 'http://10.0.0.1', 'image.links' = 'on'", "\"http://h/a\"",
     "[\"http://h/a\"]"},
    {"a link to a server of one's own", "vllm", ", 'endpoint' = 'http://h'", "\"http://h/a\"",
     "column 'c': got a URL, want the image's bytes: 'image.links' is not on"},
    {"a link that is not wanted", "anthropic", ", 'image.links' = 'off'", "\"http://h/a\"",
     "column 'c': got a URL, want the image's bytes: 'image.links' is not on"},
    {"a provider without links", "gemini", "", "\"http://h/a\"",
     "column 'c': got a URL, want the image's bytes: the provider takes no links"},
    {"a link with a space", "anthropic", "", "\"http://h/a b\"",
     "column 'c': got a URL with a space, a control character or without a host in it, or one of more than 8192 bytes"},
    {"a path", "openai", "", "\"photos/1.png\"", "column 'c': got text that is no base64" NO_IMAGE},
    {"a path that could be base64", "openai", "", "\"/etc/passwd1\"",
     "column 'c': got base64 of something else than a PNG, JPEG, GIF or WEBP image" NO_IMAGE},
    {"a URL of a file", "openai", "", "\"file:///etc/passwd\"", "column 'c': got text that is no base64" NO_IMAGE},
    {"a media type that is another", "openai", "", "\"data:image/gif;base64," PNG "\"",
     "column 'c': got a data: URL whose media type is not that of the image in it" NO_IMAGE},
    {"a kind that the provider does not take", "gemini", "", "\"" GIF "\"",
     "column 'c': got a GIF image, which gemini does not take"},
    {"more pixels than it takes", "anthropic", "", "\"iVBORw0KGgoAAAANSUhEUgAAH0EAAAAB\"",
     "column 'c': got an image of 8001x1 pixels, want at most 8000 a side: anthropic takes no more"},
    {"a number", "openai", "", "7", "column 'c': got an integer, want an image's bytes, or text"},
};

static struct statements image_model(const char *provider, const char *with) {
    char sql[512];
    struct statements list = {0};
    struct error why = {0};
    snprintf(sql, sizeof(sql),
             "CREATE MODEL m INPUT (c IMAGE) OUTPUT (s STRING) WITH ('provider' = '%s', 'model' = 'x', "
             "'max.tokens' = '9'%s);", provider, with);
    if (model_sql_parse(slice_of(sql), "case", &list, &why) != 0) {
        fail_msg("%s: %s", with, why.text);
    }
    return list;
}

static void images_are_held_against_the_provider(void **state) {
    for (size_t i = 0; i < sizeof(images) / sizeof(images[0]); i++) {
        struct statements list = image_model(images[i].provider, images[i].with);
        struct error why = {0};
        char row[256];
        snprintf(row, sizeof(row), "{\"c\":%s}", images[i].field);
        struct buf fields = to_msgpack(row), out = {.max = 1 << 16}, json = {.max = 1 << 16};
        int rc = record_values(list.items[0].model, buf_slice(&fields), &out, &why);
        assert_int_equal(rc == 0 ? msgpack_to_json(buf_slice(&out), &json) : 0, 0);
        const char *got = rc == 0 ? json.p : why.text;
        if (strcmp(got, images[i].want) != 0) {
            fail_msg("%s: got %s, want %s", images[i].name, got, images[i].want);
        }
        buf_free(&fields);
        buf_free(&out);
        buf_free(&json);
        statements_free(&list);
    }
}

static void an_image_may_come_as_bytes_of_some_size(void **state) {
    static const struct {
        size_t n;
        const char *want; // NULL: taken
    } sizes[] = {
        {24, NULL},
        {7864320, NULL},
        {7864321, "column 'c': got an image of 7864321 bytes, want at most 7864320: anthropic takes no more"},
    };
    struct statements list = image_model("anthropic", "");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf bytes = {.max = 1 << 24}, fields = {.max = 1 << 24}, out = {.max = 1 << 24};
        struct error why = {0};
        assert_int_equal(buf_add(&bytes, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\2\0\0\0\1", 24), 0);
        assert_int_equal(buf_reserve(&bytes, sizes[i].n), 0);
        memset(bytes.p + 24, 'x', sizes[i].n - 24);
        bytes.n = sizes[i].n;
        assert_int_equal(pack_map(&fields, 1), 0);
        assert_int_equal(pack_str(&fields, SLICE_LIT("c")), 0);
        assert_int_equal(pack_bin(&fields, buf_slice(&bytes)), 0);
        int rc = record_values(list.items[0].model, buf_slice(&fields), &out, &why);
        assert_int_equal(rc, sizes[i].want == NULL ? 0 : -EINVAL);
        if (rc != 0) {
            assert_string_equal(why.text, sizes[i].want);
        } else { // as many tokens as its pixels, not its bytes
            assert_int_equal(record_weight(list.items[0].model, buf_slice(&out), NULL, NULL), 64 * 4);
        }
        buf_free(&bytes);
        buf_free(&fields);
        buf_free(&out);
    }
    statements_free(&list);
}

// ---- Long rows ------------------------------------------------------------------------------------------

struct long_rows {
    size_t n_ok, n_long;
    enum outcome last;
};

static int on_long_row(void *arg, const struct row *row) {
    struct long_rows *seen = arg;
    seen->n_ok += row->outcome == OUTCOME_OK;
    seen->n_long += row->outcome == OUTCOME_TOO_LONG;
    seen->last = row->outcome;
    return 0;
}

// add_row appends a JSON row of a text of n bytes, or of n bytes of numbers.
static void add_row(struct buf *out, size_t n, bool text) {
    assert_int_equal(buf_add_str(out, text ? "{\"c\":\"" : "{\"c\":["), 0);
    assert_int_equal(buf_reserve(out, n), 0);
    for (size_t i = 0; i < n; i++) {
        out->p[out->n++] = text || i % 2 == 0 ? '1' : ',';
    }
    assert_int_equal(buf_add_str(out, text ? "\"}\n" : "1]}\n"), 0);
}

static void a_row_is_long_for_its_text_alone(void **state) {
    static const struct {
        const char *name;
        size_t n, max_bytes;
        bool text;
        enum outcome want;
    } rows[] = {
        {"a megabyte of text", RECORD_MAX_BYTES, 0, true, OUTCOME_TOO_LONG},
        {"a megabyte of text where images may come", RECORD_MAX_BYTES, RECORD_LONG_MAX_BYTES, true, OUTCOME_OK},
        {"a megabyte of numbers where images may come", RECORD_MAX_BYTES, RECORD_LONG_MAX_BYTES, false,
         OUTCOME_TOO_LONG},
        {"15 MiB of text", 15 * RECORD_MAX_BYTES, RECORD_LONG_MAX_BYTES, true, OUTCOME_OK},
        {"16 MiB of text", RECORD_LONG_MAX_BYTES, RECORD_LONG_MAX_BYTES, true, OUTCOME_TOO_LONG},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf frame = {.max = 1 << 26};
        struct long_rows seen = {0};
        struct row_columns columns = {.max_bytes = rows[i].max_bytes};
        add_row(&frame, 5, true);
        add_row(&frame, rows[i].n, rows[i].text);
        long n = rows_read(buf_slice(&frame), &columns, on_long_row, &seen);
        if (n != 2 || seen.last != rows[i].want) {
            fail_msg("%s: got %ld rows, the last %s", rows[i].name, n, outcome_of(seen.last)->text);
        }
        add_row(&frame, 5, true); // what follows is read
        seen = (struct long_rows){0};
        assert_int_equal(rows_read(buf_slice(&frame), &columns, on_long_row, &seen), 3);
        assert_int_equal(seen.last, OUTCOME_OK);
        buf_free(&frame);
    }
}

// Arrays, as SQL declares them; the tensors are those of kserve.
static const struct {
    const char *name, *type;
    bool is_tensor;
    const char *field, *want;
} arrays[] = {
    {"numbers, in text too", "ARRAY<FLOAT>", true, "[1,\"2.5\",-3]", "[[1,2.5,-3]]"},
    {"texts, of numbers too", "ARRAY<STRING>", true, "[\"a\",7,true]", "[[\"a\",\"7\",\"true\"]]"},
    {"nothing in it", "ARRAY<INT>", true, "[]", "[[]]"},
    {"JSON in a string", "ARRAY<INT>", true, "\"[1, 2]\"", "[[1,2]]"},
    {"JSON of another type in a string", "ARRAY<INT>", true, "\"{}\"",
     "column 'c': got a string that is no JSON array, want ARRAY<INT>"},
    {"a string in an array", "ARRAY<ARRAY<INT>>", true, "[\"[1]\"]",
     "column 'c', element 1: got a string, want ARRAY<INT>"},
    {"no array", "ARRAY<INT>", true, "7", "column 'c': got an integer, want ARRAY<INT>"},
    {"an element of another type", "ARRAY<INT>", true, "[1,\"x\"]",
     "column 'c', element 2: got a string that is no number, want INT"},
    {"an array where a number is wanted", "ARRAY<INT>", true, "[[1]]", "column 'c', element 1: got an array, want INT"},
    {"null in a prompt", "ARRAY<INT>", false, "[1,null]", "[[1,null]]"},
    {"null where none may be", "ARRAY<INT NOT NULL>", false, "[1,null]", "column 'c', element 2: got null, want INT NOT NULL"},
    {"null in a tensor", "ARRAY<INT>", true, "[1,null]",
     "column 'c', element 2: got null, which a tensor cannot hold, want INT"},
    {"a matrix", "ARRAY<ARRAY<INT>>", true, "[[1,2],[3,4]]", "[[[1,2],[3,4]]]"},
    {"ragged rows in a prompt", "ARRAY<ARRAY<INT>>", false, "[[1,2],[3]]", "[[[1,2],[3]]]"},
    {"ragged rows in a tensor", "ARRAY<ARRAY<INT>>", true, "[[1,2],[3]]",
     "column 'c', element 2: got an array of 1 behind one of 2, which no tensor can hold, want ARRAY<INT>"},
    {"a fault deep inside", "ARRAY<ARRAY<INT>>", false, "[[1],[2,3.5]]",
     "column 'c', element 2, element 2: got a number with a fraction, want INT"},
    {"none given", "ARRAY<INT> NOT NULL", false, "null", "column 'c': got null, want ARRAY<INT> NOT NULL"},
};

static void arrays_are_cast_element_by_element(void **state) {
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        char sql[512], row[256];
        struct statements list = {0};
        struct error why = {0};
        snprintf(sql, sizeof(sql),
                 "CREATE MODEL m INPUT (c %s) OUTPUT (s STRING) WITH ('provider' = '%s', 'endpoint' = "
                 "'http://h', 'model' = 'x');",
                 arrays[i].type, arrays[i].is_tensor ? "kserve" : "openai");
        snprintf(row, sizeof(row), "{\"c\":%s}", arrays[i].field);
        assert_int_equal(model_sql_parse(slice_of(sql), "case", &list, &why), 0);
        struct buf fields = to_msgpack(row), out = {.max = 1 << 16}, json = {.max = 1 << 16};
        int rc = record_values(list.items[0].model, buf_slice(&fields), &out, &why);
        assert_int_equal(rc == 0 ? msgpack_to_json(buf_slice(&out), &json) : 0, 0);
        const char *got = rc == 0 ? json.p : why.text;
        if (strcmp(got, arrays[i].want) != 0) {
            fail_msg("%s: got %s, want %s", arrays[i].name, got, arrays[i].want);
        }
        buf_free(&fields);
        buf_free(&out);
        buf_free(&json);
        statements_free(&list);
    }
}

static void values_stand_in_the_models_order(void **state) {
    struct column columns[] = {{.name = "a", .type = TYPE_INT}, {.name = "b", .type = TYPE_STRING}};
    struct model model = {.input = columns, .n_input = 2};
    struct buf out = {.max = 1 << 16};
    struct slice fields = SLICE_LIT("\x83\xa1" "b\xa1x\xa1" "a\x01\xa1" "a\x02");
    assert_int_equal(record_values(&model, fields, &out, NULL), 0);
    assert_true(slice_eq(buf_slice(&out), SLICE_LIT("\x92\x02\xa1x")));
    out.max = out.n + 2;
    assert_int_equal(record_values(&model, fields, &out, NULL), -EMSGSIZE);
    assert_int_equal(out.n, 4);
    buf_free(&out);
}

static void records_and_items_come_back(void **state) {
    struct buf out = {.max = 1 << 16};
    assert_int_equal(record_pack(&out, 0, SLICE_LIT("\x91\x01")), 0);
    assert_int_equal(record_pack(&out, 1023, SLICE_LIT("")), 0);
    struct slice rest = buf_slice(&out), values;
    uint64_t slot;
    assert_int_equal(record_next(&rest, &slot, &values), 1);
    assert_true(slot == 0 && slice_eq(values, SLICE_LIT("\x91\x01")));
    assert_int_equal(record_next(&rest, &slot, &values), 1);
    assert_true(slot == 1023 && values.n == 0);
    assert_int_equal(record_next(&rest, &slot, &values), 0);
    buf_clear(&out);
    assert_int_equal(item_pack(&out, 3, OUTCOME_OK, SLICE_LIT("\x91\xa1x")), 0);
    assert_int_equal(item_pack(&out, 4, OUTCOME_MISSING, SLICE_LIT("no")), 0);
    enum outcome outcome;
    rest = buf_slice(&out);
    assert_int_equal(item_next(&rest, &slot, &outcome, &values), 1);
    assert_true(slot == 3 && outcome == OUTCOME_OK && slice_eq(values, SLICE_LIT("\x91\xa1x")));
    assert_int_equal(item_next(&rest, &slot, &outcome, &values), 1);
    assert_true(slot == 4 && outcome == OUTCOME_MISSING && slice_is(values, "no"));
    assert_int_equal(item_next(&rest, &slot, &outcome, &values), 0);
    buf_free(&out);
}

#define S_(text) {text, sizeof(text) - 1}

static void damaged_records_and_items_are_refused(void **state) {
    static const struct slice items[] = {
        S_("\x93\x03\xa2ok"),                      // cut short
        S_("\x92\x03\xa2ok"),                      // two of three
        S_("\x93\xff\xa2ok\xc4\x01\x90"),          // a negative slot
        S_("\x93\xcd\x04\x00\xa2ok\xc4\x01\x90"),  // slot 1024
        S_("\x93\x03\xa3" "oky\xc4\x01\x90"),      // no such outcome
        S_("\x93\x03\xa2ok\xa1x"),                 // values as text
        S_("\x93\x03\xa2ok\xc4\x01\x80"),          // values that are a map
        S_("\x93\x03\xa2ok\xc4\x01\x91"),          // values cut short
        S_("\x93\x03\xa2ok\xc4\x02\x90\x90"),      // bytes behind the values
        S_("\x93\x03\xa7missing\xc4\x01x"),        // a sentence as binary
        S_("\x93\x03\xa7missing\xa1\xff"),         // a sentence that is not UTF-8
    };
    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        struct slice rest = items[i], payload;
        uint64_t slot;
        enum outcome outcome;
        assert_int_equal(item_next(&rest, &slot, &outcome, &payload), -EPROTO);
    }
    static const struct slice records[] = {S_("\x92\x01"), S_("\x92\x01\xa1x"), S_("\x91\x01"), S_("\xc0")};
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        struct slice rest = records[i], values;
        uint64_t slot;
        assert_int_equal(record_next(&rest, &slot, &values), -EPROTO);
    }
}

static void overrides_become_equal_bytes(void **state) {
    static const struct {
        const char *json, *want;
    } maps[] = {
        {"{\"b\":\"1\",\"a\":\"2\"}", "{\"a\":\"2\",\"b\":\"1\"}"},
        {"{\"a\":2,\"b\":true,\"aa\":0.5}", "{\"a\":\"2\",\"aa\":\"0.5\",\"b\":\"true\"}"},
        {"{}", ""},
        {"[]", "got options that are no map"},
        {"{\"a\":null}", "option 'a': got null, want a string"},
        {"{\"a\":[]}", "option 'a': got an array, want a string"},
    };
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        struct buf map = to_msgpack(maps[i].json), out = {.max = 1 << 16}, json = {.max = 1 << 16};
        struct error why = {0};
        int rc = options_canonical(buf_slice(&map), &out, &why);
        if (rc == 0 && out.n > 0) {
            assert_int_equal(msgpack_to_json(buf_slice(&out), &json), 0);
        }
        const char *got = rc != 0 ? why.text : json.p != NULL ? json.p : "";
        assert_true(strncmp(got, maps[i].want, strlen(maps[i].want)) == 0);
        assert_true(rc == 0 || rc == -EPROTO);
        buf_free(&map);
        buf_free(&out);
        buf_free(&json);
    }
    struct buf out = {.max = 64};
    assert_int_equal(options_canonical(SLICE_NONE, &out, NULL), 0);
    assert_int_equal(options_canonical(SLICE_LIT("\x82\xa1" "a\x01\xa1" "a\x02"), &out, NULL), -EPROTO);
    assert_int_equal(out.n, 0);
    buf_free(&out);
    struct slice name, value, map = SLICE_LIT("\x82\xa1" "a\xa1x\xa1" "b\xa1y");
    assert_int_equal(options_get(map, 1, &name, &value), 1);
    assert_true(slice_is(name, "b") && slice_is(value, "y"));
    assert_int_equal(options_get(map, 2, &name, &value), 0);
    assert_int_equal(options_get(SLICE_NONE, 0, &name, &value), 0);
    assert_int_equal(options_get(SLICE_LIT("\x81\xa1" "a"), 0, &name, &value), -EPROTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_cast_to_the_column),
        cmocka_unit_test(arrays_are_cast_element_by_element),
        cmocka_unit_test(images_are_held_against_the_provider),
        cmocka_unit_test(an_image_may_come_as_bytes_of_some_size),
        cmocka_unit_test(a_row_is_long_for_its_text_alone),
        cmocka_unit_test(values_stand_in_the_models_order),
        cmocka_unit_test(records_and_items_come_back),
        cmocka_unit_test(damaged_records_and_items_are_refused),
        cmocka_unit_test(overrides_become_equal_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
