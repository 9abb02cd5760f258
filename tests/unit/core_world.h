// A small world around the core for tests: a store that is a few arrays, peers whose messages are
// caught, a clock that the test moves. Writes are confirmed only when the test says so.
#ifndef HEADRACE_TESTS_CORE_WORLD_H
#define HEADRACE_TESTS_CORE_WORLD_H

#include "common/mem.h"
#include "common/model.h"
#include "coordinator/core.h"
#include "coordinator/core_state.h"
#include "coordinator/store.h"
#include "proto/messages.h"
#include "proto/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define WORLD_MODELS 8
#define WORLD_KEEP 4096

struct world_sent {
    char route[ROUTE_MAX + 1];
    char *frame;
    size_t n;
    struct message message; // borrows from frame
};

// What "Redis" holds of one partition.
struct world_batch {
    uint64_t id;
    char *blob;
    size_t n;
};
struct world_out {
    uint64_t last_oseq;
    char *blob;
    size_t n;
};
struct world_partition {
    struct world_batch batches[WORLD_KEEP];
    size_t n_batches;
    struct world_batch marks[WORLD_KEEP]; // of batches; id 0: the tally
    size_t n_marks;
    struct world_out outs[WORLD_KEEP];
    size_t n_outs, n_dead;
    struct slice letter; // the newest dead one; owned
    struct {
        char name[64];
        uint64_t seq;
    } producers[16];
    size_t n_producers;
    struct {
        char name[64];
        uint64_t oseq;
    } consumers[8];
    size_t n_consumers;
    struct {
        char field[96];
        int64_t n;
    } uses[128];
    size_t n_uses;
    struct world_batch jobs[WORLD_KEEP / 16]; // rows of jobs
    size_t n_jobs;
    uint64_t cseq, oseq, trimmed;
};

struct world {
    struct core_config config;
    struct core_io io;
    struct status status;
    struct core *core;
    int64_t now_us;
    int n_positions; // of consumers, stored
    uint64_t epoch;
    struct statements models[WORLD_MODELS];
    size_t n_models;
    struct world_partition *partitions;
    struct txn *writes[WORLD_KEEP]; // not confirmed, oldest first
    size_t n_writes;
    struct world_sent sent[WORLD_KEEP];
    size_t n_sent;
    char *pushed[WORLD_KEEP];
    size_t n_pushed, push_room;
    double draw;
    int64_t day;
    char gone[ROUTE_MAX + 1]; // a route that cannot be reached
    struct {
        uint32_t partition;
        uint64_t from;
    } reads[64];
    size_t n_reads;
    uint64_t hint;
};

static inline void world_write(void *arg, struct txn **txn) {
    struct world *w = arg;
    assert_true(w->n_writes < WORLD_KEEP);
    w->writes[w->n_writes++] = *txn;
    *txn = NULL;
}

static inline int world_send(void *arg, struct slice route, const struct message *message) {
    struct world *w = arg;
    assert_true(w->n_sent < WORLD_KEEP);
    if (slice_is(route, w->gone)) {
        return -113; // EHOSTUNREACH
    }
    struct world_sent *s = &w->sent[w->n_sent++];
    snprintf(s->route, sizeof(s->route), "%.*s", SLICE_FMT(route));
    struct buf frame;
    buf_init(&frame, 1 << 24);
    assert_int_equal(message_pack(message, &frame), 0);
    s->n = frame.n;
    s->frame = buf_take(&frame);
    struct error why = {0};
    int rc = message_unpack((struct slice){.p = s->frame, .n = s->n}, &s->message, &why);
    if (rc != 0) {
        fail_msg("the core sent a message that cannot be read: %s", why.text);
    }
    return 0;
}

static inline int world_push(void *arg, struct slice result) {
    struct world *w = arg;
    if (w->push_room == 0) {
        return -11; // EAGAIN
    }
    w->push_room--;
    w->pushed[w->n_pushed++] = slice_dup(result);
    return 0;
}

static inline void world_position(struct world_partition *p, struct slice name, uint64_t oseq) {
    size_t i = 0;
    while (i < p->n_consumers && !slice_is(name, p->consumers[i].name)) {
        i++;
    }
    assert_true(i < sizeof(p->consumers) / sizeof(p->consumers[0]));
    if (i == p->n_consumers) {
        assert_true(slice_copy(name, p->consumers[p->n_consumers++].name, sizeof(p->consumers[0].name)));
    }
    p->consumers[i].oseq = oseq;
}

static inline void world_ack(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq,
                             uint64_t trim_upto) {
    struct world *w = arg;
    world_position(&w->partitions[partition], consumer, oseq);
    w->partitions[partition].trimmed = trim_upto;
    w->n_positions++;
}

static inline void world_read(void *arg, uint32_t partition, uint64_t from, size_t n) {
    struct world *w = arg;
    (void)n;
    w->reads[w->n_reads].partition = partition;
    w->reads[w->n_reads++].from = from;
}

static inline void world_hint(void *arg, struct slice producer, uint64_t seq) {
    struct world *w = arg;
    (void)producer;
    w->hint = seq;
}

static inline const struct model *world_model(void *arg, struct slice name, uint32_t revision) {
    struct world *w = arg;
    for (size_t i = w->n_models; i-- > 0;) {
        const struct model *m = w->models[i].items[0].model;
        if (slice_is(name, m->name) && (revision == 0 || revision == m->revision)) {
            return m;
        }
    }
    return NULL;
}

static inline double world_draw(void *arg) {
    return ((struct world *)arg)->draw;
}

static inline int64_t world_unix_ms(void *arg) {
    return 1000000000000 + ((struct world *)arg)->now_us / 1000;
}

static inline int64_t world_day(void *arg) {
    return ((struct world *)arg)->day;
}

// world_add_model makes a model `name` with INPUT (text STRING), OUTPUT (sentiment STRING).
static inline void world_add_model(struct world *w, const char *name, const char *options) {
    char sql[2048];
    snprintf(sql, sizeof(sql),
             "CREATE MODEL %s INPUT (text STRING) OUTPUT (sentiment STRING) WITH ('provider'='openai', "
             "'endpoint'='http://127.0.0.1:1/v1/chat/completions', 'model'='%s'%s%s)",
             name, name, options[0] != '\0' ? ", " : "", options);
    struct error why = {0};
    int rc = model_sql_parse(slice_of(sql), "test", &w->models[w->n_models], &why);
    if (rc != 0) {
        fail_msg("%s", why.text);
    }
    w->models[w->n_models].items[0].model->revision = 1;
    w->n_models++;
}

static inline void world_start(struct world *w) {
    w->core = core_new(&w->config, &w->io, &w->status);
    core_store_ready(w->core, true);
    w->epoch++;
    for (uint32_t i = 0; i < w->config.n_partitions; i++) {
        struct world_partition *p = &w->partitions[i];
        core_acquired(w->core, i, w->epoch, p->cseq, p->oseq, p->trimmed + 1);
        for (size_t j = 0; j < p->n_batches; j++) {
            struct slice blob = {.p = p->batches[j].blob, .n = p->batches[j].n};
            core_batch(w->core, w->now_us, i, p->batches[j].id, blob);
        }
        for (size_t j = 0; j < p->n_marks; j++) {
            struct slice blob = {.p = p->marks[j].blob, .n = p->marks[j].n};
            core_mark(w->core, i, p->marks[j].id, blob);
        }
        for (size_t j = 0; j < p->n_producers; j++) {
            core_producer(w->core, i, slice_of(p->producers[j].name), p->producers[j].seq);
        }
        for (size_t j = 0; j < p->n_consumers; j++) {
            core_consumer(w->core, i, slice_of(p->consumers[j].name), p->consumers[j].oseq);
        }
        for (size_t j = 0; j < p->n_uses; j++) {
            core_spent(w->core, slice_of(p->uses[j].field), p->uses[j].n);
        }
        for (size_t j = 0; j < p->n_jobs; j++) {
            struct slice blob = {.p = p->jobs[j].blob, .n = p->jobs[j].n};
            core_job(w->core, w->now_us, i, p->jobs[j].id, blob);
        }
        core_recovered(w->core, w->now_us, i);
    }
}

static inline struct world *world_new(uint32_t n_partitions, const char *options) {
    struct world *w = mem_zalloc(sizeof(*w));
    w->config = (struct core_config){.name = "test", .n_partitions = n_partitions,
                                     .max_bytes = 1 << 20, .max_results = 100000,
                                     .heartbeat_ms = 1000, .grace_ms = 3000, .default_model = "m"};
    w->io = (struct core_io){.write = world_write, .send = world_send, .push = world_push,
                             .ack = world_ack, .read = world_read, .hint = world_hint,
                             .model = world_model, .draw = world_draw, .day = world_day,
                             .unix_ms = world_unix_ms, .arg = w};
    w->partitions = mem_zalloc(n_partitions * sizeof(*w->partitions));
    w->now_us = 1000000;
    w->draw = 0.5;
    world_add_model(w, "m", options);
    return w;
}

static inline void world_forget_sent(struct world *w) {
    for (size_t i = 0; i < w->n_sent; i++) {
        free(w->sent[i].frame);
    }
    w->n_sent = 0;
}

// world_crash loses the core and every write that was not confirmed.
static inline void world_crash(struct world *w) {
    core_free(w->core);
    w->core = NULL;
    for (size_t i = 0; i < w->n_writes; i++) {
        txn_free(w->writes[i]);
    }
    w->n_writes = 0;
    world_forget_sent(w);
}

static inline void world_free(struct world *w) {
    world_crash(w);
    for (uint32_t i = 0; i < w->config.n_partitions; i++) {
        for (size_t j = 0; j < w->partitions[i].n_batches; j++) {
            free(w->partitions[i].batches[j].blob);
        }
        for (size_t j = 0; j < w->partitions[i].n_marks; j++) {
            free(w->partitions[i].marks[j].blob);
        }
        for (size_t j = 0; j < w->partitions[i].n_jobs; j++) {
            free(w->partitions[i].jobs[j].blob);
        }
        for (size_t j = 0; j < w->partitions[i].n_outs; j++) {
            free(w->partitions[i].outs[j].blob);
        }
        free((char *)w->partitions[i].letter.p);
    }
    for (size_t i = 0; i < w->n_models; i++) {
        statements_free(&w->models[i]);
    }
    for (size_t i = 0; i < w->n_pushed; i++) {
        free(w->pushed[i]);
    }
    free(w->partitions);
    free(w);
}

// ---- The store ------------------------------------------------------------------------------------

static inline void world_remove(struct world_batch *list, size_t *n, uint64_t id) {
    for (size_t i = 0; i < *n; i++) {
        if (list[i].id == id) {
            free(list[i].blob);
            list[i] = list[--*n];
            return;
        }
    }
}

static inline void world_remove_batch(struct world_partition *p, uint64_t id) {
    world_remove(p->batches, &p->n_batches, id);
}

static inline void world_producer(struct world_partition *p, struct slice name, uint64_t seq) {
    for (size_t i = 0; i < p->n_producers; i++) {
        if (slice_is(name, p->producers[i].name)) {
            assert_true(seq >= p->producers[i].seq);
            p->producers[i].seq = seq;
            return;
        }
    }
    slice_copy(name, p->producers[p->n_producers].name, 64);
    p->producers[p->n_producers++].seq = seq;
}

static inline void world_use(struct world_partition *p, struct slice field, int64_t amount) {
    size_t i = 0;
    while (i < p->n_uses && !slice_is(field, p->uses[i].field)) {
        i++;
    }
    assert_true(i < sizeof(p->uses) / sizeof(p->uses[0]));
    if (i == p->n_uses) {
        assert_true(slice_copy(field, p->uses[p->n_uses++].field, sizeof(p->uses[0].field)));
    }
    p->uses[i].n += amount;
}

static inline void world_apply(struct world *w, const struct txn *txn) {
    struct world_partition *p = &w->partitions[txn->partition];
    assert_int_equal(txn->epoch, w->epoch);
    assert_int_equal(txn->cseq, p->cseq + 1);
    struct slice *args = mem_alloc((txn->n_args + 3) * sizeof(*args));
    char numbers[3][24];
    size_t n = txn_args(txn, numbers, args);
    for (size_t i = 3; i < n;) {
        char op = args[i].p[0];
        char number[32] = "";
        if (op != 'L' && op != 'S') {
            slice_copy(args[i + 1], number, sizeof(number));
        }
        uint64_t id = strtoull(number, NULL, 10);
        switch (op) {
        case 'P':
            world_remove_batch(p, id);
            p->batches[p->n_batches++] =
                (struct world_batch){.id = id, .blob = slice_dup(args[i + 2]), .n = args[i + 2].n};
            i += 3;
            break;
        case 'D':
            world_remove_batch(p, id);
            i += 2;
            break;
        case 'M':
            world_remove(p->marks, &p->n_marks, id);
            p->marks[p->n_marks++] =
                (struct world_batch){.id = id, .blob = slice_dup(args[i + 2]), .n = args[i + 2].n};
            i += 3;
            break;
        case 'U':
            world_remove(p->marks, &p->n_marks, id);
            i += 2;
            break;
        case 'S':
            slice_copy(args[i + 2], number, sizeof(number));
            world_producer(p, args[i + 1], strtoull(number, NULL, 10));
            i += 3;
            break;
        case 'O':
            p->outs[p->n_outs++] =
                (struct world_out){.last_oseq = id, .blob = slice_dup(args[i + 2]), .n = args[i + 2].n};
            i += 3;
            break;
        case 'L':
            free((char *)p->letter.p);
            p->letter = (struct slice){.p = slice_dup(args[i + 1]), .n = args[i + 1].n};
            p->n_dead++;
            i += 2;
            break;
        case 'C':
            slice_copy(args[i + 2], number, sizeof(number));
            world_position(p, args[i + 1], strtoull(number, NULL, 10));
            i += 3;
            break;
        case 'A':
            slice_copy(args[i + 2], number, sizeof(number));
            world_use(p, args[i + 1], strtoll(number, NULL, 10));
            i += 3;
            break;
        case 'J':
            world_remove(p->jobs, &p->n_jobs, id);
            p->jobs[p->n_jobs++] =
                (struct world_batch){.id = id, .blob = slice_dup(args[i + 2]), .n = args[i + 2].n};
            i += 3;
            break;
        case 'K':
            world_remove(p->jobs, &p->n_jobs, id);
            i += 2;
            break;
        case 'X':
            p->n_dead--;
            i += 2;
            break;
        default:
            fail_msg("unknown operation %c", op);
        }
    }
    p->cseq = txn->cseq;
    p->oseq = txn->oseq;
    free(args);
}

// world_confirm makes every write durable and tells the core.
static inline void world_confirm(struct world *w) {
    for (size_t i = 0; i < w->n_writes; i++) {
        struct txn *txn = w->writes[i];
        world_apply(w, txn);
        core_written(w->core, w->now_us, txn->partition, txn->cseq);
        txn_free(txn);
    }
    w->n_writes = 0;
}

static inline void world_turn(struct world *w) {
    core_tick(w->core, w->now_us);
    core_turn_end(w->core, w->now_us);
}

// world_settle runs turns and confirms writes until nothing more is written.
static inline void world_settle(struct world *w) {
    world_turn(w);
    while (w->n_writes > 0) {
        world_confirm(w);
        world_turn(w);
    }
}

static inline void world_pass(struct world *w, int64_t ms) {
    w->now_us += ms * 1000;
    world_turn(w);
}

// ---- Peers ----------------------------------------------------------------------------------------

static inline void world_message(struct world *w, const char *route, struct message message) {
    assert_true(core_message(w->core, w->now_us, slice_of(route), &message));
}

static inline void world_hello(struct world *w, const char *route, uint64_t incarnation, uint64_t credit) {
    world_message(w, route, (struct message){.kind = MESSAGE_HELLO,
                                             .hello = {.worker = slice_of(route),
                                                       .incarnation = incarnation,
                                                       .version = SLICE_LIT("0"),
                                                       .max_inflight = credit,
                                                       .max_bytes = 1 << 30}});
}

static inline void world_open(struct world *w, const char *producer) {
    world_message(w, producer, (struct message){.kind = MESSAGE_OPEN,
                                                .open = {.producer = slice_of(producer),
                                                         .model = SLICE_LIT("m")}});
}

// world_append sends n rows {"text":"row SEQ"} from first_seq on.
static inline void world_append(struct world *w, const char *producer, uint64_t first_seq, size_t n) {
    struct buf rows;
    buf_init(&rows, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buf_addf(&rows, "{\"text\":\"row %zu\"}\n", (size_t)first_seq + i), 0);
    }
    world_message(w, producer, (struct message){.kind = MESSAGE_APPEND,
                                                .append = {.first_seq = first_seq, .count = n,
                                                           .records = buf_slice(&rows)}});
    buf_free(&rows);
}

// world_take finds the first caught message of a kind (and route, if not NULL) from *at on.
static inline struct message *world_find(struct world *w, size_t *at, const char *route,
                                         enum message_kind kind) {
    for (; *at < w->n_sent; (*at)++) {
        struct world_sent *s = &w->sent[*at];
        if (s->message.kind == kind && (route == NULL || strcmp(route, s->route) == 0)) {
            (*at)++;
            return &s->message;
        }
    }
    return NULL;
}

static inline size_t world_count(struct world *w, const char *route, enum message_kind kind) {
    size_t at = 0, n = 0;
    while (world_find(w, &at, route, kind) != NULL) {
        n++;
    }
    return n;
}

// world_report answers a DISPATCH: each of the first n_answered of its records with its own text in a
// msgpack array, the others not at all.
static inline void world_report(struct world *w, const char *route, const struct message_dispatch *d,
                                enum outcome outcome, size_t n_answered, size_t skip) {
    struct buf items;
    buf_init(&items, 1 << 20);
    struct slice rest = d->records, values;
    uint64_t slot;
    for (size_t i = 0; record_next(&rest, &slot, &values) > 0; i++) {
        if (i >= skip && i < skip + n_answered) {
            assert_int_equal(item_pack(&items, slot, OUTCOME_OK, values), 0);
        }
    }
    world_message(w, route, (struct message){.kind = MESSAGE_REPORT,
                                             .report = {.batch = d->batch, .call = d->call,
                                                        .outcome = slice_of(outcome_of(outcome)->text),
                                                        .items = buf_slice(&items),
                                                        .http_status = 200, .sent = true,
                                                        .usage_known = true, .input_tokens = 100,
                                                        .output_tokens = 10, .latency_us = 1000}});
    buf_free(&items);
}

// world_results appends every result in the outbox as JSON lines, partition by partition.
static inline void world_results(struct world *w, struct buf *out) {
    for (uint32_t i = 0; i < w->config.n_partitions; i++) {
        for (size_t j = 0; j < w->partitions[i].n_outs; j++) {
            struct slice blob = {.p = w->partitions[i].outs[j].blob, .n = w->partitions[i].outs[j].n};
            long n = result_blob_count(blob);
            assert_true(n > 0);
            assert_int_equal(result_blob_expand(blob, 0, (size_t)n, RESULT_JSON, false, out), 0);
        }
    }
}

static inline size_t count_text(const struct buf *text, const char *needle) {
    size_t n = 0;
    for (const char *p = text->p; p != NULL && (p = strstr(p, needle)) != NULL; p++) {
        n++;
    }
    return n;
}

// world_start_with opens a world with one worker of `credit` calls and the producer p1.
static inline struct world *world_start_with(uint32_t n_partitions, const char *options, uint64_t credit) {
    struct world *w = world_new(n_partitions, options);
    world_start(w);
    if (credit > 0) {
        world_hello(w, "w1", 1, credit);
    }
    world_open(w, "p1");
    return w;
}

static inline const struct message_dispatch *world_dispatch(struct world *w, size_t *at) {
    struct message *m = world_find(w, at, NULL, MESSAGE_DISPATCH);
    return m != NULL ? &m->dispatch : NULL;
}

static inline void world_collect(struct world *w, struct buf *out) {
    buf_init(out, 1 << 24);
    world_results(w, out);
}

static inline const struct message_refused *world_refused(struct world *w, const char *route) {
    size_t at = 0;
    struct message *m = world_find(w, &at, route, MESSAGE_REFUSED);
    return m != NULL ? &m->refused : NULL;
}

static inline void world_subscribe(struct world *w, const char *route, uint64_t credit) {
    world_message(w, route, (struct message){.kind = MESSAGE_SUBSCRIBE,
                                             .subscribe = {.consumer = SLICE_LIT("c"), .credit = credit}});
}

static inline void world_answer_all(struct world *w) {
    size_t at = 0;
    for (const struct message_dispatch *d; (d = world_dispatch(w, &at)) != NULL;) {
        world_report(w, "w1", d, OUTCOME_OK, d->count, 0);
        world_settle(w);
    }
}

#endif
