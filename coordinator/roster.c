// Workers we know. Invariant: a worker is in the free list exactly when it may be sent one more call:
// connected, not resting, with credit in calls and in bytes. The list is used round robin.
// Called by core (messages, tick) and dispatch (load, unload).
#include "coordinator/roster.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/claim.h"
#include "coordinator/collect.h"
#include "coordinator/dispatch.h"
#include "coordinator/late.h"
#include "coordinator/permits.h"
#include "proto/frame.h"

#include <assert.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#define HEARTBEATS_TO_LOSE 3
#define TAKEN_MAX_BYTES (1024 * 1024 - 5) // bound of the field in messages.def, less its head

static void update_free(struct core *core, struct worker *w) {
    bool has_credit = !w->lost && !w->resting && !w->reserved && w->n_inflight + w->n_untaken < w->max_inflight &&
                      (w->n_bytes < w->max_bytes || w->n_inflight == 0);
    if (has_credit && !w->has_credit) {
        DL_APPEND2(core->free_workers, w, free_prev, free_next);
    } else if (!has_credit && w->has_credit) {
        DL_DELETE2(core->free_workers, w, free_prev, free_next);
    }
    w->has_credit = has_credit;
}

struct worker *roster_find(struct core *core, struct slice route) {
    struct worker *w;
    HASH_FIND(hh, core->workers, route.p, route.n, w);
    return w != NULL && !w->lost ? w : NULL;
}

void roster_seen(struct core *core, struct worker *worker) {
    worker->seen_us = core->now_us;
}

void roster_rest(struct core *core, struct worker *worker) {
    worker->resting = true;
    update_free(core, worker);
}

void roster_go_on(struct core *core, struct worker *worker) {
    worker->resting = false;
    update_free(core, worker);
}

bool roster_serves(const struct worker *worker, const struct pool *pool) {
    for (size_t i = 0; i < worker->n_lacks; i++) {
        if (worker->lacks[i] == pool->id) {
            return false;
        }
    }
    return true;
}

bool roster_has(const struct core *core, const struct pool *pool) {
    for (const struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        if (!w->lost && roster_serves(w, pool)) {
            return true;
        }
    }
    return false;
}

void roster_lacks(struct worker *worker, const struct pool *pool) {
    if (roster_serves(worker, pool)) {
        worker->lacks = mem_realloc(worker->lacks, (worker->n_lacks + 1) * sizeof(*worker->lacks));
        worker->lacks[worker->n_lacks++] = pool->id;
        log_warn("worker.no_credential", "worker=%s pool=%s", worker->name, pool->name);
    }
}

struct worker *roster_next(const struct core *core, const struct pool *pool) {
    struct worker *w = core->free_workers;
    while (w != NULL && !roster_serves(w, pool)) {
        w = w->free_next;
    }
    return w;
}

int64_t roster_room(const struct core *core, const struct pool *pool, int64_t most) {
    int64_t room = 0;
    for (const struct worker *w = core->free_workers; w != NULL && room < most; w = w->free_next) {
        room += roster_serves(w, pool) ? w->max_inflight - w->n_inflight - w->n_untaken : 0;
    }
    return room < most ? room : most;
}

void roster_reserve(struct core *core, struct worker *worker, bool reserved) {
    core->n_reserved += reserved && !worker->reserved;
    core->n_reserved -= !reserved && worker->reserved;
    worker->reserved = reserved;
    update_free(core, worker);
}

void roster_load(struct core *core, struct worker *worker, struct call *call) {
    call->worker = worker;
    DL_APPEND2(worker->calls, call, worker_prev, worker_next);
    worker->n_inflight++;
    worker->n_bytes += call->n_bytes;
    if (worker->has_credit) { // to the end: round robin
        DL_DELETE2(core->free_workers, worker, free_prev, free_next);
        worker->has_credit = false;
    }
    update_free(core, worker);
}

void roster_unload(struct core *core, struct call *call) {
    struct worker *w = call->worker;
    DL_DELETE2(w->calls, call, worker_prev, worker_next);
    w->n_inflight--;
    w->n_bytes -= call->n_bytes;
    call->worker = NULL;
    update_free(core, w);
}

void roster_lose(struct core *core, struct worker *worker, const char *reason) {
    if (worker->lost) {
        return;
    }
    worker->lost = true;
    update_free(core, worker);
    core->status->workers_lost++;
    log_warn("worker.lost", "worker=%s reason=%s inflight=%lld", worker->name, reason,
             (long long)worker->n_inflight);
}

void roster_free(struct core *core, struct worker *worker) {
    assert(worker->calls == NULL);
    roster_reserve(core, worker, false);
    if (worker->has_credit) {
        DL_DELETE2(core->free_workers, worker, free_prev, free_next);
    }
    HASH_DEL(core->workers, worker);
    free(worker->name);
    free(worker->lacks);
    buf_free(&worker->taken);
    free(worker);
}

// claim_call takes over one call: [batch, call, slots]. What is not of that form is passed over: its
// batch is then asked for again when the grace is over.
static void claim_call(struct core *core, struct worker *worker, const msgpack_object *o) {
    const msgpack_object *f = o->via.array.ptr;
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size != 3 ||
        f[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER || f[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        f[2].type != MSGPACK_OBJECT_ARRAY) {
        return;
    }
    bool expected = late_named(core, worker, f[0].via.u64, f[1].via.u64);
    struct batch *batch;
    HASH_FIND(hh, core->batches, &f[0].via.u64, sizeof(f[0].via.u64), batch);
    if (batch == NULL && expected) {
        return; // what it used is not known yet, nor whether it was answered: its REPORT says so
    }
    if (batch == NULL) {
        collect_taken(core, route_slice(&worker->route), f[0].via.u64, f[1].via.u64);
        return;
    }
    uint16_t slots[MODEL_BATCH_MAX];
    size_t n = 0;
    for (size_t i = 0; i < f[2].via.array.size && n < MODEL_BATCH_MAX; i++) {
        const msgpack_object *slot = &f[2].via.array.ptr[i];
        if (slot->type == MSGPACK_OBJECT_POSITIVE_INTEGER && slot->via.u64 < batch->n) {
            slots[n++] = (uint16_t)slot->via.u64;
        }
    }
    claim_take(core, batch, (uint32_t)f[1].via.u64, slots, n, worker);
}

// claim_held takes over the calls that a worker says it holds; what nobody waits for is TAKEN.
static void claim_held(struct core *core, struct worker *worker, struct slice held) {
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    // The scan first: the unpacker believes every declared count and reserves memory for it.
    if (frame_scan(held, 1, NULL) == 1 &&
        msgpack_unpack_next(&unpacked, held.p, held.n, NULL) == MSGPACK_UNPACK_SUCCESS &&
        unpacked.data.type == MSGPACK_OBJECT_ARRAY) {
        const msgpack_object_array *list = &unpacked.data.via.array;
        for (size_t i = 0; i < list->size; i++) {
            claim_call(core, worker, &list->ptr[i]);
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}

// settle_former deals with what an earlier connection of the same worker left: the same process no
// longer knows of a call that it did not claim, so it was never received; a process that was started
// anew will never answer.
static void settle_former(struct core *core, struct worker *former, bool same_process) {
    struct call *call, *next;
    DL_FOREACH_SAFE2(former->calls, call, next, worker_next) {
        if (same_process) {
            dispatch_return(core, call);
        } else {
            collect_lost(core, call);
        }
    }
    if (!same_process) {
        late_worker_gone(core, former);
    }
    if (!former->lost) {
        roster_lose(core, former, "reconnected");
    }
}

static struct worker *find_former(struct core *core, const struct worker *worker) {
    for (struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        bool same_process = w->incarnation == worker->incarnation;
        if (w != worker && slice_is(slice_of(worker->name), w->name) &&
            (same_process || (w->lost && w->incarnation < worker->incarnation))) {
            return w;
        }
    }
    return NULL;
}

// resume_keyless: this worker may have the credential that all others lacked.
static void resume_keyless(struct core *core) {
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        if (pool->is_keyless) {
            pool_resume(core, pool);
        }
    }
}

static struct worker *worker_new(struct core *core, struct slice route) {
    struct worker *w = mem_zalloc(sizeof(*w));
    route_set(&w->route, route);
    buf_init(&w->taken, TAKEN_MAX_BYTES);
    HASH_ADD(hh, core->workers, route.bytes, w->route.n, w);
    return w;
}

void roster_hello(struct core *core, struct slice route, const struct message_hello *hello) {
    struct worker *w;
    HASH_FIND(hh, core->workers, route.p, route.n, w);
    if (w == NULL) {
        w = worker_new(core, route);
        log_info("worker.hello", "worker=%.*s max_inflight=%llu version=%.*s", SLICE_FMT(hello->worker),
                 (unsigned long long)hello->max_inflight, SLICE_FMT(hello->version));
    }
    free(w->name);
    w->name = slice_dup(hello->worker);
    w->incarnation = hello->incarnation;
    w->its_us = hello->time;
    w->max_inflight = (int64_t)hello->max_inflight;
    w->max_bytes = hello->max_bytes < INT64_MAX ? (int64_t)hello->max_bytes : INT64_MAX;
    w->lost = w->resting = false;
    w->n_lacks = 0;
    w->n_untaken = 0; // what it still holds it claims
    w->seen_us = core->now_us;
    struct message welcome = {
        .kind = MESSAGE_WELCOME,
        .welcome = {.coordinator = slice_of(core->config->name),
                    .heartbeat_ms = (uint64_t)core->config->heartbeat_ms},
    };
    if (core->io->send(core->io->arg, route, &welcome) != 0) {
        roster_lose(core, w, "unreachable");
        return;
    }
    core->n_hellos++;
    resume_keyless(core);
    claim_held(core, w, hello->held);
    late_worker_back(core, w);
    for (struct worker *former; (former = find_former(core, w)) != NULL;) {
        settle_former(core, former, former->incarnation == w->incarnation);
        roster_free(core, former);
    }
    update_free(core, w);
}

static void send_taken(struct core *core, struct worker *w) {
    struct buf *calls = &core->scratch;
    buf_clear(calls);
    unsigned char head[5] = {0xDD, (unsigned char)(w->n_taken >> 24), (unsigned char)(w->n_taken >> 16),
                             (unsigned char)(w->n_taken >> 8), (unsigned char)w->n_taken};
    int rc = buf_add(calls, head, sizeof(head));
    rc |= buf_add_slice(calls, buf_slice(&w->taken));
    assert(rc == 0);
    struct message message = {.kind = MESSAGE_TAKEN, .taken = {.calls = buf_slice(calls)}};
    buf_clear(&w->taken);
    w->n_taken = 0;
    if (core->io->send(core->io->arg, route_slice(&w->route), &message) != 0) {
        roster_lose(core, w, "unreachable");
    }
}

void roster_reported(struct core *core, struct slice route) {
    struct worker *w = roster_find(core, route);
    if (w != NULL) {
        w->n_untaken++;
        update_free(core, w);
    }
}

void roster_taken(struct core *core, struct slice route, uint64_t batch, uint64_t call) {
    struct worker *w = roster_find(core, route);
    if (w == NULL) {
        return; // it will name the call in its next HELLO
    }
    w->n_untaken -= w->n_untaken > 0;
    update_free(core, w);
    unsigned char pair[1 + 9 + 9] = {0x92};
    size_t n = 1;
    const uint64_t numbers[2] = {batch, call};
    for (int i = 0; i < 2; i++) { // msgpack uint 64
        pair[n++] = 0xCF;
        for (int shift = 56; shift >= 0; shift -= 8) {
            pair[n++] = (unsigned char)(numbers[i] >> shift);
        }
    }
    if (buf_add(&w->taken, pair, n) != 0) {
        send_taken(core, w);
        int rc = buf_add(&w->taken, pair, n);
        assert(rc == 0);
    }
    w->n_taken++;
}

void roster_flush(struct core *core) {
    for (struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        if (w->n_taken > 0 && !w->lost) {
            send_taken(core, w);
        }
    }
}

// is_replaced says whether a process that was started later goes by the worker's name.
static bool is_replaced(const struct core *core, const struct worker *worker) {
    for (const struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        if (w != worker && w->incarnation > worker->incarnation && strcmp(w->name, worker->name) == 0) {
            return true;
        }
    }
    return false;
}

static void give_up_calls(struct core *core, struct worker *w) {
    struct call *call, *next;
    bool replaced = w->calls != NULL && is_replaced(core, w);
    DL_FOREACH_SAFE2(w->calls, call, next, worker_next) {
        int64_t lost_us =
            replaced ? 0 : call->group->model->options.worker_lost_ms * 1000;
        int64_t since_us = call->sent_us > w->seen_us ? call->sent_us : w->seen_us;
        if (core->now_us - since_us >= lost_us) {
            collect_lost(core, call);
        }
    }
}

void roster_tick(struct core *core) {
    int64_t silence_us = HEARTBEATS_TO_LOSE * core->config->heartbeat_ms * 1000;
    struct worker *w, *next;
    HASH_ITER(hh, core->workers, w, next) {
        if (!w->lost && core->now_us - w->seen_us > silence_us) {
            roster_lose(core, w, "silent");
        }
        if (w->lost) {
            give_up_calls(core, w);
            if (w->calls == NULL) {
                late_worker_gone(core, w);
                roster_free(core, w);
            }
        }
    }
}
