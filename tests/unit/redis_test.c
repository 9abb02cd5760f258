// Redis on the loop, against a real server: replies in order, binary safety, loss, reconnect,
// forgotten scripts, addresses.
#include "common/redis.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/redis_address.h"
#include "tests/unit/redis_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/socket.h>
// cmocka wants the four above first
#include <cmocka.h>

static const struct redis_script scripts[] = {
    {.name = "add", .text = "return redis.call('INCRBY', KEYS[1], ARGV[1])"},
    {.name = "echo", .text = "return ARGV[1]"},
};

struct world {
    struct redis_server server;
    struct loop *loop;
    struct redis *redis;
    int n_ready, n_lost;
    char reason[200];
    int n_replies, n_nulls, n_errors;
    long long integers[4096]; // replies in the order they came
    size_t last_n;            // of the last string reply
    char last[256];
};

static void on_ready(void *arg) {
    ((struct world *)arg)->n_ready++;
}

static void on_lost(void *arg, const char *reason) {
    struct world *w = arg;
    w->n_lost++;
    snprintf(w->reason, sizeof(w->reason), "%s", reason);
}

static void on_reply(void *arg, const redisReply *reply) {
    struct world *w = arg;
    if (reply == NULL) {
        w->n_nulls++;
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        w->n_errors++;
    } else if (reply->type == REDIS_REPLY_INTEGER) {
        w->integers[w->n_replies % 4096] = reply->integer;
    } else if (reply->type == REDIS_REPLY_STRING && reply->len < sizeof(w->last)) {
        w->last_n = reply->len;
        memcpy(w->last, reply->str, reply->len);
    }
    w->n_replies++;
}

static void begin_at(struct world *w, const char *address) {
    w->loop = loop_new();
    const struct redis_handlers handlers = {.on_ready = on_ready, .on_lost = on_lost, .arg = w};
    struct error why;
    w->redis = redis_new(w->loop, address, scripts, 2, &handlers, &why);
    assert_non_null(w->redis);
}

static void begin(struct world *w) {
    redis_server_start(&w->server);
    begin_at(w, w->server.socket);
    redis_server_until(w->loop, w->n_ready == 1);
}

static void end(struct world *w) {
    redis_free(w->redis);
    loop_free(w->loop);
    redis_server_end(&w->server);
}

static void incr(struct world *w) {
    const struct slice args[] = {SLICE_LIT("INCR"), SLICE_LIT("n")};
    redis_command(w->redis, on_reply, w, 2, args);
}

static void add(struct world *w) {
    const struct slice args[] = {SLICE_LIT("n"), SLICE_LIT("1")};
    redis_script(w->redis, "add", on_reply, w, 1, 2, args);
}

static void answers_in_order(void **state) {
    struct world w = {0};
    begin(&w);
    for (int i = 0; i < 2000; i++) {
        (i % 2 == 0 ? incr : add)(&w);
    }
    redis_server_until(w.loop, w.n_replies == 2000);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(w.integers[i], i + 1);
    }
    assert_int_equal(w.n_nulls, 0);
    end(&w);
}

static void carries_any_byte(void **state) {
    struct world w = {0};
    begin(&w);
    char all[256];
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
    }
    const struct slice args[] = {{.p = all, .n = 255}};
    redis_script(w.redis, "echo", on_reply, &w, 0, 1, args);
    redis_server_until(w.loop, w.n_replies == 1);
    assert_int_equal(w.last_n, 255);
    assert_memory_equal(w.last, all, 255);
    const struct slice empty[] = {SLICE_NONE};
    redis_script(w.redis, "echo", on_reply, &w, 0, 1, empty);
    redis_server_until(w.loop, w.n_replies == 2);
    assert_int_equal(w.last_n, 0);
    end(&w);
}

static void carries_megabytes(void **state) {
    struct world w = {0};
    begin(&w);
    size_t n = 8 * 1024 * 1024;
    char *big = mem_zalloc(n);
    const struct slice set[] = {SLICE_LIT("SET"), SLICE_LIT("big"), {.p = big, .n = n}};
    redis_command(w.redis, on_reply, &w, 3, set);
    const struct slice get[] = {SLICE_LIT("GET"), SLICE_LIT("big")};
    redis_command(w.redis, on_reply, &w, 2, get);
    const struct slice len[] = {SLICE_LIT("STRLEN"), SLICE_LIT("big")};
    redis_command(w.redis, on_reply, &w, 2, len);
    redis_server_until(w.loop, w.n_replies == 3);
    assert_int_equal(w.integers[2], n);
    free(big);
    end(&w);
}

static void every_pending_reply_is_null_once_when_the_server_dies(void **state) {
    struct world w = {0};
    begin(&w);
    kill(w.server.pid, SIGSTOP); // so that none is answered before the kill
    for (int i = 0; i < 100; i++) {
        add(&w);
    }
    for (int i = 0; i < 20; i++) {
        uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    }
    redis_server_kill(&w.server);
    redis_server_until(w.loop, w.n_lost == 1);
    assert_int_equal(w.n_nulls, 100);
    assert_int_equal(w.n_replies, 0);
    assert_false(redis_is_ready(w.redis));
    incr(&w); // at once NULL while away
    assert_int_equal(w.n_nulls, 101);
    redis_server_start(&w.server);
    redis_server_until(w.loop, w.n_ready == 2);
    add(&w);
    redis_server_until(w.loop, w.n_replies == 1);
    assert_int_equal(w.n_nulls, 101);
    end(&w);
}

static void a_write_finds_out_that_the_server_died(void **state) {
    struct world w = {0};
    begin(&w);
    redis_server_kill(&w.server);
    for (int i = 0; i < 10; i++) {
        add(&w);
    }
    uv_run(loop_uv(w.loop), UV_RUN_NOWAIT); // written at the end of the turn, before anything is read
    assert_int_equal(w.n_lost, 1);
    assert_int_equal(w.n_nulls, 10);
    redis_server_start(&w.server);
    redis_server_until(w.loop, w.n_ready == 2);
    add(&w);
    redis_server_until(w.loop, w.n_replies == 1);
    end(&w);
}

static void a_killed_connection_comes_back(void **state) {
    struct world w = {0};
    begin(&w);
    for (int round = 1; round <= 3; round++) {
        redis_server_run(&w.server, "CLIENT KILL TYPE normal SKIPME yes");
        redis_server_until(w.loop, w.n_lost == round && w.n_ready == round + 1);
    }
    end(&w);
}

static void forgotten_scripts_are_loaded_again_in_order(void **state) {
    struct world w = {0};
    begin(&w);
    int sent = 0;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 50; i++, sent++) {
            add(&w);
        }
        uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
        redis_server_run(&w.server, "SCRIPT FLUSH");
        for (int i = 0; i < 50; i++, sent++) {
            (i % 5 == 0 ? incr : add)(&w);
        }
        uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    }
    redis_server_until(w.loop, w.n_replies == sent);
    assert_int_equal(w.n_errors, 0);
    assert_int_equal(w.n_nulls, 0);
    redisReply *r = redis_server_do(&w.server, "GET n");
    assert_int_equal(atoi(r->str), sent); // each once
    freeReplyObject(r);
    end(&w);
}

static void waits_for_a_server_that_is_not_there_yet(void **state) {
    struct world w = {0};
    redis_server_start(&w.server);
    redis_server_kill(&w.server); // leaves the socket file: connecting is refused
    begin_at(&w, w.server.socket);
    for (int64_t until = clock_us() + 300000; clock_us() < until; usleep(1000)) {
        uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    }
    assert_int_equal(w.n_ready + w.n_lost, 0);
    redis_server_start(&w.server);
    redis_server_until(w.loop, w.n_ready == 1);
    end(&w);
}

static void a_refused_tcp_port_is_noticed(void **state) {
    struct world w = {0};
    begin_at(&w, "redis://127.0.0.1:1"); // nobody listens on port 1
    for (int64_t until = clock_us() + 200000; clock_us() < until; usleep(1000)) {
        uv_run(loop_uv(w.loop), UV_RUN_NOWAIT);
    }
    assert_int_equal(w.n_ready, 0);
    incr(&w);
    assert_int_equal(w.n_nulls, 1);
    end(&w);
}

// free_port finds a port outside the range that the kernel hands out for outgoing connections.
static int free_port(void) {
    for (int port = 10000 + getpid() * 101 % 20000;; port = port < 32000 ? port + 1 : 10000) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port)};
        int rc = bind(fd, (struct sockaddr *)&a, sizeof(a));
        close(fd);
        if (rc == 0) {
            return port;
        }
    }
}

static void logs_in_and_selects(void **state) {
    struct world w = {0};
    // Redis itself cannot be told "any free port".
    int port = free_port();
    char text[80];
    snprintf(text, sizeof(text), "%d", port);
    redis_server_start_with(&w.server, "no", "--port", text);
    redis_server_run(&w.server, "CONFIG SET requirepass p@ss");
    redis_server_run(&w.server, "AUTH p@ss");
    snprintf(text, sizeof(text), "redis://default:p%%40ss@127.0.0.1:%d/3", port);
    begin_at(&w, text);
    redis_server_until(w.loop, w.n_ready == 1);
    add(&w);
    redis_server_until(w.loop, w.n_replies == 1);
    redis_server_run(&w.server, "SELECT 3");
    redisReply *r = redis_server_do(&w.server, "GET n");
    assert_string_equal(r->str, "1");
    freeReplyObject(r);
    end(&w);
    // Without the password it never gets ready.
    struct world v = {0};
    redis_server_start_with(&v.server, "no", "--requirepass", "other");
    begin_at(&v, v.server.socket);
    for (int64_t until = clock_us() + 100000; clock_us() < until; usleep(1000)) {
        uv_run(loop_uv(v.loop), UV_RUN_NOWAIT);
    }
    assert_int_equal(v.n_ready, 0);
    end(&v);
}

static void free_answers_what_is_pending(void **state) {
    struct world w = {0};
    begin(&w);
    for (int i = 0; i < 10; i++) {
        add(&w);
    }
    end(&w);
    assert_int_equal(w.n_nulls, 10);
}

static void addresses(void **state) {
    static const struct {
        const char *what, *text;
        int rc;
        const char *host, *path, *user, *password;
        int port, db;
    } cases[] = {
        {"host alone", "redis://h", 0, "h", NULL, NULL, NULL, 6379, 0},
        {"host and port", "redis://h:1234", 0, "h", NULL, NULL, NULL, 1234, 0},
        {"database", "redis://h/3", 0, "h", NULL, NULL, NULL, 6379, 3},
        {"all", "redis://u:p%40q@h:1/2", 0, "h", NULL, "u", "p@q", 1, 2},
        {"password with @", "redis://:a@b@h", 0, "h", NULL, NULL, "a@b", 6379, 0},
        {"escape at the end", "redis://:a%2F@h", 0, "h", NULL, NULL, "a/", 6379, 0},
        {"password from the environment", "redis://:${HR_TEST_PW}@h", 0, "h", NULL, NULL, "s3", 6379, 0},
        {"IPv6", "redis://[::1]:77", 0, "::1", NULL, NULL, NULL, 77, 0},
        {"IPv6 without port", "redis://[::1]", 0, "::1", NULL, NULL, NULL, 6379, 0},
        {"socket", "unix:/a/b", 0, NULL, "/a/b", NULL, NULL, 0, 0},
        {"bare path", "./s", 0, NULL, "./s", NULL, NULL, 0, 0},
        {"empty", "", -EINVAL},
        {"no scheme", "localhost:6379", -EINVAL},
        {"no host", "redis://", -EINVAL},
        {"no host after login", "redis://:p@", -EINVAL},
        {"port 0", "redis://h:0", -EINVAL},
        {"port too large", "redis://h:65536", -EINVAL},
        {"port empty", "redis://h:", -EINVAL},
        {"port no number", "redis://h:x", -EINVAL},
        {"database no number", "redis://h/x", -EINVAL},
        {"login without colon", "redis://secret@h", -EINVAL},
        {"not in the environment", "redis://:${HR_TEST_NONE}@h", -EINVAL},
        {"TLS", "rediss://h", -EINVAL},
        {"unix without path", "unix:", -EINVAL},
    };
    setenv("HR_TEST_PW", "s3", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct redis_address a;
        struct error why = {{0}};
        int rc = redis_address_parse(cases[i].text, &a, &why);
        if (rc != cases[i].rc) {
            fail_msg("%s: got %d, want %d", cases[i].what, rc, cases[i].rc);
        }
        if (rc != 0) {
            assert_true(why.text[0] != '\0');
            assert_null(strstr(why.text, "secret"));
            continue;
        }
        const char *got[] = {a.host, a.path, a.user, a.password};
        const char *want[] = {cases[i].host, cases[i].path, cases[i].user, cases[i].password};
        for (int k = 0; k < 4; k++) {
            if ((got[k] == NULL) != (want[k] == NULL) || (got[k] && strcmp(got[k], want[k]) != 0)) {
                fail_msg("%s: field %d: got %s, want %s", cases[i].what, k, got[k], want[k]);
            }
        }
        assert_int_equal(a.port, cases[i].port);
        assert_int_equal(a.db, cases[i].db);
        redis_address_free(&a);
    }
}

int main(void) {
    log_setup("redis_test", LOG_ERROR);
    const struct CMUnitTest pure[] = {cmocka_unit_test(addresses),
                                      cmocka_unit_test(a_refused_tcp_port_is_noticed)};
    int failed = cmocka_run_group_tests(pure, NULL, NULL);
    if (redis_server_missing()) {
        return failed;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_order),
        cmocka_unit_test(carries_any_byte),
        cmocka_unit_test(carries_megabytes),
        cmocka_unit_test(every_pending_reply_is_null_once_when_the_server_dies),
        cmocka_unit_test(a_write_finds_out_that_the_server_died),
        cmocka_unit_test(a_killed_connection_comes_back),
        cmocka_unit_test(forgotten_scripts_are_loaded_again_in_order),
        cmocka_unit_test(waits_for_a_server_that_is_not_there_yet),
        cmocka_unit_test(logs_in_and_selects),
        cmocka_unit_test(free_answers_what_is_pending),
    };
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
