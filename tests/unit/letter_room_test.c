// A bound for dead letters: who waits when there is no room for more, who does not, and what makes room.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

#include "coordinator/redrive.h"

static struct world *start(const char *options, int64_t most) {
    struct world *w = world_new(1, options);
    w->config.max_letters = most;
    world_start(w);
    world_hello(w, "w1", 1, 2); // two calls at once
    world_open(w, "p1");
    return w;
}

// refuse_all answers every call that is out, and that comes out then, with a refusal. Returns how many there were.
static size_t refuse_all(struct world *w, size_t *at) {
    size_t n = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, at)) != NULL; n++) {
        world_report(w, "w1", d, OUTCOME_BAD_REQUEST, 0, 0);
        world_settle(w);
    }
    return n;
}

static void test_a_model_of_dead_letters_alone_waits_for_room(void **state) {
    struct world *w = start("'batch.size'='1', 'max.retries'='0', 'on.error'='dead-letter'", 3);
    world_append(w, "p1", 1, 10);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(refuse_all(w, &at), 4); // the fourth was out when the third ended
    assert_int_equal(w->status.dead_letters, 4);
    assert_string_equal(w->core->pools->stopped, "dead-letters-full");
    assert_int_equal(w->core->n_records, 6); // nothing is lost
    const char *stopped;
    struct buf waiting;
    buf_init(&waiting, 4096);
    core_waiting(w->core, w->now_us, &waiting, &stopped);
    assert_non_null(stopped);
    buf_free(&waiting);
    struct buf json;
    buf_init(&json, 4096);
    assert_int_equal(core_resume(w->core, w->now_us, SLICE_NONE, &json), 0); // a command makes no room
    buf_free(&json);
    world_settle(w);
    assert_int_equal(refuse_all(w, &at), 0);
    redrive_drop(w->core, 0, SLICE_LIT("1-0"));
    world_settle(w);
    assert_int_equal(refuse_all(w, &at), 0); // three are still as many as may be
    redrive_drop(w->core, 0, SLICE_LIT("2-0"));
    world_settle(w);
    assert_true(refuse_all(w, &at) >= 1); // goes on by itself, and stops again
    assert_string_equal(w->core->pools->stopped, "dead-letters-full");
    assert_int_equal(w->status.dead_letters_dropped, 0);
    world_free(w);
}

static void test_errors_that_are_rows_come_out_without_a_letter(void **state) {
    struct world *w = start("'batch.size'='1', 'max.retries'='0'", 3);
    world_append(w, "p1", 1, 10);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(refuse_all(w, &at), 10);
    assert_int_equal(w->status.results_error, 10);
    assert_int_equal(w->status.dead_letters, 3);
    assert_int_equal(w->status.dead_letters_dropped, 7);
    assert_int_equal(w->partitions[0].n_dead, 3);
    assert_null(w->core->pools->stopped);
    world_free(w);
}

static void test_letters_of_before_a_start_take_room(void **state) {
    struct world *w = start("'batch.size'='1', 'max.retries'='0', 'on.error'='dead-letter'", 3);
    core_letters(w->core, 0, 3);
    world_append(w, "p1", 1, 1);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(refuse_all(w, &at), 0);
    redrive_drop(w->core, 0, SLICE_LIT("1-0"));
    world_settle(w);
    assert_int_equal(refuse_all(w, &at), 1);
    world_free(w);
}

static void test_without_a_bound_all_are_kept(void **state) {
    struct world *w = start("'batch.size'='1', 'max.retries'='0', 'on.error'='dead-letter'", 0);
    world_append(w, "p1", 1, 10);
    world_settle(w);
    size_t at = 0;
    assert_int_equal(refuse_all(w, &at), 10);
    assert_int_equal(w->status.dead_letters, 10);
    core_gauges(w->core);
    assert_int_equal(w->status.dead_letters_kept, 10);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_of_dead_letters_alone_waits_for_room),
        cmocka_unit_test(test_errors_that_are_rows_come_out_without_a_letter),
        cmocka_unit_test(test_letters_of_before_a_start_take_room),
        cmocka_unit_test(test_without_a_bound_all_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
