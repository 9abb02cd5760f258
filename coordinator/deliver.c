// From the outbox to consumers. Invariant, for each consumer and partition: acked <= sent <=
// durable_oseq; nothing above the least acked position of any known consumer is trimmed.
// The newest results are sent from memory; a consumer that is behind makes us read Redis.
// Called by partition (durable), core (messages, end of turn).
#include "coordinator/deliver.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/plant.h"
#include "coordinator/intake.h"
#include "coordinator/partition.h"
#include "coordinator/store.h"
#include "proto/result.h"

#include <errno.h>
#include <stdlib.h>

#define CACHE_MAX_BYTES (8 * 1024 * 1024) // of result blobs in memory, all partitions together
#define READ_ENTRIES 64                   // outbox entries asked for at once
#define SEND_MAX_RESULTS 1000             // results of one RESULTS message
#define SEND_MAX_BYTES (48 * 1024 * 1024) // of one RESULTS message; a single result is never longer
#define POSITION_US 10000                 // a position waits so long to be stored, with what follows in that time

// ---- The newest results, in memory --------------------------------------------------------------------

static void drop_oldest(struct core *core, struct partition *p) {
    struct cached *c = p->cached;
    p->found = p->found == c ? NULL : p->found;
    DL_DELETE(p->cached, c);
    core->cached_bytes -= (int64_t)c->blob.n;
    free((char *)c->blob.p);
    free(c);
}

static void cache_add(struct core *core, struct partition *p, uint64_t last_oseq, size_t n,
                      struct slice blob) {
    struct cached *c = mem_zalloc(sizeof(*c));
    c->last_oseq = last_oseq;
    c->n = n;
    c->blob = blob;
    DL_APPEND(p->cached, c);
    core->cached_bytes += (int64_t)blob.n;
    while (core->cached_bytes > CACHE_MAX_BYTES && p->cached->next != NULL) {
        drop_oldest(core, p);
    }
}

// cache_find returns the blob of a list that holds a result, or NULL. Looks at the newest first.
static struct cached *cache_find(struct cached *list, uint64_t oseq) {
    if (list == NULL) {
        return NULL;
    }
    struct cached *c = list->prev; // utlist: the head's prev is the tail
    for (;; c = c->prev) {
        if (oseq > c->last_oseq) {
            return NULL;
        }
        if (oseq > c->last_oseq - c->n) {
            return c;
        }
        if (c == list) {
            return NULL;
        }
    }
}

// newest_find looks where a consumer was last, and just behind, before it looks everywhere.
static struct cached *newest_find(struct partition *p, uint64_t oseq) {
    struct cached *c = p->found;
    c = c != NULL && oseq > c->last_oseq ? c->next : c;
    if (c == NULL || oseq > c->last_oseq || oseq <= c->last_oseq - c->n) {
        c = cache_find(p->cached, oseq);
    }
    p->found = c;
    return c;
}

void deliver_durable(struct core *core, struct partition *p, uint64_t last_oseq, size_t n,
                     struct slice blob) {
    p->durable_oseq = last_oseq;
    cache_add(core, p, last_oseq, n, blob);
}

static void drop_behind(struct cursor *cursor) {
    struct cached *c, *next;
    DL_FOREACH_SAFE(cursor->behind, c, next) {
        DL_DELETE(cursor->behind, c);
        free((char *)c->blob.p);
        free(c);
    }
}

void deliver_read(struct core *core, struct partition *p, bool ok, const struct store_entry *entries,
                  size_t n) {
    for (struct consumer *consumer = core->consumers; consumer != NULL; consumer = consumer->hh.next) {
        struct cursor *cursor = &consumer->cursors[p->index];
        if (!cursor->reading) {
            continue;
        }
        cursor->reading = false;
        drop_behind(cursor);
        size_t n_bytes = 0;
        for (size_t i = 0; ok && i < n && n_bytes < CACHE_MAX_BYTES; i++) {
            n_bytes += entries[i].blob.n;
            long count = result_blob_count(entries[i].blob);
            if (count <= 0 || entries[i].last_oseq > p->durable_oseq) {
                break;
            }
            struct cached *c = mem_zalloc(sizeof(*c));
            c->last_oseq = entries[i].last_oseq;
            c->n = (size_t)count;
            c->blob = (struct slice){.p = slice_dup(entries[i].blob), .n = entries[i].blob.n};
            DL_APPEND(cursor->behind, c);
        }
    }
}

void deliver_recovered(struct core *core, struct partition *p) {
    core->n_results += (int64_t)(p->oseq - (p->first_oseq - 1));
}

void deliver_forget(struct core *core, struct partition *p) {
    while (p->cached != NULL) {
        drop_oldest(core, p);
    }
}

// ---- Consumers ------------------------------------------------------------------------------------------

struct consumer *deliver_get(struct core *core, struct slice name) {
    struct consumer *c;
    HASH_FIND(hh, core->consumers, name.p, name.n, c);
    if (c == NULL) {
        c = mem_zalloc(sizeof(*c));
        c->name = slice_dup(name);
        c->cursors = mem_zalloc(core->config->n_partitions * sizeof(*c->cursors));
        HASH_ADD_KEYPTR(hh, core->consumers, c->name, name.n, c);
    }
    return c;
}

void deliver_free(struct core *core, struct consumer *consumer) {
    HASH_DEL(core->consumers, consumer);
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        drop_behind(&consumer->cursors[i]);
    }
    free(consumer->name);
    free(consumer->cursors);
    free(consumer);
}

static struct consumer *find_route(struct core *core, struct slice route) {
    for (struct consumer *c = core->consumers; c != NULL; c = c->hh.next) {
        if (route_is(&c->route, route)) {
            return c;
        }
    }
    return NULL;
}

static void refuse_former(struct core *core, struct consumer *c) {
    struct message refused = {
        .kind = MESSAGE_REFUSED,
        .refused = {.code = SLICE_LIT("superseded"),
                    .message = SLICE_LIT("another consumer of the same name has subscribed")},
    };
    (void)core->io->send(core->io->arg, route_slice(&c->route), &refused);
}

// keep_new makes the position of a new consumer part of the next write: a coordinator that started anew and
// did not find it would let others' acks trim what this consumer has not seen.
static void keep_new(struct core *core, struct consumer *c, uint32_t partition) {
    struct partition *p = &core->partitions[partition];
    c->cursors[partition].is_new = true;
    txn_consumer(partition_txn(p), slice_of(c->name), c->cursors[partition].acked);
    partition_after(p, (struct after){.kind = AFTER_CONSUMER, .consumer = c});
}

void deliver_subscribe(struct core *core, struct slice route, const struct message_subscribe *subscribe) {
    if (slice_starts(subscribe->consumer, "#")) {
        refuse(core, route, "bad-name", 0, "SUBSCRIBE: got consumer '%.*s', want a name without '#'",
               SLICE_FMT(subscribe->consumer));
        return;
    }
    if (subscribe->format.n > 0 && !slice_is(subscribe->format, "json") &&
        !slice_is(subscribe->format, "msgpack")) {
        refuse(core, route, "bad-format", 0, "SUBSCRIBE: got format '%.*s', want json or msgpack",
               SLICE_FMT(subscribe->format));
        return;
    }
    struct consumer *other = find_route(core, route);
    struct consumer *c = deliver_get(core, subscribe->consumer);
    if (c->route.n > 0 && !route_is(&c->route, route) && subscribe->incarnation > 0 &&
        subscribe->incarnation < c->incarnation) { // it stood somewhere on its way
        refuse(core, route, "superseded", 0, "a later start of the consumer '%s' is connected", c->name);
        return;
    }
    c->incarnation = subscribe->incarnation;
    if (other != NULL && other != c) {
        other->route.n = 0; // a connection speaks for one consumer: the newest
    }
    if (c->route.n > 0 && !route_is(&c->route, route)) {
        refuse_former(core, c);
    }
    route_set(&c->route, route);
    c->credit = (int64_t)subscribe->credit;
    c->json = !slice_is(subscribe->format, "msgpack");
    c->meta = subscribe->meta;
    c->n_unacked = 0;
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        struct cursor *cursor = &c->cursors[i];
        const struct partition *p = &core->partitions[i];
        if (!cursor->known) { // new: from the oldest result kept, or from now
            cursor->acked = subscribe->from_now ? p->durable_oseq : p->first_oseq - 1;
            cursor->known = true;
            keep_new(core, c, i);
        }
        cursor->sent = cursor->acked; // what is not acked is sent again
    }
    struct message subscribed = {.kind = MESSAGE_SUBSCRIBED,
                                 .subscribed = {.partitions = core->config->n_partitions}};
    if (core->io->send(core->io->arg, route, &subscribed) != 0) {
        c->route.n = 0;
        return;
    }
    log_info("consumer.subscribed", "consumer=%s credit=%lld", c->name, (long long)c->credit);
}

// keep_position has the position stored, soon: a write a result would be a third of all writes.
static void keep_position(const struct core *core, struct cursor *cursor) {
    if (!cursor->dirty) {
        cursor->dirty = true;
        cursor->due_us = core->now_us + POSITION_US;
    }
}

int deliver_ack(struct core *core, struct slice route, const struct message_ack *ack) {
    struct consumer *c = find_route(core, route);
    if (c == NULL) {
        return -ENOENT;
    }
    if (ack->partition >= core->config->n_partitions) {
        return -ERANGE;
    }
    struct cursor *cursor = &c->cursors[ack->partition];
    if (ack->upto > core->partitions[ack->partition].durable_oseq) {
        return -ERANGE;
    }
    if (ack->upto > cursor->acked) {
        // More than was sent since SUBSCRIBE: it was sent before that, and need not be sent again.
        uint64_t counted = ack->upto < cursor->sent ? ack->upto : cursor->sent;
        c->n_unacked -= (int64_t)(counted - cursor->acked);
        cursor->sent = ack->upto > cursor->sent ? ack->upto : cursor->sent;
        cursor->acked = ack->upto;
        keep_position(core, cursor);
    }
    return 0;
}

void deliver_gone(struct core *core, struct slice route) {
    struct consumer *c = find_route(core, route);
    if (c != NULL) {
        c->route.n = 0; // its position stays: it holds back trimming until it comes again
    }
}

// ---- Sending --------------------------------------------------------------------------------------------

// send_results sends at most *n results and says in *n how many it were.
static int send_results(struct core *core, struct consumer *c, struct partition *p,
                        const struct cached *blob, size_t from, size_t *n) {
    struct buf *text = &core->scratch;
    enum result_format format = c->json ? RESULT_JSON : RESULT_MSGPACK;
    int rc;
    for (;; *n /= 2) {
        buf_clear(text);
        rc = result_blob_expand(blob->blob, from, *n, format, c->meta, text);
        if (*n <= 1 || (rc != -EMSGSIZE && text->n <= SEND_MAX_BYTES)) {
            break;
        }
    }
    if (rc != 0) {
        log_error("outbox.damaged", "partition=%u last_oseq=%llu rc=%d", p->index,
                  (unsigned long long)blob->last_oseq, rc);
        return rc;
    }
    struct message message = {
        .kind = MESSAGE_RESULTS,
        .results = {.partition = p->index,
                    .first_oseq = c->cursors[p->index].sent + 1,
                    .count = *n,
                    .results = buf_slice(text)},
    };
    return core->io->send(core->io->arg, route_slice(&c->route), &message);
}

// push_results sends results one by one to the unacked consumers; returns how many they took.
static size_t push_results(struct core *core, struct consumer *c, const struct cached *blob, size_t from,
                           size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct buf *text = &core->scratch;
        buf_clear(text);
        int rc = result_blob_expand(blob->blob, from + i, 1, RESULT_JSON, c->meta, text);
        if (rc != 0) {
            log_error("outbox.damaged", "last_oseq=%llu rc=%d", (unsigned long long)blob->last_oseq, rc);
        } else if (core->io->push(core->io->arg, slice_trim(buf_slice(text))) != 0) {
            core->push_ready = false;
            return i;
        }
    }
    return n;
}

static bool has_room(const struct core *core, const struct consumer *c) {
    return c->is_push ? core->push_ready : c->route.n > 0 && c->n_unacked < c->credit;
}

// send_some sends one blob, or what credit allows of it; false: nothing to send from this partition.
static bool send_some(struct core *core, struct consumer *c, struct partition *p) {
    struct cursor *cursor = &c->cursors[p->index];
    if (p->state != PARTITION_OWNED || cursor->sent >= p->durable_oseq || cursor->reading ||
        cursor->is_new) {
        return false;
    }
    struct cached *blob = newest_find(p, cursor->sent + 1);
    blob = blob != NULL ? blob : cache_find(cursor->behind, cursor->sent + 1);
    if (blob == NULL) {
        cursor->reading = true;
        core->io->read(core->io->arg, p->index, cursor->sent + 1, READ_ENTRIES);
        return false;
    }
    size_t from = (size_t)(cursor->sent - (blob->last_oseq - blob->n));
    size_t n = blob->n - from;
    int64_t room = c->is_push ? SEND_MAX_RESULTS : c->credit - c->n_unacked;
    n = n < SEND_MAX_RESULTS ? n : SEND_MAX_RESULTS;
    n = (int64_t)n < room ? n : (size_t)room;
    if (c->is_push) {
        size_t n_sent = push_results(core, c, blob, from, n);
        cursor->sent += PLANT(PUSH_AGAIN) && n_sent < n ? 0 : n_sent;
        cursor->acked = cursor->sent; // sent is all there is to know without acks
        if (n_sent > 0) {
            keep_position(core, cursor);
        }
        core->status->results_delivered += n_sent;
        return n_sent > 0;
    }
    if (send_results(core, c, p, blob, from, &n) != 0) {
        c->route.n = 0;
        return false;
    }
    cursor->sent += n;
    c->n_unacked += (int64_t)n;
    core->status->results_delivered += n;
    return true;
}

static void pump_consumer(struct core *core, struct consumer *c) {
    uint32_t n = core->config->n_partitions, n_idle = 0;
    while (n_idle < n && has_room(core, c)) {
        c->next_partition = (c->next_partition + 1) % n;
        n_idle = send_some(core, c, &core->partitions[c->next_partition]) ? 0 : n_idle + 1;
    }
}

// trim_upto is the newest result that every known consumer has acked.
static uint64_t trim_upto(const struct core *core, const struct partition *p) {
    uint64_t least = p->durable_oseq;
    for (const struct consumer *c = core->consumers; c != NULL; c = c->hh.next) {
        const struct cursor *cursor = &c->cursors[p->index];
        if (cursor->known && cursor->acked < least) {
            least = cursor->acked;
        }
    }
    return least;
}

static void store_cursor(struct core *core, struct consumer *c, struct partition *p) {
    struct cursor *cursor = &c->cursors[p->index];
    cursor->dirty = false;
    uint64_t upto = trim_upto(core, p);
    core->io->ack(core->io->arg, p->index, slice_of(c->name), cursor->acked, upto);
    if (upto >= p->first_oseq) {
        core->n_results -= (int64_t)(upto + 1 - p->first_oseq);
        p->first_oseq = upto + 1;
    }
    while (p->cached != NULL && p->cached->last_oseq <= upto) {
        drop_oldest(core, p);
    }
}

void deliver_again(struct core *core) {
    for (struct consumer *c = core->consumers; c != NULL; c = c->hh.next) {
        for (uint32_t i = 0; i < core->config->n_partitions; i++) {
            c->cursors[i].dirty |= c->cursors[i].known;
            c->cursors[i].due_us = 0;
        }
    }
}

// store_positions stores those that are due by then.
static void store_positions(struct core *core, int64_t by_us) {
    for (struct consumer *c = core->consumers; c != NULL; c = c->hh.next) {
        for (uint32_t i = 0; i < core->config->n_partitions; i++) {
            struct cursor *cursor = &c->cursors[i];
            if (!cursor->dirty || core->partitions[i].state != PARTITION_OWNED) {
                continue;
            }
            if (cursor->due_us <= by_us) {
                store_cursor(core, c, &core->partitions[i]);
            } else if (cursor->due_us < core->next_position_us) {
                core->next_position_us = cursor->due_us;
            }
        }
    }
}

void deliver_pump(struct core *core) {
    if (!core->store_ready || !partition_all_leased(core)) {
        return;
    }
    for (struct consumer *c = core->consumers; c != NULL; c = c->hh.next) {
        pump_consumer(core, c);
    }
    bool is_filling = core->n_results >= core->config->max_results / 2; // and only stored positions make room
    store_positions(core, is_filling ? INT64_MAX : core->now_us);
}

void deliver_release(struct core *core) {
    store_positions(core, INT64_MAX);
}
