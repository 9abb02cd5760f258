// A coordinator process: the real core, and a model of coordinator/store*.c in front of the simulated
// Redis. Invariant: as there: the writes of a partition are confirmed in the order of their numbers; after
// a lost connection the lease is renewed first, and its answer says which of them ran.
// Called by links (messages), redis (lost) and faults (crash, start).
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENEW_US ((int64_t)LEASE_MS * 1000 / 3)
#define STALL_US 500000

static void on_turn(struct sim *sim, struct event *event);
static void on_tick(struct sim *sim, struct event *event);
static void send_writes(struct sim *sim, struct coord *c, uint32_t part);

// coord_event asks for the end of the turn, and for a tick when the core wants one.
void coord_event(struct sim *sim, struct coord *c) {
    if (c->core != NULL && !c->turn_due) {
        c->turn_due = true;
        sim_in(sim, (int64_t)sim_below(sim, 200), on_turn, &c->life, c);
    }
}

static void on_turn(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    c->turn_due = false;
    if (core_next_us(c->core) <= sim->now_us) {
        core_tick(c->core, sim->now_us);
    }
    core_turn_end(c->core, sim->now_us);
    int64_t next = core_next_us(c->core);
    if (next != INT64_MAX && next < c->next_tick_us) {
        c->next_tick_us = next;
        sim_at(sim, next > sim->now_us ? next : sim->now_us + 1, on_tick, &c->life, c);
    }
}

static void on_tick(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    c->next_tick_us = INT64_MAX;
    coord_event(sim, c);
}

// ---- Requests to Redis ------------------------------------------------------------------------------

static void on_reply(struct sim *sim, struct event *event);

static void on_request(struct sim *sim, struct event *event) {
    struct redis_request *r = event->p;
    struct coord *c = &sim->coords[r->coord];
    bool is_old = c->conn.on && c->conn.n != event->b;
    if (!sim->redis.life.on || is_old) {
        return; // what an old connection still carries comes before a new one is made, or never
    }
    redis_execute(sim, r);
    // The reply is lost with the connection; what was done stays done.
    if (!c->conn.on || c->conn.n != event->b) {
        return;
    }
    int64_t at = sim->now_us + sim_between(sim, 50, 3000);
    c->last_us[1] = at > c->last_us[1] ? at : c->last_us[1];
    struct event *reply = sim_at(sim, c->last_us[1], on_reply, &c->life, c);
    reply->b = event->b;
    reply->p = r;
    reply->drop = redis_request_free;
    event->p = NULL;
}

void coord_ask(struct sim *sim, struct coord *c, struct redis_request from) {
    if (!c->conn.on) {
        redis_request_free(memcpy(mem_alloc(sizeof(from)), &from, sizeof(from)));
        return;
    }
    int64_t at = sim->now_us + sim_between(sim, 50, 3000);
    c->last_us[0] = at > c->last_us[0] ? at : c->last_us[0];
    struct event *event = sim_at(sim, c->last_us[0], on_request, &sim->redis.life, NULL);
    from.coord = c->index;
    from.start = c->life.n << 8 | (uint64_t)c->index;
    from.asked_us = sim->now_us;
    event->p = mem_alloc(sizeof(from));
    memcpy(event->p, &from, sizeof(from));
    event->drop = redis_request_free;
    event->b = c->conn.n;
}

static void ask_part(struct sim *sim, struct coord *c, uint32_t part, enum redis_op op) {
    coord_ask(sim, c, (struct redis_request){
        .op = op, .part = part, .epoch = c->parts[part].epoch, .from = c->parts[part].confirmed});
}

// ---- Writes -----------------------------------------------------------------------------------------

static struct txn *txn_copy(const struct txn *txn) {
    struct txn *copy = txn_new(txn->partition);
    copy->epoch = txn->epoch;
    copy->cseq = txn->cseq;
    copy->oseq = txn->oseq;
    int rc = buf_add_slice(&copy->bytes, buf_slice(&txn->bytes));
    (void)rc; // the same ceiling
    copy->n_args = copy->cap_args = txn->n_args;
    copy->lengths = mem_alloc((txn->n_args + 1) * sizeof(*copy->lengths));
    memcpy(copy->lengths, txn->lengths, txn->n_args * sizeof(*copy->lengths));
    return copy;
}

static void send_writes(struct sim *sim, struct coord *c, uint32_t part) {
    struct coord_part *p = &c->parts[part];
    for (size_t i = 0; i < p->n_writes; i++) {
        if (p->state != PART_OWNED || p->unsure || !c->conn.on) {
            return;
        }
        if (!p->writes[i].sent) {
            p->writes[i].sent = true;
            coord_ask(sim, c, (struct redis_request){.op = REDIS_WRITE, .part = part, .epoch = p->epoch,
                                               .upto = p->writes[i].txn->cseq,
                                               .txn = txn_copy(p->writes[i].txn)});
        }
        if (p->stalled) {
            return;
        }
    }
}

static void drop_writes(struct coord_part *p) {
    for (size_t i = 0; i < p->n_writes; i++) {
        txn_free(p->writes[i].txn);
    }
    p->n_writes = 0;
}

// fence: coordinator/main.c ends on FENCED, and is started again; after ROLLBACK it stays and does nothing.
static void fence(struct sim *sim, struct coord *c, uint32_t part, const char *what) {
    struct coord_part *p = &c->parts[part];
    struct error why;
    error_set(&why, 0, "partition %u: %s", part, what);
    sim_trace(sim, "%s is fenced off partition %u: %s", c->name, part, what);
    p->state = PART_IDLE;
    p->unsure = p->stalled = false;
    drop_writes(p);
    if (strncmp(what, "ROLLBACK", 8) == 0) {
        c->alarmed = true;
    } else {
        c->fenced = true;
    }
    if (sim->rolled_back && c->index == sim->witness) {
        sim->alarmed_us = sim->now_us;
    }
    core_fenced(c->core, part, &why);
    coord_event(sim, c);
}

static void confirm(struct sim *sim, struct coord *c, uint32_t part) {
    struct coord_part *p = &c->parts[part];
    uint64_t cseq = p->writes[0].txn->cseq;
    txn_free(p->writes[0].txn);
    memmove(p->writes, p->writes + 1, --p->n_writes * sizeof(*p->writes));
    p->confirmed = cseq;
    if (p->stalled) {
        p->stalled = false;
        send_writes(sim, c, part);
    }
    core_written(c->core, sim->now_us, part, cseq);
    letters_written(c->letters, part, cseq);
}

static void on_stalled(struct sim *sim, struct event *event) {
    send_writes(sim, event->who, (uint32_t)event->a);
}

static void on_written(struct sim *sim, struct coord *c, struct redis_request *r) {
    struct coord_part *p = &c->parts[r->part];
    size_t i = 0;
    while (i < p->n_writes && p->writes[i].txn->cseq != r->upto) {
        i++;
    }
    if (i == p->n_writes || p->epoch != r->epoch) {
        return;
    }
    p->writes[i].sent = false;
    if (r->reply == REPLY_OK) {
        if (i != 0) {
            sim_fail(sim, "write %" PRIu64 " ran before write %" PRIu64, r->upto, p->writes[0].txn->cseq);
            return;
        }
        confirm(sim, c, r->part);
    } else if (r->reply == REPLY_FENCED || (i == 0 && r->reply == REPLY_ROLLBACK)) {
        fence(sim, c, r->part, r->reply == REPLY_FENCED ? "FENCED" : "ROLLBACK");
    } else if (i == 0) {
        p->stalled = true;
        sim_in(sim, STALL_US, on_stalled, &c->life, c)->a = r->part;
    }
}

// ---- Ownership --------------------------------------------------------------------------------------

static void on_ask_again(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    uint32_t part = (uint32_t)event->a;
    if (c->parts[part].state == PART_ACQUIRING) {
        ask_part(sim, c, part, REDIS_ACQUIRE);
    }
}

static void on_acquired(struct sim *sim, struct coord *c, struct redis_request *r) {
    struct coord_part *p = &c->parts[r->part];
    if (p->state != PART_ACQUIRING) {
        return;
    }
    if (r->reply == REPLY_HELD) {
        sim_in(sim, 500000, on_ask_again, &c->life, c)->a = r->part;
        return;
    }
    p->state = PART_RECOVERING;
    p->lease_until_us = r->asked_us + LEASE_MS * 1000;
    p->epoch = r->got_epoch;
    p->confirmed = p->newest = r->got_cseq;
    sim_trace(sim, "%s has partition %u, epoch %" PRIu64, c->name, r->part, p->epoch);
    coord_ask(sim, c, (struct redis_request){.op = REDIS_RECOVER, .part = r->part, .epoch = p->epoch,
                                       .got_cseq = r->got_cseq, .got_oseq = r->got_oseq});
}

static void on_recovered(struct sim *sim, struct coord *c, struct redis_request *r) {
    struct coord_part *p = &c->parts[r->part];
    const struct redis_part *kept = &sim->redis.parts[r->part];
    if (p->state != PART_RECOVERING || p->epoch != r->epoch) {
        return;
    }
    p->state = PART_OWNED;
    core_acquired(c->core, r->part, p->epoch, p->confirmed, kept->oseq, r->got_first);
    core_leased(c->core, r->part, p->lease_until_us);
    for (size_t i = 0; i < r->n_entries; i++) {
        core_batch(c->core, sim->now_us, r->part, r->entries[i].last_oseq, r->entries[i].blob);
    }
    uint64_t n_before = c->status.calls_ambiguous;
    for (size_t i = 0; i < kept->n_marks; i++) {
        struct slice blob = {.p = kept->marks[i].bytes, .n = kept->marks[i].n_bytes};
        core_mark(c->core, r->part, kept->marks[i].id, blob);
    }
    c->n_before += c->status.calls_ambiguous - n_before;
    for (size_t i = 0; i < PRODUCERS_MAX && kept->producers[i].name[0] != '\0'; i++) {
        core_producer(c->core, r->part, slice_of(kept->producers[i].name), kept->producers[i].n);
    }
    for (size_t i = 0; i < POSITIONS_MAX && kept->consumers[i].name[0] != '\0'; i++) {
        core_consumer(c->core, r->part, slice_of(kept->consumers[i].name), kept->consumers[i].n);
    }
    for (size_t i = 0; i < kept->n_jobs; i++) {
        struct slice blob = {.p = kept->jobs[i].bytes, .n = kept->jobs[i].n_bytes};
        core_job(c->core, sim->now_us, r->part, kept->jobs[i].id, blob);
    }
    core_recovered(c->core, sim->now_us, r->part);
    sim_trace(sim, "%s has recovered partition %u: %zu batches", c->name, r->part, r->n_entries);
}

static void on_renewed(struct sim *sim, struct coord *c, struct redis_request *r) {
    struct coord_part *p = &c->parts[r->part];
    if (p->epoch != r->epoch || (p->state != PART_OWNED && p->state != PART_RECOVERING)) {
        return;
    }
    if (r->reply != REPLY_OK) {
        fence(sim, c, r->part, r->reply == REPLY_FENCED ? "FENCED" : "ROLLBACK");
        return;
    }
    if ((r->got_cseq < p->confirmed || r->got_cseq > p->newest) && !PLANT(MISS_ROLLBACK)) {
        fence(sim, c, r->part, "ROLLBACK it lost writes");
        return;
    }
    p->lease_until_us = r->asked_us + LEASE_MS * 1000;
    core_leased(c->core, r->part, p->lease_until_us);
    if (p->unsure) {
        p->unsure = false;
        while (p->n_writes > 0 && p->writes[0].txn->cseq <= r->got_cseq) {
            confirm(sim, c, r->part);
        }
        if (p->state == PART_RECOVERING) {
            coord_ask(sim, c, (struct redis_request){.op = REDIS_RECOVER, .part = r->part, .epoch = p->epoch});
        } else {
            send_writes(sim, c, r->part);
        }
    }
}

static void on_renewal(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        if (c->parts[i].state == PART_OWNED || c->parts[i].state == PART_RECOVERING) {
            ask_part(sim, c, i, REDIS_RENEW);
        }
    }
    sim_in(sim, RENEW_US, on_renewal, &c->life, c);
}

static void on_reply(struct sim *sim, struct event *event) {
    struct redis_request *r = event->p;
    struct coord *c = event->who;
    if (c->conn.n != event->b) {
        return;
    }
    switch (r->op) {
    case REDIS_ACQUIRE:
        on_acquired(sim, c, r);
        break;
    case REDIS_RECOVER:
        on_recovered(sim, c, r);
        break;
    case REDIS_RENEW:
        on_renewed(sim, c, r);
        break;
    case REDIS_WRITE:
        on_written(sim, c, r);
        break;
    case REDIS_ACK:
        break;
    case REDIS_READ:
        core_outbox_read(c->core, r->part, true, r->entries, r->n_entries);
        break;
    case REDIS_LETTERS:
        coord_letters_read(c, r);
        break;
    }
    coord_event(sim, c);
}

static void on_reconnect(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    if (!sim->redis.life.on) {
        sim_in(sim, sim_between(sim, 50000, 1000000), on_reconnect, &c->life, c);
        return;
    }
    life_start(&c->conn);
    core_store_ready(c->core, true);
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        struct coord_part *p = &c->parts[i];
        if (p->state == PART_ACQUIRING) {
            ask_part(sim, c, i, REDIS_ACQUIRE);
        } else if (p->state != PART_IDLE) {
            p->unsure = true;
            ask_part(sim, c, i, REDIS_RENEW);
        }
    }
    coord_event(sim, c);
}

static void on_lost(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    core_store_ready(c->core, false);
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        for (size_t k = 0; k < c->parts[i].n_writes; k++) {
            c->parts[i].writes[k].sent = false;
        }
        core_outbox_read(c->core, i, false, NULL, 0); // readings end with the connection
    }
    coord_letters_read(c, NULL);
    coord_event(sim, c);
    sim_in(sim, sim_between(sim, 50000, 1000000), on_reconnect, &c->life, c);
}

void coord_lose_redis(struct sim *sim, struct coord *c) {
    if (c->life.on && c->conn.on) {
        sim_trace(sim, "%s has lost redis", c->name);
        life_end(&c->conn);
        sim_in(sim, 0, on_lost, &c->life, c);
    }
}

// ---- What the core asks for -------------------------------------------------------------------------

static void io_write(void *arg, struct txn **txn) {
    struct coord *c = arg;
    struct txn *taken = *txn;
    struct coord_part *p = &c->parts[taken->partition];
    *txn = NULL;
    if (p->state != PART_OWNED || (taken->epoch != p->epoch && !PLANT(SKIP_EPOCH))) {
        txn_free(taken);
        return;
    }
    if (taken->cseq != p->newest + 1) {
        sim_fail(c->sim, "partition %u: write %" PRIu64 " after write %" PRIu64, taken->partition,
                 taken->cseq, p->newest);
    }
    p->newest = taken->cseq;
    if (p->n_writes == p->cap_writes) {
        p->cap_writes = p->cap_writes > 0 ? p->cap_writes * 2 : 8;
        p->writes = mem_realloc(p->writes, p->cap_writes * sizeof(*p->writes));
    }
    p->writes[p->n_writes++] = (struct sim_write){.txn = taken};
    if (!p->stalled && !p->unsure) {
        send_writes(c->sim, c, taken->partition);
    }
}

static int io_send(void *arg, struct slice route, const struct message *message) {
    struct coord *c = arg;
    return link_to_peer(c->sim, c, route, message);
}

static int io_push(void *arg, struct slice result) {
    struct coord *c = arg;
    return unacked_push(c->sim, c, result);
}

static void io_ack(void *arg, uint32_t partition, struct slice consumer, uint64_t oseq, uint64_t trim_upto) {
    struct coord *c = arg;
    struct redis_request r = {.op = REDIS_ACK, .part = partition, .epoch = c->parts[partition].epoch,
                              .from = oseq, .upto = trim_upto};
    slice_copy(consumer, r.name, sizeof(r.name));
    coord_ask(c->sim, c, r);
}

static void io_read(void *arg, uint32_t partition, uint64_t from, size_t n) {
    struct coord *c = arg;
    coord_ask(c->sim, c, (struct redis_request){.op = REDIS_READ, .part = partition, .from = from, .upto = n});
}

static void io_hint(void *arg, struct slice producer, uint64_t seq) {
    // A hint may be lost: here it always is, so that recovery has to do without.
}

static const struct model *io_model(void *arg, struct slice name, uint32_t revision) {
    struct coord *c = arg;
    for (size_t i = 0; i < c->sim->models.n; i++) {
        const struct model *model = c->sim->models.items[i].model;
        if (slice_is(name, model->name) && revision <= model->revision) {
            return model;
        }
    }
    return NULL;
}

static double io_draw(void *arg) {
    struct coord *c = arg;
    return (double)sim_below(c->sim, 1 << 20) / (1 << 20);
}

// ---- Messages ---------------------------------------------------------------------------------------

void coord_message(struct sim *sim, struct coord *c, int link, struct slice frame) {
    struct message message;
    struct error why = {0};
    if (message_unpack(frame, &message, &why) != 0) {
        sim_fail(sim, "the world sent a message that cannot be read: %s", why.text);
        return;
    }
    char route[16]; // links move when there are more of them
    memcpy(route, sim->links[link].route, sizeof(route));
    sim_trace(sim, "%s ▶ %s %s", route, c->name, message_name(message.kind));
    if (message.kind == MESSAGE_REPORT && core_is_open(c->core)) {
        check_report(sim, c, &message.report);
    } else if (message.kind == MESSAGE_HELLO && core_is_open(c->core)) {
        check_hello(sim, c, sim->links[link].peer, message.hello.held);
    }
    if (!core_message(c->core, sim->now_us, slice_of(route), &message) && core_is_open(c->core)) {
        letters_ask(c->letters, slice_of(route), &message.letters);
    }
    coord_event(sim, c);
}

// ---- Life -------------------------------------------------------------------------------------------

void coord_init(struct sim *sim, int index) {
    struct coord *c = &sim->coords[index];
    c->sim = sim;
    c->index = index;
    snprintf(c->name, sizeof(c->name), "%c", 'A' + index);
    c->config = (struct core_config){.name = c->name,
                                     .n_partitions = sim->n_parts,
                                     .max_bytes = sim_chance(sim, 300) ? 8192 : 1 << 20,
                                     .max_results = sim_chance(sim, 300) ? 20 : 100000,
                                     .heartbeat_ms = HEARTBEAT_MS,
                                     .grace_ms = GRACE_MS,
                                     .ordered = sim_chance(sim, 300),
                                     .has_push = sim->has_push,
                                     .default_model = ""};
    c->io = (struct core_io){.write = io_write, .send = io_send, .push = io_push, .ack = io_ack,
                             .read = io_read, .hint = io_hint, .model = io_model, .draw = io_draw,
                             .permit = permits_ask, .arg = c};
}

void coord_start(struct sim *sim, struct coord *c) {
    if (c->life.on) {
        return;
    }
    sim_trace(sim, "%s starts", c->name);
    life_start(&c->life);
    sim->n_coord_lives++;
    permits_start(c);
    c->core = core_new(&c->config, &c->io, &c->status);
    c->letters = letters_new(&(struct letters_config){
        .n_partitions = sim->n_parts, .core = c->core, .store = (struct store *)c, .io = &c->io});
    c->fenced = c->alarmed = c->turn_due = c->push_blocked = false;
    c->next_tick_us = INT64_MAX;
    c->n_hidden = c->n_before = 0;
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        c->parts[i].state = PART_ACQUIRING;
    }
    sim_in(sim, sim_between(sim, 1000, 100000), on_reconnect, &c->life, c);
    sim_in(sim, RENEW_US, on_renewal, &c->life, c);
}

void coord_crash(struct sim *sim, struct coord *c) {
    if (!c->life.on) {
        return;
    }
    sim_trace(sim, "%s is killed", c->name);
    check_life_ends(sim, c);
    life_end(&c->life);
    life_end(&c->conn);
    links_of_coord_end(sim, c);
    core_free(c->core);
    letters_free(c->letters);
    c->core = NULL;
    c->letters = NULL;
    c->letters_done = NULL;
    c->status = (struct status){0};
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        drop_writes(&c->parts[i]);
        c->parts[i].state = PART_IDLE;
        c->parts[i].unsure = c->parts[i].stalled = false;
    }
    sim->n_coord_crashes++;
}

void coord_free(struct coord *c) {
    core_free(c->core);
    letters_free(c->letters);
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        drop_writes(&c->parts[i]);
        free(c->parts[i].writes);
    }
}
