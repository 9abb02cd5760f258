// The coordinator's decisions, put together. Every event sets core->now_us and goes to the module
// that knows; core_turn_end then lets each module do once what many events of a turn asked for:
//
//   workers (TAKEN) → dispatch (calls out) → partitions (one write each) → producers (acks) → consumers
//
// Called by link.c and main.c, or by a simulated world.
#include "coordinator/core.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/budget.h"
#include "coordinator/claim.h"
#include "coordinator/collect.h"
#include "coordinator/core_state.h"
#include "coordinator/deliver.h"
#include "coordinator/dispatch.h"
#include "coordinator/emit.h"
#include "coordinator/fill.h"
#include "coordinator/flow.h"
#include "coordinator/intake.h"
#include "coordinator/jobs.h"
#include "coordinator/late.h"
#include "coordinator/letter_room.h"
#include "coordinator/marks.h"
#include "coordinator/partition.h"
#include "coordinator/permits.h"
#include "coordinator/pools_status.h"
#include "coordinator/producer.h"
#include "coordinator/revise.h"
#include "coordinator/roster.h"
#include "coordinator/spend.h"
#include "coordinator/store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BATCH_MAX 2147483648.0              // half of the numbers that ids have room for
#define SCRATCH_MAX_BYTES (128 * 1024 * 1024) // more than the largest frame

struct slice route_slice(const struct route *route) {
    return (struct slice){.p = route->bytes, .n = route->n};
}

bool route_set(struct route *route, struct slice from) {
    if (from.n > sizeof(route->bytes)) {
        return false;
    }
    memcpy(route->bytes, from.p, from.n);
    route->n = (uint8_t)from.n;
    return true;
}

bool route_is(const struct route *route, struct slice bytes) {
    return route->n > 0 && slice_eq(route_slice(route), bytes);
}

// ---- Life -----------------------------------------------------------------------------------------------

struct core *core_new(const struct core_config *config, const struct core_io *io, struct status *status) {
    struct core *core = mem_zalloc(sizeof(*core));
    core->config = config;
    core->io = io;
    core->status = status;
    core->partitions = mem_zalloc(config->n_partitions * sizeof(*core->partitions));
    for (uint32_t i = 0; i < config->n_partitions; i++) {
        core->partitions[i].index = i;
        core->partitions[i].first_oseq = 1;
    }
    core->next_age_us = core->late_due_us = core->next_jobs_us = INT64_MAX;
    buf_init(&core->scratch, SCRATCH_MAX_BYTES);
    buf_init(&core->scratch2, SCRATCH_MAX_BYTES);
    if (config->has_push) {
        struct consumer *push = deliver_get(core, SLICE_LIT(DELIVER_PUSH_NAME));
        push->is_push = push->json = true;
        core->push_ready = true;
    }
    return core;
}

static void forget_batches(struct core *core, const struct partition *p) {
    struct batch *batch, *next;
    HASH_ITER(hh, core->batches, batch, next) {
        if (p == NULL || batch->lane->partition == p) {
            fill_forget(core, batch);
        }
    }
}

void core_free(struct core *core) {
    if (core == NULL) {
        return;
    }
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        partition_forget(core, &core->partitions[i]);
    }
    forget_batches(core, NULL);
    jobs_free(core);
    while (core->workers != NULL) {
        roster_free(core, core->workers);
    }
    while (core->groups != NULL) {
        group_free(core, core->groups);
    }
    while (core->producers != NULL) {
        producer_free(core, core->producers);
    }
    while (core->pools != NULL) {
        pool_free(core, core->pools);
    }
    while (core->consumers != NULL) {
        deliver_free(core, core->consumers);
    }
    late_forget_all(core);
    budget_free_all(core);
    estimate_forget(&core->learned);
    spend_free(core);
    free(core->waiting);
    buf_free(&core->scratch);
    buf_free(&core->scratch2);
    free(core->partitions);
    free(core);
}

// ---- Recovery and the store -----------------------------------------------------------------------------

void core_hint(struct core *core, struct slice producer, uint64_t seq) {
    struct producer *p = producer_get(core, producer);
    if (!core_is_open(core) && seq > p->acked) {
        p->acked = seq;
    }
}

void core_acquired(struct core *core, uint32_t partition, uint64_t epoch, uint64_t cseq, uint64_t oseq,
                   uint64_t first_oseq) {
    struct partition *p = &core->partitions[partition];
    p->state = PARTITION_RECOVERING;
    p->epoch = epoch;
    p->cseq = p->durable_cseq = cseq;
    p->oseq = p->durable_oseq = oseq;
    p->first_oseq = first_oseq;
    // An epoch may come twice where an older state of Redis was put back, and workers still answer for the
    // batches of the first time: most unlikely that two begin to count in the same place.
    p->next_batch = (uint32_t)(core->io->draw(core->io->arg) * FIRST_BATCH_MAX);
    p->lease_until_us = INT64_MAX;
}

void core_leased(struct core *core, uint32_t partition, int64_t until_us) {
    core->partitions[partition].lease_until_us = until_us;
}

static struct producer *on_batch_producer(void *arg, struct slice name) {
    return producer_get(arg, name);
}

static struct group *on_batch_group(void *arg, struct slice model, uint32_t revision, struct slice options) {
    int status;
    struct error why = {0};
    struct group *group = group_get(arg, model, revision, options, &status, &why);
    if (group == NULL) {
        log_error("batch.fallback", "model=%.*s revision=%u why=\"%s\"", SLICE_FMT(model), revision, why.text);
    }
    return group;
}

void core_batch(struct core *core, int64_t now_us, uint32_t partition, uint64_t id, struct slice blob) {
    core->now_us = now_us;
    struct slice model, options;
    uint32_t revision;
    struct error why = {0};
    int status = batch_peek(blob, &model, &revision, &options);
    struct group *g = status == 0 ? group_get(core, model, revision, options, &status, &why) : NULL;
    if (g == NULL) {
        log_error("batch.unreadable", "batch=%016" PRIx64 " rc=%d why=\"%s\" (it stays in Redis)", id,
                  status, why.text);
        return;
    }
    // Ids hold only part of the epoch: new ones start above those of the same part that are still there.
    struct partition *p = &core->partitions[partition];
    bool same_part = (id >> 32 & 0xFFFFF) == (p->epoch & 0xFFFFF);
    p->next_batch = same_part && (uint32_t)id > p->next_batch ? (uint32_t)id : p->next_batch;
    struct batch *batch = batch_new(id, &g->lanes[partition], now_us);
    batch->last_call = claim_first_number(p->epoch, id);
    g->pool->breaker.is_there = true; // this is not its first start
    if (batch_unpack(batch, blob, on_batch_producer, on_batch_group, core) != 0) {
        log_error("batch.damaged", "batch=%016" PRIx64 " (it stays in Redis)", id);
        batch_free(batch);
        return;
    }
    HASH_ADD(hh, core->batches, id, sizeof(batch->id), batch);
    DL_APPEND2(g->lanes[partition].batches, batch, lane_prev, lane_next);
    flow_hold(core, batch, (int64_t)batch_bytes(batch));
    core->n_records += (int64_t)batch->n_unanswered;
}

void core_mark(struct core *core, uint32_t partition, uint64_t batch, struct slice blob) {
    marks_read(core, &core->partitions[partition], batch, blob);
}

void core_producer(struct core *core, uint32_t partition, struct slice producer, uint64_t seq) {
    producer_get(core, producer)->recovered[partition] = seq;
}

void core_consumer(struct core *core, uint32_t partition, struct slice consumer, uint64_t oseq) {
    if (slice_is(consumer, DELIVER_PUSH_NAME) && !core->config->has_push) {
        return; // of an earlier start with a PUSH socket: it must not hold back trimming
    }
    struct cursor *cursor = &deliver_get(core, consumer)->cursors[partition];
    cursor->acked = cursor->sent = oseq;
    cursor->known = true;
}

void core_letters(struct core *core, uint32_t partition, uint64_t n) {
    letter_room_found(core, n);
}

void core_spent(struct core *core, struct slice field, int64_t value) {
    spend_recovered(core, field, value);
}

void core_job(struct core *core, int64_t now_us, uint32_t partition, uint64_t job, struct slice blob) {
    (void)partition; // the id says it
    core->now_us = now_us;
    jobs_restore(core, job, blob);
}

void core_claimed(struct core *core, struct slice key, int64_t day, int64_t granted) {
    budget_claimed(core, key, day, granted);
}

static int by_id(struct batch *a, struct batch *b) {
    return a->id < b->id ? -1 : a->id > b->id;
}

// start_lane makes the calls of a lane's recovered batches, in the order in which they were opened.
static void start_lane(struct core *core, struct lane *lane, int64_t not_before_us) {
    DL_SORT2(lane->batches, by_id, lane_prev, lane_next);
    struct batch *batch, *next;
    DL_FOREACH_SAFE2(lane->batches, batch, next, lane_next) {
        claim_recovered(core, batch, not_before_us);
        if (batch->n_unanswered == 0) {
            emit_ready(core, batch);
        }
    }
}

void core_recovered(struct core *core, int64_t now_us, uint32_t partition) {
    core->now_us = now_us;
    struct partition *p = &core->partitions[partition];
    p->state = PARTITION_OWNED;
    core->n_owned++;
    deliver_recovered(core, p); // counts what is there, before the lanes add to it
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        start_lane(core, &g->lanes[partition], now_us + core->config->grace_ms * 1000);
    }
    late_recovered(core, now_us + core->config->grace_ms * 1000);
    if (core->config->has_push) {
        struct cursor *cursor = &deliver_get(core, SLICE_LIT(DELIVER_PUSH_NAME))->cursors[partition];
        if (!cursor->known) {
            cursor->acked = cursor->sent = p->first_oseq - 1;
            cursor->known = true;
        }
    }
    if (core_is_open(core)) {
        jobs_open(core);
        for (struct producer *producer = core->producers; producer != NULL; producer = producer->hh.next) {
            producer_start(core, producer);
        }
        log_info("coordinator.open", "partitions=%u records=%lld", core->n_owned,
                 (long long)core->n_records);
    }
}

void core_fenced(struct core *core, uint32_t partition, const struct error *why) {
    struct partition *p = &core->partitions[partition];
    core->halted = true;
    if (p->state == PARTITION_OWNED) {
        core->n_owned--;
        core->n_results -= (int64_t)(p->oseq - (p->first_oseq - 1));
    }
    p->state = PARTITION_FENCED;
    p->fenced_why = *why;
    partition_forget(core, p);
    forget_batches(core, p);
}

void core_store_ready(struct core *core, bool ready) {
    core->store_ready = ready;
    if (ready) {
        deliver_again(core);
    }
}

void core_written(struct core *core, int64_t now_us, uint32_t partition, uint64_t cseq) {
    core->now_us = now_us;
    partition_written(core, &core->partitions[partition], cseq);
}

void core_outbox_read(struct core *core, uint32_t partition, bool ok, const struct store_entry *entries,
                      size_t n) {
    deliver_read(core, &core->partitions[partition], ok, entries, n);
}

void core_permits(struct core *core, int64_t now_us, struct slice pool, const struct permit_reply *reply) {
    core->now_us = now_us;
    permits_reply(core, pool, reply);
}

bool core_is_open(const struct core *core) {
    return core->n_owned == core->config->n_partitions && !core->halted;
}

// ---- Messages -------------------------------------------------------------------------------------------

static void on_bye(struct core *core, struct slice route) {
    struct worker *worker = roster_find(core, route);
    if (worker != NULL) {
        log_info("worker.bye", "worker=%s", worker->name);
        roster_lose(core, worker, "bye");
    }
    intake_gone(core, route);
    deliver_gone(core, route);
}

static void on_ping(struct core *core, struct slice route, const struct message_ping *ping) {
    struct worker *worker = roster_find(core, route);
    if (worker != NULL) {
        roster_seen(core, worker);
        worker->its_us = ping->time;
        roster_go_on(core, worker);
    } else if (ping->worker) { // lost meanwhile, or of before a restart
        refuse(core, route, "unknown-worker", 0, "the coordinator does not know this worker: say HELLO");
        return;
    }
    struct message pong = {.kind = MESSAGE_PONG, .pong = {.time = ping->time}};
    (void)core->io->send(core->io->arg, route, &pong);
}

static void on_model_get(struct core *core, struct slice route, const struct message_model_get *get) {
    const struct model *model = core->io->model(core->io->arg, get->model, (uint32_t)get->revision);
    struct buf *sql = &core->scratch;
    buf_clear(sql);
    if (model != NULL && model_to_sql(model, sql) != 0) {
        buf_clear(sql);
    }
    struct message answer = {
        .kind = MESSAGE_MODEL,
        .model = {.model = get->model, .revision = get->revision, .sql = buf_slice(sql)},
    };
    (void)core->io->send(core->io->arg, route, &answer);
}

static void on_ack(struct core *core, struct slice route, const struct message_ack *ack) {
    int rc = deliver_ack(core, route, ack);
    if (rc == -ENOENT) {
        refuse(core, route, "not-subscribed", 0, "ACK: got it before SUBSCRIBE");
    } else if (rc != 0) {
        refuse(core, route, "bad-ack", 0,
               "ACK: got partition %" PRIu64 " upto %" PRIu64 ", which was not sent", ack->partition,
               ack->upto);
    }
}

// is_known answers for messages that only make sense after HELLO.
static bool is_known(struct core *core, struct slice route) {
    struct worker *worker = roster_find(core, route);
    if (worker != NULL) {
        roster_seen(core, worker);
        return true;
    }
    refuse(core, route, "unknown-worker", 0, "the coordinator does not know this worker: say HELLO");
    return false;
}

bool core_message(struct core *core, int64_t now_us, struct slice route, const struct message *message) {
    core->now_us = now_us;
    if (route.n == 0 || route.n > ROUTE_MAX) {
        return true; // no ZeroMQ peer has such a name unless it chose it
    }
    switch (message->kind) {
    case MESSAGE_CREATE:
    case MESSAGE_STATUS_GET:
    case MESSAGE_LETTERS:
    case MESSAGE_RESUME:
        return false;
    case MESSAGE_BYE:
        on_bye(core, route);
        return true;
    case MESSAGE_PONG:
    case MESSAGE_REFUSED:
        return true;
    case MESSAGE_PING:
        on_ping(core, route, &message->ping);
        return true;
    default:
        break;
    }
    if (core->halted) {
        refuse(core, route, "stopped", 0, "the coordinator has lost its partitions: see its log");
        return true;
    }
    if (!core_is_open(core)) {
        refuse(core, route, "starting", 0, "the coordinator is not ready yet: try again in a moment");
        return true;
    }
    switch (message->kind) {
    case MESSAGE_HELLO:
        roster_hello(core, route, &message->hello);
        break;
    case MESSAGE_REPORT:
        collect_report(core, route, &message->report); // used whoever brings it
        (void)is_known(core, route);
        break;
    case MESSAGE_JOB_GOT:
        if (is_known(core, route)) {
            jobs_got(core, route, &message->job_got);
        }
        break;
    case MESSAGE_JOB_DONE:
        if (is_known(core, route)) {
            jobs_done(core, route, &message->job_done);
        }
        break;
    case MESSAGE_JOB_ANSWERS:
        if (is_known(core, route)) {
            jobs_answers(core, route, &message->job_answers);
        }
        break;
    case MESSAGE_JOBS:
        jobs_ask(core, route, &message->jobs);
        break;
    case MESSAGE_MODEL_GET:
        if (is_known(core, route)) {
            on_model_get(core, route, &message->model_get);
        }
        break;
    case MESSAGE_OPEN:
        intake_open(core, route, &message->open);
        break;
    case MESSAGE_APPEND:
        intake_append(core, route, &message->append);
        break;
    case MESSAGE_FLUSH:
        intake_flush(core, route);
        break;
    case MESSAGE_SUBSCRIBE:
        deliver_subscribe(core, route, &message->subscribe);
        break;
    case MESSAGE_ACK:
        on_ack(core, route, &message->ack);
        break;
    default:
        refuse(core, route, "bad-message", 0, "%s: a coordinator does not take this kind",
               message_name(message->kind));
    }
    return true;
}

void core_frame(struct core *core, int64_t now_us, struct slice frame) {
    core->now_us = now_us;
    intake_frame(core, frame);
}

bool core_wants_frames(const struct core *core) {
    return core_is_open(core) && intake_has_room(core);
}

void core_push_ready(struct core *core) {
    core->push_ready = true;
}

void core_models_changed(struct core *core, int64_t now_us) {
    core->now_us = now_us;
    for (struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        p->group = NULL; // the next row takes the newest revision
    }
    budget_models_changed(core);
    revise_models_changed(core);
    permits_models_changed(core);
}

int core_resume(struct core *core, int64_t now_us, struct slice pool, struct buf *out) {
    core->now_us = now_us;
    return permits_resume(core, pool, out);
}

// ---- Time -----------------------------------------------------------------------------------------------

// age_batches lets open batches go that have waited for batch.timeout.ms.
static void age_batches(struct core *core) {
    int64_t next = INT64_MAX;
    for (struct group *g = core->groups; g != NULL; g = g->hh.next) {
        for (uint32_t i = 0; i < core->config->n_partitions; i++) {
            struct batch *open = g->lanes[i].open;
            if (open != NULL && open->due_us <= core->now_us) {
                fill_due(core, open);
            }
            if (open != NULL && open->due_us < next) {
                next = open->due_us;
            }
        }
    }
    core->next_age_us = next;
}

void core_tick(struct core *core, int64_t now_us) {
    core->now_us = now_us;
    dispatch_wake(core);
    if (core->next_age_us <= now_us) {
        age_batches(core);
    }
    if (core->next_heartbeat_us <= now_us) {
        roster_tick(core);
        late_tick(core);
        marks_tick(core);
        core->next_heartbeat_us = now_us + core->config->heartbeat_ms * 1000 / 2;
    }
}

int64_t core_next_us(const struct core *core) {
    int64_t next = dispatch_next_us(core);
    next = core->next_age_us < next ? core->next_age_us : next;
    next = jobs_next_us(core) < next ? jobs_next_us(core) : next;
    return core->next_heartbeat_us < next ? core->next_heartbeat_us : next;
}

void core_turn_end(struct core *core, int64_t now_us) {
    core->now_us = now_us;
    core->stalled = core->n_results >= core->config->max_results;
    core->next_jobs_us = INT64_MAX;
    roster_flush(core); // before new calls: it is TAKEN that makes room at the worker
    if (core->store_ready && !core->halted) {
        letter_room_tick(core);
        jobs_list(core);
        dispatch_pump(core);
        jobs_pump(core);
        permits_pump(core);
        for (uint32_t i = 0; i < core->config->n_partitions; i++) {
            partition_flush(core, &core->partitions[i]);
        }
    }
    if (core_is_open(core)) {
        intake_acks(core);
        deliver_pump(core);
        groups_sweep(core);
    }
}

// ---- What people see --------------------------------------------------------------------------------------

void core_gauges(struct core *core) {
    struct status *s = core->status;
    s->inflight_calls = core->n_sent;
    s->queued_records = core->n_records;
    s->queued_bytes = core->n_bytes;
    s->outbox_results = core->n_results;
    s->dead_letters_kept = core->n_letters;
    s->ready_interactive = core->n_ready[PRIORITY_INTERACTIVE];
    s->ready_normal = core->n_ready[PRIORITY_NORMAL];
    s->ready_bulk = core->n_ready[PRIORITY_BULK];
    s->held_interactive = core->held_bytes[PRIORITY_INTERACTIVE];
    s->held_normal = core->held_bytes[PRIORITY_NORMAL];
    s->held_bulk = core->held_bytes[PRIORITY_BULK];
    s->partitions_owned = core->n_owned;
    s->workers = s->producers = s->consumers = s->pools_out = 0;
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        s->pools_out += pool->breaker.state != BREAKER_CLOSED;
    }
    pools_gauges(core);
    jobs_gauges(core);
    for (struct worker *w = core->workers; w != NULL; w = w->hh.next) {
        s->workers += !w->lost;
    }
    for (struct producer *p = core->producers; p != NULL; p = p->hh.next) {
        s->producers += p->route.n > 0;
    }
    for (struct consumer *c = core->consumers; c != NULL; c = c->hh.next) {
        s->consumers += c->route.n > 0;
    }
}

int core_limits_json(const struct core *core, int64_t now_us, struct buf *out) {
    return pools_json(core, now_us, out);
}

bool core_has_store(const struct core *core) {
    return core->store_ready;
}

int core_spend_json(const struct core *core, struct buf *out) {
    return spend_json(core, out);
}

int core_spend_metrics(const struct core *core, struct buf *out) {
    return spend_metrics(core, out);
}

void core_waiting(struct core *core, int64_t now_us, struct buf *out, const char **stopped) {
    int rc = 0;
    *stopped = NULL;
    const struct pool *blocked = NULL, *out_of_reach = NULL, *unserved = NULL;
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        if (pool->stopped != NULL && pool->n_ready + pool->n_due > 0) {
            *stopped = pool->stopped;
            rc = buf_addf(out, "stopped: %s: %s", pool->stopped, pool->stopped_why.text);
            break;
        }
        if (pool->blocked_until_us > now_us) {
            blocked = pool;
        }
        unserved = pool->n_ready + pool->n_due > 0 && !roster_has(core, pool) ? pool : unserved;
        out_of_reach = pool->breaker.state != BREAKER_CLOSED ? pool : out_of_reach;
    }
    if (*stopped != NULL || rc != 0 || budget_waiting(core, out)) {
        return;
    }
    const struct partition *fenced = NULL;
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        if (core->partitions[i].state == PARTITION_FENCED) {
            fenced = &core->partitions[i];
        }
    }
    if (fenced != NULL) {
        rc = buf_addf(out, "partition %u is stopped: %s", fenced->index, fenced->fenced_why.text);
    } else if (!core->store_ready) {
        rc = buf_add_str(out, "Redis is away");
    } else if (!core_is_open(core)) {
        rc = buf_addf(out, "%u of %u partitions recovered", core->n_owned, core->config->n_partitions);
    } else if (core->stalled) {
        rc = buf_add_str(out, "the outbox is full: consumers do not ack");
    } else if (core->n_records > 0 && HASH_COUNT(core->workers) == 0) {
        rc = buf_add_str(out, "no worker is connected");
    } else if (unserved != NULL) {
        rc = buf_addf(out, "no connected worker has the credential of %s", unserved->name);
    } else if (core->n_records > 0 && out_of_reach != NULL) {
        int64_t left_us = out_of_reach->breaker.until_us - now_us;
        rc = buf_addf(out, "the provider fails: one call tries again in %.1f s",
                      out_of_reach->breaker.state == BREAKER_OPEN && left_us > 0 ? (double)left_us / 1e6 : 0.0);
    } else if (blocked != NULL) {
        rc = buf_addf(out, "the provider asked to wait %.1f s",
                      (double)(blocked->blocked_until_us - now_us) / 1e6);
    } else {
        rc = jobs_waiting(core, out);
    }
    (void)rc; // a cut sentence is still a sentence
}
