// Faults: when what happens to whom, drawn from the seed. Invariant: none begins after faults_end_us, and
// by then or soon after everybody is alive, connected and in step again. Called once a run.
#include "tests/sim/sim.h"

static void on_coord_back(struct sim *sim, struct event *event) {
    coord_start(sim, event->who);
}

static void crash_coord(struct sim *sim) {
    struct coord *c = &sim->coords[sim->primary];
    int64_t away_us = sim_between(sim, 0, sim_chance(sim, 300) ? 8000000 : 500000);
    coord_crash(sim, c);
    if (sim_chance(sim, 200)) { // the other machine takes over; it has to wait for the lease
        sim->primary = 1 - sim->primary;
        c = &sim->coords[sim->primary];
    }
    sim_in(sim, away_us, on_coord_back, NULL, c);
}

// Another coordinator takes over from what Redis has left, which it cannot know to be less than there was,
// while the one that ran before is stopped or goes on: that one has to notice.
static void take_over_the_rest(struct sim *sim) {
    struct coord *c = &sim->coords[sim->primary], *other = &sim->coords[1 - sim->primary];
    if (sim_chance(sim, 500)) {
        sim_trace(sim, "%s stops", c->name);
        life_pause(sim, &c->life, sim_between(sim, 100000, 20000000));
    }
    sim->primary = other->index;
    sim_in(sim, sim_between(sim, 0, 2000000), on_coord_back, NULL, other);
}

// A coordinator that is stopped for so long that another takes over, and then goes on.
static void usurp(struct sim *sim) {
    struct coord *c = &sim->coords[sim->primary], *other = &sim->coords[1 - sim->primary];
    if (!c->life.on || other->life.on) {
        return;
    }
    sim_trace(sim, "%s stops", c->name);
    life_pause(sim, &c->life, sim_between(sim, 3000000, 20000000));
    sim->primary = other->index;
    sim_in(sim, sim_between(sim, 0, 2000000), on_coord_back, NULL, other);
}

static void pause_coord(struct sim *sim) {
    struct coord *c = &sim->coords[sim->primary];
    if (c->life.on) {
        sim_trace(sim, "%s stops for a while", c->name);
        life_pause(sim, &c->life, sim_between(sim, 10000, 12000000));
    }
}

static void on_worker_back(struct sim *sim, struct event *event) {
    worker_start(sim, event->who);
}

static void crash_worker(struct sim *sim) {
    struct sim_worker *w = &sim->workers[sim_below(sim, (uint64_t)sim->n_workers)];
    worker_crash(sim, w);
    sim_in(sim, sim_between(sim, 1000, 8000000), on_worker_back, NULL, w);
}

static void pause_worker(struct sim *sim) {
    struct sim_worker *w = &sim->workers[sim_below(sim, (uint64_t)sim->n_workers)];
    if (w->life.on) {
        sim_trace(sim, "%s (worker %d) stops for a while", w->name, w->index);
        int64_t most_us = sim_chance(sim, 300) ? 30000000 : 5000000; // past worker.lost.ms, or not
        life_pause(sim, &w->life, sim_between(sim, 10000, most_us));
    }
}

static void on_producer_back(struct sim *sim, struct event *event) {
    client_producer_start(sim, event->who);
}

static void on_consumer_back(struct sim *sim, struct event *event) {
    client_consumer_start(sim, event->who);
}

static void on_puller_back(struct sim *sim, struct event *event) {
    unacked_puller_start(sim);
}

static void crash_client(struct sim *sim) {
    if (sim->has_push && sim_chance(sim, 250)) {
        unacked_puller_crash(sim);
        sim_in(sim, sim_between(sim, 1000, 3000000), on_puller_back, NULL, NULL);
    } else if (sim_chance(sim, 500)) {
        struct sim_producer *p = &sim->producers[sim_below(sim, (uint64_t)sim->n_producers)];
        client_producer_crash(sim, p);
        sim_in(sim, sim_between(sim, 1000, 3000000), on_producer_back, NULL, p);
    } else {
        struct sim_consumer *c = &sim->consumers[sim_below(sim, (uint64_t)sim->n_consumers)];
        client_consumer_crash(sim, c);
        sim_in(sim, sim_between(sim, 1000, 3000000), on_consumer_back, NULL, c);
    }
}

static void stop_acking(struct sim *sim) {
    struct sim_consumer *c = &sim->consumers[sim_below(sim, (uint64_t)sim->n_consumers)];
    c->stopped_until_us = sim->now_us + sim_between(sim, 100000, 15000000);
}

static void cut_links(struct sim *sim) {
    bool all = sim_chance(sim, 300);
    for (size_t i = 0, n = sim->n_links; i < n; i++) {
        if (sim->links[i].life.on && (all || sim_chance(sim, 300))) {
            link_cut(sim, (int)i);
        }
    }
}

// hang_links holds everything on some links back for a while, one way or both; then it comes in order.
static void hang_links(struct sim *sim) {
    int64_t until_us = sim->now_us + sim_between(sim, 100000, 8000000);
    for (size_t i = 0; i < sim->n_links; i++) {
        struct link *l = &sim->links[i];
        for (int to = 0; to < 2; to++) {
            if (l->life.on && sim_chance(sim, 300)) {
                l->last_us[to] = until_us > l->last_us[to] ? until_us : l->last_us[to];
            }
        }
    }
}

static void redis_fault(struct sim *sim) {
    int64_t for_us = sim_between(sim, 1000, 6000000);
    switch (sim_below(sim, 5)) {
    case 0:
        redis_crash(sim, for_us);
        break;
    case 1:
        coord_lose_redis(sim, &sim->coords[sim->primary]);
        break;
    case 2:
        sim_trace(sim, "redis: full");
        sim->redis.full_until_us = sim->now_us + for_us;
        break;
    case 3:
        sim_trace(sim, "redis: hangs");
        life_pause(sim, &sim->redis.life, for_us);
        break;
    default:
        // Forward ends leases early; back makes them last longer.
        sim->redis.clock_off_ms += sim_between(sim, -3600000, 3600000);
        break;
    }
}

static void on_fault(struct sim *sim, struct event *event) {
    static void (*const faults[])(struct sim *sim) = {
        crash_coord, usurp, pause_coord, crash_worker, crash_worker, pause_worker, pause_worker, crash_client,
        stop_acking, cut_links, hang_links, redis_fault, redis_fault,
    };
    enum { N_FAULTS = sizeof(faults) / sizeof(faults[0]) };
    if (!sim_faulty(sim) || sim->rolled_back) {
        return;
    }
    uint64_t kind = sim_below(sim, N_FAULTS);
    if (event->a >> kind & 1) { // the run's own selection
        faults[kind](sim);
        bool is_harmless = faults[kind] == crash_client || faults[kind] == stop_acking ||
                           faults[kind] == redis_fault; // for calls at workers
        sim->lost_some |= !is_harmless;
    }
    struct event *next = sim_in(sim, sim_between(sim, 1000, (int64_t)event->b), on_fault, NULL, NULL);
    next->a = event->a;
    next->b = event->b;
}

// The people who run it: a coordinator that was fenced off, or that is not the one that peers are sent to,
// is ended and, if it is the one, started again; what stopped for want of credit goes on.
static void on_operator(struct sim *sim, struct event *event) {
    for (int i = 0; i < COORDS_MAX; i++) {
        struct coord *c = &sim->coords[i];
        bool wanted = i == sim->primary;
        if (c->life.on && !life_is_paused(sim, &c->life) && !c->alarmed &&
            (c->fenced || (!wanted && !sim->rolled_back))) {
            coord_crash(sim, c);
        }
        if (wanted && !c->life.on && !sim_faulty(sim)) {
            coord_start(sim, c);
        }
        if (c->life.on && !life_is_paused(sim, &c->life)) {
            struct buf text;
            const char *stopped = NULL;
            buf_init(&text, 4096);
            core_waiting(c->core, sim->now_us, &text, &stopped);
            buf_free(&text);
            if (stopped != NULL) {
                core_models_changed(c->core, sim->now_us);
                coord_event(sim, c);
            }
        }
    }
    sim_in(sim, 3000000, on_operator, NULL, NULL);
}

// A coordinator that starts later cannot know what it does not find: only one that runs notices.
static bool is_one_running(const struct sim *sim) {
    const struct coord *c = &sim->coords[sim->primary];
    for (uint32_t i = 0; i < sim->n_parts; i++) { // one that was stopped may not know that it is not the owner
        if (c->parts[i].epoch != sim->redis.parts[i].epoch) {
            return false;
        }
    }
    return c->life.on && core_is_open(c->core) && !sim->coords[1 - sim->primary].life.on && !sim->rolled_back;
}

static void lose_and_take_over(struct sim *sim, void (*lose)(struct sim *sim)) {
    sim->witness = sim->primary;
    lose(sim);
    if (sim->rolled_back && sim_chance(sim, 500)) {
        take_over_the_rest(sim);
    }
}

static void on_flushall(struct sim *sim, struct event *event) {
    if (is_one_running(sim)) {
        lose_and_take_over(sim, redis_flushall);
    }
}

static void on_file_copy(struct sim *sim, struct event *event) {
    redis_file_copy(sim);
}

// on_file_back puts the file back, most times only once something would be lost by it.
static void on_file_back(struct sim *sim, struct event *event) {
    bool waits = event->a > 0 && !redis_file_is_old(sim);
    if (waits && sim_faulty(sim)) {
        sim_in(sim, 20000, on_file_back, NULL, NULL)->a = event->a;
    } else if (is_one_running(sim)) {
        lose_and_take_over(sim, redis_file_put_back);
    }
}

void faults_plan(struct sim *sim) {
    struct event *first = sim_in(sim, sim_between(sim, 1000, 3000000), on_fault, NULL, NULL);
    first->a = sim_chance(sim, 100) ? 0 : sim_below(sim, 1 << 13) | (sim_chance(sim, 300) ? 0x1FFF : 0);
    sim->is_quiet = first->a == 0 && sim->fault_permille == 0;
    first->b = (uint64_t)sim_between(sim, 50000, 6000000);
    sim_in(sim, 3000000, on_operator, NULL, NULL);
    if (sim->is_quiet) {
        return;
    }
    if (sim_chance(sim, 20)) {
        sim_in(sim, sim_between(sim, 1000000, 20000000), on_flushall, NULL, NULL);
    } else if (sim_chance(sim, 80)) {
        int64_t copied_us = sim_between(sim, 100000, sim_chance(sim, 500) ? 1500000 : 10000000);
        int64_t later_us = sim_between(sim, 0, sim_chance(sim, 500) ? 5000 : 4000000);
        sim_in(sim, copied_us, on_file_copy, NULL, NULL);
        sim_in(sim, copied_us + later_us, on_file_back, NULL, NULL)->a = sim_chance(sim, 700);
    }
}
