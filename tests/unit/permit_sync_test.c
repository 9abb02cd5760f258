// permit_sync.lua in a real Redis, with a clock that the test sets, against its model (sim/permit_model.c):
// thousands of requests drawn by chance, each answered byte for byte the same, and the promises over them.
#include "coordinator/permit.h"
#include "tests/sim/permit_model.h"
#include "tests/unit/redis_server.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SCRIPT(name, text) {#name, text},
static const struct {
    const char *name, *text;
} SCRIPTS[] = {
#include "coordinator/scripts.inc"
};
#undef SCRIPT

#define START_US INT64_C(1700000000000000)

static struct redis_server server;
static char *script;    // with the test's clock
static uint64_t random_state;

static uint64_t below(uint64_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % n;
}

// with_test_clock replaces Redis's time, the one thing that a test cannot set.
static char *with_test_clock(const char *text) {
    static const char real[] = "redis.call('TIME')", own[] = "redis.call('LRANGE', 'clock', 0, 1)";
    const char *at = strstr(text, real);
    assert_non_null(at);
    assert_null(strstr(at + 1, real));
    size_t n = strlen(text) + sizeof(own);
    char *out = malloc(n);
    snprintf(out, n, "%.*s%s%s", (int)(at - text), text, own, at + strlen(real));
    return out;
}

static int setup(void **state) {
    if (redis_server_missing()) {
        return 0;
    }
    redis_server_start_with(&server, "no", NULL, NULL);
    for (size_t i = 0; i < sizeof(SCRIPTS) / sizeof(SCRIPTS[0]); i++) {
        if (strcmp(SCRIPTS[i].name, "permit_sync") == 0) {
            script = with_test_clock(SCRIPTS[i].text);
        }
    }
    assert_non_null(script);
    return 0;
}

static int teardown(void **state) {
    free(script);
    redis_server_end(&server);
    return 0;
}

// ask runs the script; false: it refused. text gets its reply or error.
static bool ask_script(const char *text_of_script, const char *holder, const struct permit_request *r,
                       char text[PERMIT_REPLY_MAX]) {
    struct buf args;
    struct slice parts[PERMIT_ARGS_MAX];
    buf_init(&args, 8192);
    size_t n = permit_args(r, &args, parts), lengths[6 + PERMIT_ARGS_MAX];
    const char *all[6 + PERMIT_ARGS_MAX] = {"EVAL", text_of_script, "2", "bkt", "lease", holder};
    for (size_t i = 0; i < 6; i++) {
        lengths[i] = strlen(all[i]);
    }
    for (size_t i = 0; i < n; i++) {
        all[6 + i] = parts[i].p;
        lengths[6 + i] = parts[i].n;
    }
    redisReply *reply = redisCommandArgv(server.link, (int)(6 + n), all, lengths);
    assert_non_null(reply);
    bool ok = reply->type == REDIS_REPLY_STRING;
    snprintf(text, PERMIT_REPLY_MAX, "%s", reply->str);
    freeReplyObject(reply);
    buf_free(&args);
    return ok;
}

static void set_clock(int64_t now_us) {
    redis_server_run(&server, "DEL clock");
    redis_server_run(&server, "RPUSH clock %lld %lld", (long long)(now_us / 1000000),
                     (long long)(now_us % 1000000));
}

// ---- Against the model ----------------------------------------------------------------------------------

#define HOLDERS 4
#define ROUNDS 12
#define REQUESTS 400

struct holder {
    char name[8];
    uint64_t number;
    int64_t asked_us; // by the clock that nobody sets
    struct permit_request last;
    double calls;
};

static struct permit_request draw_request(struct holder *h, const struct permit_request *base, int64_t now_us) {
    struct permit_request r = *base;
    r.number = ++h->number;
    r.n_want = below(4) == 0 ? 0 : (int64_t)below(below(2) ? 3 : 500);
    r.calls_want = (int64_t)below(20);
    r.calls_held = (int64_t)below((uint64_t)r.calls_want + 1);
    r.elapsed_us = h->number > 1 ? now_us - h->asked_us : -1;
    r.block_us = below(60) == 0 ? (int64_t)below(3000000) : 0;
    r.cut = below(60) == 0;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        struct permit_kind *k = &r.of[kind];
        bool is_calls = kind == LIMIT_REQUESTS || kind == LIMIT_REQUESTS_DAY;
        double size = is_calls ? 1 : (double)(1 + below(300)) / 3;
        k->said = below(100) == 0 ? (int64_t)(1 + below(2000)) : 0;
        k->share = below(50) == 0 ? (double)below(100) / 100 : -1;
        k->back = below(5) == 0 ? (double)below(20) : 0;
        k->owed = below(8) == 0 ? (double)below(20) : 0;
        k->largest = is_calls ? 1 : size * 2;
        k->want = size * (double)r.n_want;
    }
    h->asked_us = now_us;
    h->last = r;
    return r;
}

static struct permit_request draw_base(void) {
    static const int offsets[] = {-1, 0, 480};
    struct permit_request r = {.span_us = (int64_t)(250000 + below(1750000)),
                               .calls_limit = below(2) ? (int64_t)(1 + below(30)) : 0,
                               .calls_ms = (int64_t)(1000 + below(20000)),
                               .is_bucket = below(2) == 0,
                               .day_offset_min = offsets[below(3)]};
    r.ahead_us = 2 * r.span_us;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        r.of[kind].limit = below(2) ? 0 : (int64_t)(1 + below(below(2) ? 50 : 60000));
    }
    return r;
}

// same asks both; the request may be an old one, or the last one again.
static void same(struct permit_model *model, int64_t now_us, const char *name, const struct permit_request *r) {
    char real[PERMIT_REPLY_MAX], modelled[PERMIT_REPLY_MAX];
    set_clock(now_us);
    bool ok = ask_script(script, name, r, real);
    int rc = permit_model_sync(model, now_us, name, r, modelled);
    assert_true(rc == 0 || rc == -ESTALE);
    if (ok != (rc == 0) || (ok && strcmp(real, modelled) != 0)) {
        fail_msg("%s, number %d: redis says %s, the model %s", name, (int)r->number, real,
                 rc == 0 ? modelled : "stale");
    }
    struct permit_reply parsed;
    if (ok) {
        assert_true(permit_reply_parse(slice_of(real), &parsed));
    } else {
        assert_non_null(strstr(real, "STALE"));
    }
}

static void test_the_script_does_what_its_model_does(void **state) {
    if (server.pid == 0) {
        skip();
    }
    for (int round = 0; round < ROUNDS; round++) {
        random_state = (uint64_t)round + 1;
        redis_server_run(&server, "FLUSHALL");
        struct permit_model *model = calloc(1, sizeof(*model));
        struct holder holders[HOLDERS] = {0};
        struct permit_request base = draw_base();
        int64_t now_us = 1000000, off_us = START_US;
        for (int i = 0; i < REQUESTS; i++) {
            struct holder *h = &holders[below(HOLDERS)];
            snprintf(h->name, sizeof(h->name), "c%d", (int)(h - holders));
            now_us += (int64_t)below(below(20) == 0 ? 20000000 : 300000);
            if (below(40) == 0) { // somebody sets the clock
                off_us += (int64_t)below(14400000000) - 7200000000 * (int64_t)below(2);
            } else if (below(20) == 0) {
                off_us -= (int64_t)below(900000);
            }
            uint64_t kind = below(10);
            if (kind == 0 && h->number > 0) {
                same(model, now_us + off_us, h->name, &h->last);
            } else if (kind == 1 && h->number > 1) {
                struct permit_request old = h->last;
                old.number -= 1;
                same(model, now_us + off_us, h->name, &old);
            } else {
                struct permit_request r = draw_request(h, &base, now_us);
                same(model, now_us + off_us, h->name, &r);
            }
        }
        free(model);
    }
}

static void test_it_runs_by_the_clock_of_redis_too(void **state) {
    if (server.pid == 0) {
        skip();
    }
    redis_server_run(&server, "FLUSHALL");
    struct permit_request r = {.number = 1, .n_want = 10, .span_us = 1000000, .ahead_us = 2000000,
                               .elapsed_us = -1, .day_offset_min = -1, .is_bucket = true};
    r.of[LIMIT_REQUESTS] = (struct permit_kind){.limit = 600, .share = -1, .largest = 1, .want = 10};
    char text[PERMIT_REPLY_MAX];
    struct permit_reply reply;
    for (size_t i = 0; i < sizeof(SCRIPTS) / sizeof(SCRIPTS[0]); i++) {
        if (strcmp(SCRIPTS[i].name, "permit_sync") == 0) {
            assert_true(ask_script(SCRIPTS[i].text, "a", &r, text));
        }
    }
    assert_true(permit_reply_parse(slice_of(text), &reply));
    assert_int_equal(reply.n, 10);
    assert_int_equal(reply.delay_us, 0); // empty, but the first call may go
    assert_int_equal(reply.duration_us, 1000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_script_does_what_its_model_does),
        cmocka_unit_test(test_it_runs_by_the_clock_of_redis_too),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
