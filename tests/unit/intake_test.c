// Rows in and acks back.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

static void test_acks_are_contiguous_over_groups(void **state) {
    // The second group's batch is full and written; the first row must not stay behind in memory.
    struct world *w = world_start_with(1, "'batch.size'='2'", 64);
    const char *rows = "{\"fields\":{\"text\":\"a\"}}\n"
                       "{\"fields\":{\"text\":\"b\"},\"options\":{\"temperature\":\"0.5\"}}\n"
                       "{\"fields\":{\"text\":\"c\"},\"options\":{\"temperature\":\"0.5\"}}\n";
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 3,
                                                       .records = slice_of(rows)}});
    world_settle(w);
    assert_int_equal(w->partitions[0].producers[0].seq, 3);
    size_t at = 0;
    assert_int_equal(world_find(w, &at, "p1", MESSAGE_ACKED)->acked.upto, 3);
    world_free(w);
}

static void test_gaps_are_refused_and_repeats_skipped(void **state) {
    struct world *w = world_start_with(2, "'batch.size'='1'", 64);
    world_append(w, "p1", 1, 3);
    world_append(w, "p1", 2, 4); // 2 and 3 again, 4 and 5 new
    assert_int_equal(w->status.records_in, 5);
    assert_int_equal(w->status.records_skipped, 2);
    world_append(w, "p1", 9, 1);
    const struct message_refused *refused = world_refused(w, "p1");
    assert_true(slice_is(refused->code, "gap"));
    assert_int_equal(refused->expected, 6);
    assert_int_equal(w->status.records_in, 5);
    world_free(w);
}

static void test_memory_bounds_what_producers_may_send(void **state) {
    struct world *w = world_new(1, "'batch.size'='1'");
    w->config.max_bytes = 65536;
    world_start(w);
    world_open(w, "p1");
    size_t at = 0;
    uint64_t limit = world_find(w, &at, "p1", MESSAGE_OPENED)->opened.limit;
    assert_true(limit > 0 && limit <= 65536 / 512);
    world_append(w, "p1", 1, limit + 1);
    assert_true(slice_is(world_refused(w, "p1")->code, "over-limit"));
    assert_int_equal(w->status.records_in, 0);
    world_append(w, "p1", 1, limit);
    world_settle(w);
    assert_int_equal(w->status.records_in, limit);
    world_free(w);
}

static void test_bad_rows_are_results_and_hide_nothing(void **state) {
    struct world *w = world_start_with(2, "'batch.size'='1'", 64);
    const char *rows = "{\"text\":\"good\"}\n{\"text\":\n{\"txet\":\"x\"}\n{\"text\":\"good too\"}\n"
                       "{\"fields\":{\"text\":\"x\"},\"model\":\"nobody\"}\n";
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 5,
                                                       .records = slice_of(rows)}});
    world_settle(w);
    assert_int_equal(w->status.records_in, 2);
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "\"code\":\"bad-record\""), 2);
    assert_int_equal(count_text(&out, "\"code\":\"no-model\""), 1);
    buf_free(&out);
    size_t at = 0;
    struct message *acked = NULL;
    for (struct message *m; (m = world_find(w, &at, "p1", MESSAGE_ACKED)) != NULL;) {
        acked = m;
    }
    assert_int_equal(acked->acked.upto, 5);
    world_free(w);
}

static void test_a_named_id_column_must_be_there(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 4);
    world_message(w, "p2", (struct message){.kind = MESSAGE_OPEN,
                                            .open = {.producer = SLICE_LIT("p2"), .model = SLICE_LIT("m"),
                                                     .id_column = SLICE_LIT("nr")}});
    world_message(w, "p2", (struct message){
                               .kind = MESSAGE_APPEND,
                               .append = {.first_seq = 1, .count = 2,
                                          .records = SLICE_LIT("{\"nr\":7,\"text\":\"a\"}\n"
                                                               "{\"id\":8,\"text\":\"b\"}\n")}});
    world_settle(w);
    assert_int_equal(w->status.records_in, 1);
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(count_text(&out, "column 'nr': got nothing, want the record's id"), 1);
    buf_free(&out);
    world_free(w);
}

static void test_groups_without_records_are_forgotten(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 64);
    for (int i = 0; i < 600; i++) {
        char row[128];
        snprintf(row, sizeof(row), "{\"fields\":{\"text\":\"a\"},\"options\":{\"seed\":\"%d\"}}\n", i);
        world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                                .append = {.first_seq = (uint64_t)i + 1, .count = 1,
                                                           .records = slice_of(row)}});
        world_settle(w);
        world_answer_all(w);
        world_forget_sent(w);
        assert_true(HASH_COUNT(w->core->groups) <= 300);
    }
    assert_int_equal(w->status.results_ok, 600);
    world_free(w);
}

static void test_a_connection_speaks_for_its_newest_producer(void **state) {
    struct world *w = world_start_with(1, "'batch.size'='1'", 4);
    world_message(w, "p1", (struct message){.kind = MESSAGE_OPEN,
                                            .open = {.producer = SLICE_LIT("other"),
                                                     .model = SLICE_LIT("m")}});
    world_append(w, "p1", 1, 1);
    world_settle(w);
    struct buf out;
    world_collect(w, &out);
    assert_int_equal(w->partitions[0].n_producers, 1);
    assert_string_equal(w->partitions[0].producers[0].name, "other");
    buf_free(&out);
    world_free(w);
}

// append_with_null sends three rows, the second of which has a null.
static void append_with_null(struct world *w) {
    world_message(w, "p1", (struct message){.kind = MESSAGE_APPEND,
                                            .append = {.first_seq = 1, .count = 3,
                                                       .records = slice_of("{\"text\":\"a\"}\n"
                                                                           "{\"text\":null}\n"
                                                                           "{\"text\":\"b\"}\n")}});
    world_settle(w);
}

static void test_a_null_is_skipped_or_an_error(void **state) {
    static const struct {
        const char *says, *options;
        size_t n_asked, n_ok, n_errors;
    } cases[] = {
        {"passed on", "'batch.size'='3'", 3, 3, 0},
        {"an error", "'batch.size'='2', 'null.input'='error'", 2, 2, 1},
        {"skipped", "'batch.size'='2', 'null.input'='skip'", 2, 3, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *w = world_start_with(1, cases[i].options, 8);
        append_with_null(w);
        size_t at = 0;
        const struct message_dispatch *d = world_dispatch(w, &at);
        assert_non_null(d);
        assert_int_equal(d->count, cases[i].n_asked);
        world_report(w, "w1", d, OUTCOME_OK, d->count, 0);
        world_settle(w);
        assert_int_equal(w->status.results_ok, cases[i].n_ok);
        assert_int_equal(w->status.results_error, cases[i].n_errors);
        struct buf out;
        buf_init(&out, 1 << 20);
        world_results(w, &out);
        assert_int_equal(count_text(&out, "\"seq\":2"), 1);
        assert_int_equal(count_text(&out, "column 'text': got null"), cases[i].n_errors);
        buf_free(&out);
        assert_int_equal(w->core->n_records, 0);
        world_free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acks_are_contiguous_over_groups),
        cmocka_unit_test(test_gaps_are_refused_and_repeats_skipped),
        cmocka_unit_test(test_memory_bounds_what_producers_may_send),
        cmocka_unit_test(test_bad_rows_are_results_and_hide_nothing),
        cmocka_unit_test(test_a_connection_speaks_for_its_newest_producer),
        cmocka_unit_test(test_a_named_id_column_must_be_there),
        cmocka_unit_test(test_groups_without_records_are_forgotten),
        cmocka_unit_test(test_a_null_is_skipped_or_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
