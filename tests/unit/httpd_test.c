// Bodies that go through the server in pieces: in to a sink, out of a file; and what a query says.
#include "common/httpd.h"
#include "common/loop.h"
#include "common/mem.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY 300000 // bytes: more than a connection holds, and than max_body

// What the server has seen.
struct seen {
    size_t n_sunk, n_pieces, n_handed, n_done, sent;
    int refuse_after; // bytes; the sink says no past them; 0: never
    bool whole, as_it_was_sent;
    struct loop *loop;
    int fd; // of a reply; -1: none
    size_t cut_at;
    char query[32];
};

static char byte_at(size_t i) {
    return (char)('a' + i % 23);
}

static int sink(void *arg, struct httpd_request *request, struct slice piece) {
    struct seen *s = arg;
    for (size_t i = 0; i < piece.n; i++) {
        s->as_it_was_sent &= piece.p[i] == byte_at(s->n_sunk + i);
    }
    s->n_sunk += piece.n;
    s->n_pieces++;
    return s->refuse_after > 0 && s->n_sunk > (size_t)s->refuse_after ? -ENOSPC : 0;
}

static void on_open(void *arg, struct httpd_request *request) {
    struct seen *s = arg;
    s->as_it_was_sent = true;
    if (slice_is(httpd_path(request), "/stream")) {
        httpd_stream(request, sink);
    }
}

static void on_request(void *arg, struct httpd_request *request) {
    struct seen *s = arg;
    struct httpd_reply reply = {.status = 200, .type = "text/plain"};
    s->n_handed++;
    (void)slice_copy(httpd_query(request, "name"), s->query, sizeof(s->query));
    assert_int_equal(httpd_body(request).n, 0);
    if (s->fd >= 0) {
        reply.from_file = true;
        reply.fd = dup(s->fd);
        reply.file_at = 5;
        reply.file_n = BODY - 5;
        reply.ending = s->cut_at > 0 ? HTTPD_CUT : HTTPD_WHOLE;
        reply.cut_at = s->cut_at;
    }
    httpd_send(request, &reply);
}

static void on_done(void *arg, struct httpd_request *request, size_t sent, bool whole) {
    struct seen *s = arg;
    s->n_done++;
    s->sent = sent;
    s->whole = whole;
    loop_stop(s->loop);
}

// A client in a thread of its own: sends head and n bytes of a body, reads all that comes.
struct client {
    int port;
    const char *head;
    size_t n_body;
    char *answer; // 2 * BODY
    size_t n;
};

static void *client_main(void *arg) {
    struct client *c = arg;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval wait = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    char *body = malloc(c->n_body + 1);
    for (size_t i = 0; i < c->n_body; i++) {
        body[i] = byte_at(i);
    }
    bool sent = connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 &&
                send(fd, c->head, strlen(c->head), MSG_NOSIGNAL) > 0;
    for (size_t at_byte = 0; sent && at_byte < c->n_body;) {
        ssize_t n = send(fd, body + at_byte, c->n_body - at_byte, MSG_NOSIGNAL);
        sent = n > 0;
        at_byte += n > 0 ? (size_t)n : 0;
    }
    shutdown(fd, SHUT_WR);
    for (ssize_t got;
         c->n < 2 * BODY && (got = recv(fd, c->answer + c->n, 2 * BODY - c->n, 0)) > 0;) {
        c->n += (size_t)got;
    }
    close(fd);
    free(body);
    return NULL;
}

// ask runs a server for one request until it is over.
static void ask(struct seen *s, struct client *c) {
    struct error why;
    struct loop *loop = loop_new();
    struct httpd_config config = {
        .on_request = on_request, .on_done = on_done, .on_open = on_open, .arg = s, .max_body = 10};
    struct httpd *httpd = httpd_new(loop, "127.0.0.1:0", &config, &why);
    assert_non_null(httpd);
    s->loop = loop;
    c->port = httpd_port(httpd);
    c->answer = mem_zalloc(2 * BODY + 1);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, client_main, c), 0);
    loop_run(loop);
    httpd_free(httpd);
    loop_free(loop);
    pthread_join(thread, NULL);
}

#define HEAD(path, length)                                                                         \
    "POST " path " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: " length "\r\n\r\n"

static void a_long_body_goes_to_a_sink_in_pieces(void **state) {
    struct seen s = {.fd = -1};
    struct client c = {.head = HEAD("/stream?other=1&name=a%20b", "300000"), .n_body = BODY};
    ask(&s, &c);
    assert_int_equal(s.n_sunk, BODY);
    assert_true(s.as_it_was_sent && s.n_pieces > 1 && s.whole);
    assert_int_equal(s.n_handed, 1);
    assert_int_equal(s.n_done, 1);
    assert_string_equal(s.query, "a b");
    assert_non_null(strstr(c.answer, " 200 "));
    free(c.answer);
}

static void a_client_that_leaves_in_the_middle_is_told_of_once(void **state) {
    struct seen s = {.fd = -1};
    struct client c = {.head = HEAD("/stream", "300000"), .n_body = 1000};
    ask(&s, &c);
    assert_int_equal(s.n_handed, 0);
    assert_int_equal(s.n_done, 1);
    assert_false(s.whole);
    free(c.answer);
}

static void a_sink_that_says_no_ends_the_connection(void **state) {
    struct seen s = {.fd = -1, .refuse_after = 5000};
    struct client c = {.head = HEAD("/stream", "300000"), .n_body = BODY};
    ask(&s, &c);
    assert_int_equal(s.n_handed, 0);
    assert_int_equal(s.n_done, 1);
    assert_true(s.n_sunk < BODY);
    free(c.answer);
}

static int file_of_body(void) {
    FILE *f = tmpfile();
    assert_non_null(f);
    for (size_t i = 0; i < BODY; i++) {
        fputc(byte_at(i), f);
    }
    fflush(f);
    int fd = dup(fileno(f));
    fclose(f);
    return fd;
}

static void a_reply_comes_out_of_a_file(void **state) {
    struct seen s = {.fd = file_of_body()};
    struct client c = {.head = HEAD("/x", "0")};
    ask(&s, &c);
    assert_true(s.whole);
    assert_int_equal(s.sent, BODY - 5);
    const char *body = strstr(c.answer, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(c.answer + c.n - (body + 4), BODY - 5);
    for (size_t i = 5; i < BODY; i++) {
        assert_int_equal(body[4 + i - 5], byte_at(i));
    }
    free(c.answer);
    close(s.fd);
}

static void a_file_can_be_cut(void **state) {
    struct seen s = {.fd = file_of_body(), .cut_at = 100000};
    struct client c = {.head = HEAD("/x", "0")};
    ask(&s, &c);
    assert_false(s.whole);
    assert_int_equal(s.sent, 100000);
    assert_non_null(strstr(c.answer, "Content-Length: 299995"));
    free(c.answer);
    close(s.fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_body_goes_to_a_sink_in_pieces),
        cmocka_unit_test(a_client_that_leaves_in_the_middle_is_told_of_once),
        cmocka_unit_test(a_sink_that_says_no_ends_the_connection),
        cmocka_unit_test(a_reply_comes_out_of_a_file),
        cmocka_unit_test(a_file_can_be_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
