// Producers and consumers that speak the acked dialogues. Invariant: a producer's rows and their sequences
// are a file that survives it, its memory of what was acked is not; a consumer keeps its position and what
// it used in one step. Called by links (messages) and faults.
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <string.h>

#define AGAIN_US 300000    // try again after a refusal
#define SILENT_US 10000000 // a link without an answer for so long is given up

// ---- Producers --------------------------------------------------------------------------------------

static void on_producer_connect(struct sim *sim, struct event *event);

const struct sim_override sim_overrides[OVERRIDES] = {
    {NULL, NULL}, {"temperature", "0.5"}, {"batch.size", "2"}, {"model", "another"}};

static void add_options(const struct sim *sim, const struct record *r, struct buf *out) {
    const struct sim_override *o = &sim_overrides[r->override];
    int rc = 0;
    int inherited = sim->producers[r->producer].unacked ? 0 : sim->default_override;
    if (r->override != inherited) {
        rc = buf_addf(out, "\"options\": {\"%s\": \"%s\"}, ", o->name, o->value);
    }
    (void)rc; // short
}

void client_row(const struct sim *sim, int record, struct buf *out) {
    const struct record *r = &sim->records[record];
    int rc;
    if (r->bad) {
        rc = buf_addf(out, "{\"id\": \"p%d-%d\", \"key\": \"k%d\", \"other\": 1}\n", r->producer, (int)r->seq,
                      (int)(r->seq % 7));
    } else {
        rc = buf_addf(out, "{\"id\": \"p%d-%d\", \"key\": \"k%d\", \"model\": \"m%d\", ", r->producer, (int)r->seq,
                      (int)(r->seq % 7), r->model);
        add_options(sim, r, out);
        rc |= buf_addf(out, "\"fields\": {\"text\": \"p%d-%d\"}}\n", r->producer, (int)r->seq);
    }
    (void)rc; // short
}

static void open_producer(struct sim *sim, struct sim_producer *p) {
    const struct sim_override *o = &sim_overrides[sim->default_override];
    struct buf options;
    buf_init(&options, 1024);
    if (o->name != NULL) { // a msgpack map of one
        (void)!buf_addf(&options, "\x81%c%s%c%s", (char)(0xA0 | strlen(o->name)), o->name,
                        (char)(0xA0 | strlen(o->value)), o->value);
    }
    struct message m = {.kind = MESSAGE_OPEN,
                        .open = {.producer = slice_of(p->name),
                                 .model = SLICE_LIT("m0"),
                                 .options = buf_slice(&options)}};
    (void)link_to_coord(sim, p->link, &m);
    buf_free(&options);
}

static void append(struct sim *sim, struct sim_producer *p) {
    uint64_t last = p->limit < (uint64_t)p->n ? p->limit : (uint64_t)p->n;
    uint64_t n = (uint64_t)sim_between(sim, 1, 12);
    n = p->next + n - 1 > last ? last - p->next + 1 : n;
    struct buf rows;
    buf_init(&rows, 1 << 20);
    for (uint64_t i = 0; i < n; i++) {
        client_row(sim, p->first + (int)(p->next + i - 1), &rows);
    }
    struct message m = {.kind = MESSAGE_APPEND,
                        .append = {.first_seq = p->next, .count = n, .records = buf_slice(&rows)}};
    (void)link_to_coord(sim, p->link, &m);
    buf_free(&rows);
    p->next += n;
}

static void on_produce(struct sim *sim, struct event *event) {
    struct sim_producer *p = event->who;
    if (p->open && p->next <= (uint64_t)p->n && p->next <= p->limit) {
        append(sim, p);
    } else if (p->open && p->next > (uint64_t)p->n && !p->flushed) {
        struct message m = {.kind = MESSAGE_FLUSH};
        p->flushed = link_to_coord(sim, p->link, &m) == 0;
    }
    if (p->acked < (uint64_t)p->n && sim->now_us - p->heard_us > SILENT_US) {
        p->heard_us = sim->now_us;
        link_cut(sim, p->link);
    }
    if (p->acked < (uint64_t)p->n) {
        int64_t pace_us = p->next > p->limit || p->next > (uint64_t)p->n ? 500000 : 100000;
        sim_in(sim, sim_between(sim, 1000, pace_us), on_produce, &p->life, p);
    }
}

static void on_open_again(struct sim *sim, struct event *event) {
    struct sim_producer *p = event->who;
    if (!p->open && p->link >= 0 && (uint64_t)p->link == event->a) {
        open_producer(sim, p);
    }
}

static void producer_opened(struct sim *sim, struct sim_producer *p, const struct message_opened *m) {
    p->open = true;
    p->flushed = false;
    p->limit = m->limit;
    p->acked = m->upto > p->acked ? m->upto : p->acked;
    check_acked(sim, p->rows_of, m->upto);
    p->next = m->upto + 1;
    if (p->next > 1 && sim_chance(sim, 200)) { // some send more than they need to
        p->next -= sim_below(sim, p->next < 4 ? p->next : 4);
    }
}

static void producer_refused(struct sim *sim, struct sim_producer *p, const struct message_refused *m) {
    if (slice_is(m->code, "gap") || slice_is(m->code, "over-limit")) {
        p->next = m->expected < p->next ? m->expected : p->next;
        p->limit = slice_is(m->code, "gap") ? p->limit : p->next - 1;
    } else if (slice_is(m->code, "superseded")) {
        client_producer_crash(sim, p); // the other one goes on
    } else if (slice_is(m->code, "starting") || slice_is(m->code, "stopped") || slice_is(m->code, "not-open")) {
        p->open = false;
        sim_in(sim, AGAIN_US, on_open_again, &p->life, p)->a = (uint64_t)p->link;
    } else {
        sim_fail(sim, "producer %d was refused: %.*s", p->index, SLICE_FMT(m->message));
    }
}

void client_producer_message(struct sim *sim, struct sim_producer *p, const struct message *m) {
    p->heard_us = sim->now_us;
    if (m->kind == MESSAGE_OPENED) {
        producer_opened(sim, p, &m->opened);
    } else if (m->kind == MESSAGE_ACKED) {
        check_acked(sim, p->rows_of, m->acked.upto);
        p->acked = m->acked.upto > p->acked ? m->acked.upto : p->acked;
        p->limit = m->acked.limit;
    } else if (m->kind == MESSAGE_REFUSED) {
        producer_refused(sim, p, &m->refused);
    }
}

static void on_producer_connect(struct sim *sim, struct event *event) {
    struct sim_producer *p = event->who;
    if (p->link >= 0) {
        return;
    }
    p->link = link_open(sim, PEER_PRODUCER, p->index);
    if (p->link < 0) {
        sim_in(sim, sim_between(sim, 50000, 1000000), on_producer_connect, &p->life, p);
        return;
    }
    p->heard_us = sim->now_us;
    open_producer(sim, p);
}

void client_producer_link_lost(struct sim *sim, struct sim_producer *p) {
    p->link = -1;
    p->open = false;
    if (p->unacked) {
        return; // it connects when it has something to send
    }
    sim_in(sim, sim_between(sim, 10000, 1000000), on_producer_connect, &p->life, p);
}

void client_producer_start(struct sim *sim, struct sim_producer *p) {
    if (p->life.on) {
        return;
    }
    life_start(&p->life);
    p->link = -1;
    if (p->unacked) {
        unacked_producer_start(sim, p);
        return;
    }
    p->open = p->flushed = false;
    p->acked = p->limit = 0;
    p->next = 1;
    p->heard_us = sim->now_us;
    sim_in(sim, sim_between(sim, 0, 200000), on_producer_connect, &p->life, p);
    sim_in(sim, sim_between(sim, 0, 200000), on_produce, &p->life, p);
}

void client_producer_crash(struct sim *sim, struct sim_producer *p) {
    if (!p->life.on) {
        return;
    }
    sim_trace(sim, "%s is killed", p->name);
    life_end(&p->life);
    link_cut(sim, p->link);
    p->link = -1;
}

// ---- Consumers --------------------------------------------------------------------------------------

static void subscribe(struct sim *sim, struct sim_consumer *c) {
    struct message m = {.kind = MESSAGE_SUBSCRIBE,
                        .subscribe = {.consumer = slice_of(c->name), .credit = c->credit}};
    (void)link_to_coord(sim, c->link, &m);
}

// client_is_first_known says whether the first consumer's position stands in Redis: it is to see every result,
// and a later one's acks trim what nobody known wants.
bool client_is_first_known(const struct sim *sim) {
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        bool known = false;
        for (size_t k = 0; k < POSITIONS_MAX; k++) {
            known |= strcmp(sim->redis.parts[i].consumers[k].name, "c0") == 0;
        }
        if (!known) {
            return false;
        }
    }
    return true;
}

static void on_consumer_connect(struct sim *sim, struct event *event) {
    struct sim_consumer *c = event->who;
    if (c->link >= 0) {
        return;
    }
    c->link = c->index == 0 || client_is_first_known(sim) ? link_open(sim, PEER_CONSUMER, c->index) : -1;
    if (c->link < 0) {
        sim_in(sim, sim_between(sim, 50000, 1000000), on_consumer_connect, &c->life, c);
        return;
    }
    subscribe(sim, c);
}

static void on_subscribe_again(struct sim *sim, struct event *event) {
    struct sim_consumer *c = event->who;
    if (!c->subscribed && c->link >= 0 && (uint64_t)c->link == event->a) {
        subscribe(sim, c);
    }
}

static void on_ack_due(struct sim *sim, struct event *event) {
    struct sim_consumer *c = event->who;
    if (sim->now_us < c->stopped_until_us) {
        sim_at(sim, c->stopped_until_us, on_ack_due, &c->life, c);
        return;
    }
    c->ack_due = false;
    for (uint32_t i = 0; i < sim->n_parts && c->subscribed; i++) {
        uint64_t upto = c->used[i] < c->got[i] ? c->used[i] : c->got[i];
        if (upto > 0) {
            struct message m = {.kind = MESSAGE_ACK, .ack = {.partition = i, .upto = upto}};
            (void)link_to_coord(sim, c->link, &m);
        }
    }
}

static void ack_soon(struct sim *sim, struct sim_consumer *c) {
    if (!c->ack_due) {
        c->ack_due = true;
        sim_in(sim, sim_between(sim, 0, 200000), on_ack_due, &c->life, c);
    }
}

static void use_results(struct sim *sim, struct sim_consumer *c, const struct message_results *m) {
    uint32_t part = (uint32_t)m->partition;
    struct slice rest = m->results;
    for (uint64_t i = 0; i < m->count; i++) {
        const char *end = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;
        size_t n = end != NULL ? (size_t)(end - rest.p) + 1 : rest.n;
        uint64_t oseq = m->first_oseq + i;
        if (!c->known[part]) { // new: from the oldest that is kept
            c->known[part] = true;
            c->used[part] = oseq - 1;
        }
        if (oseq > c->used[part]) {
            check_result_used(sim, c->index, part, oseq, slice_sub(rest, 0, n));
            c->used[part] = oseq;
        }
        c->got[part] = oseq;
        rest = slice_sub(rest, n, rest.n);
    }
    ack_soon(sim, c);
}

void client_consumer_message(struct sim *sim, struct sim_consumer *c, const struct message *m) {
    if (m->kind == MESSAGE_SUBSCRIBED) {
        c->subscribed = true;
        memset(c->got, 0, sizeof(c->got));
        ack_soon(sim, c);
    } else if (m->kind == MESSAGE_RESULTS) {
        use_results(sim, c, &m->results);
    } else if (m->kind == MESSAGE_REFUSED) {
        c->subscribed = false;
        sim_in(sim, AGAIN_US, on_subscribe_again, &c->life, c)->a = (uint64_t)c->link;
    }
}

void client_consumer_link_lost(struct sim *sim, struct sim_consumer *c) {
    c->link = -1;
    c->subscribed = false;
    sim_in(sim, sim_between(sim, 10000, 1000000), on_consumer_connect, &c->life, c);
}

void client_consumer_start(struct sim *sim, struct sim_consumer *c) {
    if (c->life.on) {
        return;
    }
    life_start(&c->life);
    c->link = -1;
    c->subscribed = c->ack_due = false;
    int64_t later = c->index > 0 && sim_faulty(sim) ? 2000000 : 0;
    sim_in(sim, sim_between(sim, 0, later), on_consumer_connect, &c->life, c);
}

void client_consumer_crash(struct sim *sim, struct sim_consumer *c) {
    if (!c->life.on) {
        return;
    }
    sim_trace(sim, "%s is killed", c->name);
    life_end(&c->life);
    link_cut(sim, c->link);
    c->link = -1;
}
