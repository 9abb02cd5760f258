// loop: libuv, with ZeroMQ sockets as sources. All of our code runs in one thread, in callbacks of
// this loop; loop_run holds the only blocking call.
#ifndef HEADRACE_COMMON_LOOP_H
#define HEADRACE_COMMON_LOOP_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct loop;
struct loop_socket;
struct loop_timer;

typedef void loop_callback(void *arg);

// loop_new makes an empty loop; it also ignores SIGPIPE (hiredis and curl write to closed sockets), and
// raises the process's limit of open files as far as it may.
struct loop *loop_new(void);
// loop_free closes what is still open and frees all, its timers and sockets' watchers included
// (not the ZeroMQ sockets themselves).
void loop_free(struct loop *loop);
// loop_run returns after loop_stop, or when nothing is left to wait for.
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
// loop_uv is for sources that loop does not know: curl's descriptors, Redis, child processes.
uv_loop_t *loop_uv(struct loop *loop);

// loop_add_socket watches a ZeroMQ socket. on_readable (NULL for one that only sends) is called when a
// message may wait; it reads without waiting, at most 64 messages a call, and is called again in the
// next turn if more wait.
// on_writable (may be NULL) is called once after loop_want_write, when a send would be taken.
struct loop_socket *loop_add_socket(struct loop *loop, void *zmq_socket, loop_callback *on_readable,
                                    loop_callback *on_writable, void *arg);
void loop_want_write(struct loop_socket *socket);
// loop_used must be called after a send or a receive outside of the socket's own callbacks: it may have
// eaten the sign that the socket has become ready.
void loop_used(struct loop_socket *socket);
// loop_pause_read stops on_readable (back-pressure: the peer's sends fill up) until told otherwise.
void loop_pause_read(struct loop_socket *socket, bool paused);
// loop_remove_socket stops the watching; call before zmq_close.
void loop_remove_socket(struct loop_socket *socket);

// loop_add_timer makes a stopped timer. The callback may start or stop any timer.
struct loop_timer *loop_add_timer(struct loop *loop, loop_callback *on_time, void *arg);
// loop_timer_start (re)starts: first after_ms from now, then every repeat_ms (0: once).
void loop_timer_start(struct loop_timer *timer, int64_t after_ms, int64_t repeat_ms);
void loop_timer_stop(struct loop_timer *timer);

// loop_on_signal calls back on a signal, e.g. SIGTERM. One callback a signal number.
void loop_on_signal(struct loop *loop, int signal, loop_callback *on_signal, void *arg);

// loop_at_turn_end calls back at the end of every turn, before the loop sleeps: the place to flush
// what the turn gathered. At most 8 of them; called in the order added.
void loop_at_turn_end(struct loop *loop, loop_callback *on_end, void *arg);

// Something put off to the end of the turn: once, after the turn-end callbacks, however often it was
// asked for in the turn; to the end of the next when something put off asks. Owned by the caller, who
// sets on_end and arg, and cancels before freeing.
struct loop_later {
    loop_callback *on_end;
    void *arg;
    bool pending;
    struct loop_later *prev, *next;
};
void loop_later(struct loop *loop, struct loop_later *later);
void loop_cancel(struct loop *loop, struct loop_later *later);

// loop_wake makes sure that one more turn runs without waiting.
void loop_wake(struct loop *loop);

#endif
