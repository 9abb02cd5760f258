// Gemini's batches: a job is a long-running operation, whose lines go with the request or stand in an
// uploaded file, and whose answers stand in the operation or in a file of its own. Invariants: an operation
// is never read as a whole, since it may hold all answers; a state counts with either prefix.
// Source: ai.google.dev/gemini-api/docs/batch-api and ai.google.dev/api/files, 2026-11.
#include "worker/batch.h"

#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PAGES 50            // most pages of a list, each of 100
#define INLINED "inlinedResponses"

static const struct exchange upload_bytes, file, find, poll, download, delete_file;

static bool is_embedding(const struct batch_step *step) {
    return step->held->model->api->kind == API_BATCH_EMBED;
}

// last_of borrows what follows the collection in a name such as files/abc.
static struct slice last_of(struct slice name) {
    const char *slash = name.n > 0 ? memrchr(name.p, '/', name.n) : NULL;
    return slash != NULL ? slice_sub(name, (size_t)(slash + 1 - name.p), name.n) : name;
}

// ask_named makes a request for a thing of a collection.
static int ask_named(struct batch_step *step, enum transfer_method method, const char *prefix,
                     const char *collection, struct slice name, const char *what) {
    char id[BATCH_ID_MAX * 3 + 1];
    return batch_url(step, method, prefix, "/%s/%s%s", collection, batch_escape(last_of(name), id, sizeof(id)),
                     what);
}

// ---- Upload: a place is asked for, then filled ----------------------------------------------------

static int ask_upload(struct batch_step *step) {
    struct transfer_ask *ask = &step->ask;
    int rc = batch_url(step, TRANSFER_POST, "/upload", "/files");
    buf_clear(&step->header[0]);
    rc = rc != 0 ? rc : buf_addf(&step->header[0], "X-Goog-Upload-Header-Content-Length: %" PRIu64,
                                 step->lines.n_bytes);
    rc = rc != 0 ? rc : buf_addf(&step->text, "{\"file\":{\"displayName\":\"%.*s.jsonl\"}}",
                                 SLICE_FMT(step->name));
    ask->text = buf_slice(&step->text);
    ask->headers[ask->n_headers++] = "X-Goog-Upload-Protocol: resumable";
    ask->headers[ask->n_headers++] = "X-Goog-Upload-Command: start";
    ask->headers[ask->n_headers++] = step->header[0].p;
    ask->headers[ask->n_headers++] = "X-Goog-Upload-Header-Content-Type: application/jsonl";
    return rc;
}

static const struct exchange *read_upload(struct batch_step *step, const struct transfer_end *end) {
    if (end->decided || end->status != 200) {
        json_object_put(batch_read(step, end));
        return NULL;
    }
    buf_clear(&step->header[1]);
    if (end->place[0] == '\0' || buf_add_str(&step->header[1], end->place) != 0) {
        (void)batch_fail(step, OUTCOME_TRANSIENT, "the provider gave no place for the file");
        return NULL;
    }
    return &upload_bytes;
}

// ask_upload_bytes: the place is a URL of the provider's; credentials go to their own site alone.
static int ask_upload_bytes(struct batch_step *step) {
    struct slice site = step->place.site, place = buf_slice(&step->header[1]);
    bool own = place.n > site.n && slice_eq(slice_sub(place, 0, site.n), site) && place.p[site.n] == '/';
    step->ask = (struct transfer_ask){
        .method = TRANSFER_POST,
        .url = step->header[1].p,
        .base = own ? step->held->headers : NULL,
        .file = &step->lines,
        .timeout_ms = step->held->model->options.request_timeout_ms,
    };
    step->ask.headers[step->ask.n_headers++] = "X-Goog-Upload-Offset: 0";
    step->ask.headers[step->ask.n_headers++] = "X-Goog-Upload-Command: upload, finalize";
    step->ask.headers[step->ask.n_headers++] = "Content-Type: application/jsonl";
    step->ask.headers[step->ask.n_headers++] = "Expect:";
    return 0;
}

static const struct exchange *read_file(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = batch_read(step, end);
    if (root == NULL) {
        return NULL;
    }
    struct json_object *inner = json_get(root, "file"), *told = inner != NULL ? inner : root;
    struct slice state = json_text(json_get(told, "state"));
    const struct exchange *next = NULL;
    batch_keep(json_text(json_get(told, "name")), step->done.file, sizeof(step->done.file));
    if (step->done.file[0] == '\0') {
        (void)batch_fail(step, OUTCOME_TRANSIENT, "the provider took the file and gave no name for it");
    } else if (slice_is_nocase(state, "FAILED")) {
        (void)batch_fail(step, OUTCOME_TRANSIENT, "the provider could not process the file");
    } else if (slice_is_nocase(state, "PROCESSING")) {
        next = batch_wait(step, &file);
    }
    json_object_put(root);
    return next;
}

static int ask_file(struct batch_step *step) {
    return ask_named(step, TRANSFER_GET, "", "files", slice_of(step->done.file), "");
}

static const struct exchange upload = {.ask = ask_upload, .read = read_upload};
static const struct exchange upload_bytes = {.ask = ask_upload_bytes, .read = read_file};
static const struct exchange file = {.ask = ask_file, .read = read_file};

// ---- The operation as it is told of ---------------------------------------------------------------

static const struct {
    const char *word, *state;
} states[] = {
    {.word = "SUCCEEDED", .state = "ended"},     {.word = "PARTIALLY_SUCCEEDED", .state = "ended"},
    {.word = "FAILED", .state = "failed"},       {.word = "CANCELLED", .state = "cancelled"},
    {.word = "EXPIRED", .state = "expired"},
};

static const char *state_of(struct slice word) {
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (batch_state_is(word, states[i].word)) {
            return states[i].state;
        }
    }
    return "running";
}

static void read_operation(struct batch_step *step, struct json_object *root) {
    struct json_object *metadata = json_get(root, "metadata"), *error = json_get(root, "error");
    struct json_object *stats = json_get(metadata, "batchStats");
    struct json_object *output = json_get(root, "response");
    struct slice state = json_text(json_get(metadata, "state"));
    struct batch_done *done = &step->done;
    if (json_get(output, "responsesFile") == NULL) {
        output = json_get(metadata, "output");
    }
    batch_keep(json_text(json_get(root, "name")), done->id, sizeof(done->id));
    bool ended = state.n == 0 && json_object_get_boolean(json_get(root, "done"));
    done->state = !ended ? state_of(state) : error != NULL ? "failed" : "ended";
    done->total = batch_number(stats, "requestCount");
    done->completed = batch_number(stats, "successfulRequestCount");
    done->failed = batch_number(stats, "failedRequestCount");
    batch_keep(json_text(json_get(output, "responsesFile")), step->files[0], sizeof(step->files[0]));
    if (error != NULL) {
        text_clean(json_text(json_get(error, "message")), done->detail, sizeof(done->detail));
    }
}

// ---- Create, find -------------------------------------------------------------------------------

static int ask_create(struct batch_step *step) {
    char model[BATCH_ID_MAX * 3 + 1];
    struct transfer_ask *ask = &step->ask;
    int rc = batch_url(step, TRANSFER_POST, "", "/models/%s:%s",
                       batch_escape(last_of(slice_of(step->held->model->options.model)), model, sizeof(model)),
                       is_embedding(step) ? "asyncBatchEmbedContent" : "batchGenerateContent");
    if (rc != 0 || step->file.n == 0) {
        ask->file = &step->lines;
        return rc;
    }
    rc = buf_addf(&step->text, "{\"batch\":{\"displayName\":\"%.*s\",\"inputConfig\":{\"fileName\":",
                  SLICE_FMT(step->name));
    rc = rc != 0 ? rc : json_add_string(&step->text, step->file);
    rc = rc != 0 ? rc : buf_add_str(&step->text, "}}}");
    ask->text = buf_slice(&step->text);
    return rc;
}

// read_refusal looks whether a job was refused for a reason that has a state of its own.
static void read_refusal(struct batch_step *step, const struct transfer_end *end) {
    const char *detail = step->done.detail;
    bool queue = strcasestr(detail, "enqueued") != NULL || strcasestr(detail, "batch") != NULL;
    if (end->decided) {
        return;
    }
    if (end->status == 429 && queue && step->done.outcome != OUTCOME_QUOTA) {
        step->done.state = "full";
        step->done.outcome = OUTCOME_RATE_LIMITED;
    } else if (step->done.outcome == OUTCOME_TOO_LARGE ||
               (end->status == 400 && strcasestr(detail, "payload size") != NULL)) {
        step->done.state = "too-large";
        step->done.outcome = OUTCOME_TOO_LARGE;
    } else if ((end->status == 404 || end->status == 400 || end->status == 403) && step->file.n > 0 &&
               strcasestr(detail, "file") != NULL && strcasestr(detail, "not ") != NULL) {
        batch_gone(step); // the file is, and with it what the job was to be
    }
}

static const struct exchange *read_create(struct batch_step *step, const struct transfer_end *end) {
    batch_made(step, end, read_operation, read_refusal);
    return NULL;
}

static int ask_find(struct batch_step *step) {
    int rc = batch_url(step, TRANSFER_GET, "", "/batches");
    rc = rc != 0 ? rc : batch_query(step, "pageSize", "100");
    return rc != 0 || step->cursor[0] == '\0' ? rc : batch_query(step, "pageToken", step->cursor);
}

// read_page looks through one page of the list, which has no order: of several jobs of our name the one
// that was created last is ours.
static void read_page(struct batch_step *step, struct json_object *list) {
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *operation = json_object_array_get_idx(list, i);
        struct json_object *metadata = json_get(operation, "metadata");
        int64_t ms = batch_time(json_get(metadata, "createTime"));
        if (slice_eq(json_text(json_get(metadata, "displayName")), step->name) && ms >= step->found_unix_ms) {
            step->done = (struct batch_done){.http_status = step->done.http_status, .state = ""};
            step->found_unix_ms = ms;
            read_operation(step, operation);
        }
    }
}

static const struct exchange *read_find(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = batch_read(step, end);
    if (root == NULL) {
        return NULL;
    }
    struct json_object *list = json_get(root, "operations");
    read_page(step, list != NULL ? list : json_get(root, "batches"));
    batch_keep(json_text(json_get(root, "nextPageToken")), step->cursor, sizeof(step->cursor));
    json_object_put(root);
    return step->cursor[0] == '\0' || ++step->n_tries >= PAGES ? NULL : &find;
}

static const struct exchange create = {.ask = ask_create, .read = read_create};
static const struct exchange find = {.ask = ask_find, .read = read_find};

// ---- Poll, cancel, delete -----------------------------------------------------------------------

static int ask_poll(struct batch_step *step) {
    int rc = ask_named(step, TRANSFER_GET, "", "batches", step->id, "");
    step->ask.into = &step->replies; // it may hold all answers
    return rc;
}

// read_state reads an operation whose answers were taken out, or what came in its place.
static bool read_state(struct batch_step *step, const struct transfer_end *end) {
    struct transfer_end around = *end;
    if (end->in_file) {
        around.body = buf_slice(&step->around);
    }
    return batch_look(step, &around, read_operation);
}

static const struct exchange *read_poll(struct batch_step *step, const struct transfer_end *end) {
    (void)read_state(step, end);
    return NULL;
}

static int ask_cancel(struct batch_step *step) {
    int rc = ask_named(step, TRANSFER_POST, "", "batches", step->id, ":cancel");
    step->ask.text = SLICE_LIT("{}");
    return rc;
}

// read_cancel: the answer is empty; and one that has ended cannot be cancelled.
static const struct exchange *read_cancel(struct batch_step *step, const struct transfer_end *end) {
    bool over = !end->decided && (end->status == 400 || end->status == 409);
    if (over || batch_is_gone(end)) {
        return over ? &poll : read_poll(step, end);
    }
    struct json_object *root = batch_read(step, end);
    json_object_put(root);
    return root != NULL ? &poll : NULL;
}

static int ask_delete_file(struct batch_step *step) {
    return ask_named(step, TRANSFER_DELETE, "", "files", step->file, "");
}

static int ask_delete(struct batch_step *step) {
    return step->id.n > 0     ? ask_named(step, TRANSFER_DELETE, "", "batches", step->id, "")
           : step->file.n > 0 ? ask_delete_file(step)
                              : batch_fail(step, OUTCOME_OK, "there is nothing to delete");
}

static const struct exchange *read_delete(struct batch_step *step, const struct transfer_end *end) {
    return batch_deleted(step, end) && step->id.n > 0 && step->file.n > 0 ? &delete_file : NULL;
}

// read_delete_file: somebody else's file, or one that is gone after its 48 hours, is answered 403.
static const struct exchange *read_delete_file(struct batch_step *step, const struct transfer_end *end) {
    if (end->decided || end->status != 403) {
        (void)batch_deleted(step, end);
    }
    return NULL;
}

static const struct exchange poll = {.answers = true, .array = INLINED, .ask = ask_poll, .read = read_poll};
static const struct exchange cancel = {.ask = ask_cancel, .read = read_cancel};
static const struct exchange delete = {.ask = ask_delete, .read = read_delete};
static const struct exchange delete_file = {.ask = ask_delete_file, .read = read_delete_file};

// ---- Collect ------------------------------------------------------------------------------------

static const struct exchange *read_collect(struct batch_step *step, const struct transfer_end *end) {
    bool ended = read_state(step, end) && batch_ended(step);
    return ended && step->files[0][0] != '\0' ? &download : NULL;
}

static int ask_download(struct batch_step *step) {
    int rc = ask_named(step, TRANSFER_GET, "/download", "files", slice_of(step->files[0]), ":download");
    rc = rc != 0 ? rc : batch_query(step, "alt", "media");
    step->ask.headers[step->ask.n_headers++] = "Accept: */*";
    step->ask.into = &step->replies;
    return rc;
}

static const struct exchange *read_download(struct batch_step *step, const struct transfer_end *end) {
    if (batch_is_gone(end)) {
        snprintf(step->done.detail, sizeof(step->done.detail), "the file of answers is not there any more");
    } else if (end->decided || end->status != 200) {
        json_object_put(batch_read(step, end));
    }
    return NULL;
}

static const struct exchange collect = {.answers = true, .array = INLINED, .ask = ask_poll, .read = read_collect};
static const struct exchange download = {.answers = true, .ask = ask_download, .read = read_download};

// ---- Lines --------------------------------------------------------------------------------------

static int begin(const struct batch_step *step, struct buf *out) {
    return step->uploads ? 0
                         : buf_addf(out,
                                    "{\"batch\":{\"displayName\":\"%.*s\",\"inputConfig\":{\"requests\":{"
                                    "\"requests\":[",
                                    SLICE_FMT(step->name));
}

// request_of borrows the request of a line from the body of a call. That of an embedding has an array of
// them, and a line takes one.
static int request_of(const struct batch_step *step, struct slice body, struct slice *request) {
    const struct slice head = SLICE_LIT("{\"requests\":["), tail = SLICE_LIT("]}");
    *request = body;
    if (!is_embedding(step)) {
        return 0;
    }
    struct json_object *root = NULL;
    bool one = json_parse(body, &root, NULL) == 0 &&
               json_object_is_type(json_get(root, "requests"), json_type_array) &&
               json_object_array_length(json_get(root, "requests")) == 1;
    json_object_put(root);
    if (!one || !slice_starts(body, head.p) || body.n < head.n + tail.n) {
        return -EINVAL;
    }
    *request = slice_sub(body, head.n, body.n - head.n - tail.n);
    return 0;
}

static int line(const struct batch_step *step, struct slice name, struct slice body, bool first,
                struct buf *out) {
    struct slice request;
    int rc = request_of(step, body, &request);
    if (rc == 0 && step->uploads) {
        rc = buf_addf(out, "{\"key\":\"%.*s\",\"request\":", SLICE_FMT(name));
        rc = rc != 0 ? rc : buf_add_slice(out, request);
        return rc != 0 ? rc : buf_add_str(out, "}\n");
    }
    rc = rc != 0 ? rc : buf_addf(out, "%s{\"request\":", first ? "" : ",");
    rc = rc != 0 ? rc : buf_add_slice(out, request);
    return rc != 0 ? rc : buf_addf(out, ",\"metadata\":{\"key\":\"%.*s\"}}", SLICE_FMT(name));
}

static int finish(const struct batch_step *step, struct buf *out) {
    return step->uploads ? 0 : buf_add_str(out, "]}}}}");
}

// What a line's error means, which has a number of google.rpc.Code in place of a status. Those that a
// line alone is to blame for are a bad request, whatever they would be of a call.
static const int statuses[] = {[2] = 500,  [3] = 400,  [4] = 504,  [5] = 400,  [6] = 409,  [7] = 403,
                               [8] = 429,  [9] = 400,  [10] = 409, [11] = 400, [12] = 400, [13] = 500,
                               [14] = 503, [15] = 500, [16] = 401};
#define CODE_CANCELLED 1

static int read_error(struct json_object *error, struct batch_answer *out) {
    struct json_object *code = json_get(error, "code"), *body;
    int64_t n = json_object_is_type(code, json_type_int) ? json_object_get_int64(code) : 2;
    if (n == CODE_CANCELLED) {
        out->undone = true;
        text_clean(json_text(json_get(error, "message")), out->detail, sizeof(out->detail));
        return 0;
    }
    bool known = n >= 2 && n < (int64_t)(sizeof(statuses) / sizeof(statuses[0]));
    out->status = known ? statuses[n] : n >= 400 && n <= 599 ? (int)n : 500;
    body = json_object_new_object();
    json_object_object_add(body, "error", json_object_get(error));
    int rc = json_add(&out->body, body);
    json_object_put(body);
    return rc;
}

// read_embedding puts one vector into the form of a call's answer, which has an array of them.
static int read_embedding(struct json_object *response, struct batch_answer *out) {
    struct json_object *body = json_object_new_object(), *all = json_object_new_array();
    json_object_array_add(all, json_object_get(json_get(response, "embedding")));
    json_object_object_add(body, "embeddings", all);
    json_object_object_add(body, "usageMetadata", json_object_get(json_get(response, "usageMetadata")));
    int rc = json_add(&out->body, body);
    json_object_put(body);
    return rc;
}

static int answer(const struct batch_step *step, struct json_object *row, struct batch_answer *out) {
    struct json_object *response = json_get(row, "response"), *error = json_get(row, "error");
    struct slice key = json_text(json_get(row, "key"));
    if (key.n == 0) {
        key = json_text(json_get(json_get(row, "metadata"), "key"));
    }
    batch_keep(key, out->name, sizeof(out->name));
    if (response == NULL) {
        return error != NULL ? read_error(error, out) : -EINVAL;
    }
    out->status = 200;
    return is_embedding(step) ? read_embedding(response, out) : json_add(&out->body, response);
}

static const struct exchange *const orders[N_BATCH_ORDERS] = {
    [BATCH_UPLOAD] = &upload,
    [BATCH_CREATE] = &create,
    [BATCH_FIND] = &find,
    [BATCH_POLL] = &poll,
    [BATCH_CANCEL] = &cancel,
    [BATCH_COLLECT] = &collect,
    [BATCH_DELETE] = &delete,
};

const struct batch_provider batch_gemini = {
    .orders = orders,
    .begin = begin,
    .line = line,
    .end = finish,
    .answer = answer,
};
