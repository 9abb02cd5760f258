// Gemini's batches of generateContent and embedContent: create with requests inside or in a file,
// look, list, cancel, delete. A job is an operation; its results are a file, or stand in the
// operation. Called through the table of APIs.
//
// Source: the API reference of Gemini, "Batch API", 2026-08.
#include "tests/provider/batches.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define INLINE_MOST UINT64_C(20971520)
#define JOBS_MOST   100
#define KEEP_US     (2 * BATCHES_DAY_US)
#define LIST_MOST   100
#define LIST_USUAL  10
#define MODELS      "/v1beta/models/"
#define BATCHES     "/v1beta/batches"
#define GENERATE    ":batchGenerateContent"
#define EMBED       ":asyncBatchEmbedContent"
#define TOKEN_BYTES 4

static bool ends_in(struct slice path, const char *end) {
    size_t n = strlen(end);
    return slice_starts(path, MODELS) && path.n > sizeof(MODELS) - 1 + n &&
           slice_is(slice_sub(path, path.n - n, n), end);
}

static bool owns(struct slice path) {
    size_t n = sizeof(BATCHES) - 1;
    return ends_in(path, GENERATE) || ends_in(path, EMBED) ||
           (slice_starts(path, BATCHES) && (path.n == n || path.p[n] == '/'));
}

// --- lines ---------------------------------------------------------------------------------------

static bool embeds(const struct batch_job *job) {
    return strcmp(job->api->end, ":batchEmbedContents") == 0;
}

static int check(struct batch_job *job, struct slice text, struct json_object *line,
                 struct slice *id, struct batch_error *error) {
    static const char *const names[] = {"key", "request"}, *const inlined[] = {"request",
                                                                               "metadata"};
    (void)text;
    strcpy(error->code, "INVALID_ARGUMENT");
    *id = json_text(job->is_inline ? json_get(json_get(line, "metadata"), "key")
                                   : json_get(line, "key"));
    const char *surplus =
        line != NULL ? api_unknown_field(line, job->is_inline ? inlined : names, 2) : NULL;
    if (line == NULL) {
        snprintf(error->message, sizeof(error->message),
                 "Line %" PRIu64 " is not a valid JSON object.", job->n_rows);
    } else if (surplus != NULL) {
        snprintf(error->message, sizeof(error->message),
                 "Line %" PRIu64 ": Unknown name \"%.40s\": Cannot "
                 "find field.",
                 job->n_rows, surplus);
    } else if (!json_object_is_type(json_get(line, "request"), json_type_object)) {
        snprintf(error->message, sizeof(error->message),
                 "Line %" PRIu64 ": request is not specified.", job->n_rows);
    } else {
        return 0;
    }
    return -EINVAL;
}

// unwrap makes {"embedding":{...}} of {"embeddings":[{...}]}.
static void unwrap(struct buf *body) {
    static const char head[] = "{\"embeddings\":[";
    struct slice all = buf_slice(body), inner = slice_sub(all, sizeof(head) - 1, SIZE_MAX);
    const char *end = inner.n > 0 ? memchr(inner.p, '}', inner.n) : NULL;
    struct buf out;
    buf_init(&out, RESPOND_MAX);
    if (!slice_starts(all, head) || end == NULL) {
        return;
    }
    int rc = buf_add_str(&out, "{\"embedding\":");
    rc = rc != 0 ? rc : buf_add_slice(&out, slice_sub(inner, 0, (size_t)(end + 1 - inner.p)));
    rc = rc != 0 ? rc : buf_add_byte(&out, '}');
    if (rc != 0) {
        buf_free(&out);
        return;
    }
    buf_free(body);
    *body = out;
}

static void answer(const struct respond *respond, struct batch_job *job, struct row *row,
                   struct httpd_reply *reply) {
    struct json_object *request = json_object_get(json_get(row->line, "request"));
    if (embeds(job)) {
        struct json_object *root = json_object_new_object(), *requests = json_object_new_array();
        char model[112];
        snprintf(model, sizeof(model), "models/%s", job->model);
        if (json_get(request, "model") == NULL) {
            json_object_object_add(request, "model", json_object_new_string(model));
        }
        json_object_array_add(requests, request);
        json_object_object_add(root, "requests", requests);
        request = root;
    }
    respond_to_value(respond, request, slice_of(job->model), row->job, NULL, NULL, reply);
    if (embeds(job) && reply->status == 200) {
        unwrap(&reply->body);
    }
}

static int grpc_code(int status) {
    static const struct {
        int status, code;
    } codes[] = {{400, 3},  {401, 16}, {403, 7}, {404, 5},  {408, 4},
                 {409, 10}, {429, 8},  {499, 1}, {503, 14}, {504, 4}};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].status == status) {
            return codes[i].code;
        }
    }
    return 13; // INTERNAL
}

static int write_error(const struct row *row, struct buf *out) {
    struct json_object *root = NULL;
    struct slice message = SLICE_LIT("Internal error encountered.");
    int code = row->end == ROW_TIMEOUT ? 4 : grpc_code(row->status);
    if (row->end == ROW_TIMEOUT) {
        message = SLICE_LIT("Deadline expired before operation could complete.");
    } else if (json_parse(row->body, &root, NULL) == 0) {
        message = json_text(json_get(json_get(root, "error"), "message"));
    }
    int rc = buf_addf(out, ",\"error\":{\"code\":%d,\"message\":", code);
    rc = rc != 0 ? rc : json_add_string(out, message);
    json_object_put(root);
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int write_line(const struct batch_job *job, const struct row *row, struct buf *out) {
    int rc = buf_add_str(out, job->is_inline ? "{\"metadata\":{\"key\":" : "{\"key\":");
    rc = rc != 0 ? rc : json_add_string(out, row->id);
    rc = rc == 0 && job->is_inline ? buf_add_byte(out, '}') : rc;
    if (rc == 0 && (row->end != ROW_ANSWERED || row->status / 100 != 2)) {
        rc = write_error(row, out);
    } else {
        rc = rc != 0 ? rc : buf_add_str(out, ",\"response\":");
        rc = rc != 0 ? rc : buf_add_slice(out, row->body);
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static void made(struct batch_job *job, int64_t now_us) {
    struct batch_jobs *jobs = job->jobs;
    const struct provider_options *o = jobs->respond->options;
    if (job->state != BATCH_COMPLETED) { // nothing is kept of a job that expired or was cancelled
        spool_leave(&job->results[0]);
    }
    if (job->results[0] == NULL || job->is_inline) {
        return;
    }
    struct file *file = files_add(jobs->files, "files/batch-", (uint64_t)o->seed, job->owner,
                                  &job->results[0], now_us);
    snprintf(file->name, sizeof(file->name), "%.64s", job->id);
    strcpy(file->type, "application/jsonl");
    file->is_result = true;
    file->expires_us = now_us + (o->batch_keep > 0 ? o->batch_keep * 1000 : KEEP_US);
    (void)slice_copy(slice_of(file->id), job->output_id, sizeof(job->output_id));
}

const struct batch_kind gemini_batch = {.id = "batches/",
                                        .repeats = true,
                                        .validates = true,
                                        .validity_us = 2 * BATCHES_DAY_US,
                                        .check = check,
                                        .answer = answer,
                                        .write = write_line,
                                        .made = made};

// --- the operation -------------------------------------------------------------------------------

static const char *const state_names[] = {
    [BATCH_VALIDATING] = "PENDING", [BATCH_RUNNING] = "RUNNING",     [BATCH_FINALIZING] = "RUNNING",
    [BATCH_CANCELLING] = "RUNNING", [BATCH_COMPLETED] = "SUCCEEDED", [BATCH_FAILED] = "FAILED",
    [BATCH_EXPIRED] = "EXPIRED",    [BATCH_CANCELLED] = "CANCELLED",
};

// state_head is what the names of states begin with.
static const char *state_head(const struct batch_call *call) {
    const struct setup *setup = call->b->respond->setup;
    bool job = setup->states_job || (setup->states_mixed && call->job->n % 2 == 1);
    return job ? "JOB_STATE_" : "BATCH_STATE_";
}

// add_inlined appends the results of a job that came inside its request.
static int add_inlined(const struct batch_job *job, struct buf *out) {
    struct spool_window window = {0};
    struct slice line;
    uint64_t at = 0;
    int rc = buf_add_str(out, "{\"inlinedResponses\":{\"inlinedResponses\":[");
    while (rc == 0 && job->results[0] != NULL &&
           spool_line(job->results[0], &window, at, RESPOND_MAX, &line) == 1) {
        rc = at > 0 ? buf_add_byte(out, ',') : 0;
        rc = rc != 0 ? rc : buf_add_slice(out, line);
        at += line.n + 1;
    }
    spool_window_free(&window);
    return rc != 0 ? rc : buf_add_str(out, "]}}");
}

static bool has_results(const struct batch_job *job, int64_t now_us) {
    int64_t keep_ms = job->jobs->respond->options->batch_keep;
    int64_t keep_us = keep_ms > 0 ? keep_ms * 1000 : KEEP_US;
    return job->state == BATCH_COMPLETED && now_us < job->ended_us + keep_us &&
           (job->is_inline ? job->results[0] != NULL : job->output_id[0] != '\0');
}

static int add_output(const struct batch_job *job, struct buf *out) {
    return job->is_inline ? add_inlined(job, out)
                          : buf_addf(out, "{\"responsesFile\":\"%s\"}", job->output_id);
}

static int add_stats(const struct batch_job *job, struct buf *out) {
    uint64_t n_ended = job->n_succeeded + job->n_errored;
    int rc = buf_addf(out, ",\"batchStats\":{\"requestCount\":\"%" PRIu64 "\"",
                      job->is_checked ? job->n_rows : 0);
    rc = rc == 0 && job->n_succeeded > 0
             ? buf_addf(out, ",\"successfulRequestCount\":\"%" PRIu64 "\"", job->n_succeeded)
             : rc;
    rc = rc == 0 && job->n_errored > 0
             ? buf_addf(out, ",\"failedRequestCount\":\"%" PRIu64 "\"", job->n_errored)
             : rc;
    rc = rc == 0 && job->is_checked && n_ended < job->n_rows
             ? buf_addf(out, ",\"pendingRequestCount\":\"%" PRIu64 "\"", job->n_rows - n_ended)
             : rc;
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int add_metadata(const struct batch_call *call, const struct batch_job *job,
                        struct buf *out) {
    char created[BATCHES_TIME_MAX], updated[BATCHES_TIME_MAX], ended[BATCHES_TIME_MAX];
    batches_time(job->created_us, created);
    batches_time(batch_jobs_is_ended(job) ? job->ended_us : call->now_us, updated);
    batches_time(job->ended_us, ended);
    int rc = buf_addf(
        out,
        "\"metadata\":{\"@type\":\"type.googleapis.com/google.ai.generativelanguage.v1main.%s\","
        "\"model\":\"models/%s\",\"name\":\"%s\",\"displayName\":",
        embeds(job) ? "EmbedContentBatch" : "GenerateContentBatch", job->model, job->id);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(job->name));
    rc = rc != 0 ? rc
                 : buf_addf(out, ",\"state\":\"%s%s\",\"createTime\":\"%s\",\"updateTime\":\"%s\"",
                            state_head(call), state_names[job->state], created, updated);
    rc = rc == 0 && batch_jobs_is_ended(job) ? buf_addf(out, ",\"endTime\":\"%s\"", ended) : rc;
    rc = rc == 0 && job->input_id[0] != '\0'
             ? buf_addf(out, ",\"inputConfig\":{\"fileName\":\"%s\"}", job->input_id)
             : rc;
    return rc != 0 ? rc : add_stats(job, out);
}

static int add_error(const struct batch_job *job, struct buf *out) {
    const char *message = job->state == BATCH_FAILED    ? job->errors[0].message
                          : job->state == BATCH_EXPIRED ? "The batch has expired."
                                                        : "The batch was cancelled.";
    bool full =
        job->state == BATCH_FAILED && strcmp(job->errors[0].code, "token_limit_exceeded") == 0;
    int code = full ? 8 : job->state == BATCH_FAILED ? 3 : job->state == BATCH_EXPIRED ? 4 : 1;
    int rc = buf_addf(out, ",\"done\":true,\"error\":{\"code\":%d,\"message\":", code);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(message));
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// add_job appends a job's operation; with its results, unless it stands in a list and they are
// inlined.
static int add_job(const struct batch_call *call, const struct batch_job *job, bool listed,
                   struct buf *out) {
    bool results = has_results(job, call->now_us) && !(listed && job->is_inline);
    int rc = buf_addf(out, "{\"name\":\"%s\",", job->id);
    rc = rc != 0 ? rc : add_metadata(call, job, out);
    rc = rc == 0 && results ? buf_add_str(out, ",\"output\":") : rc;
    rc = rc == 0 && results ? add_output(job, out) : rc;
    rc = rc != 0 ? rc : buf_add_byte(out, '}');
    if (rc == 0 && job->state == BATCH_COMPLETED) {
        rc = buf_add_str(out, ",\"done\":true");
        rc = rc == 0 && results ? buf_add_str(out, ",\"response\":") : rc;
        rc = rc == 0 && results ? add_output(job, out) : rc;
    } else if (rc == 0 && batch_jobs_is_ended(job)) {
        rc = add_error(job, out);
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static void send_job(struct batch_call *call, const struct batch_job *job) {
    int rc = add_job(call, job, false, call_reply(call));
    call->reply->status = rc == 0 ? 200 : 500;
}

// --- create --------------------------------------------------------------------------------------

static struct upload *open_create(struct batches *b, const struct httpd_request *request) {
    static const char *const path[] = {"batch", "inputConfig", "requests", "requests"};
    struct slice at = httpd_path(request);
    return slice_is(httpd_method(request), "POST") && (ends_in(at, GENERATE) || ends_in(at, EMBED))
               ? upload_array(b->respond->options->spool, path, 4, INLINE_MOST)
               : NULL;
}

// member finds a member by either of its spellings.
static struct json_object *member(struct json_object *object, const char *name, const char *other) {
    struct json_object *found = json_get(object, name);
    return found != NULL ? found : json_get(object, other);
}

// check_names refuses members that are not known; 0 or -EINVAL after call_error.
static int check_names(struct batch_call *call, struct json_object *object,
                       const char *const *names, size_t n, const char *at) {
    const char *surplus = object != NULL ? api_unknown_field(object, names, n) : NULL;
    if (surplus == NULL) {
        return 0;
    }
    call_error(call, 400, NULL,
               "Invalid JSON payload received. Unknown name \"%.60s\" at '%s': Cannot find "
               "field.",
               surplus, at);
    return -EINVAL;
}

static int check_all_names(struct batch_call *call, struct json_object *root) {
    static const char *const of_root[] = {"batch"};
    static const char *const of_batch[] = {
        "displayName", "display_name", "inputConfig", "input_config", "priority", "name", "model"};
    static const char *const of_input[] = {"fileName", "file_name", "requests"};
    struct json_object *batch = json_get(root, "batch");
    struct json_object *input = member(batch, "inputConfig", "input_config");
    int rc = check_names(call, root, of_root, 1, "request");
    rc = rc != 0 ? rc : check_names(call, batch, of_batch, 7, "batch");
    return rc != 0 ? rc : check_names(call, input, of_input, 3, "batch.input_config");
}

static uint64_t n_active(const struct batch_call *call) {
    const struct batch_job *job;
    uint64_t n = 0;
    DL_FOREACH(call->b->jobs.list, job) {
        n += job->owner == batches_owner(call) && !batch_jobs_is_ended(job);
    }
    return n;
}

// find_input finds the input's bytes, shared; NULL after call_error.
static struct spool *find_input(struct batch_call *call, struct slice name) {
    struct upload *u = call->job->upload;
    bool inlined = u->array.found;
    if (inlined == (name.n > 0)) {
        call_error(call, 400, NULL,
                   "batch.input_config: want one of file_name and requests.requests");
        return NULL;
    }
    if (inlined && u->n_elements == 0) {
        call_error(call, 400, NULL, "batch.input_config.requests.requests: must not be empty");
        return NULL;
    }
    if (inlined) {
        return spool_share(u->spool);
    }
    struct file *file = files_find(&call->b->files, name, batches_owner(call), call->now_us);
    if (file == NULL || file->is_open || !slice_starts(name, "files/")) {
        call_error(call, 404, NULL, "File %.*s is not found.", SLICE_FMT(slice_sub(name, 0, 80)));
        return NULL;
    }
    if (call->now_us < file->ready_us) {
        call_error(call, 409, NULL,
                   "The File %s is not in an ACTIVE state and usage is not allowed.", file->id);
        return NULL;
    }
    return spool_share(file->spool);
}

static void begin(struct batch_call *call, struct json_object *root, enum batch_fault fault) {
    struct slice path = httpd_path(call->request);
    bool embed = ends_in(path, EMBED);
    struct json_object *batch = json_get(root, "batch");
    struct slice file =
        json_text(member(member(batch, "inputConfig", "input_config"), "fileName", "file_name"));
    struct slice name = json_text(member(batch, "displayName", "display_name"));
    size_t head = sizeof(MODELS) - 1, end = strlen(embed ? EMBED : GENERATE);
    struct slice model = slice_sub(path, head, path.n - head - end);
    char model_name[sizeof(((struct batch_job *)0)->model)];
    struct spool *input = find_input(call, file);
    if (input == NULL) {
        return;
    }
    (void)slice_copy(model, model_name, sizeof(model_name));
    uint64_t most = batches_most(call->b->respond->options->batch_jobs, JOBS_MOST);
    if (fault == BATCH_FAULT_QUEUE_FULL || n_active(call) >= most ||
        batch_jobs_queue_is_full(&call->b->jobs, batches_owner(call), model_name,
                                 input->n / TOKEN_BYTES, NULL)) {
        call_error(call, 429, NULL,
                   "You exceeded your current quota: too many enqueued tokens or batches.");
        spool_leave(&input);
        return;
    }
    struct batch_job *job =
        batch_jobs_add(&call->b->jobs, &gemini_batch, batches_owner(call), &input, call->now_us);
    job->api = api_find(embed ? SLICE_LIT(MODELS "m:batchEmbedContents")
                              : SLICE_LIT(MODELS "m:generateContent"));
    job->is_inline = file.n == 0;
    memcpy(job->model, model_name, sizeof(model_name));
    (void)slice_copy(path, job->endpoint, sizeof(job->endpoint));
    (void)slice_copy(file, job->input_id, sizeof(job->input_id));
    (void)slice_copy(name, job->name, sizeof(job->name));
    job->faults[BATCH_FAULT_SHUFFLE] &= !job->is_inline; // they keep the order of the requests
    call_note(call, "create", job->id, file.n > 0 ? job->input_id : NULL);
    send_job(call, job);
    call_lose(call, fault);
    batches_run(call->b);
}

static void create(struct batch_call *call) {
    struct upload *u = call->job->upload;
    struct json_object *root = NULL;
    struct error why = {0};
    enum batch_fault fault = call_fault(call, BATCH_AT_CREATE);
    call_note(call, "create", NULL, NULL);
    if (call->reply->status != 0) {
        return;
    }
    int rc = upload_end(u);
    rc = rc != 0 ? rc : json_parse(buf_slice(&u->array.rest), &root, &why);
    if (rc == -EMSGSIZE) {
        call_error(call, 400, NULL, "Request payload size exceeds the limit: %" PRIu64 " bytes.",
                   INLINE_MOST);
    } else if (rc != 0) {
        call_error(call, rc == -EIO ? 500 : 400, NULL, "Invalid JSON payload received. %s",
                   why.text[0] != '\0' ? why.text : u->why.text);
    } else if (!json_object_is_type(json_get(root, "batch"), json_type_object)) {
        call_error(call, 400, NULL, "batch: must be specified");
    } else if (check_all_names(call, root) == 0) {
        begin(call, root, fault);
    }
    json_object_put(root);
}

// --- other calls ---------------------------------------------------------------------------------

static void list(struct batch_call *call) {
    struct slice token = httpd_query(call->request, "pageToken");
    int64_t limit = 0, n = 0;
    char last[20] = "";
    (void)call_fault(call, BATCH_AT_POLL);
    if (call->reply->status != 0 ||
        call_number(call, "pageSize", LIST_USUAL, 1, LIST_MOST, &limit) != 0) {
        return;
    }
    struct buf *out = call_reply(call);
    const struct batch_job *oldest = call->b->jobs.list,
                           *job = oldest != NULL ? oldest->prev : NULL;
    uint64_t below = token.n > 0 ? strtoull(token.p, NULL, 16) : UINT64_MAX;
    bool more = false;
    int rc = buf_add_str(out, "{\"operations\":[");
    for (; rc == 0 && job != NULL && !more; job = job == oldest ? NULL : job->prev) {
        if (job->owner != batches_owner(call) || job->kind != &gemini_batch ||
            job->number >= below) {
            continue;
        }
        more = n == limit;
        if (!more) {
            rc = n++ > 0 ? buf_add_byte(out, ',') : 0;
            rc = rc != 0 ? rc : add_job(call, job, true, out);
            snprintf(last, sizeof(last), "%" PRIx64, job->number);
        }
    }
    rc = rc != 0 ? rc : buf_add_byte(out, ']');
    rc = rc == 0 && more ? buf_addf(out, ",\"nextPageToken\":\"%s\"", last) : rc;
    rc = rc != 0 ? rc : buf_add_byte(out, '}');
    call->reply->status = rc == 0 ? 200 : 500;
}

static void send_nothing(struct batch_call *call) {
    int rc = buf_add_str(call_reply(call), "{}\n");
    call->reply->status = rc == 0 ? 200 : 500;
}

static void cancel(struct batch_call *call, struct batch_job *job) {
    enum batch_fault fault = call_fault(call, BATCH_AT_CANCEL);
    if (call->reply->status != 0) {
        return;
    }
    if (batch_jobs_cancel(job, call->now_us) != 0) {
        call_error(call, 409, NULL, "The batch %s has ended and cannot be cancelled.", job->id);
        return;
    }
    send_nothing(call);
    call_lose(call, fault);
    batches_run(call->b);
}

static void remove_job(struct batch_call *call, struct batch_job *job) {
    (void)call_fault(call, BATCH_AT_REMOVE);
    if (call->reply->status == 0) {
        send_nothing(call);
        batch_jobs_remove(&call->b->jobs, job);
    }
}

static void serve_one(struct batch_call *call, struct batch_job *job, bool cancels) {
    if (cancels && call_is(call, "POST")) {
        call_note(call, "cancel", job->id, NULL);
        cancel(call, job);
    } else if (!cancels && call_is(call, "GET")) {
        call_note(call, job->is_inline && has_results(job, call->now_us) ? "download" : "get",
                  job->id, NULL);
        (void)call_fault(call, BATCH_AT_POLL);
        if (call->reply->status == 0) {
            send_job(call, job);
        }
    } else if (!cancels && call_is(call, "DELETE")) {
        call_note(call, "remove", job->id, NULL);
        remove_job(call, job);
    } else {
        call_error(call, 405, NULL, "Method Not Allowed");
    }
}

static void serve(struct batch_call *call) {
    struct slice path = httpd_path(call->request),
                 id = slice_sub(path, strlen("/v1beta/"), SIZE_MAX);
    size_t n = strlen(":cancel");
    bool cancels = id.n > n && slice_is(slice_sub(id, id.n - n, n), ":cancel");
    id.n -= cancels ? n : 0;
    if (slice_starts(path, MODELS) && call->job->upload != NULL) {
        create(call);
    } else if (slice_is(path, BATCHES) && call_is(call, "GET")) {
        call_note(call, "list", NULL, NULL);
        list(call);
    } else if (slice_starts(path, MODELS) || slice_is(path, BATCHES)) {
        call_error(call, 405, NULL, "Method Not Allowed");
    } else {
        struct batch_job *job = batch_jobs_find(&call->b->jobs, id, batches_owner(call));
        if (job == NULL) {
            call_error(call, 404, NULL, "Requested entity was not found.");
            return;
        }
        serve_one(call, job, cancels);
    }
}

const struct api api_batches_gemini = {.name = "gemini batches",
                                       .key = API_KEY_GEMINI,
                                       .style = TELL_GEMINI,
                                       .owns = owns,
                                       .open = open_create,
                                       .serve = serve};
