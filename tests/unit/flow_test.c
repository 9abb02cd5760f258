// Whose turn it is, and how much memory each may have.
// Against a store and peers that are a few arrays (core_world.h).
#include "core_world.h"

// Rows of one kind of submission; sequences count on from the producer's last.
struct submission {
    const char *producer;
    const char *options; // a JSON object
    uint64_t seq;        // of its last row
    size_t n_bytes;      // of a row's text; 0: a few
};

static void submit(struct world *w, struct submission *s, size_t n) {
    struct buf rows;
    buf_init(&rows, 1 << 22);
    char *text = mem_zalloc(s->n_bytes + 1);
    memset(text, 'x', s->n_bytes);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buf_addf(&rows, "{\"fields\":{\"text\":\"%s\"},\"options\":%s}\n", text, s->options), 0);
    }
    world_message(w, s->producer, (struct message){.kind = MESSAGE_APPEND,
                                                   .append = {.first_seq = s->seq + 1, .count = n,
                                                              .records = buf_slice(&rows)}});
    s->seq += n;
    free(text);
    buf_free(&rows);
}

static bool has(struct slice bytes, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= bytes.n; i++) {
        if (memcmp(bytes.p + i, text, n) == 0) {
            return true;
        }
    }
    return false;
}

// serve answers n calls, one after the other, and counts those whose overrides name each text.
static void serve(struct world *w, size_t n, const char *const *texts, size_t n_texts, size_t *counts) {
    memset(counts, 0, n_texts * sizeof(*counts));
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        const struct message_dispatch *d = world_dispatch(w, &at);
        assert_non_null(d);
        assert_null(world_dispatch(w, &at)); // one at a time
        for (size_t j = 0; j < n_texts; j++) {
            counts[j] += has(d->overrides, texts[j]);
        }
        world_report(w, "w1", d, OUTCOME_OK, d->count, 0);
        world_forget_sent(w);
        world_settle(w);
    }
}

static struct world *slow_world(const char *options) {
    char all[256];
    snprintf(all, sizeof(all), "'limit.concurrency'='1'%s%s", options[0] != '\0' ? ", " : "", options);
    return world_start_with(1, all, 8);
}

#define ASSERT_ABOUT(got, want) assert_in_range(got, (want) - 1, (want) + 1)

static void test_shares_converge_to_weights(void **state) {
    struct world *w = slow_world("");
    struct submission a = {.producer = "p1", .options = "{\"tenant\":\"alpha\",\"weight\":\"3\"}"};
    struct submission b = {.producer = "p2", .options = "{\"tenant\":\"beta\"}"};
    world_open(w, "p2");
    submit(w, &a, 300);
    submit(w, &b, 300);
    world_settle(w);
    size_t counts[2];
    serve(w, 200, (const char *const[]){"alpha", "beta"}, 2, counts);
    ASSERT_ABOUT(counts[0], 150);
    ASSERT_ABOUT(counts[1], 50);
    world_free(w);
}

static void test_shares_are_of_tokens_not_of_calls(void **state) {
    struct world *w = slow_world("");
    struct submission small = {.producer = "p1", .options = "{\"tenant\":\"small\"}", .n_bytes = 32};
    struct submission large = {.producer = "p2", .options = "{\"tenant\":\"large\"}", .n_bytes = 600};
    world_open(w, "p2");
    submit(w, &small, 300);
    submit(w, &large, 100);
    world_settle(w);
    size_t counts[2];
    serve(w, 200, (const char *const[]){"small", "large"}, 2, counts);
    double ratio = (double)counts[0] / (double)counts[1]; // 600 / 4 + 8 over 32 / 4 + 8, and some framing
    assert_true(ratio > 7.5 && ratio < 11);
    world_free(w);
}

static void test_an_idle_tenant_saves_nothing_up(void **state) {
    struct world *w = slow_world("");
    struct submission a = {.producer = "p1", .options = "{\"tenant\":\"alpha\"}"};
    struct submission b = {.producer = "p2", .options = "{\"tenant\":\"beta\"}"};
    world_open(w, "p2");
    submit(w, &b, 1);
    submit(w, &a, 300);
    world_settle(w);
    size_t counts[2];
    const char *const names[] = {"alpha", "beta"};
    serve(w, 101, names, 2, counts);
    assert_int_equal(counts[0], 100); // alone it has everything
    submit(w, &b, 100);
    world_settle(w);
    serve(w, 40, names, 2, counts);
    ASSERT_ABOUT(counts[0], 20);
    ASSERT_ABOUT(counts[1], 20);
    world_free(w);
}

static void test_a_tenant_with_two_models_has_one_share(void **state) {
    struct world *w = slow_world("");
    world_add_model(w, "other", "'limit.concurrency'='1'");
    struct submission a = {.producer = "p1", .options = "{\"tenant\":\"alpha\"}"};
    struct submission more = {.producer = "p2", .options = "{\"tenant\":\"alpha\",\"model\":\"m\"}"};
    struct submission b = {.producer = "p3", .options = "{\"tenant\":\"beta\"}"};
    world_message(w, "p2", (struct message){.kind = MESSAGE_OPEN,
                                            .open = {.producer = SLICE_LIT("p2"),
                                                     .model = SLICE_LIT("other")}});
    world_open(w, "p3");
    submit(w, &a, 200);
    submit(w, &more, 200);
    submit(w, &b, 200);
    world_settle(w);
    assert_int_equal(HASH_COUNT(w->core->pools), 2); // that of "other" itself, and the one they share
    size_t counts[2];
    serve(w, 120, (const char *const[]){"alpha", "beta"}, 2, counts);
    ASSERT_ABOUT(counts[0], 60);
    ASSERT_ABOUT(counts[1], 60);
    world_free(w);
}

static const char *const classes[] = {"interactive", "normal", "bulk"};
#define BULK {.producer = "p1", .options = "{\"priority\":\"bulk\"}"}
#define URGENT {.producer = "p2", .options = "{\"priority\":\"interactive\"}"}

static void test_the_urgent_go_first_and_nobody_starves(void **state) {
    static const struct {
        const char *text;
        size_t submitted[3], want[3]; // of 200 calls
    } cases[] = {
        {"all three", {300, 300, 300}, {170, 20, 10}},
        {"no normal ones", {300, 0, 300}, {190, 0, 10}},
        {"no interactive ones", {0, 300, 300}, {0, 190, 10}},
        {"bulk alone", {0, 0, 300}, {0, 0, 200}},
        {"interactive alone", {300, 0, 0}, {200, 0, 0}},
        {"a few interactive ones", {30, 300, 300}, {30, 160, 10}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *w = slow_world("");
        struct submission s[3] = {
            {.producer = "p1", .options = "{\"priority\":\"interactive\"}"},
            {.producer = "p2", .options = "{\"priority\":\"normal\"}"},
            {.producer = "p3", .options = "{\"priority\":\"bulk\"}"},
        };
        world_open(w, "p2");
        world_open(w, "p3");
        for (int j = 0; j < 3; j++) {
            submit(w, &s[j], cases[i].submitted[j]);
        }
        world_settle(w);
        size_t counts[3];
        serve(w, 200, classes, 3, counts);
        for (int j = 0; j < 3; j++) {
            if (counts[j] + 2 < cases[i].want[j] || counts[j] > cases[i].want[j] + 2) {
                fail_msg("%s: %s had %zu of 200 calls, want about %zu", cases[i].text, classes[j], counts[j],
                         cases[i].want[j]);
            }
        }
        world_free(w);
    }
}

static void test_an_interactive_call_waits_for_two_others_at_most(void **state) {
    struct world *w = slow_world("");
    struct submission bulk = BULK, urgent = URGENT;
    world_open(w, "p2");
    submit(w, &bulk, 500);
    world_settle(w);
    size_t counts[3];
    for (int i = 0; i < 20; i++) {
        serve(w, 7, classes, 3, counts);
        assert_int_equal(counts[2], 7);
        submit(w, &urgent, 1);
        world_settle(w);
        serve(w, 3, classes, 3, counts); // the one at the worker, one that bulk is owed, and this
        assert_int_equal(counts[0], 1);
    }
    world_free(w);
}

static void test_slots_are_kept_for_interactive_calls_while_there_are_any(void **state) {
    static const struct {
        const char *text, *options;
        uint64_t credit;
    } cases[] = {
        {"of the pool", "'limit.concurrency'='20'", 100},
        {"of the workers' credit", "", 20},
    };
    for (size_t i = 0; i < 2; i++) {
        struct world *w = world_start_with(1, cases[i].options, cases[i].credit);
        struct submission bulk = BULK, urgent = URGENT;
        world_open(w, "p2");
        submit(w, &urgent, 1);
        world_settle(w);
        world_answer_all(w);
        world_forget_sent(w);
        submit(w, &bulk, 100);
        world_settle(w);
        assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 18);
        submit(w, &urgent, 1);
        world_settle(w);
        assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 19); // at once
        submit(w, &urgent, 2);
        world_settle(w);
        assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 20);
        assert_int_equal(w->status.wait_interactive.count, 3);
        world_free(w);
        w = world_start_with(1, cases[i].options, cases[i].credit); // nobody has a use for it
        bulk.seq = 0;
        submit(w, &bulk, 100);
        world_settle(w);
        assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 20);
        world_free(w);
    }
}

// on_permit notes what the core asks of the shared limits, for a test to answer.
static struct permit_request asked;
static void on_permit(void *arg, struct slice pool, const struct permit_request *request) {
    (void)arg;
    (void)pool;
    asked = *request;
}

static void grant(struct world *w, int64_t calls) {
    const struct pool *pool = w->core->pools;
    int64_t n = asked.calls_want < calls ? asked.calls_want : calls;
    core_permits(w->core, w->now_us, slice_of(pool->name), &(struct permit_reply){.calls = n, .scale = 1});
    world_settle(w);
}

static void test_slots_are_kept_of_those_that_are_granted(void **state) {
    struct world *w = world_start_with(1, "'limit.concurrency'='20'", 100);
    struct submission bulk = BULK, urgent = URGENT;
    w->io.permit = on_permit;
    world_open(w, "p2");
    submit(w, &urgent, 1);
    world_settle(w);
    grant(w, 10);
    world_answer_all(w);
    world_forget_sent(w);
    submit(w, &bulk, 100);
    world_settle(w);
    world_pass(w, 300); // more is asked for
    world_settle(w);
    grant(w, 10); // the other half is somebody else's
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 9);
    submit(w, &urgent, 1);
    world_settle(w);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 10); // at once
    world_free(w);
}

static void test_kept_slots_are_given_back_after_a_minute(void **state) {
    struct world *w = world_start_with(1, "'limit.concurrency'='20'", 100);
    struct submission bulk = BULK, urgent = URGENT;
    world_open(w, "p2");
    submit(w, &urgent, 1);
    world_settle(w);
    world_answer_all(w);
    world_forget_sent(w);
    for (int i = 0; i <= 60; i++) {
        world_message(w, "w1", (struct message){.kind = MESSAGE_PING, .ping = {.worker = true}});
        world_pass(w, 1000);
    }
    world_forget_sent(w);
    submit(w, &bulk, 100);
    world_settle(w);
    assert_int_equal(world_count(w, NULL, MESSAGE_DISPATCH), 20);
    world_free(w);
}

static void test_an_aged_interactive_batch_goes_before_full_bulk_ones(void **state) {
    struct world *w = slow_world("'batch.size'='10', 'batch.timeout.ms'='50'");
    struct submission bulk = BULK, urgent = URGENT;
    world_open(w, "p2");
    submit(w, &bulk, 200);
    world_settle(w);
    submit(w, &urgent, 3);
    world_pass(w, 60);
    world_settle(w);
    submit(w, &urgent, 2); // not durable when its turn comes
    size_t counts[3];
    serve(w, 3, classes, 3, counts);
    assert_int_equal(counts[0], 1);
    world_free(w);
}

static void test_pools_take_turns_at_the_workers(void **state) {
    struct world *w = world_start_with(1, "", 1);
    struct submission first = {.producer = "p1", .options = "{\"model\":\"one\"}"};
    struct submission second = {.producer = "p2", .options = "{\"model\":\"two\"}"};
    world_open(w, "p2");
    submit(w, &first, 100);
    submit(w, &second, 100);
    world_settle(w);
    size_t counts[2];
    serve(w, 40, (const char *const[]){"one", "two"}, 2, counts);
    ASSERT_ABOUT(counts[0], 20);
    ASSERT_ABOUT(counts[1], 20);
    world_free(w);
}

static void test_what_is_made_again_goes_before_its_own_flow_only(void **state) {
    struct world *w = slow_world("");
    struct submission bulk = BULK, urgent = URGENT;
    world_open(w, "p2");
    submit(w, &bulk, 3);
    world_settle(w);
    size_t at = 0;
    struct message_dispatch lost = *world_dispatch(w, &at);
    submit(w, &urgent, 2);
    world_settle(w);
    world_report(w, "w1", &lost, OUTCOME_UNSENT, 0, 0);
    uint64_t batch = lost.batch;
    world_forget_sent(w);
    world_message(w, "w1", (struct message){.kind = MESSAGE_PING, .ping = {.worker = true}});
    world_settle(w);
    for (int i = 0; i < 2; i++) { // the ping's answer stands before the first
        at = 0;
        const struct message_dispatch *d = world_dispatch(w, &at);
        assert_true(has(d->overrides, "interactive"));
        world_report(w, "w1", d, OUTCOME_OK, 1, 0);
        world_forget_sent(w);
        world_settle(w);
        if (w->status.wait_bulk.count > 1) {
            break; // bulk had its floor between the two
        }
    }
    at = 0;
    assert_true(world_dispatch(w, &at)->batch == batch);
    world_free(w);
}

// ---- Memory -----------------------------------------------------------------------------------------

static uint64_t open_with(struct world *w, const char *producer, const char *name, const char *value) {
    struct buf options;
    buf_init(&options, 1024);
    char head[3] = {(char)0x81, (char)(0xA0 | strlen(name)), (char)(0xA0 | strlen(value))};
    assert_int_equal(buf_add(&options, head, 2), 0);
    assert_int_equal(buf_add_str(&options, name), 0);
    assert_int_equal(buf_add(&options, head + 2, 1), 0);
    assert_int_equal(buf_add_str(&options, value), 0);
    size_t at = w->n_sent;
    world_message(w, producer, (struct message){.kind = MESSAGE_OPEN,
                                                .open = {.producer = slice_of(producer),
                                                         .model = SLICE_LIT("m"),
                                                         .options = buf_slice(&options)}});
    buf_free(&options);
    const struct message *opened = world_find(w, &at, producer, MESSAGE_OPENED);
    assert_non_null(opened);
    return opened->opened.limit;
}

// fill sends rows of a kilobyte until the producer's credit is used up, which may grow meanwhile, or is taken
// back; returns how many were taken.
static uint64_t fill(struct world *w, const char *producer, uint64_t seq, uint64_t *limit) {
    char row[1100];
    memset(row, 'x', sizeof(row));
    memcpy(row, "{\"text\":\"", 9);
    memcpy(row + 1021, "\"}\n", 3);
    for (; seq < *limit; seq++) {
        size_t before = w->n_sent;
        world_message(w, producer, (struct message){.kind = MESSAGE_APPEND,
                                                    .append = {.first_seq = seq + 1, .count = 1,
                                                               .records = {.p = row, .n = 1024}}});
        size_t at = w->n_sent;
        world_settle(w);
        for (const struct message *m; (m = world_find(w, &at, producer, MESSAGE_ACKED)) != NULL;) {
            *limit = m->acked.limit;
        }
        const struct message *refused = world_find(w, &before, producer, MESSAGE_REFUSED);
        if (refused != NULL) { // credit was taken back: what was not accepted goes again later
            *limit = refused->refused.expected - 1;
            return *limit;
        }
    }
    return seq;
}

static void test_a_full_bulk_producer_keeps_nobody_out(void **state) {
    struct world *w = world_new(1, "'batch.size'='1'");
    world_start(w); // no worker: nothing leaves
    uint64_t limit = open_with(w, "bulk", "priority", "bulk");
    uint64_t seq = fill(w, "bulk", 0, &limit);
    assert_true(seq > 0 && w->core->n_bytes > w->config.max_bytes * 70 / 100); // promised before sizes are known
    static const struct {
        const char *producer, *name, *value;
        int64_t least; // hundredths of the memory
    } cases[] = {
        {"urgent", "priority", "interactive", 8},
        {"plain", "tenant", "a", 4},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t before = w->core->n_bytes;
        limit = open_with(w, cases[i].producer, cases[i].name, cases[i].value);
        seq = fill(w, cases[i].producer, 0, &limit);
        if ((w->core->n_bytes - before) * 110 < cases[i].least * w->config.max_bytes) {
            fail_msg("%s got %lld bytes, want about %lld %% of %lld", cases[i].producer,
                     (long long)(w->core->n_bytes - before), (long long)cases[i].least,
                     (long long)w->config.max_bytes);
        }
    }
    world_free(w);
}

static void test_memory_taken_back_goes_to_whoever_has_less(void **state) {
    struct world *w = world_new(1, "'batch.size'='1'");
    world_start(w);
    uint64_t limits[2], seqs[2] = {0};
    const char *const names[] = {"a", "b"};
    limits[0] = open_with(w, "a", "tenant", "a");
    seqs[0] = fill(w, "a", 0, &limits[0]);
    limits[1] = open_with(w, "b", "tenant", "b");
    world_hello(w, "w1", 1, 1);
    // Each call that ends frees a kilobyte, and both send as much as they may.
    for (int i = 0; i < 2000; i++) {
        size_t at = 0;
        world_settle(w);
        const struct message_dispatch *d = world_dispatch(w, &at);
        assert_non_null(d);
        world_report(w, "w1", d, OUTCOME_OK, 1, 0);
        world_settle(w);
        at = 0;
        for (int j = 0; j < 2; j++) {
            at = 0;
            for (const struct message *m; (m = world_find(w, &at, names[j], MESSAGE_ACKED)) != NULL;) {
                limits[j] = m->acked.limit;
            }
            seqs[j] = fill(w, names[j], seqs[j], &limits[j]);
        }
        struct world_sent *last = NULL; // keep the dispatch that is at the worker
        for (size_t k = 0; k < w->n_sent; k++) {
            if (w->sent[k].message.kind == MESSAGE_DISPATCH && last == NULL && &w->sent[k].message.dispatch != d) {
                last = &w->sent[k];
            }
        }
        struct world_sent kept = last != NULL ? *last : (struct world_sent){0};
        for (size_t k = 0; k < w->n_sent; k++) {
            if (&w->sent[k] != last) {
                free(w->sent[k].frame);
            }
        }
        w->n_sent = 0;
        if (last != NULL) {
            w->sent[w->n_sent++] = kept;
        }
    }
    int64_t held[2] = {0};
    for (struct pool *pool = w->core->pools; pool != NULL; pool = pool->hh.next) {
        for (struct flow *flow = pool->flows; flow != NULL; flow = flow->hh.next) {
            held[0] += strcmp(flow->tenant, "a") == 0 ? flow->n_bytes : 0;
            held[1] += strcmp(flow->tenant, "b") == 0 ? flow->n_bytes : 0;
        }
    }
    assert_true(held[1] * 10 >= held[0] * 8 && held[0] * 10 >= held[1] * 8);
    assert_true(w->core->n_bytes <= w->config.max_bytes);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_converge_to_weights),
        cmocka_unit_test(test_shares_are_of_tokens_not_of_calls),
        cmocka_unit_test(test_an_idle_tenant_saves_nothing_up),
        cmocka_unit_test(test_a_tenant_with_two_models_has_one_share),
        cmocka_unit_test(test_the_urgent_go_first_and_nobody_starves),
        cmocka_unit_test(test_an_interactive_call_waits_for_two_others_at_most),
        cmocka_unit_test(test_slots_are_kept_for_interactive_calls_while_there_are_any),
        cmocka_unit_test(test_slots_are_kept_of_those_that_are_granted),
        cmocka_unit_test(test_kept_slots_are_given_back_after_a_minute),
        cmocka_unit_test(test_an_aged_interactive_batch_goes_before_full_bulk_ones),
        cmocka_unit_test(test_pools_take_turns_at_the_workers),
        cmocka_unit_test(test_what_is_made_again_goes_before_its_own_flow_only),
        cmocka_unit_test(test_a_full_bulk_producer_keeps_nobody_out),
        cmocka_unit_test(test_memory_taken_back_goes_to_whoever_has_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
