// Batches of OpenAI: create, look, list, cancel, and the lines of their input and output. Azure
// OpenAI's are served here too; what differs is asked for with openai_call_is_azure. Called through
// the table of APIs.
//
// Source: the API reference and the guide of OpenAI, "Batch", 2026-08.
#include "tests/provider/openai_objects.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#define ROWS_MOST       UINT64_C(50000)
#define INPUTS_MOST     UINT64_C(50000) // of embeddings
#define AZURE_ROWS_MOST UINT64_C(100000)
#define METADATA_MOST   16
#define KEY_MOST        64
#define VALUE_MOST      512
#define LIST_MOST       100
#define LIST_USUAL      20

// --- lines ---------------------------------------------------------------------------------------

static bool is_azure_job(const struct batch_job *job) {
    return job->kind == &azure_batch;
}

static int refuse(struct batch_error *error, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(struct batch_error *error, const char *code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    snprintf(error->code, sizeof(error->code), "%s", code);
    return -EINVAL;
}

// check_model takes the first line's model, and wants the others to have the same.
static int check_model(struct batch_job *job, struct json_object *body, struct batch_error *error) {
    struct slice model = json_text(json_get(body, "model"));
    if (model.n == 0) {
        return refuse(error, "invalid_request", "Missing required parameter: 'body.model'.");
    }
    if (job->model[0] == '\0') {
        (void)slice_copy(model, job->model, sizeof(job->model));
    }
    return slice_is(model, job->model)
               ? 0
               : refuse(error, "model_mismatch",
                        "The provided model '%.*s' does not match the other requests' "
                        "model '%s'.",
                        SLICE_FMT(slice_sub(model, 0, 60)), job->model);
}

// check_counts counts lines, and the inputs of embeddings.
static int check_counts(struct batch_job *job, struct json_object *body,
                        struct batch_error *error) {
    uint64_t most = batches_most(job->jobs->respond->options->batch_rows,
                                 is_azure_job(job) ? AZURE_ROWS_MOST : ROWS_MOST);
    struct json_object *input = json_get(body, "input");
    if (job->n_rows == most + 1) {
        return refuse(error, "too_many_tasks",
                      "The number of requests in the batch exceeds the maximum of "
                      "%" PRIu64 ".",
                      most);
    }
    if (strcmp(job->api->end, "/embeddings") == 0) {
        bool many = json_object_is_type(input, json_type_array);
        uint64_t before = job->n_inputs;
        job->n_inputs += many ? json_object_array_length(input) : 1;
        if (job->n_inputs > INPUTS_MOST && before <= INPUTS_MOST) {
            return refuse(error, "too_many_tasks",
                          "The number of embedding inputs in the batch exceeds the "
                          "maximum of %" PRIu64 ".",
                          INPUTS_MOST);
        }
    }
    return 0;
}

static int check(struct batch_job *job, struct slice text, struct json_object *line,
                 struct slice *id, struct batch_error *error) {
    struct json_object *body = json_get(line, "body");
    if (line == NULL && is_azure_job(job) && slice_starts(text, "\xEF\xBB\xBF")) {
        return refuse(
            error, "invalid_request",
            "A valid model deployment name couldn't be extracted from the "
            "input file. Please ensure that each row in the input file has a valid deployment name "
            "specified in the 'model' field, and that the deployment name is consistent across all "
            "rows.");
    }
    if (line == NULL) {
        return refuse(error, "invalid_json_line", "This line is not parseable as valid JSON.");
    }
    *id = json_text(json_get(line, "custom_id"));
    if (id->n == 0 || id->n > BATCH_ID_MAX) {
        return refuse(error, "missing_required_parameter",
                      "Missing required parameter: 'custom_id'.");
    }
    if (!slice_is(json_text(json_get(line, "method")), "POST")) {
        return refuse(error, "invalid_method", "Invalid value for 'method': expected POST.");
    }
    if (!slice_is(json_text(json_get(line, "url")), job->endpoint)) {
        return refuse(error, "url_mismatch",
                      "The URL provided for this request does not match the batch "
                      "endpoint '%s'.",
                      job->endpoint);
    }
    if (!json_object_is_type(body, json_type_object)) {
        return refuse(error, "missing_required_parameter", "Missing required parameter: 'body'.");
    }
    int rc = check_model(job, body, error);
    return rc != 0 || job->is_checked ? rc : check_counts(job, body, error);
}

static void answer(const struct respond *respond, struct batch_job *job, struct row *row,
                   struct httpd_reply *reply) {
    (void)job;
    struct json_object *body = json_get(row->line, "body");
    respond_to_value(respond, json_object_get(body), SLICE_NONE, row->job, NULL, NULL, reply);
}

static int write_error(const struct row *row, struct buf *out) {
    const char *code = row->end == ROW_EXPIRED     ? "batch_expired"
                       : row->end == ROW_CANCELLED ? "batch_cancelled"
                                                   : "request_timeout";
    const char *message =
        row->end == ROW_EXPIRED
            ? "This request could not be executed before the completion window expired."
        : row->end == ROW_CANCELLED
            ? "This request was not executed because the batch was cancelled."
            : "This request timed out.";
    return buf_addf(out, ",\"response\":null,\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", code,
                    message);
}

static int write_line(const struct batch_job *job, const struct row *row, struct buf *out) {
    (void)job;
    int rc = buf_addf(out, "{\"id\":\"batch_%s\",\"custom_id\":", row->job->id);
    rc = rc != 0 ? rc : json_add_string(out, row->id);
    if (rc != 0 || row->end != ROW_ANSWERED) {
        return rc != 0 ? rc : write_error(row, out);
    }
    rc = buf_addf(out,
                  ",\"response\":{\"status_code\":%d,\"request_id\":\"%s\",\"body\":", row->status,
                  row->job->id);
    rc = rc != 0                        ? rc
         : slice_starts(row->body, "{") ? buf_add_slice(out, row->body)
                                        : json_add_string(out, row->body);
    return rc != 0 ? rc : buf_add_str(out, "},\"error\":null}");
}

// make_file makes results into a file of the job.
static void make_file(struct batch_job *job, int which, int64_t now_us) {
    struct batch_jobs *jobs = job->jobs;
    const struct provider_options *o = jobs->respond->options;
    struct error why;
    if (job->results[which] == NULL && is_azure_job(job)) {
        job->results[which] = spool_new(o->spool, &why); // of 0 bytes
    }
    if (job->results[which] == NULL) {
        return;
    }
    struct file *file = files_add(jobs->files, "file-", (uint64_t)o->seed, job->owner,
                                  &job->results[which], now_us);
    snprintf(file->name, sizeof(file->name), "%s_%s.jsonl", job->id,
             which == 0 ? "output" : "error");
    strcpy(file->purpose, "batch_output");
    file->is_result = true;
    int64_t keep_us = o->batch_keep > 0 ? o->batch_keep * 1000 : 30 * BATCHES_DAY_US;
    file->expires_us = now_us + (job->keep_us > 0 ? job->keep_us : keep_us);
    (void)slice_copy(slice_of(file->id), which == 0 ? job->output_id : job->error_id,
                     sizeof(job->error_id));
}

static void made(struct batch_job *job, int64_t now_us) {
    make_file(job, 0, now_us);
    make_file(job, 1, now_us);
}

const struct batch_kind openai_batch = {.id = "batch_",
                                        .two_files = true,
                                        .tells_rest = true,
                                        .validates = true,
                                        .validity_us = BATCHES_DAY_US,
                                        .check = check,
                                        .answer = answer,
                                        .write = write_line,
                                        .made = made};
const struct batch_kind azure_batch = {.id = "batch_",
                                       .two_files = true,
                                       .tells_rest = true,
                                       .validates = true,
                                       .check = check,
                                       .answer = answer,
                                       .write = write_line,
                                       .made = made};

// --- the object ----------------------------------------------------------------------------------

static const char *const state_names[] = {
    [BATCH_VALIDATING] = "validating", [BATCH_RUNNING] = "in_progress",
    [BATCH_FINALIZING] = "finalizing", [BATCH_CANCELLING] = "cancelling",
    [BATCH_COMPLETED] = "completed",   [BATCH_FAILED] = "failed",
    [BATCH_EXPIRED] = "expired",       [BATCH_CANCELLED] = "cancelled",
};

static int add_errors(const struct batch_job *job, struct buf *out) {
    if (job->n_errors == 0 || job->state != BATCH_FAILED) {
        return buf_add_str(out, ",\"errors\":null");
    }
    int rc = buf_add_str(out, ",\"errors\":{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; rc == 0 && i < job->n_errors; i++) {
        const struct batch_error *e = &job->errors[i];
        rc = buf_addf(out, "%s{\"code\":\"%s\",\"message\":", i > 0 ? "," : "", e->code);
        rc = rc != 0 ? rc : json_add_string(out, slice_of(e->message));
        rc = rc != 0       ? rc
             : e->line > 0 ? buf_addf(out, ",\"param\":null,\"line\":%" PRIu64 "}", e->line)
                           : buf_add_str(out, ",\"param\":null,\"line\":null}");
    }
    return rc != 0 ? rc : buf_add_str(out, "]}");
}

static int add_id(struct buf *out, const char *name, const char *id) {
    return id[0] != '\0' ? buf_addf(out, ",\"%s\":\"%s\"", name, id)
                         : buf_addf(out, ",\"%s\":null", name);
}

static int add_times(const struct batch_job *job, bool as_text, struct buf *out) {
    struct {
        const char *name;
        int64_t us;
    } times[] = {
        {"created_at", job->created_us},
        {"in_progress_at", job->running_us},
        {"expires_at", job->created_us + (job->expires_us > 0 ? job->expires_us - job->created_us
                                                              : BATCHES_DAY_US)},
        {"finalizing_at", job->finalizing_us},
        {"completed_at", job->state == BATCH_COMPLETED ? job->ended_us : 0},
        {"failed_at", job->state == BATCH_FAILED ? job->ended_us : 0},
        {"expired_at", job->state == BATCH_EXPIRED ? job->ended_us : 0},
        {"cancelling_at", job->cancelling_us},
        {"cancelled_at", job->state == BATCH_CANCELLED ? job->ended_us : 0},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(times) / sizeof(times[0]); i++) {
        rc = openai_add_time(out, times[i].name, times[i].us, as_text);
    }
    return rc;
}

static int add_counts(const struct batch_job *job, struct buf *out) {
    bool ended = batch_jobs_is_ended(job);
    if (is_azure_job(job) && !ended) {
        return buf_add_str(
            out, ",\"request_counts\":{\"total\":null,\"completed\":null,\"failed\":null}");
    }
    int rc =
        buf_addf(out,
                 ",\"request_counts\":{\"total\":%" PRIu64 ",\"completed\":%" PRIu64
                 ",\"failed\":%" PRIu64 "}",
                 job->state == BATCH_VALIDATING || job->state == BATCH_FAILED ? 0 : job->n_rows,
                 job->n_succeeded, job->n_errored);
    if (rc == 0 && ended) {
        rc = buf_addf(
            out,
            ",\"usage\":{\"input_tokens\":%" PRIu64
            ",\"input_tokens_details\":{\"cached_tokens\":0},"
            "\"output_tokens\":%" PRIu64 ",\"output_tokens_details\":{\"reasoning_tokens\":0},"
            "\"total_tokens\":%" PRIu64 "}",
            job->input_tokens, job->output_tokens, job->input_tokens + job->output_tokens);
    }
    return rc;
}

static int add_job(const struct batch_job *job, bool fresh, struct buf *out) {
    bool odd = is_azure_job(job) && fresh; // as Azure's examples show it
    char state[16];
    (void)slice_copy(slice_of(state_names[job->state]), state, sizeof(state));
    state[0] = odd ? (char)(state[0] - 'a' + 'A') : state[0];
    int rc = buf_addf(out,
                      "{\"id\":\"%s\",\"object\":\"batch\",\"endpoint\":\"%s\",\"status\":\"%s\","
                      "\"completion_window\":\"24h\"",
                      job->id, job->endpoint, state);
    rc = rc != 0 ? rc : add_id(out, "input_file_id", job->input_id);
    rc = rc != 0 ? rc : add_id(out, "output_file_id", job->output_id);
    rc = rc != 0 ? rc : add_id(out, "error_file_id", job->error_id);
    rc = rc != 0 ? rc : buf_add_str(out, ",\"model\":");
    rc = rc != 0                 ? rc
         : job->model[0] != '\0' ? json_add_string(out, slice_of(job->model))
                                 : buf_add_str(out, "null");
    rc = rc != 0 ? rc : add_errors(job, out);
    rc = rc != 0 ? rc : add_times(job, odd, out);
    rc = rc != 0 ? rc : add_counts(job, out);
    return rc != 0
               ? rc
               : buf_addf(out, ",\"metadata\":%s}", job->metadata != NULL ? job->metadata : "null");
}

static void send_job(struct batch_call *call, const struct batch_job *job, bool fresh) {
    int rc = add_job(job, fresh, call_reply(call));
    call->reply->status = rc == 0 ? 200 : 500;
}

// --- calls ---------------------------------------------------------------------------------------

// check_metadata wants few and short pairs of text; 0 or -EINVAL after call_error.
static int check_metadata(struct batch_call *call, struct json_object *metadata) {
    bool right = json_object_is_type(metadata, json_type_object) &&
                 json_object_object_length(metadata) <= METADATA_MOST;
    if (right) {
        json_object_object_foreach(metadata, key, value) {
            right = right && strlen(key) <= KEY_MOST &&
                    json_object_is_type(value, json_type_string) &&
                    json_text(value).n <= VALUE_MOST;
        }
    }
    if (!right) {
        call_error(call, 400, NULL,
                   "Invalid 'metadata': expected at most %d pairs of strings, keys of at most "
                   "%d and values of at most %d characters.",
                   METADATA_MOST, KEY_MOST, VALUE_MOST);
    }
    return right ? 0 : -EINVAL;
}

// find_lines finds the API of the lines of an endpoint; NULL: it is not served.
static const struct api *find_lines(const struct batch_call *call, struct slice endpoint) {
    static const char *const known[] = {"/v1/chat/completions", "/v1/responses", "/v1/embeddings",
                                        "/chat/completions"};
    bool azure = openai_call_is_azure(call);
    char path[80];
    for (size_t i = 0; i < (azure ? 4u : 3u); i++) {
        if (slice_is(endpoint, known[i])) {
            snprintf(path, sizeof(path), "%s%s", azure ? "/openai" : "", known[i]);
            return api_find(slice_of(path));
        }
    }
    return NULL;
}

// read_keep reads output_expires_after; 0 or -EINVAL after call_error.
static int read_keep(struct batch_call *call, struct json_object *expires, int64_t *keep_us) {
    int64_t seconds = json_object_get_int64(json_get(expires, "seconds"));
    if (expires != NULL && (!slice_is(json_text(json_get(expires, "anchor")), "created_at") ||
                            seconds < 3600 || seconds > 2592000)) {
        call_error(call, 400, NULL,
                   "Invalid 'output_expires_after': expected the anchor created_at, and "
                   "between 3600 and 2592000 seconds.");
        return -EINVAL;
    }
    *keep_us = seconds * 1000000;
    return 0;
}

// n_active counts the owner's jobs that have not ended.
static uint64_t n_active(const struct batch_call *call) {
    const struct batch_job *job;
    uint64_t n = 0;
    DL_FOREACH(call->b->jobs.list, job) {
        n += job->owner == batches_owner(call) && !batch_jobs_is_ended(job);
    }
    return n;
}

// begin makes the job of a request; NULL after call_error.
static struct batch_job *begin(struct batch_call *call, struct json_object *root) {
    struct slice id = json_text(json_get(root, "input_file_id"));
    struct slice endpoint = json_text(json_get(root, "endpoint"));
    struct json_object *metadata = json_get(root, "metadata");
    struct file *file = files_find(&call->b->files, id, batches_owner(call), call->now_us);
    const struct api *api = find_lines(call, endpoint);
    int64_t keep_us = 0, most = call->b->respond->options->batch_jobs;
    if (api == NULL) {
        call_error(call, 400, NULL, "Invalid value for 'endpoint': got '%.*s'.",
                   SLICE_FMT(slice_sub(endpoint, 0, 60)));
    } else if (!slice_is(json_text(json_get(root, "completion_window")), "24h")) {
        call_error(call, 400, NULL, "Invalid value for 'completion_window': expected '24h'.");
    } else if (file == NULL || file->is_result) {
        call_error(call, 400, NULL, "Invalid 'input_file_id': no such file: '%.*s'.",
                   SLICE_FMT(slice_sub(id, 0, 80)));
    } else if (call->now_us < file->ready_us) {
        call_error(call, 400, NULL, "The file '%s' is not processed yet.", file->id);
    } else if (most > 0 && n_active(call) >= (uint64_t)most) {
        call_error(call, 429, "rate_limit_exceeded", "Too many batches at once.");
    }
    if (call->reply->status != 0 || (metadata != NULL && check_metadata(call, metadata) != 0) ||
        read_keep(call, json_get(root, "output_expires_after"), &keep_us) != 0) {
        return NULL;
    }
    struct spool *input = spool_share(file->spool);
    struct batch_job *job =
        batch_jobs_add(&call->b->jobs, openai_call_is_azure(call) ? &azure_batch : &openai_batch,
                       batches_owner(call), &input, call->now_us);
    job->api = api;
    job->keep_us = keep_us;
    (void)slice_copy(endpoint, job->endpoint, sizeof(job->endpoint));
    (void)slice_copy(id, job->input_id, sizeof(job->input_id));
    return job;
}

static void create(struct batch_call *call) {
    static const char *const names[] = {"input_file_id", "endpoint", "completion_window",
                                        "metadata", "output_expires_after"};
    struct json_object *root = NULL;
    enum batch_fault fault = call_fault(call, BATCH_AT_CREATE);
    call_note(call, "create", NULL, NULL);
    if (call->reply->status != 0 ||
        call_body(call, names, sizeof(names) / sizeof(names[0]), &root) != 0) {
        return;
    }
    struct batch_job *job = begin(call, root);
    if (job != NULL) {
        struct json_object *metadata = json_get(root, "metadata");
        struct buf text = {.max = 65536};
        if (metadata != NULL && json_add(&text, metadata) == 0) {
            job->metadata = buf_take(&text);
        }
        buf_free(&text);
        job->faults[BATCH_FAULT_QUEUE_FULL] = fault == BATCH_FAULT_QUEUE_FULL;
        call_note(call, "create", job->id, job->input_id);
        send_job(call, job, true);
        call_lose(call, fault);
        batches_run(call->b);
    }
    json_object_put(root);
}

static void list(struct batch_call *call) {
    struct slice after = httpd_query(call->request, "after");
    int64_t limit = 0, n = 0;
    (void)call_fault(call, BATCH_AT_POLL);
    if (call->reply->status != 0 ||
        call_number(call, "limit", LIST_USUAL, 1, LIST_MOST, &limit) != 0) {
        return;
    }
    struct buf *out = call_reply(call);
    const struct batch_job *oldest = call->b->jobs.list, *first = NULL, *last = NULL;
    const struct batch_job *job = oldest != NULL ? oldest->prev : NULL;
    bool started = after.n == 0, more = false;
    int rc = buf_add_str(out, "{\"object\":\"list\",\"data\":[");
    while (rc == 0 && job != NULL) {
        bool seen =
            job->owner == batches_owner(call) && (job->kind == &openai_batch || is_azure_job(job));
        if (seen && started && n == limit) {
            more = true;
            break;
        }
        if (seen && started) {
            rc = n++ > 0 ? buf_add_byte(out, ',') : 0;
            rc = rc != 0 ? rc : add_job(job, false, out);
            first = first == NULL ? job : first;
            last = job;
        }
        started |= seen && slice_is(after, job->id);
        job = job == oldest ? NULL : job->prev;
    }
    rc = rc != 0 ? rc : buf_addf(out, "],\"has_more\":%s", more ? "true" : "false");
    rc = rc != 0 ? rc : add_id(out, "first_id", first != NULL ? first->id : "");
    rc = rc != 0 ? rc : add_id(out, "last_id", last != NULL ? last->id : "");
    rc = rc != 0 ? rc : buf_add_byte(out, '}');
    call->reply->status = rc == 0 ? 200 : 500;
}

static void cancel(struct batch_call *call, struct batch_job *job) {
    enum batch_fault fault = call_fault(call, BATCH_AT_CANCEL);
    if (call->reply->status != 0) {
        return;
    }
    if (batch_jobs_cancel(job, call->now_us) != 0) {
        call_error(call, 409, NULL, "Cannot cancel a batch with status '%s'.",
                   state_names[job->state]);
        return;
    }
    send_job(call, job, false);
    call_lose(call, fault);
    batches_run(call->b);
}

void openai_serve_batches(struct batch_call *call) {
    struct slice rest, id, verb;
    bool known =
        openai_rest(httpd_path(call->request), openai_call_is_azure(call), "/batches", &rest);
    openai_split(known ? rest : SLICE_NONE, &id, &verb);
    struct batch_job *job = batch_jobs_find(&call->b->jobs, id, batches_owner(call));
    if (id.n == 0 && call_is(call, "POST")) {
        create(call);
    } else if (id.n == 0 && call_is(call, "GET")) {
        call_note(call, "list", NULL, NULL);
        list(call);
    } else if (id.n > 0 && job == NULL) {
        call_error(call, 404, NULL, "No batch found with id '%.*s'.",
                   SLICE_FMT(slice_sub(id, 0, 80)));
    } else if (id.n > 0 && verb.n == 0 && call_is(call, "GET")) {
        call_note(call, "get", job->id, NULL);
        (void)call_fault(call, BATCH_AT_POLL);
        if (call->reply->status == 0) {
            send_job(call, job, false);
        }
    } else if (slice_is(verb, "cancel") && call_is(call, "POST")) {
        call_note(call, "cancel", job->id, NULL);
        cancel(call, job);
    } else {
        call_error(call, verb.n > 0 ? 404 : 405, NULL, "Unknown request URL.");
    }
}

static bool owns(struct slice path) {
    struct slice rest;
    return openai_rest(path, false, "/batches", &rest);
}

const struct api api_batches_openai = {
    .name = "batches", .owns = owns, .serve = openai_serve_batches};
