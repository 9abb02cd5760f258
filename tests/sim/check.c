// The checker. The letters stand for what is looked at:
//   L  nothing is lost: what was acked to a producer is durable, and ends as a result or a dead letter
//   D  nothing is doubled: each record enters the outbox once; consumers see no gap and nothing twice
//   B  nothing is bought twice: no record is asked for again once the coordinator has its answer, nor while
//      a call for it may still be answered, unless that call is counted as ambiguous
//   R  the right answer is on the right record, and an error has a cause
//   V  everything ends soon after the last fault
//   F  no write with an old epoch (redis.c)
//   C  the coordinator's counters are what happened
// Called by everybody.
#include "tests/sim/sim.h"
#include "common/mem.h"
#include "coordinator/letter.h"
#include "proto/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// record_find looks for "pN-M" in the text.
int record_find(const struct sim *sim, struct slice text) {
    for (size_t i = 0; i + 3 < text.n; i++) {
        int producer, seq;
        char copy[32];
        if (text.p[i] != 'p' || text.p[i + 1] < '0' || text.p[i + 1] > '9') {
            continue;
        }
        slice_copy(slice_sub(text, i, 31), copy, sizeof(copy));
        if (sscanf(copy, "p%d-%d", &producer, &seq) == 2 && producer >= 0 && producer < sim->n_producers &&
            seq >= 1 && seq <= sim->producers[producer].n) {
            return sim->producers[producer].first + seq - 1;
        }
    }
    return -1;
}

// ---- Calls ------------------------------------------------------------------------------------------

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
// that reached the provider may have been billed, so each has to be counted as ambiguous.
static void hide(struct sim *sim, struct coord *c, int record) {
    for (size_t i = 0; i < sim->n_asks; i++) {
        struct ask *a = &sim->asks[i];
        bool reported = a->reports > 0 && a->report_life == c->life.n;
        if (is_known_to(a, c) && asks_for(a, record) && !reported && !a->hidden) {
            a->hidden = true;
            c->n_hidden += a->started;
        }
    }
}

void check_dispatch(struct sim *sim, struct coord *c, int worker, const struct message_dispatch *d) {
    struct ask ask = {.batch = d->batch, .call = d->call, .coord = c->index, .coord_life = c->life.n,
                      .at_us = sim->now_us, .worker = worker, .known_coord = c->index,
                      .known_life = c->life.n};
    struct slice rest = d->records, values;
    uint64_t slot;
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
        if (r->ends.n_out + r->ends.n_dead > 0 && !sim->rolled_back) {
            sim_fail(sim, "B: p%d-%d is asked for, and its result is in the outbox", r->producer, (int)r->seq);
        } else if (r->answered_coord == c->index && r->answered_life == c->life.n) {
            sim_fail(sim, "B: p%d-%d is asked for again after its answer came", r->producer, (int)r->seq);
        }
        hide(sim, c, record);
    }
    sim_trace(sim, "%s: batch %" PRIx64 " call %" PRIu64 " (a%zu) to worker %d: %zu records", c->name, d->batch,
              d->call, sim->n_asks, worker, ask.count);
    if (sim->n_asks == sim->cap_asks) {
        sim->cap_asks = sim->cap_asks > 0 ? sim->cap_asks * 2 : 64;
        sim->asks = mem_realloc(sim->asks, sim->cap_asks * sizeof(*sim->asks));
    }
    sim->asks[sim->n_asks++] = ask;
    if (c->n_hidden > c->status.calls_ambiguous) {
        sim_fail(sim, "B: %" PRIu64 " calls were made again before their report came, %" PRIu64
                      " are counted as ambiguous", c->n_hidden, c->status.calls_ambiguous);
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
    a->answered |= report->usage_known;
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
                r->answered_coord = c->index;
                r->answered_life = c->life.n;
            }
        }
    }
    for (size_t k = 0; k < a->count; k++) {
        struct record *r = &sim->records[a->records[k]];
        r->n_failed += r->answered_coord != c->index || r->answered_life != c->life.n;
    }
}

// ---- Records ----------------------------------------------------------------------------------------

void check_acked(struct sim *sim, int producer, uint64_t upto) {
    struct sim_producer *p = &sim->producers[producer];
    if (upto > (uint64_t)p->n) {
        sim_fail(sim, "L: producer %d was acked %" PRIu64 " of %d records", producer, upto, p->n);
        return;
    }
    for (uint64_t seq = 1; seq <= upto; seq++) {
        struct record *r = &sim->records[p->first + (int)seq - 1];
        if (r->acked || sim->rolled_back) {
            continue;
        }
        r->acked = true;
        bool durable = r->ends.n_out + r->ends.n_dead > 0;
        for (uint32_t i = 0; i < sim->n_parts && !durable; i++) {
            const struct redis_part *kept = &sim->redis.parts[i];
            char id[24];
            snprintf(id, sizeof(id), "p%d-%d", producer, (int)seq);
            for (size_t k = 0; k < kept->n_batches && !durable; k++) {
                durable = memmem(kept->batches[k].bytes, kept->batches[k].n_bytes, id, strlen(id)) != NULL;
            }
        }
        if (!durable) {
            sim_fail(sim, "L: p%d-%d was acked, and Redis does not have it", producer, (int)seq);
        }
    }
}

// read_result reads one line of a result: whose it is, and whether its answer is right.
static struct record *read_result(struct sim *sim, struct slice json, bool *is_error) {
    char line[1024], value[64];
    slice_copy(json, line, sizeof(line));
    char *id = strstr(line, "\"id\":\"");
    int index = id != NULL ? record_find(sim, slice_of(id)) : -1;
    if (index < 0) {
        sim_fail(sim, "R: a result of nobody's record: %.200s", line);
        return NULL;
    }
    struct record *r = &sim->records[index];
    *is_error = strstr(line, "\"error\":null") == NULL;
    snprintf(value, sizeof(value), "\"sentiment\":\"=p%d-%d\"", r->producer, (int)r->seq);
    bool is_right = strstr(line, value) != NULL;
    if (!*is_error && (!is_right || r->bad || r->poison)) {
        sim_fail(sim, "R: a wrong answer: %.200s", line);
    } else if (*is_error && !r->bad && !r->poison && r->n_failed == 0 && sim->n_coord_crashes == 0 &&
               strstr(line, "worker-lost") == NULL) {
        sim_fail(sim, "R: an error, and no call for the record had failed: %.200s", line);
    }
    return r;
}

// check_letter takes a dead letter; one whose record comes out as an error row too is no end of its own.
static void check_letter(struct sim *sim, struct slice blob) {
    struct letter letter;
    int index = letter_unpack(blob, &letter) == 0 ? record_find(sim, letter.id) : -1;
    if (index < 0) {
        sim_fail(sim, "R: a dead letter that cannot be read, or of nobody's record");
    } else if (!letter.has_row) {
        struct record *r = &sim->records[index];
        r->ends.n_dead++;
        if (r->ends.n_out + r->ends.n_dead > 1 && !sim->rolled_back) {
            sim_fail(sim, "D: p%d-%d ends a second time", r->producer, (int)r->seq);
        }
    }
}

void check_result_stored(struct sim *sim, uint32_t part, uint64_t last_oseq, struct slice blob, bool dead) {
    if (dead) {
        check_letter(sim, blob);
        return;
    }
    struct buf text;
    buf_init(&text, 1 << 22);
    long n = result_blob_count(blob);
    if (n <= 0 || result_blob_expand(blob, 0, (size_t)n, RESULT_JSON, false, &text) != 0) {
        sim_fail(sim, "R: results that cannot be read");
    }
    struct slice rest = buf_slice(&text);
    for (long i = 0; i < n; i++) {
        const char *end = rest.n > 0 ? memchr(rest.p, '\n', rest.n) : NULL;
        size_t size = end != NULL ? (size_t)(end - rest.p) + 1 : rest.n;
        bool is_error = false;
        struct record *r = read_result(sim, slice_sub(rest, 0, size), &is_error);
        if (r != NULL) {
            r->ends.n_out++;
            r->ends.n_error += is_error;
            if (r->ends.n_out + r->ends.n_dead > 1 && !sim->rolled_back) {
                sim_fail(sim, "D: p%d-%d enters the outbox a second time", r->producer, (int)r->seq);
            }
        }
        rest = slice_sub(rest, size, rest.n);
    }
    buf_free(&text);
}

void check_result_used(struct sim *sim, int consumer, uint32_t part, uint64_t oseq, struct slice json) {
    bool is_error;
    struct sim_consumer *c = &sim->consumers[consumer];
    if (sim->rolled_back) {
        return;
    }
    if (oseq != c->used[part] + 1) {
        sim_fail(sim, "D: consumer %d got %" PRIu64 " of partition %u after %" PRIu64, consumer, oseq, part,
                 c->used[part]);
    }
    struct record *r = read_result(sim, json, &is_error);
    if (r != NULL && ++r->n_used[consumer] > 1) {
        sim_fail(sim, "D: consumer %d got p%d-%d twice", consumer, r->producer, (int)r->seq);
    }
}

// ---- Ends -------------------------------------------------------------------------------------------

void check_life_ends(struct sim *sim, struct coord *c) {
    sim->n_ambiguous += c->status.calls_ambiguous;
    sim->n_hidden += c->n_hidden;
}

bool check_is_done(const struct sim *sim) {
    if (sim->rolled_back) { // for a while it is looked at whether there is silence
        return sim->alarmed_us > 0 && sim->now_us > sim->alarmed_us + 10000000;
    }
    const struct coord *c = &sim->coords[sim->primary];
    if (!c->life.on || life_is_paused(sim, &c->life)) {
        return false;
    }
    for (int i = 0; i < sim->n_producers; i++) {
        if (sim->producers[i].acked < (uint64_t)sim->producers[i].n) {
            return false;
        }
    }
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        const struct redis_part *p = &sim->redis.parts[i];
        if (p->n_batches > 0 || p->n_outs > 0) {
            return false;
        }
    }
    for (int i = 0; i < sim->n_workers; i++) {
        if (!worker_is_idle(&sim->workers[i])) {
            return false;
        }
    }
    return true;
}

// What a coordinator that lived through all of it has counted.
static void check_counters(struct sim *sim) {
    const struct status *s = &sim->coords[0].status;
    uint64_t n_out = 0, n_dead = 0, n_error = 0, tokens = 0;
    for (int i = 0; i < sim->n_records; i++) {
        n_out += sim->records[i].ends.n_out;
        n_dead += sim->records[i].ends.n_dead;
        n_error += sim->records[i].ends.n_error;
    }
    for (size_t i = 0; i < sim->n_asks; i++) {
        tokens += sim->asks[i].answered ? sim->asks[i].tokens : 0;
    }
    if (s->records_in + s->records_bad != (uint64_t)sim->n_records || s->results_ok != n_out - n_error ||
        s->results_error != n_error || s->dead_letters < n_dead || s->dead_letters > n_dead + n_error || s->input_tokens != tokens) {
        sim_fail(sim, "C: counted %" PRIu64 "+%" PRIu64 " records, %" PRIu64 " results, %" PRIu64 " errors, %" PRIu64
                      " dead letters, %" PRIu64 " tokens; there were %d, %" PRIu64 ", %" PRIu64 ", %" PRIu64
                      ", %" PRIu64,
                 s->records_in, s->records_bad, s->results_ok, s->results_error, s->dead_letters,
                 s->input_tokens, sim->n_records, n_out - n_error, n_error, n_dead, tokens);
    }
}

// fail_unfinished says what has not ended.
static void fail_unfinished(struct sim *sim) {
    size_t n_batches = 0, n_outs = 0, n_busy = 0, n_records = 0;
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        n_batches += sim->redis.parts[i].n_batches;
        n_outs += sim->redis.parts[i].n_outs;
    }
    for (int i = 0; i < sim->n_workers; i++) {
        n_busy += !worker_is_idle(&sim->workers[i]);
    }
    for (int i = 0; i < sim->n_records; i++) {
        n_records += !sim->records[i].acked;
    }
    sim_fail(sim, "V: not everything has ended: %zu records not acked, %zu batches, %zu results not used, "
                  "%zu workers with calls", n_records, n_batches, n_outs, n_busy);
}

void check_end(struct sim *sim) {
    if (sim->why[0] != '\0') {
        return;
    }
    if (!check_is_done(sim) && sim->rolled_back) {
        sim_fail(sim, "F: Redis lost what it had, and nobody noticed");
        return;
    }
    if (!check_is_done(sim)) {
        fail_unfinished(sim);
        return;
    }
    if (sim->rolled_back) {
        return;
    }
    for (int i = 0; i < sim->n_records; i++) {
        const struct record *r = &sim->records[i];
        if (r->ends.n_out + r->ends.n_dead != 1) {
            sim_fail(sim, "L: p%d-%d has %d results", r->producer, (int)r->seq, (int)(r->ends.n_out + r->ends.n_dead));
        } else if (r->n_used[0] != r->ends.n_out) {
            sim_fail(sim, "L: p%d-%d was used %d times", r->producer, (int)r->seq, (int)r->n_used[0]);
        }
    }
    if (sim->n_coord_lives == 1) {
        check_counters(sim);
    }
    check_life_ends(sim, &sim->coords[sim->primary]);
}
