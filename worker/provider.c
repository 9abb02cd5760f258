// The table of providers and what they share: error classes by HTTP status, forms of "try again
// later", and cleaning of what strangers say. Called by the worker's wiring and by the providers.
#include "worker/provider.h"

#include "common/json.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RETRY_AFTER_MOST_MS 86400000 // a day: longer than anybody waits

static const struct provider *const providers[] = {&provider_openai};

const struct provider *provider_find(const char *name) {
    for (size_t i = 0; i < sizeof(providers) / sizeof(providers[0]); i++) {
        if (strcmp(providers[i]->name, name) == 0) {
            return providers[i];
        }
    }
    return NULL;
}

bool provider_schema(const struct provider *provider, const struct model *model) {
    switch (model->options.structured_output) {
    case STRUCTURED_OFF:
        return false;
    case STRUCTURED_REQUIRED:
        return true;
    default:
        return model->options.response_format == RESPONSE_JSON &&
               strcmp(model->options.response_path, "$[*]") == 0 && provider->enforces_schema(model);
    }
}

void answer_clear(struct answer *answer) {
    json_object_put(answer->root);
    *answer = (struct answer){0};
}

void text_clean(struct slice text, char *into, size_t size) {
    long bad = slice_utf8_error(text);
    slice_copy(bad >= 0 ? slice_sub(text, 0, (size_t)bad) : text, into, size);
    for (char *c = into; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = ' ';
        }
    }
}

// ---- When to try again ------------------------------------------------------------------------

// number_at reads a decimal number without sign or exponent; *used is 0 when there is none.
static double number_at(struct slice s, size_t *used) {
    double value = 0, unit = 0.1;
    size_t i = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
        value = value * 10 + (s.p[i] - '0');
    }
    bool digits = i > 0;
    if (i < s.n && s.p[i] == '.') {
        size_t from = ++i;
        for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, unit /= 10) {
            value += (s.p[i] - '0') * unit;
        }
        digits |= i > from;
    }
    *used = digits ? i : 0;
    return value;
}

static int64_t to_ms(double ms) {
    return ms > RETRY_AFTER_MOST_MS ? RETRY_AFTER_MOST_MS : (int64_t)ceil(ms - 1e-6);
}

int64_t retry_after_parse(struct slice text, int64_t now_unix_ms) {
    text = slice_trim(text);
    size_t used;
    double seconds = number_at(text, &used);
    if (used > 0 && used == text.n) {
        return to_ms(seconds * 1000);
    }
    char date[64];
    if (text.n < 20 || !slice_copy(text, date, sizeof(date))) {
        return -1;
    }
    time_t at = curl_getdate(date, NULL);
    if (at < 0) {
        return -1;
    }
    int64_t ms = (int64_t)at * 1000 - now_unix_ms;
    return ms < 0 ? 0 : to_ms((double)ms);
}

static const struct {
    const char *name; // longest first: "ms" before "m"
    double ms;
} units[] = {
    {.name = "ms", .ms = 1},         {.name = "us", .ms = 0.001},  {.name = "\xC2\xB5s", .ms = 0.001},
    {.name = "ns", .ms = 0.000001},  {.name = "h", .ms = 3600000}, {.name = "m", .ms = 60000},
    {.name = "s", .ms = 1000},
};

// duration_at reads as many <number><unit> as there are; *used is 0 when there is none.
static double duration_at(struct slice s, size_t *used) {
    double total = 0;
    *used = 0;
    for (;;) {
        struct slice rest = slice_sub(s, *used, s.n);
        size_t n;
        double number = number_at(rest, &n);
        if (n == 0) {
            return total;
        }
        rest = slice_sub(rest, n, rest.n);
        size_t u = 0, n_units = sizeof(units) / sizeof(units[0]);
        while (u < n_units && !slice_starts(rest, units[u].name)) {
            u++;
        }
        if (u == n_units) {
            return total;
        }
        total += number * units[u].ms;
        *used += n + strlen(units[u].name);
    }
}

int64_t duration_parse(struct slice text) {
    size_t used;
    double ms = duration_at(text, &used);
    return used > 0 && used == text.n ? to_ms(ms) : -1;
}

int64_t retry_after_hint(struct slice message) {
    static const char *const leads[] = {"try again in ", "retry after ", "retry in "};
    for (size_t k = 0; k < sizeof(leads) / sizeof(leads[0]); k++) {
        size_t n = strlen(leads[k]);
        for (size_t i = 0; i + n < message.n; i++) {
            if (strncasecmp(message.p + i, leads[k], n) != 0) {
                continue;
            }
            struct slice rest = slice_sub(message, i + n, message.n);
            size_t used;
            double ms = duration_at(rest, &used);
            if (used > 0) {
                return to_ms(ms);
            }
            double number = number_at(rest, &used);
            rest = slice_trim(slice_sub(rest, used, rest.n));
            if (used > 0 && slice_starts(rest, "milli")) {
                return to_ms(number);
            }
            if (used > 0 && slice_starts(rest, "sec")) {
                return to_ms(number * 1000);
            }
            if (used > 0 && slice_starts(rest, "min")) {
                return to_ms(number * 60000);
            }
        }
    }
    return -1;
}

// ---- Error classes ----------------------------------------------------------------------------

// What a status means whoever sends it; looked at after the provider's own rows.
static const struct error_class common_classes[] = {
    {.status = {413}, .outcome = OUTCOME_TOO_LARGE},
    {.status = {401}, .outcome = OUTCOME_AUTH},
    {.status = {402}, .outcome = OUTCOME_QUOTA},
    {.status = {403}, .outcome = OUTCOME_AUTH},
    {.status = {404, 405}, .outcome = OUTCOME_BAD_CONFIG},
    {.status = {408, 409}, .outcome = OUTCOME_TRANSIENT},
    {.status = {425, 429}, .needs_delay = true, .outcome = OUTCOME_RATE_LIMITED},
    {.status = {425, 429}, .outcome = OUTCOME_TRANSIENT},
    {.status = {501}, .outcome = OUTCOME_BAD_CONFIG},
    {.low = 300, .high = 399, .outcome = OUTCOME_BAD_CONFIG},
    {.low = 400, .high = 499, .outcome = OUTCOME_BAD_REQUEST},
    {.low = 100, .high = 999, .outcome = OUTCOME_TRANSIENT},
};

static bool status_matches(const struct error_class *row, int status) {
    if (row->status[0] == 0) {
        return status >= row->low && status <= row->high;
    }
    for (size_t i = 0; i < 4; i++) {
        if (row->status[i] == status) {
            return true;
        }
    }
    return false;
}

static bool class_matches(const struct error_class *row, const struct provider_error *e, bool delay) {
    return status_matches(row, e->status) && (!row->needs_delay || delay) &&
           (row->code == NULL || slice_is_nocase(e->code, row->code) ||
            slice_is_nocase(e->type, row->code)) &&
           (row->starts == NULL ||
            slice_is_nocase(slice_sub(e->message, 0, strlen(row->starts)), row->starts)) &&
           (row->has == NULL || slice_has_nocase(e->message, row->has)) &&
           (row->has2 == NULL || slice_has_nocase(e->message, row->has2));
}

static const struct error_class *find_class(const struct error_class *rows, size_t n,
                                            const struct provider_error *e, bool delay) {
    for (size_t i = 0; i < n; i++) {
        if (class_matches(&rows[i], e, delay)) {
            return &rows[i];
        }
    }
    return NULL;
}

static bool is_status_only(const struct error_class *row) {
    return row->code == NULL && row->starts == NULL && row->has == NULL;
}

void provider_classify(const struct error_class *rows, size_t n, const struct reply *reply,
                       const struct provider_error *error, struct answer *answer) {
    answer->retry_after_ms = reply->retry_after_ms;
    if (answer->retry_after_ms == 0) {
        int64_t hint = retry_after_hint(error->message);
        answer->retry_after_ms = hint > 0 ? (uint64_t)hint : 0;
    }
    bool delay = answer->retry_after_ms > 0;
    const struct error_class *row = find_class(rows, n, error, delay);
    if (row == NULL) {
        row = find_class(common_classes, sizeof(common_classes) / sizeof(common_classes[0]), error,
                         delay);
    }
    answer->outcome = row != NULL ? row->outcome : OUTCOME_TRANSIENT;
    // What the provider says about trying again counts more than the bare status.
    if (row != NULL && is_status_only(row)) {
        if (reply->should_retry == 1 && answer->outcome == OUTCOME_BAD_REQUEST) {
            answer->outcome = OUTCOME_TRANSIENT;
        } else if (reply->should_retry == 0 && answer->outcome == OUTCOME_TRANSIENT) {
            answer->outcome = OUTCOME_BAD_REQUEST;
        }
    }
    char said[400], code[64];
    text_clean(error->message, said, sizeof(said));
    text_clean(error->code.n > 0 ? error->code : error->type, code, sizeof(code));
    snprintf(answer->detail, sizeof(answer->detail), "HTTP %d%s%s%s%s", reply->status,
             code[0] != '\0' ? " " : "", code, said[0] != '\0' ? ": " : "", said);
}

void provider_not_json(const struct error_class *rows, size_t n, const struct reply *reply,
                       struct answer *answer) {
    char type[64];
    text_clean(reply->content_type, type, sizeof(type));
    struct slice body = slice_trim(reply->body);
    bool page = slice_has_nocase(reply->content_type, "html") || slice_starts(body, "<");
    if (reply->status != 200) {
        // A page's words are those of some gateway; only plain text may be worth showing.
        struct provider_error error = {.status = reply->status,
                                       .message = page ? SLICE_NONE : slice_sub(body, 0, 300)};
        provider_classify(rows, n, reply, &error, answer);
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
