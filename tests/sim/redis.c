// Redis as the scripts see it: what coordinator/*.lua do, on arrays. Invariant: a request is carried out
// whole, and is durable by the time its reply leaves (appendfsync always), so a crash loses only what was
// not replied to, and perhaps not even that. Called by coord.c when a request arrives.
#include "tests/sim/sim.h"
#include "common/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_MS INT64_C(1000000000000) // of its clock

void redis_init(struct sim *sim) {
    life_start(&sim->redis.life);
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        sim->redis.parts[i].owner = -1;
    }
}

void redis_part_clear(struct redis_part *p) {
    for (size_t i = 0; i < p->n_batches; i++) {
        free(p->batches[i].bytes);
    }
    for (size_t i = 0; i < p->n_outs; i++) {
        free(p->outs[i].bytes);
    }
    for (size_t i = 0; i < p->n_letters; i++) {
        free(p->letters[i].bytes);
    }
    for (size_t i = 0; i < p->n_marks; i++) {
        free(p->marks[i].bytes);
    }
    for (size_t i = 0; i < p->n_jobs; i++) {
        free(p->jobs[i].bytes);
    }
    free(p->jobs);
    free(p->batches);
    free(p->outs);
    free(p->letters);
    free(p->marks);
    *p = (struct redis_part){.owner = -1};
}

void redis_free(struct sim *sim) {
    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        redis_part_clear(&sim->redis.parts[i]);
    }
}

void redis_flushall(struct sim *sim) {
    sim_trace(sim, "redis: FLUSHALL");
    sim->rolled_back = true;
    redis_free(sim);
}

static void on_back(struct sim *sim, struct event *event) {
    sim_trace(sim, "redis: back");
    life_start(&sim->redis.life);
}

void redis_crash(struct sim *sim, int64_t for_us) {
    if (!sim->redis.life.on) {
        return;
    }
    sim_trace(sim, "redis: killed");
    life_end(&sim->redis.life);
    for (int i = 0; i < COORDS_MAX; i++) {
        coord_lose_redis(sim, &sim->coords[i]);
    }
    sim_in(sim, for_us, on_back, NULL, NULL);
}

static int64_t clock_ms(const struct sim *sim) {
    return FIRST_MS + sim->now_us / 1000 + sim->redis.clock_off_ms;
}

// ---- Arrays -----------------------------------------------------------------------------------------

static void kept_add(struct kept **list, size_t *n, size_t *cap, struct kept kept) {
    if (*n == *cap) {
        *cap = *cap > 0 ? *cap * 2 : 16;
        *list = mem_realloc(*list, *cap * sizeof(**list));
    }
    (*list)[(*n)++] = kept;
}

static void kept_remove(struct kept *list, size_t *n, uint64_t id) {
    for (size_t i = 0; i < *n; i++) {
        if (list[i].id == id) {
            free(list[i].bytes);
            list[i] = list[--*n];
            return;
        }
    }
}

static int by_id(const void *a, const void *b) {
    const struct kept *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void position_raise(struct position *list, size_t n, const char *name, uint64_t to) {
    for (size_t i = 0; i < n; i++) {
        if (list[i].name[0] == '\0') {
            memcpy(list[i].name, name, sizeof(list[i].name));
        }
        if (strcmp(list[i].name, name) == 0) {
            list[i].n = to > list[i].n ? to : list[i].n;
            return;
        }
    }
}

// ---- The scripts ------------------------------------------------------------------------------------

// part_acquire.lua
static void acquire(struct sim *sim, struct redis_part *p, struct redis_request *r) {
    if (p->owner >= 0 && p->owner != r->coord && p->until_ms > clock_ms(sim)) {
        int64_t most_ms = clock_ms(sim) + LEASE_MS;
        p->until_ms = p->until_ms < most_ms ? p->until_ms : most_ms; // its clock went back
        r->reply = REPLY_HELD;
        return;
    }
    p->epoch = p->exists ? p->epoch + 1 : (uint64_t)clock_ms(sim);
    p->exists = true;
    p->owner = r->coord;
    p->start = r->start;
    p->until_ms = clock_ms(sim) + LEASE_MS;
    r->got_epoch = p->epoch;
    r->got_cseq = p->cseq;
    r->got_oseq = p->oseq;
}

static bool is_fenced(struct sim *sim, const struct redis_part *p, struct redis_request *r) {
    if (!p->exists) {
        r->reply = REPLY_ROLLBACK;
        return true;
    }
    bool is_other = p->epoch != r->epoch || p->start != r->start;
    if (is_other && !PLANT(SKIP_EPOCH) && !(PLANT(MISS_ROLLBACK) && p->epoch <= r->epoch)) {
        uint64_t confirmed = r->op == REDIS_WRITE ? r->upto - 1 : r->op == REDIS_RENEW ? r->from : 0;
        r->reply = p->epoch <= r->epoch || p->cseq < confirmed ? REPLY_ROLLBACK : REPLY_FENCED;
        return true;
    }
    if (is_other && r->op != REDIS_RENEW && !PLANT(MISS_ROLLBACK)) {
        sim_fail(sim, "F: partition %u took a write of epoch %" PRIu64 ", start %" PRIx64 " in epoch %" PRIu64
                      ", start %" PRIx64, r->part, r->epoch, r->start, p->epoch, p->start);
    }
    return false;
}

// part_renew.lua
static void renew(struct sim *sim, struct redis_part *p, struct redis_request *r) {
    if (!is_fenced(sim, p, r)) {
        p->until_ms = clock_ms(sim) + LEASE_MS;
        r->got_cseq = p->cseq;
    }
}

static uint64_t number(struct slice s) {
    char text[24];
    slice_copy(s, text, sizeof(text));
    return strtoull(text, NULL, 10);
}

static void letter_remove(struct sim *sim, struct redis_part *p, uint64_t id) {
    for (size_t i = 0; i < p->n_letters; i++) {
        struct kept letter = p->letters[i];
        if (letter.id == id) {
            memmove(&p->letters[i], &p->letters[i + 1], (--p->n_letters - i) * sizeof(letter));
            check_letter_leaves(sim, (struct slice){.p = letter.bytes, .n = letter.n_bytes});
            free(letter.bytes);
            return;
        }
    }
}

// used_add keeps the sum of input tokens, over models.
static void used_add(struct redis_part *p, struct slice field, struct slice amount) {
    static const char what[] = "/input";
    char text[24];
    slice_copy(amount, text, sizeof(text));
    if (slice_is(slice_sub(field, field.n - sizeof(what) + 1, field.n), what)) {
        p->used += strtoll(text, NULL, 10);
    }
}

static size_t carry_out(struct sim *sim, struct redis_part *p, uint32_t part, const struct slice *args,
                        uint64_t *before) {
    char name[16] = "";
    struct kept kept = {0};
    switch (args[0].p[0]) {
    case 'P':
        kept = (struct kept){.id = number(args[1]), .bytes = slice_dup(args[2]), .n_bytes = args[2].n};
        kept_remove(p->batches, &p->n_batches, kept.id);
        kept_add(&p->batches, &p->n_batches, &p->cap_batches, kept);
        check_kept(sim, args[2]);
        return 3;
    case 'D':
        kept_remove(p->batches, &p->n_batches, number(args[1]));
        return 2;
    case 'M':
        kept = (struct kept){.id = number(args[1]), .bytes = slice_dup(args[2]), .n_bytes = args[2].n};
        kept_remove(p->marks, &p->n_marks, kept.id);
        kept_add(&p->marks, &p->n_marks, &p->cap_marks, kept);
        check_mark(sim, kept.id, args[2]);
        return 3;
    case 'U':
        kept_remove(p->marks, &p->n_marks, number(args[1]));
        return 2;
    case 'J':
        kept = (struct kept){.id = number(args[1]), .bytes = slice_dup(args[2]), .n_bytes = args[2].n};
        kept_remove(p->jobs, &p->n_jobs, kept.id);
        kept_add(&p->jobs, &p->n_jobs, &p->cap_jobs, kept);
        return 3;
    case 'K':
        kept_remove(p->jobs, &p->n_jobs, number(args[1]));
        return 2;
    case 'S':
        slice_copy(args[1], name, sizeof(name));
        position_raise(p->producers, PRODUCERS_MAX, name, number(args[2]));
        return 3;
    case 'C':
        slice_copy(args[1], name, sizeof(name));
        position_raise(p->consumers, POSITIONS_MAX, name, number(args[2]));
        return 3;
    case 'O':
        kept = (struct kept){.id = number(args[1]), .bytes = slice_dup(args[2]), .n_bytes = args[2].n};
        kept.n = kept.id - *before;
        *before = kept.id;
        kept_add(&p->outs, &p->n_outs, &p->cap_outs, kept);
        check_result_stored(sim, part, kept.id, args[2], false);
        return 3;
    case 'A':
        used_add(p, args[1], args[2]);
        return 3;
    case 'L':
        kept = (struct kept){.id = ++p->last_letter, .bytes = slice_dup(args[1]), .n_bytes = args[1].n};
        kept_add(&p->letters, &p->n_letters, &p->cap_letters, kept);
        check_result_stored(sim, part, 0, args[1], true);
        return 2;
    case 'X':
        letter_remove(sim, p, number(args[1]));
        return 2;
    default:
        sim_fail(sim, "a write has an unknown operation");
        return 1000000;
    }
}

// part_write.lua
static void write_txn(struct sim *sim, struct redis_part *p, struct redis_request *r) {
    struct txn *txn = r->txn;
    if (is_fenced(sim, p, r)) {
        return;
    }
    if (txn->cseq == p->cseq) {
        return;
    }
    if (txn->cseq != p->cseq + 1 && !PLANT(MISS_ROLLBACK)) {
        r->reply = REPLY_ROLLBACK;
        return;
    }
    if (sim->now_us < sim->redis.full_until_us) {
        r->reply = REPLY_REFUSED;
        return;
    }
    struct slice *args = mem_alloc((txn->n_args + 3) * sizeof(*args));
    char numbers[3][24];
    size_t n = txn_args(txn, numbers, args);
    uint64_t before = p->oseq;
    for (size_t i = 3; i < n && sim->why[0] == '\0';) {
        i += carry_out(sim, p, r->part, args + i, &before);
    }
    check_write_done(sim, p);
    if (before != txn->oseq) {
        sim_fail(sim, "a write ends at oseq %" PRIu64 " and says %" PRIu64, before, txn->oseq);
    }
    p->cseq = txn->cseq;
    p->oseq = txn->oseq;
    free(args);
}

// out_ack.lua
static void ack(struct sim *sim, struct redis_part *p, struct redis_request *r) {
    if (is_fenced(sim, p, r)) {
        return;
    }
    position_raise(p->consumers, POSITIONS_MAX, r->name, r->from);
    size_t n = 0;
    for (size_t i = 0; i < p->n_outs; i++) {
        if (p->outs[i].id <= r->upto) {
            free(p->outs[i].bytes);
        } else {
            p->outs[n++] = p->outs[i];
        }
    }
    p->n_outs = n;
}

static void read_letters(struct redis_part *p, struct redis_request *r) {
    r->entries = mem_zalloc((p->n_letters + 1) * sizeof(*r->entries));
    for (size_t i = 0; i < p->n_letters && r->n_entries < r->n_most; i++) {
        if (p->letters[i].id >= r->from && p->letters[i].id <= r->upto) {
            struct slice blob = {.p = p->letters[i].bytes, .n = p->letters[i].n_bytes};
            r->entries[r->n_entries++] = (struct store_entry){
                .last_oseq = p->letters[i].id, .blob = {.p = slice_dup(blob), .n = blob.n}};
        }
    }
}

static void read_outs(struct redis_part *p, struct redis_request *r) {
    r->entries = mem_zalloc((p->n_outs + 1) * sizeof(*r->entries));
    for (size_t i = 0; i < p->n_outs && r->n_entries < r->upto; i++) {
        if (p->outs[i].id >= r->from) {
            struct slice blob = {.p = p->outs[i].bytes, .n = p->outs[i].n_bytes};
            r->entries[r->n_entries++] = (struct store_entry){
                .last_oseq = p->outs[i].id, .blob = {.p = slice_dup(blob), .n = blob.n}};
        }
    }
}

// What recovery reads: only the owner of the epoch changes it, so one look is as good as several.
static void recover(struct redis_part *p, struct redis_request *r) {
    if (p->n_batches > 0) {
        qsort(p->batches, p->n_batches, sizeof(*p->batches), by_id);
    }
    r->got_first = p->n_outs > 0 ? p->outs[0].id - p->outs[0].n + 1 : p->oseq + 1;
    r->entries = mem_zalloc((p->n_batches + 1) * sizeof(*r->entries));
    for (size_t i = 0; i < p->n_batches; i++) {
        struct slice blob = {.p = p->batches[i].bytes, .n = p->batches[i].n_bytes};
        r->entries[r->n_entries++] = (struct store_entry){
            .last_oseq = p->batches[i].id, .blob = {.p = slice_dup(blob), .n = blob.n}};
    }
}

void redis_execute(struct sim *sim, struct redis_request *r) {
    struct redis_part *p = &sim->redis.parts[r->part];
    switch (r->op) {
    case REDIS_ACQUIRE:
        acquire(sim, p, r);
        break;
    case REDIS_RECOVER:
        recover(p, r);
        break;
    case REDIS_RENEW:
        renew(sim, p, r);
        break;
    case REDIS_WRITE:
        write_txn(sim, p, r);
        break;
    case REDIS_ACK:
        ack(sim, p, r);
        break;
    case REDIS_READ:
        read_outs(p, r);
        break;
    case REDIS_LETTERS:
        read_letters(p, r);
        break;
    }
}

void redis_request_free(void *request) {
    struct redis_request *r = request;
    for (size_t i = 0; i < r->n_entries; i++) {
        free((char *)r->entries[i].blob.p);
    }
    free(r->entries);
    txn_free(r->txn);
    free(r);
}
