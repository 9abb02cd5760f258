// Headers that tell of limits: each family's own names and forms.
#include "worker/limit_header.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NOW 1790000000000 // 2026-09-21T14:13:20Z

static const struct {
    const char *name;
    enum limit_family family;
    const char *header, *value;
    enum limit_kind kind;
    struct limit_seen want;
} cases[] = {
    // clang-format off
    {"requests a minute", LIMITS_OPENAI, "X-RateLimit-Limit-Requests", "500", LIMIT_REQUESTS, {500, -1, -1}},
    {"none are left", LIMITS_OPENAI, "x-ratelimit-remaining-requests", "0", LIMIT_REQUESTS, {-1, 0, -1}},
    {"a duration in Go's form", LIMITS_OPENAI, "x-ratelimit-reset-tokens", "1m6.5s", LIMIT_TOKENS, {-1, -1, 66500}},
    {"a duration of milliseconds", LIMITS_OPENAI, "x-ratelimit-reset-requests", "12ms", LIMIT_REQUESTS, {-1, -1, 12}},
    {"a bare number of seconds", LIMITS_OPENAI, "x-ratelimit-reset-requests-day", "33011.382", LIMIT_REQUESTS_DAY, {-1, -1, 33011382}},
    {"a project's tokens", LIMITS_OPENAI, "x-ratelimit-limit-project-tokens", "90000", LIMIT_PROJECT_TOKENS, {90000, -1, -1}},
    {"a number that is none", LIMITS_OPENAI, "x-ratelimit-limit-tokens", "many", LIMIT_TOKENS, {-1, -1, -1}},
    {"a number below zero", LIMITS_OPENAI, "x-ratelimit-remaining-tokens", "-1", LIMIT_TOKENS, {-1, -1, -1}},
    {"a number without end", LIMITS_OPENAI, "x-ratelimit-remaining-tokens", "99999999999999999999999", LIMIT_TOKENS, {-1, -1, -1}},
    {"nothing", LIMITS_OPENAI, "x-ratelimit-remaining-tokens", "", LIMIT_TOKENS, {-1, -1, -1}},
    {"Azure's seconds", LIMITS_AZURE, "x-ratelimit-reset-requests", "7", LIMIT_REQUESTS, {-1, -1, 7000}},
    {"Azure's zero is not known", LIMITS_AZURE, "x-ratelimit-reset-tokens", "0", LIMIT_TOKENS, {-1, -1, -1}},
    {"Azure's remaining zero is not known", LIMITS_AZURE, "x-ratelimit-remaining-tokens", "0", LIMIT_TOKENS, {-1, -1, -1}},
    {"Azure's minus one is not known", LIMITS_AZURE, "x-ratelimit-limit-tokens", "-1", LIMIT_TOKENS, {-1, -1, -1}},
    {"a time", LIMITS_ANTHROPIC, "anthropic-ratelimit-input-tokens-reset", "2026-09-21T14:13:25Z", LIMIT_INPUT_TOKENS, {-1, -1, 5000}},
    {"output tokens", LIMITS_ANTHROPIC, "anthropic-ratelimit-output-tokens-remaining", "8000", LIMIT_OUTPUT_TOKENS, {-1, 8000, -1}},
    {"a header of another family", LIMITS_ANTHROPIC, "x-ratelimit-limit-requests", "500", LIMIT_REQUESTS, {-1, -1, -1}},
    {"a provider without such headers", LIMITS_NONE, "x-ratelimit-limit-requests", "500", LIMIT_REQUESTS, {-1, -1, -1}},
    {"any other header", LIMITS_OPENAI, "content-length", "500", LIMIT_REQUESTS, {-1, -1, -1}},
    // clang-format on
};

static void each_family_has_its_forms(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct limits_seen seen;
        limits_seen_clear(&seen);
        limit_header_read(cases[i].family, slice_of(cases[i].header), slice_of(cases[i].value), NOW,
                          &seen);
        const struct limit_seen *got = &seen.of[cases[i].kind], *want = &cases[i].want;
        if (got->limit != want->limit || got->remaining != want->remaining ||
            got->reset_ms != want->reset_ms) {
            fail_msg("%s: got %" PRId64 " %" PRId64 " %" PRId64, cases[i].name, got->limit,
                     got->remaining, got->reset_ms);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_family_has_its_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
