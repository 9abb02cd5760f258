// What a provider tells of its limits and troubles. Invariant: headers tell the state after the request
// that they answer was charged. Called by serve.
#include "tests/provider/tell.h"
#include "common/json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define BODY_MAX      (64u << 10)
#define THOUSAND      1000
#define HINT_MOST_MS  60000 // Gemini's delay is of no use once a day's limit is reached

enum tell_style tell_style_find(struct slice name) {
    static const char *const names[TELL_STYLES] = {
        [TELL_OPENAI] = "openai", [TELL_AZURE] = "azure", [TELL_ANTHROPIC] = "anthropic",
        [TELL_GEMINI] = "gemini", [TELL_NONE] = "none",
    };
    int i = 0;
    while (i < TELL_STYLES && !slice_is(name, names[i])) {
        i++;
    }
    return (enum tell_style)i;
}

// --- headers -------------------------------------------------------------------------------------

static int64_t ms_up(int64_t us) {
    return (us + 999) / 1000;
}

static int64_t seconds_up(int64_t us) {
    return (us + 999999) / 1000000;
}

void tell_duration(int64_t us, char *into, size_t size) {
    long long ms = ms_up(us), h = ms / 3600000, m = ms / 60000 % 60, s = ms / 1000 % 60;
    char seconds[32];
    snprintf(seconds, sizeof(seconds), "%lld.%03lld", s, ms % 1000);
    size_t n = strlen(seconds);
    while (seconds[n - 1] == '0') {
        n--;
    }
    seconds[seconds[n - 1] == '.' ? n - 1 : n] = '\0';
    if (ms > 0 && ms < 1000) {
        snprintf(into, size, "%lldms", ms);
    } else if (h > 0) {
        snprintf(into, size, "%lldh%lldm%ss", h, m, seconds);
    } else if (m > 0) {
        snprintf(into, size, "%lldm%ss", m, seconds);
    } else {
        snprintf(into, size, "%ss", seconds);
    }
}

// What is told of one limit.
struct view {
    int64_t most, left, full_us;
};

// look finds the first of two limits that there is; false if there is neither.
static bool look(struct quota *quota, struct quota_pool *pool, enum limit first, enum limit second,
                 int64_t now_us, struct view *view) {
    enum limit limit = quota->config.most[first] > 0 ? first : second;
    *view = (struct view){.most = quota->config.most[limit]};
    if (view->most == 0) {
        return false;
    }
    view->left = quota_left(quota, pool, limit, now_us);
    view->full_us = meter_full_us(&pool->meters[limit], now_us);
    return true;
}

// The names of one limit's headers.
struct names {
    const char *limit, *remaining, *reset;
};

static void add_openai(struct httpd_reply *reply, const struct names *names, const struct view *view,
                       bool seconds) {
    char reset[32];
    if (seconds) {
        snprintf(reset, sizeof(reset), "%lld", (long long)seconds_up(view->full_us));
    } else {
        tell_duration(view->full_us, reset, sizeof(reset));
    }
    httpd_reply_header(reply, names->limit, "%lld", (long long)view->most);
    httpd_reply_header(reply, names->remaining, "%lld", (long long)view->left);
    httpd_reply_header(reply, names->reset, "%s", reset);
}

static void tell_openai(struct quota *quota, struct quota_pool *pool, int64_t now_us, bool seconds,
                        struct httpd_reply *reply) {
    static const struct names requests = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
                                          "x-ratelimit-reset-requests"};
    static const struct names tokens = {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
                                        "x-ratelimit-reset-tokens"};
    struct view view;
    if (look(quota, pool, LIMIT_RPM, LIMIT_RPD, now_us, &view)) {
        add_openai(reply, &requests, &view, seconds);
    }
    if (look(quota, pool, LIMIT_TPM, LIMIT_TPD, now_us, &view)) {
        add_openai(reply, &tokens, &view, seconds);
    }
}

static void add_anthropic(struct httpd_reply *reply, const struct names *names, const struct view *view,
                          int64_t round, int64_t now_us) {
    time_t reset = (time_t)seconds_up(now_us + view->full_us);
    struct tm tm;
    char text[32];
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&reset, &tm));
    httpd_reply_header(reply, names->limit, "%lld", (long long)view->most);
    httpd_reply_header(reply, names->remaining, "%lld",
                       (long long)((view->left + round / 2) / round * round));
    httpd_reply_header(reply, names->reset, "%s", text);
}

#define ANTHROPIC_NAMES(of) \
    {"anthropic-ratelimit-" of "-limit", "anthropic-ratelimit-" of "-remaining", \
     "anthropic-ratelimit-" of "-reset"}

static void tell_anthropic(struct quota *quota, struct quota_pool *pool, int64_t now_us,
                           struct httpd_reply *reply) {
    static const struct names requests = ANTHROPIC_NAMES("requests"), tokens = ANTHROPIC_NAMES("tokens"),
                              input = ANTHROPIC_NAMES("input-tokens"),
                              output = ANTHROPIC_NAMES("output-tokens");
    struct view view, tight = {0};
    if (look(quota, pool, LIMIT_RPM, LIMIT_RPD, now_us, &view)) {
        add_anthropic(reply, &requests, &view, 1, now_us);
    }
    if (look(quota, pool, LIMIT_ITPM, LIMIT_ITPM, now_us, &view)) {
        add_anthropic(reply, &input, &view, THOUSAND, now_us);
        tight = view;
    }
    if (look(quota, pool, LIMIT_OTPM, LIMIT_OTPM, now_us, &view)) {
        add_anthropic(reply, &output, &view, THOUSAND, now_us);
        bool tighter = (double)view.left * (double)tight.most < (double)tight.left * (double)view.most;
        tight = tight.most == 0 || tighter ? view : tight;
    }
    if (look(quota, pool, LIMIT_TPM, LIMIT_TPD, now_us, &view) || tight.most > 0) {
        add_anthropic(reply, &tokens, view.most > 0 ? &view : &tight, THOUSAND, now_us);
    }
}

void tell_headers(enum tell_style style, struct quota *quota, struct quota_pool *pool, int64_t now_us,
                  struct httpd_reply *reply) {
    switch (style) {
    case TELL_OPENAI:
    case TELL_AZURE:
        tell_openai(quota, pool, now_us, style == TELL_AZURE, reply);
        break;
    case TELL_ANTHROPIC:
        tell_anthropic(quota, pool, now_us, reply);
        break;
    default:
        break;
    }
}

// --- a limit's 429 -------------------------------------------------------------------------------

// word_openai writes the message of OpenAI's error.
static int word_openai(const struct quota_refusal *r, int64_t most, struct slice model, bool hint,
                       struct buf *message) {
    char name[128], delay[32];
    (void)slice_copy(model, name, sizeof(name));
    tell_duration(r->wait_us, delay, sizeof(delay));
    int rc = buf_addf(message, "%s for %s in organization org-simulated on %s: Limit %lld, ",
                      r->wait_us < 0 ? "Request too large" : "Rate limit reached", name,
                      quota_rows[r->limit].words, (long long)most);
    if (rc == 0 && r->wait_us < 0) {
        return buf_addf(message, "Requested %lld. The input or output tokens must be reduced.",
                        (long long)r->asked);
    }
    return rc != 0 ? rc
                   : buf_addf(message, "Used %lld, Requested %lld.%s%s%s", (long long)r->used,
                              (long long)r->asked, hint ? " Please try again in " : "",
                              hint ? delay : "", hint ? "." : "");
}

static int refuse_openai(const struct quota_refusal *r, int64_t most, struct slice model, bool hint,
                         struct buf *body) {
    struct buf message = {.max = BODY_MAX};
    enum limit_kind kind = quota_rows[r->limit].kind;
    bool requests = kind == LIMIT_OF_REQUESTS || kind == LIMIT_OF_OPEN;
    int rc = word_openai(r, most, model, hint, &message);
    rc = rc != 0 ? rc : buf_add_str(body, "{\"error\":{\"message\":");
    rc = rc != 0 ? rc : json_add_string(body, buf_slice(&message));
    rc = rc != 0 ? rc
                 : buf_addf(body, ",\"type\":\"%s\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}",
                            requests ? "requests" : "tokens");
    buf_free(&message);
    return rc;
}

static int refuse_azure(const struct quota_refusal *r, struct buf *body) {
    return buf_addf(body,
                    "{\"error\":{\"code\":\"429\",\"message\":\"Requests to the ChatCompletions_Create "
                    "Operation have exceeded %s rate limit of your current tier. Please retry after "
                    "%lld seconds.\"}}",
                    quota_rows[r->limit].kind == LIMIT_OF_REQUESTS ? "call" : "token",
                    (long long)(r->wait_us < 0 ? 60 : seconds_up(r->wait_us)));
}

static int refuse_anthropic(const struct quota_refusal *r, int64_t most, const char *request_id,
                            struct buf *body) {
    return buf_addf(body,
                    "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"This "
                    "request would exceed your organization's rate limit of %lld %s.\"},"
                    "\"request_id\":\"%s\"}",
                    (long long)most, quota_rows[r->limit].words, request_id);
}

static int refuse_gemini(const struct quota_refusal *r, struct buf *body) {
    const struct limit_row *row = &quota_rows[r->limit];
    int rc = buf_addf(body,
                      "{\"error\":{\"code\":429,\"message\":\"You exceeded your current quota.\","
                      "\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":"
                      "\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{"
                      "\"quotaMetric\":\"generativelanguage.googleapis.com/generate_content_%s\","
                      "\"quotaId\":\"%s\"}]}",
                      row->kind == LIMIT_OF_REQUESTS ? "requests" : "tokens", row->quota);
    int64_t ms = ms_up(r->wait_us);
    ms = row->window == LIMIT_A_DAY && ms > HINT_MOST_MS ? HINT_MOST_MS : ms;
    if (rc == 0 && r->wait_us >= 0) {
        rc = buf_addf(body,
                      ",{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":"
                      "\"%lld.%03llds\"}",
                      (long long)ms / 1000, (long long)ms % 1000);
    }
    return rc != 0 ? rc : buf_add_str(body, "]}}");
}

// add_delay says when to come again; a refusal for ever says nothing.
static void add_delay(enum tell_style style, int64_t wait_us, struct httpd_reply *reply) {
    if (wait_us < 0 || style == TELL_GEMINI || style == TELL_NONE) {
        return;
    }
    long long seconds = (long long)seconds_up(wait_us);
    httpd_reply_header(reply, "retry-after", "%lld", seconds > 0 ? seconds : 1);
    if (style != TELL_ANTHROPIC) {
        httpd_reply_header(reply, "retry-after-ms", "%lld", (long long)ms_up(wait_us));
    }
}

void tell_refusal(enum tell_style style, const struct quota_refusal *refusal, int64_t most,
                  struct slice model, const char *request_id, struct httpd_reply *reply) {
    reply->status = 429;
    reply->type = "application/json";
    buf_init(&reply->body, BODY_MAX);
    int rc = 0;
    switch (style) {
    case TELL_AZURE:
        rc = refuse_azure(refusal, &reply->body);
        break;
    case TELL_ANTHROPIC:
        rc = refuse_anthropic(refusal, most, request_id, &reply->body);
        break;
    case TELL_GEMINI:
        rc = refuse_gemini(refusal, &reply->body);
        break;
    default:
        rc = refuse_openai(refusal, most, model, style == TELL_OPENAI, &reply->body);
        break;
    }
    (void)rc; // a few hundred bytes
    add_delay(style, refusal->wait_us, reply);
}

// --- other troubles ------------------------------------------------------------------------------

struct trouble {
    enum fault fault;
    enum tell_style style;
    int status;
    bool delay;
    const char *body;
};

static const struct trouble troubles[] = {
#define TROUBLE(fault_, style_, status_, delay_, body_) \
    {.fault = FAULT_##fault_, \
     .style = TELL_##style_, \
     .status = status_, \
     .delay = delay_, \
     .body = body_},
#include "tests/provider/trouble.def"
#undef TROUBLE
};

static const struct trouble *find_trouble(enum tell_style style, enum fault fault) {
    const struct trouble *found = NULL;
    for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++) {
        const struct trouble *t = &troubles[i];
        if (t->fault == fault && (t->style == style || t->style == TELL_OPENAI)) {
            found = found == NULL || t->style == style ? t : found;
        }
    }
    return found;
}

bool tell_trouble(enum tell_style style, enum fault fault, int64_t retry_after_ms,
                  const char *request_id, struct httpd_reply *reply) {
    const struct trouble *t = find_trouble(style, fault);
    if (t == NULL) {
        return false;
    }
    const char *id = strstr(t->body, "$ID");
    size_t n = id != NULL ? (size_t)(id - t->body) : strlen(t->body);
    reply->status = t->status;
    reply->type = "application/json";
    buf_init(&reply->body, BODY_MAX);
    int rc = buf_addf(&reply->body, "%.*s%s%s", (int)n, t->body, id != NULL ? request_id : "",
                      id != NULL ? id + strlen("$ID") : "");
    (void)rc; // a few hundred bytes
    if (t->delay) {
        add_delay(style, retry_after_ms * 1000, reply);
    }
    return true;
}

// --- plain errors --------------------------------------------------------------------------------

// What a status of OpenAI's is with the others.
static const struct {
    int status, anthropic_status, gemini_status;
    const char *anthropic, *gemini;
} error_names[] = {
    {400, 400, 400, "invalid_request_error", "INVALID_ARGUMENT"},
    {401, 401, 400, "authentication_error", "INVALID_ARGUMENT"},
    {403, 403, 403, "permission_error", "PERMISSION_DENIED"},
    {404, 404, 404, "not_found_error", "NOT_FOUND"},
    {405, 405, 405, "invalid_request_error", "INVALID_ARGUMENT"},
    {409, 409, 400, "conflict_error", "FAILED_PRECONDITION"},
    {413, 413, 400, "request_too_large", "INVALID_ARGUMENT"},
    {429, 429, 429, "rate_limit_error", "RESOURCE_EXHAUSTED"},
    {503, 529, 503, "overloaded_error", "UNAVAILABLE"},
    {504, 504, 504, "timeout_error", "DEADLINE_EXCEEDED"},
    {500, 500, 500, "api_error", "INTERNAL"}, // and whatever else
};

static int error_anthropic(const char *type, const char *message, const char *request_id,
                           struct buf *body) {
    int rc = buf_addf(body, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", type);
    rc = rc != 0 ? rc : json_add_string(body, slice_of(message));
    return rc != 0 ? rc : buf_addf(body, "},\"request_id\":\"%s\"}", request_id);
}

static int error_gemini(int was, int status, const char *name, const char *message, int64_t ms,
                        bool delay, struct buf *body) {
    int rc = buf_addf(body, "{\"error\":{\"code\":%d,\"message\":", status);
    rc = rc != 0 ? rc : json_add_string(body, slice_of(message));
    rc = rc != 0 ? rc : buf_addf(body, ",\"status\":\"%s\"", name);
    if (rc == 0 && was == 401) {
        rc = buf_add_str(body, ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\","
                               "\"reason\":\"API_KEY_INVALID\"}]");
    } else if (rc == 0 && delay) {
        rc = buf_addf(body,
                      ",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
                      "\"retryDelay\":\"%lld.%03llds\"}]",
                      (long long)ms / 1000, (long long)ms % 1000);
    }
    return rc != 0 ? rc : buf_add_str(body, "}}");
}

void tell_error(enum tell_style style, int status, const char *message, int64_t retry_after_ms,
                bool delay, const char *request_id, struct httpd_reply *reply) {
    size_t i = 0, last = sizeof(error_names) / sizeof(error_names[0]) - 1;
    while (i < last && error_names[i].status != status) {
        i++;
    }
    bool gemini = style == TELL_GEMINI;
    reply->status = gemini ? error_names[i].gemini_status : error_names[i].anthropic_status;
    reply->type = "application/json";
    buf_init(&reply->body, BODY_MAX);
    int rc = gemini ? error_gemini(status, reply->status, error_names[i].gemini, message,
                                   retry_after_ms, delay, &reply->body)
                    : error_anthropic(error_names[i].anthropic, message, request_id, &reply->body);
    (void)rc; // a few hundred bytes
    if (delay) {
        add_delay(style, retry_after_ms * 1000, reply);
    }
}
