// The coordinator's sockets, with real ZeroMQ peers over tcp on loopback.
#include "coordinator/link.h"
#include "common/log.h"
#include "common/loop.h"
#include "coordinator/status.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>
#include <zmq.h>

struct world {
    struct loop *loop;
    struct status status;
    struct link *link;
    char dir[64], router[128], in[128], out[128];
    void *context, *peer;
    size_t n_messages, n_frames, n_want;
    enum message_kind last_kind;
    bool wants_frames;
};

static void stop_when_done(struct world *w) {
    if (w->n_messages + w->n_frames + w->status.frames_bad >= w->n_want) {
        loop_stop(w->loop);
    }
}

static void on_message(void *arg, struct slice route, const struct message *message) {
    struct world *w = arg;
    w->n_messages++;
    w->last_kind = message->kind;
    struct message pong = {.kind = MESSAGE_PONG, .pong = {.time = 5}};
    assert_int_equal(link_send(w->link, route, &pong), 0);
}

static void on_frame(void *arg, struct slice frame) {
    struct world *w = arg;
    w->n_frames++;
}

static bool wants_frames(void *arg) {
    return ((struct world *)arg)->wants_frames;
}

static void on_push_ready(void *arg) {
}

static void on_turn_end(void *arg) {
    stop_when_done(arg);
}

static void on_deadline(void *arg) {
    loop_stop(((struct world *)arg)->loop);
}

static const struct link_handlers *handlers_of(struct world *w) {
    static struct link_handlers h;
    h = (struct link_handlers){.on_message = on_message, .on_frame = on_frame,
                               .wants_frames = wants_frames, .on_push_ready = on_push_ready, .arg = w};
    return &h;
}

static void set_up(struct world *w) {
    *w = (struct world){.wants_frames = true};
    log_setup("link_test", LOG_ERROR);
    strcpy(w->dir, "/tmp/headrace-link-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->router, sizeof(w->router), "ipc://%s/router", w->dir);
    snprintf(w->in, sizeof(w->in), "ipc://%s/in", w->dir);
    snprintf(w->out, sizeof(w->out), "ipc://%s/out", w->dir);
    w->loop = loop_new();
    static char *items[1];
    items[0] = w->router;
    static struct link_config config;
    config = (struct link_config){.bind = {.items = items, .n = 1}, .bind_in = w->in, .bind_out = w->out};
    struct error why = {0};
    w->link = link_new(w->loop, &config, handlers_of(w), &w->status, &why);
    if (w->link == NULL) {
        fail_msg("%s", why.text);
    }
    loop_at_turn_end(w->loop, on_turn_end, w);
    loop_timer_start(loop_add_timer(w->loop, on_deadline, w), 5000, 0);
    w->context = zmq_ctx_new();
}

static void connect_peer(struct world *w, int type, const char *address) {
    w->peer = zmq_socket(w->context, type);
    int linger = 0, timeout = 5000;
    zmq_setsockopt(w->peer, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(w->peer, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
    assert_int_equal(zmq_connect(w->peer, address), 0);
}

static void tear_down(struct world *w) {
    if (w->peer != NULL) {
        zmq_close(w->peer);
    }
    zmq_ctx_term(w->context);
    link_free(w->link);
    loop_free(w->loop);
    const char *const paths[] = {w->router, w->in, w->out};
    for (int i = 0; i < 3; i++) {
        unlink(paths[i] + strlen("ipc://"));
    }
    rmdir(w->dir);
}

static struct message answer_of(struct world *w, char *frame, size_t size) {
    int n = zmq_recv(w->peer, frame, size, 0);
    assert_true(n > 0);
    struct message message;
    struct error why = {0};
    assert_int_equal(message_unpack((struct slice){frame, (size_t)n}, &message, &why), 0);
    return message;
}

static void test_message_and_answer(void **state) {
    struct world w;
    set_up(&w);
    connect_peer(&w, ZMQ_DEALER, w.router);
    struct message ping = {.kind = MESSAGE_PING, .ping = {.time = 5}};
    struct buf frame;
    buf_init(&frame, 4096);
    assert_int_equal(message_pack(&ping, &frame), 0);
    zmq_send(w.peer, frame.p, frame.n, 0);
    buf_free(&frame);
    w.n_want = 1;
    loop_run(w.loop);
    assert_int_equal(w.last_kind, MESSAGE_PING);
    char answer[4096];
    assert_int_equal(answer_of(&w, answer, sizeof(answer)).kind, MESSAGE_PONG);
    tear_down(&w);
}

static void test_what_is_no_message_is_refused_and_counted(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
        const char *code;
    } cases[] = {
        {"", 0, "bad-frame"},
        {"hello", 5, "bad-frame"},
        {"HR\x02\x02\x80", 5, "bad-version"},
        {"HR\x01\x7F\x80", 5, "bad-frame"},
        {"HR\x01\x10\x80", 5, "bad-frame"},                 // HELLO without its fields
        {"HR\x01\x02\xDF\xFF\xFF\xFF\xFF", 9, "bad-frame"}, // a map of 4 G entries
    };
    struct world w;
    set_up(&w);
    connect_peer(&w, ZMQ_DEALER, w.router);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        zmq_send(w.peer, cases[i].bytes, cases[i].n, 0);
        w.n_want = i + 1;
        loop_run(w.loop);
        assert_int_equal(w.status.frames_bad, i + 1);
        char frame[4096];
        struct message refused = answer_of(&w, frame, sizeof(frame));
        assert_int_equal(refused.kind, MESSAGE_REFUSED);
        assert_true(slice_is(refused.refused.code, cases[i].code));
    }
    zmq_send(w.peer, "a", 1, ZMQ_SNDMORE);
    zmq_send(w.peer, "b", 1, 0);
    w.n_want++;
    loop_run(w.loop);
    assert_int_equal(w.n_messages, 0);
    tear_down(&w);
}

static void wants_again(void *arg) {
    struct world *w = arg;
    assert_int_equal(w->n_frames, 0);
    w->wants_frames = true;
    link_frames_wanted(w->link, true);
}

static void test_pull_waits_while_there_is_no_room(void **state) {
    struct world w;
    set_up(&w);
    w.wants_frames = false;
    connect_peer(&w, ZMQ_PUSH, w.in);
    zmq_send(w.peer, "{}", 2, 0);
    w.n_want = 1;
    loop_timer_start(loop_add_timer(w.loop, wants_again, &w), 50, 0);
    loop_run(w.loop);
    assert_int_equal(w.n_frames, 1);
    tear_down(&w);
}

static void test_nobody_there(void **state) {
    struct world w;
    set_up(&w);
    struct message ping = {.kind = MESSAGE_PING};
    assert_int_equal(link_send(w.link, SLICE_LIT("nobody"), &ping), -EHOSTUNREACH);
    assert_int_equal(link_push(w.link, SLICE_LIT("{}")), -EAGAIN);
    tear_down(&w);
}

static void test_addresses_that_cannot_be_bound(void **state) {
    struct world w;
    set_up(&w);
    char *bad[] = {"tcp:127.0.0.1"};
    struct link_config config = {.bind = {.items = bad, .n = 1}, .bind_in = "", .bind_out = ""};
    struct error why = {0};
    assert_null(link_new(w.loop, &config, handlers_of(&w), &w.status, &why));
    assert_non_null(strstr(why.text, "--bind: cannot bind 'tcp:127.0.0.1'"));

    void *taken = zmq_socket(w.context, ZMQ_ROUTER);
    assert_int_equal(zmq_bind(taken, "tcp://127.0.0.1:*"), 0);
    char address[128];
    size_t size = sizeof(address);
    zmq_getsockopt(taken, ZMQ_LAST_ENDPOINT, address, &size);
    char *used[] = {address};
    config.bind.items = used;
    assert_null(link_new(w.loop, &config, handlers_of(&w), &w.status, &why));
    assert_non_null(strstr(why.text, "in use by another process"));
    zmq_close(taken);
    tear_down(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_and_answer),
        cmocka_unit_test(test_what_is_no_message_is_refused_and_counted),
        cmocka_unit_test(test_pull_waits_while_there_is_no_room),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_addresses_that_cannot_be_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
