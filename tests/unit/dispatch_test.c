// Filling batches and giving their calls to workers.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

static void test_nothing_leaves_before_it_is_durable(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='4'", 8);
    world_append(w, "p1", 1, 4);
    world_turn(w);
    assert_int_equal(w->n_writes, 1);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 0);
    assert_int_equal(world_count(w, NULL, MESSAGE_ACKED), 0);
    world_confirm(w);
    world_turn(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 1);
    size_t at = 0;
    struct message *acked = world_find(w, &at, "p1", MESSAGE_ACKED);
    assert_non_null(acked);
    assert_int_equal(acked->acked.upto, 4);
    world_free(w);
}

static void test_credit_bounds_what_a_worker_gets(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 2);
    world_append(w, "p1", 1, 5);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 2);
    size_t at = 0;
    world_report(w, "w1", world_dispatch(w, &at), OUTCOME_OK, 1, 0);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    world_free(w);
}

static void test_concurrency_limit_bounds_the_pool(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1', 'limit.concurrency'='3'", 64);
    world_append(w, "p1", 1, 10);
    world_settle(w);
    assert_int_equal(world_count(w, "w1", MESSAGE_DISPATCH), 3);
    world_free(w);
}

static void test_incomplete_batch_goes_after_its_timeout(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='20', 'batch.timeout.ms'='300'", 64);
    world_append(w, "p1", 1, 3);
    world_settle(w);
    world_pass(w, 290);
    assert_int_equal(w->n_writes, 0);
    world_pass(w, 20);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(world_dispatch(w, &at)->count, 3);
    world_free(w);
}

static void test_aged_batch_fills_on_while_nobody_can_take_it(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='20', 'batch.timeout.ms'='300'", 0);
    world_append(w, "p1", 1, 3);
    world_pass(w, 310);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(world_find(w, &at, "p1", MESSAGE_ACKED)->acked.upto, 3); // durable all the same
    world_append(w, "p1", 4, 17);
    world_settle(w);
    world_hello(w, "w1", 1, 4);
    world_settle(w);
    at = 0;
    assert_int_equal(world_dispatch(w, &at)->count, 20);
    assert_null(world_dispatch(w, &at));
    world_free(w);
}

static void test_flush_does_not_wait(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='20', 'batch.timeout.ms'='60000'", 4);
    world_append(w, "p1", 1, 3);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    size_t at = 0;
    assert_int_equal(world_dispatch(w, &at)->count, 3);
    world_free(w);
}

static void test_token_estimate_bounds_a_batch(void **state) {
    // A record is taken for 8 tokens and a quarter of its bytes.
    struct world *w = world_start_with(1, "'batch.size'='20', 'batch.max.tokens'='25'", 64);
    world_append(w, "p1", 1, 4);
    world_message(w, "p1", (struct message){.kind = MESSAGE_FLUSH});
    world_settle(w);
    size_t at = 0;
    assert_int_equal(world_dispatch(w, &at)->count, 2);
    assert_int_equal(world_dispatch(w, &at)->count, 2);
    world_free(w);
}

static void test_overrides_never_share_a_batch(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='2'", 64);
    const char *rows = "{\"fields\":{\"text\":\"a\"}}\n"
                       "{\"fields\":{\"text\":\"b\"},\"options\":{\"temperature\":\"0.5\"}}\n"
                       "{\"fields\":{\"text\":\"c\"}}\n"
                       "{\"fields\":{\"text\":\"d\"},\"options\":{\"temperature\":\"0.5\"}}\n";
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 4,
                                                       .records = slice_of(rows)}});
    world_settle(w);
    size_t at = 0;
    const struct message_dispatch *first = world_dispatch(w, &at), *second = world_dispatch(w, &at);
    assert_int_equal(first->count, 2);
    assert_int_equal(second->count, 2);
    assert_true((first->overrides.n == 0) != (second->overrides.n == 0));
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_leaves_before_it_is_durable),
        cmocka_unit_test(test_credit_bounds_what_a_worker_gets),
        cmocka_unit_test(test_concurrency_limit_bounds_the_pool),
        cmocka_unit_test(test_incomplete_batch_goes_after_its_timeout),
        cmocka_unit_test(test_aged_batch_fills_on_while_nobody_can_take_it),
        cmocka_unit_test(test_flush_does_not_wait),
        cmocka_unit_test(test_token_estimate_bounds_a_batch),
        cmocka_unit_test(test_overrides_never_share_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
