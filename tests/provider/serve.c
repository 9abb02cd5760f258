// The simulated provider over HTTP. Invariant: each request to the API writes exactly one line to
// the ledger, when it is over: answered, cut, or left by its client. Shapes and errors are those of
// OpenAI's chat completions. Called by main.
#include "tests/provider/serve.h"
#include "common/clock.h"
#include "common/httpd.h"
#include "common/json.h"
#include "common/loop.h"
#include "common/mem.h"
#include "tests/provider/answer.h"
#include "tests/provider/api.h"
#include "tests/provider/chat.h"
#include "tests/provider/completion.h"
#include "tests/provider/control.h"
#include "tests/provider/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX         (32u << 20)
#define REPLY_MAX        (64u << 20)
#define CLIENTS_MAX      20000
#define SLOW_CHUNK_BYTES 16
#define SLOW_CHUNK_MS    20
#define JITTER_SALT      1

struct serve {
    const struct provider_options *options;
    struct setup setup;
    struct httpd *httpd;
    struct ledger ledger;
    struct quota quota;
    struct control control;
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
    ledger_add(&s->ledger, job, sent, whole);
    buf_free(&job->records);
    free(job);
}

// style_of is how errors and headers are worded: as the API's vendor does, or as --limit-headers says.
static enum tell_style style_of(const struct serve *s, const struct job *job) {
    bool own = job->api != NULL && job->api->style != TELL_OPENAI;
    return own ? job->api->style : s->setup.style;
}

// is_plain says whether errors have OpenAI's shape.
static bool is_plain(const struct job *job) {
    return job->api == NULL || job->api->style == TELL_OPENAI;
}

// --- replies -------------------------------------------------------------------------------------

static int64_t delay_of(const struct serve *s, const struct job *job, size_t n_items) {
    const struct provider_options *o = s->options;
    int64_t jitter = o->jitter > 0
                         ? (int64_t)(fault_random((uint64_t)o->seed, job->n, JITTER_SALT) %
                                     (uint64_t)(o->jitter + 1))
                         : 0;
    return o->latency + o->item_latency * (int64_t)n_items + jitter;
}

static void send_reply(struct serve *s, struct httpd_request *request, struct job *job,
                       struct httpd_reply *reply) {
    job->status = reply->ending == HTTPD_RESET ? 0 : reply->status;
    job->of = reply->body.n;
    httpd_reply_header(reply, style_of(s, job) == TELL_ANTHROPIC ? "request-id" : "x-request-id", "%s",
                       job->id);
    if (job->pool != NULL) {
        tell_headers(style_of(s, job), &s->quota, job->pool, job->unix_us, reply);
    }
    httpd_send(request, reply);
}

// send_error answers in the shape of the API's vendor; type and code are OpenAI's.
static void send_error(struct serve *s, struct httpd_request *request, struct job *job, int status,
                       const char *type, const char *code, const char *message, bool delay) {
    struct httpd_reply reply = {.status = status, .type = "application/json"};
    if (!is_plain(job)) {
        tell_error(job->api->style, status, message, s->options->retry_after, delay, job->id, &reply);
        reply.after_ms = delay_of(s, job, 0);
        send_reply(s, request, job, &reply);
        return;
    }
    buf_init(&reply.body, REPLY_MAX);
    bool plain = job->api != NULL && job->api->plain_errors;
    int rc = buf_add_str(&reply.body, plain ? "{\"error\":" : "{\"error\":{\"message\":");
    rc = rc != 0 ? rc : json_add_string(&reply.body, slice_of(message));
    rc = rc != 0 ? rc
         : plain ? buf_add_byte(&reply.body, '}')
                 : buf_addf(&reply.body, ",\"type\":\"%s\",\"param\":null,\"code\":%s%s%s}}", type,
                            code != NULL ? "\"" : "", code != NULL ? code : "null",
                            code != NULL ? "\"" : "");
    (void)rc; // a few hundred bytes
    if (delay) {
        long long ms = (long long)s->options->retry_after;
        httpd_reply_header(&reply, "retry-after", "%lld", (ms + 999) / 1000);
        httpd_reply_header(&reply, "retry-after-ms", "%lld", ms);
    }
    reply.after_ms = delay_of(s, job, 0);
    send_reply(s, request, job, &reply);
}

static void send_html(struct serve *s, struct httpd_request *request, struct job *job) {
    struct httpd_reply reply = {.status = 502, .type = "text/html"};
    buf_init(&reply.body, REPLY_MAX);
    int rc = buf_add_str(&reply.body, "<html><head><title>502 Bad Gateway</title></head><body>"
                                      "<h1>502 Bad Gateway</h1></body></html>\n");
    (void)rc;
    send_reply(s, request, job, &reply);
}

// send_trouble answers the faults that each provider words in its own way; false for the others.
static bool send_trouble(struct serve *s, struct httpd_request *request, struct job *job) {
    struct httpd_reply reply = {0};
    if (!tell_trouble(style_of(s, job), job->fault, s->options->retry_after, job->id, &reply)) {
        return false;
    }
    reply.after_ms = delay_of(s, job, 0);
    send_reply(s, request, job, &reply);
    return true;
}

// send_status answers the faults that are a status of their own; false for the others.
static bool send_status(struct serve *s, struct httpd_request *request, struct job *job) {
    switch (job->fault) {
    case FAULT_HTTP_400:
        send_error(s, request, job, 400, "invalid_request_error", "invalid_prompt",
                   "Invalid prompt: it was flagged.", false);
        return true;
    case FAULT_HTTP_401:
        send_error(s, request, job, 401, "invalid_request_error", "invalid_api_key",
                   "Incorrect API key provided.", false);
        return true;
    case FAULT_HTTP_500:
        send_error(s, request, job, 500, "server_error", NULL,
                   "The server had an error while processing your request.", false);
        return true;
    case FAULT_HTTP_503:
        send_error(s, request, job, 503, "server_error", NULL,
                   "The engine is currently overloaded, please try again later.", false);
        return true;
    case FAULT_HTTP_429:
    case FAULT_HTTP_429_NO_DELAY:
        send_error(s, request, job, 429, "requests", "rate_limit_exceeded",
                   "Rate limit reached for requests.", job->fault == FAULT_HTTP_429);
        return true;
    case FAULT_HTML:
        send_html(s, request, job);
        return true;
    case FAULT_HANG:
        return true;
    case FAULT_RESET: {
        struct httpd_reply reply = {.status = 200, .ending = HTTPD_RESET};
        reply.after_ms = delay_of(s, job, 0);
        send_reply(s, request, job, &reply);
        return true;
    }
    default:
        return send_trouble(s, request, job);
    }
}

// --- chat completions ----------------------------------------------------------------------------

static void send_completion(struct serve *s, const struct api *api, struct httpd_request *request,
                            struct job *job, struct chat *chat) {
    struct httpd_reply reply = {.status = 200, .type = "application/json"};
    buf_init(&reply.body, REPLY_MAX);
    if (completion_write(api, job, chat, (uint64_t)s->options->seed, &reply.body) != 0) {
        buf_free(&reply.body);
        send_error(s, request, job, 500, "server_error", NULL, "The answer is too long.", false);
        return;
    }
    ledger_note(&s->ledger, job, chat, true);
    reply.after_ms = delay_of(s, job, chat->n_slots);
    if (job->fault == FAULT_CUT) {
        reply.ending = HTTPD_CUT;
        reply.cut_at = reply.body.n / 2;
    } else if (job->fault == FAULT_SLOW) {
        reply.chunk = SLOW_CHUNK_BYTES;
        reply.chunk_ms = SLOW_CHUNK_MS;
    }
    send_reply(s, request, job, &reply);
}

static enum fault poison_of(const struct serve *s, const struct chat *chat) {
    const struct option_list *poison = &s->options->poison;
    for (size_t i = 0; i < poison->n; i++) {
        const char *text = poison->items[i];
        if (text[0] != '\0' && chat->prompt.n > 0 &&
            memmem(chat->prompt.p, chat->prompt.n, text, strlen(text)) != NULL) {
            return s->setup.poison_kind;
        }
    }
    return FAULT_NONE;
}

// is_closed says whether a fault is a refusal at the door: no limit sees the request.
static bool is_closed(enum fault fault) {
    return fault == FAULT_AUTH || fault == FAULT_PERMISSION || fault == FAULT_NO_MODEL ||
           fault == FAULT_QUOTA || fault == FAULT_BILLING || fault == FAULT_SPEND_LIMIT ||
           fault == FAULT_DAILY_LIMIT;
}

// admit lets the limits look at a request; false: it was answered with their 429.
static bool admit(struct serve *s, struct httpd_request *request, struct job *job,
                  const struct chat *chat) {
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
    struct httpd_reply reply = {0};
    tell_refusal(style_of(s, job), &refusal, s->quota.config.most[refusal.limit], chat->model, job->id,
                 &reply);
    send_reply(s, request, job, &reply);
    return false;
}

// say_context tells a prompt's tokens and the context in the vendor's words.
static void say_context(const struct job *job, long long context, size_t n, struct error *why) {
    switch (is_plain(job) ? TELL_OPENAI : job->api->style) {
    case TELL_ANTHROPIC:
        error_set(why, 0, "prompt is too long: %zu tokens > %lld maximum", n, context);
        break;
    case TELL_GEMINI:
        error_set(why, 0, "The input token count (%zu) exceeds the maximum number of tokens allowed (%lld).",
                  n, context);
        break;
    default:
        error_set(why, 0,
                  "This model's maximum context length is %lld tokens. However, your messages resulted in "
                  "%zu tokens.",
                  context, n);
        break;
    }
}

// refuse_long answers a prompt that is longer than the context; false if it is not.
static bool refuse_long(struct serve *s, struct httpd_request *request, struct job *job,
                        const struct chat *chat) {
    int64_t context = s->options->context;
    if (context == 0 || chat->input_tokens <= (size_t)context) {
        return false;
    }
    struct error why = {0};
    say_context(job, (long long)context, chat->input_tokens, &why);
    send_error(s, request, job, 400, "invalid_request_error", "context_length_exceeded", why.text,
               false);
    return true;
}

static const char *schema_words(const struct job *job) {
    switch (is_plain(job) ? TELL_OPENAI : job->api->style) {
    case TELL_ANTHROPIC:
        return "output_config.format: Extra inputs are not permitted";
    case TELL_GEMINI:
        return "Invalid JSON payload received. Unknown name \"responseSchema\" at 'generation_config': "
               "Cannot find field.";
    default:
        return "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
               "model.";
    }
}

static void serve_chat(struct serve *s, const struct api *api, struct httpd_request *request,
                       struct job *job, struct chat *chat) {
    struct error why = {0};
    if (chat_read_as(api, !s->options->lenient, httpd_body(request), chat, &why) != 0) {
        send_error(s, request, job, 400, "invalid_request_error", NULL, why.text, false);
        return;
    }
    if (api->model_in_path) {
        struct slice path = httpd_path(request);
        size_t head = strlen(api->head), end = strlen(api->end);
        chat->model = path.n >= head + end ? slice_sub(path, head, path.n - head - end) : SLICE_NONE;
    }
    (void)slice_copy(chat->model, job->model, sizeof(job->model));
    if (chat->schema != NULL && s->options->no_schemas) {
        send_error(s, request, job, 400, "invalid_request_error", NULL,
                   schema_words(job), false);
        return;
    }
    if (refuse_long(s, request, job, chat)) {
        return;
    }
    enum fault poison = poison_of(s, chat);
    job->fault = poison != FAULT_NONE ? poison
                                      : fault_draw(control_rates(&s->control, job->unix_us),
                                                   (uint64_t)s->options->seed, job->n);
    bool refused = !is_closed(job->fault) && !admit(s, request, job, chat);
    if (refused) {
        job->fault = FAULT_NONE; // it never came to it
    }
    if (refused || send_status(s, request, job)) {
        ledger_note(&s->ledger, job, chat, false);
    } else {
        job->input_tokens = chat->input_tokens;
        send_completion(s, api, request, job, chat);
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
    job->came_us = clock_us();
    job->unix_us = s->epoch_us + job->came_us;
    snprintf(job->id, sizeof(job->id), "req_%016" PRIx64,
             fault_random((uint64_t)s->options->seed, job->n, ITEM_SALT));
    job->finish = "";
    job->key_hash = answer_hash(key_of(request));
    (void)slice_copy(httpd_path(request), job->path, sizeof(job->path));
    (void)slice_copy(httpd_header(request, "X-Client-Request-Id"), job->client_id, sizeof(job->client_id));
    buf_init(&job->records, REPLY_MAX);
    s->n_inflight++;
    httpd_set_state(request, job);
    return job;
}

static void serve_api(struct serve *s, struct httpd_request *request) {
    struct job *job = job_new(s, request);
    struct slice method = httpd_method(request), path = httpd_path(request);
    const struct provider_options *o = s->options;
    const struct api *api = api_find(path);
    job->api = api;
    struct slice key = api != NULL ? api_key_of(api, request) : key_of(request);
    if (o->api_key[0] != '\0' && !slice_is(key, o->api_key)) {
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
        buf_init(&reply.body, REPLY_MAX);
        int rc = buf_add_str(&reply.body, "{\"object\":\"list\",\"data\":[{\"id\":\"simulated\","
                                          "\"object\":\"model\",\"owned_by\":\"headrace\"}]}");
        (void)rc;
        send_reply(s, request, job, &reply);
    } else if (api == NULL) {
        send_error(s, request, job, 404, "invalid_request_error", NULL, "Unknown request URL.",
                   false);
    } else if (!slice_is(method, "POST")) {
        send_error(s, request, job, 405, "invalid_request_error", NULL, "Not allowed: want POST.",
                   false);
    } else {
        struct chat *chat = mem_alloc(sizeof(*chat)); // chat_read sets what is read later
        serve_chat(s, api, request, job, chat);
        chat_free(chat);
        free(chat);
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
                                  .arg = s,
                                  .max_body = BODY_MAX,
                                  .max_clients = CLIENTS_MAX};
    if (read_options(s, why) == 0) {
        quota_init(&s->quota, &s->setup.limits);
        s->control = (struct control){.quota = &s->quota, .rates = s->setup.rates};
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
    ledger_close(&serve->ledger);
    quota_free(&serve->quota);
    free(serve);
}

int serve_port(const struct serve *serve) {
    return httpd_port(serve->httpd);
}
