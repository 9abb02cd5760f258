// Results: kept as a blob, seen by consumers as JSON Lines or msgpack. HEADRACE_GOLDEN=write rewrites
// golden/kept.hex.
#include "proto/record.h"

#include "common/mem.h"
#include "common/model.h"
#include "proto/pack.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const columns[] = {"sentiment", "score"};

static const struct result_shared shared = {
    .model = SLICE_LIT("m"),
    .revision = 3,
    .batch = 0x1f,
    .call = 2,
    .request_id = SLICE_LIT("req-1"),
    .prompt_hash = SLICE_LIT("00ff"),
    .served_model = SLICE_LIT("m-2026"),
    .latency_us = 1500,
    .columns = columns,
    .n_columns = 2,
};

static const struct result good = {
    .id = SLICE_LIT("a\"1"),
    .key = SLICE_LIT("k"),
    .producer = SLICE_LIT("p"),
    .seq = 18446744073709551615u,
    .outcome = OUTCOME_OK,
    .payload = SLICE_LIT("\x92\xa3pos\xcb\x3f\xe0\0\0\0\0\0\0"),
    .attempts = 1,
    .input_tokens = 12.5,
    .output_tokens = 4,
    .cost = 0.00025,
};

static const struct result failed = {
    .id = SLICE_LIT("b"),
    .outcome = OUTCOME_MISSING,
    .payload = SLICE_LIT("no item"),
    .attempts = 4,
    .cost = -1,
};

#define GOOD_JSON \
    "{\"id\":\"a\\\"1\",\"key\":\"k\",\"producer\":\"p\",\"seq\":18446744073709551615," \
    "\"sentiment\":\"pos\",\"score\":0.5,\"error\":null"
#define FAILED_JSON \
    "{\"id\":\"b\",\"sentiment\":null,\"score\":null," \
    "\"error\":{\"code\":\"missing\",\"message\":\"no item\",\"attempts\":4}"
#define META_JSON(numbers) \
    ",\"meta\":{\"model\":\"m\",\"revision\":3,\"batch\":\"000000000000001f\",\"call\":2," \
    "\"request_id\":\"req-1\",\"served_model\":\"m-2026\"," numbers \
    ",\"latency_ms\":1.5,\"prompt_hash\":\"00ff\",\"service_tier\":null,\"warning\":null}"
#define GOOD_META \
    META_JSON("\"input_tokens\":12.5,\"cached_tokens\":0,\"cache_write_tokens\":0,\"output_tokens\":4," \
              "\"reasoning_tokens\":0,\"cost\":0.00025,\"attempts\":1")
#define FAILED_META \
    META_JSON("\"input_tokens\":0,\"cached_tokens\":0,\"cache_write_tokens\":0,\"output_tokens\":0," \
              "\"reasoning_tokens\":0,\"cost\":null,\"attempts\":4")

static struct buf make_blob(void) {
    struct buf blob = {.max = 1 << 16};
    assert_int_equal(result_blob_begin(&blob, &shared, 2), 0);
    assert_int_equal(result_blob_add(&blob, &good), 0);
    assert_int_equal(result_blob_add(&blob, &failed), 0);
    assert_int_equal(result_blob_count(buf_slice(&blob)), 2);
    return blob;
}

static void consumers_see_json_lines(void **state) {
    static const struct {
        size_t from, n;
        bool meta;
        const char *want;
    } cases[] = {
        {0, 2, false, GOOD_JSON "}\n" FAILED_JSON "}\n"},
        {0, 2, true, GOOD_JSON GOOD_META "}\n" FAILED_JSON FAILED_META "}\n"},
        {1, 1, false, FAILED_JSON "}\n"},
        {0, 1, false, GOOD_JSON "}\n"},
        {2, 0, true, ""},
    };
    struct buf blob = make_blob(), out = {.max = 1 << 16};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_clear(&out);
        assert_int_equal(result_blob_expand(buf_slice(&blob), cases[i].from, cases[i].n, RESULT_JSON,
                                            cases[i].meta, &out), 0);
        assert_string_equal(out.p != NULL ? out.p : "", cases[i].want);
    }
    buf_clear(&out);
    assert_int_equal(result_blob_expand(buf_slice(&blob), 1, 2, RESULT_JSON, false, &out), -EPROTO);
    assert_int_equal(result_blob_expand(buf_slice(&blob), 3, 0, RESULT_JSON, false, &out), -EPROTO);
    out.max = 100;
    assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 2, RESULT_JSON, false, &out), -EMSGSIZE);
    assert_int_equal(out.n, 0);
    buf_free(&blob);
    buf_free(&out);
}

static void what_went_before_stands_in_meta(void **state) {
    static const struct result_note refused = {.model = SLICE_LIT("first"), .revision = 7,
                                               .outcome = OUTCOME_FILTERED, .sentence = SLICE_LIT("no")};
    static const struct result_note spent = {.outcome = OUTCOME_TRANSIENT, .sentence = SLICE_LIT("HTTP 503")};
    static const struct {
        const char *says;
        const struct result_note *fallback, *defaulted;
        const char *want;
    } cases[] = {
        {"another model answered", &refused, NULL,
         ",\"warning\":null,\"fallback\":{\"model\":\"first\",\"revision\":7,\"code\":\"filtered\",\"message\":\"no\"}}}\n"},
        {"the default, after one model", NULL, &spent,
         ",\"warning\":null,\"default\":{\"code\":\"transient\",\"message\":\"HTTP 503\"}}}\n"},
        {"the default, after two models", &refused, &spent,
         ",\"warning\":null,\"fallback\":{\"model\":\"first\",\"revision\":7,\"code\":\"filtered\",\"message\":\"no\"},"
         "\"default\":{\"code\":\"transient\",\"message\":\"HTTP 503\"}}}\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf blob = {.max = 1 << 16}, out = {.max = 1 << 16};
        struct result_shared with = shared;
        struct result result = good;
        with.metadata = 1u << METADATA_ERROR_STRING;
        result.fallback = cases[i].fallback;
        result.defaulted = cases[i].defaulted;
        assert_int_equal(result_blob_begin(&blob, &with, 2), 0);
        assert_int_equal(result_blob_add(&blob, &result), 0);
        assert_int_equal(result_blob_add(&blob, &failed), 0);
        assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 1, RESULT_JSON, true, &out), 0);
        size_t n = strlen(cases[i].want);
        if (out.n < n || strcmp(out.p + out.n - n, cases[i].want) != 0) {
            fail_msg("%s: %s", cases[i].says, out.p);
        }
        assert_non_null(strstr(out.p, cases[i].defaulted != NULL ? "\"error-string\":\"HTTP 503\",\"error\":null"
                                                                 : "\"error-string\":null,\"error\":null"));
        buf_clear(&out);
        assert_int_equal(result_blob_expand(buf_slice(&blob), 1, 1, RESULT_MSGPACK, true, &out), 0);
        for (size_t cut = 1; cut < blob.n; cut++) { // cut off anywhere
            buf_clear(&out);
            assert_int_equal(result_blob_expand((struct slice){blob.p, cut}, 0, 2, RESULT_JSON, true, &out), -EPROTO);
        }
        buf_free(&blob);
        buf_free(&out);
    }
}

static void msgpack_says_the_same(void **state) {
    struct buf blob = make_blob(), out = {.max = 1 << 16}, json = {.max = 1 << 16};
    for (int meta = 0; meta < 2; meta++) {
        buf_clear(&out);
        buf_clear(&json);
        assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 2, RESULT_MSGPACK, meta, &out), 0);
        struct slice rest = buf_slice(&out), one;
        while (pack_whole(&rest, &one) == 1) {
            assert_int_equal(msgpack_to_json(one, &json), 0);
            assert_int_equal(buf_add_byte(&json, '\n'), 0);
        }
        assert_string_equal(json.p, meta ? GOOD_JSON GOOD_META "}\n" FAILED_JSON FAILED_META "}\n"
                                         : GOOD_JSON "}\n" FAILED_JSON "}\n");
    }
    buf_free(&blob);
    buf_free(&out);
    buf_free(&json);
}

static void errors_fill_the_columns_for_them(void **state) {
    static const struct {
        const char *says;
        unsigned metadata, status;
        struct slice headers;
        const char *want; // behind the columns
    } cases[] = {
        {"all three", 7, 400, SLICE_LIT("\x81\xa1x\x92\xa1""1\xa1""2"),
         "\"error-string\":\"no item\",\"http-status-code\":400,\"http-headers-map\":{\"x\":[\"1\",\"2\"]}"},
        {"one of them", 2, 503, SLICE_NONE, "\"http-status-code\":503"},
        {"no HTTP answer", 7, 0, SLICE_NONE,
         "\"error-string\":\"no item\",\"http-status-code\":null,\"http-headers-map\":null"},
        {"headers that are not msgpack", 4, 200, SLICE_LIT("\x81\xa1"), "\"http-headers-map\":null"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf blob = {.max = 1 << 16}, out = {.max = 1 << 16}, same = {.max = 1 << 16};
        struct result_shared with = shared;
        with.metadata = cases[i].metadata;
        with.http_status = cases[i].status;
        with.http_headers = cases[i].headers;
        assert_int_equal(result_blob_begin(&blob, &with, 2), 0);
        assert_int_equal(result_blob_add(&blob, &good), 0);
        assert_int_equal(result_blob_add(&blob, &failed), 0);
        assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 2, RESULT_JSON, false, &out), 0);
        char *line = strchr(out.p, '\n');
        assert_non_null(line);
        if (strstr(line, cases[i].want) == NULL) {
            fail_msg("%s: got %s, want %s", cases[i].says, out.p, cases[i].want);
        }
        *line = '\0';
        assert_true((strstr(out.p, "\"http-status-code\":null") != NULL) == ((cases[i].metadata & 2) != 0));
        *line = '\n';
        assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 2, RESULT_MSGPACK, false, &same), 0);
        struct slice rest = buf_slice(&same), one;
        struct buf json = {.max = 1 << 16};
        while (pack_whole(&rest, &one) == 1) {
            assert_int_equal(msgpack_to_json(one, &json), 0);
            assert_int_equal(buf_add_byte(&json, '\n'), 0);
        }
        assert_string_equal(json.p, out.p);
        buf_free(&blob);
        buf_free(&out);
        buf_free(&same);
        buf_free(&json);
    }
}

static void what_is_not_known_is_null(void **state) {
    struct buf blob = {.max = 1 << 16}, out = {.max = 1 << 16};
    struct result_shared none = {0};
    struct result bad = {.outcome = OUTCOME_BAD_RECORD, .payload = SLICE_LIT("row 3: bad"), .cost = 0};
    assert_int_equal(result_blob_begin(&blob, &none, 1), 0);
    assert_int_equal(result_blob_add(&blob, &bad), 0);
    assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 1, RESULT_JSON, true, &out), 0);
    assert_string_equal(out.p,
        "{\"id\":\"\",\"error\":{\"code\":\"bad-record\",\"message\":\"row 3: bad\",\"attempts\":0},"
        "\"meta\":{\"model\":null,\"revision\":0,\"batch\":null,\"call\":null,\"request_id\":null,"
        "\"served_model\":null,\"input_tokens\":0,\"cached_tokens\":0,\"cache_write_tokens\":0,"
        "\"output_tokens\":0,\"reasoning_tokens\":0,\"cost\":0,\"attempts\":0,\"latency_ms\":0,"
        "\"prompt_hash\":null,\"service_tier\":null,\"warning\":null}}\n");
    buf_free(&blob);
    buf_free(&out);
}

// What few calls have is kept beside anything else, and a blob with it is cut as safely as any.
static void tier_and_rare_tokens_are_kept(void **state) {
    for (int i = 0; i < 8; i++) {
        struct buf blob = {.max = 1 << 16}, out = {.max = 1 << 16};
        struct result_shared s = shared;
        struct result r = good;
        s.metadata = (i & 1) != 0 ? 1u << METADATA_HTTP_STATUS : 0;
        s.http_status = 200;
        s.service_tier = (i & 2) != 0 ? SLICE_LIT("flex") : SLICE_NONE;
        r.cache_write_tokens = (i & 4) != 0 ? 2.5 : 0;
        r.reasoning_tokens = (i & 4) != 0 ? 3 : 0;
        assert_int_equal(result_blob_begin(&blob, &s, 2), 0);
        assert_int_equal(result_blob_add(&blob, &r), 0);
        assert_int_equal(result_blob_add(&blob, &failed), 0);
        assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 2, RESULT_JSON, true, &out), 0);
        assert_true((strstr(out.p, "\"service_tier\":\"flex\"") != NULL) == ((i & 2) != 0));
        assert_true((strstr(out.p, "\"cache_write_tokens\":2.5,\"output_tokens\":4,\"reasoning_tokens\":3,"
                                   "\"cost\":0.00025") != NULL) == ((i & 4) != 0));
        assert_true((strstr(out.p, "\"http-status-code\":null") != NULL) == ((i & 1) != 0));
        assert_non_null(strstr(out.p, "\"id\":\"b\""));
        for (size_t n = 0; n < blob.n; n++) {
            buf_clear(&out);
            assert_int_equal(result_blob_expand(slice_sub(buf_slice(&blob), 0, n), 0, 2, RESULT_MSGPACK,
                                                true, &out), -EPROTO);
        }
        buf_free(&blob);
        buf_free(&out);
    }
}

static void a_blob_cut_anywhere_is_refused(void **state) {
    struct buf blob = make_blob(), out = {.max = 1 << 16};
    for (size_t n = 0; n < blob.n; n++) {
        char *copy = mem_alloc(n);
        memcpy(copy, blob.p, n);
        assert_int_equal(result_blob_expand((struct slice){copy, n}, 0, 2, RESULT_JSON, true, &out),
                         -EPROTO);
        assert_int_equal(out.n, 0);
        free(copy);
    }
    buf_free(&blob);
    buf_free(&out);
}

static void values_that_do_not_fit_hide_no_other_result(void **state) {
    static const char *const payloads[] = {"\x91\x01", "\x93\x01\x02\x03", "\x92\x01", "\x92\x01\x02\x03",
                                           "\x82\x01\x02\x03\x04", "",
                                           "\x92\x01\xa1\xff"};
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        struct buf blob = {.max = 1 << 16}, out = {.max = 1 << 16};
        struct result r = good;
        r.payload = slice_of(payloads[i]);
        assert_int_equal(result_blob_begin(&blob, &shared, 2), 0);
        assert_int_equal(result_blob_add(&blob, &r), 0);
        assert_int_equal(result_blob_add(&blob, &failed), 0);
        assert_int_equal(result_blob_expand(buf_slice(&blob), 0, 2, RESULT_JSON, false, &out), 0);
        assert_string_equal(out.p,
            "{\"id\":\"a\\\"1\",\"key\":\"k\",\"producer\":\"p\",\"seq\":18446744073709551615,"
            "\"sentiment\":null,\"score\":null,\"error\":{\"code\":\"bad-value\","
            "\"message\":\"the worker's values do not fit the OUTPUT columns\",\"attempts\":1}}\n"
            FAILED_JSON "}\n");
        buf_free(&blob);
        buf_free(&out);
    }
}

static void every_msgpack_value_has_its_json(void **state) {
    static const struct {
        struct slice value;
        const char *want; // NULL: refused
    } cases[] = {
#define S(text) {text, sizeof(text) - 1}
        {S("\xc0"), "null"},
        {S("\xc3"), "true"},
        {S("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615"},
        {S("\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808"},
        {S("\xd0\x05"), "5"},
        {S("\xca\x3d\xcc\xcc\xcd"), "0.1"},
        {S("\xcb\x7f\xf8\0\0\0\0\0\0"), "null"},
        {S("\xca\x7f\xc0\0\0"), "null"},
        {S("\xa3" "a\n\xc2\xa9"), NULL},
        {S("\xa4" "a\n\xc2\xa9"), "\"a\\n\xc2\xa9\""},
        {S("\xc4\0"), "\"\""},
        {S("\xc4\x01" "f"), "\"Zg==\""},
        {S("\xc4\x02" "fo"), "\"Zm8=\""},
        {S("\xc4\x06" "foobar"), "\"Zm9vYmFy\""},
        {S("\x82\x01\x02\xa1x\x92\xc2\x80"), "{\"1\":2,\"x\":[false,{}]}"},
        {S("\x81\x90\x02"), NULL},
        {S("\xa1\xff"), NULL},
        {S("\xd4\x01\x01"), NULL},
        {S("\x01\x02"), NULL},
        {S(""), NULL},
        {S("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0"), NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {.max = 1 << 16};
        int rc = msgpack_to_json(cases[i].value, &out);
        if (cases[i].want == NULL) {
            assert_int_equal(rc, -EPROTO);
            assert_int_equal(out.n, 0);
        } else {
            assert_int_equal(rc, 0);
            assert_string_equal(out.p, cases[i].want);
        }
        buf_free(&out);
    }
}

static void add_line(struct buf *lines, const char *name, struct buf *bytes) {
    assert_int_equal(buf_addf(lines, "%s ", name), 0);
    for (size_t i = 0; i < bytes->n; i++) {
        assert_int_equal(buf_addf(lines, "%02x", (unsigned char)bytes->p[i]), 0);
    }
    assert_int_equal(buf_add_byte(lines, '\n'), 0);
    buf_clear(bytes);
}

// What stands inside messages, and in Redis over an upgrade.
static void what_is_kept_is_the_bytes_it_was(void **state) {
    struct buf lines = {.max = 1 << 16}, bytes = make_blob();
    struct slice options = SLICE_LIT("\x82\xa1" "b\x01\xa1" "a\xa1x");
    add_line(&lines, "blob", &bytes);
    assert_int_equal(record_pack(&bytes, 1023, SLICE_LIT("\x91\xa1x")), 0);
    add_line(&lines, "record", &bytes);
    assert_int_equal(item_pack(&bytes, 3, OUTCOME_OK, SLICE_LIT("\x91\xa1x")), 0);
    add_line(&lines, "item.ok", &bytes);
    assert_int_equal(item_pack(&bytes, 4, OUTCOME_MISSING, SLICE_LIT("no item")), 0);
    add_line(&lines, "item.missing", &bytes);
    assert_int_equal(options_canonical(options, &bytes, NULL), 0);
    add_line(&lines, "options", &bytes);
    const char *write = getenv("HEADRACE_GOLDEN");
    bool is_writing = write != NULL && strcmp(write, "write") == 0;
    FILE *f = fopen("golden/kept.hex", is_writing ? "wb" : "rb");
    assert_non_null(f);
    if (is_writing) {
        assert_int_equal(fwrite(lines.p, 1, lines.n, f), lines.n);
    } else {
        char want[4096] = "";
        assert_true(fread(want, 1, sizeof(want) - 1, f) > 0);
        assert_string_equal(lines.p, want);
    }
    fclose(f);
    buf_free(&lines);
    buf_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(consumers_see_json_lines),
        cmocka_unit_test(what_went_before_stands_in_meta),
        cmocka_unit_test(msgpack_says_the_same),
        cmocka_unit_test(errors_fill_the_columns_for_them),
        cmocka_unit_test(what_is_not_known_is_null),
        cmocka_unit_test(tier_and_rare_tokens_are_kept),
        cmocka_unit_test(a_blob_cut_anywhere_is_refused),
        cmocka_unit_test(values_that_do_not_fit_hide_no_other_result),
        cmocka_unit_test(every_msgpack_value_has_its_json),
        cmocka_unit_test(what_is_kept_is_the_bytes_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
