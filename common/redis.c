// Redis on the loop. Invariant: every command gets its callback exactly once, in the order sent: with
// a reply, or with NULL when the connection went; and while scripts are being repaired nothing
// overtakes what failed. Called by the coordinator's store and catalog.
//
// `sent` holds what Redis has not answered, in order; hiredis' own queue runs beside it. `held` holds
// what waits for the scripts to be loaded again:
//
//   READY, NOSCRIPT answered: on_noscript ─▶ repairing: failed ones and new ones go to held
//   repairing, sent is empty: repair_if_drained ─▶ SCRIPT LOAD of all, then held in its order
#include "common/redis.h"
#include "common/clock.h"
#include "common/hook.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/redis_address.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <utlist.h>
#include <uv.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define HANDSHAKE_MS 5000 // connect, log in and load the scripts
#define REPLY_MS 10000    // no byte for this long while commands wait: the connection is dead
#define WATCH_MS 500      // how often the two above are looked at
#define SHA_CHARS 40
#define REPEATS_MAX 10 // of a script that Redis keeps forgetting

enum redis_state { REDIS_WAITING, REDIS_CONNECTING, REDIS_READY };

// One connection. Outlives its redis by a turn when it is being closed.
struct conn {
    struct redis *redis; // NULL: given up, answers are of no interest
    struct loop *loop;
    redisAsyncContext *ac;
    uv_poll_t poll;
    int events; // that poll is watching now
    struct loop_later flush;
    bool flushing;
};

enum request_kind { REQUEST_USER, REQUEST_HANDSHAKE, REQUEST_LOAD };

struct request {
    enum request_kind kind;
    redis_reply_fn *on_reply; // may be NULL
    void *arg;
    size_t script; // index: of REQUEST_LOAD and of a REQUEST_USER that is a script
    bool is_script;
    int n_repeats; // after NOSCRIPT
    char *command; // RESP text; kept while it may have to be sent again, else NULL
    size_t n_command;
    struct request *prev, *next;
};

struct redis {
    struct loop *loop;
    struct redis_address address;
    const struct redis_script *scripts;
    size_t n_scripts;
    char (*shas)[SHA_CHARS + 1];
    struct redis_handlers handlers;
    enum redis_state state;
    struct conn *conn;             // NULL while waiting
    struct request *sent, *held;   // utlist DL
    size_t n_sent;
    bool repairing;
    size_t n_handshake;            // answers still to come before READY, or before repair ends
    int64_t backoff_ms;
    int64_t began_us, heard_us;    // start of the connection; last bytes or first of waiting
    char reason[160], logged[160]; // why the connection failed; what was logged of it last
    struct loop_timer *retry, *watch;
    uint64_t random;               // state of the jitter
    const char **argv;             // scratch of format
    size_t *argvlen;
    size_t cap_args;
};

static void request_free(struct request *r) {
    if (r->command != NULL) {
        redisFreeCommand(r->command);
    }
    free(r);
}

// answer calls back and frees the request, which is on no list any more.
static void answer(struct request *r, const redisReply *reply) {
    redis_reply_fn *on_reply = r->on_reply;
    void *arg = r->arg;
    request_free(r);
    if (on_reply != NULL) {
        on_reply(arg, reply);
    }
}

// ---- The end of a connection -------------------------------------------------------------------

// jitter returns ms shortened by up to a half, so that many clients do not come back at once.
static int64_t jitter(struct redis *redis, int64_t ms) {
    redis->random ^= redis->random << 13; // xorshift64: spread, no secrecy
    redis->random ^= redis->random >> 7;
    redis->random ^= redis->random << 17;
    return ms - (int64_t)(redis->random % (uint64_t)(ms / 2 + 1));
}

static void answer_all_null(struct redis *redis) {
    struct request *lists[2] = {redis->sent, redis->held};
    redis->sent = redis->held = NULL;
    redis->n_sent = 0;
    for (int i = 0; i < 2; i++) {
        struct request *r, *next;
        DL_FOREACH_SAFE(lists[i], r, next) {
            answer(r, NULL);
        }
    }
}

// on_gone deals with a connection that is no longer ours: answers, tells, plans the next try.
static void on_gone(struct redis *redis) {
    bool was_ready = redis->state == REDIS_READY;
    redis->state = REDIS_WAITING;
    redis->conn = NULL;
    redis->repairing = false;
    redis->n_handshake = 0;
    loop_timer_stop(redis->watch);
    if (strcmp(redis->logged, redis->reason) != 0) {
        log_warn(was_ready ? "redis.lost" : "redis.connect_failed", "reason=\"%s\"", redis->reason);
        snprintf(redis->logged, sizeof(redis->logged), "%s", redis->reason);
    }
    loop_timer_start(redis->retry, jitter(redis, redis->backoff_ms), 0);
    redis->backoff_ms = redis->backoff_ms * 2 < BACKOFF_MAX_MS ? redis->backoff_ms * 2
                                                                : BACKOFF_MAX_MS;
    answer_all_null(redis);
    if (was_ready && redis->handlers.on_lost != NULL) {
        redis->handlers.on_lost(redis->handlers.arg, redis->reason);
    }
}

// drop gives the connection up. hiredis frees it now, or when its running callback returns.
static void drop(struct redis *redis, const char *reason) {
    struct conn *conn = redis->conn;
    if (reason != redis->reason) {
        snprintf(redis->reason, sizeof(redis->reason), "%s", reason);
    }
    conn->redis = NULL;
    redisAsyncFree(conn->ac);
    on_gone(redis);
}

static void on_poll_closed(uv_handle_t *handle) {
    free(handle->data);
}

// on_cleanup is hiredis letting go of a connection, by error or by our drop.
static void on_cleanup(void *arg) {
    struct conn *conn = arg;
    struct redis *redis = conn->redis;
    if (redis != NULL) {
        const char *text = conn->ac->errstr;
        snprintf(redis->reason, sizeof(redis->reason), "%s",
                 text != NULL && *text != '\0' ? text : "connection closed");
    }
    conn->redis = NULL;
    loop_cancel(conn->loop, &conn->flush);
    uv_close((uv_handle_t *)&conn->poll, on_poll_closed);
    if (redis != NULL) {
        on_gone(redis);
    }
}

static void on_watch(void *arg) {
    struct redis *redis = arg;
    int64_t now = clock_us();
    if (redis->state == REDIS_CONNECTING && now - redis->began_us > HANDSHAKE_MS * 1000) {
        drop(redis, "no connection in 5 s");
    } else if (redis->n_sent > 0 && now - redis->heard_us > REPLY_MS * 1000) {
        drop(redis, "no reply for 10 s");
    }
}

// ---- The adapter: hiredis' wishes on a uv_poll -------------------------------------------------

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct conn *conn = poll->data;
    redisAsyncContext *ac = conn->ac;
    if (status < 0) {
        // Refused or reset: libuv stopped the watching. Reading makes hiredis see the error itself.
        conn->events = 0;
        redisAsyncHandleRead(ac);
        return;
    }
    if ((events & UV_READABLE) != 0) {
        if (conn->redis != NULL) {
            conn->redis->heard_us = clock_us();
        }
        redisAsyncHandleRead(ac);
    }
    // The read may have ended the connection; the handle lives until its close callback.
    if ((events & UV_WRITABLE) != 0 && !uv_is_closing((uv_handle_t *)poll)) {
        redisAsyncHandleWrite(ac);
    }
}

static void watch_events(struct conn *conn, int events) {
    if (events == conn->events) {
        return;
    }
    conn->events = events;
    if (events == 0) {
        uv_poll_stop(&conn->poll);
    } else {
        uv_poll_start(&conn->poll, events, on_poll);
    }
}

static void add_read(void *arg) {
    struct conn *conn = arg;
    watch_events(conn, conn->events | UV_READABLE);
}

static void del_read(void *arg) {
    struct conn *conn = arg;
    watch_events(conn, conn->events & ~UV_READABLE);
}

// flush writes what the turn has gathered, without first asking whether the socket takes it.
static void flush(void *arg) {
    struct conn *conn = arg;
    conn->flushing = true;
    redisAsyncHandleWrite(conn->ac); // may end the connection: the handle lives until its close callback
    conn->flushing = false;
}

static void add_write(void *arg) {
    struct conn *conn = arg;
    bool connected = (conn->ac->c.flags & REDIS_CONNECTED) != 0;
    if (connected && !conn->flushing && (conn->events & UV_WRITABLE) == 0) {
        loop_later(conn->loop, &conn->flush);
    } else {
        watch_events(conn, conn->events | UV_WRITABLE); // to connect, or the socket is full
    }
}

static void del_write(void *arg) {
    struct conn *conn = arg;
    watch_events(conn, conn->events & ~UV_WRITABLE);
}

// ---- Sending -----------------------------------------------------------------------------------

// format makes the RESP text of a command.
static void format(struct redis *redis, struct request *r, size_t n_args, const struct slice *args) {
    if (n_args > redis->cap_args) {
        redis->cap_args = n_args * 2;
        redis->argv = mem_realloc(redis->argv, redis->cap_args * sizeof(*redis->argv));
        redis->argvlen = mem_realloc(redis->argvlen, redis->cap_args * sizeof(*redis->argvlen));
    }
    for (size_t i = 0; i < n_args; i++) {
        redis->argv[i] = args[i].n > 0 ? args[i].p : "";
        redis->argvlen[i] = args[i].n;
    }
    int n = redisFormatCommandArgv(&r->command, (int)n_args, redis->argv, redis->argvlen);
    assert(n > 0); // it fails only without memory
    r->n_command = (size_t)n;
}

static void on_hiredis_reply(redisAsyncContext *ac, void *reply, void *privdata);

static void send_request(struct redis *redis, struct request *r) {
    if (redis->n_sent == 0) {
        redis->heard_us = clock_us(); // the wait begins now
    }
    DL_APPEND(redis->sent, r);
    redis->n_sent++;
    redisAsyncFormattedCommand(redis->conn->ac, on_hiredis_reply, redis->conn, r->command,
                               r->n_command);
    if (!r->is_script) {
        redisFreeCommand(r->command);
        r->command = NULL;
    }
}

// send_own sends a command of ours.
static void send_own(struct redis *redis, enum request_kind kind, size_t script, size_t n_args,
                     const struct slice *args) {
    struct request *r = mem_zalloc(sizeof(*r));
    r->kind = kind;
    r->script = script;
    format(redis, r, n_args, args);
    redis->n_handshake++;
    send_request(redis, r);
}

static void load_scripts(struct redis *redis) {
    for (size_t i = 0; i < redis->n_scripts; i++) {
        const struct slice args[] = {SLICE_LIT("SCRIPT"), SLICE_LIT("LOAD"),
                                     slice_of(redis->scripts[i].text)};
        send_own(redis, REQUEST_LOAD, i, 3, args);
    }
}

// ---- Replies -----------------------------------------------------------------------------------

static void send_held(struct redis *redis) {
    struct request *list = redis->held, *r, *next;
    redis->held = NULL;
    redis->repairing = false;
    DL_FOREACH_SAFE(list, r, next) {
        send_request(redis, r);
    }
}

// repair_if_drained loads the scripts again once nothing is on its way.
static void repair_if_drained(struct redis *redis) {
    if (redis->repairing && redis->n_sent == 0 && redis->n_handshake == 0) {
        load_scripts(redis);
    }
}

// on_handshake counts an answer to a command of ours; the last one makes the connection READY.
static void on_handshake(struct redis *redis, struct request *r, const redisReply *reply) {
    enum request_kind kind = r->kind;
    size_t script = r->script;
    request_free(r);
    if (reply->type == REDIS_REPLY_ERROR) {
        // LOADING, BUSY, NOAUTH, WRONGPASS: the same cure for all, a later try.
        drop(redis, reply->str);
        return;
    }
    if (kind == REQUEST_LOAD && reply->type == REDIS_REPLY_STRING && reply->len == SHA_CHARS) {
        memcpy(redis->shas[script], reply->str, SHA_CHARS + 1);
    }
    redis->n_handshake--;
    if (redis->n_handshake > 0) {
        return;
    }
    if (redis->state == REDIS_READY) {
        send_held(redis);
        return;
    }
    redis->state = REDIS_READY;
    redis->backoff_ms = BACKOFF_MIN_MS;
    redis->logged[0] = '\0';
    log_debug("redis.ready", "took_us=%lld", (long long)(clock_us() - redis->began_us));
    if (redis->handlers.on_ready != NULL) {
        redis->handlers.on_ready(redis->handlers.arg);
    }
}

static bool is_noscript(const redisReply *reply) {
    return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOSCRIPT", 8) == 0;
}

static void on_hiredis_reply(redisAsyncContext *ac, void *reply, void *privdata) {
    struct conn *conn = privdata;
    struct redis *redis = conn->redis;
    if (redis == NULL || reply == NULL) {
        return; // on_cleanup or drop answers all of them
    }
    struct request *r = redis->sent;
    DL_DELETE(redis->sent, r);
    redis->n_sent--;
    redis->heard_us = clock_us();
    if (r->kind != REQUEST_USER) {
        on_handshake(redis, r, reply);
        return;
    }
    if (r->is_script && r->n_repeats < REPEATS_MAX && is_noscript(reply)) {
        log_warn("redis.noscript", "script=%s", redis->scripts[r->script].name);
        redis->repairing = true;
        r->n_repeats++;
        DL_APPEND(redis->held, r);
        r = NULL;
    }
    repair_if_drained(redis);
    if (r != NULL && r->is_script) {
        hook_point(redis->scripts[r->script].name);
    }
    if (r != NULL) {
        answer(r, reply); // last: the callback may free redis
    }
}

// ---- Connecting --------------------------------------------------------------------------------

static void on_connect(const redisAsyncContext *ac, int status) {
    // A failure comes to on_cleanup; setting a callback is what makes hiredis wait for writability.
}

static void send_login(struct redis *redis) {
    const struct redis_address *a = &redis->address;
    if (a->password != NULL) {
        struct slice args[3] = {SLICE_LIT("AUTH")};
        size_t n = 1;
        if (a->user != NULL) {
            args[n++] = slice_of(a->user);
        }
        args[n++] = slice_of(a->password);
        send_own(redis, REQUEST_HANDSHAKE, 0, n, args);
    }
    // PING makes even a login-less, script-less connection prove that Redis is there and ready.
    char db[16];
    snprintf(db, sizeof(db), "%d", a->db);
    const struct slice ping[] = {SLICE_LIT("PING")};
    const struct slice select[] = {SLICE_LIT("SELECT"), slice_of(db)};
    send_own(redis, REQUEST_HANDSHAKE, 0, a->db != 0 ? 2 : 1, a->db != 0 ? select : ping);
}

static void attach(struct redis *redis, redisAsyncContext *ac) {
    struct conn *conn = mem_zalloc(sizeof(*conn));
    conn->redis = redis;
    conn->loop = redis->loop;
    conn->ac = ac;
    conn->poll.data = conn;
    conn->flush = (struct loop_later){.on_end = flush, .arg = conn};
    int rc = uv_poll_init(loop_uv(redis->loop), &conn->poll, ac->c.fd);
    assert(rc == 0);
    redis->conn = conn;
    ac->ev.data = conn;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = on_cleanup;
    redisAsyncSetConnectCallback(ac, on_connect);
}

static void connect_now(void *arg) {
    struct redis *redis = arg;
    const struct redis_address *a = &redis->address;
    redisAsyncContext *ac =
        a->path != NULL ? redisAsyncConnectUnix(a->path) : redisAsyncConnect(a->host, a->port);
    if (ac == NULL || ac->err != 0) {
        snprintf(redis->reason, sizeof(redis->reason), "%s",
                 ac != NULL && ac->errstr != NULL ? ac->errstr : "cannot connect");
        if (ac != NULL) {
            redisAsyncFree(ac);
        }
        on_gone(redis);
        return;
    }
    redis->state = REDIS_CONNECTING;
    redis->began_us = redis->heard_us = clock_us();
    attach(redis, ac);
    loop_timer_start(redis->watch, WATCH_MS, WATCH_MS);
    send_login(redis);
    load_scripts(redis);
}

// ---- Life and commands -------------------------------------------------------------------------

struct redis *redis_new(struct loop *loop, const char *address, const struct redis_script *scripts,
                        size_t n_scripts, const struct redis_handlers *handlers, struct error *why) {
    struct redis_address parsed;
    if (redis_address_parse(address, &parsed, why) != 0) {
        return NULL;
    }
    struct redis *redis = mem_zalloc(sizeof(*redis));
    redis->loop = loop;
    redis->address = parsed;
    redis->scripts = scripts;
    redis->n_scripts = n_scripts;
    redis->shas = mem_zalloc((n_scripts + 1) * sizeof(*redis->shas));
    redis->handlers = *handlers;
    redis->backoff_ms = BACKOFF_MIN_MS;
    redis->random = (uint64_t)clock_us() ^ (uint64_t)(uintptr_t)redis ^ 1u;
    redis->random |= redis->random == 0;
    redis->retry = loop_add_timer(loop, connect_now, redis);
    redis->watch = loop_add_timer(loop, on_watch, redis);
    loop_timer_start(redis->retry, 0, 0);
    return redis;
}

void redis_free(struct redis *redis) {
    if (redis == NULL) {
        return;
    }
    struct conn *conn = redis->conn;
    redis->conn = NULL;
    redis->state = REDIS_WAITING;
    loop_timer_stop(redis->retry);
    loop_timer_stop(redis->watch);
    answer_all_null(redis);
    if (conn != NULL) {
        conn->redis = NULL;
        redisAsyncFree(conn->ac);
    }
    redis_address_free(&redis->address);
    free(redis->shas);
    free(redis->argv);
    free(redis->argvlen);
    free(redis);
}

bool redis_is_ready(const struct redis *redis) {
    return redis->state == REDIS_READY;
}

// submit sends, or holds behind a repair.
static void submit(struct redis *redis, struct request *r) {
    if (redis->repairing) {
        DL_APPEND(redis->held, r);
    } else {
        send_request(redis, r);
    }
}

void redis_command(struct redis *redis, redis_reply_fn *on_reply, void *arg, size_t n_args,
                   const struct slice *args) {
    assert(n_args > 0);
    if (redis->state != REDIS_READY) {
        if (on_reply != NULL) {
            on_reply(arg, NULL);
        }
        return;
    }
    struct request *r = mem_zalloc(sizeof(*r));
    r->on_reply = on_reply;
    r->arg = arg;
    format(redis, r, n_args, args);
    submit(redis, r);
}

static size_t find_script(const struct redis *redis, const char *name) {
    for (size_t i = 0; i < redis->n_scripts; i++) {
        if (strcmp(redis->scripts[i].name, name) == 0) {
            return i;
        }
    }
    assert(!"no such script");
    return 0;
}

void redis_script(struct redis *redis, const char *name, redis_reply_fn *on_reply, void *arg,
                  size_t n_keys, size_t n_args, const struct slice *args) {
    size_t script = find_script(redis, name);
    if (redis->state != REDIS_READY) {
        if (on_reply != NULL) {
            on_reply(arg, NULL);
        }
        return;
    }
    struct request *r = mem_zalloc(sizeof(*r));
    r->on_reply = on_reply;
    r->arg = arg;
    r->script = script;
    r->is_script = true;
    char keys[24];
    snprintf(keys, sizeof(keys), "%zu", n_keys);
    size_t n_all = n_args + 3;
    struct slice *all = mem_alloc(n_all * sizeof(*all));
    all[0] = SLICE_LIT("EVALSHA");
    all[1] = slice_of(redis->shas[script]);
    all[2] = slice_of(keys);
    if (n_args > 0) {
        memcpy(all + 3, args, n_args * sizeof(*args));
    }
    format(redis, r, n_all, all);
    free(all);
    hook_point(name);
    submit(redis, r);
}
