// Error classes. Invariant: every error gets a row, and with it exactly one outcome; what the provider
// says about trying again (x-should-retry) counts more than a bare status, never more than a code or
// words. Called by the providers' readers.
#include "worker/error_class.h"

#include "common/json.h"
#include "worker/provider.h"
#include "worker/retry_after.h"

#include <stdio.h>
#include <string.h>

#define ANY 0
#define FOR(ID) (1u << PROVIDER_##ID)
#define IN(...) .in = {__VA_ARGS__}
#define FROM(least, most) .low = least, .high = most
#define CODE(text) .code = text
#define STARTS(text) .starts = text
#define HAS(text) .has = text
#define HAS2(text) .has2 = text
#define DETAIL(text) .detail = text
#define DELAY .delay = true
#define NO_DELAY .no_delay = true
#define WAIT(ms) .wait_ms = ms
#define SCHEMA .schema = true

static const struct error_class classes[] = {
#define ERROR(what, who, statuses, OUTCOME, ...)                                                   \
    {.name = what, .providers = who, statuses, .outcome = OUTCOME_##OUTCOME, __VA_ARGS__},
#include "worker/error_class.def"
#undef ERROR
};
#define N_CLASSES (sizeof(classes) / sizeof(classes[0]))

const struct error_class *error_classes(size_t *n) {
    *n = N_CLASSES;
    return classes;
}

static bool status_matches(const struct error_class *row, int status) {
    if (row->in[0] == 0) {
        return status >= row->low && status <= row->high;
    }
    for (size_t i = 0; i < 4; i++) {
        if (row->in[i] == status) {
            return true;
        }
    }
    return false;
}

static bool text_matches(const struct error_class *row, const struct provider_error *e) {
    return (row->code == NULL || slice_is_nocase(e->code, row->code) ||
            slice_is_nocase(e->type, row->code)) &&
           (row->starts == NULL ||
            slice_is_nocase(slice_sub(e->message, 0, strlen(row->starts)), row->starts)) &&
           (row->has == NULL || slice_has_nocase(e->message, row->has)) &&
           (row->has2 == NULL || slice_has_nocase(e->message, row->has2)) &&
           (row->detail == NULL || slice_has_nocase(slice_of(e->detail), row->detail));
}

const struct error_class *error_class_find(enum provider_id id, const struct provider_error *e,
                                           bool delay) {
    for (size_t i = 0; i < N_CLASSES; i++) {
        const struct error_class *row = &classes[i];
        if ((row->providers == 0 || (row->providers & (1u << id)) != 0) &&
            status_matches(row, e->status) && !(row->delay && !delay) && !(row->no_delay && delay) &&
            text_matches(row, e)) {
            return row;
        }
    }
    return &classes[N_CLASSES - 1];
}

static bool is_status_only(const struct error_class *row) {
    return row->code == NULL && row->starts == NULL && row->has == NULL && row->detail == NULL;
}

void error_classify(enum provider_id id, const struct reply *reply, const struct provider_error *error,
                    struct answer *answer) {
    answer->retry_after_ms = reply->retry_after_ms > 0 ? reply->retry_after_ms : error->delay_ms;
    if (answer->retry_after_ms == 0) {
        int64_t hint = retry_after_hint(error->message);
        answer->retry_after_ms = hint > 0 ? (uint64_t)hint : 0;
    }
    const struct error_class *row = error_class_find(id, error, answer->retry_after_ms > 0);
    answer->outcome = row->outcome;
    answer->schema_refused = row->schema;
    if (answer->retry_after_ms == 0) {
        answer->retry_after_ms = row->wait_ms;
    }
    if (is_status_only(row) && reply->should_retry == 1 && answer->outcome == OUTCOME_BAD_REQUEST) {
        answer->outcome = OUTCOME_TRANSIENT;
    } else if (is_status_only(row) && reply->should_retry == 0 &&
               answer->outcome == OUTCOME_TRANSIENT) {
        answer->outcome = OUTCOME_BAD_REQUEST;
    }
    char said[400], code[64];
    text_clean(error->message, said, sizeof(said));
    text_clean(error->code.n > 0 ? error->code : error->type, code, sizeof(code));
    snprintf(answer->detail, sizeof(answer->detail), "HTTP %d%s%s%s%s", reply->status,
             code[0] != '\0' ? " " : "", code, said[0] != '\0' ? ": " : "", said);
}

void error_not_json(enum provider_id id, const struct reply *reply, struct answer *answer) {
    char type[64];
    text_clean(reply->content_type, type, sizeof(type));
    struct slice body = slice_trim(reply->body);
    bool page = slice_has_nocase(reply->content_type, "html") || slice_starts(body, "<");
    if (reply->status != 200) {
        // A page's words are those of some gateway; only plain text may be worth showing.
        struct provider_error error = {.status = reply->status,
                                       .message = page ? SLICE_NONE : slice_sub(body, 0, 300)};
        error_classify(id, reply, &error, answer);
    } else {
        bool begun = slice_starts(body, "{");
        answer->outcome = begun ? OUTCOME_BROKEN : OUTCOME_TRANSIENT;
        snprintf(answer->detail, sizeof(answer->detail), "HTTP 200 with %zu bytes that are %s",
                 reply->body.n, begun ? "JSON cut short or damaged" : "not JSON");
    }
    size_t used = strlen(answer->detail);
    if (type[0] != '\0') {
        snprintf(answer->detail + used, sizeof(answer->detail) - used, " (%s)", type);
    }
}

// ---- Shapes -------------------------------------------------------------------------------------

// What an error inside a 200 stands for, by its code or type.
static const struct {
    const char *name;
    int status;
} meanings[] = {
    {.name = "insufficient_quota", .status = 429},
    {.name = "rate_limit_exceeded", .status = 429},
    {.name = "rate_limit_error", .status = 429},
    {.name = "RESOURCE_EXHAUSTED", .status = 429},
    {.name = "billing_hard_limit_reached", .status = 429},
    {.name = "billing_not_active", .status = 429},
    {.name = "billing_error", .status = 402},
    {.name = "invalid_api_key", .status = 401},
    {.name = "authentication_error", .status = 401},
    {.name = "UNAUTHENTICATED", .status = 401},
    {.name = "permission_error", .status = 403},
    {.name = "PERMISSION_DENIED", .status = 403},
    {.name = "model_not_found", .status = 404},
    {.name = "not_found_error", .status = 404},
    {.name = "DeploymentNotFound", .status = 404},
    {.name = "NOT_FOUND", .status = 404},
    {.name = "request_too_large", .status = 413},
    {.name = "context_length_exceeded", .status = 400},
    {.name = "content_policy_violation", .status = 400},
    {.name = "content_filter", .status = 400},
    {.name = "invalid_prompt", .status = 400},
    {.name = "bio_policy", .status = 400},
    {.name = "invalid_request_error", .status = 400},
    {.name = "BadRequestError", .status = 400},
    {.name = "INVALID_ARGUMENT", .status = 400},
    {.name = "overloaded_error", .status = 529},
    {.name = "timeout_error", .status = 504},
    {.name = "UNAVAILABLE", .status = 503},
    {.name = "DEADLINE_EXCEEDED", .status = 504},
    {.name = "FAILED_PRECONDITION", .status = 400},
};

static int meaning_of(struct slice name) {
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (slice_is_nocase(name, meanings[i].name)) {
            return meanings[i].status;
        }
    }
    return 0;
}

int error_status(struct slice name) {
    int status = meaning_of(name);
    return status != 0 ? status : 500;
}

// status_of finds the status that an error inside a 200 means.
static int status_of(struct json_object *fields, const struct provider_error *e) {
    struct json_object *number = json_get(fields, "code");
    int64_t n = json_object_is_type(number, json_type_int) ? json_object_get_int64(number) : 0;
    struct slice code = slice_trim(e->code);
    if (code.n == 3 && code.p[0] >= '4' && code.p[0] <= '5') {
        n = (code.p[0] - '0') * 100 + (code.p[1] - '0') * 10 + (code.p[2] - '0');
    }
    if (n >= 400 && n <= 599) {
        return (int)n;
    }
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (slice_is_nocase(e->code, meanings[i].name) || slice_is_nocase(e->type, meanings[i].name)) {
            return meanings[i].status;
        }
    }
    return 500;
}

// first_of borrows the first text among a few members.
static struct slice first_of(struct json_object *fields, const char *const *names, size_t n) {
    struct slice text = SLICE_NONE;
    for (size_t i = 0; text.n == 0 && i < n; i++) {
        text = json_text(json_get(fields, names[i]));
    }
    return text;
}

// add_detail appends a word to error->detail, cut where it does not fit.
static void add_detail(struct provider_error *error, struct slice word) {
    size_t used = strlen(error->detail);
    if (word.n > 0 && used + 2 < sizeof(error->detail)) {
        if (used > 0) {
            error->detail[used++] = ' ';
        }
        text_clean(word, error->detail + used, sizeof(error->detail) - used);
    }
}

// read_detail takes the words of one of Google's details: why, which quota, when to try again.
// Source: google.rpc, error_details.proto.
static void read_detail(struct json_object *detail, struct provider_error *error) {
    struct json_object *violations = json_get(detail, "violations");
    struct slice delay = json_text(json_get(detail, "retryDelay"));
    add_detail(error, json_text(json_get(detail, "reason")));
    size_t n =
        json_object_is_type(violations, json_type_array) ? json_object_array_length(violations) : 0;
    for (size_t i = 0; i < n; i++) {
        add_detail(error, json_text(json_get(json_object_array_get_idx(violations, i), "quotaId")));
    }
    int64_t ms = delay.n > 0 ? duration_parse(delay) : -1;
    error->delay_ms = ms > 0 ? (uint64_t)ms : error->delay_ms;
}

static void read_details(struct json_object *fields, struct provider_error *error) {
    struct json_object *inner = json_get(fields, "innererror"), *details = json_get(fields, "details");
    add_detail(error, json_text(json_get(inner, "code")));
    add_detail(error, json_text(json_get(details, "error_code")));
    size_t n = json_object_is_type(details, json_type_array) ? json_object_array_length(details) : 0;
    for (size_t i = 0; i < n; i++) {
        read_detail(json_object_array_get_idx(details, i), error);
    }
}

void error_read(struct json_object *root, int status, struct provider_error *error) {
    static const char *const types[] = {"type", "status"}, *const messages[] = {"message", "detail",
                                                                                "error", "msg"};
    if (json_object_is_type(root, json_type_array)) {
        root = json_object_array_length(root) > 0 ? json_object_array_get_idx(root, 0) : NULL;
    }
    struct json_object *fields = json_get(root, "error");
    if (!json_object_is_type(fields, json_type_object)) {
        fields = root; // the text of "error" is a message then
    }
    error->code = json_text(json_get(fields, "code"));
    error->type = first_of(fields, types, sizeof(types) / sizeof(types[0]));
    error->message = first_of(fields, messages, sizeof(messages) / sizeof(messages[0]));
    read_details(fields, error);
    error->status = status == 200 ? status_of(fields, error) : status;
}
