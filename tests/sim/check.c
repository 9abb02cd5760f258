// The checker. The letters stand for what is looked at:
//   L  nothing is lost: what was acked to a producer is durable, and ends as a result or a dead letter
//   D  nothing is doubled: each record enters the outbox once; consumers see no gap and nothing twice
//   B  nothing is bought twice (check_calls.c)
//   O  records are asked for as they want it (check_calls.c)
//   R  the right answer is on the right record, and an error has a cause
//   V  everything ends soon after the last fault
//   F  no write with an old epoch (redis.c)
//   C  the coordinator's counters are what happened
//   A  calls that may have been billed are counted (check_ambiguous.c)
// Called by everybody.
#include "tests/sim/sim.h"
#include "coordinator/letter.h"
#include "proto/record.h"
#include "tests/sim/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORKER_GONE_US (5 * HEARTBEAT_MS * INT64_C(1000)) // until a coordinator has noticed that one is

// record_find looks for "pN-M" in the text.
int record_find(const struct sim *sim, struct slice text) {
    for (size_t i = 0; i + 3 < text.n; i++) {
        int producer, seq;
        char copy[32];
        if (text.p[i] != 'p' || text.p[i + 1] < '0' || text.p[i + 1] > '9') {
            continue;
        }
        slice_copy(slice_sub(text, i, 31), copy, sizeof(copy));
        if (sscanf(copy, "p%d-%d", &producer, &seq) == 2 && producer >= 0 && producer < sim->n_files &&
            seq >= 1 && seq <= sim->producers[producer].n) {
            return sim->producers[producer].first + seq - 1;
        }
    }
    return -1;
}

// ---- Records ----------------------------------------------------------------------------------------

static bool is_kept(const struct redis_part *p, const struct record *r) {
    char id[24];
    int n = snprintf(id, sizeof(id), "p%d-%d", r->producer, (int)r->seq);
    for (size_t k = 0; k < p->n_batches; k++) {
        const char *at = memmem(p->batches[k].bytes, p->batches[k].n_bytes, id, (size_t)n);
        while (at != NULL && at + n < p->batches[k].bytes + p->batches[k].n_bytes && at[n] >= '0' && at[n] <= '9') {
            at++; // of p1-1 and p1-12
            at = memmem(at, p->batches[k].n_bytes - (size_t)(at - p->batches[k].bytes), id, (size_t)n);
        }
        if (at != NULL) {
            return true;
        }
    }
    return false;
}

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
            durable = is_kept(&sim->redis.parts[i], r);
        }
        if (!durable) {
            sim_fail(sim, "L: p%d-%d was acked, and Redis does not have it", producer, (int)seq);
        }
    }
}

static const struct model *model_of(const struct sim *sim, const struct record *r) {
    return sim->models.items[r->model].model;
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
    bool is_default = !*is_error && model_of(sim, r)->defaults.n > 0 && strstr(line, "\"sentiment\":\"none\"") != NULL;
    bool refused = r->killer || (r->poison && r->level == 0);
    if (!*is_error && !is_default && (!is_right || r->bad || (refused && sim->now_us < sim->heals_us))) {
        sim_fail(sim, "R: a wrong answer: %.200s", line);
    } else if ((*is_error || (is_default && !sim->lost_some)) && !r->bad && !r->poison && r->n_failed == 0 && sim->n_coord_crashes == 0 &&
               !sim->rolled_back && strstr(line, "worker-lost") == NULL) {
        sim_fail(sim, "R: an error, and no call for the record had failed: %.200s", line);
    }
    return r;
}

// check_letter takes a dead letter; one whose record comes out as an error row too is no end of its own.
static void check_letter(struct sim *sim, struct slice blob) {
    struct letter letter;
    int index = letter_unpack(blob, &letter) == 0 ? record_find(sim, letter.id) : -1;
    sim->n_letters++;
    if (index < 0) {
        sim_fail(sim, "R: a dead letter that cannot be read, or of nobody's record");
    } else if (!letter.has_row) {
        struct record *r = &sim->records[index];
        r->ends.n_dead++;
        if (r->ends.n_out + r->ends.n_dead > 1 + r->ends.n_again && !sim->rolled_back) {
            sim_fail(sim, "D: p%d-%d ends a second time", r->producer, (int)r->seq);
        }
    }
}

void check_letter_leaves(struct sim *sim, struct slice blob) {
    struct letter letter;
    int index = letter_unpack(blob, &letter) == 0 ? record_find(sim, letter.id) : -1;
    if (index >= 0 && sim->n_leaving < sizeof(sim->leaving) / sizeof(sim->leaving[0])) {
        sim->leaving_had_row[sim->n_leaving] = letter.has_row;
        sim->leaving[sim->n_leaving++] = index;
    }
}

// check_write_done: what left the dead letters is in a batch by the same write, or was dropped.
void check_write_done(struct sim *sim, const struct redis_part *part) {
    for (size_t i = 0; i < sim->n_leaving; i++) {
        struct record *r = &sim->records[sim->leaving[i]];
        bool kept = is_kept(part, r);
        if (kept) {
            r->ends.n_again += sim->leaving_had_row[i];
            r->ends.n_dead -= !sim->leaving_had_row[i];
            r->redriven_us = sim->now_us;
            r->level = 0;
            r->answered_coord = -1;
        } else if (!sim->may_drop && !sim->rolled_back) {
            sim_fail(sim, "L: the dead letter of p%d-%d is gone, and it is not asked again", r->producer,
                     (int)r->seq);
        }
    }
    sim->n_leaving = 0;
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
            if (r->ends.n_out + r->ends.n_dead > 1 + r->ends.n_again && !sim->rolled_back) {
                sim_fail(sim, "D: p%d-%d enters the outbox a second time", r->producer, (int)r->seq);
            }
        }
        rest = slice_sub(rest, size, rest.n);
    }
    buf_free(&text);
}

// check_result_pulled: nothing is pushed twice, except after a restart, where nobody knows what arrived.
void check_result_pulled(struct sim *sim, struct slice json) {
    bool is_error;
    struct record *r = sim->rolled_back ? NULL : read_result(sim, json, &is_error);
    if (r != NULL && ++r->n_pulled > 1 + r->ends.n_again && sim->n_coord_lives == 1) {
        sim_fail(sim, "D: p%d-%d was pushed twice", r->producer, (int)r->seq);
    }
}

void check_kept(struct sim *sim, struct slice blob) {
    for (size_t i = 0; i < blob.n && sim->has_unacked; i++) {
        bool is_name = i + 3 < blob.n && blob.p[i] == 'p' && blob.p[i + 1] >= '0' && blob.p[i + 1] <= '9' &&
                       blob.p[i + 2] == '-'; // here: one that begins later may be cut off
        int index = is_name ? record_find(sim, slice_sub(blob, i, 24)) : -1;
        if (index >= 0) {
            sim->records[index].ends.kept = true;
        }
    }
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
    if (r != NULL && ++r->n_used[consumer] > 1 + r->ends.n_again) {
        sim_fail(sim, "D: consumer %d got p%d-%d twice", consumer, r->producer, (int)r->seq);
    }
}

// ---- Ends -------------------------------------------------------------------------------------------

void check_life_ends(struct sim *sim, struct coord *c) {
    sim->n_ambiguous += c->status.calls_ambiguous - c->n_before;
    sim->n_hidden += c->n_hidden;
}

// is_owner says whether the coordinator has what Redis has: none that was stopped past its lease, or waits for it.
static bool is_owner(const struct sim *sim, const struct coord *c) {
    bool is = core_is_open(c->core);
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        is = is && c->parts[i].epoch == sim->redis.parts[i].epoch;
    }
    return is;
}

bool check_is_done(const struct sim *sim) {
    if (sim->rolled_back) { // for a while it is looked at whether there is silence
        return sim->alarmed_us > 0 && sim->now_us > sim->alarmed_us + 10000000;
    }
    const struct coord *c = &sim->coords[sim->primary];
    if (!c->life.on || life_is_paused(sim, &c->life) || !is_owner(sim, c)) {
        return false;
    }
    for (int i = 0; i < sim->n_files; i++) {
        uint64_t acked = 0;
        for (int k = 0; k < sim->n_producers; k++) {
            const struct sim_producer *p = &sim->producers[k];
            acked = p->rows_of == i && p->acked > acked ? p->acked : acked;
        }
        if (acked < (uint64_t)sim->producers[i].n && !sim->producers[i].unacked) {
            return false;
        }
    }
    for (int i = 0; i < sim->n_records && sim->has_unacked; i++) {
        const struct record *r = &sim->records[i];
        if (r->ends.n_out + r->ends.n_dead == 0 && unacked_may_end(sim, r)) {
            return false;
        }
    }
    if (sim->puller.n_waiting > 0 || dump_n_unclaimed(c->core) > 0) {
        return false;
    }
    if (sim->worker_killed_us > 0 && sim->now_us < sim->worker_killed_us + WORKER_GONE_US) {
        return false;
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
    uint64_t n_out = 0, n_error = 0, tokens = 0, n_in = sim->n_given;
    for (int i = 0; i < sim->n_files; i++) {
        n_in += sim->producers[i].unacked ? 0 : (uint64_t)sim->producers[i].n;
    }
    for (int i = 0; i < sim->n_records; i++) {
        n_out += sim->records[i].ends.n_out;
        n_error += sim->records[i].ends.n_error;
    }
    for (size_t i = 0; i < sim->n_asks; i++) {
        tokens += sim->asks[i].answered ? sim->asks[i].tokens : 0;
    }
    if (s->records_in + s->records_bad != n_in || s->results_ok != n_out - n_error ||
        s->results_error != n_error || s->dead_letters != sim->n_letters || s->input_tokens != tokens) {
        sim_fail(sim, "C: counted %" PRIu64 "+%" PRIu64 " records, %" PRIu64 " results, %" PRIu64 " errors, %" PRIu64
                      " dead letters, %" PRIu64 " tokens; there were %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                      ", %" PRIu64,
                 s->records_in, s->records_bad, s->results_ok, s->results_error, s->dead_letters,
                 s->input_tokens, n_in, n_out - n_error, n_error, sim->n_letters, tokens);
    }
}

// check_used: the durable sums have each call's tokens once. A report that is read by one coordinator after
// another is one; a report that nobody could place any more, after a restart, may be missing.
static void check_used(struct sim *sim) {
    int64_t tokens = 0, used = 0;
    for (size_t i = 0; i < sim->n_asks; i++) {
        tokens += sim->asks[i].answered ? (int64_t)sim->asks[i].tokens : 0;
    }
    for (uint32_t i = 0; i < sim->n_parts; i++) {
        used += sim->redis.parts[i].used;
    }
    if (used > tokens) {
        sim_fail(sim, "M: Redis has counted %" PRId64 " tokens, reports had %" PRId64, used, tokens);
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
        bool is_innocent = !r->bad && !r->poison && !r->killer;
        const struct model_options *o = &sim->models.items[r->model].model->options;
        if (sim->is_quiet && is_innocent && o->ambiguous_retries > 0 && r->ends.n_error + r->ends.n_dead > 0) {
            sim_fail(sim, "R: p%d-%d has no value, and nothing had failed but others", r->producer, (int)r->seq);
        } else if (r->n_killed > KILLS_MAX && sim->n_coord_lives == 1 && r->redriven_us == 0) {
            sim_fail(sim, "R: p%d-%d has killed %d workers", r->producer, (int)r->seq, (int)r->n_killed);
        }
        bool may_be_lost = !unacked_may_end(sim, r) && r->ends.n_out + r->ends.n_dead == 0;
        if (r->ends.n_out + r->ends.n_dead != 1 + r->ends.n_again && !may_be_lost) {
            sim_fail(sim, "L: p%d-%d has %d results", r->producer, (int)r->seq, (int)(r->ends.n_out + r->ends.n_dead));
        } else if (r->n_used[0] != r->ends.n_out) {
            sim_fail(sim, "L: p%d-%d was used %d times", r->producer, (int)r->seq, (int)r->n_used[0]);
        } else if (sim->has_push && sim->n_coord_lives == 1 && sim->puller.n_lost == 0 &&
                   r->n_pulled != r->ends.n_out) {
            sim_fail(sim, "L: p%d-%d was pushed %d times", r->producer, (int)r->seq, (int)r->n_pulled);
        }
    }
    if (sim->n_coord_lives == 1) {
        check_counters(sim);
    }
    if (!sim->went_back) {
        check_ambiguous(sim);
    }
    check_used(sim);
    check_life_ends(sim, &sim->coords[sim->primary]);
}
