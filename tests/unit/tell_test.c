// What the simulator tells of its limits: durations, and each trouble's body.
#include "tests/provider/tell.h"
#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const struct {
    int64_t us;
    const char *want;
} durations[] = {
    {0, "0s"},           {1, "1ms"},           {12000, "12ms"},         {999000, "999ms"},
    {999001, "1s"},      {1000000, "1s"},      {8640000, "8.64s"},      {60000000, "1m0s"},
    {72500000, "1m12.5s"}, {360000000, "6m0s"}, {3723000000, "1h2m3s"}, {86399999000, "23h59m59.999s"},
    {3600000000, "1h0m0s"},
};

static void test_durations_are_those_of_go(void **unused) {
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        char text[32];
        tell_duration(durations[i].us, text, sizeof(text));
        assert_string_equal(text, durations[i].want);
    }
}

static void test_every_trouble_is_json_in_every_style(void **unused) {
    for (int style = 0; style < TELL_STYLES; style++) {
        int n = 0;
        for (int fault = 1; fault < FAULT_COUNT; fault++) {
            struct httpd_reply reply = {0};
            if (!tell_trouble((enum tell_style)style, (enum fault)fault, 1500, "req_1", &reply)) {
                continue;
            }
            struct json_object *body = NULL;
            struct error why = {0};
            n++;
            assert_int_equal(json_parse(buf_slice(&reply.body), &body, &why), 0);
            assert_non_null(json_get(body, "error"));
            assert_true(reply.status >= 400 && reply.status < 600);
            if (style == TELL_ANTHROPIC) {
                assert_true(slice_is(json_text(json_get(body, "request_id")), "req_1"));
            }
            json_object_put(body);
            buf_free(&reply.body);
        }
        assert_int_equal(n, 9);
    }
}

static void test_a_model_with_odd_letters_makes_no_odd_json(void **unused) {
    for (int style = 0; style < TELL_STYLES; style++) {
        for (int limit = 0; limit < LIMIT_COUNT; limit++) {
            struct quota_refusal refusal = {.limit = (enum limit)limit, .wait_us = limit - 1, .asked = 5};
            struct httpd_reply reply = {0};
            struct json_object *body = NULL;
            tell_refusal((enum tell_style)style, &refusal, 3, SLICE_LIT("a\"\\\n%s"), "req_1", &reply);
            assert_int_equal(reply.status, 429);
            assert_int_equal(json_parse(buf_slice(&reply.body), &body, NULL), 0);
            json_object_put(body);
            buf_free(&reply.body);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations_are_those_of_go),
        cmocka_unit_test(test_every_trouble_is_json_in_every_style),
        cmocka_unit_test(test_a_model_with_odd_letters_makes_no_odd_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
