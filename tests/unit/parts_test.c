// parts: images of records in each provider's request, each in its record's slot.
#include "worker/parts.h"

#include "proto/pack.h"
#include "proto/record.h"
#include "provider_case.h"
#include "worker/prompt.h"

#include <errno.h>

#define PNG "iVBORw0KGgoAAAANSUhEUgAAAAIAAAAB"
#define ROW_1 "{\"t\":\"a\",\"p\":\"" PNG "\"}"
#define ROW_2 "{\"t\":\"b\",\"p\":\"data:image/jpeg;base64,/9j/4AAEYWI=\"}"
#define LINK "{\"t\":\"c\",\"p\":\"https://h/x.png\"}"

static struct statements model_of(const char *provider, const char *with) {
    struct buf sql;
    struct statements list = {0};
    struct error why = {0};
    buf_init(&sql, 65536);
    assert_int_equal(buf_addf(&sql,
                              "CREATE MODEL m INPUT (t STRING, p IMAGE) OUTPUT (s STRING) WITH ('provider' = "
                              "'%s', 'model' = 'x', 'max.tokens' = '99'%s%s);",
                              provider, strstr(with, "'endpoint'") == NULL ? ", 'endpoint' = 'http://h'" : "", with),
                     0);
    if (model_sql_parse(buf_slice(&sql), "case", &list, &why) != 0) {
        fail_msg("%s: %s", with, why.text);
    }
    buf_free(&sql);
    return list;
}

static void add_record(const struct model *model, const char *row, uint64_t slot, struct buf *out) {
    struct json_object *json = NULL;
    struct buf fields, values;
    struct error why = {0};
    buf_init(&fields, 65536);
    buf_init(&values, 65536);
    assert_int_equal(json_parse(slice_of(row), &json, NULL), 0);
    assert_int_equal(json_to_msgpack(json, &fields), 0);
    if (record_values(model, buf_slice(&fields), &values, &why) != 0) {
        fail_msg("%s: %s", row, why.text);
    }
    assert_int_equal(record_pack(out, slot, buf_slice(&values)), 0);
    json_object_put(json);
    buf_free(&fields);
    buf_free(&values);
}

// write_request does what the worker's prompt step does.
static int write_request(const struct model *model, const char *const *rows, size_t n, struct buf *body) {
    struct buf records, system, user;
    struct prompt_plan plan;
    struct error why = {0};
    uint64_t slots[8];
    buf_init(&records, 65536);
    buf_init(&system, 65536);
    buf_init(&user, 65536);
    for (size_t i = 0; i < n; i++) {
        add_record(model, rows[i], 10 + i, &records);
    }
    assert_int_equal(prompt_plan_make(model, &plan, &why), 0);
    int rc = prompt_make(model, &plan, buf_slice(&records), n, slots, &system, &user, &why);
    struct ask ask = {.model = model, .system = buf_slice(&system), .user = buf_slice(&user),
                      .records = buf_slice(&records), .count = n};
    rc = rc != 0 ? rc : provider_dialect(model)->write(&ask, body);
    prompt_plan_free(&plan);
    buf_free(&records);
    buf_free(&system);
    buf_free(&user);
    return rc;
}

#define BATCH ", 'batch.size' = '4', 'batch.prompt.template' = 'Go.'"
#define TEXT(text) "{\"type\":\"text\",\"text\":\"" text "\"}"
#define URL(url) "{\"type\":\"image_url\",\"image_url\":{\"url\":\"" url "\"}}"
#define DATA_1 "data:image/png;base64," PNG
#define DATA_2 "data:image/jpeg;base64,/9j/4AAEYWI="
#define SLOT_1 "Go.\\n\\n{\\\"index\\\":1,\\\"p\\\":"
#define SLOT_2 ",\\\"t\\\":\\\"a\\\"}\\n{\\\"index\\\":2,\\\"p\\\":"
#define SLOT_3 ",\\\"t\\\":\\\"b\\\"}"

static const struct {
    const char *name, *provider, *with, *rows[3], *has;
} requests[] = {
    // clang-format off
    {"chat: each image stands in its own slot, behind its number", "openai", BATCH, {ROW_1, ROW_2},
     "\"content\":[" TEXT(SLOT_1) "," URL(DATA_1) "," TEXT(SLOT_2) "," URL(DATA_2) "," TEXT(SLOT_3) "]}]"},
    {"the order of the columns is another", "openai", BATCH ", 'input.format' = 'text'", {ROW_1, ROW_2},
     "[" TEXT("Go.\\n\\n[1] p: ") "," URL(DATA_1) "," TEXT(", t: \\\"a\\\"\\n[2] p: ") "," URL(DATA_2) "," TEXT(", t: \\\"b\\\"") "]"},
    {"XML", "openai", BATCH ", 'input.format' = 'xml'", {ROW_1},
     "[" TEXT("Go.\\n\\n<record index=\\\"1\\\"><p>") "," URL(DATA_1) "," TEXT("</p><t>a</t></record>") "]"},
    {"a template says where", "openai", ", 'batch.size' = '2', 'batch.prompt.template' = '{{#records}}{{index}}: {{p}} is {{t}}; {{/records}}'",
     {ROW_1, ROW_2}, "[" TEXT("1: ") "," URL(DATA_1) "," TEXT(" is \\\"a\\\"; 2: ") "," URL(DATA_2) "," TEXT(" is \\\"b\\\"; ") "]"},
    {"an image in a section of its own, and none", "openai",
     ", 'batch.size' = '2', 'batch.prompt.template' = '{{#records}}{{index}}:{{#p}}{{p}}{{/p}}{{^p}}none{{/p}};{{/records}}'",
     {ROW_1, "{\"t\":\"b\",\"p\":null}"}, "[" TEXT("1:") "," URL(DATA_1) "," TEXT(";2:none;") "]"},
    {"a null is a null", "openai", BATCH, {"{\"t\":\"a\",\"p\":null}"}, "\"content\":\"Go.\\n\\n{\\\"index\\\":1,\\\"p\\\":null,\\\"t\\\":\\\"a\\\"}\""},
    {"one record", "openai", ", 'prompt.template' = 'What is {{p}}?'", {ROW_1}, "[" TEXT("What is ") "," URL(DATA_1) "," TEXT("?") "]"},
    {"one record without a template", "openai", "", {ROW_1}, "[" TEXT("{\\\"p\\\":") "," URL(DATA_1) "," TEXT(",\\\"t\\\":\\\"a\\\"}") "]"},
    {"white space alone is no part", "openai", ", 'prompt.template' = ' {{p}}\n'", {ROW_1}, "\"content\":[" URL(DATA_1) "]"},
    {"a link, and how closely it is looked at", "openai", BATCH ", 'image.links' = 'on', 'image.detail' = 'low'", {LINK},
     "{\"type\":\"image_url\",\"image_url\":{\"url\":\"https:\\/\\/h\\/x.png\",\"detail\":\"low\"}}"},
    {"responses", "openai", BATCH ", 'endpoint' = 'http://h/v1/responses', 'image.detail' = 'high'", {ROW_1},
     "\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"" SLOT_1 "\"},"
     "{\"type\":\"input_image\",\"image_url\":\"" DATA_1 "\",\"detail\":\"high\"},"
     "{\"type\":\"input_text\",\"text\":\",\\\"t\\\":\\\"a\\\"}\"}]}]"},
    {"ollama", "ollama", BATCH, {ROW_1}, "," URL(DATA_1) ","},
    {"vllm", "vllm", BATCH, {ROW_1}, "," URL(DATA_1) ","},
    {"llama.cpp", "llama.cpp", BATCH, {ROW_1}, "," URL(DATA_1) ","},
    {"azure", "azure-openai", BATCH, {ROW_1}, "," URL(DATA_1) ","},
    {"anthropic: what comes first is cached", "anthropic", BATCH, {ROW_1, ROW_2},
     "\"content\":[{\"type\":\"text\",\"text\":\"Go.\",\"cache_control\":{\"type\":\"ephemeral\"}}," TEXT("\\n\\n{\\\"index\\\":1,\\\"p\\\":") ","
     "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"" PNG "\"}}," TEXT(SLOT_2) ","
     "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/jpeg\",\"data\":\"/9j/4AAEYWI=\"}}," TEXT(SLOT_3) "]}]"},
    {"anthropic: a link", "anthropic", ", 'prompt.template' = '{{p}}', 'image.links' = 'on'", {LINK},
     "\"content\":[{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"https:\\/\\/h\\/x.png\"}}]"},
    {"gemini", "gemini", BATCH, {ROW_1},
     "\"parts\":[{\"text\":\"" SLOT_1 "\"},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"" PNG "\"}},{\"text\":\",\\\"t\\\":\\\"a\\\"}\"}]"},
    // clang-format on
};

// unescaped drops the backslash that may stand before a slash in JSON.
static char *unescaped(const char *text) {
    char *copy = slice_dup(slice_of(text)), *to = copy;
    for (const char *c = text; *c != '\0'; c++) {
        if (c[0] != '\\' || c[1] != '/') {
            *to++ = *c;
        }
    }
    *to = '\0';
    return copy;
}

static void each_image_is_a_part_of_its_own_slot(void **state) {
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct statements list = model_of(requests[i].provider, requests[i].with);
        struct buf body;
        size_t n = 0;
        while (n < 3 && requests[i].rows[n] != NULL) {
            n++;
        }
        buf_init(&body, 65536);
        assert_int_equal(write_request(list.items[0].model, requests[i].rows, n, &body), 0);
        struct json_object *json = NULL;
        assert_int_equal(json_parse(buf_slice(&body), &json, NULL), 0);
        json_object_put(json);
        char *got = unescaped(body.p), *want = unescaped(requests[i].has);
        if (strstr(got, want) == NULL) {
            print_error("%s: got %s\nwant %s\n", requests[i].name, got, want);
            n_failed++;
        }
        free(got);
        free(want);
        buf_free(&body);
        statements_free(&list);
    }
    assert_int_equal(n_failed, 0);
}

// Records as no coordinator sends them: [text, image].
static const struct {
    const char *name;
    struct slice text, image;
    bool bin; // the image is bin
} forged[] = {
    {"text with a mark of its own", SLICE_LIT("\xff" "1:1\xff"), SLICE_LIT("\x89PNG\r\n\x1a\n"), true},
    {"a path", SLICE_LIT("a"), SLICE_LIT("/etc/passwd"), false},
    {"a URL of a file", SLICE_LIT("a"), SLICE_LIT("file:///etc/passwd"), false},
    {"a link that the model does not take", SLICE_LIT("a"), SLICE_LIT("http://127.0.0.1/x"), false},
    {"bytes of something else", SLICE_LIT("a"), SLICE_LIT("root:x:0:0"), true},
};

static void a_forged_record_makes_no_request(void **state) {
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        struct statements list = model_of("vllm", BATCH);
        struct buf values, records, system, user, body;
        struct prompt_plan plan;
        struct error why = {0};
        uint64_t slots[8];
        struct buf *bufs[] = {&values, &records, &system, &user, &body};
        for (size_t k = 0; k < 5; k++) {
            buf_init(bufs[k], 65536);
        }
        int rc = pack_array(&values, 2);
        rc = rc != 0 ? rc : pack_str(&values, forged[i].text);
        rc = rc != 0 ? rc : forged[i].bin ? pack_bin(&values, forged[i].image) : pack_str(&values, forged[i].image);
        rc = rc != 0 ? rc : record_pack(&records, 0, buf_slice(&values));
        rc = rc != 0 ? rc : prompt_plan_make(list.items[0].model, &plan, &why);
        assert_int_equal(rc, 0);
        rc = prompt_make(list.items[0].model, &plan, buf_slice(&records), 1, slots, &system, &user, &why);
        struct ask ask = {.model = list.items[0].model, .user = buf_slice(&user), .records = buf_slice(&records),
                          .count = 1};
        rc = rc != 0 ? rc : provider_dialect(ask.model)->write(&ask, &body);
        if (rc != -EPROTO) {
            fail_msg("%s: got %d", forged[i].name, rc);
        }
        prompt_plan_free(&plan);
        for (size_t k = 0; k < 5; k++) {
            buf_free(bufs[k]);
        }
        statements_free(&list);
    }
}

static void a_mark_names_an_image_or_nothing_goes_out(void **state) {
    static const char *const texts[] = {"\xff", "\xff\xff", "\xff" "1\xff", "\xff" "0:1\xff", "\xff" "2:1\xff",
                                        "\xff" "1:0\xff", "\xff" "1:2\xff", "\xff" "1:1", "\xff" "1:123456789\xff", "\xff-1:1\xff"};
    struct statements list = model_of("openai", BATCH);
    struct buf records;
    buf_init(&records, 65536);
    add_record(list.items[0].model, ROW_1, 0, &records);
    struct ask ask = {.model = list.items[0].model, .records = buf_slice(&records), .count = 1};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct slice rest = slice_of(texts[i]);
        struct part part;
        assert_int_equal(parts_next(&ask, &rest, &part), -EPROTO);
    }
    buf_free(&records);
    statements_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_image_is_a_part_of_its_own_slot),
        cmocka_unit_test(a_forged_record_makes_no_request),
        cmocka_unit_test(a_mark_names_an_image_or_nothing_goes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
