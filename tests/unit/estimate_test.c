// Estimates of tokens: what is learned, and what each profile charges.
#include "coordinator/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct model model_with(int64_t max_tokens) {
    struct model m = {0};
    m.name = "m";
    m.options.max_tokens = max_tokens;
    m.options.batch_size = 1;
    m.options.system_prompt = m.options.prompt_template = m.options.tokenizer_file = "";
    return m;
}

static const struct limit_profile CAP = {.charges_cap = true, .charges_cached = true};
static const struct limit_profile USED = {.charges_cap = false, .charges_cached = false};

static void test_before_anything_is_learned_bytes_are_counted(void **state) {
    struct learned *all = NULL;
    struct model m = model_with(MODEL_UNSET);
    struct estimate e;
    estimate_init(&e, &all, &m);
    struct amount small = estimate_of(&e, &m, &USED, &(struct estimate_call){1, 100});
    struct amount large = estimate_of(&e, &m, &USED, &(struct estimate_call){10, 10000});
    assert_true(small.calls == 1 && large.calls == 1);
    assert_true(small.input >= 25 && small.input <= 100);
    assert_true(large.input >= 2500 && large.output == 10 * small.output);
    estimate_forget(&all);
}

static void test_a_profile_that_charges_the_cap_reserves_it(void **state) {
    struct model m = model_with(500), one = model_with(5);
    struct learned *all = NULL;
    struct estimate e;
    estimate_init(&e, &all, &m);
    struct estimate_call call = {1, 100};
    assert_true(estimate_of(&e, &m, &CAP, &call).output == 500);
    assert_true(estimate_of(&e, &m, &USED, &call).output < 500);
    assert_true(estimate_of(&e, &one, &USED, &call).output == 5); // never more than the cap
    assert_true(estimate_used(&m, &CAP, 10, 0, 3).output == 500);
    assert_true(estimate_used(&m, &USED, 10, 0, 3).output == 3);
    estimate_forget(&all);
}

static void test_cached_tokens_are_charged_by_some(void **state) {
    struct model m = model_with(MODEL_UNSET);
    assert_true(estimate_used(&m, &CAP, 100, 80, 3).input == 100);
    assert_true(estimate_used(&m, &USED, 100, 80, 3).input == 20);
    assert_true(estimate_used(&m, &USED, 100, 180, 3).input == 0); // more than there were: nonsense
    assert_true(estimate_used(&m, &CAP, 100, 80, 3).output == 3);
}

// Of tokens drawn evenly from 50..150 a call, 95 in 100 are below 145.
static void test_the_95th_percentile_is_followed(void **state) {
    struct learned *all = NULL;
    struct model m = model_with(MODEL_UNSET);
    struct estimate e;
    estimate_init(&e, &all, &m);
    struct estimate_call call = {1, 400};
    uint64_t random = 1;
    int n_above = 0;
    for (int i = 0; i < 4000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double tokens = 50 + (double)((random >> 33) % 101);
        if (i >= 1000) {
            n_above += tokens > estimate_of(&e, &m, &USED, &call).input;
        }
        estimate_learn(&e, &call, tokens, tokens);
    }
    assert_in_range(n_above, 3000 / 50, 3000 / 12); // 2 to 8 of 100
    struct amount a = estimate_of(&e, &m, &USED, &call);
    assert_true(a.input > 125 && a.input < 165 && a.output > 125 && a.output < 165);
    estimate_forget(&all);
}

static void test_what_says_nothing_teaches_nothing(void **state) {
    struct learned *all = NULL;
    struct model m = model_with(MODEL_UNSET);
    struct estimate e;
    estimate_init(&e, &all, &m);
    struct learned before = *e.learned;
    estimate_learn(&e, &(struct estimate_call){0, 0}, 100, 5);
    estimate_learn(&e, &(struct estimate_call){1, 100}, 0, 5);
    assert_memory_equal(e.learned, &before, sizeof(before));
    estimate_learn(&e, &(struct estimate_call){2, 100}, 90, 10); // 32 + 100 + 2 * 24 bytes: half a token each
    assert_true(fabs(e.learned->tokens_per_byte.usual - 0.5) < 1e-9);
    assert_true(e.learned->output_per_record.usual == 5);
    estimate_forget(&all);
}

static void test_what_one_group_learns_all_of_its_model_know(void **state) {
    struct learned *all = NULL;
    struct model m = model_with(MODEL_UNSET), other = model_with(MODEL_UNSET);
    struct estimate a, b, c;
    other.name = "other";
    estimate_init(&a, &all, &m);
    estimate_init(&b, &all, &m);
    estimate_init(&c, &all, &other);
    struct estimate_call call = {1, 400};
    estimate_learn(&a, &call, 800, 300);
    assert_true(estimate_of(&b, &m, &USED, &call).output == 300);
    assert_true(estimate_of(&c, &other, &USED, &call).output < 300);
    estimate_forget(&all);
    assert_null(all);
}

// Money: of many calls hardly one costs more than was said, and none more than the margin over the largest.
static void test_the_most_is_hardly_exceeded(void **state) {
    struct learned *all = NULL;
    struct model m = model_with(MODEL_UNSET), capped = model_with(70);
    struct estimate e;
    m.options.system_prompt = capped.options.system_prompt = "You are short.";
    estimate_init(&e, &all, &m);
    struct estimate_call call = {2, 400};
    struct price_usage first = estimate_most(&e, &m, &call);
    assert_true(first.input > estimate_of(&e, &m, &USED, &call).input);
    assert_true(first.output > estimate_of(&e, &m, &USED, &call).output);
    uint64_t random = 1;
    int n_above = 0;
    for (int i = 0; i < 4000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double tokens = 50 + (double)((random >> 33) % 101);
        struct price_usage most = estimate_most(&e, &m, &call);
        n_above += i > 0 && (tokens > most.input || tokens > most.output);
        assert_true(i < 1000 || (most.input < 150 * 1.11 && most.output < 150 * 1.11));
        estimate_learn(&e, &call, tokens, tokens);
    }
    assert_in_range(n_above, 0, 40);
    struct price_usage most = estimate_most(&e, &capped, &call);
    assert_true(most.output == 70); // what max.tokens allows, whatever was seen
    assert_true(most.write > 0 && most.write < most.input && most.cached == 0);
    estimate_forget(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_anything_is_learned_bytes_are_counted),
        cmocka_unit_test(test_a_profile_that_charges_the_cap_reserves_it),
        cmocka_unit_test(test_cached_tokens_are_charged_by_some),
        cmocka_unit_test(test_the_95th_percentile_is_followed),
        cmocka_unit_test(test_what_says_nothing_teaches_nothing),
        cmocka_unit_test(test_what_one_group_learns_all_of_its_model_know),
        cmocka_unit_test(test_the_most_is_hardly_exceeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
