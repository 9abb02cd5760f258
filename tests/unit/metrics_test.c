// Metrics: buckets, quantiles, the text that Prometheus reads, and the two pages over HTTP.
#include "common/metrics.h"
#include "common/httpd.h"
#include "common/loop.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct figures {
    uint64_t ok, bad;
    int64_t depth;
    double cost;
    struct histogram took;
};

static const struct metric_spec rows[] = {
    {"x_calls_total", "outcome=\"ok\"", METRIC_COUNTER, "calls", offsetof(struct figures, ok)},
    {"x_calls_total", "outcome=\"bad\"", METRIC_COUNTER, "calls", offsetof(struct figures, bad)},
    {"x_depth", "", METRIC_GAUGE, "a\\b\nc", offsetof(struct figures, depth)},
    {"x_cost", "", METRIC_REAL, "USD", offsetof(struct figures, cost)},
    {"x_took_seconds", "", METRIC_HISTOGRAM, "time", offsetof(struct figures, took)},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static void a_quantile_lies_between_the_borders_of_its_bucket(void **state) {
    struct histogram h = {0};
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    for (int i = 0; i < 100; i++) {
        histogram_add(&h, 150); // bucket 1: 100 to 200 us
    }
    assert_int_equal(h.n[1], 100);
    assert_int_equal(histogram_quantile(&h, 0.5), 150);
    assert_int_equal(histogram_quantile(&h, 1), 200);
    histogram_add(&h, -5);
    histogram_add(&h, INT64_MAX);
    assert_int_equal(h.n[0], 1);
    assert_int_equal(h.n[HISTOGRAM_BUCKETS - 1], 1);
    assert_int_equal(h.count, 102);
}

static void rows_of_one_name_share_one_head(void **state) {
    struct figures f = {.ok = 3, .bad = 1, .depth = -2, .cost = 0.125};
    histogram_add(&f.took, 100);
    histogram_add(&f.took, 300);
    struct buf out;
    buf_init(&out, 65536);
    assert_int_equal(metrics_write(rows, N_ROWS, &f, &out), 0);
    const char *head = "# HELP x_calls_total calls\n# TYPE x_calls_total counter\n"
                       "x_calls_total{outcome=\"ok\"} 3\nx_calls_total{outcome=\"bad\"} 1\n"
                       "# HELP x_depth a\\\\b\\nc\n# TYPE x_depth gauge\nx_depth -2\n";
    assert_memory_equal(out.p, head, strlen(head));
    assert_non_null(strstr(out.p, "\nx_cost 0.125\n"));
    assert_non_null(strstr(out.p, "x_took_seconds_bucket{le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(out.p, "x_took_seconds_bucket{le=\"0.0004\"} 2\n"));
    assert_non_null(strstr(out.p, "x_took_seconds_bucket{le=\"+Inf\"} 2\n"
                                  "x_took_seconds_sum 0.0004\nx_took_seconds_count 2\n"));
    buf_free(&out);
    buf_init(&out, 20);
    assert_int_equal(metrics_write(rows, N_ROWS, &f, &out), -EMSGSIZE);
    buf_free(&out);
}

// A blocking client in a thread of its own; the loop stops when it is done.
struct client {
    int port;
    const char *request;
    char answer[16384];
    volatile int done;
};

static void *client_main(void *arg) {
    struct client *c = arg;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval wait = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 &&
        send(fd, c->request, strlen(c->request), 0) > 0) {
        size_t n = 0;
        for (ssize_t got; n < sizeof(c->answer) - 1 &&
                          (got = recv(fd, c->answer + n, sizeof(c->answer) - 1 - n, 0)) > 0;) {
            n += (size_t)got;
        }
    }
    close(fd);
    c->done = 1;
    return NULL;
}

static void stop_when_done(void *arg) {
    void **both = arg;
    if (((struct client *)both[1])->done) {
        loop_stop(both[0]);
    }
}

static void ask(struct loop *loop, struct client *c) {
    void *both[] = {loop, c};
    struct loop_timer *timer = loop_add_timer(loop, stop_when_done, both);
    loop_timer_start(timer, 1, 5);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, client_main, c), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    loop_timer_stop(timer);
}

static void echo(void *arg, struct httpd_request *request) {
    struct httpd_reply reply = {.status = 201, .type = "text/plain", .after_ms = *(int64_t *)arg};
    buf_init(&reply.body, 4096);
    assert_int_equal(buf_add_slice(&reply.body, httpd_body(request)), 0);
    httpd_reply_header(&reply, "x-seen", "%.*s", SLICE_FMT(httpd_header(request, "x-mine")));
    httpd_send(request, &reply);
}

static void a_body_comes_back_at_once_and_later(void **state) {
    for (int64_t after_ms = 0; after_ms <= 20; after_ms += 20) {
        struct loop *loop = loop_new();
        struct error why;
        struct httpd_config config = {.on_request = echo, .arg = &after_ms, .max_body = 10};
        struct httpd *httpd = httpd_new(loop, "127.0.0.1:0", &config, &why);
        assert_non_null(httpd);
        struct client c = {.port = httpd_port(httpd),
                           .request =
                               "POST /x HTTP/1.1\r\nHost: h\r\nX-Mine: 7\r\nConnection: close"
                               "\r\nContent-Length: 5\r\n\r\nhello"};
        ask(loop, &c);
        assert_non_null(strstr(c.answer, "HTTP/1.1 201"));
        assert_non_null(strstr(c.answer, "x-seen: 7"));
        assert_non_null(strstr(c.answer, "\r\n\r\nhello"));
        struct client big = {.port = httpd_port(httpd),
                             .request = "POST /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
                                        "Content-Length: 11\r\n\r\nhello world"};
        ask(loop, &big);
        assert_non_null(strstr(big.answer, " 413 "));
        assert_null(httpd_new(loop, "nowhere", &config, &why));
        assert_non_null(strstr(why.text, "host:port"));
        httpd_free(httpd);
        loop_free(loop);
    }
}

static void metrics_and_health_are_served(void **state) {
    struct loop *loop = loop_new();
    struct error why;
    struct figures f = {.ok = 42};
    struct metrics_config config = {.rows = rows, .n_rows = N_ROWS, .values = &f};
    struct metrics_server *server = metrics_serve(loop, "127.0.0.1:0", &config, &why);
    assert_non_null(server);
    static const struct {
        const char *request, *status, *text;
    } cases[] = {
        {"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", " 200 ",
         "x_calls_total{outcome=\"ok\"} 42\n"},
        {"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", " 200 ",
         "{\"status\":\"ok\"}"},
        {"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", " 404 ", "want /metrics"},
        {"PUT /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", " 405 ", "want GET"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c = {.port = metrics_server_port(server), .request = cases[i].request};
        ask(loop, &c);
        assert_non_null(strstr(c.answer, cases[i].status));
        assert_non_null(strstr(c.answer, cases[i].text));
    }
    char address[32];
    snprintf(address, sizeof(address), "127.0.0.1:%d", metrics_server_port(server));
    assert_null(metrics_serve(loop, address, &config, &why)); // the port is in use
    assert_non_null(strstr(why.text, address));
    metrics_server_free(server);
    loop_free(loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quantile_lies_between_the_borders_of_its_bucket),
        cmocka_unit_test(rows_of_one_name_share_one_head),
        cmocka_unit_test(a_body_comes_back_at_once_and_later),
        cmocka_unit_test(metrics_and_health_are_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
