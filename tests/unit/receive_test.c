// receive, link and report: the worker's dialogue with a coordinator, which is a ROUTER socket that
// this test reads and writes by hand. A catcher stands in for the steps between receive and report.
#include "worker/receive.h"

#include "common/clock.h"
#include "common/loop.h"
#include "common/secrets.h"
#include "proto/frame.h"
#include "proto/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <zmq.h>

#include <cmocka.h>

#define DEADLINE_MS 10000
#define MODEL_SQL \
    "CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = 'openai', 'endpoint' = " \
    "'http://127.0.0.1:1/', 'model' = 'x', 'batch.size' = '4');"

#define KEYLESS_SQL \
    "CREATE MODEL keyless INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = 'openai', 'endpoint' = " \
    "'http://127.0.0.1:1/', 'model' = 'x', 'api_key' = '${HEADRACE_TEST_NOT_SET}');"

struct fixture {
    uint64_t not_after; // of the next dispatches
    void *context, *router;
    char address[64];
    struct loop *loop;
    struct secrets *secrets;
    struct calls calls;
    struct status status;
    struct report report;
    struct receive receive;
    zmq_msg_t peer;       // routing id of the worker
    struct buf frame;     // last message from the worker
    struct message m;     // the same, unpacked
    struct call *caught[16];
    size_t n_caught;
    size_t n_superseded;
};

static void on_call(void *arg, struct call *call) {
    struct fixture *f = arg;
    f->caught[f->n_caught++] = call;
}

static void on_superseded(void *arg) {
    struct fixture *f = arg;
    f->n_superseded++;
}

static void turn(struct fixture *f) {
    uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
    zmq_pollitem_t item = {.socket = f->router, .events = ZMQ_POLLIN};
    zmq_poll(&item, 1, 1);
}

// take reads one message from the worker, if there is one.
static bool take(struct fixture *f) {
    zmq_msg_t id, body;
    zmq_msg_init(&id);
    if (zmq_msg_recv(&id, f->router, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&id);
        return false;
    }
    zmq_msg_init(&body);
    assert_true(zmq_msg_recv(&body, f->router, 0) >= 0);
    buf_clear(&f->frame);
    assert_int_equal(buf_add(&f->frame, zmq_msg_data(&body), zmq_msg_size(&body)), 0);
    zmq_msg_move(&f->peer, &id);
    zmq_msg_close(&id);
    zmq_msg_close(&body);
    struct error why = {0};
    if (message_unpack(buf_slice(&f->frame), &f->m, &why) != 0) {
        fail_msg("%s", why.text);
    }
    return true;
}

// expect waits for a message of a kind and skips PING.
static void expect(struct fixture *f, enum message_kind kind) {
    int64_t end = clock_us() + DEADLINE_MS * 1000;
    while (clock_us() < end) {
        if (!take(f)) {
            turn(f);
        } else if (f->m.kind == kind) {
            return;
        } else if (f->m.kind != MESSAGE_PING) {
            fail_msg("got %s, want %s", message_name(f->m.kind), message_name(kind));
        }
    }
    fail_msg("no %s came", message_name(kind));
}

static void say(struct fixture *f, const struct message *m) {
    struct buf out;
    buf_init(&out, FRAME_MAX_BYTES);
    assert_int_equal(message_pack(m, &out), 0);
    assert_true(zmq_send(f->router, zmq_msg_data(&f->peer), zmq_msg_size(&f->peer), ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(f->router, out.p, out.n, 0) >= 0);
    buf_free(&out);
}

static void say_welcome(struct fixture *f, uint64_t heartbeat_ms) {
    struct message m = {.kind = MESSAGE_WELCOME};
    m.welcome.coordinator = SLICE_LIT("c");
    m.welcome.heartbeat_ms = heartbeat_ms;
    say(f, &m);
}

static void say_dispatch(struct fixture *f, uint64_t batch, const char *model, struct slice overrides,
                         uint64_t valid_ms) {
    struct buf records;
    buf_init(&records, 4096);
    assert_int_equal(record_pack(&records, 3, SLICE_LIT("\x91\xa1x")), 0);
    struct message m = {.kind = MESSAGE_DISPATCH};
    m.dispatch.batch = batch;
    m.dispatch.call = 1;
    m.dispatch.model = slice_of(model);
    m.dispatch.revision = 2;
    m.dispatch.overrides = overrides;
    m.dispatch.count = 1;
    m.dispatch.records = buf_slice(&records);
    m.dispatch.valid_ms = valid_ms;
    m.dispatch.not_after = f->not_after;
    say(f, &m);
    buf_free(&records);
}

static void say_model(struct fixture *f, const char *model, const char *sql) {
    struct message m = {.kind = MESSAGE_MODEL};
    m.model.model = slice_of(model);
    m.model.revision = 2;
    m.model.sql = slice_of(sql);
    say(f, &m);
}

static void say_taken(struct fixture *f, uint64_t batch) {
    struct message m = {.kind = MESSAGE_TAKEN};
    char calls[] = {'\x91', '\x92', (char)batch, 1};
    m.taken.calls = (struct slice){.p = calls, .n = sizeof(calls)};
    say(f, &m);
}

static void wait_caught(struct fixture *f, size_t n) {
    int64_t end = clock_us() + DEADLINE_MS * 1000;
    while (f->n_caught < n && clock_us() < end) {
        turn(f);
    }
    assert_int_equal(f->n_caught, n);
}

static void wait_left(struct fixture *f, size_t n) {
    int64_t end = clock_us() + DEADLINE_MS * 1000;
    while (calls_count(&f->calls) != n && clock_us() < end) {
        turn(f);
    }
    assert_int_equal(calls_count(&f->calls), n);
}

static void setup(struct fixture *f) {
    *f = (struct fixture){0};
    struct error why = {0};
    size_t n = sizeof(f->address);
    buf_init(&f->frame, FRAME_MAX_BYTES);
    zmq_msg_init(&f->peer);
    f->context = zmq_ctx_new();
    f->router = zmq_socket(f->context, ZMQ_ROUTER);
    assert_int_equal(zmq_bind(f->router, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(f->router, ZMQ_LAST_ENDPOINT, f->address, &n), 0);
    f->loop = loop_new();
    f->secrets = secrets_load(NULL, &why);
    report_init(&f->report, &f->calls, &f->status, receive_send, &f->receive);
    receive_init(&f->receive, f->loop, &f->calls, &f->report, &f->status, f->secrets, on_call, f);
    f->receive.on_superseded = on_superseded;
    f->receive.superseded_arg = f;
    struct link_config config = {
        .address = f->address, .name = "w", .max_inflight = 4, .max_bytes = 1 << 20};
    if (receive_start(&f->receive, f->loop, &config, &why) != 0) {
        fail_msg("%s", why.text);
    }
    expect(f, MESSAGE_HELLO);
    assert_true(slice_is(f->m.hello.worker, "w"));
    assert_int_equal(f->m.hello.max_inflight, 4);
    assert_true(slice_eq(f->m.hello.held, SLICE_LIT("\x90")));
}

static void teardown(struct fixture *f) {
    struct call *call, *next;
    HASH_ITER(hh, f->calls.by_id, call, next) {
        held_give(&call->held);
    }
    receive_free(&f->receive);
    calls_free(&f->calls);
    loop_free(f->loop);
    secrets_free(f->secrets);
    zmq_msg_close(&f->peer);
    zmq_close(f->router);
    zmq_ctx_term(f->context);
    buf_free(&f->frame);
}

static void expect_report(struct fixture *f, uint64_t batch, enum outcome outcome) {
    expect(f, MESSAGE_REPORT);
    assert_int_equal(f->m.report.batch, batch);
    if (!slice_is(f->m.report.outcome, outcome_of(outcome)->text)) {
        fail_msg("got %.*s \"%.*s\", want %s", SLICE_FMT(f->m.report.outcome),
                 SLICE_FMT(f->m.report.detail), outcome_of(outcome)->text);
    }
}

static void a_missing_model_is_asked_for_once(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    say_dispatch(&f, 1, "m", SLICE_NONE, 5000);
    say_dispatch(&f, 2, "m", SLICE_NONE, 5000);
    expect(&f, MESSAGE_MODEL_GET);
    assert_true(slice_is(f.m.model_get.model, "m"));
    assert_int_equal(f.m.model_get.revision, 2);
    say_model(&f, "m", MODEL_SQL);
    wait_caught(&f, 2);
    say_dispatch(&f, 3, "m", SLICE_LIT("\x81\xabtemperature\xa3" "0.5"), 5000);
    wait_caught(&f, 3);
    assert_false(take(&f)); // no second MODEL_GET
    assert_int_equal(f.caught[0]->count, 1);
    assert_true(f.caught[2]->held->model->options.temperature == 0.5);
    teardown(&f);
}

static void a_dispatch_that_stood_in_a_buffer_is_not_made(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    f.not_after = 1; // of this clock: long ago
    say_dispatch(&f, 1, "m", SLICE_NONE, 60000);
    expect(&f, MESSAGE_MODEL_GET);
    expect_report(&f, 1, OUTCOME_UNSENT);
    assert_false(f.m.report.sent);
    teardown(&f);
}

static void a_credential_that_is_not_here_is_reported(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    say_dispatch(&f, 1, "keyless", SLICE_NONE, 5000);
    expect(&f, MESSAGE_MODEL_GET);
    say_model(&f, "keyless", KEYLESS_SQL);
    expect_report(&f, 1, OUTCOME_NO_CREDENTIAL);
    assert_false(f.m.report.sent);
    assert_non_null(memmem(f.m.report.detail.p, f.m.report.detail.n, "HEADRACE_TEST_NOT_SET", 21));
    teardown(&f);
}

static void a_dispatch_that_cannot_be_honoured_is_reported(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    say_dispatch(&f, 1, "none", SLICE_NONE, 5000);
    expect(&f, MESSAGE_MODEL_GET);
    say_model(&f, "none", "");
    expect_report(&f, 1, OUTCOME_BAD_CONFIG);
    say_dispatch(&f, 2, "late", SLICE_NONE, 1);
    expect(&f, MESSAGE_MODEL_GET);
    expect_report(&f, 2, OUTCOME_UNSENT);
    assert_false(f.m.report.sent);
    say_model(&f, "m", MODEL_SQL);
    say_dispatch(&f, 3, "m", SLICE_LIT("\x81\xaa" "batch.size\xa1x"), 5000);
    expect_report(&f, 3, OUTCOME_BAD_CONFIG);
    say_dispatch(&f, 4, "m", SLICE_NONE, 5000);
    wait_caught(&f, 1);
    say_dispatch(&f, 5, "m", SLICE_NONE, 5000); // the fifth of four
    expect_report(&f, 5, OUTCOME_UNSENT);
    teardown(&f);
}

static void a_report_is_kept_until_taken(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    say_model(&f, "m", MODEL_SQL);
    say_dispatch(&f, 1, "m", SLICE_NONE, 5000);
    wait_caught(&f, 1);
    say_dispatch(&f, 1, "m", SLICE_NONE, 5000); // twice: one call
    int64_t end = clock_us() + DEADLINE_MS * 1000;
    while (f.status.n_dispatches < 2 && clock_us() < end) {
        turn(&f);
    }
    f.caught[0]->sent = true;
    call_decide(f.caught[0], OUTCOME_TIMED_OUT, "%s", "no answer");
    report_push(&f.report, f.caught[0]);
    expect_report(&f, 1, OUTCOME_TIMED_OUT);
    assert_true(f.m.report.sent);
    say_dispatch(&f, 1, "m", SLICE_NONE, 5000); // asked again: the same report, no new call
    expect_report(&f, 1, OUTCOME_TIMED_OUT);
    struct message refused = {.kind = MESSAGE_REFUSED};
    refused.refused.code = SLICE_LIT("unknown-worker");
    refused.refused.message = SLICE_LIT("who are you?");
    say(&f, &refused);
    expect(&f, MESSAGE_HELLO);
    assert_true(slice_eq(f.m.hello.held, SLICE_LIT("\x91\x93\x01\x01\x91\x03")));
    say_welcome(&f, 60000);
    expect_report(&f, 1, OUTCOME_TIMED_OUT);
    assert_int_equal(f.n_caught, 1);
    assert_int_equal(f.status.calls_TIMED_OUT, 1);
    say_taken(&f, 9); // somebody else's
    say_taken(&f, 1);
    wait_left(&f, 0);
    teardown(&f);
}

static void a_silent_coordinator_is_greeted_anew(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 20);
    expect(&f, MESSAGE_PING);
    expect(&f, MESSAGE_HELLO); // after three heartbeats without a word
    say_welcome(&f, 60000);
    struct message ping = {.kind = MESSAGE_PING};
    ping.ping.time = 77;
    say(&f, &ping);
    expect(&f, MESSAGE_PONG);
    assert_int_equal(f.m.pong.time, 77);
    teardown(&f);
}

static void draining_gives_back_what_waits(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    say_dispatch(&f, 1, "m", SLICE_NONE, 60000);
    expect(&f, MESSAGE_MODEL_GET);
    receive_drain(&f.receive);
    expect_report(&f, 1, OUTCOME_UNSENT);
    say_dispatch(&f, 2, "m", SLICE_NONE, 60000);
    expect_report(&f, 2, OUTCOME_UNSENT);
    say_taken(&f, 1);
    say_taken(&f, 2);
    wait_left(&f, 0);
    receive_free(&f.receive);
    expect(&f, MESSAGE_BYE);
    receive_init(&f.receive, f.loop, &f.calls, &f.report, &f.status, f.secrets, on_call, &f);
    teardown(&f);
}

static void nonsense_does_no_harm(void **state) {
    struct fixture f;
    setup(&f);
    say_welcome(&f, 60000);
    for (int i = 0; i < 300; i++) {
        char frame[] = {'H', 'R', 1, (char)i, (char)0x80};
        zmq_send(f.router, zmq_msg_data(&f.peer), zmq_msg_size(&f.peer), ZMQ_SNDMORE);
        zmq_send(f.router, frame, (size_t)i % 6, 0);
    }
    struct message refused = {.kind = MESSAGE_REFUSED};
    refused.refused.code = SLICE_LIT("superseded");
    refused.refused.message = SLICE_LIT("another one came");
    say(&f, &refused);
    int64_t end = clock_us() + DEADLINE_MS * 1000;
    while (f.n_superseded == 0 && clock_us() < end) {
        turn(&f);
        (void)take(&f);
    }
    assert_int_equal(f.n_superseded, 1);
    assert_int_equal(f.n_caught, 0);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_model_is_asked_for_once),
        cmocka_unit_test(a_dispatch_that_stood_in_a_buffer_is_not_made),
        cmocka_unit_test(a_credential_that_is_not_here_is_reported),
        cmocka_unit_test(a_dispatch_that_cannot_be_honoured_is_reported),
        cmocka_unit_test(a_report_is_kept_until_taken),
        cmocka_unit_test(a_silent_coordinator_is_greeted_anew),
        cmocka_unit_test(draining_gives_back_what_waits),
        cmocka_unit_test(nonsense_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
