// What a request to an API is answered with. Invariant: it depends on the request, the seed and the
// request's number alone. Called by serve for requests, and by the jobs for their lines.
#include "tests/provider/respond.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/provider/api.h"
#include "tests/provider/completion.h"

#include <stdlib.h>
#include <string.h>

#define SLOW_CHUNK_BYTES 16
#define SLOW_CHUNK_MS    20
#define JITTER_SALT      1

enum tell_style respond_style(const struct respond *r, const struct job *job) {
    bool own = job->api != NULL && job->api->style != TELL_OPENAI;
    return own ? job->api->style : r->setup->style;
}

// is_plain says whether errors have OpenAI's shape.
static bool is_plain(const struct job *job) {
    return job->api == NULL || job->api->style == TELL_OPENAI;
}

int64_t respond_delay(const struct respond *r, const struct job *job, size_t n_items) {
    const struct provider_options *o = r->options;
    int64_t jitter = o->jitter > 0
                         ? (int64_t)(fault_random((uint64_t)o->seed, job->n, JITTER_SALT) %
                                     (uint64_t)(o->jitter + 1))
                         : 0;
    return o->latency + o->item_latency * (int64_t)n_items + jitter;
}

// --- errors --------------------------------------------------------------------------------------

void respond_error(const struct respond *r, const struct job *job, int status, const char *type,
                   const char *code, const char *message, bool delay, struct httpd_reply *reply) {
    reply->after_ms = respond_delay(r, job, 0);
    if (!is_plain(job)) {
        tell_error(job->api->style, status, message, r->options->retry_after, delay, job->id,
                   reply);
        return;
    }
    reply->status = status;
    reply->type = "application/json";
    buf_init(&reply->body, RESPOND_MAX);
    bool plain = job->api != NULL && job->api->plain_errors;
    int rc = buf_add_str(&reply->body, plain ? "{\"error\":" : "{\"error\":{\"message\":");
    rc = rc != 0 ? rc : json_add_string(&reply->body, slice_of(message));
    rc = rc != 0 ? rc
         : plain ? buf_add_byte(&reply->body, '}')
                 : buf_addf(&reply->body, ",\"type\":\"%s\",\"param\":null,\"code\":%s%s%s}}", type,
                            code != NULL ? "\"" : "", code != NULL ? code : "null",
                            code != NULL ? "\"" : "");
    (void)rc; // a few hundred bytes
    if (delay) {
        long long ms = (long long)r->options->retry_after;
        httpd_reply_header(reply, "retry-after", "%lld", (ms + 999) / 1000);
        httpd_reply_header(reply, "retry-after-ms", "%lld", ms);
    }
}

void respond_html(int status, struct httpd_reply *reply) {
    const char *what = status == 413 ? "413 Request Entity Too Large" : "502 Bad Gateway";
    reply->status = status;
    reply->type = "text/html";
    buf_init(&reply->body, RESPOND_MAX);
    int rc = buf_addf(&reply->body,
                      "<html><head><title>%s</title></head><body><h1>%s</h1></body></html>\n", what,
                      what);
    (void)rc;
}

// make_trouble answers the faults that each provider words in its own way; false for the others.
static bool make_trouble(const struct respond *r, const struct job *job,
                         struct httpd_reply *reply) {
    if (!tell_trouble(respond_style(r, job), job->fault, r->options->retry_after, job->id, reply)) {
        return false;
    }
    reply->after_ms = respond_delay(r, job, 0);
    return true;
}

// make_status answers the faults that are a status of their own; false for the others.
static bool make_status(const struct respond *r, const struct job *job, struct httpd_reply *reply) {
    switch (job->fault) {
    case FAULT_HTTP_400:
        respond_error(r, job, 400, "invalid_request_error", "invalid_prompt",
                      "Invalid prompt: it was flagged.", false, reply);
        return true;
    case FAULT_HTTP_401:
        respond_error(r, job, 401, "invalid_request_error", "invalid_api_key",
                      "Incorrect API key provided.", false, reply);
        return true;
    case FAULT_HTTP_500:
        respond_error(r, job, 500, "server_error", NULL,
                      "The server had an error while processing your request.", false, reply);
        return true;
    case FAULT_HTTP_503:
        respond_error(r, job, 503, "server_error", NULL,
                      "The engine is currently overloaded, please try again later.", false, reply);
        return true;
    case FAULT_HTTP_429:
    case FAULT_HTTP_429_NO_DELAY:
        respond_error(r, job, 429, "requests", "rate_limit_exceeded",
                      "Rate limit reached for requests.", job->fault == FAULT_HTTP_429, reply);
        return true;
    case FAULT_HTML:
        respond_html(502, reply);
        return true;
    case FAULT_HANG:
        return true;
    case FAULT_RESET:
        reply->status = 200;
        reply->ending = HTTPD_RESET;
        reply->after_ms = respond_delay(r, job, 0);
        return true;
    default:
        return make_trouble(r, job, reply);
    }
}

// --- answers -------------------------------------------------------------------------------------

static void make_completion(const struct respond *r, struct job *job, struct chat *chat,
                            struct httpd_reply *reply) {
    buf_init(&reply->body, RESPOND_MAX);
    if (completion_write(job->api, job, chat, (uint64_t)r->options->seed, &reply->body) != 0) {
        buf_free(&reply->body);
        respond_error(r, job, 500, "server_error", NULL, "The answer is too long.", false, reply);
        return;
    }
    reply->status = 200;
    reply->type = "application/json";
    ledger_note(r->ledger, job, chat, true);
    reply->after_ms = respond_delay(r, job, chat->n_slots);
    if (job->fault == FAULT_CUT) {
        reply->ending = HTTPD_CUT;
        reply->cut_at = reply->body.n / 2;
    } else if (job->fault == FAULT_SLOW) {
        reply->chunk = SLOW_CHUNK_BYTES;
        reply->chunk_ms = SLOW_CHUNK_MS;
    }
}

static enum fault poison_of(const struct respond *r, const struct chat *chat) {
    const struct option_list *poison = &r->options->poison;
    for (size_t i = 0; i < poison->n; i++) {
        const char *text = poison->items[i];
        if (text[0] != '\0' && chat->prompt.n > 0 &&
            memmem(chat->prompt.p, chat->prompt.n, text, strlen(text)) != NULL) {
            return r->setup->poison_kind;
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

// say_context tells a prompt's tokens and the context in the vendor's words.
static void say_context(const struct job *job, long long context, size_t n, struct error *why) {
    switch (is_plain(job) ? TELL_OPENAI : job->api->style) {
    case TELL_ANTHROPIC:
        error_set(why, 0, "prompt is too long: %zu tokens > %lld maximum", n, context);
        break;
    case TELL_GEMINI:
        error_set(
            why, 0,
            "The input token count (%zu) exceeds the maximum number of tokens allowed (%lld).", n,
            context);
        break;
    default:
        error_set(why, 0,
                  "This model's maximum context length is %lld tokens. However, your messages "
                  "resulted in "
                  "%zu tokens.",
                  context, n);
        break;
    }
}

// refuse_long answers a prompt that is longer than the context; false if it is not.
static bool refuse_long(const struct respond *r, const struct job *job, const struct chat *chat,
                        struct httpd_reply *reply) {
    int64_t context = r->options->context;
    if (context == 0 || chat->input_tokens <= (size_t)context) {
        return false;
    }
    struct error why = {0};
    say_context(job, (long long)context, chat->input_tokens, &why);
    respond_error(r, job, 400, "invalid_request_error", "context_length_exceeded", why.text, false,
                  reply);
    return true;
}

static const char *schema_words(const struct job *job) {
    switch (is_plain(job) ? TELL_OPENAI : job->api->style) {
    case TELL_ANTHROPIC:
        return "output_config.format: Extra inputs are not permitted";
    case TELL_GEMINI:
        return "Invalid JSON payload received. Unknown name \"responseSchema\" at "
               "'generation_config': "
               "Cannot find field.";
    default:
        return "Invalid parameter: 'response_format' of type 'json_schema' is not supported with "
               "this "
               "model.";
    }
}

// answer_chat answers a request that was read.
static void answer_chat(const struct respond *r, struct slice model, struct job *job,
                        struct chat *chat, respond_admit *admit, void *arg,
                        struct httpd_reply *reply) {
    if (job->api->model_in_path) {
        chat->model = model;
    }
    (void)slice_copy(chat->model, job->model, sizeof(job->model));
    if (chat->schema != NULL && r->options->no_schemas) {
        respond_error(r, job, 400, "invalid_request_error", NULL, schema_words(job), false, reply);
        return;
    }
    if (chat->n_links > 0 && r->options->no_links) {
        respond_error(r, job, 400, "invalid_request_error", NULL, "invalid image input", false, reply);
        return;
    }
    if (refuse_long(r, job, chat, reply)) {
        return;
    }
    enum fault poison = poison_of(r, chat);
    job->fault = poison != FAULT_NONE ? poison
                                      : fault_draw(control_rates(r->control, job->unix_us),
                                                   (uint64_t)r->options->seed, job->n);
    bool refused = admit != NULL && !is_closed(job->fault) && !admit(arg, job, chat, reply);
    if (refused) {
        job->fault = FAULT_NONE; // it never came to it
    }
    if (refused || make_status(r, job, reply)) {
        ledger_note(r->ledger, job, chat, false);
    } else {
        job->input_tokens = chat->input_tokens;
        make_completion(r, job, chat, reply);
    }
}

void respond_to_value(const struct respond *r, struct json_object *root, struct slice model,
                      struct job *job, respond_admit *admit, void *arg, struct httpd_reply *reply) {
    struct chat *chat = mem_alloc(sizeof(*chat)); // chat_read_value sets what is read later
    struct error why = {0};
    if (chat_read_value(job->api, !r->options->lenient, root, chat, &why) != 0) {
        respond_error(r, job, 400, "invalid_request_error", NULL, why.text, false, reply);
    } else {
        answer_chat(r, model, job, chat, admit, arg, reply);
    }
    chat_free(chat);
    free(chat);
}

void respond_to_body(const struct respond *r, struct slice body, struct slice model,
                     struct job *job, respond_admit *admit, void *arg, struct httpd_reply *reply) {
    struct json_object *root = NULL;
    struct error why = {0};
    if (json_parse(body, &root, &why) != 0) {
        respond_error(r, job, 400, "invalid_request_error", NULL, why.text, false, reply);
        return;
    }
    respond_to_value(r, root, model, job, admit, arg, reply);
}
