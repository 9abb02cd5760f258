// The simulator's reading of prompts: slots of three formats, single records, hostile text.
#include "tests/provider/answer.h"
#include "tests/provider/chat.h"
#include "tests/provider/sentiment.h"

#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define ASK                                                                                        \
    "Return JSON array: [{\"index\": <n>, \"sentiment\": \"<positive|negative|neutral>\"}]\n\n"
#define SCHEMA                                                                                     \
    ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\",\"schema\":{"  \
    "\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":{\"type\":"       \
    "\"object\",\"properties\":{\"index\":{\"type\":\"integer\"},\"label\":{\"type\":[\"string\"," \
    "\"null\"],\"enum\":[\"negative\",\"positive\"]}}}}}}}}"

static const struct {
    const char *name, *prompt, *more; // more: members of the request
    size_t n_slots;
    const char *texts[2];
    const char *answer; // NULL: not compared
} cases[] = {
    {"json slots are numbered lines",
     ASK "{\"index\":1,\"text\":\"great\"}\n{\"index\":2,\"text\":\"bad\"}",
     "",
     2,
     {"great", "bad"},
     "[{\"index\":1,\"sentiment\":\"positive\"},{\"index\":2,\"sentiment\":\"negative\"}]"},
    {"a slot inside a text is no slot",
     ASK "{\"index\":1,\"text\":\"a\\n{\\\"index\\\":2,\\\"text\\\":\\\"b\\\"}\"}",
     "",
     1,
     {"a\n{\"index\":2,\"text\":\"b\"}"},
     NULL},
    {"two columns are joined by a line feed",
     ASK "{\"index\":1,\"a\":\"x\",\"b\":7}",
     "",
     1,
     {"x\n7"},
     NULL},
    {"a number that does not rise starts over",
     "{\"index\":1,\"text\":\"example\"}\n{\"index\":1,\"text\":\"great\"}",
     "",
     1,
     {"great"},
     NULL},
    {"xml slots",
     ASK "<record index=\"1\"><text>a &amp; b</text></record>\n<record "
         "index=\"2\"><text>bad</text></record>",
     "",
     2,
     {"a & b", "bad"},
     NULL},
    {"a slot inside an xml record is no slot",
     ASK "<record index=\"1\"><text>a\n{\"index\":2,\"text\":\"b\"}</text></record>",
     "",
     1,
     {"a\n{\"index\":2,\"text\":\"b\"}"},
     NULL},
    {"text slots",
     ASK "[1] \"great\\n[2] no\"\n[2] a: \"x\", b: 3",
     "",
     2,
     {"great\n[2] no", "x\n3"},
     NULL},
    {"a single json record",
     "Return {\"sentiment\": \"<positive|negative>\"}\n\n{\"text\":\"awful\"}",
     "",
     1,
     {"awful"},
     "{\"sentiment\":\"negative\"}"},
    {"a single bare record gets a bare value",
     "What is its sentiment?\n\nI love it",
     "",
     1,
     {"I love it"},
     "positive"},
    {"a schema says shape and words",
     "Rate.\n\n{\"index\":1,\"text\":\"great\"}",
     SCHEMA,
     1,
     {"great"},
     "{\"items\":[{\"index\":1,\"label\":\"positive\"}]}"},
    {"elements are answered where the prompt shows elements",
     "Return only XML: <items><item n=\"number of the record\"><tag>STRING</tag><mood>one of: sentiment"
     "</mood></item>...</items>\n\n{\"index\":1,\"text\":\"great\"}\n{\"index\":2,\"text\":\"bad\"}",
     "",
     2,
     {"great", "bad"},
     "<items><item n=\"1\"><tag>h:40784cc4388c6bc4</tag><mood>h:40784cc4388c6bc4</mood></item>"
     "<item n=\"2\"><tag>h:f7c170336e83ce9a</tag><mood>h:f7c170336e83ce9a</mood></item></items>"},
    {"lines are answered where the prompt shows a header",
     "Return only lines with ';' between fields, exactly one per record, under this header:\nno;sentiment"
     "\n\n{\"index\":1,\"text\":\"great\"}\n{\"index\":2,\"text\":\"bad\"}",
     "",
     2,
     {"great", "bad"},
     "no;sentiment\n1;\"positive\"\n2;\"negative\"\n"},
    {"a list is answered where the prompt shows one",
     "One line for each: <number>: <sentiment>\n\n{\"index\":1,\"text\":\"great\"}\n{\"index\":2,\"text\":"
     "\"bad\"}",
     "",
     2,
     {"great", "bad"},
     "1: positive\n2: negative\n"},
    {"a record that shows a form changes nothing",
     ASK "{\"index\":1,\"text\":\"<items><item index=\\\"1\\\"><tag>x</tag></item>\"}\n{\"index\":2,\"text\":\"bad\"}",
     "",
     2,
     {"<items><item index=\"1\"><tag>x</tag></item>", "bad"},
     "[{\"index\":1,\"sentiment\":\"neutral\"},{\"index\":2,\"sentiment\":\"negative\"}]"},
};

static void make_body(const char *prompt, const char *more, struct buf *body) {
    buf_init(body, 65536);
    assert_int_equal(
        buf_add_str(body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"), 0);
    assert_int_equal(json_add_string(body, slice_of(prompt)), 0);
    assert_int_equal(buf_addf(body, "}]%s}", more), 0);
}

static void prompts_are_read(void **state) {
    static struct chat chat;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        print_message("%s\n", cases[i].name);
        struct buf body, out;
        struct error why = {0};
        make_body(cases[i].prompt, cases[i].more, &body);
        assert_int_equal(chat_read(buf_slice(&body), &chat, &why), 0);
        assert_int_equal(chat.n_slots, cases[i].n_slots);
        for (size_t k = 0; k < chat.n_slots; k++) {
            struct slice text = chat_text(&chat, &chat.slots[k]);
            assert_int_equal(text.n, strlen(cases[i].texts[k]));
            assert_memory_equal(text.p, cases[i].texts[k], text.n);
        }
        buf_init(&out, 65536);
        assert_int_equal(answer_write(&chat, FAULT_NONE, 0, &out), 0);
        if (cases[i].answer != NULL) {
            assert_string_equal(out.p, cases[i].answer);
        }
        buf_free(&out);
        buf_free(&body);
        chat_free(&chat);
    }
}

// What a fault spoils is not counted as right, in whatever form.
static void faults_strike_every_form(void **state) {
    static const char *const asks[] = {ASK, "XML: <items><item index=\"n\"><tag>STRING</tag></item></items>\n\n",
                                       "under this header:\nindex,tag\n\n", "as <number>: <tag>\n\n"};
    static struct chat chat;
    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        for (int fault = 0; fault < FAULT_COUNT; fault++) {
            char prompt[512];
            struct buf body, out;
            snprintf(prompt, sizeof(prompt), "%s{\"index\":1,\"text\":\"a\"}\n{\"index\":2,\"text\":\"b\"}\n"
                     "{\"index\":3,\"text\":\"c\"}", asks[i]);
            make_body(prompt, "", &body);
            assert_int_equal(chat_read(buf_slice(&body), &chat, NULL), 0);
            assert_int_equal(chat.form, i);
            buf_init(&out, 65536);
            assert_int_equal(answer_write(&chat, (enum fault)fault, 1, &out), 0);
            size_t n_right = 0;
            for (size_t k = 0; k < chat.n_slots; k++) {
                n_right += chat.slots[k].item_end > 0;
            }
            bool spoils = (fault >= FAULT_MALFORMED && fault <= FAULT_OUT_OF_RANGE) || fault == FAULT_TRUNCATED ||
                          fault == FAULT_LENGTH || fault == FAULT_EMPTY || fault == FAULT_WRONG_TYPE ||
                          fault == FAULT_FILTER || fault == FAULT_REFUSAL;
            if (spoils ? n_right == 3 : n_right != 3) {
                fail_msg("form %zu, fault %s: %zu right in %s", i, fault_name((enum fault)fault), n_right, out.p);
            }
            buf_free(&out);
            buf_free(&body);
            chat_free(&chat);
        }
    }
}

static void a_bad_request_is_refused_with_a_reason(void **state) {
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"model\":\"m\",\"messages\":[]}",
                                      "{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}",
                                      "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"};
    static struct chat chat;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error why = {0};
        assert_true(chat_read(slice_of(bad[i]), &chat, &why) < 0);
        assert_true(strlen(why.text) > 0);
        chat_free(&chat);
    }
}

static void sentiment_knows_negation(void **state) {
    assert_int_equal(sentiment_of(SLICE_LIT("Great product!")), 1);
    assert_int_equal(sentiment_of(SLICE_LIT("not good at all")), -1);
    assert_int_equal(sentiment_of(SLICE_LIT("It is a phone. No. Good!")), 1);
    assert_int_equal(sentiment_of(SLICE_LIT("a table")), 0);
    assert_int_equal(sentiment_of(SLICE_NONE), 0);
}

static void faults_are_drawn_at_their_rates(void **state) {
    struct fault_rates rates = {0};
    struct error why;
    assert_int_equal(fault_rates_add(&rates, "missing=0.25", &why), 0);
    assert_int_equal(fault_rates_add(&rates, "500=50%", &why), 0);
    assert_int_equal(fault_rates_add(&rates, "hang=0.5", &why), -22);
    rates.rate[FAULT_HANG] = 0;
    assert_int_equal(fault_rates_add(&rates, "nonsense=0.5", &why), -22);
    assert_int_equal(fault_rates_add(&rates, "500=x", &why), -22);
    int n[FAULT_COUNT] = {0};
    for (uint64_t i = 0; i < 10000; i++) {
        enum fault fault = fault_draw(&rates, 7, i);
        assert_int_equal(fault, fault_draw(&rates, 7, i));
        n[fault]++;
    }
    assert_in_range(n[FAULT_MISSING], 2300, 2700);
    assert_in_range(n[FAULT_HTTP_500], 4700, 5300);
    assert_int_equal(n[FAULT_MISSING] + n[FAULT_HTTP_500] + n[FAULT_NONE], 10000);
}

// Slots of a template of its own: any lines that count 1, 2, 3.
static void lines_that_count_are_slots(void **state) {
    static struct chat chat;
    struct error why = {0};
    const char *body =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Return "
        "{\\\"index\\\": <n>, \\\"topic\\\": \\\"<word>\\\", \\\"stars\\\": <1-5>, \\\"ok\\\": "
        "<true|false>}\\nArticle 1: a\\nArticle 2: b 7: c\\nArticle 9: d\"}]}";
    assert_int_equal(chat_read(slice_of(body), &chat, &why), 0);
    assert_true(chat.batched);
    assert_int_equal(chat.n_slots, 2); // 9 does not follow 2
    assert_true(slice_is(chat_text(&chat, &chat.slots[1]), "b 7: c"));
    assert_int_equal(chat.n_fields, 3);
    assert_int_equal(chat.fields[0].type, 's');
    assert_int_equal(chat.fields[1].type, 'i');
    assert_int_equal(chat.fields[2].type, 'b');
    chat_free(&chat);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_read),
        cmocka_unit_test(faults_strike_every_form),
        cmocka_unit_test(a_bad_request_is_refused_with_a_reason),
        cmocka_unit_test(lines_that_count_are_slots),
        cmocka_unit_test(sentiment_knows_negation),
        cmocka_unit_test(faults_are_drawn_at_their_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
