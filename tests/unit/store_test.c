// The store against a real Redis: ownership, numbered writes, fencing, loss, rollback, recovery.
#include "coordinator/store.h"
#include "common/log.h"
#include "common/redis.h"
#include "tests/unit/redis_server.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stddef.h>
// cmocka wants the two above first
#include <cmocka.h>

#define LEASE_MS 600

static const struct redis_script scripts[] = {
#define SCRIPT(script, body) {.name = #script, .text = body},
#include "coordinator/scripts.inc"
#undef SCRIPT
};

// What a store told its owner.
struct seen {
    int n_ready, n_lost, n_refused, n_fenced, n_acquired, n_recovered;
    uint64_t epoch, cseq, oseq, first_oseq, written;
    int n_written, n_batches, n_producers, n_consumers;
    bool written_in_order;
    uint64_t batch_sum, last_batch, last_number;
    size_t blob_bytes;
    char why[1024];
};

struct world {
    struct redis_server server;
    struct loop *loop;
    struct store *a, *b;
    struct seen sa, sb;
};

static void on_ready(void *arg) {
    ((struct seen *)arg)->n_ready++;
}
static void on_refused(void *arg, const struct error *why) {
    struct seen *s = arg;
    s->n_refused++;
    snprintf(s->why, sizeof(s->why), "%s", why->text);
}
static void on_lost(void *arg, const char *reason) {
    ((struct seen *)arg)->n_lost++;
}
static void on_acquired(void *arg, uint32_t partition, uint64_t epoch, uint64_t cseq, uint64_t oseq,
                        uint64_t first_oseq) {
    struct seen *s = arg;
    s->n_acquired++;
    s->epoch = epoch;
    s->cseq = s->written = cseq;
    s->oseq = oseq;
    s->first_oseq = first_oseq;
    s->n_batches = s->n_producers = s->n_consumers = 0;
    s->written_in_order = true;
}
static void on_batch(void *arg, uint32_t partition, uint64_t batch, struct slice blob) {
    struct seen *s = arg;
    s->n_batches++;
    s->batch_sum += batch;
    s->last_batch = batch;
    s->blob_bytes += blob.n;
}
static void on_producer(void *arg, uint32_t partition, struct slice producer, uint64_t seq) {
    struct seen *s = arg;
    s->n_producers++;
    s->last_number = seq;
}
static void on_consumer(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq) {
    struct seen *s = arg;
    s->n_consumers++;
    s->last_number = oseq;
}
static void on_recovered(void *arg, uint32_t partition) {
    ((struct seen *)arg)->n_recovered++;
}
static void on_written(void *arg, uint32_t partition, uint64_t cseq) {
    struct seen *s = arg;
    s->written_in_order &= cseq == s->written + 1;
    s->written = cseq;
    s->n_written++;
}
static void on_fenced(void *arg, uint32_t partition, bool rolled_back, const struct error *why) {
    struct seen *s = arg;
    s->n_fenced++;
    snprintf(s->why, sizeof(s->why), "%s", why->text);
}

static struct store *open_store(struct world *w, const char *owner, struct seen *seen) {
    const struct store_config config = {
        .redis = w->server.socket, .ns = "t", .n_partitions = 4, .owner = owner,
        .address = "here", .lease_ms = LEASE_MS, .durability = DURABILITY_ALWAYS};
    const struct store_handlers handlers = {
        on_ready, on_refused, on_lost, on_acquired, on_batch, on_producer, on_consumer,
        on_recovered, on_written, on_fenced, seen};
    struct error why;
    struct store *store = store_new(w->loop, &config, &handlers, &why);
    assert_non_null(store);
    redis_server_until(w->loop, seen->n_ready + seen->n_refused == 1);
    return store;
}

static void acquire(struct world *w, struct store *store, struct seen *seen) {
    int before = seen->n_recovered;
    store_acquire(store, 1);
    redis_server_until(w->loop, seen->n_recovered == before + 1);
}

static void begin(struct world *w) {
    redis_server_start(&w->server);
    w->loop = loop_new();
    w->a = open_store(w, "a", &w->sa);
    acquire(w, w->a, &w->sa);
}

static void end(struct world *w) {
    store_free(w->a);
    store_free(w->b);
    loop_free(w->loop);
    redis_server_end(&w->server);
}

// write_next writes one batch and, with n_results, an outbox entry.
static void write_next(struct store *store, struct seen *seen, uint64_t *cseq, uint64_t *oseq,
                       uint64_t batch, unsigned n_results) {
    struct txn *txn = txn_new(1);
    txn->epoch = seen->epoch;
    txn->cseq = ++*cseq;
    txn_put(txn, batch, SLICE_LIT("a batch"));
    txn_producer(txn, SLICE_LIT("p"), *cseq);
    if (n_results > 0) {
        *oseq += n_results;
        txn_out(txn, *oseq, SLICE_LIT("results"));
    }
    txn->oseq = *oseq;
    store_write(store, &txn);
    assert_null(txn);
}

static long long redis_number(struct world *w, const char *command) {
    redisReply *r = redis_server_do(&w->server, command);
    long long n = r->type == REDIS_REPLY_INTEGER ? r->integer : r->str != NULL ? atoll(r->str) : -1;
    freeReplyObject(r);
    return n;
}

static void a_fresh_partition_is_empty(void **state) {
    struct world w = {0};
    begin(&w);
    assert_true(w.sa.epoch > 0);
    assert_int_equal(w.sa.cseq, 0);
    assert_int_equal(w.sa.oseq, 0);
    assert_int_equal(w.sa.first_oseq, 1);
    assert_int_equal(w.sa.n_batches + w.sa.n_producers + w.sa.n_consumers, 0);
    end(&w);
}

static void writes_are_confirmed_in_order_and_found_again(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0, first = UINT64_C(18446744073709551000); // needs all of 64 bits
    for (int i = 0; i < 500; i++) {
        write_next(w.a, &w.sa, &cseq, &oseq, first + (uint64_t)i, i % 3 == 0 ? 4 : 0);
    }
    assert_int_equal(store_pending(w.a), 500);
    redis_server_until(w.loop, w.sa.n_written == 500);
    assert_true(w.sa.written_in_order);
    assert_int_equal(store_pending(w.a), 0);
    store_ack(w.a, 1, SLICE_LIT("c"), 10, 8);
    store_free(w.a); // the ack was not sent yet: free must not need it
    memset(&w.sa, 0, sizeof(w.sa));
    w.a = open_store(&w, "a", &w.sa);
    acquire(&w, w.a, &w.sa);
    assert_int_equal(w.sa.cseq, 500);
    assert_int_equal(w.sa.oseq, oseq);
    assert_int_equal(w.sa.first_oseq, 1);
    assert_int_equal(w.sa.n_batches, 500);
    assert_true(w.sa.last_batch == first + 499);
    assert_int_equal(w.sa.n_producers, 1);
    assert_int_equal(w.sa.last_number, 500);
    end(&w);
}

struct got {
    int n_calls;
    bool ok;
    size_t n;
    uint64_t first, last;
};

static void on_read(void *arg, uint32_t partition, bool ok, const struct store_entry *entries,
                    size_t n) {
    struct got *got = arg;
    got->n_calls++;
    got->ok = ok;
    got->n = n;
    got->first = n > 0 ? entries[0].last_oseq : 0;
    got->last = n > 0 ? entries[n - 1].last_oseq : 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(slice_is(entries[i].blob, "results"));
    }
}

static void acks_trim_the_outbox(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0;
    for (int i = 0; i < 10; i++) {
        write_next(w.a, &w.sa, &cseq, &oseq, 7, 5);
    }
    struct got got = {0};
    store_read(w.a, 1, 11, 3, on_read, &got);
    redis_server_until(w.loop, got.n_calls == 1);
    assert_true(got.ok);
    assert_int_equal(got.n, 3);
    assert_int_equal(got.first, 15); // the entry that holds number 11
    assert_int_equal(got.last, 25);
    store_ack(w.a, 1, SLICE_LIT("c"), 23, 23);
    store_ack(w.a, 1, SLICE_LIT("c"), 3, 3); // late and old: changes nothing
    store_read(w.a, 1, 1, 100, on_read, &got);
    redis_server_until(w.loop, got.n_calls == 2);
    assert_int_equal(got.n, 6);
    assert_int_equal(got.first, 25); // 21..25 stays: 24 and 25 are not acked
    store_free(w.a);
    memset(&w.sa, 0, sizeof(w.sa));
    w.a = open_store(&w, "a", &w.sa);
    acquire(&w, w.a, &w.sa);
    assert_int_equal(w.sa.first_oseq, 21);
    assert_int_equal(w.sa.n_consumers, 1);
    assert_int_equal(w.sa.last_number, 23);
    end(&w);
}

static void a_second_owner_waits_for_the_lease_and_fences(void **state) {
    struct world w = {0};
    begin(&w);
    w.b = open_store(&w, "b", &w.sb);
    store_acquire(w.b, 1);
    int64_t until = clock_us() + 2 * LEASE_MS * 1000; // a renews all the time
    redis_server_until(w.loop, clock_us() > until);
    assert_int_equal(w.sb.n_acquired, 0);
    assert_int_equal(w.sa.n_fenced, 0);
    // The lease ends although a is alive, as if a had been stopped for long.
    uint64_t cseq = 0, oseq = 0;
    redis_server_until(w.loop, (redis_server_run(&w.server, "HSET hr:{t:1}:own until 0"),
                                w.sb.n_recovered == 1));
    write_next(w.a, &w.sa, &cseq, &oseq, 1, 1);
    redis_server_until(w.loop, w.sa.n_fenced == 1);
    assert_true(w.sb.epoch > w.sa.epoch);
    assert_int_equal(w.sa.n_written, 0);
    assert_int_equal(store_pending(w.a), 0);
    assert_int_equal(redis_number(&w, "HLEN hr:{t:1}:bat"), 0);
    end(&w);
}

static void a_released_partition_is_free_at_once(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0;
    write_next(w.a, &w.sa, &cseq, &oseq, 1, 1);
    store_release(w.a, 1); // after the write
    redis_server_until(w.loop, store_pending(w.a) == 0);
    assert_int_equal(w.sa.n_written, 1);
    w.b = open_store(&w, "b", &w.sb);
    int64_t began = clock_us();
    acquire(&w, w.b, &w.sb);
    assert_true(clock_us() - began < LEASE_MS * 1000);
    assert_int_equal(w.sb.cseq, 1);
    assert_true(w.sb.epoch > w.sa.epoch);
    assert_int_equal(w.sa.n_fenced, 0);
    end(&w);
}

static void a_killed_redis_loses_no_write_and_runs_none_twice(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0;
    for (int round = 1; round <= 4; round++) {
        for (int i = 0; i < 200; i++) {
            write_next(w.a, &w.sa, &cseq, &oseq, cseq + 1, 2);
        }
        for (int i = 0; i < round * 2; i++) { // kill in the middle of them
            uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
        }
        redis_server_kill(&w.server);
        redis_server_until(w.loop, w.sa.n_lost == round);
        write_next(w.a, &w.sa, &cseq, &oseq, cseq + 1, 1); // while it is away
        redis_server_start(&w.server);
        redis_server_until(w.loop, w.sa.written == cseq);
    }
    assert_int_equal(w.sa.n_written, cseq); // each confirmed exactly once
    assert_true(w.sa.written_in_order);
    assert_int_equal(w.sa.n_fenced, 0);
    assert_int_equal(redis_number(&w, "HLEN hr:{t:1}:bat"), cseq);
    assert_int_equal(redis_number(&w, "XLEN hr:{t:1}:out"), cseq);
    assert_int_equal(redis_number(&w, "HGET hr:{t:1}:own oseq"), oseq);
    end(&w);
}

static void cut_connections_and_forgotten_scripts_cost_nothing(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 50; i++) {
            write_next(w.a, &w.sa, &cseq, &oseq, cseq + 1, 1);
            if (i == 25) {
                uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
                redis_server_run(&w.server, round % 2 == 0 ? "CLIENT KILL TYPE normal SKIPME yes"
                                                           : "SCRIPT FLUSH");
            }
        }
        uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    }
    redis_server_until(w.loop, w.sa.written == cseq);
    assert_int_equal(w.sa.n_written, cseq);
    assert_true(w.sa.written_in_order);
    assert_int_equal(w.sa.n_fenced, 0);
    assert_int_equal(redis_number(&w, "XLEN hr:{t:1}:out"), cseq);
    end(&w);
}

static bool redis_has_refused_a_script(struct world *w) {
    redisReply *r = redis_server_do(&w->server, "INFO errorstats");
    bool has = strstr(r->str, "errorstat_NOSCRIPT") != NULL;
    freeReplyObject(r);
    return has;
}

static void load_part_write(struct world *w) {
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        if (strcmp(scripts[i].name, "part_write") == 0) {
            redis_server_run(&w->server, "SCRIPT LOAD %s", scripts[i].text);
        }
    }
}

// The scripts are forgotten, and loaded again by somebody else between one write and the next: the second one
// runs, and does not follow.
static void a_write_that_overtook_another_is_sent_again(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0;
    redis_server_run(&w.server, "SCRIPT FLUSH");
    write_next(w.a, &w.sa, &cseq, &oseq, 1, 1);
    uv_run(loop_uv(w.loop), UV_RUN_NOWAIT); // it goes, and the reply is not read
    for (int64_t until_us = clock_us() + REDIS_DEADLINE_US; !redis_has_refused_a_script(&w);) {
        assert_true(clock_us() < until_us);
        usleep(200);
    }
    load_part_write(&w);
    for (uint64_t batch = 2; batch < 5; batch++) {
        write_next(w.a, &w.sa, &cseq, &oseq, batch, 1);
    }
    redis_server_until(w.loop, w.sa.n_written == 4);
    write_next(w.a, &w.sa, &cseq, &oseq, 5, 1);
    redis_server_until(w.loop, w.sa.n_written == 5);
    assert_true(w.sa.written_in_order && w.sa.n_fenced == 0);
    assert_int_equal(redis_number(&w, "XLEN hr:{t:1}:out"), 5);
    end(&w);
}

static void a_redis_that_went_back_is_noticed(void **state) {
    static const struct {
        const char *what, *command;
        bool reconnect;
    } cases[] = {
        {"everything is gone", "FLUSHALL", false},
        {"everything is gone and the connection was cut", "FLUSHALL", true},
        {"an older state was restored", "HSET hr:{t:1}:own cseq 3", false},
        {"an older state was restored and the connection was cut", "HSET hr:{t:1}:own cseq 3", true},
        {"a state of before the partition was taken", "HINCRBY hr:{t:1}:own epoch -1", false},
        {"the same, and the connection was cut", "HINCRBY hr:{t:1}:own epoch -1", true},
        {"somebody else took an older state", "HSET hr:{t:1}:own cseq 3 epoch 8999999999999", false},
        {"the same, and the connection was cut", "HSET hr:{t:1}:own cseq 3 epoch 8999999999999", true},
        {"somebody else took an older state under our epoch", "HSET hr:{t:1}:own start 0123456789abcdef", false},
        {"the same, and the connection was cut", "HSET hr:{t:1}:own start 0123456789abcdef", true},
        {"a newer state than ours", "HSET hr:{t:1}:own cseq 99", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world w = {0};
        begin(&w);
        uint64_t cseq = 0, oseq = 0;
        for (int k = 0; k < 10; k++) {
            write_next(w.a, &w.sa, &cseq, &oseq, 1, 1);
        }
        redis_server_until(w.loop, w.sa.n_written == 10);
        redis_server_run(&w.server, cases[i].command);
        if (cases[i].reconnect) {
            redis_server_run(&w.server, "CLIENT KILL TYPE normal SKIPME yes");
        } else {
            write_next(w.a, &w.sa, &cseq, &oseq, 1, 1);
        }
        redis_server_until(w.loop, w.sa.n_fenced == 1);
        if (strstr(w.sa.why, "ROLLBACK") == NULL) {
            fail_msg("%s: got '%s'", cases[i].what, w.sa.why);
        }
        assert_int_equal(w.sa.n_written, 10);
        end(&w);
    }
}

static void a_full_redis_delays_writes_and_loses_none(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, oseq = 0;
    write_next(w.a, &w.sa, &cseq, &oseq, 1, 1);
    redis_server_until(w.loop, w.sa.n_written == 1);
    redis_server_run(&w.server, "CONFIG SET maxmemory 1");
    for (int i = 0; i < 20; i++) {
        write_next(w.a, &w.sa, &cseq, &oseq, cseq + 1, 1);
    }
    int64_t until = clock_us() + 1200000; // longer than two tries
    redis_server_until(w.loop, clock_us() > until);
    assert_int_equal(w.sa.n_written, 1);
    assert_int_equal(store_pending(w.a), 20);
    assert_int_equal(redis_number(&w, "HGET hr:{t:1}:own cseq"), 1); // nothing half written
    redis_server_run(&w.server, "CONFIG SET maxmemory 0");
    write_next(w.a, &w.sa, &cseq, &oseq, cseq + 1, 1);
    redis_server_until(w.loop, w.sa.written == cseq);
    assert_int_equal(w.sa.n_written, cseq);
    assert_true(w.sa.written_in_order);
    assert_int_equal(w.sa.n_fenced, 0);
    end(&w);
}

static void ten_thousand_batches_come_back_once_each(void **state) {
    struct world w = {0};
    begin(&w);
    uint64_t cseq = 0, sum = 0;
    for (int i = 0; i < 100; i++) {
        struct txn *txn = txn_new(1);
        txn->epoch = w.sa.epoch;
        txn->cseq = ++cseq;
        for (uint64_t k = 0; k < 100; k++) {
            uint64_t id = (uint64_t)i * 100 + k + 1;
            sum += id;
            txn_put(txn, id, SLICE_LIT("0123456789"));
        }
        store_write(w.a, &txn);
    }
    redis_server_until(w.loop, w.sa.written == cseq);
    for (int cut = 0; cut < 2; cut++) { // the second time with the connection cut in the middle
        store_free(w.a);
        memset(&w.sa, 0, sizeof(w.sa));
        w.a = open_store(&w, "a", &w.sa);
        store_acquire(w.a, 1);
        if (cut) {
            redis_server_until(w.loop, w.sa.n_batches > 2000);
            redis_server_run(&w.server, "CLIENT KILL TYPE normal SKIPME yes");
            redis_server_until(w.loop, w.sa.n_lost == 1);
        }
        redis_server_until(w.loop, w.sa.n_recovered == 1);
        assert_int_equal(w.sa.n_acquired, 1);
        assert_int_equal(w.sa.n_batches, 10000);
        assert_int_equal(w.sa.batch_sum, sum);
        assert_int_equal(w.sa.blob_bytes, 100000);
    }

    end(&w);
}

static void settings_that_lose_data_are_refused(void **state) {
    static const struct {
        const char *what, *command;
        enum store_durability durability;
        const char *names; // what why must name; NULL: accepted
    } cases[] = {
        {"no append-only file", "CONFIG SET appendonly no", DURABILITY_ALWAYS, "appendonly"},
        {"fsync every second", "CONFIG SET appendfsync everysec", DURABILITY_ALWAYS, "appendfsync"},
        {"eviction", "CONFIG SET maxmemory-policy allkeys-lru", DURABILITY_ALWAYS, "maxmemory-policy"},
        {"every second is asked for", "CONFIG SET appendfsync everysec", DURABILITY_EVERYSEC, NULL},
        {"no fsync at all", "CONFIG SET appendfsync no", DURABILITY_EVERYSEC, "appendfsync"},
        {"anything goes", "CONFIG SET appendonly no", DURABILITY_NONE, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world w = {0};
        redis_server_start(&w.server);
        w.loop = loop_new();
        redis_server_run(&w.server, cases[i].command);
        const struct store_config config = {
            .redis = w.server.socket, .ns = "t", .n_partitions = 1, .owner = "a", .address = "",
            .lease_ms = LEASE_MS, .durability = cases[i].durability};
        const struct store_handlers handlers = {.on_ready = on_ready, .on_refused = on_refused,
                                                .on_lost = on_lost, .arg = &w.sa};
        struct error why;
        w.a = store_new(w.loop, &config, &handlers, &why);
        redis_server_until(w.loop, w.sa.n_ready + w.sa.n_refused == 1);
        if ((cases[i].names == NULL) != (w.sa.n_ready == 1) ||
            (cases[i].names != NULL && strstr(w.sa.why, cases[i].names) == NULL)) {
            fail_msg("%s: ready %d, why '%s'", cases[i].what, w.sa.n_ready, w.sa.why);
        }
        end(&w);
    }
}

static uint64_t hint_sum;
static int hint_done;
static void on_hint(void *arg, struct slice producer, uint64_t seq) {
    hint_sum += seq;
}
static void on_hints_done(void *arg) {
    hint_done++;
}

static void nobody_is_called_by_free(void **state) {
    struct world w = {0};
    begin(&w);
    struct got got = {0};
    int done_before = hint_done;
    store_read(w.a, 1, 1, 10, on_read, &got);
    store_hints(w.a, on_hint, on_hints_done, NULL);
    end(&w);
    assert_int_equal(got.n_calls, 0);
    assert_int_equal(hint_done, done_before);
}

static void hints_come_back(void **state) {
    struct world w = {0};
    begin(&w);
    store_hint(w.a, SLICE_LIT("p"), 5);
    store_hint(w.a, SLICE_LIT("p"), 9);
    store_hint(w.a, SLICE_LIT("q"), 100);
    store_hints(w.a, on_hint, on_hints_done, NULL);
    redis_server_until(w.loop, hint_done == 1);
    assert_int_equal(hint_sum, 109);
    end(&w);
}

static void a_bad_namespace_is_refused(void **state) {
    static const char *const bad[] = {"", "a b", "a{b", "a:b", "a}"};
    struct loop *loop = loop_new();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct store_config config = {.redis = "/nowhere/s", .ns = bad[i], .n_partitions = 1,
                                            .owner = "a", .lease_ms = 1000};
        struct error why = {{0}};
        assert_null(store_new(loop, &config, &(struct store_handlers){0}, &why));
        assert_non_null(strstr(why.text, "namespace"));
    }
    loop_free(loop);
}

int main(void) {
    log_setup("store_test", getenv("HR_TEST_LOG") != NULL ? LOG_DEBUG : LOG_ERROR);
    const struct CMUnitTest pure[] = {cmocka_unit_test(a_bad_namespace_is_refused)};
    int failed = cmocka_run_group_tests(pure, NULL, NULL);
    if (redis_server_missing()) {
        return failed;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_partition_is_empty),
        cmocka_unit_test(writes_are_confirmed_in_order_and_found_again),
        cmocka_unit_test(acks_trim_the_outbox),
        cmocka_unit_test(a_second_owner_waits_for_the_lease_and_fences),
        cmocka_unit_test(a_released_partition_is_free_at_once),
        cmocka_unit_test(a_killed_redis_loses_no_write_and_runs_none_twice),
        cmocka_unit_test(cut_connections_and_forgotten_scripts_cost_nothing),
        cmocka_unit_test(a_write_that_overtook_another_is_sent_again),
        cmocka_unit_test(a_redis_that_went_back_is_noticed),
        cmocka_unit_test(a_full_redis_delays_writes_and_loses_none),
        cmocka_unit_test(ten_thousand_batches_come_back_once_each),
        cmocka_unit_test(settings_that_lose_data_are_refused),
        cmocka_unit_test(hints_come_back),
        cmocka_unit_test(nobody_is_called_by_free),
    };
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
