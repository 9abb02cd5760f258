// libuv, with ZeroMQ sockets as sources. Invariant: before the loop sleeps, the events of every socket
// that was used since have been read again, because ZMQ_FD is edge-triggered and any send or receive
// may have eaten the edge. Others are left alone: reading the events costs two system calls.
// Called by every program's main and by the modules that own sockets and timers.
//
// One turn:  timers → descriptors → on_turn (prepare): sockets that are ready, the turn-end callbacks,
//            what was put off; if a socket is still ready an idle handle keeps the loop from sleeping.
#include "common/loop.h"
#include "common/clock.h"
#include "common/hook.h"
#include "common/log.h"
#include "common/mem.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <utlist.h>
#include <zmq.h>

#define TURN_ENDS_MAX 8
#define SLOW_TURN_US 100000 // a turn this long is logged

struct loop_socket {
    struct loop *loop;
    void *zmq;
    uv_poll_t poll;
    loop_callback *on_readable, *on_writable;
    void *arg;
    bool used; // its events have to be read
    bool want_write, paused, removed;
    struct loop_socket *next;
};

struct loop_timer {
    uv_timer_t uv;
    loop_callback *on_time;
    void *arg;
    struct loop_timer *next;
};

struct loop_signal {
    uv_signal_t uv;
    loop_callback *on_signal;
    void *arg;
    struct loop_signal *next;
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare; // runs right before the loop sleeps
    uv_check_t check;     // runs right after it woke
    uv_idle_t idle;       // active: do not sleep
    struct loop_socket *sockets;
    struct loop_timer *timers;
    struct loop_signal *signals;
    struct {
        loop_callback *on_end;
        void *arg;
    } ends[TURN_ENDS_MAX];
    size_t n_ends;
    struct loop_later *later;
    bool stopping;
    int64_t woke_us; // when the present turn began
};

static void on_idle(uv_idle_t *idle) {
    uv_idle_stop(idle);
}

// events_of reads what the socket is ready for: ZMQ_POLLIN if that is wanted, ZMQ_POLLOUT likewise.
static int events_of(struct loop_socket *s) {
    int events = 0, wanted = s->want_write ? ZMQ_POLLOUT : 0, rc;
    if (s->on_readable != NULL && !s->paused) {
        wanted |= ZMQ_POLLIN;
    }
    size_t size = sizeof(events);
    s->used = false;
    do {
        rc = zmq_getsockopt(s->zmq, ZMQ_EVENTS, &events, &size);
    } while (rc != 0 && zmq_errno() == EINTR);
    return rc == 0 ? events & wanted : 0;
}

static void serve_socket(struct loop_socket *s) {
    // A plain reader finds out by reading whether there is something, which is cheaper.
    bool just_read = !s->paused && !s->want_write && s->on_readable != NULL;
    int events = just_read ? ZMQ_POLLIN : events_of(s);
    if ((events & ZMQ_POLLIN) != 0) {
        s->used = true;
        s->on_readable(s->arg);
    }
    if ((events & ZMQ_POLLOUT) != 0 && !s->removed) {
        s->used = true;
        s->want_write = false;
        s->on_writable(s->arg);
    }
}

// do_later leaves what is put off meanwhile to the next turn: else it could keep the loop from all else.
static void do_later(struct loop *loop) {
    struct loop_later *later;
    size_t n;
    DL_COUNT(loop->later, later, n);
    for (; n > 0 && loop->later != NULL; n--) {
        later = loop->later;
        loop_cancel(loop, later);
        later->on_end(later->arg);
    }
    if (loop->later != NULL) {
        loop_wake(loop);
    }
}

static void on_turn(uv_prepare_t *prepare) {
    struct loop *loop = prepare->data;
    struct loop_socket *s, *next;
    LL_FOREACH_SAFE(loop->sockets, s, next) {
        if (s->used && !s->removed) {
            serve_socket(s);
        }
    }
    for (size_t i = 0; i < loop->n_ends; i++) {
        loop->ends[i].on_end(loop->ends[i].arg);
    }
    do_later(loop);
    LL_FOREACH(loop->sockets, s) {
        if (s->used && !s->removed && events_of(s) != 0) {
            s->used = true;
            loop_wake(loop);
        }
    }
    int64_t took_us = clock_us() - loop->woke_us;
    if (took_us > SLOW_TURN_US) {
        log_debug("loop.slow", "took_ms=%lld", (long long)(took_us / 1000));
    }
}

static void on_wake(uv_check_t *check) {
    struct loop *loop = check->data;
    loop->woke_us = clock_us();
}

// raise_descriptors lets the process open as many as it may: a connection a worker or a call.
static void raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); // fewer are enough for most
    }
}

struct loop *loop_new(void) {
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    struct loop *loop = mem_zalloc(sizeof(*loop));
    int rc = uv_loop_init(&loop->uv);
    assert(rc == 0);
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_check_init(&loop->uv, &loop->check);
    uv_idle_init(&loop->uv, &loop->idle);
    loop->prepare.data = loop->check.data = loop;
    uv_prepare_start(&loop->prepare, on_turn);
    uv_check_start(&loop->check, on_wake);
    // Neither keeps a loop alive that has nothing else to wait for.
    uv_unref((uv_handle_t *)&loop->prepare);
    uv_unref((uv_handle_t *)&loop->check);
    loop->woke_us = clock_us();
    return loop;
}

static void close_handle(uv_handle_t *handle, void *arg) {
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

void loop_free(struct loop *loop) {
    if (loop == NULL) {
        return;
    }
    uv_walk(&loop->uv, close_handle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    struct loop_socket *s, *s_next;
    LL_FOREACH_SAFE(loop->sockets, s, s_next) {
        free(s);
    }
    struct loop_timer *t, *t_next;
    LL_FOREACH_SAFE(loop->timers, t, t_next) {
        free(t);
    }
    struct loop_signal *g, *g_next;
    LL_FOREACH_SAFE(loop->signals, g, g_next) {
        free(g);
    }
    free(loop);
}

void loop_run(struct loop *loop) {
    hook_hang();
    loop->stopping = false;
    loop->woke_us = clock_us();
    // uv_stop before uv_run would be forgotten, so the flag is ours.
    while (!loop->stopping && uv_run(&loop->uv, UV_RUN_ONCE) != 0) {
    }
}

void loop_stop(struct loop *loop) {
    loop->stopping = true;
    loop_wake(loop);
}

uv_loop_t *loop_uv(struct loop *loop) {
    return &loop->uv;
}

static void on_zmq_fd(uv_poll_t *poll, int status, int events) {
    struct loop_socket *s = poll->data;
    s->used = true; // on_turn looks at it
}

struct loop_socket *loop_add_socket(struct loop *loop, void *zmq_socket, loop_callback *on_readable,
                                    loop_callback *on_writable, void *arg) {
    struct loop_socket *s = mem_zalloc(sizeof(*s));
    s->loop = loop;
    s->zmq = zmq_socket;
    s->on_readable = on_readable;
    s->on_writable = on_writable;
    s->arg = arg;
    int fd = -1;
    size_t size = sizeof(fd);
    int rc = zmq_getsockopt(zmq_socket, ZMQ_FD, &fd, &size);
    assert(rc == 0);
    rc = uv_poll_init(&loop->uv, &s->poll, fd);
    assert(rc == 0);
    s->poll.data = s;
    uv_poll_start(&s->poll, UV_READABLE, on_zmq_fd);
    LL_PREPEND(loop->sockets, s);
    loop_used(s); // it may be ready already
    return s;
}

void loop_used(struct loop_socket *socket) {
    socket->used = true; // every callback is followed by on_turn before the loop sleeps
}

void loop_want_write(struct loop_socket *socket) {
    assert(socket->on_writable != NULL);
    socket->want_write = true;
    loop_used(socket);
}

void loop_pause_read(struct loop_socket *socket, bool paused) {
    if (socket->paused && !paused) {
        loop_used(socket);
    }
    socket->paused = paused;
}

static void on_socket_closed(uv_handle_t *handle) {
    struct loop_socket *s = handle->data;
    LL_DELETE(s->loop->sockets, s);
    free(s);
}

void loop_remove_socket(struct loop_socket *socket) {
    socket->removed = true;
    uv_close((uv_handle_t *)&socket->poll, on_socket_closed);
}

struct loop_timer *loop_add_timer(struct loop *loop, loop_callback *on_time, void *arg) {
    struct loop_timer *t = mem_zalloc(sizeof(*t));
    t->on_time = on_time;
    t->arg = arg;
    uv_timer_init(&loop->uv, &t->uv);
    t->uv.data = t;
    LL_PREPEND(loop->timers, t);
    return t;
}

static void on_uv_timer(uv_timer_t *uv) {
    struct loop_timer *t = uv->data;
    t->on_time(t->arg);
}

void loop_timer_start(struct loop_timer *timer, int64_t after_ms, int64_t repeat_ms) {
    uv_update_time(timer->uv.loop); // a long callback must not shorten the wait
    uv_timer_start(&timer->uv, on_uv_timer, (uint64_t)(after_ms > 0 ? after_ms : 0),
                   (uint64_t)repeat_ms);
}

void loop_timer_stop(struct loop_timer *timer) {
    uv_timer_stop(&timer->uv);
}

static void on_uv_signal(uv_signal_t *uv, int signum) {
    struct loop_signal *g = uv->data;
    g->on_signal(g->arg);
}

void loop_on_signal(struct loop *loop, int signum, loop_callback *on_signal, void *arg) {
    struct loop_signal *g = mem_zalloc(sizeof(*g));
    g->on_signal = on_signal;
    g->arg = arg;
    uv_signal_init(&loop->uv, &g->uv);
    g->uv.data = g;
    uv_signal_start(&g->uv, on_uv_signal, signum);
    uv_unref((uv_handle_t *)&g->uv);
    LL_PREPEND(loop->signals, g);
}

void loop_at_turn_end(struct loop *loop, loop_callback *on_end, void *arg) {
    assert(loop->n_ends < TURN_ENDS_MAX);
    loop->ends[loop->n_ends].on_end = on_end;
    loop->ends[loop->n_ends].arg = arg;
    loop->n_ends++;
}

void loop_later(struct loop *loop, struct loop_later *later) {
    if (!later->pending) {
        later->pending = true;
        DL_APPEND(loop->later, later);
    }
}

void loop_cancel(struct loop *loop, struct loop_later *later) {
    if (later->pending) {
        later->pending = false;
        DL_DELETE(loop->later, later);
    }
}

void loop_wake(struct loop *loop) {
    uv_idle_start(&loop->idle, on_idle);
}
