// Links between a peer and a coordinator. Invariant: what one side sends on one link arrives in that order
// or not at all; nothing is said of two links. A link is cut with all that is on its way; the coordinator
// notices later than the peer, and what it sends meanwhile is lost. A peer that comes back has a new link.
// Called by the actors at both ends.
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MOST (1 << 22)

static struct life *peer_life(struct sim *sim, enum peer_kind kind, int peer) {
    return kind == PEER_WORKER     ? &sim->workers[peer].life
           : kind == PEER_PRODUCER ? &sim->producers[peer].life
           : kind == PEER_PERSON   ? &sim->person.life
           : kind == PEER_PULLER   ? &sim->puller.life
                                   : &sim->consumers[peer].life;
}

int link_open(struct sim *sim, enum peer_kind kind, int peer) {
    struct coord *coord = &sim->coords[sim->primary];
    if (!coord->life.on || life_is_paused(sim, &coord->life)) {
        return -1;
    }
    if (sim->n_links == sim->cap_links) {
        sim->cap_links = sim->cap_links > 0 ? sim->cap_links * 2 : 64;
        sim->links = mem_realloc(sim->links, sim->cap_links * sizeof(*sim->links));
    }
    struct link *l = &sim->links[sim->n_links];
    *l = (struct link){.kind = kind,
                       .peer = peer,
                       .coord = sim->primary,
                       .peer_life = peer_life(sim, kind, peer)->n,
                       .coord_life = coord->life.n};
    life_start(&l->life);
    snprintf(l->route, sizeof(l->route), "r%zu", sim->n_links);
    return (int)sim->n_links++;
}

static bool is_up(const struct link *l) {
    return l->life.on;
}

bool link_is_up(const struct sim *sim, int link) {
    return link >= 0 && is_up(&sim->links[link]);
}

static void tell_peer(struct sim *sim, const struct link *l) {
    if (peer_life(sim, l->kind, l->peer)->n != l->peer_life) {
        return;
    }
    if (l->kind == PEER_WORKER) {
        worker_link_lost(sim, &sim->workers[l->peer]);
    } else if (l->kind == PEER_PRODUCER) {
        client_producer_link_lost(sim, &sim->producers[l->peer]);
    } else if (l->kind == PEER_PERSON) {
        person_link_lost(sim);
    } else if (l->kind == PEER_PULLER) {
        unacked_puller_link_lost(sim);
    } else {
        client_consumer_link_lost(sim, &sim->consumers[l->peer]);
    }
}

void link_cut(struct sim *sim, int link) {
    if (link < 0 || !is_up(&sim->links[link])) {
        return;
    }
    life_end(&sim->links[link].life);
    sim->links[link].gone_us = sim->now_us + sim_between(sim, 0, 2000000);
    struct link copy = sim->links[link];
    sim_trace(sim, "link %s is cut", copy.route);
    tell_peer(sim, &copy);
}

void links_of_coord_end(struct sim *sim, const struct coord *coord) {
    for (size_t i = 0; i < sim->n_links; i++) {
        if (sim->links[i].coord == coord->index && is_up(&sim->links[i])) {
            link_cut(sim, (int)i);
        }
    }
}

// One message on its way. The link may die before it comes; its own life is looked at on arrival, because
// the event belongs to whoever gets it.
static int64_t arrival(struct sim *sim, struct link *l, int to) {
    int64_t at = sim->now_us + 1 + (int64_t)sim_below(sim, (uint64_t)sim->delay_us * 2);
    at = at > l->last_us[to] ? at : l->last_us[to];
    l->last_us[to] = at;
    return at;
}

static void pack(struct sim *sim, const struct message *message, struct event *event) {
    struct buf frame;
    buf_init(&frame, FRAME_MOST);
    int rc = message_pack(message, &frame);
    if (rc != 0) {
        sim_fail(sim, "%s cannot be packed: %d", message_name(message->kind), rc);
        return;
    }
    event->n_bytes = frame.n;
    event->bytes = buf_take(&frame);
}

static void on_at_coord(struct sim *sim, struct event *event) {
    struct link *l = &sim->links[event->a];
    if (is_up(l) && event->bytes != NULL) {
        coord_message(sim, event->who, (int)event->a,
                      (struct slice){.p = event->bytes, .n = event->n_bytes});
    }
}

int link_to_coord(struct sim *sim, int link, const struct message *message) {
    if (link < 0 || !is_up(&sim->links[link])) {
        return -EAGAIN;
    }
    struct link *l = &sim->links[link];
    struct coord *coord = &sim->coords[l->coord];
    struct event *event = sim_at(sim, arrival(sim, l, 0), on_at_coord, &coord->life, coord);
    event->a = (uint64_t)link;
    pack(sim, message, event);
    return 0;
}

static void on_at_peer(struct sim *sim, struct event *event) {
    struct link l = sim->links[event->a];
    struct message message;
    struct error why = {0};
    if (!is_up(&l) || event->bytes == NULL) {
        return;
    }
    if (message_unpack((struct slice){.p = event->bytes, .n = event->n_bytes}, &message, &why) != 0) {
        sim_fail(sim, "the core sent a message that cannot be read: %s", why.text);
        return;
    }
    sim_trace(sim, "%s ◀ %s", l.route, message_name(message.kind));
    if (l.kind == PEER_WORKER) {
        worker_message(sim, &sim->workers[l.peer], &message);
    } else if (l.kind == PEER_PRODUCER) {
        client_producer_message(sim, &sim->producers[l.peer], &message);
    } else if (l.kind == PEER_PERSON) {
        person_message(sim, &message);
    } else {
        client_consumer_message(sim, &sim->consumers[l.peer], &message);
    }
}

int link_to_peer(struct sim *sim, struct coord *coord, struct slice route, const struct message *message) {
    char text[16];
    slice_copy(route, text, sizeof(text));
    long link = text[0] == 'r' ? strtol(text + 1, NULL, 10) : -1;
    if (link < 0 || (size_t)link >= sim->n_links) {
        sim_fail(sim, "a message for '%.*s', which is nobody's route", SLICE_FMT(route));
        return -EHOSTUNREACH;
    }
    struct link *l = &sim->links[link];
    if (!is_up(l) && sim->now_us >= l->gone_us) {
        return -EHOSTUNREACH;
    }
    if (message->kind == MESSAGE_DISPATCH && l->kind == PEER_WORKER) {
        check_dispatch(sim, coord, l->peer, &message->dispatch);
    }
    if (!is_up(l)) {
        return 0; // the coordinator does not know yet
    }
    struct life *life = peer_life(sim, l->kind, l->peer);
    struct event *event = sim_at(sim, arrival(sim, l, 1), on_at_peer, life, NULL);
    event->a = (uint64_t)link;
    pack(sim, message, event);
    return 0;
}
