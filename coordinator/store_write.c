// The numbered writes of a partition. Invariant: part->writes holds what is not confirmed, in the
// order of cseq, and only its head can be confirmed; a write leaves Redis' refusals and lost
// connections behind by being sent again. Called by store users (store_write) and store_own.c.
#include "coordinator/store_internal.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <utlist.h>

#define STALL_RETRY_MS 500 // a Redis that refuses writes is asked again after this

static void on_write_reply(void *arg, const redisReply *reply);

static void send_write(struct part *part, struct write *write) {
    static const enum part_key keys[] = {KEY_OWN, KEY_BAT, KEY_PRD, KEY_OUT, KEY_DLQ,
                                         KEY_CUR, KEY_SNT, KEY_USE, KEY_JOB};
    enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };
    char names[N_KEYS][STORE_KEY_MAX];
    char numbers[3][24], own[STORE_OWN_MAX];
    struct slice *args = mem_alloc((N_KEYS + write->txn->n_args + 3) * sizeof(*args));
    for (size_t i = 0; i < N_KEYS; i++) {
        args[i] = part_key(part, keys[i], names[i]);
    }
    size_t n = N_KEYS + txn_args(write->txn, numbers, args + N_KEYS);
    args[N_KEYS] = own_arg(part, own); // with who took the epoch
    write->sent = true;
    redis_script(part->store->redis, "part_write", on_write_reply, write, N_KEYS, n, args);
    free(args);
}

void part_send_writes(struct part *part) {
    struct write *write, *next;
    DL_FOREACH_SAFE(part->writes, write, next) {
        if (part->state != PART_OWNED || part->unsure || !part->store->usable) {
            return;
        }
        if (!write->sent) {
            send_write(part, write);
        }
        if (part->stalled) {
            return; // one is enough to see whether Redis takes writes again
        }
    }
}

static void write_free(struct write *write) {
    txn_free(write->txn);
    free(write);
}

void part_drop_writes(struct part *part) {
    struct write *write, *next;
    DL_FOREACH_SAFE(part->writes, write, next) {
        DL_DELETE(part->writes, write);
        part->store->n_pending--;
        write->dropped = true;
        if (!write->sent) {
            write_free(write);
        }
    }
}

void part_confirm(struct part *part, struct write *write) {
    struct store *store = part->store;
    uint64_t cseq = write->txn->cseq;
    assert(write == part->writes);
    DL_DELETE(part->writes, write);
    store->n_pending--;
    part->confirmed = cseq;
    write_free(write);
    if (part->stalled) {
        part->stalled = false;
        log_info("store.writes_again", "partition=%" PRIu32, part->id);
        part_send_writes(part);
    }
    store->handlers.on_written(store->handlers.arg, part->id, cseq);
    part_release_if_done(part);
}

// on_refused_write keeps the write; the whole row is sent again when the timer comes.
static void on_refused_write(struct part *part, const redisReply *reply) {
    if (!part->stalled) {
        part->stalled = true;
        log_error("store.write_refused", "partition=%" PRIu32 " reply=\"%s\"", part->id, reply->str);
    }
    loop_timer_start(part->timer, STALL_RETRY_MS, 0);
}

static void on_write_reply(void *arg, const redisReply *reply) {
    struct write *write = arg;
    struct part *part = write->part;
    write->sent = false;
    if (write->dropped) {
        write_free(write);
        return;
    }
    if (reply == NULL) {
        return; // sent again by part_resume
    }
    bool is_head = write == part->writes;
    if (reply->type != REDIS_REPLY_ERROR) {
        part_confirm(part, write);
        if (part->writes != NULL && !part->writes->sent && !part->stalled) {
            part_send_writes(part); // they had overtaken this one, and did not follow
        }
    } else if (reply_is_error(reply, "FENCED") || (is_head && reply_is_error(reply, "ROLLBACK"))) {
        part_fence(part, reply->str);
    } else if (is_head) {
        on_refused_write(part, reply);
    }
    // Not the head: its number did not follow, since its predecessor was refused, or came later: scripts that were
    // forgotten stop one write, and what another connection loads lets the next one through. It is sent again
    // with its predecessor, or once that is confirmed.
}

void store_write(struct store *store, struct txn **txn) {
    struct txn *taken = *txn;
    *txn = NULL;
    assert(taken->partition < store->config.n_partitions);
    struct part *part = &store->parts[taken->partition];
    if (part->state != PART_OWNED || taken->epoch != part->epoch) {
        txn_free(taken); // fenced: nothing written from here on counts
        return;
    }
    assert(taken->cseq == part->newest + 1);
    part->newest = taken->cseq;
    struct write *write = mem_zalloc(sizeof(*write));
    write->part = part;
    write->txn = taken;
    DL_APPEND(part->writes, write);
    store->n_pending++;
    // All before it are on their way, or it waits with them.
    if (!part->stalled && !part->unsure && store->usable) {
        send_write(part, write);
    }
}
