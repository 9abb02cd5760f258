// Who owns a partition, and its recovery. Invariant: between part_acquire's answer and part_fence
// every question to Redis carries the epoch or reads what only the epoch's owner writes, so a
// recovery that was cut off goes on at its step after the lease was confirmed again. Called by the
// store's users (store_acquire, store_release) and by store.c after each connect.
#include "coordinator/store_internal.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BATCHES 64  // batches read at once
#define ACQUIRE_MIN_MS 20 // wait at least this for another's lease to end
#define ACQUIRE_MAX_MS 1000 // ask at least so often: it may be released before

// A question to Redis on behalf of a partition; void when the generation has changed.
struct ask {
    struct part *part;
    uint32_t generation;
    int64_t asked_us; // a lease counts from here
};

static void *ask_new(struct part *part) {
    struct ask *ask = mem_zalloc(sizeof(*ask));
    *ask = (struct ask){.part = part, .generation = part->generation, .asked_us = clock_us()};
    return ask;
}

// note_lease keeps how long the partition is ours: Redis began to count after the question was asked.
static void note_lease(struct part *part, int64_t asked_us) {
    struct store *store = part->store;
    part->lease_until_us = asked_us + store->config.lease_ms * 1000;
    if (store->handlers.on_leased != NULL && part->state == PART_OWNED) {
        store->handlers.on_leased(store->handlers.arg, part->id, part->lease_until_us);
    }
}

// ask_end frees the question and returns its partition, or NULL when there is nothing to do:
// the connection was lost (part_resume asks again) or the partition has moved on.
static struct part *ask_end(void *arg, const redisReply *reply) {
    struct ask *ask = arg;
    struct part *part = ask->generation == ask->part->generation ? ask->part : NULL;
    free(ask);
    return reply != NULL ? part : NULL;
}

void part_fence(struct part *part, const char *what) {
    struct store *store = part->store;
    struct error why;
    error_set(&why, 0, "partition %" PRIu32 ": Redis refused epoch %" PRIu64 " and write %" PRIu64
                       ": %s",
              part->id, part->epoch, part->confirmed, what);
    log_error("store.fenced", "partition=%" PRIu32 " why=\"%s\"", part->id, what);
    part->state = PART_IDLE;
    part->generation++;
    part->stalled = part->unsure = false;
    if (part->releasing) {
        part->releasing = false;
        store->n_pending--;
    }
    loop_timer_stop(part->timer);
    part_drop_writes(part);
    bool rolled_back = slice_starts(slice_of(what), "ROLLBACK");
    store->handlers.on_fenced(store->handlers.arg, part->id, rolled_back, &why);
}

// on_odd_reply meets a refusal that is neither FENCED nor ROLLBACK: the same again a little later.
static void on_odd_reply(struct part *part, const redisReply *reply) {
    log_warn("store.refused", "partition=%" PRIu32 " reply=\"%s\"", part->id,
             reply->type == REDIS_REPLY_ERROR ? reply->str : "not of the expected form");
    loop_timer_start(part->timer, ACQUIRE_MAX_MS, 0);
}

static bool is_fencing(const redisReply *reply) {
    return reply_is_error(reply, "FENCED") || reply_is_error(reply, "ROLLBACK");
}

// ---- Recovery ----------------------------------------------------------------------------------

static void recover_step(struct part *part);

static void on_recovered(struct part *part) {
    struct store *store = part->store;
    part->state = PART_OWNED;
    free(part->ids);
    part->ids = NULL;
    if (store->handlers.on_leased != NULL) {
        store->handlers.on_leased(store->handlers.arg, part->id, part->lease_until_us);
    }
    store->handlers.on_recovered(store->handlers.arg, part->id);
}

// take_out reads the oldest entry of the outbox: its id is its last number, "n" how many it holds.
static bool take_out(struct part *part, const redisReply *reply) {
    struct store *store = part->store;
    uint64_t first = part->oseq + 1;
    if (reply->elements > 0) {
        const redisReply *entry = reply->element[0];
        const redisReply *fields = entry->elements == 2 ? entry->element[1] : NULL;
        uint64_t n = 0;
        if (fields == NULL || fields->elements < 4 || !reply_number(fields->element[1], &n)) {
            return false;
        }
        first = strtoull(entry->element[0]->str, NULL, 10) - n + 1;
    }
    store->handlers.on_acquired(store->handlers.arg, part->id, part->epoch, part->confirmed,
                                part->oseq, first);
    part->step = RECOVER_LETTERS;
    return true;
}

// take_letters reads how many dead letters there are.
static bool take_letters(struct part *part, const redisReply *reply) {
    const struct store_handlers *h = &part->store->handlers;
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0) {
        return false;
    }
    if (h->on_letters != NULL) {
        h->on_letters(h->arg, part->id, (uint64_t)reply->integer);
    }
    part->step = RECOVER_IDS;
    return true;
}

static int compare_ids(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool take_ids(struct part *part, const redisReply *reply) {
    free(part->ids);
    part->ids = mem_alloc(reply->elements * sizeof(*part->ids));
    part->n_ids = part->next_id = 0;
    for (size_t i = 0; i < reply->elements; i++) {
        if (!reply_number(reply->element[i], &part->ids[part->n_ids++])) {
            return false;
        }
    }
    if (part->n_ids > 0) {
        qsort(part->ids, part->n_ids, sizeof(*part->ids), compare_ids);
    }
    part->step = part->n_ids > 0 ? RECOVER_BATCHES : RECOVER_MARKS;
    return true;
}

static bool take_batches(struct part *part, const redisReply *reply) {
    struct store *store = part->store;
    for (size_t i = 0; i < reply->elements && part->next_id < part->n_ids; i++) {
        if (reply->element[i]->type != REDIS_REPLY_STRING) {
            return false;
        }
        uint64_t id = part->ids[part->next_id++];
        store->handlers.on_batch(store->handlers.arg, part->id, id, reply_slice(reply->element[i]));
    }
    if (part->next_id == part->n_ids) {
        part->step = RECOVER_MARKS;
    }
    return true;
}

// take_marks reads batch id, blob, batch id, blob, ...
static bool take_marks(struct part *part, const redisReply *reply) {
    const struct store_handlers *h = &part->store->handlers;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        uint64_t batch;
        if (!reply_number(reply->element[i], &batch) || reply->element[i + 1]->type != REDIS_REPLY_STRING) {
            return false;
        }
        if (h->on_mark != NULL) {
            h->on_mark(h->arg, part->id, batch, reply_slice(reply->element[i + 1]));
        }
    }
    part->step = RECOVER_PRODUCERS;
    return true;
}

// take_positions reads name, number, name, number, ...
static bool take_positions(struct part *part, const redisReply *reply,
                           void (*each)(void *arg, uint32_t partition, struct slice name,
                                        uint64_t number)) {
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        uint64_t number;
        if (!reply_number(reply->element[i + 1], &number)) {
            return false;
        }
        each(part->store->handlers.arg, part->id, reply_slice(reply->element[i]), number);
    }
    return true;
}

// take_spent reads field, amount, field, amount, ...
static bool take_spent(struct part *part, const redisReply *reply) {
    const struct store_handlers *h = &part->store->handlers;
    for (size_t i = 0; i + 1 < reply->elements && h->on_spent != NULL; i += 2) {
        const redisReply *amount = reply->element[i + 1];
        if (amount->type != REDIS_REPLY_STRING) {
            return false;
        }
        h->on_spent(h->arg, part->id, reply_slice(reply->element[i]), strtoll(amount->str, NULL, 10));
    }
    return true;
}

// take_jobs reads job id, blob, job id, blob, ...
static bool take_jobs(struct part *part, const redisReply *reply) {
    const struct store_handlers *h = &part->store->handlers;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        uint64_t job;
        if (!reply_number(reply->element[i], &job) || reply->element[i + 1]->type != REDIS_REPLY_STRING) {
            return false;
        }
        if (h->on_job != NULL) {
            h->on_job(h->arg, part->id, job, reply_slice(reply->element[i + 1]));
        }
    }
    return true;
}

static bool take_step(struct part *part, const redisReply *reply) {
    const struct store_handlers *h = &part->store->handlers;
    switch (part->step) {
    case RECOVER_OUT:
        return take_out(part, reply);
    case RECOVER_LETTERS:
        return take_letters(part, reply);
    case RECOVER_IDS:
        return take_ids(part, reply);
    case RECOVER_BATCHES:
        return take_batches(part, reply);
    case RECOVER_MARKS:
        return take_marks(part, reply);
    case RECOVER_PRODUCERS:
        part->step = RECOVER_CONSUMERS;
        return take_positions(part, reply, h->on_producer);
    case RECOVER_CONSUMERS:
        part->step = RECOVER_SPENT;
        return take_positions(part, reply, h->on_consumer);
    case RECOVER_SPENT:
        part->step = RECOVER_JOBS;
        return take_spent(part, reply);
    case RECOVER_JOBS:
        if (!take_jobs(part, reply)) {
            return false;
        }
        on_recovered(part);
        return true;
    }
    return false;
}

static void on_recover_reply(void *arg, const redisReply *reply) {
    struct part *part = ask_end(arg, reply);
    if (part == NULL) {
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        on_odd_reply(part, reply);
    } else if ((part->step != RECOVER_LETTERS && reply->type != REDIS_REPLY_ARRAY) || !take_step(part, reply)) {
        part_fence(part, "what it keeps for the partition is damaged");
    } else if (part->state == PART_RECOVERING) {
        recover_step(part);
    }
}

static void read_batches(struct part *part, struct slice key) {
    struct slice args[2 + CHUNK_BATCHES] = {SLICE_LIT("HMGET"), key};
    char texts[CHUNK_BATCHES][STORE_ARG_MAX];
    size_t n = 0;
    while (n < CHUNK_BATCHES && part->next_id + n < part->n_ids) {
        args[2 + n] = number_arg(part->ids[part->next_id + n], texts[n]);
        n++;
    }
    redis_command(part->store->redis, on_recover_reply, ask_new(part), 2 + n, args);
}

static void recover_step(struct part *part) {
    static const struct {
        enum part_key key;
        const char *command;
    } steps[] = {
        [RECOVER_OUT] = {KEY_OUT, "XRANGE"},     [RECOVER_LETTERS] = {KEY_DLQ, "XLEN"}, [RECOVER_IDS] = {KEY_BAT, "HKEYS"},
        [RECOVER_BATCHES] = {KEY_BAT, "HMGET"},  [RECOVER_MARKS] = {KEY_SNT, "HGETALL"},
        [RECOVER_PRODUCERS] = {KEY_PRD, "HGETALL"}, [RECOVER_CONSUMERS] = {KEY_CUR, "HGETALL"},
        [RECOVER_SPENT] = {KEY_USE, "HGETALL"},  [RECOVER_JOBS] = {KEY_JOB, "HGETALL"},
    };
    char name[STORE_KEY_MAX];
    struct slice key = part_key(part, steps[part->step].key, name);
    if (part->step == RECOVER_BATCHES) {
        read_batches(part, key);
        return;
    }
    const struct slice args[] = {slice_of(steps[part->step].command), key, SLICE_LIT("-"),
                                 SLICE_LIT("+"), SLICE_LIT("COUNT"), SLICE_LIT("1")};
    redis_command(part->store->redis, on_recover_reply, ask_new(part),
                  part->step == RECOVER_OUT ? 6 : 2, args);
}

// ---- Acquire, renew, release -------------------------------------------------------------------

static void on_held(struct part *part, const redisReply *reply) {
    uint64_t left_ms = 0;
    if (!reply_number(reply->element[2], &left_ms)) {
        left_ms = ACQUIRE_MAX_MS;
    }
    if (!part->told_held) {
        log_warn("store.held_by_other", "partition=%" PRIu32 " owner=%.*s lease_left_ms=%" PRIu64,
                 part->id, SLICE_FMT(reply_slice(reply->element[1])), left_ms);
        part->told_held = true;
    }
    left_ms += ACQUIRE_MIN_MS;
    loop_timer_start(part->timer, left_ms < ACQUIRE_MAX_MS ? (int64_t)left_ms : ACQUIRE_MAX_MS, 0);
}

static void on_acquire_reply(void *arg, const redisReply *reply) {
    int64_t asked_us = ((struct ask *)arg)->asked_us;
    struct part *part = ask_end(arg, reply);
    if (part == NULL) {
        return;
    }
    uint64_t got = 0;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3 ||
        !reply_number(reply->element[0], &got)) {
        on_odd_reply(part, reply);
        return;
    }
    if (got == 0) {
        on_held(part, reply);
        return;
    }
    if (reply->elements < 4 || !reply_number(reply->element[1], &part->epoch) ||
        !reply_number(reply->element[2], &part->confirmed) ||
        !reply_number(reply->element[3], &part->oseq)) {
        on_odd_reply(part, reply);
        return;
    }
    note_lease(part, asked_us);
    part->newest = part->confirmed;
    part->told_held = false;
    part->state = PART_RECOVERING;
    part->step = RECOVER_OUT;
    recover_step(part);
}

static void ask_acquire(struct part *part) {
    const struct store_config *config = &part->store->config;
    char name[STORE_KEY_MAX], lease[STORE_ARG_MAX];
    const struct slice args[] = {part_key(part, KEY_OWN, name), slice_of(config->owner),
                                 slice_of(config->address),
                                 number_arg((uint64_t)config->lease_ms, lease), slice_of(part->store->start)};
    redis_script(part->store->redis, "part_acquire", on_acquire_reply, ask_new(part), 1, 5, args);
}

// on_sure goes on after a reconnect: cseq is the last write that Redis has.
static void on_sure(struct part *part, uint64_t cseq) {
    uint32_t generation = part->generation;
    part->unsure = false;
    while (part->writes != NULL && part->writes->txn->cseq <= cseq) {
        part_confirm(part, part->writes);
        if (part->generation != generation) {
            return;
        }
    }
    if (part->state == PART_RECOVERING) {
        recover_step(part);
    } else {
        part_send_writes(part);
    }
}

static void on_renew_reply(void *arg, const redisReply *reply) {
    int64_t asked_us = ((struct ask *)arg)->asked_us;
    struct part *part = ask_end(arg, reply);
    if (part == NULL) {
        return;
    }
    uint64_t cseq = 0;
    if (is_fencing(reply)) {
        part_fence(part, reply->str);
    } else if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
               !reply_number(reply->element[0], &cseq)) {
        on_odd_reply(part, reply);
    } else if (cseq < part->confirmed || cseq > part->newest) {
        char what[120];
        snprintf(what, sizeof(what), "ROLLBACK it has write %" PRIu64 ", want %" PRIu64 "..%" PRIu64,
                 cseq, part->confirmed, part->newest);
        part_fence(part, what);
    } else {
        note_lease(part, asked_us);
        if (part->unsure) {
            on_sure(part, cseq);
        }
    }
}

static void ask_renew(struct part *part) {
    char name[STORE_KEY_MAX], own[STORE_OWN_MAX], lease[STORE_ARG_MAX], confirmed[STORE_ARG_MAX];
    const struct slice args[] = {part_key(part, KEY_OWN, name), own_arg(part, own),
                                 number_arg((uint64_t)part->store->config.lease_ms, lease),
                                 number_arg(part->confirmed, confirmed)};
    redis_script(part->store->redis, "part_renew", on_renew_reply, ask_new(part), 1, 4, args);
}

void on_renewal(void *arg) {
    struct store *store = arg;
    for (uint32_t i = 0; i < store->config.n_partitions && store->usable; i++) {
        struct part *part = &store->parts[i];
        if (part->state == PART_OWNED || part->state == PART_RECOVERING) {
            ask_renew(part);
        }
    }
}

void part_resume(struct part *part) {
    if (part->state == PART_ACQUIRING) {
        ask_acquire(part);
    } else if (part->state != PART_IDLE) {
        part->unsure = true;
        ask_renew(part);
    }
}

// on_part_timer tries again what Redis refused.
void on_part_timer(void *arg) {
    struct part *part = arg;
    if (!part->store->usable) {
        return; // part_resume will
    }
    if (part->state == PART_OWNED && !part->unsure) {
        part_send_writes(part);
    } else if (part->state == PART_RECOVERING && !part->unsure) {
        recover_step(part);
    } else {
        part_resume(part);
    }
}

void store_acquire(struct store *store, uint32_t partition) {
    struct part *part = &store->parts[partition];
    if (part->state != PART_IDLE) {
        return;
    }
    part->state = PART_ACQUIRING;
    part->generation++;
    if (store->usable) {
        ask_acquire(part);
    }
}

static void on_release_reply(void *arg, const redisReply *reply) {
    struct ask *ask = arg;
    struct store *store = ask->part->store;
    free(ask);
    store->n_pending--;
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
        log_warn("store.release_refused", "reply=\"%s\"", reply->str);
    }
}

void part_release_if_done(struct part *part) {
    if (!part->releasing || part->writes != NULL) {
        return;
    }
    part->releasing = false;
    part->state = PART_IDLE;
    part->generation++;
    loop_timer_stop(part->timer);
    char name[STORE_KEY_MAX], own[STORE_OWN_MAX];
    const struct slice args[] = {part_key(part, KEY_OWN, name), own_arg(part, own)};
    redis_script(part->store->redis, "part_release", on_release_reply, ask_new(part), 1, 2, args);
}

void store_release(struct store *store, uint32_t partition) {
    struct part *part = &store->parts[partition];
    if (part->state == PART_ACQUIRING) {
        part->state = PART_IDLE;
        part->generation++;
        loop_timer_stop(part->timer);
    } else if (part->state != PART_IDLE && !part->releasing) {
        part->releasing = true;
        store->n_pending++;
        part_release_if_done(part);
    }
}
