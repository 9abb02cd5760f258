// Sender and taker against a coordinator that the test plays itself: a ROUTER that says what each
// case wants, is taken away and comes back.
#include "client/sender.h"
#include "client/taker.h"
#include "proto/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define DEADLINE_MS 20000

struct world {
    struct loop *loop;
    void *zmq, *router;
    struct loop_socket *watch;
    struct loop_timer *deadline;
    char folder[128], address[192];
    char log[4096];         // what the coordinator heard, and what the handlers were told
    const char *until;      // the loop stops once the log ends with this
    char route[256];        // of the last peer
    size_t n_route;
    struct sender *sender;
    struct taker *taker;
};

static void note(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct world *w, const char *format, ...) {
    size_t n = strlen(w->log);
    va_list args;
    va_start(args, format);
    vsnprintf(w->log + n, sizeof(w->log) - n, format, args);
    va_end(args);
    n = strlen(w->log);
    size_t m = w->until != NULL ? strlen(w->until) : 0;
    if (m > 0 && n >= m && strcmp(w->log + n - m, w->until) == 0) {
        loop_stop(w->loop);
    }
}

static void heard(struct world *w, const struct message *m) {
    switch (m->kind) {
    case MESSAGE_OPEN:
        note(w, "open(%.*s,%.*s) ", SLICE_FMT(m->open.producer), SLICE_FMT(m->open.model));
        break;
    case MESSAGE_APPEND: {
        char rows[512];
        slice_copy(m->append.records, rows, sizeof(rows));
        for (char *c = rows; *c != '\0'; c++) {
            *c = *c == '\n' ? ';' : *c;
        }
        note(w, "append(%llu,%llu,%s) ", (unsigned long long)m->append.first_seq,
             (unsigned long long)m->append.count, rows);
        break;
    }
    case MESSAGE_FLUSH:
        note(w, "flush ");
        break;
    case MESSAGE_SUBSCRIBE:
        note(w, "subscribe(%.*s,%llu) ", SLICE_FMT(m->subscribe.consumer),
             (unsigned long long)m->subscribe.credit);
        break;
    case MESSAGE_ACK:
        note(w, "ack(%llu,%llu) ", (unsigned long long)m->ack.partition,
             (unsigned long long)m->ack.upto);
        break;
    case MESSAGE_PONG:
        note(w, "pong(%llu) ", (unsigned long long)m->pong.time);
        break;
    default:
        break; // BYE of a dialogue that ends
    }
}

static void on_readable(void *arg) {
    struct world *w = arg;
    char route[256], frame[65536];
    int n_route;
    while ((n_route = zmq_recv(w->router, route, sizeof(route), ZMQ_DONTWAIT)) >= 0) {
        int n = zmq_recv(w->router, frame, sizeof(frame), 0);
        assert_in_range(n, 0, sizeof(frame));
        memcpy(w->route, route, (size_t)n_route);
        w->n_route = (size_t)n_route;
        struct message message;
        struct error why = {0};
        assert_int_equal(message_unpack((struct slice){frame, (size_t)n}, &message, &why), 0);
        heard(w, &message);
    }
}

static void say(struct world *w, const struct message *message) {
    struct buf frame;
    buf_init(&frame, FRAME_MAX_BYTES);
    assert_int_equal(message_pack(message, &frame), 0);
    assert_true(zmq_send(w->router, w->route, w->n_route, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(w->router, frame.p, frame.n, 0) >= 0);
    buf_free(&frame);
}

static void coordinator_starts(struct world *w) {
    w->router = zmq_socket(w->zmq, ZMQ_ROUTER);
    int linger = 0;
    zmq_setsockopt(w->router, ZMQ_LINGER, &linger, sizeof(linger));
    assert_int_equal(zmq_bind(w->router, w->address), 0);
    w->watch = loop_add_socket(w->loop, w->router, on_readable, NULL, w);
}

static void coordinator_ends(struct world *w) {
    loop_remove_socket(w->watch);
    zmq_close(w->router);
}

static void on_deadline(void *arg) {
    struct world *w = arg;
    print_message("waited for '%s', got '%s'\n", w->until, w->log);
    loop_stop(w->loop);
}

// run_until runs the loop until the log ends with text; the log begins anew.
static void run_until(struct world *w, const char *text, const char *want) {
    w->until = text;
    size_t n = strlen(w->log), m = strlen(text);
    if (n < m || strcmp(w->log + n - m, text) != 0) {
        loop_timer_start(w->deadline, DEADLINE_MS, 0);
        loop_run(w->loop);
        loop_timer_stop(w->deadline);
    }
    assert_string_equal(w->log, want);
    w->log[0] = '\0';
    w->until = NULL;
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof(*w));
    const char *tmp = getenv("TMPDIR");
    snprintf(w->folder, sizeof(w->folder), "%s/dialogue_XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->address, sizeof(w->address), "ipc://%s/s", w->folder);
    w->loop = loop_new();
    w->zmq = zmq_ctx_new();
    w->deadline = loop_add_timer(w->loop, on_deadline, w);
    coordinator_starts(w);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    sender_free(w->sender);
    taker_free(w->taker);
    coordinator_ends(w);
    loop_free(w->loop);
    zmq_ctx_term(w->zmq);
    char path[256];
    snprintf(path, sizeof(path), "%s/s", w->folder);
    unlink(path);
    rmdir(w->folder);
    free(w);
    return 0;
}

// ---- Sender -------------------------------------------------------------------------------------

static void on_room(void *arg) {
    struct world *w = arg;
    note(w, "room(%llu,%llu) ", (unsigned long long)sender_room(w->sender),
         (unsigned long long)sender_acked(w->sender));
}

static void on_refused(void *arg, struct slice code, struct slice message) {
    note(arg, "refused(%.*s) ", SLICE_FMT(code));
}

static void start_sender(struct world *w) {
    struct sender_config config = {
        .address = w->address, .name = "p", .model = "m", .id_column = "", .key_column = ""};
    struct sender_handlers handlers = {.on_room = on_room, .on_refused = on_refused, .arg = w};
    struct error why = {0};
    w->sender = sender_new(w->loop, w->zmq, &config, &handlers, &why);
    assert_non_null(w->sender);
}

static void say_opened(struct world *w, uint64_t upto, uint64_t limit) {
    say(w, &(struct message){.kind = MESSAGE_OPENED, .opened = {.upto = upto, .limit = limit}});
}

static void say_acked(struct world *w, uint64_t upto, uint64_t limit) {
    say(w, &(struct message){.kind = MESSAGE_ACKED, .acked = {.upto = upto, .limit = limit}});
}

static void test_sender_keeps_to_the_limit(void **state) {
    struct world *w = *state;
    start_sender(w);
    run_until(w, "open(p,m) ", "open(p,m) ");
    assert_int_equal(sender_room(w->sender), 0);
    say_opened(w, 0, 3);
    run_until(w, "room(3,0) ", "room(3,0) ");
    assert_int_equal(sender_add(w->sender, SLICE_LIT("{1}")), 1);
    assert_int_equal(sender_add(w->sender, SLICE_LIT("{2}")), 2);
    sender_push(w->sender);
    assert_int_equal(sender_add(w->sender, SLICE_LIT("{3}")), 3);
    sender_end(w->sender);
    assert_int_equal(sender_room(w->sender), 0);
    run_until(w, "flush ", "append(1,2,{1};{2};) append(3,1,{3};) flush ");
    say_acked(w, 3, 3);
    run_until(w, "room(0,3) ", "room(0,3) ");
}

static void test_sender_sends_the_rest_again(void **state) {
    struct world *w = *state;
    start_sender(w);
    run_until(w, "open(p,m) ", "open(p,m) ");
    say_opened(w, 0, 100);
    run_until(w, "room(100,0) ", "room(100,0) ");
    for (int i = 0; i < 4; i++) {
        sender_add(w->sender, slice_of((const char *[]){"{1}", "{2}", "{3}", "{4}"}[i]));
    }
    sender_push(w->sender);
    run_until(w, "{4};) ", "append(1,4,{1};{2};{3};{4};) ");
    coordinator_ends(w);
    coordinator_starts(w); // another one, which knows the first row, and has room for two more
    run_until(w, "open(p,m) ", "open(p,m) ");
    say_opened(w, 1, 3);
    run_until(w, "{3};) ", "room(0,1) append(2,2,{2};{3};) ");
    say_acked(w, 3, 10);
    run_until(w, "{4};) ", "room(6,3) append(4,1,{4};) ");
}

static void test_sender_skips_what_was_accepted(void **state) {
    struct world *w = *state;
    start_sender(w);
    run_until(w, "open(p,m) ", "open(p,m) ");
    say_opened(w, 2, 100);
    run_until(w, "room(100,2) ", "room(100,2) ");
    assert_int_equal(sender_add(w->sender, SLICE_LIT("{1}")), 1);
    assert_int_equal(sender_add(w->sender, SLICE_LIT("{2}")), 2);
    assert_int_equal(sender_add(w->sender, SLICE_LIT("{3}")), 3);
    sender_push(w->sender);
    run_until(w, "{3};) ", "append(3,1,{3};) ");
    assert_int_equal(sender_accepted(w->sender), 2);
}

static void test_sender_and_refusals(void **state) {
    struct world *w = *state;
    start_sender(w);
    run_until(w, "open(p,m) ", "open(p,m) ");
    say(w, &(struct message){.kind = MESSAGE_REFUSED,
                             .refused = {.code = SLICE_LIT("starting"), .message = SLICE_LIT("x")}});
    run_until(w, "open(p,m) ", "open(p,m) "); // said again
    say(w, &(struct message){.kind = MESSAGE_REFUSED,
                             .refused = {.code = SLICE_LIT("unknown-model"), .message = SLICE_LIT("x")}});
    run_until(w, "refused(unknown-model) ", "refused(unknown-model) ");
}

static void test_sender_notices_lost_rows(void **state) {
    struct world *w = *state;
    start_sender(w);
    run_until(w, "open(p,m) ", "open(p,m) ");
    say_opened(w, 0, 100);
    run_until(w, "room(100,0) ", "room(100,0) ");
    sender_add(w->sender, SLICE_LIT("{1}"));
    sender_push(w->sender);
    run_until(w, "{1};) ", "append(1,1,{1};) ");
    say_acked(w, 1, 100);
    run_until(w, "room(99,1) ", "room(99,1) ");
    coordinator_ends(w);
    coordinator_starts(w);
    run_until(w, "open(p,m) ", "open(p,m) ");
    say_opened(w, 0, 100); // ACKED, and forgotten
    run_until(w, "refused(lost) ", "refused(lost) ");
}

// ---- Taker --------------------------------------------------------------------------------------

static void on_result(void *arg, uint32_t partition, uint64_t oseq, struct slice json) {
    note(arg, "%u:%llu=%.*s ", partition, (unsigned long long)oseq, SLICE_FMT(json));
}

static void start_taker(struct world *w) {
    struct taker_config config = {.address = w->address, .name = "c", .credit = 10};
    struct taker_handlers handlers = {.on_result = on_result, .on_refused = on_refused, .arg = w};
    struct error why = {0};
    w->taker = taker_new(w->loop, w->zmq, &config, &handlers, &why);
    assert_non_null(w->taker);
    run_until(w, "subscribe(c,10) ", "subscribe(c,10) ");
    say(w, &(struct message){.kind = MESSAGE_SUBSCRIBED, .subscribed.partitions = 2});
}

static void say_results(struct world *w, uint64_t partition, uint64_t first, uint64_t count,
                        const char *lines) {
    say(w, &(struct message){.kind = MESSAGE_RESULTS,
                             .results = {.partition = partition, .first_oseq = first, .count = count,
                                         .results = slice_of(lines)}});
}

static void test_taker_hands_on_once(void **state) {
    struct world *w = *state;
    start_taker(w);
    say_results(w, 1, 5, 2, "{a}\n{b}\n");
    run_until(w, "1:6={b} ", "1:5={a} 1:6={b} ");
    taker_ack(w->taker, 1, 5);
    taker_push(w->taker);
    run_until(w, "ack(1,5) ", "ack(1,5) ");
    coordinator_ends(w);
    coordinator_starts(w);
    run_until(w, "subscribe(c,10) ", "subscribe(c,10) ");
    taker_ack(w->taker, 1, 6); // used meanwhile, but not sent since: must not be acked yet
    taker_push(w->taker);
    say(w, &(struct message){.kind = MESSAGE_SUBSCRIBED, .subscribed.partitions = 2});
    say_results(w, 1, 6, 2, "{b}\n{c}\n");
    run_until(w, "1:7={c} ", "1:7={c} ");
    taker_push(w->taker);
    run_until(w, "ack(1,6) ", "ack(1,6) ");
    assert_int_equal(taker_dropped(w->taker), 1);
}

static void test_taker_notices_a_gap(void **state) {
    struct world *w = *state;
    start_taker(w);
    say_results(w, 0, 1, 1, "{a}\n");
    say_results(w, 0, 3, 1, "{c}\n");
    run_until(w, "refused(gap) ", "0:1={a} refused(gap) ");
}

static void test_taker_counts_lines(void **state) {
    struct world *w = *state;
    start_taker(w);
    say_results(w, 0, 1, 2, "{a}\n");
    run_until(w, "refused(bad-message) ", "0:1={a} refused(bad-message) ");
}

static void test_ping_is_answered(void **state) {
    struct world *w = *state;
    start_taker(w);
    say(w, &(struct message){.kind = MESSAGE_PING, .ping.time = 7});
    run_until(w, "pong(7) ", "pong(7) ");
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_sender_keeps_to_the_limit),   CASE(test_sender_sends_the_rest_again),
        CASE(test_sender_skips_what_was_accepted), CASE(test_sender_and_refusals),
        CASE(test_sender_notices_lost_rows),    CASE(test_taker_hands_on_once),
        CASE(test_taker_notices_a_gap),         CASE(test_taker_counts_lines),
        CASE(test_ping_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
