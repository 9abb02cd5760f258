// Producers and consumers without acks: PUSH to the coordinator's PULL socket, PULL from its PUSH socket.
// Invariant: a producer sends each row once, whatever happens; what is lost is what was on a link that was
// cut, or in the memory of a coordinator that died before it was in Redis. A consumer loses what was on its
// way to it. Called by clients (start), coord (push), links and faults.
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>

#define ROOM 8 // results that wait for the consumers

// ---- Producers --------------------------------------------------------------------------------------

struct rows {
    int first, n; // records
    int link;
};

static void rows_arrive(struct sim *sim, const struct coord *c, const struct rows *rows) {
    for (int i = rows->first; i < rows->first + rows->n; i++) {
        struct record *r = &sim->records[i];
        r->here = true;
        r->here_coord = c->index;
        r->here_life = c->life.n;
    }
}

// on_rows gives a frame to the core once it wants one: until then it waits in the socket's buffer.
static void on_rows(struct sim *sim, struct event *event) {
    struct coord *c = event->who;
    struct rows *rows = event->p;
    if (!sim->records[rows->first].here) {
        if (!link_is_up(sim, rows->link)) {
            return;
        }
        rows_arrive(sim, c, rows);
    }
    if (!core_wants_frames(c->core)) {
        struct event *later = sim_in(sim, 20000, on_rows, &c->life, c);
        later->p = rows;
        later->drop = free;
        event->p = NULL;
        return;
    }
    struct buf text;
    buf_init(&text, 1 << 20);
    for (int i = rows->first; i < rows->first + rows->n; i++) {
        client_row(sim, i, &text);
    }
    sim_trace(sim, "%s gets %d rows without acks", c->name, rows->n);
    sim->n_given += (uint64_t)rows->n;
    core_frame(c->core, sim->now_us, buf_slice(&text));
    coord_event(sim, c);
    buf_free(&text);
}

static void send_rows(struct sim *sim, struct sim_producer *p) {
    struct rows *rows = mem_zalloc(sizeof(*rows));
    int left = p->n - (int)p->next + 1, n = (int)sim_between(sim, 1, 12);
    *rows = (struct rows){.first = p->first + (int)p->next - 1, .n = n < left ? n : left, .link = p->link};
    for (int i = rows->first; i < rows->first + rows->n; i++) {
        sim->records[i].sent = true;
        sim->records[i].sent_link = p->link;
    }
    p->next += (uint64_t)rows->n;
    struct coord *c = &sim->coords[sim->links[p->link].coord];
    struct event *event = sim_in(sim, sim_between(sim, 1, sim->delay_us * 2), on_rows, &c->life, c);
    event->p = rows;
    event->drop = free;
}

static void on_send(struct sim *sim, struct event *event) {
    struct sim_producer *p = event->who;
    if (p->link < 0) {
        p->link = link_open(sim, PEER_PRODUCER, p->index);
    }
    if (p->link >= 0) {
        send_rows(sim, p);
    }
    if (p->next <= (uint64_t)p->n) {
        sim_in(sim, sim_between(sim, 1000, 300000), on_send, &p->life, p);
    }
}

void unacked_producer_start(struct sim *sim, struct sim_producer *p) {
    if (p->next <= (uint64_t)p->n) {
        sim_in(sim, sim_between(sim, 0, 200000), on_send, &p->life, p);
    }
}

bool unacked_may_end(const struct sim *sim, const struct record *r) {
    const struct coord *c = &sim->coords[r->here_coord];
    return !sim->producers[r->producer].unacked || !r->sent || r->ends.kept ||
           (r->here ? c->life.on && c->life.n == r->here_life : link_is_up(sim, r->sent_link));
}

// ---- Consumers --------------------------------------------------------------------------------------

// unblock tells the coordinator at the other end that there is room again.
static void unblock(struct sim *sim) {
    struct coord *c = &sim->coords[sim->links[sim->puller.link].coord];
    if (c->life.on && c->push_blocked) {
        c->push_blocked = false;
        core_push_ready(c->core);
        coord_event(sim, c);
    }
}

static void on_pulled(struct sim *sim, struct event *event) {
    struct sim_puller *q = event->who;
    if ((uint64_t)q->link == event->a && q->link >= 0) {
        q->n_waiting--;
        check_result_pulled(sim, (struct slice){.p = event->bytes, .n = event->n_bytes});
        unblock(sim);
    }
}

int unacked_push(struct sim *sim, struct coord *c, struct slice result) {
    struct sim_puller *q = &sim->puller;
    if (!link_is_up(sim, q->link) || sim->links[q->link].coord != c->index || q->n_waiting >= ROOM) {
        c->push_blocked = true;
        return -EAGAIN;
    }
    struct event *event = sim_in(sim, sim_between(sim, 1, sim->delay_us * 2), on_pulled, &q->life, q);
    event->a = (uint64_t)q->link;
    event->bytes = slice_dup(result);
    event->n_bytes = result.n;
    q->n_waiting++;
    return 0;
}

// It begins once the first consumer is known, which is to see every result: its acks trim others'.
static void on_connect(struct sim *sim, struct event *event) {
    struct sim_puller *q = event->who;
    if (q->link < 0 && client_is_first_known(sim)) {
        q->link = link_open(sim, PEER_PULLER, 0);
        q->n_waiting = 0;
        if (q->link >= 0) {
            unblock(sim);
        }
    }
    sim_in(sim, sim_between(sim, 50000, 500000), on_connect, &q->life, q);
}

void unacked_puller_start(struct sim *sim) {
    struct sim_puller *q = &sim->puller;
    if (!sim->has_push || q->life.on) {
        return;
    }
    q->link = -1;
    q->n_waiting = 0;
    life_start(&q->life);
    sim_in(sim, 0, on_connect, &q->life, q);
}

void unacked_puller_link_lost(struct sim *sim) {
    sim->puller.n_lost += sim->puller.n_waiting > 0;
    sim->puller.link = -1;
    sim->puller.n_waiting = 0;
}

void unacked_puller_crash(struct sim *sim) {
    struct sim_puller *q = &sim->puller;
    if (q->life.on) {
        sim_trace(sim, "the consumer without acks is killed");
        q->n_lost += q->n_waiting > 0;
        int link = q->link;
        life_end(&q->life);
        link_cut(sim, link);
        q->link = -1;
        q->n_waiting = 0;
    }
}
