// The table of batch APIs and what they share. Invariant: every answer that is not a good one ends the
// step with one outcome, by the same rules as a call's. Called by job and by batch_*.c.
#include "worker/batch.h"

#include "common/json.h"
#include "proto/pack.h"
#include "worker/provider.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 1000        // for an uploaded file to be processed: doubled each time
#define WAIT_MOST_MS 10000
#define WAITS 60            // then it is given up

static const char *const order_names[N_BATCH_ORDERS] = {
#define X(NAME, text) [BATCH_##NAME] = text,
    BATCH_ORDERS(X)
#undef X
};

int batch_order_of(struct slice text) {
    for (int i = 0; i < N_BATCH_ORDERS; i++) {
        if (slice_is(text, order_names[i])) {
            return i;
        }
    }
    return -1;
}

static const struct batch_provider *const providers[N_PROVIDERS] = {
#define BATCH_API(ID, name, rows, bytes, inline, hours, TAG) [PROVIDER_##ID] = &batch_##name,
#include "common/batch_apis.def"
#undef BATCH_API
};

const struct batch_provider *batch_provider_of(const struct model *model, const struct batch_api **facts) {
    *facts = batch_api_of(model);
    return *facts != NULL ? providers[(*facts)->provider] : NULL;
}

// ---- Addresses ----------------------------------------------------------------------------------

// cut_deployment takes /deployments/NAME off the root.
static void cut_deployment(struct batch_place *place) {
    static const char word[] = "/deployments/";
    struct slice root = place->root;
    const char *at = root.n > 0 ? memmem(root.p, root.n, word, sizeof(word) - 1) : NULL;
    if (at != NULL) {
        size_t n = (size_t)(at - root.p);
        place->deployment = slice_sub(root, n + sizeof(word) - 1, root.n);
        place->root = slice_sub(root, 0, n);
    }
}

int batch_place_of(const struct held *held, struct batch_place *place) {
    struct slice url = buf_slice(&held->url);
    const char *from = memmem(url.p, url.n, "://", 3);
    size_t at = from != NULL ? (size_t)(from + 3 - url.p) : 0, path, query;
    for (path = at; path < url.n && strchr("/?#", url.p[path]) == NULL; path++) {
    }
    for (query = path; query < url.n && strchr("?#", url.p[query]) == NULL; query++) {
    }
    struct slice root = slice_sub(url, path, query - path);
    // What the path ends in depends on the model's name: only the part before {model} is looked for.
    const char *own = held->model->api->path, *name = strstr(own, "{model}");
    size_t n_own = name != NULL ? (size_t)(name - own) : strlen(own);
    const char *end = NULL;
    for (const char *p = root.p; n_own > 0 && p + n_own <= root.p + root.n; p++) {
        if (memcmp(p, own, n_own) == 0 && (name != NULL || p + n_own == root.p + root.n)) {
            end = p;
        }
    }
    if (end == NULL) {
        return -EINVAL;
    }
    *place = (struct batch_place){
        .site = slice_sub(url, 0, path),
        .root = slice_sub(root, 0, (size_t)(end - root.p)),
        .query = slice_sub(url, query, url.n),
    };
    cut_deployment(place);
    return 0;
}

const char *batch_escape(struct slice text, char *into, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < text.n && n + 4 <= size; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (isalnum(c) || (c != '\0' && strchr("-._~", c) != NULL)) {
            into[n++] = (char)c;
        } else {
            n += (size_t)snprintf(into + n, size - n, "%%%02X", c);
        }
    }
    into[n] = '\0';
    return into;
}

int batch_url(struct batch_step *step, enum transfer_method method, const char *prefix, const char *format,
              ...) {
    char path[BATCH_URL_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, sizeof(path), format, args);
    va_end(args);
    step->ask = (struct transfer_ask){
        .method = method,
        .base = step->held->headers,
        .timeout_ms = step->held->model->options.request_timeout_ms,
    };
    buf_clear(&step->url);
    buf_clear(&step->text);
    int rc = n >= 0 && (size_t)n < sizeof(path) ? buf_add_slice(&step->url, step->place.site) : -EMSGSIZE;
    rc = rc != 0 ? rc : buf_add_str(&step->url, prefix);
    rc = rc != 0 ? rc : buf_add_slice(&step->url, step->place.root);
    rc = rc != 0 ? rc : buf_add_str(&step->url, path);
    rc = rc != 0 ? rc : buf_add_slice(&step->url, step->place.query);
    step->ask.url = step->url.p;
    return rc == 0 ? 0 : batch_fail(step, OUTCOME_BAD_CONFIG, "the URL of a request is too long");
}

int batch_query(struct batch_step *step, const char *name, const char *value) {
    char escaped[BATCH_ID_MAX * 3 + 1];
    bool first = strchr(step->url.p, '?') == NULL;
    int rc = buf_addf(&step->url, "%c%s=%s", first ? '?' : '&', name,
                      batch_escape(slice_of(value), escaped, sizeof(escaped)));
    step->ask.url = step->url.p;
    return rc == 0 ? 0 : batch_fail(step, OUTCOME_BAD_CONFIG, "the URL of a request is too long");
}

// ---- Steps --------------------------------------------------------------------------------------

void batch_step_init(struct batch_step *step, const struct held *held, enum batch_order order) {
    *step = (struct batch_step){.held = held, .order = order, .lines = {.fd = -1}, .replies = {.fd = -1}};
    step->done.state = "";
    buf_init(&step->url, BATCH_URL_MAX);
    buf_init(&step->text, BATCH_TEXT_MAX);
    buf_init(&step->header[0], TRANSFER_PLACE_MAX);
    buf_init(&step->header[1], TRANSFER_PLACE_MAX);
}

void batch_step_free(struct batch_step *step) {
    job_spool_close(&step->lines);
    job_spool_close(&step->replies);
    buf_free(&step->around);
    buf_free(&step->url);
    buf_free(&step->text);
    buf_free(&step->header[0]);
    buf_free(&step->header[1]);
}

int batch_fail(struct batch_step *step, enum outcome outcome, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(step->done.detail, sizeof(step->done.detail), format, args);
    va_end(args);
    step->done.outcome = outcome;
    step->done.state = "";
    return -EINVAL;
}

// read_error fails the step by what an answer's error is.
static void read_error(struct batch_step *step, const struct transfer_end *end, struct json_object *root) {
    enum provider_id id = step->held->model->provider->id;
    struct answer answer = {0};
    struct reply reply = {
        .status = end->status >= 200 && end->status <= 299 ? 200 : end->status,
        .content_type = slice_of(end->head.content_type),
        .body = end->body,
        .retry_after_ms = end->head.delay_ms,
        .should_retry = end->head.should_retry,
        .model = step->held->model,
    };
    if (root != NULL) {
        struct provider_error error = {0};
        error_read(root, reply.status, &error);
        error_classify(id, &reply, &error, &answer);
    } else {
        error_not_json(id, &reply, &answer);
    }
    (void)batch_fail(step, answer.outcome, "%s", answer.detail);
    step->done.retry_after_ms = answer.retry_after_ms;
}

// may_be_done says whether a request that failed so may have been carried out all the same: it was sent,
// and nobody who decides has said no.
static bool may_be_done(const struct transfer_end *end) {
    return end->sent && (end->decided || end->status < 300 || end->status >= 500 || end->status == 408);
}

struct json_object *batch_read(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = NULL;
    step->done.http_status = end->status;
    if (end->decided) {
        (void)batch_fail(step, end->outcome, "%s", end->detail);
        step->done.sent = may_be_done(end);
        return NULL;
    }
    bool good = end->status >= 200 && end->status <= 299;
    bool parsed = json_parse(end->body, &root, NULL) == 0;
    bool object = parsed && json_object_is_type(root, json_type_object);
    // Some gateways put an error into a 200; a job that has failed has an error too, and a name.
    bool error = json_get(root, "error") != NULL && json_get(root, "name") == NULL;
    if (good && object && !error) {
        return root;
    }
    read_error(step, end, parsed && (!good || error) ? root : NULL);
    step->done.sent = may_be_done(end);
    json_object_put(root);
    return NULL;
}

bool batch_is_gone(const struct transfer_end *end) {
    if (end->decided || end->status != 404) {
        return false;
    }
    struct json_object *root = NULL;
    bool own = json_parse(end->body, &root, NULL) == 0 && json_object_is_type(root, json_type_object);
    struct provider_error error = {0};
    if (own) {
        error_read(root, 404, &error);
    }
    // These speak of what the endpoint names, not of the job.
    own = own && !slice_is_nocase(error.code, "DeploymentNotFound") &&
          !slice_is_nocase(error.code, "model_not_found");
    json_object_put(root);
    return own;
}

bool batch_ended(struct batch_step *step) {
    if (strcmp(step->done.state, "running") != 0) {
        return true;
    }
    (void)batch_fail(step, OUTCOME_TRANSIENT, "the job has not ended yet");
    return false;
}

void batch_gone(struct batch_step *step) {
    step->done.outcome = OUTCOME_OK;
    step->done.state = "gone";
}

bool batch_look(struct batch_step *step, const struct transfer_end *end,
                void (*told)(struct batch_step *step, struct json_object *job)) {
    if (batch_is_gone(end)) {
        step->done.http_status = end->status;
        batch_gone(step);
        return false;
    }
    struct json_object *root = batch_read(step, end);
    if (root != NULL) {
        told(step, root);
        json_object_put(root);
    }
    return root != NULL;
}

void batch_made(struct batch_step *step, const struct transfer_end *end,
                void (*told)(struct batch_step *step, struct json_object *job),
                void (*refused)(struct batch_step *step, const struct transfer_end *end)) {
    struct json_object *root = batch_read(step, end);
    if (root == NULL) {
        refused(step, end);
        return;
    }
    told(step, root);
    if (step->done.id[0] == '\0') {
        (void)batch_fail(step, OUTCOME_BROKEN, "the provider made the job and gave no id for it");
        step->done.sent = true;
    }
    json_object_put(root);
}

bool batch_deleted(struct batch_step *step, const struct transfer_end *end) {
    if (batch_is_gone(end)) {
        step->done.http_status = end->status;
        return true;
    }
    struct json_object *root = batch_read(step, end);
    json_object_put(root);
    return root != NULL;
}

const struct exchange *batch_wait(struct batch_step *step, const struct exchange *next) {
    step->wait_ms = step->n_tries < 4 ? WAIT_MS << step->n_tries : WAIT_MOST_MS;
    if (++step->n_tries > WAITS) {
        (void)batch_fail(step, OUTCOME_TRANSIENT, "the provider does not get the file processed");
        return NULL;
    }
    return next;
}

// ---- What answers hold --------------------------------------------------------------------------

bool batch_is_other(const struct batch_step *step, struct slice id) {
    struct slice rest = step->others, other;
    uint32_t n = 0;
    int rc = rest.n > 0 ? pack_array_next(&rest, &n) : 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        rc = pack_str_next(&rest, &other);
        if (rc == 0 && slice_eq(other, id)) {
            return true;
        }
    }
    return false;
}

void batch_keep(struct slice text, char *into, size_t size) {
    text_clean(text, into, size);
    if (text.n >= size || memcmp(into, text.n > 0 ? text.p : "", text.n) != 0) {
        into[0] = '\0';
    }
}

uint64_t batch_number(struct json_object *object, const char *name) {
    struct json_object *value = json_get(object, name);
    int64_t n = json_object_is_type(value, json_type_int)      ? json_object_get_int64(value)
                : json_object_is_type(value, json_type_string) ? strtoll(json_object_get_string(value), NULL, 10)
                                                               : 0;
    return n > 0 ? (uint64_t)n : 0;
}

int64_t batch_time(struct json_object *value) {
    if (json_object_is_type(value, json_type_int)) {
        int64_t s = json_object_get_int64(value);
        return s >= 0 && s < INT64_C(1) << 40 ? s * 1000 : -1;
    }
    if (!json_object_is_type(value, json_type_string)) {
        return -1;
    }
    struct tm tm = {0};
    const char *text = json_object_get_string(value), *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest == NULL) {
        return -1;
    }
    int64_t ms = (int64_t)timegm(&tm) * 1000;
    if (*rest == '.') {
        rest += 1 + strspn(rest + 1, "0123456789");
    }
    int hours = 0, minutes = 0;
    if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2) {
        ms -= (*rest == '+' ? 1 : -1) * (hours * 60 + minutes) * INT64_C(60000);
    }
    return ms >= 0 ? ms : -1;
}

bool batch_state_is(struct slice state, const char *word) {
    static const char *const prefixes[] = {"BATCH_STATE_", "JOB_STATE_"};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t n = strlen(prefixes[i]);
        if (slice_is_nocase(slice_sub(state, 0, n), prefixes[i])) {
            state = slice_sub(state, n, state.n);
        }
    }
    return slice_is_nocase(state, word);
}

// A name is hr1-HASH-N: docs/jobs.md.
size_t batch_name_count(struct slice name) {
    const size_t n_hash = 32, at = strlen("hr1-") + n_hash;
    if (!slice_starts(name, "hr1-") || name.n <= at + 1 || name.n > at + 5 || name.p[at] != '-') {
        return 0;
    }
    size_t n = 0;
    for (size_t i = at + 1; i < name.n; i++) {
        if (name.p[i] < '0' || name.p[i] > '9') {
            return 0;
        }
        n = n * 10 + (size_t)(name.p[i] - '0');
    }
    return n <= MODEL_BATCH_MAX ? n : 0;
}
