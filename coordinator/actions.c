// What the core asks for. Invariant: none of it waits: what Redis answers comes back as an event of the core.
// Called by the core alone, by way of struct core_io.
#include "coordinator/actions.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void io_write(void *arg, struct txn **txn) {
    struct coordinator *c = arg;
    store_write(c->store, txn);
}

static int io_send(void *arg, struct slice route, const struct message *message) {
    struct coordinator *c = arg;
    return link_send(c->link, route, message);
}

static int io_push(void *arg, struct slice result) {
    struct coordinator *c = arg;
    return link_push(c->link, result);
}

static void io_ack(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq,
                   uint64_t trim_upto) {
    struct coordinator *c = arg;
    store_ack(c->store, partition, consumer, oseq, trim_upto);
}

static void on_read(void *arg, uint32_t partition, bool ok, const struct store_entry *entries, size_t n) {
    struct coordinator *c = arg;
    core_outbox_read(c->core, partition, ok, entries, n);
}

static void io_read(void *arg, uint32_t partition, uint64_t from, size_t n) {
    struct coordinator *c = arg;
    store_read(c->store, partition, from, n, on_read, c);
}

static void io_hint(void *arg, struct slice producer, uint64_t seq) {
    struct coordinator *c = arg;
    store_hint(c->store, producer, seq);
}

static const struct model *io_model(void *arg, struct slice name, uint32_t revision) {
    struct coordinator *c = arg;
    return revision == 0 ? catalog_find(c->catalog, name) : catalog_revision(c->catalog, name, revision);
}

void actions_permits(void *arg, struct slice pool, const struct permit_reply *reply) {
    struct coordinator *c = arg;
    core_permits(c->core, clock_us(), pool, reply);
}

static void io_permit(void *arg, struct slice pool, const struct permit_request *request) {
    struct coordinator *c = arg;
    permit_store_sync(c->permits, pool, request);
}

static double io_draw(void *arg) {
    struct coordinator *c = arg;
    return erand48(c->random);
}

// A claim of a part of a day's budget, while Redis thinks about it.
struct claiming {
    struct coordinator *c;
    char key[64];
    int64_t day;
};

static void on_claimed(void *arg, const redisReply *reply) {
    struct claiming *claiming = arg;
    struct coordinator *c = claiming->c;
    bool ok = reply != NULL && reply->type == REDIS_REPLY_STRING;
    if (reply != NULL && !ok) {
        log_warn("budget.refused", "reply=\"%s\"", reply->type == REDIS_REPLY_ERROR ? reply->str : "");
    }
    if (c->core != NULL) {
        core_claimed(c->core, slice_of(claiming->key), claiming->day,
                     ok ? strtoll(reply->str, NULL, 10) : -1);
    }
    free(claiming);
}

static void io_claim(void *arg, struct slice key, int64_t day, int64_t want, int64_t need, int64_t limit) {
    struct coordinator *c = arg;
    struct claiming *claiming = mem_zalloc(sizeof(*claiming));
    claiming->c = c;
    claiming->day = day;
    slice_copy(key, claiming->key, sizeof(claiming->key));
    char name[128], numbers[3][24];
    int64_t amounts[3] = {want, need, limit};
    struct slice args[5];
    int n = snprintf(name, sizeof(name), "hr:{%.*s}:%" PRId64, SLICE_FMT(key), day);
    args[0] = (struct slice){.p = name, .n = (size_t)n};
    args[1] = slice_of(c->options.ns);
    for (size_t i = 0; i < 3; i++) {
        snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, amounts[i]);
        args[2 + i] = slice_of(numbers[i]);
    }
    redis_script(store_redis(c->store), "budget_claim", on_claimed, claiming, 1, 5, args);
}

static int64_t io_day(void *arg) {
    return clock_unix_ms() / 86400000;
}

static int64_t io_unix_ms(void *arg) {
    (void)arg;
    return clock_unix_ms();
}

struct core_io actions_io(struct coordinator *c) {
    return (struct core_io){
        .write = io_write,
        .send = io_send,
        .push = io_push,
        .ack = io_ack,
        .read = io_read,
        .hint = io_hint,
        .model = io_model,
        .draw = io_draw,
        .permit = io_permit,
        .day = io_day,
        .unix_ms = io_unix_ms,
        .claim = io_claim,
        .arg = c,
    };
}
