// What the tests of jobs' steps share: a provider that answers by a script, and a coordinator that says
// one message after another and keeps what comes.
#ifndef HEADRACE_TESTS_UNIT_JOB_CASE_H
#define HEADRACE_TESTS_UNIT_JOB_CASE_H

#include "worker/job.h"

#include "common/clock.h"
#include "common/httpd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "common/secrets.h"
#include "proto/frame.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CASE_DEADLINE_MS 20000
#define CASE_FRAMES 256

#define LINE_1 "hr1-00000000000000000000000000000001-1"
#define LINE_2 "hr1-00000000000000000000000000000002-2"
#define LINE_3 "hr1-00000000000000000000000000000003-1"

#define COLUMNS "INPUT (t STRING) OUTPUT (s STRING)"
// One item of an answer to them, within a JSON string.
#define ITEM(n, word) "{\\\"index\\\":" n ",\\\"s\\\":\\\"" word "\\\"}"

// One request that is expected, and the answer to it.
struct turn {
    const char *want;   // "POST /v1/files": method and path
    const char *has[4]; // each stands in the request's body
    int status;         // 0: the connection is reset
    const char *body;
    const char *type;   // Content-Type; NULL: JSON
    const char *header, *value; // one more header of the answer; "BASE" in value is the server's address
    size_t cut_at;      // the answer ends after so many bytes; 0: it is whole
    bool waits;         // never answered
};

struct fixture {
    struct loop *loop;
    struct httpd *server;
    struct secrets *secrets;
    struct held_cache models;
    struct prompt_step prompt;
    struct parse_step parse;
    struct status status;
    struct jobs *jobs;
    struct loop_timer *watchdog;
    const struct turn *script;
    size_t n_turns;       // taken of it
    char wrong[2048];     // the first thing that was not as the script has it
    char base[64];
    struct buf frames[CASE_FRAMES]; // what the coordinator got
    size_t n_frames, n_read;
    bool deaf;            // the coordinator's socket takes nothing
    const char *query[4]; // what the last request's query must have: name, value, ...
    char last_query[256]; // of the last request: its arguments limit, after, ...
};

static inline void case_wrong(struct fixture *f, const char *what, struct slice got) {
    if (f->wrong[0] == '\0') {
        snprintf(f->wrong, sizeof(f->wrong), "request %zu: want %s, got %.*s", f->n_turns + 1, what,
                 (int)(got.n < 1500 ? got.n : 1500), got.p != NULL ? got.p : "");
    }
}

static inline void case_answer(struct fixture *f, struct httpd_request *request, const struct turn *t) {
    struct httpd_reply reply = {.status = t->status != 0 ? t->status : 200,
                                .type = t->type != NULL ? t->type : "application/json",
                                .ending = t->status == 0 ? HTTPD_RESET : t->cut_at > 0 ? HTTPD_CUT : HTTPD_WHOLE,
                                .cut_at = t->cut_at};
    const char *body = t->body != NULL ? t->body : "";
    buf_init(&reply.body, 1 << 26);
    assert_int_equal(buf_add_str(&reply.body, body), 0);
    if (t->header != NULL) {
        const char *base = strstr(t->value, "BASE");
        httpd_reply_header(&reply, t->header, "%.*s%s%s", base != NULL ? (int)(base - t->value) : 0, t->value,
                           base != NULL ? f->base : "", base != NULL ? base + 4 : t->value);
    }
    httpd_send(request, &reply);
}

static inline void case_on_request(void *arg, struct httpd_request *request) {
    static const char *const arguments[] = {"limit", "after", "after_id", "pageSize", "pageToken", "alt"};
    struct fixture *f = arg;
    const struct turn *t = &f->script[f->n_turns];
    char line[512];
    snprintf(line, sizeof(line), "%.*s %.*s", SLICE_FMT(httpd_method(request)), SLICE_FMT(httpd_path(request)));
    f->last_query[0] = '\0';
    for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++) {
        struct slice value = httpd_query(request, arguments[i]);
        size_t n = strlen(f->last_query);
        if (value.n > 0) {
            snprintf(f->last_query + n, sizeof(f->last_query) - n, "%s%s=%.*s", n > 0 ? "&" : "", arguments[i],
                     SLICE_FMT(value));
        }
    }
    if (t->want == NULL || strcmp(t->want, line) != 0) {
        case_wrong(f, t->want != NULL ? t->want : "no more", slice_of(line));
        httpd_send_text(request, 599, "text/plain", SLICE_LIT("not in the script"));
        return;
    }
    struct slice body = httpd_body(request);
    for (size_t i = 0; i < 4 && t->has[i] != NULL; i++) {
        if (body.p == NULL || memmem(body.p, body.n, t->has[i], strlen(t->has[i])) == NULL) {
            case_wrong(f, t->has[i], body);
        }
    }
    f->n_turns++;
    if (!t->waits) {
        case_answer(f, request, t);
    }
}

static inline int case_send(void *arg, struct slice bytes) {
    struct fixture *f = arg;
    if (f->deaf) {
        return -EAGAIN;
    }
    assert_true(f->n_frames < CASE_FRAMES);
    struct buf *frame = &f->frames[f->n_frames++];
    buf_init(frame, FRAME_MAX_BYTES);
    assert_int_equal(buf_add_slice(frame, bytes), 0);
    loop_stop(f->loop);
    return 0;
}

static inline void case_on_late(void *arg) {
    struct fixture *f = arg;
    loop_stop(f->loop);
}

// case_setup starts all. with: options of model m but 'endpoint' and 'model'; path: of the endpoint.
static inline void case_setup(struct fixture *f, const char *with, const char *path, const char *columns,
                              const struct turn *script) {
    struct error why = {0};
    char sql[4096];
    *f = (struct fixture){.script = script};
    struct httpd_config config = {.on_request = case_on_request, .arg = f, .max_body = 1 << 28};
    setenv("JOB_TEST_KEY", "secret-value", 1);
    f->loop = loop_new();
    f->server = httpd_new(f->loop, "127.0.0.1:0", &config, &why);
    assert_non_null(f->server);
    snprintf(f->base, sizeof(f->base), "http://127.0.0.1:%d", httpd_port(f->server));
    f->secrets = secrets_load(NULL, &why);
    held_init(&f->models, f->secrets, 4);
    prompt_step_init(&f->prompt, 1 << 20, NULL, NULL);
    parse_step_init(&f->parse, NULL, NULL);
    f->watchdog = loop_add_timer(f->loop, case_on_late, f);
    struct jobs_config jobs = {.spool = "", .prompt = &f->prompt, .parse = &f->parse, .models = &f->models,
                               .status = &f->status, .send = case_send, .arg = f};
    f->jobs = jobs_new(f->loop, &jobs);
    snprintf(sql, sizeof(sql),
             "CREATE MODEL m %s WITH (%s, 'endpoint' = '%s%s', 'model' = 'x', 'api_key' = '${JOB_TEST_KEY}');",
             columns, with, f->base, path);
    held_add(&f->models, SLICE_LIT("m"), 1, slice_of(sql));
}

static inline void case_teardown(struct fixture *f) {
    if (f->wrong[0] != '\0') {
        print_error("%s\n", f->wrong);
    }
    assert_string_equal(f->wrong, "");
    jobs_drop(f->jobs);
    held_free(&f->models);
    prompt_step_free(&f->prompt);
    parse_step_free(&f->parse);
    httpd_free(f->server);
    secrets_free(f->secrets);
    loop_free(f->loop);
    for (size_t i = 0; i < f->n_frames; i++) {
        buf_free(&f->frames[i]);
    }
}

// case_say gives a message to the worker's side.
static inline void case_say(struct fixture *f, const struct message *m) {
    struct buf out;
    struct message read;
    struct error why = {0};
    buf_init(&out, FRAME_MAX_BYTES);
    assert_int_equal(message_pack(m, &out), 0);
    if (message_unpack(buf_slice(&out), &read, &why) != 0) {
        fail_msg("%s", why.text);
    }
    if (read.kind == MESSAGE_TAKEN) {
        jobs_on_taken(f->jobs, read.taken.calls);
    } else {
        jobs_on_message(f->jobs, &read, buf_slice(&out));
    }
    buf_free(&out);
}

// case_expect waits for the next message to the coordinator, which must be of a kind.
static inline struct message case_expect(struct fixture *f, enum message_kind kind) {
    struct message m;
    struct error why = {0};
    loop_timer_start(f->watchdog, CASE_DEADLINE_MS, 0);
    while (f->n_read == f->n_frames && f->wrong[0] == '\0') {
        size_t n = f->n_frames;
        loop_run(f->loop);
        if (n == f->n_frames) {
            break;
        }
    }
    loop_timer_stop(f->watchdog);
    if (f->n_read == f->n_frames) {
        fail_msg("no %s came; %s", message_name(kind), f->wrong);
    }
    if (message_unpack(buf_slice(&f->frames[f->n_read++]), &m, &why) != 0) {
        fail_msg("%s", why.text);
    }
    if (m.kind != kind) {
        fail_msg("got %s, want %s; %.*s %.*s", message_name(m.kind), message_name(kind),
                 SLICE_FMT(m.kind == MESSAGE_JOB_DONE ? m.job_done.outcome : SLICE_NONE),
                 SLICE_FMT(m.kind == MESSAGE_JOB_DONE ? m.job_done.detail : SLICE_NONE));
    }
    return m;
}

static inline struct message_job case_job(uint64_t step, const char *order) {
    return (struct message_job){.job = 7, .step = step, .order = slice_of(order), .model = SLICE_LIT("m"),
                                .revision = 1, .name = SLICE_LIT("hr-job-7"), .lines = 3};
}

// case_job_of is about a job that the provider knows.
static inline struct message_job case_job_of(uint64_t step, const char *order, const char *id) {
    struct message_job job = case_job(step, order);
    job.id = slice_of(id);
    return job;
}

static inline void case_order(struct fixture *f, struct message_job job) {
    struct message m = {.kind = MESSAGE_JOB, .job = job};
    case_say(f, &m);
}

// case_pack_line packs a line of count records, whose one column holds text.
static inline void case_pack_line(struct buf *out, const char *name, size_t count, const char *text) {
    struct buf records, values;
    buf_init(&records, 1 << 24);
    buf_init(&values, 1 << 24);
    assert_int_equal(pack_array(&values, 1), 0);
    assert_int_equal(pack_str(&values, slice_of(text)), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(record_pack(&records, i, buf_slice(&values)), 0);
    }
    assert_int_equal(pack_array(out, 4), 0);
    assert_int_equal(pack_str(out, slice_of(name)), 0);
    assert_int_equal(pack_uint(out, count), 0);
    assert_int_equal(pack_bin(out, buf_slice(&records)), 0);
    assert_int_equal(pack_bin(out, SLICE_NONE), 0);
    buf_free(&records);
    buf_free(&values);
}

static inline void case_lines(struct fixture *f, uint64_t step, uint64_t first, uint64_t count, struct slice lines,
                              bool last) {
    struct message m = {.kind = MESSAGE_JOB_LINES};
    m.job_lines = (struct message_job_lines){.job = 7, .step = step, .first = first, .count = count,
                                             .lines = lines, .last = last};
    case_say(f, &m);
}

// case_three_lines sends LINE_1, LINE_2 (two records) and LINE_3 in two messages.
static inline void case_three_lines(struct fixture *f, uint64_t step) {
    struct buf lines;
    buf_init(&lines, 1 << 20);
    case_pack_line(&lines, LINE_1, 1, "one");
    case_pack_line(&lines, LINE_2, 2, "two");
    case_lines(f, step, 0, 2, buf_slice(&lines), false);
    buf_clear(&lines);
    case_pack_line(&lines, LINE_3, 1, "three");
    case_lines(f, step, 2, 1, buf_slice(&lines), true);
    buf_free(&lines);
    assert_int_equal(case_expect(f, MESSAGE_JOB_GOT).job_got.upto, 2);
    assert_int_equal(case_expect(f, MESSAGE_JOB_GOT).job_got.upto, 3);
}

static inline void case_taken(struct fixture *f, uint64_t step, uint64_t upto) {
    struct message m = {.kind = MESSAGE_JOB_TAKEN};
    m.job_taken = (struct message_job_taken){.job = 7, .step = step, .upto = upto};
    case_say(f, &m);
}

// case_done waits for the end of a step and looks at outcome and state.
static inline struct message_job_done case_done(struct fixture *f, const char *outcome, const char *state) {
    struct message_job_done done = case_expect(f, MESSAGE_JOB_DONE).job_done;
    if (!slice_is(done.outcome, outcome) || !slice_is(done.state, state)) {
        fail_msg("got %.*s %.*s: %.*s; want %s %s; %s", SLICE_FMT(done.outcome), SLICE_FMT(done.state),
                 SLICE_FMT(done.detail), outcome, state, f->wrong);
    }
    return done;
}

// How a create can fail, and what the coordinator is told.
struct create_case {
    const char *name;
    struct turn turn; // without what is wanted
    const char *outcome, *state;
    bool sent;
    uint64_t retry_after_ms;
};

// case_create_fails lets it happen. with, path: of case_setup; want: the request; file: of the lines, uploaded, or
// NULL: they go with the request.
static inline void case_create_fails(const struct create_case *c, const char *with, const char *path,
                                     const char *want, const char *file) {
    struct turn script[2] = {c->turn, {0}};
    struct fixture f;
    script[0].want = want;
    case_setup(&f, with, path, COLUMNS, script);
    struct message_job job = case_job(2, "create");
    job.file = slice_of(file);
    case_order(&f, job);
    if (file == NULL) {
        case_three_lines(&f, 2);
    }
    struct message_job_done done = case_expect(&f, MESSAGE_JOB_DONE).job_done;
    if (!slice_is(done.outcome, c->outcome) || !slice_is(done.state, c->state) || done.sent != c->sent ||
        done.retry_after_ms != c->retry_after_ms) {
        fail_msg("%s: got %.*s %.*s sent=%d %llu: %.*s", c->name, SLICE_FMT(done.outcome), SLICE_FMT(done.state),
                 done.sent, (unsigned long long)done.retry_after_ms, SLICE_FMT(done.detail));
    }
    assert_null(memmem(done.detail.p, done.detail.n, "secret-value", 12));
    case_teardown(&f);
}

static inline void assert_slice(struct slice got, const char *want) {
    char text[512];
    slice_copy(got, text, sizeof(text));
    assert_string_equal(text, want);
}

// case_reports reads JOB_ANSWERS as text, a line an answer: "name outcome[ in/out] slot=value ...".
static inline void case_reports(const struct message_job_answers *answers, char *text, size_t size) {
    struct slice rest = answers->reports;
    struct pack_value bin;
    size_t n = 0, at = 0;
    text[0] = '\0';
    while (pack_next(&rest, &bin) == 1) {
        struct message m;
        struct error why = {0};
        assert_int_equal(bin.type, PACK_BIN);
        if (message_unpack(bin.bytes, &m, &why) != 0 || m.kind != MESSAGE_REPORT) {
            fail_msg("%s", why.text);
        }
        at += (size_t)snprintf(text + at, size - at, "%c%.*s %.*s", m.report.line.p[35], SLICE_FMT(slice_sub(m.report.line, 36, 9)),
                               SLICE_FMT(m.report.outcome));
        if (m.report.usage_known) {
            at += (size_t)snprintf(text + at, size - at, " %llu/%llu", (unsigned long long)m.report.input_tokens,
                                   (unsigned long long)m.report.output_tokens);
        }
        struct slice items = m.report.items, payload;
        uint64_t slot;
        enum outcome outcome;
        while (item_next(&items, &slot, &outcome, &payload) == 1) {
            struct buf json;
            buf_init(&json, 1 << 20);
            if (outcome == OUTCOME_OK) {
                assert_int_equal(msgpack_to_json(payload, &json), 0);
            }
            at += (size_t)snprintf(text + at, size - at, " %llu=%s%s", (unsigned long long)slot,
                                   outcome != OUTCOME_OK ? outcome_of(outcome)->text : "", json.p != NULL ? json.p : "");
            buf_free(&json);
        }
        at += (size_t)snprintf(text + at, size - at, "\n");
        n++;
        assert_true(at < size);
    }
    assert_int_equal(n, answers->count);
}

// case_answers waits for JOB_ANSWERS, compares them and says that they are durable.
static inline void case_answers(struct fixture *f, uint64_t step, uint64_t first, const char *want) {
    char text[8192];
    struct message m = case_expect(f, MESSAGE_JOB_ANSWERS);
    assert_int_equal(m.job_answers.first, first);
    case_reports(&m.job_answers, text, sizeof(text));
    assert_string_equal(text, want);
    case_taken(f, step, first + m.job_answers.count);
}

#endif
