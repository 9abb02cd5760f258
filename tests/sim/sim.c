// Time, chance and the run of one seed. Invariant: nothing but the seed decides what happens: no clock, no
// address, no order of a hash over pointers. Called by main.c; calls everybody.
#include "tests/sim/sim.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "worker/parse.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 2000000 // of one run: more is a loop without end

// ---- Chance -----------------------------------------------------------------------------------------

// splitmix64: https://prng.di.unimi.it/splitmix64.c
static uint64_t draw(struct sim *sim) {
    uint64_t z = sim->random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t sim_below(struct sim *sim, uint64_t n) {
    return n > 0 ? draw(sim) % n : 0;
}

bool sim_chance(struct sim *sim, uint64_t permille) {
    return sim_below(sim, 1000) < permille;
}

int64_t sim_between(struct sim *sim, int64_t least, int64_t most) {
    return least + (int64_t)sim_below(sim, (uint64_t)(most - least + 1));
}

bool sim_faulty(const struct sim *sim) {
    return sim->now_us < sim->faults_end_us;
}

// ---- Lives and events -------------------------------------------------------------------------------

void life_start(struct life *life) {
    life->n++;
    life->on = true;
    life->paused_until_us = 0;
}

void life_end(struct life *life) {
    life->n++;
    life->on = false;
    life->paused_until_us = 0;
}

// A pause never gets shorter: what waits for its end must not be overtaken.
void life_pause(struct sim *sim, struct life *life, int64_t for_us) {
    int64_t until_us = sim->now_us + for_us;
    life->paused_until_us = until_us > life->paused_until_us ? until_us : life->paused_until_us;
}

bool life_is_paused(const struct sim *sim, const struct life *life) {
    return life->paused_until_us > sim->now_us;
}

static bool is_before(const struct event *a, const struct event *b) {
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void heap_push(struct sim *sim, struct event *event) {
    if (sim->n_heap == sim->cap_heap) {
        sim->cap_heap = sim->cap_heap > 0 ? sim->cap_heap * 2 : 256;
        sim->heap = mem_realloc(sim->heap, sim->cap_heap * sizeof(struct event *));
    }
    size_t i = sim->n_heap++;
    for (; i > 0 && is_before(event, sim->heap[(i - 1) / 2]); i = (i - 1) / 2) {
        sim->heap[i] = sim->heap[(i - 1) / 2];
    }
    sim->heap[i] = event;
}

static struct event *heap_pop(struct sim *sim) {
    struct event *top = sim->heap[0], *last = sim->heap[--sim->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < sim->n_heap && is_before(sim->heap[child + 1], sim->heap[child])) {
            child++;
        }
        if (child >= sim->n_heap || !is_before(sim->heap[child], last)) {
            break;
        }
        sim->heap[i] = sim->heap[child];
        i = child;
    }
    sim->heap[i] = last;
    return top;
}

struct event *sim_at(struct sim *sim, int64_t at_us, event_fn *fn, struct life *life, void *who) {
    struct event *event = mem_zalloc(sizeof(*event));
    event->at_us = at_us > sim->now_us ? at_us : sim->now_us;
    event->order = ++sim->order;
    event->fn = fn;
    event->life = life;
    event->life_n = life != NULL ? life->n : 0;
    event->who = who;
    heap_push(sim, event);
    return event;
}

static void event_free(struct event *event) {
    if (event->p != NULL && event->drop != NULL) {
        event->drop(event->p);
    }
    free(event->bytes);
    free(event);
}

static void step(struct sim *sim) {
    struct event *event = heap_pop(sim);
    sim->now_us = event->at_us;
    clock_fake(sim->now_us, sim->now_us / 1000);
    if (event->life != NULL && event->life->n == event->life_n && life_is_paused(sim, event->life)) {
        event->at_us = event->life->paused_until_us; // its order is kept, so nothing overtakes
        heap_push(sim, event);
        return;
    }
    if (event->life == NULL || event->life->n == event->life_n) {
        event->fn(sim, event);
    }
    event_free(event);
    sim->n_events++;
}

// ---- What goes wrong, what is told ------------------------------------------------------------------

void sim_fail(struct sim *sim, const char *format, ...) {
    if (sim->why[0] != '\0') {
        return;
    }
    int n = snprintf(sim->why, sizeof(sim->why), "at %.3f s: ", (double)sim->now_us / 1e6);
    va_list args;
    va_start(args, format);
    vsnprintf(sim->why + n, sizeof(sim->why) - (size_t)n, format, args);
    va_end(args);
}

void sim_trace(struct sim *sim, const char *format, ...) {
    if (!sim->trace) {
        return;
    }
    printf("%10.3f ", (double)sim->now_us / 1e6);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

// The core's own log goes into the trace, at simulated times. These stand in for common/log.c.
static struct sim *tracing;

void log_setup(const char *program, enum log_level level) {
}

int log_level_parse(const char *text, enum log_level *level, struct error *why) {
    *level = LOG_INFO;
    return 0;
}

int log_is_on(enum log_level level) {
    return tracing != NULL && tracing->trace; // also debug: it names the calls that are counted
}

void log_line(enum log_level level, const char *event, const char *format, ...) {
    if (!log_is_on(level)) {
        return;
    }
    printf("%10.3f   core %s ", (double)tracing->now_us / 1e6, event);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

// ---- Life -------------------------------------------------------------------------------------------

static const char *const fallbacks[] = {"split", "split", "single", "retry"};

static void make_models(struct sim *sim) {
    char sql[4096];
    size_t n = 0;
    sim->batch_size = (uint64_t)sim_between(sim, 1, sim_chance(sim, 500) ? 4 : 10);
    sim->request_timeout_ms = sim_between(sim, 500, 5000);
    int64_t timeout_ms = sim_chance(sim, 300) ? 0 : sim_between(sim, 1, 1500);
    int64_t lost_ms = sim_between(sim, 500, 10000);
    int limit = sim_chance(sim, 300) ? (int)sim_between(sim, 1, 4) : 100;
    sim->limit_at_once = limit;
    sim->limit_rpm = sim_chance(sim, 300) ? sim_between(sim, 120, sim_chance(sim, 500) ? 600 : 6000) : 0;
    int64_t tpm = sim_chance(sim, 150) ? sim_between(sim, 10000, 200000) : 0;
    sim->is_window = sim_chance(sim, 600);
    char limits[128] = "";
    int n_limits = sim->limit_rpm > 0 ? snprintf(limits, sizeof(limits), ", 'limit.rpm'='%d'", (int)sim->limit_rpm) : 0;
    if (tpm > 0) {
        snprintf(limits + n_limits, sizeof(limits) - (size_t)n_limits, ", 'limit.tpm'='%d'", (int)tpm);
    }
    for (int i = 0; i < MODELS; i++) {
        const char *on_error = sim_chance(sim, 200) ? "dead-letter" : sim_chance(sim, 150) ? "fail" : "error-row";
        char more[80] = "";
        int n_more = i + 1 < MODELS && sim_chance(sim, 400)
                         ? snprintf(more, sizeof(more), ", 'fallback.model'='m%d'", i + 1) : 0;
        if (on_error[0] == 'e' && sim_chance(sim, 200)) {
            snprintf(more + n_more, sizeof(more) - (size_t)n_more, ", 'default.value'='none'");
        }
        n += (size_t)snprintf(
            sql + n, sizeof(sql) - n,
            "CREATE MODEL m%d INPUT (text STRING) OUTPUT (sentiment STRING) WITH ('provider'='openai', "
            "'endpoint'='http://127.0.0.1:1/', 'model'='m', 'batch.size'='%d', 'batch.timeout.ms'='%d', "
            "'worker.lost.ms'='%d', 'request.timeout.ms'='%d', 'fallback.strategy'='%s', "
            "'ambiguous.retries'='%d', 'max.retries'='%d', 'limit.concurrency'='%d', "
            "'on.error'='%s', 'response.best.effort'='%s', 'limit.profile'='%s'%s%s);\n",
            i, i + 1 < MODELS ? (int)sim->batch_size : (int)sim_between(sim, 1, 3), (int)timeout_ms, (int)lost_ms, (int)sim->request_timeout_ms,
            fallbacks[sim_below(sim, 4)], (int)sim_between(sim, 0, 3), (int)sim_between(sim, 1, 6), limit,
            on_error, sim_chance(sim, 200) ? "on" : "off", sim->is_window ? "window" : "bucket", limits, more);
    }
    struct error why = {0};
    int rc = model_sql_parse(slice_of(sql), "sim", &sim->models, &why);
    if (rc != 0) {
        sim_fail(sim, "the models cannot be read: %s", why.text);
    }
    for (size_t i = 0; i < sim->models.n; i++) {
        sim->models.items[i].model->revision = 1;
    }
}

static void make_records(struct sim *sim) {
    uint64_t poison = sim_chance(sim, 300) ? 40 : 0, bad = sim_chance(sim, 300) ? 40 : 0;
    uint64_t killer = sim_chance(sim, 100) ? 20 : 0, override = sim_chance(sim, 300) ? 400 : 0;
    sim->default_override = override > 0 ? (int)sim_below(sim, OVERRIDES) : 0;
    for (int i = 0; i < sim->n_files; i++) {
        struct sim_producer *p = &sim->producers[i];
        p->first = sim->n_records;
        for (int k = 0; k < p->n; k++) {
            struct record *r = &sim->records[sim->n_records++];
            *r = (struct record){.producer = i, .seq = (uint64_t)k + 1, .model = (k + 1) % 11 == 0};
            r->bad = sim_chance(sim, bad);
            r->poison = sim_chance(sim, poison);
            r->killer = sim_chance(sim, killer);
            // A row cannot take back what its producer overrides.
            int inherited = p->unacked ? 0 : sim->default_override;
            r->override = sim_chance(sim, override) ? (int)sim_between(sim, 1, OVERRIDES - 1) : inherited;
        }
    }
}

static void make_actors(struct sim *sim) {
    redis_init(sim);
    for (int i = 0; i < COORDS_MAX; i++) {
        coord_init(sim, i);
    }
    for (int i = 0; i < sim->n_workers; i++) {
        struct sim_worker *w = &sim->workers[i];
        w->index = i;
        w->link = -1;
        w->max_inflight = (uint64_t)sim_between(sim, 1, 8);
        snprintf(w->name, sizeof(w->name), "w%d", i);
    }
    if (sim->n_workers > 1 && sim_chance(sim, 100)) { // two processes with one name
        memcpy(sim->workers[1].name, sim->workers[0].name, sizeof(sim->workers[0].name));
    }
    for (int i = 0; i < sim->n_files; i++) {
        struct sim_producer *p = &sim->producers[i];
        *p = (struct sim_producer){.index = i, .rows_of = i, .link = -1, .first = sim->n_records};
        snprintf(p->name, sizeof(p->name), "p%d", i);
        p->n = (int)sim_between(sim, 1, RECORDS_MAX / PRODUCERS_MAX);
        p->next = 1;
        p->unacked = sim->n_producers == sim->n_files && sim_chance(sim, 100);
        sim->has_unacked |= p->unacked;
    }
    make_records(sim);
    for (int i = sim->n_files; i < sim->n_producers; i++) { // a second process with a first one's name and rows
        struct sim_producer *p = &sim->producers[i];
        *p = sim->producers[0];
        p->index = i;
    }
    for (int i = 0; i < sim->n_consumers; i++) {
        struct sim_consumer *c = &sim->consumers[i];
        *c = (struct sim_consumer){.index = i, .link = -1};
        snprintf(c->name, sizeof(c->name), "c%d", i);
        c->credit = (uint64_t)sim_between(sim, 1, 40);
    }
}

struct sim *sim_new(uint64_t seed, bool trace) {
    struct sim *sim = mem_zalloc(sizeof(*sim));
    sim->seed = seed;
    sim->random = seed * UINT64_C(0x2545F4914F6CDD1D);
    sim->trace = trace;
    sim->now_us = 1000000;
    sim->n_parts = (uint32_t)sim_between(sim, 1, PARTS_MAX);
    sim->n_workers = (int)sim_between(sim, 1, WORKERS_MAX);
    sim->n_files = (int)sim_between(sim, 1, PRODUCERS_MAX);
    sim->n_producers = sim->n_files + (sim->n_files < PRODUCERS_MAX && sim_chance(sim, 100));
    sim->n_consumers = (int)sim_between(sim, 1, CONSUMERS_MAX);
    sim->may_drop = sim_chance(sim, 300);
    sim->heals_us = sim_chance(sim, 500) ? sim->now_us + sim_between(sim, 1, 60) * 1000000 : INT64_MAX;
    sim->has_push = sim_chance(sim, 150);
    sim->delay_us = sim_between(sim, 100, sim_chance(sim, 200) ? 300000 : 5000);
    sim->fault_permille = sim_chance(sim, 250) ? 0 : (int)sim_between(sim, 10, 400);
    sim->faults_end_us = sim->now_us + sim_between(sim, 5, 60) * 1000000;
    sim->parser = parser_new();
    tracing = sim;
    make_models(sim);
    make_actors(sim);
    return sim;
}

void sim_free(struct sim *sim) {
    for (size_t i = 0; i < sim->n_heap; i++) {
        event_free(sim->heap[i]);
    }
    for (int i = 0; i < COORDS_MAX; i++) {
        coord_free(&sim->coords[i]);
    }
    for (int i = 0; i < sim->n_workers; i++) {
        worker_free(&sim->workers[i]);
    }
    redis_file_free(sim);
    redis_free(sim);
    permits_free(sim);
    statements_free(&sim->models);
    parser_free(sim->parser);
    free(sim->heap);
    free(sim->links);
    free(sim->asks);
    free(sim->marked);
    tracing = NULL;
    free(sim);
}

static void on_producer_due(struct sim *sim, struct event *event) {
    client_producer_start(sim, event->who);
}

void sim_run(struct sim *sim) {
    coord_start(sim, &sim->coords[0]);
    for (int i = 0; i < sim->n_consumers; i++) {
        client_consumer_start(sim, &sim->consumers[i]);
    }
    for (int i = 0; i < sim->n_workers; i++) {
        worker_start(sim, &sim->workers[i]);
    }
    for (int i = 0; i < sim->n_producers; i++) {
        int64_t later_us = i < sim->n_files ? 0 : sim_between(sim, 0, 3000000);
        sim_in(sim, later_us, on_producer_due, NULL, &sim->producers[i]);
    }
    person_start(sim);
    unacked_puller_start(sim);
    faults_plan(sim);
    int64_t last_us = sim->faults_end_us + (int64_t)END_MS * 1000;
    while (sim->why[0] == '\0' && sim->n_heap > 0 && sim->n_events < EVENTS_MAX) {
        if (sim->now_us > last_us || check_is_done(sim)) {
            break;
        }
        step(sim);
    }
    check_end(sim);
}
