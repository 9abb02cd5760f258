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
#include "tests/provider/chat.h"
#include "tests/provider/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BODY_MAX         (32u << 20)
#define REPLY_MAX        (64u << 20)
#define LEDGER_MAX       (256u << 20) // lines that wait for the end of the turn
#define LEDGER_FLUSH     (256u << 10) // or for this many bytes
#define CLIENTS_MAX      20000
#define SLOW_CHUNK_BYTES 16
#define SLOW_CHUNK_MS    20
#define JITTER_SALT      1
#define ITEM_SALT        2

struct serve {
    const struct provider_options *options;
    struct fault_rates rates;
    enum fault poison_kind;
    struct httpd *httpd;
    int ledger_fd; // -1: none
    struct buf ledger;
    uint64_t n_requests;
    int64_t n_inflight;
    int64_t start_us;
};

// What is known of one request until its line is written.
struct job {
    uint64_t n; // its number, from 1
    int64_t came_us, came_unix_ms;
    enum fault fault;
    int status; // 0: no answer was meant to be sent
    const char *finish;
    size_t input_tokens, output_tokens, of;
    char path[64];
    char client_id[64]; // X-Client-Request-Id; "": none
    uint64_t key_hash;
    struct buf records; // JSON members: items, indices, records, answered
};

// --- ledger --------------------------------------------------------------------------------------

static void ledger_flush(struct serve *s) {
    size_t at = 0;
    while (s->ledger_fd >= 0 && at < s->ledger.n) {
        ssize_t n = write(s->ledger_fd, s->ledger.p + at, s->ledger.n - at);
        if (n < 0 && errno != EINTR) {
            break;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&s->ledger);
}

static void on_turn_end(void *arg) {
    ledger_flush(arg);
}

// note_records writes down which records a chat asked for, and which got a right item.
static int note_records(const struct chat *chat, bool billed, struct buf *out) {
    int rc = buf_addf(out, "\"items\":%zu,\"indices\":[", chat->n_slots);
    for (size_t i = 0; rc == 0 && i < chat->n_slots; i++) {
        rc = buf_addf(out, "%s%lld", i > 0 ? "," : "", (long long)chat->slots[i].index);
    }
    rc = rc != 0 ? rc : buf_add_str(out, "],\"records\":[");
    for (size_t i = 0; rc == 0 && i < chat->n_slots; i++) {
        rc = buf_addf(out, "%s\"%016" PRIx64 "\"", i > 0 ? "," : "",
                      answer_hash(chat_text(chat, &chat->slots[i])));
    }
    rc = rc != 0 ? rc : buf_add_str(out, "],\"answered\":[");
    bool first = true;
    for (size_t i = 0; rc == 0 && billed && i < chat->n_slots; i++) {
        if (chat->slots[i].item_end > 0) {
            rc = buf_addf(out, "%s%lld", first ? "" : ",", (long long)chat->slots[i].index);
            first = false;
        }
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

static void ledger_add(struct serve *s, const struct job *job, size_t sent, bool whole) {
    const char *fault = fault_name(job->fault);
    const char *quote = fault != NULL ? "\"" : "";
    int rc = buf_addf(&s->ledger,
                      "{\"n\":%" PRIu64 ",\"time_ms\":%lld,\"unix_ms\":%lld,\"took_ms\":%lld,"
                      "\"request_id\":\"req_%016" PRIx64 "\",\"path\":",
                      job->n, (long long)((job->came_us - s->start_us) / 1000),
                      (long long)job->came_unix_ms, (long long)((clock_us() - job->came_us) / 1000),
                      fault_random((uint64_t)s->options->seed, job->n, ITEM_SALT));
    rc = rc != 0 ? rc : json_add_string(&s->ledger, slice_of(job->path));
    rc = rc != 0 ? rc : buf_add_str(&s->ledger, ",\"client_id\":");
    rc = rc != 0 ? rc : json_add_string(&s->ledger, slice_of(job->client_id));
    rc = rc != 0 ? rc
                 : buf_addf(&s->ledger,
                            ",\"key\":\"%016" PRIx64 "\",%s,\"input_tokens\":%zu,"
                            "\"output_tokens\":%zu,\"status\":%d,\"finish\":\"%s\","
                            "\"fault\":%s%s%s,\"sent\":%zu,\"of\":%zu,\"complete\":%s}\n",
                            job->key_hash,
                            job->records.n > 0
                                ? job->records.p
                                : "\"items\":0,\"indices\":[],\"records\":[],\"answered\":[]",
                            job->input_tokens, job->output_tokens, job->status, job->finish, quote,
                            fault != NULL ? fault : "null", quote, sent, job->of,
                            whole ? "true" : "false");
    if (rc != 0 || s->ledger.n > LEDGER_FLUSH) {
        ledger_flush(s);
    }
}

static void on_done(void *arg, struct httpd_request *request, size_t sent, bool whole) {
    struct serve *s = arg;
    struct job *job = httpd_state(request);
    if (job == NULL) {
        return;
    }
    s->n_inflight--;
    if (s->ledger_fd >= 0) {
        ledger_add(s, job, sent, whole);
    }
    buf_free(&job->records);
    free(job);
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
    httpd_reply_header(reply, "x-request-id", "req_%016" PRIx64,
                       fault_random((uint64_t)s->options->seed, job->n, ITEM_SALT));
    httpd_send(request, reply);
}

// send_error answers in OpenAI's shape.
static void send_error(struct serve *s, struct httpd_request *request, struct job *job, int status,
                       const char *type, const char *code, const char *message, bool delay) {
    struct httpd_reply reply = {.status = status, .type = "application/json"};
    buf_init(&reply.body, REPLY_MAX);
    int rc = buf_add_str(&reply.body, "{\"error\":{\"message\":");
    rc = rc != 0 ? rc : json_add_string(&reply.body, slice_of(message));
    rc = rc != 0 ? rc
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
        return false;
    }
}

// --- chat completions ----------------------------------------------------------------------------

static int write_completion(const struct serve *s, const struct job *job, const struct chat *chat,
                            struct slice content, struct buf *out) {
    int rc = buf_addf(out,
                      "{\"id\":\"chatcmpl-%016" PRIx64 "\",\"object\":\"chat.completion\","
                      "\"created\":%lld,\"model\":",
                      fault_random((uint64_t)s->options->seed, job->n, ITEM_SALT),
                      1764000000LL + (long long)job->n); // not the clock: answers can be repeated
    rc = rc != 0 ? rc : json_add_string(out, chat->model);
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",\"choices\":[{\"index\":0,\"finish_reason\":\"%s\",\"logprobs\":null,"
                            "\"message\":{\"role\":\"assistant\",\"content\":",
                            job->finish);
    if (rc == 0) {
        rc = job->fault == FAULT_REFUSAL
                 ? buf_add_str(out, "null,\"refusal\":\"I'm sorry, I cannot help with that.\"")
                 : json_add_string(out, content);
    }
    rc = rc != 0 || job->fault == FAULT_REFUSAL ? rc : buf_add_str(out, ",\"refusal\":null");
    return rc != 0 ? rc
                   : buf_addf(out,
                              ",\"annotations\":[]}}],\"usage\":{\"prompt_tokens\":%zu,"
                              "\"completion_tokens\":%zu,\"total_tokens\":%zu,"
                              "\"prompt_tokens_details\":{\"cached_tokens\":0},"
                              "\"completion_tokens_details\":{\"reasoning_tokens\":0}},"
                              "\"service_tier\":\"default\"}",
                              job->input_tokens, job->output_tokens,
                              job->input_tokens + job->output_tokens);
}

// bound_answer keeps an answer within the caller's max tokens, as a provider does.
static void bound_answer(struct job *job, struct chat *chat, struct buf *content) {
    size_t most = chat->max_tokens > 0 ? (size_t)chat->max_tokens * 4 : SIZE_MAX;
    job->finish = job->fault == FAULT_LENGTH   ? "length"
                  : job->fault == FAULT_FILTER ? "content_filter"
                                               : "stop";
    if (content->n > most) {
        content->n = most;
        job->finish = "length";
        for (size_t i = 0; i < chat->n_slots; i++) {
            chat->slots[i].item_end = chat->slots[i].item_end > most ? 0 : chat->slots[i].item_end;
        }
    }
    job->output_tokens = content->n > 0 ? (content->n + 3) / 4 : 1;
}

static void send_completion(struct serve *s, struct httpd_request *request, struct job *job,
                            struct chat *chat) {
    struct httpd_reply reply = {.status = 200, .type = "application/json"};
    struct buf content;
    buf_init(&content, REPLY_MAX / 8);
    buf_init(&reply.body, REPLY_MAX);
    uint64_t draw = fault_random((uint64_t)s->options->seed, job->n, ITEM_SALT);
    int rc = answer_write(chat, job->fault, draw, &content);
    bound_answer(job, chat, &content);
    rc = rc != 0 ? rc : write_completion(s, job, chat, buf_slice(&content), &reply.body);
    rc = rc != 0 || s->ledger_fd < 0 ? rc : note_records(chat, true, &job->records);
    buf_free(&content);
    if (rc != 0) {
        buf_free(&reply.body);
        send_error(s, request, job, 500, "server_error", NULL, "The answer is too long.", false);
        return;
    }
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
            return s->poison_kind;
        }
    }
    return FAULT_NONE;
}

static void serve_chat(struct serve *s, struct httpd_request *request, struct job *job,
                       struct chat *chat) {
    struct error why = {0};
    if (chat_read(httpd_body(request), chat, &why) != 0) {
        send_error(s, request, job, 400, "invalid_request_error", NULL, why.text, false);
        return;
    }
    int64_t context = s->options->context;
    if (context > 0 && chat->input_tokens > (size_t)context) {
        error_set(&why, 0,
                  "This model's maximum context length is %lld tokens. However, your messages "
                  "resulted in %zu tokens.",
                  (long long)context, chat->input_tokens);
        send_error(s, request, job, 400, "invalid_request_error", "context_length_exceeded",
                   why.text, false);
        return;
    }
    enum fault poison = poison_of(s, chat);
    job->fault =
        poison != FAULT_NONE ? poison : fault_draw(&s->rates, (uint64_t)s->options->seed, job->n);
    if (!send_status(s, request, job)) {
        job->input_tokens = chat->input_tokens;
        send_completion(s, request, job, chat);
    } else if (s->ledger_fd >= 0 && note_records(chat, false, &job->records) != 0) {
        buf_clear(&job->records);
    }
}

// --- requests ------------------------------------------------------------------------------------

static struct slice key_of(const struct httpd_request *request) {
    struct slice header = httpd_header(request, "Authorization");
    return slice_starts(header, "Bearer ") ? slice_sub(header, 7, header.n) : header;
}

static struct job *job_new(struct serve *s, struct httpd_request *request) {
    struct job *job = mem_zalloc(sizeof(*job));
    job->n = ++s->n_requests;
    job->came_us = clock_us();
    job->came_unix_ms = clock_unix_ms();
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
    if (o->api_key[0] != '\0' && !slice_is(key_of(request), o->api_key)) {
        send_error(s, request, job, 401, "invalid_request_error", "invalid_api_key",
                   "Incorrect API key provided.", false);
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
    } else if (!slice_is(path, "/v1/chat/completions")) {
        send_error(s, request, job, 404, "invalid_request_error", NULL, "Unknown request URL.",
                   false);
    } else if (!slice_is(method, "POST")) {
        send_error(s, request, job, 405, "invalid_request_error", NULL, "Not allowed: want POST.",
                   false);
    } else {
        struct chat *chat = mem_alloc(sizeof(*chat)); // chat_read sets what is read later
        serve_chat(s, request, job, chat);
        chat_free(chat);
        free(chat);
    }
}

static void on_request(void *arg, struct httpd_request *request) {
    if (slice_is(httpd_path(request), "/health")) {
        httpd_send_text(request, 200, "application/json", SLICE_LIT("{\"status\":\"ok\"}"));
        return;
    }
    serve_api(arg, request);
}

// --- life ----------------------------------------------------------------------------------------

static int read_options(struct serve *s, struct error *why) {
    const struct provider_options *o = s->options;
    for (size_t i = 0; i < o->faults.n; i++) {
        int rc =
            o->faults.items[i][0] != '\0' ? fault_rates_add(&s->rates, o->faults.items[i], why) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    s->poison_kind = fault_find(slice_of(o->poison_kind));
    if (s->poison_kind == FAULT_NONE) {
        return error_set(why, -EINVAL, "--poison-kind: got '%s', want a kind of --fault",
                         o->poison_kind);
    }
    if (o->ledger[0] != '\0') {
        s->ledger_fd = open(o->ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (s->ledger_fd < 0) {
            return error_set(why, -errno, "--ledger '%s': %s", o->ledger, strerror(errno));
        }
    }
    return 0;
}

struct serve *serve_new(struct loop *loop, const struct provider_options *options,
                        struct error *why) {
    struct serve *s = mem_zalloc(sizeof(*s));
    s->options = options;
    s->ledger_fd = -1;
    s->start_us = clock_us();
    buf_init(&s->ledger, LEDGER_MAX);
    struct httpd_config config = {.on_request = on_request,
                                  .on_done = on_done,
                                  .arg = s,
                                  .max_body = BODY_MAX,
                                  .max_clients = CLIENTS_MAX};
    if (read_options(s, why) == 0) {
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
    ledger_flush(serve);
    if (serve->ledger_fd >= 0) {
        close(serve->ledger_fd);
    }
    buf_free(&serve->ledger);
    free(serve);
}

int serve_port(const struct serve *serve) {
    return httpd_port(serve->httpd);
}
