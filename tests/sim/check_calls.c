// The checker of calls:
//   B  nothing is bought twice: no record is asked for again once the coordinator has its answer, nor while
//      a call for it may still be answered, unless that call is counted as ambiguous
//   O  a record is asked for with its own model and overrides, or one that it was handed on to, and then of no
//      model before that; no call mixes them
//   F  no call after it was noticed that Redis lost something
// Called by links (DISPATCH) and coord (HELLO, REPORT).
#include "tests/sim/sim.h"
#include "common/mem.h"
#include "proto/record.h"
#include "tests/sim/dump.h"

#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int check_ask_of(struct sim *sim, int worker, uint64_t batch, uint64_t call) {
    for (size_t i = sim->n_asks; i-- > 0;) {
        const struct ask *a = &sim->asks[i];
        if (a->batch == batch && a->call == call && a->worker == worker) {
            return (int)i;
        }
    }
    sim_fail(sim, "worker %d has a call that nobody sent to it", worker);
    return 0;
}

static bool asks_for(const struct ask *a, int record) {
    for (size_t i = 0; i < a->count; i++) {
        if (a->records[i] == record) {
            return true;
        }
    }
    return false;
}

static bool is_known_to(const struct ask *a, const struct coord *c) {
    return a->known_coord == c->index && a->known_life == c->life.n;
}

// hide marks the earlier calls for a record whose report has not come, and that are made again now. Those
// that reached the provider may have been billed, so each has to be counted as ambiguous. A report that came to
// an earlier coordinator did so if that has made it durable: its batch says then that the call is paid for.
static void hide(struct sim *sim, struct coord *c, int record) {
    for (size_t i = 0; i < sim->n_asks; i++) {
        struct ask *a = &sim->asks[i];
        bool reported = (a->reports > 0 && a->report_life == c->life.n) ||
                        (a->heard && dump_is_counted(c->core, a->batch, (uint32_t)a->call));
        bool counts = a->at_us >= sim->records[record].redriven_us;
        if (is_known_to(a, c) && asks_for(a, record) && !reported && !a->hidden && counts) {
            a->hidden = true;
            c->n_hidden += a->started;
        }
    }
}

// level_of says how far along a record's models a call is made of it; -1: of none of them.
static int level_of(const struct sim *sim, const struct record *r, const struct message_dispatch *d) {
    const struct model *model = sim->models.items[r->model].model;
    for (int level = 0; level < MODELS; level++) {
        if (slice_is(d->model, model->name)) {
            return level;
        }
        size_t i = 0;
        while (i < sim->models.n && strcmp(sim->models.items[i].model->name, model->options.fallback_model) != 0) {
            i++;
        }
        if (i == sim->models.n) {
            return -1;
        }
        model = sim->models.items[i].model;
    }
    return -1;
}

// is_handed_on: a record is asked of another model once its own could not do it, and of none before that again.
// None of the overrides goes along.
static bool is_handed_on(const struct sim *sim, const struct record *r, int level, const struct message_dispatch *d) {
    bool may = level >= (int)r->level && (level == 0 || r->n_failed > 0);
    return (may || sim->rolled_back || sim->went_back) && (level == 0 || d->overrides.n == 0);
}

// is_as_wanted: the call is for the record's own model, with its own overrides and no other.
static bool is_as_wanted(const struct record *r, const struct message_dispatch *d) {
    const struct sim_override *o = &sim_overrides[r->override];
    char model[8];
    struct slice name = SLICE_NONE, value = SLICE_NONE;
    snprintf(model, sizeof(model), "m%d", r->model);
    int n = options_get(d->overrides, 0, &name, &value);
    bool has_more = n > 0 && options_get(d->overrides, 1, &(struct slice){0}, &(struct slice){0}) > 0;
    return slice_is(d->model, model) && !has_more &&
           (o->name == NULL ? n == 0 : n == 1 && slice_is(name, o->name) && slice_is(value, o->value));
}

static size_t most_of_call(const struct sim *sim, const struct record *r, const struct message_dispatch *d) {
    for (size_t i = 0; i < sim->models.n; i++) {
        const struct model *model = sim->models.items[i].model;
        if (slice_is(d->model, model->name) && (int)i != r->model) {
            return (size_t)model->options.batch_size;
        }
    }
    const struct sim_override *o = &sim_overrides[r->override];
    return o->name != NULL && strcmp(o->name, "batch.size") == 0 ? strtoul(o->value, NULL, 10) : sim->batch_size;
}

static bool is_of_other_pool(const struct record *r) {
    const struct sim_override *o = &sim_overrides[r->override];
    return o->name != NULL && strcmp(o->name, "model") == 0;
}

void check_dispatch(struct sim *sim, struct coord *c, int worker, const struct message_dispatch *d) {
    struct ask ask = {.batch = d->batch, .call = d->call, .coord = c->index, .coord_life = c->life.n,
                      .at_us = sim->now_us, .worker = worker, .known_coord = c->index,
                      .known_life = c->life.n};
    struct slice rest = d->records, values;
    uint64_t slot;
    bool is_own = true;
    if (c->alarmed) {
        sim_fail(sim, "F: a call after it was noticed that Redis lost something");
    }
    for (; record_next(&rest, &slot, &values) > 0 && ask.count < ASKED_MAX; ask.count++) {
        int record = record_find(sim, values);
        if (record < 0) {
            sim_fail(sim, "R: a call asks for a record that no producer sent");
            return;
        }
        struct record *r = &sim->records[record];
        ask.records[ask.count] = record;
        ask.slots[ask.count] = slot;
        if (r->ends.n_out + r->ends.n_dead > r->ends.n_again && !sim->rolled_back) {
            sim_fail(sim, "B: p%d-%d is asked for, and its result is in the outbox", r->producer, (int)r->seq);
        } else if (r->answered_coord == c->index && r->answered_life == c->life.n && !sim->rolled_back) {
            sim_fail(sim, "B: p%d-%d is asked for again after its answer came", r->producer, (int)r->seq);
        }
        int level = level_of(sim, r, d);
        if ((level <= 0 && !is_as_wanted(r, d)) || ask.count + 1 > most_of_call(sim, r, d)) {
            sim_fail(sim, "O: p%d-%d is asked for with another model, other overrides or too many others", r->producer,
                     (int)r->seq);
        } else if (!is_handed_on(sim, r, level, d)) {
            sim_fail(sim, "O: p%d-%d was handed on to model %u of its own, and is asked of model %d", r->producer,
                     (int)r->seq, r->level, level);
        }
        r->level = (int)r->level < level ? (unsigned)level : r->level;
        is_own &= level == 0;
        hide(sim, c, record);
    }
    ask.other_pool = is_own && ask.count > 0 && is_of_other_pool(&sim->records[ask.records[0]]);
    check_permit_used(sim, c, ask.other_pool);
    sim_trace(sim, "%s: batch %" PRIx64 " call %" PRIu64 " (a%zu) to worker %d: %zu records", c->name, d->batch,
              d->call, sim->n_asks, worker, ask.count);
    if (sim->n_asks == sim->cap_asks) {
        sim->cap_asks = sim->cap_asks > 0 ? sim->cap_asks * 2 : 64;
        sim->asks = mem_realloc(sim->asks, sim->cap_asks * sizeof(*sim->asks));
    }
    sim->asks[sim->n_asks++] = ask;
    if (c->n_hidden > c->status.calls_ambiguous - c->n_before && !sim->rolled_back) {
        sim_fail(sim, "B: %" PRIu64 " calls were made again before their report came, %" PRIu64
                      " are counted as ambiguous", c->n_hidden,
                 c->status.calls_ambiguous - c->n_before);
    }
}

// check_hello: from now on the coordinator knows of the calls that the worker names.
void check_hello(struct sim *sim, struct coord *c, int worker, struct slice held) {
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, held.p, held.n, NULL) == MSGPACK_UNPACK_SUCCESS) {
        for (uint32_t i = 0; i < unpacked.data.via.array.size; i++) {
            const msgpack_object *f = unpacked.data.via.array.ptr[i].via.array.ptr;
            struct ask *a = &sim->asks[check_ask_of(sim, worker, f[0].via.u64, f[1].via.u64)];
            a->known_coord = c->index;
            a->known_life = c->life.n;
            sim_trace(sim, "  it holds batch %" PRIx64 " call %" PRIu64 " (a%zu): %zu records", a->batch, a->call,
                      (size_t)(a - sim->asks), a->count);
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}

void check_report(struct sim *sim, struct coord *c, const struct message_report *report) {
    char text[32];
    slice_copy(report->request_id, text, sizeof(text));
    size_t i = strtoul(text + (text[0] == 'a'), NULL, 10);
    if (i >= sim->n_asks) {
        sim_fail(sim, "a report for a call that nobody made");
        return;
    }
    struct ask *a = &sim->asks[i];
    if (a->report_life != c->life.n || a->known_coord != c->index) {
        a->reports = 0;
    }
    a->reports++;
    a->heard = true;
    bool is_free = !report->sent || slice_is(report->outcome, "unsent") ||
                   (report->http_status == 429 && !sim->is_window); // as the profile says
    if (a->reports == 1 && is_free) {
        check_permit_unsent(sim, c, i);
    }
    a->answered |= report->usage_known;
    bool is_open = report->sent && (report->http_status == 0 || report->http_status == 200) &&
                   (slice_is(report->outcome, "timeout") || slice_is(report->outcome, "broken-answer"));
    a->closed |= !is_open;
    a->report_life = c->life.n;
    a->known_coord = c->index;
    a->known_life = c->life.n;
    struct slice rest = report->items, payload;
    uint64_t slot;
    enum outcome outcome;
    while (item_next(&rest, &slot, &outcome, &payload) > 0) {
        for (size_t k = 0; k < a->count; k++) {
            if (a->slots[k] == slot && outcome == OUTCOME_OK) {
                struct record *r = &sim->records[a->records[k]];
                if (a->at_us >= r->redriven_us) {
                    r->answered_coord = c->index;
                    r->answered_life = c->life.n;
                }
            }
        }
    }
    for (size_t k = 0; k < a->count; k++) {
        struct record *r = &sim->records[a->records[k]];
        r->n_failed += r->answered_coord != c->index || r->answered_life != c->life.n;
    }
}

