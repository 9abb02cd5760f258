// An older file of Redis: copied at one moment, put back at a later one. Invariant: a coordinator that runs
// meanwhile has to notice it when a write that was confirmed to it is gone; when none is, nothing happened,
// and the checker goes back with Redis. Called by faults.
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <stdlib.h>

struct redis_file {
    struct redis_part parts[PARTS_MAX];
    struct ends ends[RECORDS_MAX];
    uint64_t n_letters;     // ever written
};

static struct kept *copy_kept(const struct kept *from, size_t n) {
    struct kept *to = mem_zalloc((n + 1) * sizeof(*to));
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        to[i].bytes = slice_dup((struct slice){.p = from[i].bytes, .n = from[i].n_bytes});
    }
    return to;
}

static struct redis_part copy_part(const struct redis_part *from) {
    struct redis_part to = *from;
    to.batches = copy_kept(from->batches, from->n_batches);
    to.outs = copy_kept(from->outs, from->n_outs);
    to.letters = copy_kept(from->letters, from->n_letters);
    to.marks = copy_kept(from->marks, from->n_marks);
    to.cap_marks = to.n_marks + 1;
    to.jobs = copy_kept(from->jobs, from->n_jobs);
    to.cap_jobs = to.n_jobs + 1;
    to.cap_batches = to.n_batches + 1;
    to.cap_letters = to.n_letters + 1;
    to.cap_outs = to.n_outs + 1;
    return to;
}

void redis_file_copy(struct sim *sim) {
    struct redis_file *file = mem_zalloc(sizeof(*file));
    sim_trace(sim, "redis: its file is copied");
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        file->parts[i] = copy_part(&sim->redis.parts[i]);
    }
    for (int i = 0; i < sim->n_records; i++) {
        file->ends[i] = sim->records[i].ends;
    }
    file->n_letters = sim->n_letters;
    redis_file_free(sim);
    sim->redis.file = file;
}

void redis_file_free(struct sim *sim) {
    for (uint32_t i = 0; sim->redis.file != NULL && i < PARTS_MAX; i++) {
        redis_part_clear(&sim->redis.file->parts[i]);
    }
    free(sim->redis.file);
    sim->redis.file = NULL;
}

bool redis_file_is_old(const struct sim *sim) {
    const struct coord *c = &sim->coords[sim->primary];
    for (uint32_t i = 0; i < sim->n_parts && sim->redis.file != NULL && c->life.on; i++) {
        const struct redis_part *kept = &sim->redis.file->parts[i];
        if (kept->cseq < c->parts[i].confirmed || kept->epoch < c->parts[i].epoch) {
            return true;
        }
    }
    return false;
}

void redis_file_put_back(struct sim *sim) {
    struct redis_file *file = sim->redis.file;
    if (file == NULL || !sim->redis.life.on) {
        return;
    }
    redis_crash(sim, sim_between(sim, 1000, 3000000));
    sim->went_back = true;
    sim->rolled_back = redis_file_is_old(sim);
    sim_trace(sim, "redis: an older file is put back, %s", sim->rolled_back ? "writes are lost" : "nothing is lost");
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        redis_part_clear(&sim->redis.parts[i]);
        sim->redis.parts[i] = copy_part(&file->parts[i]);
    }
    sim->n_letters = file->n_letters;
    for (int i = 0; i < sim->n_records && !sim->rolled_back; i++) {
        sim->records[i].ends = file->ends[i];
    }
}
