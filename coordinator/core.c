// The coordinator's decisions, put together. Every event sets core->now_us and goes to the module
// that knows; core_turn_end then lets each module do once what many events of a turn asked for:
//
//   workers (TAKEN) → dispatch (calls out) → partitions (one write each) → producers (acks) → consumers
//
// What the store says of a partition, until it is ours and when it is lost, goes to core_recover.c. Called by link.c,
// requests.c and main.c, or by a simulated world.
#include "coordinator/core.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/budget.h"
#include "coordinator/collect.h"
#include "coordinator/core_state.h"
#include "coordinator/deliver.h"
#include "coordinator/dispatch.h"
#include "coordinator/fill.h"
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

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    core->next_age_us = core->late_due_us = core->next_jobs_us = core->next_position_us = INT64_MAX;
    buf_init(&core->scratch, SCRATCH_MAX_BYTES);
    buf_init(&core->scratch2, SCRATCH_MAX_BYTES);
    if (config->has_push) {
        struct consumer *push = deliver_get(core, SLICE_LIT(DELIVER_PUSH_NAME));
        push->is_push = push->json = true;
        core->push_ready = true;
    }
    return core;
}

void core_free(struct core *core) {
    if (core == NULL) {
        return;
    }
    for (uint32_t i = 0; i < core->config->n_partitions; i++) {
        partition_forget(core, &core->partitions[i]);
    }
    fill_forget_all(core, NULL);
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

// ---- The store ------------------------------------------------------------------------------------------

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

void core_claimed(struct core *core, struct slice key, int64_t day, int64_t granted) {
    budget_claimed(core, key, day, granted);
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

// from_worker takes what a worker says; false: it is none of that. from_producer and from_consumer likewise.
static bool from_worker(struct core *core, struct slice route, const struct message *message) {
    switch (message->kind) {
    case MESSAGE_HELLO:
        roster_hello(core, route, &message->hello);
        return true;
    case MESSAGE_REPORT:
        collect_report(core, route, &message->report); // used whoever brings it
        (void)is_known(core, route);
        return true;
    case MESSAGE_MODEL_GET:
        if (is_known(core, route)) {
            on_model_get(core, route, &message->model_get);
        }
        return true;
    case MESSAGE_JOB_GOT:
        if (is_known(core, route)) {
            jobs_got(core, route, &message->job_got);
        }
        return true;
    case MESSAGE_JOB_DONE:
        if (is_known(core, route)) {
            jobs_done(core, route, &message->job_done);
        }
        return true;
    case MESSAGE_JOB_ANSWERS:
        if (is_known(core, route)) {
            jobs_answers(core, route, &message->job_answers);
        }
        return true;
    default:
        return false;
    }
}

static bool from_producer(struct core *core, struct slice route, const struct message *message) {
    switch (message->kind) {
    case MESSAGE_OPEN:
        intake_open(core, route, &message->open);
        return true;
    case MESSAGE_APPEND:
        intake_append(core, route, &message->append);
        return true;
    case MESSAGE_FLUSH:
        intake_flush(core, route);
        return true;
    default:
        return false;
    }
}

static bool from_consumer(struct core *core, struct slice route, const struct message *message) {
    switch (message->kind) {
    case MESSAGE_SUBSCRIBE:
        deliver_subscribe(core, route, &message->subscribe);
        return true;
    case MESSAGE_ACK:
        on_ack(core, route, &message->ack);
        return true;
    default:
        return false;
    }
}

// when_open takes what only a coordinator that has all of its partitions can deal with.
static void when_open(struct core *core, struct slice route, const struct message *message) {
    if (core->halted) {
        refuse(core, route, "stopped", 0, "the coordinator has lost its partitions: see its log");
    } else if (!core_is_open(core)) {
        refuse(core, route, "starting", 0, "the coordinator is not ready yet: try again in a moment");
    } else if (message->kind == MESSAGE_JOBS) {
        jobs_ask(core, route, &message->jobs);
    } else if (!from_worker(core, route, message) && !from_producer(core, route, message) &&
               !from_consumer(core, route, message)) {
        refuse(core, route, "bad-message", 0, "%s: a coordinator does not take this kind",
               message_name(message->kind));
    }
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
        when_open(core, route, message);
        return true;
    }
}

void core_frame(struct core *core, int64_t now_us, struct slice frame) {
    core->now_us = now_us;
    intake_frame(core, frame);
}

bool core_wants_frames(const struct core *core) {
    return core_is_open(core) && intake_has_room(core);
}

void core_release(struct core *core) {
    deliver_release(core);
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
    next = core->next_position_us < next ? core->next_position_us : next;
    return core->next_heartbeat_us < next ? core->next_heartbeat_us : next;
}

void core_turn_end(struct core *core, int64_t now_us) {
    core->now_us = now_us;
    core->stalled = core->n_results >= core->config->max_results;
    core->next_jobs_us = core->next_position_us = INT64_MAX;
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
