// Anthropic's Message Batches: create with all requests in the body, look, list, cancel, delete,
// results. There is no state of failure, no progress and no metadata; params are looked at when a
// request is processed. Called through the table of APIs.
//
// Source: the API reference of Anthropic, "Message Batches", 2026-08.
#include "tests/provider/batches.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define ROWS_MOST  UINT64_C(100000)
#define BYTES_MOST UINT64_C(268435456)
#define KEEP_DAYS  29 // after creation
#define ID_MOST    64
#define LIST_MOST  1000
#define LIST_USUAL 20
#define HEAD       "/v1/messages/batches"

// --- lines ---------------------------------------------------------------------------------------

static bool is_id(struct slice id) {
    bool right = id.n > 0 && id.n <= ID_MOST;
    for (size_t i = 0; right && i < id.n; i++) {
        char c = id.p[i];
        right = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                c == '_' || c == '-';
    }
    return right;
}

static int check(struct batch_job *job, struct slice text, struct json_object *line,
                 struct slice *id, struct batch_error *error) {
    static const char *const names[] = {"custom_id", "params"};
    (void)text;
    uint64_t n = job->n_rows - 1;
    const char *surplus = line != NULL ? api_unknown_field(line, names, 2) : NULL;
    *id = json_text(json_get(line, "custom_id"));
    strcpy(error->code, "invalid_request_error");
    if (line == NULL) {
        snprintf(error->message, sizeof(error->message),
                 "requests.%" PRIu64 ": Input should be a valid JSON "
                 "object",
                 n);
    } else if (surplus != NULL) {
        snprintf(error->message, sizeof(error->message),
                 "requests.%" PRIu64 ".%.40s: Extra inputs are not "
                 "permitted",
                 n, surplus);
    } else if (!is_id(*id)) {
        snprintf(error->message, sizeof(error->message),
                 "requests.%" PRIu64 ".custom_id: String should match "
                 "pattern '^[a-zA-Z0-9_-]{1,64}$'",
                 n);
    } else if (!json_object_is_type(json_get(line, "params"), json_type_object)) {
        snprintf(error->message, sizeof(error->message),
                 "requests.%" PRIu64 ".params: Field required", n);
    } else {
        return 0;
    }
    return -EINVAL;
}

static void answer(const struct respond *respond, struct batch_job *job, struct row *row,
                   struct httpd_reply *reply) {
    (void)job;
    struct json_object *params = json_get(row->line, "params");
    if (json_object_get_boolean(json_get(params, "stream"))) {
        respond_error(respond, row->job, 400, "", NULL,
                      "stream: Streaming is not supported in batches", false, reply);
        return;
    }
    respond_to_value(respond, json_object_get(params), SLICE_NONE, row->job, NULL, NULL, reply);
}

static int write_errored(const struct row *row, struct buf *out) {
    bool known = row->end == ROW_ANSWERED && slice_starts(row->body, "{");
    int rc = buf_add_str(out, "{\"type\":\"errored\",\"error\":");
    rc = rc != 0 ? rc
         : known
             ? buf_add_slice(out, row->body)
             : buf_addf(out,
                        "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"%s\"},"
                        "\"request_id\":null}",
                        row->end == ROW_TIMEOUT ? "timeout_error" : "api_error",
                        row->end == ROW_TIMEOUT ? "Request timed out" : "Internal server error");
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int write_line(const struct batch_job *job, const struct row *row, struct buf *out) {
    (void)job;
    int rc = buf_add_str(out, "{\"custom_id\":");
    rc = rc != 0 ? rc : json_add_string(out, row->id);
    rc = rc != 0 ? rc : buf_add_str(out, ",\"result\":");
    if (rc == 0 && (row->end == ROW_EXPIRED || row->end == ROW_CANCELLED)) {
        rc = buf_addf(out, "{\"type\":\"%s\"}", row->end == ROW_EXPIRED ? "expired" : "canceled");
    } else if (rc == 0 && row->end == ROW_ANSWERED && row->status / 100 == 2) {
        rc = buf_add_str(out, "{\"type\":\"succeeded\",\"message\":");
        rc = rc != 0 ? rc : buf_add_slice(out, row->body);
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
    } else if (rc == 0) {
        rc = write_errored(row, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// --- the object ----------------------------------------------------------------------------------

static int add_time(struct buf *out, const char *name, int64_t us) {
    char text[BATCHES_TIME_MAX];
    if (us == 0) {
        return buf_addf(out, ",\"%s\":null", name);
    }
    batches_time(us, text);
    return buf_addf(out, ",\"%s\":\"%s\"", name, text);
}

// gone_us is when the results are deleted.
static int64_t gone_us(const struct batch_job *job) {
    int64_t keep_ms = job->jobs->respond->options->batch_keep;
    return job->created_us + (keep_ms > 0 ? keep_ms * 1000 : KEEP_DAYS * BATCHES_DAY_US);
}

static bool has_results(const struct batch_job *job, int64_t now_us) {
    return batch_jobs_is_ended(job) && job->results[0] != NULL && now_us < gone_us(job);
}

static int add_job(const struct batch_call *call, const struct batch_job *job, struct buf *out) {
    bool ended = batch_jobs_is_ended(job);
    const char *state = ended                            ? "ended"
                        : job->state == BATCH_CANCELLING ? "canceling"
                                                         : "in_progress";
    struct slice host = httpd_header(call->request, "Host");
    int rc = buf_addf(out, "{\"id\":\"%s\",\"type\":\"message_batch\",\"processing_status\":\"%s\"",
                      job->id, state);
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",\"request_counts\":{\"processing\":%" PRIu64 ",\"succeeded\":%" PRIu64
                            ",\"errored\":%" PRIu64 ",\"canceled\":%" PRIu64 ",\"expired\":%" PRIu64
                            "}",
                            ended ? 0 : job->n_rows, ended ? job->n_succeeded : 0,
                            ended ? job->n_errored : 0, ended ? job->n_cancelled : 0,
                            ended ? job->n_expired : 0);
    rc = rc != 0 ? rc : add_time(out, "created_at", job->created_us);
    rc = rc != 0 ? rc : add_time(out, "expires_at", job->expires_us);
    rc = rc != 0 ? rc : add_time(out, "ended_at", job->ended_us);
    rc = rc != 0 ? rc
                 : add_time(out, "archived_at", call->now_us >= gone_us(job) ? gone_us(job) : 0);
    rc = rc != 0 ? rc : add_time(out, "cancel_initiated_at", job->cancelling_us);
    if (rc == 0 && has_results(job, call->now_us)) {
        return buf_addf(out, ",\"results_url\":\"http://%.*s" HEAD "/%s/results\"}",
                        SLICE_FMT(host), job->id);
    }
    return rc != 0 ? rc : buf_add_str(out, ",\"results_url\":null}");
}

static void send_job(struct batch_call *call, const struct batch_job *job) {
    int rc = add_job(call, job, call_reply(call));
    call->reply->status = rc == 0 ? 200 : 500;
}

// --- create --------------------------------------------------------------------------------------

static struct upload *open_create(struct batches *b, const struct httpd_request *request) {
    static const char *const path[] = {"requests"};
    const struct provider_options *o = b->respond->options;
    return slice_is(httpd_method(request), "POST") && slice_is(httpd_path(request), HEAD)
               ? upload_array(o->spool, path, 1, batches_most(o->batch_bytes, BYTES_MOST))
               : NULL;
}

// on_checked answers the request that made a job: what is wrong with a line is told here.
static void on_checked(struct batch_job *job, int64_t now_us) {
    struct httpd_reply reply = {0};
    struct httpd_request *request = job->waiting;
    struct batches *b = job->jobs->arg;
    const struct batch_error *error = &job->errors[0];
    bool failed = job->n_errors > 0;
    job->waiting = NULL;
    if (request != NULL) {
        struct batch_call call = {.b = b,
                                  .request = request,
                                  .job = httpd_state(request),
                                  .reply = &reply,
                                  .now_us = now_us};
        if (failed && strcmp(error->code, "token_limit_exceeded") == 0) {
            call_error(&call, 429, NULL,
                       "Your organization has too many requests in its batches. Please wait "
                       "until some have ended.");
        } else if (failed) {
            call_error(&call, 400, NULL, "%s", error->message);
        } else {
            call_note(&call, "create", job->id, NULL);
            send_job(&call, job);
            call_lose(&call, job->create_fault);
        }
        b->send(b->arg, request, call.job, &reply);
    }
    if (failed) {
        batch_jobs_remove(job->jobs, job);
    }
}

const struct batch_kind anthropic_batch = {.id = "msgbatch_",
                                           .tells_rest = true,
                                           .validity_us = BATCHES_DAY_US,
                                           .check = check,
                                           .answer = answer,
                                           .write = write_line,
                                           .checked = on_checked};

// n_waiting counts the requests of the owner's jobs that wait.
static uint64_t n_waiting(const struct batch_call *call) {
    const struct batch_job *job;
    uint64_t n = 0;
    DL_FOREACH(call->b->jobs.list, job) {
        n += job->owner == batches_owner(call) && !batch_jobs_is_ended(job)
                 ? job->n_rows - job->n_done
                 : 0;
    }
    return n;
}

// check_rest looks at the body besides its requests; 0 or -EINVAL after call_error.
static int check_rest(struct batch_call *call, struct upload *u) {
    static const char *const names[] = {"requests"};
    const struct provider_options *o = call->b->respond->options;
    struct json_object *rest = NULL;
    struct error why = {0};
    uint64_t most = batches_most(o->batch_rows, ROWS_MOST);
    int rc = upload_end(u);
    if (rc == -EMSGSIZE) {
        respond_html(413, call->reply); // the edge says it
        return -EINVAL;
    }
    rc = rc != 0 ? error_set(&why, rc, "%s", u->why.text)
                 : json_parse(buf_slice(&u->array.rest), &rest, &why);
    bool object = rc == 0 && json_object_is_type(rest, json_type_object);
    const char *surplus = object ? api_unknown_field(rest, names, 1) : NULL;
    if (rc != 0) {
        call_error(call, rc == -EIO ? 500 : 400, NULL, "The request body is not valid JSON: %s",
                   why.text);
    } else if (surplus != NULL) {
        call_error(call, 400, NULL, "%.60s: Extra inputs are not permitted", surplus);
    } else if (!object || !u->array.found) {
        call_error(call, 400, NULL, "requests: Field required");
    } else if (u->n_elements == 0) {
        call_error(call, 400, NULL,
                   "requests: List should have at least 1 item after validation, not 0");
    } else if (u->n_elements > most) {
        call_error(call, 400, NULL,
                   "requests: List should have at most %" PRIu64 " items after validation", most);
    } else if (o->batch_queued_rows > 0 &&
               n_waiting(call) + u->n_elements > (uint64_t)o->batch_queued_rows) {
        call_error(call, 429, NULL,
                   "Your organization has too many requests in its batches. Please wait until "
                   "some have ended.");
    }
    json_object_put(rest);
    return call->reply->status != 0 ? -EINVAL : 0;
}

static void create(struct batch_call *call) {
    struct upload *u = call->job->upload;
    enum batch_fault fault = call_fault(call, BATCH_AT_CREATE);
    call_note(call, "create", NULL, NULL);
    if (call->reply->status == 0 &&
        !slice_has_nocase(httpd_header(call->request, "Content-Type"), "json")) {
        call_error(call, 400, NULL, "Content-Type: want application/json");
    }
    if (call->reply->status != 0 || check_rest(call, u) != 0) {
        return;
    }
    struct batch_job *job = batch_jobs_add(&call->b->jobs, &anthropic_batch, batches_owner(call),
                                           &u->spool, call->now_us);
    job->api = api_find(SLICE_LIT("/v1/messages"));
    strcpy(job->endpoint, "/v1/messages");
    job->faults[BATCH_FAULT_QUEUE_FULL] = fault == BATCH_FAULT_QUEUE_FULL;
    job->create_fault = fault;
    job->waiting = call->request;
    call->later = true;
    batches_run(call->b);
}

// --- other calls ---------------------------------------------------------------------------------

static bool is_seen(const struct batch_call *call, const struct batch_job *job) {
    return job->owner == batches_owner(call) && job->kind == &anthropic_batch &&
           job->state != BATCH_VALIDATING;
}

// next_of is the next job that the call may see, older or newer; NULL: there is none.
static const struct batch_job *next_of(const struct batch_call *call, const struct batch_job *job,
                                       bool newer) {
    const struct batch_job *oldest = call->b->jobs.list;
    do {
        job = newer ? job->next : job == oldest ? NULL : job->prev;
    } while (job != NULL && !is_seen(call, job));
    return job;
}

static void list(struct batch_call *call) {
    struct slice after = httpd_query(call->request, "after_id");
    struct slice before = httpd_query(call->request, "before_id");
    struct slice from = after.n > 0 ? after : before;
    int64_t limit = 0;
    (void)call_fault(call, BATCH_AT_POLL);
    if (call->reply->status != 0 ||
        call_number(call, "limit", LIST_USUAL, 1, LIST_MOST, &limit) != 0) {
        return;
    }
    const struct batch_job *job = batch_jobs_find(&call->b->jobs, from, batches_owner(call));
    if ((after.n > 0 && before.n > 0) || (from.n > 0 && job == NULL)) {
        call_error(call, 400, NULL, "after_id, before_id: want one of them, the id of a batch");
        return;
    }
    if (job == NULL) { // the newest, or nothing
        job = call->b->jobs.list != NULL ? call->b->jobs.list->prev : NULL;
        job = job == NULL || is_seen(call, job) ? job : next_of(call, job, false);
    } else {
        job = next_of(call, job, before.n > 0);
    }
    const struct batch_job *last = job, *first = job;
    for (int64_t n = 1; job != NULL && n < limit && next_of(call, last, before.n > 0) != NULL;
         n++) {
        last = next_of(call, last, before.n > 0);
    }
    bool more = last != NULL && next_of(call, last, before.n > 0) != NULL;
    first = before.n > 0 ? last : first; // the newest comes first in either direction
    last = before.n > 0 ? job : last;
    struct buf *out = call_reply(call);
    int rc = buf_add_str(out, "{\"data\":[");
    for (job = first; rc == 0 && job != NULL;
         job = job == last ? NULL : next_of(call, job, false)) {
        rc = job != first ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : add_job(call, job, out);
    }
    rc = rc != 0 ? rc : buf_addf(out, "],\"has_more\":%s", more ? "true" : "false");
    rc = rc != 0 ? rc
         : first != NULL
             ? buf_addf(out, ",\"first_id\":\"%s\",\"last_id\":\"%s\"}", first->id, last->id)
             : buf_add_str(out, ",\"first_id\":null,\"last_id\":null}");
    call->reply->status = rc == 0 ? 200 : 500;
}

static void cancel(struct batch_call *call, struct batch_job *job) {
    enum batch_fault fault = call_fault(call, BATCH_AT_CANCEL);
    if (call->reply->status != 0) {
        return;
    }
    if (batch_jobs_cancel(job, call->now_us) != 0) {
        call_error(call, 409, NULL, "Batch %s has already ended and cannot be canceled.", job->id);
        return;
    }
    send_job(call, job);
    call_lose(call, fault);
    batches_run(call->b);
}

static void remove_job(struct batch_call *call, struct batch_job *job) {
    (void)call_fault(call, BATCH_AT_REMOVE);
    if (call->reply->status != 0) {
        return;
    }
    if (!batch_jobs_is_ended(job)) {
        call_error(call, 409, NULL, "Batch %s has not ended: cancel it before it is deleted.",
                   job->id);
        return;
    }
    int rc =
        buf_addf(call_reply(call), "{\"id\":\"%s\",\"type\":\"message_batch_deleted\"}", job->id);
    call->reply->status = rc == 0 ? 200 : 500;
    batch_jobs_remove(&call->b->jobs, job);
}

static void send_results(struct batch_call *call, const struct batch_job *job) {
    if (!batch_jobs_is_ended(job)) {
        call_error(call, 400, NULL, "Batch %s has no results yet: it has not ended.", job->id);
    } else if (!has_results(job, call->now_us)) {
        call_error(call, 404, NULL, "Batch %s has no results.", job->id);
    } else {
        call_file(call, job->results[0], "application/x-jsonl");
    }
}

static void serve_one(struct batch_call *call, struct batch_job *job, struct slice verb) {
    if (verb.n == 0 && call_is(call, "GET")) {
        call_note(call, "get", job->id, NULL);
        (void)call_fault(call, BATCH_AT_POLL);
        if (call->reply->status == 0) {
            send_job(call, job);
        }
    } else if (verb.n == 0 && call_is(call, "DELETE")) {
        call_note(call, "remove", job->id, NULL);
        remove_job(call, job);
    } else if (slice_is(verb, "results") && call_is(call, "GET")) {
        call_note(call, "download", job->id, NULL);
        send_results(call, job);
    } else if (slice_is(verb, "cancel") && call_is(call, "POST")) {
        call_note(call, "cancel", job->id, NULL);
        cancel(call, job);
    } else {
        call_error(call, verb.n > 0 ? 404 : 405, NULL, "Not Found");
    }
}

static void serve(struct batch_call *call) {
    struct slice id = slice_sub(httpd_path(call->request), sizeof(HEAD), SIZE_MAX),
                 verb = SLICE_NONE;
    const char *slash = id.n > 0 ? memchr(id.p, '/', id.n) : NULL;
    if (slash != NULL) {
        verb = slice_sub(id, (size_t)(slash + 1 - id.p), SIZE_MAX);
        id.n = (size_t)(slash - id.p);
    }
    struct batch_job *job = batch_jobs_find(&call->b->jobs, id, batches_owner(call));
    if (id.n == 0 && call->job->upload != NULL) {
        create(call);
    } else if (id.n == 0 && call_is(call, "GET")) {
        call_note(call, "list", NULL, NULL);
        list(call);
    } else if (id.n == 0) {
        call_error(call, 405, NULL, "Method Not Allowed");
    } else if (job == NULL || !is_seen(call, job)) {
        call_error(call, 404, NULL, "batch_id: %.*s not found", SLICE_FMT(slice_sub(id, 0, 80)));
    } else {
        serve_one(call, job, verb);
    }
}

static bool owns(struct slice path) {
    size_t n = sizeof(HEAD) - 1;
    return slice_starts(path, HEAD) && (path.n == n || path.p[n] == '/');
}

const struct api api_batches_anthropic = {.name = "message batches",
                                          .key = API_KEY_ANTHROPIC,
                                          .style = TELL_ANTHROPIC,
                                          .must = "anthropic-version",
                                          .owns = owns,
                                          .open = open_create,
                                          .serve = serve};
