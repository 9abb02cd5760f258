// Jobs in a small world of faults: a provider that loses replies, gives jobs up, forgets them and leaves lines out;
// workers that are killed in any step; a coordinator that is killed with writes that are not durable. One seed
// decides all. In the end each record has its own answer once, and none was paid for again but where the provider
// had forgotten it.
#include "core_world.h"
#include "coordinator/jobs.h"
#include "proto/pack.h"

#define N_SEEDS 150
#define RECORDS_MAX 64
#define LINES_MAX 64
#define JOBS_MAX 512
#define ORDERS_MAX 256
#define ROUNDS 1500       // with faults
#define ROUNDS_MOST 20000 // until all must be done

struct asked {
    char name[64];
    size_t n;
    int records[16];
};
struct file {
    bool is_there;
    struct asked lines[LINES_MAX];
    size_t n;
};
enum fate { FATE_RUNNING, FATE_ENDED, FATE_EXPIRED, FATE_CANCELLED, FATE_GONE };
struct provider_job {
    char name[64];
    enum fate fate, will_be;
    int64_t ends_us;
    struct asked lines[LINES_MAX];
    bool answered[LINES_MAX], fails[LINES_MAX]; // fails: with an error that may pass
    size_t n;
};
// A step at a worker.
struct order {
    char route[16], kind[16], name[64], file[16], id[16];
    uint64_t job, step, skip;
    struct asked lines[LINES_MAX];
    size_t n;
    bool has_all, is_told; // is_told: its answers are out
    uint64_t taken, total;
};
struct odds {
    struct world *w;
    uint64_t random;
    bool has_faults;
    struct file files[JOBS_MAX];
    struct provider_job jobs[JOBS_MAX];
    struct order orders[ORDERS_MAX];
    size_t n_files, n_jobs, n_orders, n_records, n_crashes;
    int paid[RECORDS_MAX + 1], may_be_paid[RECORDS_MAX + 1];
    int incarnation;
    char routes[2][16];
};

static uint64_t below(struct odds *o, uint64_t n) {
    o->random = o->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (o->random >> 33) % n;
}

static bool chance(struct odds *o, uint64_t percent) {
    return o->has_faults && below(o, 100) < percent;
}

// ---- What the coordinator says ------------------------------------------------------------------------

static void forget_order(struct odds *o, size_t i) {
    o->orders[i] = o->orders[--o->n_orders];
}

static struct order *order_of(struct odds *o, const char *route, uint64_t job, uint64_t step) {
    for (size_t i = 0; i < o->n_orders; i++) {
        struct order *order = &o->orders[i];
        if (strcmp(order->route, route) == 0 && order->job == job && (step == 0 || order->step == step)) {
            return order;
        }
    }
    return NULL;
}

static void take_order(struct odds *o, const char *route, const struct message_job *m) {
    struct order *order = order_of(o, route, m->job, 0);
    if (order == NULL) {
        assert_true(o->n_orders < ORDERS_MAX);
        order = &o->orders[o->n_orders++];
    }
    *order = (struct order){.job = m->job, .step = m->step, .skip = m->skip};
    snprintf(order->route, sizeof(order->route), "%s", route);
    assert_true(slice_copy(m->order, order->kind, sizeof(order->kind)));
    assert_true(slice_copy(m->name, order->name, sizeof(order->name)));
    assert_true(slice_copy(m->file, order->file, sizeof(order->file)));
    assert_true(slice_copy(m->id, order->id, sizeof(order->id)));
}

static int record_of(struct slice values) {
    struct slice text;
    uint32_t n;
    assert_int_equal(pack_array_next(&values, &n), 0);
    assert_int_equal(pack_str_next(&values, &text), 0);
    char number[24];
    assert_true(slice_starts(text, "row "));
    slice_copy(slice_sub(text, 4, text.n), number, sizeof(number));
    return atoi(number);
}

static void take_lines(struct order *order, const struct message_job_lines *m) {
    struct slice rest = m->lines, name, values;
    assert_int_equal(m->first, order->n);
    for (uint64_t i = 0; i < m->count; i++) {
        struct asked *line = &order->lines[order->n++];
        struct pack_value records, corrections;
        uint64_t count, place;
        uint32_t n;
        assert_true(order->n <= LINES_MAX);
        assert_int_equal(pack_array_next(&rest, &n), 0);
        assert_int_equal(pack_str_next(&rest, &name), 0);
        assert_int_equal(pack_uint_next(&rest, &count), 0);
        assert_int_equal(pack_next(&rest, &records), 1);
        assert_int_equal(pack_next(&rest, &corrections), 1);
        *line = (struct asked){0};
        slice_copy(name, line->name, sizeof(line->name));
        for (struct slice r = records.bytes; record_next(&r, &place, &values) > 0;) {
            assert_int_equal(place, line->n);
            line->records[line->n++] = record_of(values);
        }
        assert_int_equal(line->n, count);
    }
    order->has_all = m->last;
}

// hear takes what the core has sent since.
static void hear(struct odds *o) {
    struct world *w = o->w;
    for (size_t i = 0; i < w->n_sent; i++) {
        const struct world_sent *s = &w->sent[i];
        struct order *order;
        if (s->message.kind == MESSAGE_JOB) {
            take_order(o, s->route, &s->message.job);
        } else if (s->message.kind == MESSAGE_JOB_LINES) {
            order = order_of(o, s->route, s->message.job_lines.job, s->message.job_lines.step);
            assert_non_null(order);
            take_lines(order, &s->message.job_lines);
        } else if (s->message.kind == MESSAGE_JOB_TAKEN) {
            order = order_of(o, s->route, s->message.job_taken.job, s->message.job_taken.step);
            if (order != NULL) {
                order->taken = s->message.job_taken.upto;
            }
        }
        assert_int_not_equal(s->message.kind, MESSAGE_DISPATCH); // all goes by jobs here
    }
    world_forget_sent(w);
}

// ---- The provider and its workers ---------------------------------------------------------------------

static void say_done(struct odds *o, size_t i, struct message_job_done done) {
    const struct order order = o->orders[i];
    forget_order(o, i);
    done.job = order.job;
    done.step = order.step;
    done.outcome = done.outcome.n > 0 ? done.outcome : SLICE_LIT("ok");
    for (uint64_t n = chance(o, 10) ? 2 : 1; n > 0; n--) { // it repeats what was not taken
        world_message(o->w, order.route, (struct message){.kind = MESSAGE_JOB_DONE, .job_done = done});
    }
}

static struct provider_job *job_at(struct odds *o, const char *id) {
    int n = atoi(id + 1);
    assert_true(n >= 0 && (size_t)n < o->n_jobs);
    return &o->jobs[n];
}

// make checks that no line of the new job may still be answered by another one.
static void make(struct odds *o, const struct order *order) {
    struct provider_job *job = &o->jobs[o->n_jobs++];
    assert_true(o->n_jobs < JOBS_MAX);
    const struct file *file = &o->files[atoi(order->file + 1)];
    assert_true(file->is_there);
    *job = (struct provider_job){.n = file->n};
    memcpy(job->lines, file->lines, sizeof(job->lines));
    snprintf(job->name, sizeof(job->name), "%s", order->name);
    uint64_t fate = o->has_faults ? below(o, 10) : 0;
    job->will_be = fate < 6 ? FATE_ENDED : fate < 8 ? FATE_EXPIRED : FATE_GONE;
    job->ends_us = o->w->now_us + 100000 + (int64_t)below(o, 3000000);
    for (const struct provider_job *other = o->jobs; other < job; other++) {
        assert_true(strcmp(other->name, job->name) != 0 || other->fate == FATE_GONE);
        for (size_t i = 0; i < other->n && other->fate == FATE_RUNNING; i++) {
            for (size_t k = 0; k < job->n; k++) {
                assert_int_not_equal(other->lines[i].records[0], job->lines[k].records[0]);
            }
        }
    }
}

static void run_jobs(struct odds *o) {
    for (size_t j = 0; j < o->n_jobs; j++) {
        struct provider_job *job = &o->jobs[j];
        if (job->fate != FATE_RUNNING || o->w->now_us < job->ends_us) {
            continue;
        }
        job->fate = job->will_be;
        for (size_t i = 0; i < job->n; i++) {
            bool is_left = job->fate == FATE_EXPIRED ? below(o, 10) < 4 : chance(o, 5);
            job->answered[i] = !is_left;
            job->fails[i] = chance(o, 5);
            for (size_t k = 0; k < job->lines[i].n; k++) {
                int record = job->lines[i].records[k];
                o->paid[record] += job->answered[i] && !job->fails[i];
                o->may_be_paid[record] += job->fate == FATE_GONE;
            }
        }
    }
}

static size_t pack_answers(const struct provider_job *job, uint64_t skip, struct buf *reports) {
    size_t n = 0;
    for (size_t i = 0; i < job->n; i++) {
        const struct asked *line = &job->lines[i];
        if (!job->answered[i] || n++ < skip) {
            continue;
        }
        struct buf items, value, frame;
        buf_init(&items, 1 << 16);
        buf_init(&value, 1 << 10);
        buf_init(&frame, 1 << 16);
        for (size_t k = 0; k < line->n && !job->fails[i]; k++) {
            char text[24];
            snprintf(text, sizeof(text), "row %d", line->records[k]);
            buf_clear(&value);
            assert_int_equal(pack_array(&value, 1) | pack_str(&value, slice_of(text)), 0);
            assert_int_equal(item_pack(&items, k, OUTCOME_OK, buf_slice(&value)), 0);
        }
        struct message m = {.kind = MESSAGE_REPORT,
                            .report = {.outcome = job->fails[i] ? SLICE_LIT("transient") : SLICE_LIT("ok"),
                                       .line = slice_of(line->name), .items = buf_slice(&items), .sent = true,
                                       .http_status = job->fails[i] ? 500 : 200, .usage_known = !job->fails[i],
                                       .input_tokens = 10, .output_tokens = 10}};
        assert_int_equal(message_pack(&m, &frame), 0);
        assert_int_equal(pack_bin(reports, buf_slice(&frame)), 0);
        buf_free(&items);
        buf_free(&value);
        buf_free(&frame);
    }
    return n;
}

static void collect(struct odds *o, size_t i) {
    struct order *order = &o->orders[i];
    const struct provider_job *job = job_at(o, order->id);
    if (job->fate == FATE_GONE) {
        say_done(o, i, (struct message_job_done){.state = SLICE_LIT("gone")});
        return;
    }
    if (!order->is_told) {
        struct buf reports;
        buf_init(&reports, 1 << 20);
        order->total = pack_answers(job, order->skip, &reports);
        order->is_told = true;
        order->taken = order->skip;
        if (order->total > order->skip) {
            world_message(o->w, order->route,
                          (struct message){.kind = MESSAGE_JOB_ANSWERS,
                                           .job_answers = {.job = order->job, .step = order->step,
                                                           .first = order->skip, .count = order->total - order->skip,
                                                           .reports = buf_slice(&reports)}});
        }
        buf_free(&reports);
    } else if (order->taken >= order->total) {
        say_done(o, i, (struct message_job_done){.answers = order->total});
    }
}

static void look(struct odds *o, size_t i) {
    static const char *const states[] = {"running", "ended", "expired", "cancelled", "gone"};
    const struct provider_job *job = job_at(o, o->orders[i].id);
    say_done(o, i, (struct message_job_done){.state = slice_of(states[job->fate]), .total = job->n});
}

static void find(struct odds *o, size_t i) {
    char id[32] = "";
    for (size_t j = 0; j < o->n_jobs; j++) {
        if (strcmp(o->jobs[j].name, o->orders[i].name) == 0 && o->jobs[j].fate != FATE_GONE) {
            snprintf(id, sizeof(id), "b%zu", j);
        }
    }
    say_done(o, i, (struct message_job_done){.id = slice_of(id)});
}

static void create(struct odds *o, size_t i) {
    char id[32];
    if (chance(o, 10)) {
        say_done(o, i, (struct message_job_done){.state = SLICE_LIT("full"), .outcome = SLICE_LIT("rate-limited")});
        return;
    }
    bool is_made = !chance(o, 15);
    if (is_made) {
        make(o, &o->orders[i]);
    }
    snprintf(id, sizeof(id), "b%zu", o->n_jobs - 1);
    if (!is_made || chance(o, 20)) { // the reply is lost
        say_done(o, i, (struct message_job_done){.outcome = SLICE_LIT("broken-answer"), .sent = true});
    } else {
        say_done(o, i, (struct message_job_done){.id = slice_of(id)});
    }
}

static void upload(struct odds *o, size_t i) {
    const struct order *order = &o->orders[i];
    char name[16];
    if (!order->has_all) {
        return;
    }
    snprintf(name, sizeof(name), "f%zu", o->n_files);
    struct file *file = &o->files[o->n_files++];
    assert_true(o->n_files < JOBS_MAX);
    file->is_there = true;
    file->n = order->n;
    memcpy(file->lines, order->lines, sizeof(file->lines));
    say_done(o, i, (struct message_job_done){.file = slice_of(name)});
}

static void work(struct odds *o, size_t i) {
    const char *kind = o->orders[i].kind;
    if (chance(o, 5) && !o->orders[i].is_told) {
        say_done(o, i, (struct message_job_done){.outcome = SLICE_LIT("unreachable")});
    } else if (strcmp(kind, "upload") == 0) {
        upload(o, i);
    } else if (strcmp(kind, "create") == 0) {
        create(o, i);
    } else if (strcmp(kind, "find") == 0) {
        find(o, i);
    } else if (strcmp(kind, "poll") == 0) {
        look(o, i);
    } else if (strcmp(kind, "collect") == 0) {
        collect(o, i);
    } else {
        assert_string_equal(kind, "delete");
        o->files[atoi(o->orders[i].file + 1)].is_there = false;
        say_done(o, i, (struct message_job_done){0});
    }
}

// kill_worker: what it had is gone; perhaps it had just made a job.
static void kill_worker(struct odds *o, int which) {
    for (size_t i = o->n_orders; i-- > 0;) {
        if (strcmp(o->orders[i].route, o->routes[which]) == 0) {
            if (strcmp(o->orders[i].kind, "create") == 0 && chance(o, 50)) {
                make(o, &o->orders[i]);
            }
            forget_order(o, i);
        }
    }
    char name[16];
    snprintf(name, sizeof(name), "w%d", which);
    snprintf(o->routes[which], sizeof(o->routes[which]), "w%d-%d", which, ++o->incarnation);
    world_message(o->w, o->routes[which],
                  (struct message){.kind = MESSAGE_HELLO,
                                   .hello = {.worker = slice_of(name), .incarnation = (uint64_t)o->incarnation,
                                             .version = SLICE_LIT("0"), .max_inflight = 8, .max_bytes = 1 << 30}});
}

// ---- The world ----------------------------------------------------------------------------------------

static void greet(struct odds *o) {
    for (int i = 0; i < 2; i++) {
        kill_worker(o, i);
    }
    world_open(o->w, "p1");
}

// crash kills the coordinator; workers go on with what they have, and say so when they are welcome.
static void crash(struct odds *o) {
    struct order orders[ORDERS_MAX];
    size_t n = 0;
    hear(o);
    for (size_t i = 0; i < o->n_orders; i++) {
        if (strcmp(o->orders[i].kind, "create") == 0) {
            orders[n++] = o->orders[i];
        }
    }
    o->n_crashes++;
    o->n_orders = 0;
    world_crash(o->w);
    world_start(o->w);
    greet(o);
    for (size_t i = 0; i < n; i++) { // a request that was on its way is carried out
        make(o, &orders[i]);
    }
    world_append(o->w, "p1", 1, o->n_records); // all of it again: what is there is skipped
    world_message(o->w, "p1", (struct message){.kind = MESSAGE_FLUSH});
}

// confirm_some makes the first of the writes durable.
static void confirm_some(struct odds *o) {
    struct world *w = o->w;
    size_t n = o->has_faults ? below(o, w->n_writes + 1) : w->n_writes;
    for (size_t i = 0; i < n; i++) {
        struct txn *txn = w->writes[i];
        world_apply(w, txn);
        core_written(w->core, w->now_us, txn->partition, txn->cseq);
        txn_free(txn);
    }
    memmove(w->writes, w->writes + n, (w->n_writes - n) * sizeof(w->writes[0]));
    w->n_writes -= n;
}

static void one_round(struct odds *o) {
    struct world *w = o->w;
    w->draw = (double)below(o, 1000) / 1000;
    w->now_us += 20000 + (int64_t)below(o, 100000);
    for (int i = 0; i < 2; i++) {
        world_message(w, o->routes[i], (struct message){.kind = MESSAGE_PING, .ping = {.worker = true}});
    }
    run_jobs(o);
    world_turn(w);
    confirm_some(o);
    hear(o);
    if (o->n_orders > 0 && !chance(o, 50)) { // workers are slow
        work(o, below(o, o->n_orders));
    }
    if (chance(o, 4)) {
        kill_worker(o, (int)below(o, 2));
    }
    if (chance(o, 1)) {
        crash(o);
    }
}

static size_t count_left(const struct world *w) {
    size_t n = w->n_writes;
    for (uint32_t i = 0; i < w->config.n_partitions; i++) {
        n += w->partitions[i].n_batches;
    }
    return n;
}

static void check_results(struct odds *o, uint64_t seed) {
    struct buf out;
    world_collect(o->w, &out);
    for (size_t i = 1; i <= o->n_records; i++) {
        char needle[64];
        snprintf(needle, sizeof(needle), "\"sentiment\":\"row %zu\"", i);
        if (count_text(&out, needle) != 1) {
            fail_msg("seed %llu: record %zu has its answer %zu times", (unsigned long long)seed, i,
                     count_text(&out, needle));
        }
        if (o->paid[i] < 1 || o->paid[i] > 1 + o->may_be_paid[i]) {
            fail_msg("seed %llu: record %zu was paid for %d times, may be %d", (unsigned long long)seed, i, o->paid[i],
                     1 + o->may_be_paid[i]);
        }
    }
    assert_int_equal(count_text(&out, "\"sentiment\":"), o->n_records);
    buf_free(&out);
}

static void run_seed(uint64_t seed) {
    struct odds *o = mem_zalloc(sizeof(*o));
    o->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    o->has_faults = true;
    char options[512];
    snprintf(options, sizeof(options),
             "'mode'='batch', 'batch.size'='%d', 'batch.timeout.ms'='100', 'batch.job.rows'='%d', "
             "'batch.job.timeout'='500', 'batch.job.poll'='100', 'request.timeout.ms'='500', 'max.retries'='100', "
             "'batch.job.concurrency'='%d'",
             1 + (int)below(o, 3), 4 + (int)below(o, 20), 1 + (int)below(o, 3));
    o->w = world_new(1 + (uint32_t)below(o, 4), options);
    world_start(o->w);
    greet(o);
    int rounds = 0;
    for (; rounds < ROUNDS; rounds++) {
        if (rounds % (ROUNDS / 8) == 0) { // some more records
            size_t n = 1 + below(o, RECORDS_MAX / 8);
            world_append(o->w, "p1", o->n_records + 1, n);
            world_message(o->w, "p1", (struct message){.kind = MESSAGE_FLUSH});
            o->n_records += n;
        }
        one_round(o);
    }
    o->has_faults = false;
    for (; count_left(o->w) > 0 && rounds < ROUNDS_MOST; rounds++) {
        one_round(o);
    }
    if (count_left(o->w) > 0) {
        fail_msg("seed %llu: not done", (unsigned long long)seed);
    }
    check_results(o, seed);
    assert_int_equal(o->w->status.jobs_twice, 0);
    world_free(o->w);
    free(o);
}

static void test_whatever_fails_each_record_is_answered_once(void **state) {
    const char *only = getenv("JOBS_SEED");
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        if (only == NULL || strtoull(only, NULL, 10) == seed) {
            run_seed(seed);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whatever_fails_each_record_is_answered_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
