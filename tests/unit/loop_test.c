// The loop: sockets are served until they are empty, timers run, back-pressure pauses reading.
#include "common/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <zmq.h>

struct world {
    struct loop *loop;
    void *context, *in, *out;
    struct loop_socket *watch_in, *watch_out;
    int n_read, n_want, n_turns, n_written;
};

static void set_up(struct world *w, loop_callback *on_readable, loop_callback *on_writable) {
    *w = (struct world){0};
    w->loop = loop_new();
    w->context = zmq_ctx_new();
    w->in = zmq_socket(w->context, ZMQ_PULL);
    w->out = zmq_socket(w->context, ZMQ_PUSH);
    int hwm = 10;
    zmq_setsockopt(w->in, ZMQ_RCVHWM, &hwm, sizeof(hwm));
    zmq_setsockopt(w->out, ZMQ_SNDHWM, &hwm, sizeof(hwm));
    assert_int_equal(zmq_bind(w->in, "inproc://loop-test"), 0);
    assert_int_equal(zmq_connect(w->out, "inproc://loop-test"), 0);
    w->watch_in = loop_add_socket(w->loop, w->in, on_readable, NULL, w);
    if (on_writable != NULL) {
        w->watch_out = loop_add_socket(w->loop, w->out, NULL, on_writable, w);
    }
}

static void tear_down(struct world *w) {
    loop_remove_socket(w->watch_in);
    if (w->watch_out != NULL) {
        loop_remove_socket(w->watch_out);
    }
    loop_free(w->loop);
    zmq_close(w->in);
    zmq_close(w->out);
    zmq_ctx_term(w->context);
}

static void on_deadline(void *arg) {
    struct world *w = arg;
    loop_stop(w->loop);
}

static void read_one(void *arg) {
    struct world *w = arg;
    char c;
    if (zmq_recv(w->in, &c, 1, ZMQ_DONTWAIT) == 1 && ++w->n_read == w->n_want) {
        loop_stop(w->loop);
    }
}

static void test_reads_all_though_one_a_turn(void **state) {
    struct world w;
    set_up(&w, read_one, NULL);
    w.n_want = 7;
    for (int i = 0; i < w.n_want; i++) {
        assert_int_equal(zmq_send(w.out, "x", 1, ZMQ_DONTWAIT), 1);
    }
    loop_timer_start(loop_add_timer(w.loop, on_deadline, &w), 5000, 0);
    loop_run(w.loop);
    assert_int_equal(w.n_read, 7);
    tear_down(&w);
}

static void resume(void *arg) {
    struct world *w = arg;
    assert_int_equal(w->n_read, 0);
    loop_pause_read(w->watch_in, false);
}

static void test_paused_socket_waits(void **state) {
    struct world w;
    set_up(&w, read_one, NULL);
    w.n_want = 1;
    loop_pause_read(w.watch_in, true);
    assert_int_equal(zmq_send(w.out, "x", 1, ZMQ_DONTWAIT), 1);
    loop_timer_start(loop_add_timer(w.loop, resume, &w), 30, 0);
    loop_timer_start(loop_add_timer(w.loop, on_deadline, &w), 5000, 0);
    loop_run(w.loop);
    assert_int_equal(w.n_read, 1);
    tear_down(&w);
}

static void write_until_full(void *arg) {
    struct world *w = arg;
    while (w->n_written < w->n_want) {
        if (zmq_send(w->out, "x", 1, ZMQ_DONTWAIT) < 0) {
            loop_want_write(w->watch_out);
            return;
        }
        w->n_written++;
    }
}

static void test_writer_goes_on_when_there_is_room(void **state) {
    struct world w;
    set_up(&w, read_one, write_until_full);
    w.n_want = 200; // far above both high-water marks
    write_until_full(&w);
    assert_true(w.n_written < 200);
    loop_timer_start(loop_add_timer(w.loop, on_deadline, &w), 5000, 0);
    loop_run(w.loop);
    assert_int_equal(w.n_written, 200);
    assert_int_equal(w.n_read, 200);
    tear_down(&w);
}

static void count_turn(void *arg) {
    struct world *w = arg;
    if (++w->n_turns == 3) {
        loop_stop(w->loop);
    } else {
        loop_wake(w->loop);
    }
}

static void test_turn_end_and_wake(void **state) {
    struct world w;
    set_up(&w, read_one, NULL);
    loop_at_turn_end(w.loop, count_turn, &w);
    loop_timer_start(loop_add_timer(w.loop, on_deadline, &w), 5000, 0);
    loop_wake(w.loop);
    loop_run(w.loop);
    assert_int_equal(w.n_turns, 3);
    tear_down(&w);
}

// eat_edge takes the sign of a message off the socket's descriptor, as a send at the wrong moment does.
static void eat_edge(void *arg) {
    struct world *w = arg;
    int events = 0;
    size_t size = sizeof(events);
    while ((events & ZMQ_POLLIN) == 0) {
        assert_int_equal(zmq_getsockopt(w->in, ZMQ_EVENTS, &events, &size), 0);
    }
    loop_used(w->watch_in);
}

static void send_and_eat_edge(void *arg) {
    struct world *w = arg;
    assert_int_equal(zmq_send(w->out, "x", 1, ZMQ_DONTWAIT), 1);
    eat_edge(w);
}

static void test_used_socket_is_read_without_its_edge(void **state) {
    struct world w;
    set_up(&w, read_one, NULL);
    w.n_want = 3;
    loop_timer_start(loop_add_timer(w.loop, send_and_eat_edge, &w), 1, 1);
    loop_timer_start(loop_add_timer(w.loop, on_deadline, &w), 5000, 0);
    loop_run(w.loop);
    assert_int_equal(w.n_read, 3);
    tear_down(&w);
}

struct put_off {
    struct world w;
    struct loop_later first, second, never;
    int n_first, n_second, turns_at_second;
};

static void count_only(void *arg) {
    ((struct put_off *)arg)->w.n_turns++;
}

static void on_first(void *arg) {
    struct put_off *p = arg;
    p->n_first++;
    loop_later(p->w.loop, &p->second);
}

// on_second asks for itself in turn, which must not keep the loop from all else, nor let it sleep.
static void on_second(void *arg) {
    struct put_off *p = arg;
    if (++p->n_second == 3) {
        p->turns_at_second = p->w.n_turns;
        loop_stop(p->w.loop);
    } else if (p->n_second < 100) {
        loop_later(p->w.loop, &p->second);
    }
}

static void fail_if_called(void *arg) {
    fail();
}

static void test_put_off_runs_once_at_the_end_of_the_turn(void **state) {
    struct put_off p = {.first = {.on_end = on_first, .arg = &p}, .second = {.on_end = on_second, .arg = &p},
                        .never = {.on_end = fail_if_called}};
    set_up(&p.w, read_one, NULL);
    loop_at_turn_end(p.w.loop, count_only, &p);
    loop_timer_start(loop_add_timer(p.w.loop, on_deadline, &p.w), 5000, 0);
    loop_later(p.w.loop, &p.never);
    loop_later(p.w.loop, &p.first);
    loop_later(p.w.loop, &p.first);
    loop_cancel(p.w.loop, &p.never);
    loop_cancel(p.w.loop, &p.never);
    loop_run(p.w.loop);
    assert_int_equal(p.n_first, 1);
    assert_int_equal(p.n_second, 3);
    assert_int_equal(p.turns_at_second, 4); // what asks meanwhile has the next turn
    tear_down(&p.w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all_though_one_a_turn),
        cmocka_unit_test(test_paused_socket_waits),
        cmocka_unit_test(test_writer_goes_on_when_there_is_room),
        cmocka_unit_test(test_turn_end_and_wake),
        cmocka_unit_test(test_used_socket_is_read_without_its_edge),
        cmocka_unit_test(test_put_off_runs_once_at_the_end_of_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
