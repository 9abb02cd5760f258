// The partition's scripts against a model of them in C: random operations, each run once or twice,
// replies and every key compared after each. txn_args makes the arguments of the writes.
#include "coordinator/txn.h"
#include "common/log.h"
#include "common/mem.h"
#include "tests/unit/redis_server.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stddef.h>
// cmocka wants the two above first
#include <cmocka.h>

#define N_IDS 12
#define OWN_MAX 64  // bytes of an epoch and a start as text
#define N_NAMES 3
#define OUT_MAX 4096
#define TOP_NUMBER ((UINT64_C(1) << 53) - 100000) // cseq and oseq stay below 2^53
#define FIRST_ID UINT64_C(18446744073709551600)   // batch ids use all of 64 bits

static const struct {
    const char *name, *text;
} scripts[] = {
#define SCRIPT(script, body) {#script, body},
#include "coordinator/scripts.inc"
#undef SCRIPT
};

static const char *script_text(const char *name) {
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        if (strcmp(scripts[i].name, name) == 0) {
            return scripts[i].text;
        }
    }
    fail_msg("no script %s", name);
    return NULL;
}

// What the scripts promise, without Redis.
struct model {
    bool exists, leased;
    uint64_t epoch, cseq, oseq;
    char start[24];
    char owner[8];
    unsigned jobs[N_IDS];              // likewise
    unsigned batches[N_IDS];           // 0: none; else the number in its blob
    uint64_t producers[N_NAMES], consumers[N_NAMES]; // 0: none
    struct {
        uint64_t last, n;
    } out[OUT_MAX];
    size_t n_out, n_dead;
};

struct world {
    struct redis_server server;
    struct model m;
    uint64_t random;
    const char *what; // the operation under test
};

static uint64_t draw(struct world *w, uint64_t below) {
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (w->random >> 33) % below;
}

// run_script runs one with its keys; args are the rest.
static redisReply *run_script(struct world *w, const char *name, const char *keys, size_t n_args,
                              const struct slice *args) {
    const char **argv = mem_alloc((n_args + 16) * sizeof(*argv));
    size_t *lengths = mem_alloc((n_args + 16) * sizeof(*lengths));
    char texts[10][24], count[24];
    size_t n_keys = 0;
    for (const char *k = keys; *k != '\0'; k += 3) {
        snprintf(texts[n_keys], sizeof(texts[0]), "hr:{t:0}:%.3s", k);
        argv[3 + n_keys] = texts[n_keys];
        lengths[3 + n_keys] = strlen(texts[n_keys]);
        n_keys++;
    }
    snprintf(count, sizeof(count), "%zu", n_keys);
    argv[0] = "EVAL";
    argv[1] = script_text(name);
    argv[2] = count;
    for (int i = 0; i < 3; i++) {
        lengths[i] = strlen(argv[i]);
    }
    for (size_t i = 0; i < n_args; i++) {
        argv[3 + n_keys + i] = args[i].p;
        lengths[3 + n_keys + i] = args[i].n;
    }
    redisReply *r = redisCommandArgv(w->server.link, (int)(3 + n_keys + n_args), argv, lengths);
    assert_non_null(r);
    free(argv);
    free(lengths);
    return r;
}

// expect checks a reply: code NULL: no error.
static void expect(struct world *w, redisReply *r, const char *code) {
    const char *got = r->type == REDIS_REPLY_ERROR ? r->str : NULL;
    if ((got == NULL) != (code == NULL) || (code != NULL && strncmp(got, code, strlen(code)) != 0)) {
        fail_msg("%s: got %s, want %s", w->what, got ? got : "OK", code ? code : "OK");
    }
    freeReplyObject(r);
}

// ---- Operations: each on Redis and on the model ------------------------------------------------

static void do_acquire(struct world *w) {
    struct model *m = &w->m;
    const char *owner = draw(w, 2) ? "a" : "b";
    char start[24];
    snprintf(start, sizeof(start), "%016" PRIx64, draw(w, 1000000));
    w->what = "acquire";
    const struct slice args[] = {slice_of(owner), SLICE_LIT("here"), SLICE_LIT("1000000"),
                                 slice_of(start)};
    redisReply *r = run_script(w, "part_acquire", "own", 4, args);
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    bool is_free = !m->exists || !m->leased || m->owner[0] == '\0' || strcmp(m->owner, owner) == 0;
    assert_string_equal(r->element[0]->str, is_free ? "1" : "0");
    if (is_free) {
        uint64_t epoch = strtoull(r->element[1]->str, NULL, 10);
        assert_true(m->exists ? epoch == m->epoch + 1 : epoch > 0);
        assert_true(strtoull(r->element[2]->str, NULL, 10) == m->cseq);
        assert_true(strtoull(r->element[3]->str, NULL, 10) == m->oseq);
        m->exists = m->leased = true;
        m->epoch = epoch;
        snprintf(m->start, sizeof(m->start), "%s", start);
        snprintf(m->owner, sizeof(m->owner), "%s", owner);
    } else {
        assert_string_equal(r->element[1]->str, m->owner);
        assert_in_range(strtoull(r->element[2]->str, NULL, 10), 1, 1000000);
    }
    freeReplyObject(r);
}

static void do_expire(struct world *w) {
    if (w->m.exists) {
        redis_server_run(&w->server, "HSET hr:{t:0}:own until 1");
        w->m.leased = false;
    }
}

// Redis's clock goes back by an hour: the lease counts as a whole one once somebody else has asked.
static void do_clock_back(struct world *w) {
    if (w->m.leased && w->m.owner[0] != '\0') {
        redis_server_run(&w->server, "HINCRBY hr:{t:0}:own until 3600000000");
        do_acquire(w);
        do_acquire(w);
    }
}

// its_epoch says as whom the owner speaks.
static struct slice its_epoch(const struct world *w, char text[OWN_MAX]) {
    snprintf(text, OWN_MAX, "%" PRIu64 ":%s", w->m.epoch, w->m.start);
    return slice_of(text);
}

// some_epoch is the right one with the right start, three times of four; is_right says so. Else it is one
// more or less, or another start took it.
static struct slice some_epoch(struct world *w, char text[OWN_MAX], bool *is_right) {
    uint64_t epoch = w->m.epoch;
    *is_right = w->m.exists && draw(w, 4) != 0;
    uint64_t kind = *is_right ? 3 : draw(w, 3);
    epoch += kind == 0 ? 1 : kind == 1 ? (uint64_t)-1 : 0;
    snprintf(text, OWN_MAX, "%" PRIu64 ":%s%s", epoch, w->m.start, kind == 2 ? "e" : "");
    return slice_of(text);
}

// went_back says whether Redis has less than it had: an epoch before the writer's (they only grow), or the
// same that another start took, or not
// the last write that was confirmed to it.
static bool went_back(const struct world *w, const char *epoch, uint64_t confirmed) {
    return !w->m.exists || w->m.epoch <= strtoull(epoch, NULL, 10) || w->m.cseq < confirmed;
}

static void do_renew(struct world *w) {
    struct model *m = &w->m;
    char text[OWN_MAX];
    bool is_right;
    uint64_t confirmed = m->cseq + (draw(w, 2) == 0);
    char confirmed_text[24];
    snprintf(confirmed_text, sizeof(confirmed_text), "%" PRIu64, confirmed);
    const struct slice args[] = {some_epoch(w, text, &is_right), SLICE_LIT("1000000"), slice_of(confirmed_text)};
    w->what = "renew";
    redisReply *r = run_script(w, "part_renew", "own", 3, args);
    if (is_right) {
        assert_int_equal(r->type, REDIS_REPLY_ARRAY);
        assert_true(strtoull(r->element[0]->str, NULL, 10) == m->cseq);
        assert_true(strtoull(r->element[1]->str, NULL, 10) == m->oseq);
        m->leased = true;
    }
    expect(w, r, is_right ? NULL : went_back(w, text, confirmed) ? "ROLLBACK" : "FENCED");
}

static void do_release(struct world *w) {
    char text[OWN_MAX];
    bool is_right;
    const struct slice args[] = {some_epoch(w, text, &is_right)};
    w->what = "release";
    expect(w, run_script(w, "part_release", "own", 1, args), is_right ? NULL : "FENCED");
    if (is_right) {
        w->m.epoch++;
        w->m.owner[0] = w->m.start[0] = '\0';
        w->m.leased = false;
        expect(w, run_script(w, "part_release", "own", 1, args), "FENCED"); // twice is once
    }
}

static void do_ack(struct world *w) {
    struct model *m = &w->m;
    static const char *const names[N_NAMES] = {"x", "y", "z"};
    char text[OWN_MAX], oseq_text[24], trim_text[24];
    bool is_right;
    size_t who = draw(w, N_NAMES);
    uint64_t oseq = m->oseq - draw(w, 20 < m->oseq ? 20 : m->oseq + 1);
    uint64_t trim = draw(w, 3) == 0 ? oseq : 0;
    snprintf(oseq_text, sizeof(oseq_text), "%" PRIu64, oseq);
    snprintf(trim_text, sizeof(trim_text), "%" PRIu64, trim);
    const struct slice args[] = {some_epoch(w, text, &is_right), slice_of(names[who]),
                                 slice_of(oseq_text), slice_of(trim_text)};
    w->what = "ack";
    for (uint64_t times = 1 + draw(w, 2); times > 0; times--) {
        expect(w, run_script(w, "out_ack", "owncurout", 4, args), is_right ? NULL : "FENCED");
    }
    if (is_right) {
        m->consumers[who] = oseq > m->consumers[who] ? oseq : m->consumers[who];
        size_t gone = 0;
        while (gone < m->n_out && m->out[gone].last <= trim) {
            gone++;
        }
        memmove(m->out, m->out + gone, (m->n_out - gone) * sizeof(m->out[0]));
        m->n_out -= gone;
    }
}

// add_operations fills the txn at random and carries it out on the model given.
static void add_operations(struct world *w, struct txn *txn, struct model *m) {
    static const char *const names[N_NAMES] = {"x", "y", "z"};
    char blob[64];
    for (uint64_t n = draw(w, 8); n > 0; n--) {
        size_t i = draw(w, N_IDS), who = draw(w, N_NAMES);
        unsigned number = (unsigned)draw(w, 1000) + 1;
        int len = snprintf(blob, sizeof(blob), "blob %u%c\r\n;]]", number, 0);
        struct slice bytes = {.p = blob, .n = (size_t)len};
        switch (draw(w, 8)) {
        case 0:
            txn_put(txn, FIRST_ID + i, bytes);
            m->batches[i] = number;
            break;
        case 1:
            txn_delete(txn, FIRST_ID + i);
            m->batches[i] = 0;
            break;
        case 2:
            txn_producer(txn, slice_of(names[who]), number);
            m->producers[who] = number > m->producers[who] ? number : m->producers[who];
            break;
        case 3:
            m->oseq += number;
            txn_out(txn, m->oseq, bytes);
            m->out[m->n_out].last = m->oseq;
            m->out[m->n_out++].n = number;
            break;
        case 4:
            txn_consumer(txn, slice_of(names[who]), number);
            m->consumers[who] = number > m->consumers[who] ? number : m->consumers[who];
            break;
        case 5:
            txn_dead(txn, bytes);
            m->n_dead++;
            break;
        case 6:
            txn_job(txn, FIRST_ID + i, bytes);
            m->jobs[i] = number;
            break;
        case 7:
            txn_unjob(txn, FIRST_ID + i);
            m->jobs[i] = 0;
            break;
        }
    }
}

static void do_write(struct world *w) {
    struct model after = w->m;
    struct txn *txn = txn_new(0);
    add_operations(w, txn, &after);
    char text[OWN_MAX];
    bool is_right;
    txn->epoch = strtoull(some_epoch(w, text, &is_right).p, NULL, 10);
    int64_t step = draw(w, 4) != 0 ? 1 : (int64_t)draw(w, 5) - 2; // 1: the one that follows
    step = step < 0 && w->m.cseq < 2 ? 0 : step;
    txn->cseq = w->m.cseq + (uint64_t)step;
    txn->oseq = after.oseq;
    bool is_bad = draw(w, 8) == 0;
    char numbers[3][24];
    struct slice *args = mem_alloc((txn->n_args + 8) * sizeof(*args));
    size_t n = txn_args(txn, numbers, args);
    args[0] = slice_of(text);
    char wrong[24];
    if (is_bad && draw(w, 2) == 0) {
        args[n++] = SLICE_LIT("P"); // an operation that is cut off
        args[n++] = SLICE_LIT("1");
    } else if (is_bad) {
        snprintf(wrong, sizeof(wrong), "%" PRIu64, after.oseq + 1); // a number that no result has
        args[2] = slice_of(wrong);
    }
    const char *code = !is_right               ? went_back(w, text, txn->cseq > 0 ? txn->cseq - 1 : 0) ? "ROLLBACK" : "FENCED"
                       : step != 0 && step != 1 ? "ROLLBACK"
                       : step == 1 && is_bad   ? "BADWRITE"
                                               : NULL;
    w->what = "write";
    expect(w, run_script(w, "part_write", "ownbatprdoutdlqcursntusejob", n, args), code);
    if (code == NULL && step == 1) {
        after.cseq++;
        w->m = after;
        if (draw(w, 2) == 0) {
            expect(w, run_script(w, "part_write", "ownbatprdoutdlqcursntusejob", n, args), NULL); // sent again
        }
    }
    free(args);
    txn_free(txn);
}

// ---- Comparing every key -----------------------------------------------------------------------

static uint64_t get_number(struct world *w, const char *command, const char *name) {
    redisReply *r = redis_server_do(&w->server, command, name);
    uint64_t n = r->type == REDIS_REPLY_INTEGER ? (uint64_t)r->integer
                 : r->str != NULL               ? strtoull(r->str, NULL, 10)
                                                : 0;
    freeReplyObject(r);
    return n;
}

static void compare_hash(struct world *w, const char *key, const unsigned *want) {
    size_t n = 0;
    for (size_t i = 0; i < N_IDS; i++) {
        char id[24];
        snprintf(id, sizeof(id), "%" PRIu64, FIRST_ID + i);
        redisReply *r = redis_server_do(&w->server, "HGET hr:{t:0}:%s %s", key, id);
        unsigned got = r->type == REDIS_REPLY_STRING ? (unsigned)atoi(r->str + 5) : 0;
        assert_int_equal(got, want[i]);
        n += got != 0;
        freeReplyObject(r);
    }
    assert_int_equal(get_number(w, "HLEN hr:{t:0}:%s", key), n);
}

static void compare_out(struct world *w) {
    redisReply *r = redis_server_do(&w->server, "XRANGE hr:{t:0}:out - +");
    assert_int_equal(r->elements, w->m.n_out);
    for (size_t i = 0; i < r->elements; i++) {
        const redisReply *entry = r->element[i];
        assert_true(strtoull(entry->element[0]->str, NULL, 10) == w->m.out[i].last);
        assert_true(strtoull(entry->element[1]->element[1]->str, NULL, 10) == w->m.out[i].n);
    }
    freeReplyObject(r);
}

static void compare(struct world *w) {
    static const char *const names[N_NAMES] = {"x", "y", "z"};
    const struct model *m = &w->m;
    assert_true(get_number(w, "HGET hr:{t:0}:own epoch", NULL) == m->epoch);
    assert_true(get_number(w, "HGET hr:{t:0}:own cseq", NULL) == m->cseq);
    assert_true(get_number(w, "HGET hr:{t:0}:own oseq", NULL) == m->oseq);
    for (size_t i = 0; i < N_NAMES; i++) {
        assert_true(get_number(w, "HGET hr:{t:0}:prd %s", names[i]) == m->producers[i]);
        assert_true(get_number(w, "HGET hr:{t:0}:cur %s", names[i]) == m->consumers[i]);
    }
    assert_int_equal(get_number(w, "XLEN hr:{t:0}:dlq", NULL), m->n_dead);
    compare_hash(w, "bat", w->m.batches);
    compare_hash(w, "job", w->m.jobs);
    compare_out(w);
}

static void run_random(uint64_t seed, uint64_t first_number, int n_steps) {
    struct world w = {.random = seed};
    char text[24];
    redis_server_start_with(&w.server, "no", NULL, NULL);
    if (first_number > 0) {
        do_acquire(&w);
        snprintf(text, sizeof(text), "%" PRIu64, first_number);
        redis_server_run(&w.server, "HSET hr:{t:0}:own cseq %s oseq %s", text, text);
        w.m.cseq = w.m.oseq = first_number;
    }
    for (int i = 0; i < n_steps; i++) {
        uint64_t kind = draw(&w, 16);
        if (kind == 0) {
            do_acquire(&w);
        } else if (kind == 1 && draw(&w, 2) == 0) {
            do_expire(&w);
        } else if (kind == 1) {
            do_clock_back(&w);
        } else if (kind == 2) {
            do_renew(&w);
        } else if (kind == 3 && draw(&w, 4) == 0) {
            do_release(&w);
        } else if (kind < 7) {
            do_ack(&w);
        } else if (w.m.n_out + 8 < OUT_MAX) {
            do_write(&w);
        }
        compare(&w);
    }
    assert_true(w.m.cseq > first_number + 20); // it did write, most of the time
    redis_server_end(&w.server);
}

static void scripts_do_as_their_model(void **state) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        run_random(seed, 0, 300);
    }
}

static void scripts_keep_large_numbers_exact(void **state) {
    for (uint64_t seed = 11; seed <= 13; seed++) {
        run_random(seed, TOP_NUMBER, 100);
    }
}

static void a_long_write_is_one_write(void **state) {
    struct world w = {0};
    redis_server_start_with(&w.server, "no", NULL, NULL);
    do_acquire(&w);
    struct txn *txn = txn_new(0);
    txn->epoch = w.m.epoch;
    txn->cseq = 1;
    for (uint64_t i = 0; i < 20000; i++) {
        txn_put(txn, i, SLICE_LIT("b"));
    }
    char numbers[3][24];
    struct slice *args = mem_alloc((txn->n_args + 3) * sizeof(*args));
    size_t n = txn_args(txn, numbers, args);
    char own[OWN_MAX];
    args[0] = its_epoch(&w, own);
    w.what = "60,000 arguments";
    expect(&w, run_script(&w, "part_write", "ownbatprdoutdlqcursntusejob", n, args), NULL);
    assert_int_equal(get_number(&w, "HLEN hr:{t:0}:bat", NULL), 20000);
    free(args);
    txn_free(txn);
    redis_server_end(&w.server);
}

// letters_write makes one write with a letter to come and one to go; error: what Redis is to say.
static void letters_write(struct world *w, uint64_t cseq, const char *gone, const char *error) {
    struct txn *txn = txn_new(0);
    char numbers[3][24];
    struct slice args[16];
    txn->epoch = w->m.epoch;
    txn->cseq = cseq;
    txn_dead(txn, SLICE_LIT("letter"));
    if (gone != NULL) {
        txn_undead(txn, slice_of(gone));
    }
    size_t n = txn_args(txn, numbers, args);
    char own[OWN_MAX];
    args[0] = its_epoch(w, own);
    w->what = gone;
    expect(w, run_script(w, "part_write", "ownbatprdoutdlqcursntusejob", n, args), error);
    txn_free(txn);
}

static void a_dead_letter_leaves_with_its_write(void **state) {
    struct world w = {0};
    redis_server_start_with(&w.server, "no", NULL, NULL);
    do_acquire(&w);
    letters_write(&w, 1, NULL, NULL);
    redisReply *r = redis_server_do(&w.server, "XRANGE hr:{t:0}:dlq - +");
    assert_int_equal(r->elements, 1);
    char id[64];
    snprintf(id, sizeof(id), "%s", r->element[0]->element[0]->str);
    freeReplyObject(r);
    letters_write(&w, 2, "not an id", "BADWRITE");
    assert_int_equal(get_number(&w, "XLEN hr:{t:0}:dlq", NULL), 1);
    letters_write(&w, 2, id, NULL);
    letters_write(&w, 2, id, NULL); // the same again
    assert_int_equal(get_number(&w, "XLEN hr:{t:0}:dlq", NULL), 1);
    letters_write(&w, 3, id, NULL); // gone already: no harm
    assert_int_equal(get_number(&w, "XLEN hr:{t:0}:dlq", NULL), 2);
    redis_server_end(&w.server);
}

static void a_txn_keeps_its_operations_in_order(void **state) {
    static const char *const want[] = {"7", "8", "9",  "P",  "18446744073709551615", "blob", "D", "1",
                                       "S", "p", "33", "O", "9", "", "L", "dead", "X", "1-0"};
    struct txn *txn = txn_new(2);
    txn->epoch = 7;
    txn->cseq = 8;
    txn->oseq = 9;
    txn_put(txn, UINT64_MAX, SLICE_LIT("blob"));
    txn_delete(txn, 1);
    txn_producer(txn, SLICE_LIT("p"), 33);
    txn_out(txn, 9, SLICE_NONE);
    txn_dead(txn, SLICE_LIT("dead"));
    txn_undead(txn, SLICE_LIT("1-0"));
    char numbers[3][24];
    struct slice args[32];
    assert_int_equal(txn_args(txn, numbers, args), sizeof(want) / sizeof(want[0]));
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_true(slice_is(args[i], want[i]));
    }
    txn_free(txn);
    txn_free(NULL);
}

int main(void) {
    log_setup("txn_test", LOG_ERROR);
    const struct CMUnitTest pure[] = {cmocka_unit_test(a_txn_keeps_its_operations_in_order)};
    int failed = cmocka_run_group_tests(pure, NULL, NULL);
    if (redis_server_missing()) {
        return failed;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_do_as_their_model),
        cmocka_unit_test(scripts_keep_large_numbers_exact),
        cmocka_unit_test(a_long_write_is_one_write),
        cmocka_unit_test(a_dead_letter_leaves_with_its_write),
    };
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
