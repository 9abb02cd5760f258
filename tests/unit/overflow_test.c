// Prompts that are too long: how much room there is, what a refusal tells, and what is cut.
#include "worker/overflow.h"

#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct statements model_with(const char *options) {
    struct buf sql;
    struct statements list;
    struct error why = {0};
    buf_init(&sql, 4096);
    assert_int_equal(buf_addf(&sql, "CREATE MODEL m INPUT (id INT, a STRING, b STRING) OUTPUT (s STRING) WITH ('provider' = 'openai', "
                                    "'endpoint' = 'http://h', 'model' = 'x'%s)", options), 0);
    if (model_sql_parse(buf_slice(&sql), "f", &list, &why) != 0) {
        fail_msg("%s", why.text);
    }
    buf_free(&sql);
    return list;
}

static void room_is_what_the_answer_leaves(void **state) {
    struct statements none = model_with(""), some = model_with(", 'context.size' = '100'"),
                      less = model_with(", 'context.size' = '100', 'max.tokens' = '30'");
    assert_true(overflow_room(none.items[0].model, 0) == INT64_MAX);
    assert_int_equal(overflow_room(none.items[0].model, 7), 7);
    assert_int_equal(overflow_room(some.items[0].model, 0), 400);
    assert_int_equal(overflow_room(less.items[0].model, 0), 280);
    assert_int_equal(overflow_room(less.items[0].model, 1000), 280);
    assert_int_equal(less.items[0].model->options.batch_max_tokens, 70);
    statements_free(&none);
    statements_free(&some);
    statements_free(&less);
}

// Sentences of providers, each about a prompt of 40,000 bytes.
static const struct {
    const char *sentence;
    int64_t room;
} refusals[] = {
    {"HTTP 400 context_length_exceeded: This model's maximum context length is 8192 tokens. However, your messages resulted in 10240 "
     "tokens", 28800},
    {"HTTP 400 invalid_request_error: prompt is too long: 204800 tokens > 102400 maximum", 18000},
    {"HTTP 400: The input token count (1,048,576) exceeds the maximum number of tokens allowed (524,288).", 18000},
    {"HTTP 400 exceed_context_size_error: the request exceeds the available context size (4096)", 24000},
    {"too long", 24000},
    {"", 24000},
    {"HTTP 400: 500 is too many, want 500", 24000},
};

static void a_refusal_tells_how_long_a_prompt_may_be(void **state) {
    struct statements list = model_with("");
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        int64_t room = overflow_learn(list.items[0].model, slice_of(refusals[i].sentence), 40000);
        if (room != refusals[i].room) {
            fail_msg("%s: %d", refusals[i].sentence, (int)room);
        }
    }
    assert_int_equal(overflow_learn(list.items[0].model, SLICE_NONE, 1), 1);
    statements_free(&list);
}

// Records [7, a, b] of which so many bytes are to go.
static const struct {
    const char *says, *how, *a, *b;
    size_t n;
    const char *want_a, *want_b; // NULL: nothing can be cut
} cuts[] = {
    {"the tail of the larger value", "truncate-tail", "ab", "cdefgh", 2, "ab", "cdef"},
    {"its head", "truncate-head", "ab", "cdefgh", 2, "ab", "efgh"},
    {"the first of two as large", "truncate-tail", "abc", "def", 1, "ab", "def"},
    {"a whole character at the tail", "truncate-tail", "", "a\xC3\xA9\xE2\x82\xAC", 1, "", "a\xC3\xA9"},
    {"a whole character at the head", "truncate-head", "", "\xE2\x82\xAC\xC3\xA9z", 1, "", "\xC3\xA9z"},
    {"in the middle of one", "truncate-head", "", "\xE2\x82\xAC\xC3\xA9z", 4, "", "z"},
    {"all of it", "truncate-tail", "a", "bcd", 100, "a", ""},
    {"nothing there", "truncate-tail", "", "", 1, NULL, NULL},
};

static void add_text(struct buf *out, const char *text) {
    assert_int_equal(pack_str(out, slice_of(text)), 0);
}

static void whole_characters_are_cut(void **state) {
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        char options[64];
        snprintf(options, sizeof(options), ", 'context.overflow' = '%s'", cuts[i].how);
        struct statements list = model_with(options);
        struct buf values, record, out, want;
        buf_init(&values, 1024);
        buf_init(&record, 1024);
        buf_init(&out, 1024);
        buf_init(&want, 1024);
        assert_int_equal(pack_array(&values, 3) | pack_uint(&values, 7), 0);
        add_text(&values, cuts[i].a);
        add_text(&values, cuts[i].b);
        assert_int_equal(record_pack(&record, 5, buf_slice(&values)), 0);
        size_t cut = 0;
        const char *column;
        int rc = overflow_cut(list.items[0].model, buf_slice(&record), cuts[i].n, &out, &cut, &column);
        if (cuts[i].want_a == NULL) {
            assert_int_equal(rc, -ENODATA);
        } else {
            uint64_t slot;
            struct slice rest = buf_slice(&out), got;
            assert_int_equal(rc, 0);
            assert_int_equal(record_next(&rest, &slot, &got), 1);
            assert_int_equal(slot, 5);
            assert_int_equal(pack_array(&want, 3) | pack_uint(&want, 7), 0);
            add_text(&want, cuts[i].want_a);
            add_text(&want, cuts[i].want_b);
            if (!slice_eq(got, buf_slice(&want)) ||
                cut != strlen(cuts[i].a) + strlen(cuts[i].b) - strlen(cuts[i].want_a) - strlen(cuts[i].want_b)) {
                fail_msg("%s", cuts[i].says);
            }
        }
        for (size_t n = 0; n < record.n; n++) { // cut off anywhere
            assert_true(overflow_cut(list.items[0].model, (struct slice){record.p, n}, 1, &out, &cut, &column) != 0);
        }
        buf_free(&values);
        buf_free(&record);
        buf_free(&out);
        buf_free(&want);
        statements_free(&list);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room_is_what_the_answer_leaves),
        cmocka_unit_test(a_refusal_tells_how_long_a_prompt_may_be),
        cmocka_unit_test(whole_characters_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
