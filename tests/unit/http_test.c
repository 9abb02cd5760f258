// http: what becomes of one POST when the server behaves, and when it does not. The server is a
// thread that follows a script on one listening socket and counts the requests it read.
#include "worker/http.h"

#include "common/clock.h"
#include "common/loop.h"
#include "common/secrets.h"
#include "worker/held.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_MS 10000

struct server {
    int listener, port;
    const char *const *script; // what to answer to each request; NULL ends; "" closes without a word
    atomic_int n_requests;
    atomic_int stopping;
    pthread_t thread;
};

static bool is_readable(struct server *s, int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (atomic_load(&s->stopping) == 0) {
        if (poll(&p, 1, 20) > 0) {
            return true;
        }
    }
    return false;
}

// read_request reads a head and a body of Content-Length bytes. False: the connection ended.
static bool read_request(struct server *s, int fd) {
    char text[65536];
    size_t n = 0;
    for (;;) {
        text[n] = '\0';
        char *end = strstr(text, "\r\n\r\n");
        char *length = strstr(text, "Content-Length: ");
        if (end != NULL && length != NULL &&
            n >= (size_t)(end + 4 - text) + (size_t)atol(length + 16)) {
            return true;
        }
        if (!is_readable(s, fd)) {
            return false;
        }
        ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
    }
}

static void *serve(void *arg) {
    struct server *s = arg;
    size_t step = 0;
    while (is_readable(s, s->listener)) {
        int fd = accept(s->listener, NULL, NULL);
        while (fd >= 0 && read_request(s, fd)) {
            atomic_fetch_add(&s->n_requests, 1);
            const char *answer = s->script[step] != NULL ? s->script[step++] : "";
            if (strcmp(answer, "hang") == 0) {
                (void)is_readable(s, fd);
                break;
            }
            if (answer[0] == '\0' || send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0 ||
                strstr(answer, "99999") != NULL) {
                break;
            }
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return NULL;
}

struct fixture {
    struct loop *loop;
    struct http *http;
    struct secrets *secrets;
    struct held_cache models;
    struct calls calls;
    struct server server;
    struct loop_timer *watchdog;
    size_t n_done, n_wanted;
    size_t n_ok, n_more; // ended with 200; to be pushed, one whenever one is done
    struct call *last;
};

static struct call *make_call(struct fixture *f, uint64_t number);

static void on_done(void *arg, struct call *call) {
    struct fixture *f = arg;
    f->last = call;
    f->n_ok += !call->decided && call->status == 200;
    if (f->n_more > 0) {
        http_push(f->http, make_call(f, 1000 + f->n_more--));
    }
    if (++f->n_done == f->n_wanted) {
        loop_stop(f->loop);
    }
}

static void on_late(void *arg) {
    struct fixture *f = arg;
    loop_stop(f->loop);
}

static void listen_on(struct server *s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(s->listener, 16), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
}

static void setup(struct fixture *f, const char *const *script, const char *options) {
    *f = (struct fixture){0};
    struct error why = {0};
    listen_on(&f->server);
    f->server.script = script;
    assert_int_equal(pthread_create(&f->server.thread, NULL, serve, &f->server), 0);
    setenv("HTTP_TEST_KEY", "secret-value", 1);
    f->secrets = secrets_load(NULL, &why);
    assert_non_null(f->secrets);
    f->loop = loop_new();
    f->http = http_new(f->loop, NULL, on_done, f);
    f->watchdog = loop_add_timer(f->loop, on_late, f);
    held_init(&f->models, f->secrets, 4);
    char sql[1024];
    snprintf(sql, sizeof(sql),
             "CREATE MODEL m INPUT (t STRING) OUTPUT (s STRING) WITH ('provider' = 'openai', "
             "'endpoint' = 'http://127.0.0.1:%d/', 'model' = 'x', 'api_key' = '${HTTP_TEST_KEY}'%s);",
             f->server.port, options);
    held_add(&f->models, SLICE_LIT("m"), 1, slice_of(sql));
}

static struct call *make_call(struct fixture *f, uint64_t number) {
    struct error why = {0};
    struct call *call = calls_add(&f->calls, 1, number, SLICE_LIT("frame"));
    if (held_take(&f->models, SLICE_LIT("m"), 1, SLICE_NONE, &call->held, &why) != 0) {
        fail_msg("%s", why.text);
    }
    call_set_state(&f->calls, call, CALL_RUNNING);
    call->deadline_us = clock_us() + 5000000;
    assert_int_equal(buf_add_str(&call->body, "{\"a\":1}"), 0);
    return call;
}

// run waits until n calls are done, or the deadline.
static void run(struct fixture *f, size_t n) {
    f->n_wanted = n;
    loop_timer_start(f->watchdog, DEADLINE_MS, 0);
    if (f->n_done < n) {
        loop_run(f->loop);
    }
    loop_timer_stop(f->watchdog);
    assert_int_equal(f->n_done, n);
}

static void teardown(struct fixture *f) {
    atomic_store(&f->server.stopping, 1);
    pthread_join(f->server.thread, NULL);
    close(f->server.listener);
    struct call *call, *next;
    HASH_ITER(hh, f->calls.by_id, call, next) {
        held_give(&call->held);
    }
    calls_free(&f->calls);
    http_free(f->http);
    held_free(&f->models);
    secrets_free(f->secrets);
    loop_free(f->loop);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Request-Id: r1\r\n\r\n{}"

static void a_whole_answer_comes_through(void **state) {
    const char *script[] = {OK_ANSWER, NULL};
    struct fixture f;
    setup(&f, script, "");
    struct call *call = make_call(&f, 1);
    http_push(f.http, call);
    run(&f, 1);
    assert_false(call->decided);
    assert_int_equal(call->status, 200);
    assert_true(call->sent);
    assert_true(slice_is(buf_slice(&call->reply), "{}"));
    assert_string_equal(call->head.request_id, "r1");
    assert_string_equal(call->head.content_type, "application/json");
    assert_int_equal(http_inflight(f.http), 0);
    teardown(&f);
}

static void a_post_is_never_repeated_on_a_connection_used_again(void **state) {
    // The second request is read whole, then the connection closes without a word: curl by itself
    // would send it once more on a new connection, and the provider would bill it twice.
    const char *script[] = {OK_ANSWER, "", OK_ANSWER, NULL};
    struct fixture f;
    setup(&f, script, "");
    http_push(f.http, make_call(&f, 1));
    run(&f, 1);
    struct call *call = make_call(&f, 2);
    http_push(f.http, call);
    run(&f, 2);
    assert_true(call->decided);
    assert_int_equal(call->outcome, OUTCOME_BROKEN);
    assert_true(call->sent);
    assert_int_equal(atomic_load(&f.server.n_requests), 2);
    struct call *after = make_call(&f, 3);
    http_push(f.http, after);
    run(&f, 3);
    assert_int_equal(after->status, 200);
    assert_int_equal(atomic_load(&f.server.n_requests), 3);
    teardown(&f);
}

#define LAST_ANSWER "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"

static void a_descriptor_used_again_is_watched_again(void **state) {
    // Each answer ends its connection, and the next call gets the number of its descriptor.
    const char *script[31] = {NULL};
    for (size_t i = 0; i < 30; i++) {
        script[i] = i % 10 == 9 ? "" : LAST_ANSWER;
    }
    struct fixture f;
    setup(&f, script, "");
    f.n_more = 22;
    for (uint64_t i = 1; i <= 8; i++) {
        http_push(f.http, make_call(&f, i));
    }
    run(&f, 30);
    assert_int_equal(f.n_ok, 27);
    assert_int_equal(atomic_load(&f.server.n_requests), 30);
    assert_int_equal(http_inflight(f.http), 0);
    teardown(&f);
}

struct failure {
    const char *name;
    const char *answer;
    enum outcome want;
    bool sent;
};

static void each_failure_has_its_outcome(void **state) {
    static const struct failure cases[] = {
        {"the connection closes without a word", "", OUTCOME_BROKEN, true},
        {"the body is cut", "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{", OUTCOME_BROKEN, true},
        {"no answer in time", "hang", OUTCOME_TIMED_OUT, true},
        {"not HTTP at all", "99999 hello\r\n\r\n", OUTCOME_BROKEN, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *script[] = {cases[i].answer, NULL};
        struct fixture f;
        setup(&f, script, ", 'request.timeout.ms' = '300'");
        struct call *call = make_call(&f, 1);
        http_push(f.http, call);
        run(&f, 1);
        if (!call->decided || call->outcome != cases[i].want || call->sent != cases[i].sent) {
            fail_msg("%s: got %s \"%s\"", cases[i].name, outcome_of(call->outcome)->text, call->detail);
        }
        assert_null(strstr(call->detail, "secret-value"));
        teardown(&f);
    }
}

static void nobody_listens(void **state) {
    const char *script[] = {NULL};
    struct fixture f;
    setup(&f, script, "");
    atomic_store(&f.server.stopping, 1);
    pthread_join(f.server.thread, NULL);
    close(f.server.listener);
    struct call *call = make_call(&f, 1);
    http_push(f.http, call);
    run(&f, 1);
    assert_int_equal(call->outcome, OUTCOME_UNREACHABLE);
    assert_false(call->sent);
    listen_on(&f.server); // for teardown
    assert_int_equal(pthread_create(&f.server.thread, NULL, serve, &f.server), 0);
    teardown(&f);
}

static void a_call_past_its_deadline_is_not_sent(void **state) {
    const char *script[] = {OK_ANSWER, NULL};
    struct fixture f;
    setup(&f, script, "");
    struct call *call = make_call(&f, 1);
    call->deadline_us = clock_us() - 1;
    http_push(f.http, call);
    run(&f, 1);
    assert_int_equal(call->outcome, OUTCOME_UNSENT);
    assert_int_equal(atomic_load(&f.server.n_requests), 0);
    teardown(&f);
}

static void headers_say_when_to_try_again_and_tell_of_limits(void **state) {
    const char *script[] = {
        "HTTP/1.1 429 No\r\nRetry-After: 7\r\nRetry-After-Ms: 1500.5\r\nX-Should-Retry: true\r\n"
        "X-RateLimit-Limit-Requests: 500\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 120ms\r\n"
        "Content-Length: 0\r\n\r\n",
        "HTTP/1.1 429 No\r\nretry-after: 7\r\nContent-Length: 0\r\n\r\n", OK_ANSWER, NULL};
    const uint64_t want_ms[] = {1501, 7000, 0};
    const int want_retry[] = {1, -1, -1};
    struct fixture f;
    setup(&f, script, "");
    for (size_t i = 0; i < 3; i++) {
        struct call *call = make_call(&f, i);
        http_push(f.http, call);
        run(&f, i + 1);
        assert_int_equal(call->head.delay_ms, want_ms[i]);
        assert_int_equal(call->head.should_retry, want_retry[i]);
        const struct limit_seen *limit = &call->limits.of[LIMIT_REQUESTS];
        assert_int_equal(limit->limit, i == 0 ? 500 : LIMIT_ABSENT);
        assert_int_equal(limit->remaining, i == 0 ? 0 : LIMIT_ABSENT);
        assert_int_equal(limit->reset_ms, i == 0 ? 120 : LIMIT_ABSENT);
    }
    teardown(&f);
}

static void stopping_ends_what_runs(void **state) {
    const char *script[] = {"hang", NULL};
    struct fixture f;
    setup(&f, script, "");
    struct call *call = make_call(&f, 1);
    http_push(f.http, call);
    int64_t end = clock_us() + DEADLINE_MS * 1000;
    while (atomic_load(&f.server.n_requests) == 0 && clock_us() < end) {
        uv_run(loop_uv(f.loop), UV_RUN_NOWAIT);
    }
    http_stop(f.http);
    assert_int_equal(f.n_done, 1);
    assert_int_equal(call->outcome, OUTCOME_BROKEN);
    assert_true(call->sent);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_answer_comes_through),
        cmocka_unit_test(a_post_is_never_repeated_on_a_connection_used_again),
        cmocka_unit_test(a_descriptor_used_again_is_watched_again),
        cmocka_unit_test(each_failure_has_its_outcome),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(a_call_past_its_deadline_is_not_sent),
        cmocka_unit_test(headers_say_when_to_try_again_and_tell_of_limits),
        cmocka_unit_test(stopping_ends_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
