// The simulated provider over HTTP. Invariant: each request to the API writes exactly one line to
// the ledger, when it is over: answered, cut, or left by its client. Shapes and errors are those of
// OpenAI's chat completions. Called by main.
#include "tests/provider/serve.h"
#include "common/clock.h"
#include "common/httpd.h"
#include "common/loop.h"
#include "common/mem.h"
#include "tests/provider/answer.h"
#include "tests/provider/api.h"
#include "tests/provider/batches.h"
#include "tests/provider/chat.h"
#include "tests/provider/completion.h"
#include "tests/provider/control.h"
#include "tests/provider/control_batches.h"
#include "tests/provider/ledger.h"
#include "tests/provider/respond.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX         (32u << 20)
#define CLIENTS_MAX      20000

struct serve {
    const struct provider_options *options;
    struct setup setup;
    struct httpd *httpd;
    struct ledger ledger;
    struct quota quota;
    struct control control;
    struct respond respond;
    struct batches batches;
    uint64_t n_requests;
    int64_t n_inflight;
    int64_t epoch_us; // what monotonic time is to be added to for the time since 1970
};

static int64_t now_us(const struct serve *s) {
    return s->epoch_us + clock_us();
}

static void on_turn_end(void *arg) {
    struct serve *s = arg;
    ledger_flush(&s->ledger);
}

static void on_done(void *arg, struct httpd_request *request, size_t sent, bool whole) {
    struct serve *s = arg;
    struct job *job = httpd_state(request);
    if (job == NULL) {
        return;
    }
    s->n_inflight--;
    if (job->admitted) {
        int64_t late = quota_end(&s->quota, job->pool, job->charged_output,
                                  (int64_t)job->output_tokens, now_us(s));
        job->charged_late = job->charged_output == 0;
        job->charged_output += late;
    }
    if (job->api != NULL && job->api->serve != NULL) {
        batches_left(&s->batches, request);
    }
    ledger_add(&s->ledger, job, sent, whole);
    upload_free(job->upload);
    buf_free(&job->records);
    buf_free(&job->batch);
    free(job);
}

// --- replies -------------------------------------------------------------------------------------

static void send_reply(struct serve *s, struct httpd_request *request, struct job *job,
                       struct httpd_reply *reply) {
    job->status = reply->ending == HTTPD_RESET ? 0 : reply->status;
    job->of = reply->from_file ? (size_t)reply->file_n : reply->body.n;
    httpd_reply_header(reply, respond_style(&s->respond, job) == TELL_ANTHROPIC ? "request-id" : "x-request-id", "%s",
                       job->id);
    if (job->pool != NULL) {
        tell_headers(respond_style(&s->respond, job), &s->quota, job->pool, job->unix_us, reply);
    }
    httpd_send(request, reply);
}

static void send_error(struct serve *s, struct httpd_request *request, struct job *job, int status,
                       const char *type, const char *code, const char *message, bool delay) {
    struct httpd_reply reply = {0};
    respond_error(&s->respond, job, status, type, code, message, delay, &reply);
    send_reply(s, request, job, &reply);
}

// admit lets the limits look at a request; false: their 429 answers it.
static bool admit(void *arg, struct job *job, const struct chat *chat, struct httpd_reply *reply) {
    struct serve *s = arg;
    struct quota_ask ask = {.input_tokens = (int64_t)chat->input_tokens,
                             .most_output = chat->max_tokens > 0 ? chat->max_tokens : 0};
    struct quota_refusal refusal = {0};
    job->pool = quota_pool(&s->quota, job->key_hash, chat->model, job->unix_us);
    job->admitted = quota_admit(&s->quota, job->pool, &ask, job->unix_us, &job->charged_output,
                                 &refusal);
    if (job->admitted) {
        job->charged_input = ask.input_tokens;
        return true;
    }
    job->limited = quota_rows[refusal.limit].option;
    tell_refusal(respond_style(&s->respond, job), &refusal, s->quota.config.most[refusal.limit],
                 chat->model, job->id, reply);
    return false;
}

static void serve_chat(struct serve *s, const struct api *api, struct httpd_request *request,
                       struct job *job) {
    struct slice path = httpd_path(request), model = SLICE_NONE;
    size_t head = strlen(api->head), end = strlen(api->end);
    if (api->model_in_path && path.n >= head + end) {
        model = slice_sub(path, head, path.n - head - end);
    }
    struct httpd_reply reply = {0};
    respond_to_body(&s->respond, httpd_body(request), model, job, admit, s, &reply);
    if (reply.status != 0) {
        send_reply(s, request, job, &reply);
    }
}

// --- requests ------------------------------------------------------------------------------------

static struct slice key_of(const struct httpd_request *request) {
    static const char *const names[] = {"Authorization", "x-api-key", "api-key", "x-goog-api-key"};
    struct slice header = SLICE_NONE;
    for (size_t i = 0; header.n == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        header = httpd_header(request, names[i]);
    }
    return slice_starts(header, "Bearer ") ? slice_sub(header, 7, header.n) : header;
}

static struct job *job_new(struct serve *s, struct httpd_request *request) {
    struct job *job = mem_zalloc(sizeof(*job));
    job->n = ++s->n_requests;
    job->price = 1;
    snprintf(job->id, sizeof(job->id), "req_%016" PRIx64,
             fault_random((uint64_t)s->options->seed, job->n, ITEM_SALT));
    job->finish = "";
    job->key_hash = answer_hash(key_of(request));
    (void)slice_copy(httpd_path(request), job->path, sizeof(job->path));
    (void)slice_copy(httpd_header(request, "X-Client-Request-Id"), job->client_id, sizeof(job->client_id));
    buf_init(&job->records, RESPOND_MAX);
    buf_init(&job->batch, RESPOND_MAX);
    s->n_inflight++;
    httpd_set_state(request, job);
    return job;
}

// serve_batches answers a request to an API of files or batches, or leaves that to a job that goes on.
static void serve_batches(struct serve *s, const struct api *api, struct httpd_request *request,
                          struct job *job) {
    struct httpd_reply reply = {0};
    struct batch_call call = {
        .b = &s->batches, .request = request, .job = job, .reply = &reply, .now_us = job->unix_us};
    api->serve(&call);
    if (!call.later) {
        send_reply(s, request, job, &reply);
    }
}

static void on_later(void *arg, struct httpd_request *request, struct job *job,
                     struct httpd_reply *reply) {
    send_reply(arg, request, job, reply);
}

static int on_piece(void *arg, struct httpd_request *request, struct slice piece) {
    (void)arg;
    struct job *job = httpd_state(request);
    upload_add(job->upload, piece);
    return 0;
}

// on_open sees a request before its body: what is long goes to disk.
static void on_open(void *arg, struct httpd_request *request) {
    struct serve *s = arg;
    const struct api *api = api_find(httpd_path(request));
    struct upload *upload = api != NULL && api->open != NULL ? api->open(&s->batches, request) : NULL;
    if (upload != NULL) {
        struct job *job = job_new(s, request);
        job->api = api;
        job->upload = upload;
        httpd_stream(request, on_piece);
    }
}

static void serve_api(struct serve *s, struct httpd_request *request) {
    struct job *job = httpd_state(request);
    job = job != NULL ? job : job_new(s, request);
    job->came_us = clock_us();
    job->unix_us = s->epoch_us + job->came_us;
    struct slice method = httpd_method(request), path = httpd_path(request);
    const struct provider_options *o = s->options;
    const struct api *api = api_find(path);
    job->api = api;
    struct slice key = api != NULL ? api_key_of(api, request) : key_of(request);
    bool open = api != NULL && api->is_open != NULL && api->is_open(request);
    if (o->api_key[0] != '\0' && !open && !slice_is(key, o->api_key)) {
        send_error(s, request, job, 401, "invalid_request_error", "invalid_api_key",
                   "Incorrect API key provided.", false);
    } else if (api != NULL && api->must != NULL && httpd_header(request, api->must).n == 0) {
        struct error why = {0};
        error_set(&why, 0, "%s: header is required", api->must);
        send_error(s, request, job, 400, "invalid_request_error", NULL, why.text, false);
    } else if (o->concurrency > 0 && s->n_inflight > o->concurrency) {
        send_error(s, request, job, 429, "requests", "rate_limit_exceeded",
                   "Too many requests at once.", true);
    } else if (slice_is(path, "/v1/models") && slice_is(method, "GET")) {
        struct httpd_reply reply = {.status = 200, .type = "application/json"};
        buf_init(&reply.body, RESPOND_MAX);
        int rc = buf_add_str(&reply.body, "{\"object\":\"list\",\"data\":[{\"id\":\"simulated\","
                                          "\"object\":\"model\",\"owned_by\":\"headrace\"}]}");
        (void)rc;
        send_reply(s, request, job, &reply);
    } else if (api == NULL) {
        send_error(s, request, job, 404, "invalid_request_error", NULL, "Unknown request URL.",
                   false);
    } else if (api->serve != NULL) {
        serve_batches(s, api, request, job);
    } else if (!slice_is(method, "POST")) {
        send_error(s, request, job, 405, "invalid_request_error", NULL, "Not allowed: want POST.",
                   false);
    } else {
        serve_chat(s, api, request, job);
    }
}

static void on_request(void *arg, struct httpd_request *request) {
    struct serve *s = arg;
    if (slice_is(httpd_path(request), "/health")) {
        httpd_send_text(request, 200, "application/json", SLICE_LIT("{\"status\":\"ok\"}"));
        return;
    }
    if (s->options->control && slice_is(httpd_path(request), "/control")) {
        control_serve(&s->control, request, now_us(s));
        return;
    }
    if (s->options->control && slice_is(httpd_path(request), "/control/batches")) {
        control_batches_serve(&s->batches, request, now_us(s));
        return;
    }
    serve_api(s, request);
}

// --- life ----------------------------------------------------------------------------------------

static int read_options(struct serve *s, struct error *why) {
    const char *bind = s->options->bind;
    bool loopback = strncmp(bind, "127.", 4) == 0 || strncmp(bind, "[::1]:", 6) == 0 ||
                    strncmp(bind, "localhost:", 10) == 0 || strchr(bind, ':') == NULL || bind[0] == ':';
    if (s->options->control && !loopback) {
        return error_set(why, -EINVAL, "--control: got --bind '%s', want a loopback address", bind);
    }
    int rc = setup_read(s->options, &s->setup, why);
    return rc != 0 ? rc : ledger_open(&s->ledger, s->options->ledger, why);
}

struct serve *serve_new(struct loop *loop, const struct provider_options *options,
                        struct error *why) {
    struct serve *s = mem_zalloc(sizeof(*s));
    s->options = options;
    s->ledger.fd = -1;
    s->epoch_us = clock_unix_ms() * 1000 - clock_us();
    struct httpd_config config = {.on_request = on_request,
                                  .on_done = on_done,
                                  .on_open = on_open,
                                  .arg = s,
                                  .max_body = BODY_MAX,
                                  .max_clients = CLIENTS_MAX};
    if (read_options(s, why) == 0) {
        quota_init(&s->quota, &s->setup.limits);
        s->control = (struct control){.quota = &s->quota, .rates = s->setup.rates};
        s->respond = (struct respond){
            .options = options, .setup = &s->setup, .control = &s->control, .ledger = &s->ledger};
        batches_init(&s->batches, loop, &s->respond, &s->ledger, s->epoch_us, on_later, s);
        s->control.batch_faults = &s->batches.jobs.faults;
        s->httpd = httpd_new(loop, options->bind, &config, why);
    }
    if (s->httpd == NULL) {
        serve_free(s);
        return NULL;
    }
    loop_at_turn_end(loop, on_turn_end, s);
    return s;
}

void serve_free(struct serve *serve) {
    if (serve == NULL) {
        return;
    }
    httpd_free(serve->httpd);
    batches_free(&serve->batches);
    ledger_close(&serve->ledger);
    quota_free(&serve->quota);
    free(serve);
}

int serve_port(const struct serve *serve) {
    return httpd_port(serve->httpd);
}
