// Workers, after worker/receive.c, report.c and link.c. Invariant: as there: each DISPATCH ends in a REPORT
// that is kept until TAKEN; a DISPATCH that comes twice makes one call. A worker that is killed forgets
// everything, and starts again under the same name with a larger incarnation.
// Called by links (messages) and faults; calls provider.
#include "tests/sim/sim.h"
#include "common/mem.h"
#include "proto/record.h"

#include <inttypes.h>
#include <msgpack.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static void connect_soon(struct sim *sim, struct sim_worker *w);

static struct work *find(struct sim_worker *w, uint64_t batch, uint64_t call) {
    for (struct work *k = w->work; k != NULL; k = k->next) {
        if (k->batch == batch && k->call == call) {
            return k;
        }
    }
    return NULL;
}

static size_t count(const struct sim_worker *w) {
    size_t n = 0;
    for (const struct work *k = w->work; k != NULL; k = k->next) {
        n++;
    }
    return n;
}

static void work_free(struct sim_worker *w, struct work *k) {
    DL_DELETE(w->work, k);
    free(k->report);
    free(k);
}

bool worker_is_idle(const struct sim_worker *w) {
    return w->work == NULL;
}

void worker_free(struct sim_worker *w) {
    while (w->work != NULL) {
        work_free(w, w->work);
    }
}

// ---- Reports ----------------------------------------------------------------------------------------

static void send_report(struct sim *sim, struct sim_worker *w, struct work *k) {
    struct message message;
    struct error why;
    if (w->welcome &&
        message_unpack((struct slice){.p = k->report, .n = k->n_report}, &message, &why) == 0) {
        (void)link_to_coord(sim, w->link, &message); // not taken: sent at the next WELCOME
    }
}

static void report(struct sim *sim, struct sim_worker *w, struct work *k, const struct answered *a) {
    char id[32];
    snprintf(id, sizeof(id), "a%d", k->ask);
    struct message m = {.kind = MESSAGE_REPORT,
                        .report = {.batch = k->batch,
                                   .call = k->call,
                                   .outcome = slice_of(outcome_of(a->outcome)->text),
                                   .items = a->items != NULL ? buf_slice(a->items) : SLICE_NONE,
                                   .warning = slice_of(a->warning),
                                   .http_status = (uint64_t)a->status,
                                   .sent = a->sent,
                                   .retry_after_ms = a->retry_after_ms,
                                   .request_id = slice_of(id),
                                   .usage_known = a->usage_known,
                                   .input_tokens = a->tokens,
                                   .output_tokens = a->usage_known ? 1 : 0,
                                   .latency_us = 1000}};
    struct buf frame;
    buf_init(&frame, 1 << 22);
    if (message_pack(&m, &frame) != 0) {
        sim_fail(sim, "a REPORT cannot be packed");
    }
    k->n_report = frame.n;
    k->report = buf_take(&frame);
    k->state = WORK_REPORTED;
    sim_trace(sim, "%s: batch %" PRIx64 " call %" PRIu64 " (a%d) is %s", w->name, k->batch, k->call, k->ask,
              outcome_of(a->outcome)->text);
    send_report(sim, w, k);
}

static void unsent(struct sim *sim, struct sim_worker *w, struct work *k) {
    report(sim, w, k, &(struct answered){.outcome = OUTCOME_UNSENT});
}

// ---- Calls ------------------------------------------------------------------------------------------

// kills says whether reading the answer crashes the worker, and counts it for the records that do it.
static bool kills(struct sim *sim, const struct work *k) {
    bool any = false;
    for (size_t i = 0; i < k->count; i++) {
        struct record *r = k->records[i] >= 0 ? &sim->records[k->records[i]] : NULL;
        if (r != NULL && r->killer && sim->now_us < sim->heals_us) {
            any = true;
            r->n_killed++;
        }
    }
    return any;
}

static void on_born_again(struct sim *sim, struct event *event) {
    worker_start(sim, event->who);
}

static void on_answer(struct sim *sim, struct event *event) {
    struct sim_worker *w = event->who;
    struct work *k = find(w, event->a, event->b);
    if (k == NULL || k->state != WORK_RUNNING) {
        return;
    }
    if (provider_has_text((uint64_t)event->n_bytes) && kills(sim, k)) {
        worker_crash(sim, w);
        sim_in(sim, sim_between(sim, 1000, 2000000), on_born_again, NULL, w);
        return;
    }
    struct buf items;
    buf_init(&items, 1 << 22);
    struct answered a = {.items = &items};
    provider_answer(sim, k, (uint64_t)event->n_bytes, &a);
    report(sim, w, k, &a);
    buf_free(&items);
}

// on_start puts the request on the wire, if there is still time.
static void on_start(struct sim *sim, struct event *event) {
    struct sim_worker *w = event->who;
    struct work *k = find(w, event->a, event->b);
    if (k == NULL || k->state != WORK_RUNNING) {
        return;
    }
    if (sim->now_us > k->deadline_us) {
        unsent(sim, w, k);
        return;
    }
    uint64_t kind = 0;
    int64_t latency_us = provider_ask(sim, k, &kind);
    struct event *answer = sim_in(sim, latency_us, on_answer, &w->life, w);
    answer->a = k->batch;
    answer->b = k->call;
    answer->n_bytes = (size_t)kind;
}

static void start(struct sim *sim, struct sim_worker *w, struct work *k) {
    k->state = WORK_RUNNING;
    struct event *event = sim_in(sim, sim_between(sim, 0, sim_chance(sim, 50) ? 8000000 : 20000), on_start,
                                 &w->life, w);
    event->a = k->batch;
    event->b = k->call;
}

static void on_waited(struct sim *sim, struct event *event) {
    struct sim_worker *w = event->who;
    struct work *k = find(w, event->a, event->b);
    if (k != NULL && k->state == WORK_WAITING) {
        unsent(sim, w, k); // the model's revision did not come in time
    }
}

static void ask_model(struct sim *sim, struct sim_worker *w, int model) {
    struct message m = {.kind = MESSAGE_MODEL_GET,
                        .model_get = {.model = slice_of(sim->models.items[model].model->name),
                                      .revision = 1}};
    (void)link_to_coord(sim, w->link, &m);
}

static void read_records(struct sim *sim, struct work *k, struct slice rest) {
    struct slice values;
    uint64_t slot;
    for (k->count = 0; record_next(&rest, &slot, &values) > 0; k->count++) {
        if (k->count == ASKED_MAX) {
            sim_fail(sim, "a call asks for more records than a batch has");
            return;
        }
        k->slots[k->count] = slot;
        k->records[k->count] = record_find(sim, values);
    }
}

static void on_dispatch(struct sim *sim, struct sim_worker *w, const struct message_dispatch *d) {
    struct work *k = find(w, d->batch, d->call);
    if (k != NULL) {
        if (k->state == WORK_REPORTED) {
            send_report(sim, w, k);
        }
        return;
    }
    k = mem_zalloc(sizeof(*k));
    k->batch = d->batch;
    k->call = d->call;
    k->deadline_us = sim->now_us + (int64_t)d->valid_ms * 1000;
    k->model = d->model.n == 2 ? d->model.p[1] - '0' : 0;
    k->ask = check_ask_of(sim, w->index, d->batch, d->call);
    read_records(sim, k, d->records);
    DL_APPEND(w->work, k);
    bool is_stale = d->not_after > 0 && (uint64_t)sim->now_us > d->not_after;
    if (is_stale || count(w) > w->max_inflight) {
        unsent(sim, w, k);
    } else if (w->models[k->model]) {
        start(sim, w, k);
    } else {
        ask_model(sim, w, k->model);
        struct event *event = sim_at(sim, k->deadline_us, on_waited, &w->life, w);
        event->a = k->batch;
        event->b = k->call;
    }
}

static void on_model(struct sim *sim, struct sim_worker *w, const struct message_model *m) {
    int model = m->model.n == 2 ? m->model.p[1] - '0' : 0;
    w->models[model] = true;
    for (struct work *k = w->work; k != NULL; k = k->next) {
        if (k->state == WORK_WAITING && k->model == model) {
            start(sim, w, k);
        }
    }
}

static void on_taken(struct sim *sim, struct sim_worker *w, struct slice calls) {
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, calls.p, calls.n, NULL) == MSGPACK_UNPACK_SUCCESS) {
        for (uint32_t i = 0; i < unpacked.data.via.array.size; i++) {
            const msgpack_object *pair = unpacked.data.via.array.ptr[i].via.array.ptr;
            struct work *k = find(w, pair[0].via.u64, pair[1].via.u64);
            if (k != NULL && k->state == WORK_REPORTED) {
                check_taken(sim, k->ask);
                work_free(w, k);
            }
        }
    }
    msgpack_unpacked_destroy(&unpacked);
}

// ---- The link ---------------------------------------------------------------------------------------

static int write_buf(void *arg, const char *p, size_t n) {
    return buf_add(arg, p, n);
}

static void greet(struct sim *sim, struct sim_worker *w) {
    struct buf held;
    buf_init(&held, 1 << 20);
    msgpack_packer packer;
    msgpack_packer_init(&packer, &held, write_buf);
    msgpack_pack_array(&packer, count(w));
    for (int state = WORK_WAITING; state <= WORK_REPORTED; state++) {
        for (struct work *k = w->work; k != NULL; k = k->next) {
            if (k->state == (enum work_state)state) {
                msgpack_pack_array(&packer, 3);
                msgpack_pack_uint64(&packer, k->batch);
                msgpack_pack_uint64(&packer, k->call);
                msgpack_pack_array(&packer, k->count);
                for (size_t i = 0; i < k->count; i++) {
                    msgpack_pack_uint64(&packer, k->slots[i]);
                }
            }
        }
    }
    struct message m = {.kind = MESSAGE_HELLO,
                        .hello = {.worker = slice_of(w->name),
                                  .incarnation = w->incarnation,
                                  .time = (uint64_t)sim->now_us,
                                  .version = SLICE_LIT("0"),
                                  .max_inflight = w->max_inflight,
                                  .max_bytes = 1 << 20,
                                  .held = buf_slice(&held)}};
    (void)link_to_coord(sim, w->link, &m);
    buf_free(&held);
}

static void on_welcome(struct sim *sim, struct sim_worker *w) {
    w->welcome = true;
    for (struct work *k = w->work; k != NULL; k = k->next) {
        if (k->state == WORK_WAITING) {
            ask_model(sim, w, k->model);
        } else if (k->state == WORK_REPORTED) {
            send_report(sim, w, k);
        }
    }
}

static void on_heartbeat(struct sim *sim, struct event *event) {
    struct sim_worker *w = event->who;
    if (w->welcome && sim->now_us - w->heard_us > 3 * HEARTBEAT_MS * 1000) {
        link_cut(sim, w->link); // silent: the socket is given up
        w->welcome = false;
    }
    if (w->link >= 0 && !w->welcome) {
        greet(sim, w);
    } else if (w->link >= 0) {
        struct message ping = {.kind = MESSAGE_PING, .ping = {.time = (uint64_t)sim->now_us, .worker = true}};
        (void)link_to_coord(sim, w->link, &ping);
    }
    sim_in(sim, HEARTBEAT_MS * 1000, on_heartbeat, &w->life, w);
}

static void on_connect(struct sim *sim, struct event *event) {
    struct sim_worker *w = event->who;
    if (w->link >= 0) {
        return;
    }
    w->link = link_open(sim, PEER_WORKER, w->index);
    if (w->link < 0) {
        connect_soon(sim, w);
    } else if (!w->welcome) {
        w->heard_us = sim->now_us;
        greet(sim, w);
    } // else it does not know that its socket was away, and hears of it at its next PING
}

static void connect_soon(struct sim *sim, struct sim_worker *w) {
    sim_in(sim, sim_between(sim, 50000, 1000000), on_connect, &w->life, w);
}

void worker_link_lost(struct sim *sim, struct sim_worker *w) {
    w->link = -1;
    connect_soon(sim, w);
}

static void on_refused(struct sim *sim, struct sim_worker *w, struct slice code) {
    if (slice_is(code, "unknown-worker") && w->welcome) {
        w->welcome = false;
        greet(sim, w);
    }
}

void worker_message(struct sim *sim, struct sim_worker *w, const struct message *m) {
    w->heard_us = sim->now_us;
    switch (m->kind) {
    case MESSAGE_WELCOME:
        on_welcome(sim, w);
        break;
    case MESSAGE_DISPATCH:
        on_dispatch(sim, w, &m->dispatch);
        break;
    case MESSAGE_MODEL:
        on_model(sim, w, &m->model);
        break;
    case MESSAGE_TAKEN:
        on_taken(sim, w, m->taken.calls);
        break;
    case MESSAGE_REFUSED:
        on_refused(sim, w, m->refused.code);
        break;
    default:
        break;
    }
}

// ---- Life -------------------------------------------------------------------------------------------

void worker_start(struct sim *sim, struct sim_worker *w) {
    if (w->life.on) {
        return;
    }
    life_start(&w->life);
    w->incarnation = (uint64_t)sim->now_us * WORKERS_MAX + (uint64_t)w->index;
    w->link = -1;
    w->welcome = false;
    memset(w->models, 0, sizeof(w->models));
    sim_trace(sim, "%s (worker %d) starts", w->name, w->index);
    sim_in(sim, sim_between(sim, 0, 50000), on_connect, &w->life, w);
    sim_in(sim, HEARTBEAT_MS * 1000, on_heartbeat, &w->life, w);
}

void worker_crash(struct sim *sim, struct sim_worker *w) {
    sim->lost_some = true;
    if (!w->life.on) {
        return;
    }
    sim_trace(sim, "%s (worker %d) is killed", w->name, w->index);
    int link = w->link;
    sim->worker_killed_us = sim->now_us;
    life_end(&w->life);
    link_cut(sim, link);
    w->link = -1;
    worker_free(w);
}
