// Batches as blobs, how far producers are accepted, pools, partitions: the small parts of the core.
#include "core_world.h"

#include "coordinator/intake.h"
#include "coordinator/partition.h"
#include "coordinator/permits.h"
#include "coordinator/producer.h"

// A core with one partition and one group, for parts that need them around.
static struct lane *lane_of(struct world *w) {
    world_open(w, "p1");
    return &w->core->groups->lanes[0];
}

static struct producer *find_producer(void *arg, struct slice name) {
    return producer_get(arg, name);
}

static struct group *find_group(void *arg, struct slice model, uint32_t revision, struct slice options) {
    int status;
    struct error why = {0};
    return group_get(arg, model, revision, options, &status, &why);
}

static struct batch *make_batch(struct world *w, struct lane *lane) {
    struct batch *b = batch_new(42, lane, w->now_us);
    struct producer *p = producer_get(w->core, SLICE_LIT("p1"));
    batch_add(b, SLICE_LIT("a"), SLICE_LIT("key"), SLICE_LIT("\x91\x01"), p, 7);
    batch_add(b, SLICE_LIT("b"), SLICE_NONE, SLICE_LIT("\x91\x02"), NULL, 0);
    batch_add(b, SLICE_LIT("c"), SLICE_NONE, SLICE_LIT("\x91\x03"), p, 9);
    return b;
}

static void test_blob_round_trip_keeps_slots(void **state) {
    struct world *w = world_new(1, "'batch.size'='4'");
    world_start(w);
    struct lane *lane = lane_of(w);
    struct batch *b = make_batch(w, lane);
    b->entries[0].answered = b->entries[0].emitted = true; // its result is in the outbox
    b->n_unanswered--;
    b->n_unemitted--;
    b->entries[2].n_calls = 3;
    b->entries[2].cost = 0.25;
    b->entries[2].cache_write_tokens = 1.5;
    b->entries[2].reasoning_tokens = 4;
    struct answer *answer = mem_zalloc(sizeof(*answer));
    *answer = (struct answer){.n_refs = 1, .call = 5, .request_id = mem_dup_str("req"),
                              .prompt_hash = mem_dup_str("h"), .served_model = mem_dup_str("s"),
                              .service_tier = mem_dup_str("flex"), .warning = mem_dup_str("")};
    batch_answer(b, 1, OUTCOME_OK, SLICE_LIT("\x91\xA1x"), answer);
    answer_drop(answer);
    struct buf blob;
    buf_init(&blob, 1 << 20);
    assert_int_equal(batch_pack(b, &blob), 0);

    struct slice model, options;
    uint32_t revision;
    assert_int_equal(batch_peek(buf_slice(&blob), &model, &revision, &options), 0);
    assert_true(slice_is(model, "m"));
    assert_int_equal(revision, 1);
    struct batch *copy = batch_new(42, lane, 0);
    assert_int_equal(batch_unpack(copy, buf_slice(&blob), find_producer, find_group, w->core), 0);
    assert_int_equal(copy->state, BATCH_SEALED);
    assert_int_equal(copy->n, 3);
    assert_int_equal(copy->n_unanswered, 1);
    assert_int_equal(copy->n_unemitted, 2);
    assert_true(copy->entries[0].emitted);
    assert_true(copy->entries[1].answered);
    assert_true(slice_is((struct slice){copy->entries[1].payload, copy->entries[1].n_payload}, "\x91\xA1x"));
    assert_string_equal(copy->entries[1].answer->request_id, "req");
    assert_string_equal(copy->entries[1].answer->service_tier, "flex");
    assert_true(slice_is(entry_id(copy, &copy->entries[2]), "c"));
    assert_int_equal(copy->entries[2].seq, 9);
    assert_int_equal(copy->entries[2].n_calls, 3);
    assert_true(copy->entries[2].cost == 0.25);
    assert_true(copy->entries[2].cache_write_tokens == 1.5 && copy->entries[2].reasoning_tokens == 4);
    assert_string_equal(copy->entries[2].producer->name, "p1");
    batch_free(copy);
    batch_free(b);
    buf_free(&blob);
    world_free(w);
}

static void test_damaged_blobs_are_refused(void **state) {
    struct world *w = world_new(1, "");
    world_start(w);
    struct lane *lane = lane_of(w);
    struct batch *b = make_batch(w, lane);
    struct buf blob;
    buf_init(&blob, 1 << 20);
    assert_int_equal(batch_pack(b, &blob), 0);
    for (size_t n = 0; n < blob.n; n++) { // cut anywhere
        char *cut = mem_dup(blob.p, n);
        struct batch *copy = batch_new(1, lane, 0);
        assert_int_equal(batch_unpack(copy, (struct slice){cut, n}, find_producer, find_group, w->core), -71);
        batch_free(copy);
        free(cut);
    }
    batch_free(b);
    buf_free(&blob);
    world_free(w);
}

static void test_producer_acks_contiguous_sequences_in_any_order(void **state) {
    struct world *w = world_new(1, "");
    world_start(w);
    struct producer *p = producer_get(w->core, SLICE_LIT("x"));
    p->accepted = 200;
    for (uint64_t seq = 200; seq > 1; seq--) {
        producer_durable(p, seq);
        assert_int_equal(p->acked, 0);
    }
    producer_durable(p, 1);
    assert_int_equal(p->acked, 200);
    producer_durable(p, 150); // known already
    p->accepted = p->acked + p->window; // as far as the ring reaches, across its end
    for (uint64_t seq = 201; seq <= p->accepted; seq++) {
        producer_durable(p, seq);
    }
    assert_int_equal(p->acked, 200 + p->window);
    world_free(w);
}

static void test_partition_is_a_function_of_the_key(void **state) {
    // Part of the protocol: XXH3_64bits(key) mod n. A change would send keys elsewhere after an update.
    assert_int_equal(partition_of(SLICE_LIT("a"), 8), partition_of(SLICE_LIT("a"), 8));
    assert_int_equal(partition_of(SLICE_LIT(""), 1 << 20), 0x2D06800538D394C2 % (1 << 20));
    size_t n_hit[8] = {0};
    for (int i = 0; i < 8000; i++) {
        char key[16];
        int n = snprintf(key, sizeof(key), "key-%d", i);
        n_hit[partition_of((struct slice){key, (size_t)n}, 8)]++;
    }
    for (int i = 0; i < 8; i++) {
        assert_in_range(n_hit[i], 850, 1150);
    }
}

static void test_batch_ids_are_unique_over_restarts(void **state) {
    struct partition p = {.index = 3, .epoch = 1};
    uint64_t first = partition_next_batch(&p), second = partition_next_batch(&p);
    p.next_batch = 0;
    p.epoch = 2;
    uint64_t later = partition_next_batch(&p);
    assert_true(first != second && first != later && later > second);
    assert_int_equal(first >> 52, 3);
}

static void test_pool_waits_as_told_or_backs_off(void **state) {
    const struct core_io io = {0};
    struct core core = {.io = &io, .now_us = 1000000};
    struct pool pool = {.window = 2, .backoff_ms = 500};
    assert_true(pool_may_send(&core, &pool));
    pool.n_inflight = 2;
    assert_false(pool_may_send(&core, &pool));
    pool.n_inflight = 0;
    pool_wait(&core, &pool, 0, 4000, 0);
    assert_int_equal(pool.blocked_until_us, 5000000);
    pool_wait(&core, &pool, 0, 1000, 0); // a shorter wait does not shorten a longer one
    assert_int_equal(pool.blocked_until_us, 5000000);
    pool.blocked_until_us = 0;
    core.now_us = 10000000;
    int64_t want_ms[] = {500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};
    for (int i = 0; i < 8; i++) { // nothing asked for: doubled each time
        pool_wait(&core, &pool, 0, 0, 0);
        assert_int_equal(pool.blocked_until_us - core.now_us, want_ms[i] * 1000);
        pool_wait(&core, &pool, 0, 0, 0); // refusals that come together count once
        core.now_us = pool.blocked_until_us;
    }
    pool_stop(&pool, "fatal-auth", SLICE_LIT("no"));
    core.now_us = INT64_MAX;
    assert_false(pool_may_send(&core, &pool));
    pool_resume(&core, &pool); // and waits on
    core.now_us = pool.blocked_until_us;
    assert_true(pool_may_send(&core, &pool));
    pool.blocked_until_us = core.now_us + 3600000000; // the shared limits say: not before the day's end
    assert_false(pool_may_send(&core, &pool));
    pool_resume(&core, &pool);
    assert_true(pool_may_send(&core, &pool));
}

static void test_repeats_are_a_tenth_and_one_a_second(void **state) {
    const struct core_io io = {0};
    struct status status = {0};
    struct core core = {.io = &io, .status = &status, .now_us = 1000000};
    struct pool pool = {.repeats = 2, .repeats_us = 1000000};
    assert_true(permits_repeat(&core, &pool) && permits_repeat(&core, &pool));
    assert_false(permits_repeat(&core, &pool));
    assert_int_equal(status.retries_held, 1);
    core.now_us += 1000000; // one a second
    assert_true(permits_repeat(&core, &pool));
    assert_false(permits_repeat(&core, &pool));
    struct group group = {.pool = &pool};
    struct lane lane = {.group = &group};
    struct batch batch = {.lane = &lane};
    struct call first = {.batch = &batch, .group = lane.group};
    struct call again = {.batch = &batch, .group = lane.group, .is_retry = true};
    for (int i = 0; i < 11; i++) { // and one for ten first calls
        permits_spend(&core, &first);
        permits_spend(&core, &again);
    }
    assert_true(permits_repeat(&core, &pool));
    assert_false(permits_repeat(&core, &pool));
    core.now_us += 3600000000; // no more than fifty are saved up
    int n = 0;
    while (permits_repeat(&core, &pool)) {
        n++;
    }
    assert_int_equal(n, 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blob_round_trip_keeps_slots),
        cmocka_unit_test(test_damaged_blobs_are_refused),
        cmocka_unit_test(test_producer_acks_contiguous_sequences_in_any_order),
        cmocka_unit_test(test_partition_is_a_function_of_the_key),
        cmocka_unit_test(test_batch_ids_are_unique_over_restarts),
        cmocka_unit_test(test_repeats_are_a_tenth_and_one_a_second),
        cmocka_unit_test(test_pool_waits_as_told_or_backs_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
