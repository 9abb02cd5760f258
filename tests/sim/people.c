// Somebody who looks at dead letters: lists them, has them asked again, drops them. Invariant: the number of
// questions is bounded, so that a record that fails for ever is not asked for ever.
// Called by sim (start) and links (messages).
#include "tests/sim/sim.h"

#define SILENT_US 5000000 // without an answer for so long it is asked again
#define QUESTIONS 12

static void ask(struct sim *sim, struct sim_person *p) {
    static const char *const actions[] = {"list", "show", "redrive", "redrive", "redrive", "drop"};
    uint64_t action = sim_below(sim, sim->may_drop ? 6 : 5);
    struct message m = {.kind = MESSAGE_LETTERS,
                        .letters = {.action = slice_of(actions[action]),
                                    .partition = sim_below(sim, sim->n_parts),
                                    .from = SLICE_LIT("-"),
                                    .to = SLICE_LIT("+"),
                                    .model = sim_chance(sim, 200) ? SLICE_LIT("m0") : SLICE_NONE}};
    p->waits = link_to_coord(sim, p->link, &m) == 0;
    p->asked_us = sim->now_us;
    p->n_questions -= p->waits && action > 1;
    sim_trace(sim, "somebody asks for dead letters: %s", actions[action]);
}

static void on_look(struct sim *sim, struct event *event) {
    struct sim_person *p = event->who;
    if (p->waits && sim->now_us - p->asked_us > SILENT_US) {
        p->waits = false;
        link_cut(sim, p->link);
    }
    if (p->link < 0) {
        p->link = link_open(sim, PEER_PERSON, 0);
    } else if (!p->waits && p->n_questions > 0) {
        ask(sim, p);
    }
    if (p->n_questions > 0) {
        sim_in(sim, sim_between(sim, 1000, 3000000), on_look, &p->life, p);
    }
}

void person_start(struct sim *sim) {
    struct sim_person *p = &sim->person;
    *p = (struct sim_person){.link = -1, .n_questions = sim_chance(sim, 400) ? QUESTIONS : 0};
    life_start(&p->life);
    sim_in(sim, sim_between(sim, 1000, 5000000), on_look, &p->life, p);
}

void person_message(struct sim *sim, const struct message *m) {
    sim->person.waits = false; // STATUS, or REFUSED: another time
}

void person_link_lost(struct sim *sim) {
    sim->person.link = -1;
    sim->person.waits = false;
}
