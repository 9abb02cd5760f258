// OpenAI's batch API: a file of lines, a batch that names it, a file of answers and one of errors. An answer
// may stand in either, in any order. Invariants: a file is read only when its batch has ended; a line that
// the provider has not asked costs nothing.
// Source: platform.openai.com/docs/api-reference/batch, 2026-11.
#include "worker/batch_openai.h"

#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PAGES 50            // most pages of a list, each of 100
#define SKEW_MS 600000      // a provider's clock may be so far behind ours

static const struct exchange file, find, poll, output, errors, remove_lines, remove_output, remove_errors;

// ---- Upload -------------------------------------------------------------------------------------

static int ask_upload(struct batch_step *step) {
    bool azure = provider_is_azure(step->held->model);
    struct transfer_ask *ask = &step->ask;
    int rc = batch_url(step, TRANSFER_POST, "", "/files");
    rc = rc != 0 ? rc : buf_addf(&step->text, "%.*s.jsonl", SLICE_FMT(step->name));
    if (rc != 0) {
        return rc;
    }
    ask->parts[ask->n_parts++] = (struct transfer_part){.name = "purpose", .text = SLICE_LIT("batch")};
    if (azure) { // 10,000 files a resource instead of 500
        ask->parts[ask->n_parts++] = (struct transfer_part){.name = "expires_after[anchor]",
                                                            .text = SLICE_LIT("created_at")};
        ask->parts[ask->n_parts++] = (struct transfer_part){.name = "expires_after[seconds]",
                                                            .text = SLICE_LIT("1209600")};
    }
    ask->parts[ask->n_parts++] = (struct transfer_part){
        .name = "file",
        .file = &step->lines,
        .filename = step->text.p,
        .type = azure ? "application/json" : "application/jsonl",
    };
    return 0;
}

// read_file reads an uploaded file's state; Azure looks at a file before it can be used.
static const struct exchange *read_file(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = batch_read(step, end);
    struct slice status = json_text(json_get(root, "status"));
    if (root == NULL) {
        return NULL;
    }
    const struct exchange *next = NULL;
    batch_keep(json_text(json_get(root, "id")), step->done.file, sizeof(step->done.file));
    if (step->done.file[0] == '\0') {
        (void)batch_fail(step, OUTCOME_TRANSIENT, "the provider took the file and gave no id for it");
    } else if (batch_state_is(status, "error") || batch_state_is(status, "failed")) {
        (void)batch_fail(step, OUTCOME_TRANSIENT, "the provider could not process the file");
    } else if (batch_state_is(status, "pending") || batch_state_is(status, "running") ||
               (provider_is_azure(step->held->model) && batch_state_is(status, "uploaded"))) {
        next = batch_wait(step, &file);
    }
    json_object_put(root);
    return next;
}

static int ask_file(struct batch_step *step) {
    char id[BATCH_ID_MAX * 3 + 1];
    return batch_url(step, TRANSFER_GET, "", "/files/%s",
                     batch_escape(slice_of(step->done.file), id, sizeof(id)));
}

static const struct exchange upload = {.ask = ask_upload, .read = read_file};
static const struct exchange file = {.ask = ask_file, .read = read_file};

// ---- The batch as it is told of -----------------------------------------------------------------

static const struct {
    const char *status, *state;
} states[] = {
    {.status = "validating", .state = "running"}, {.status = "in_progress", .state = "running"},
    {.status = "finalizing", .state = "running"}, {.status = "cancelling", .state = "running"},
    {.status = "completed", .state = "ended"},    {.status = "failed", .state = "failed"},
    {.status = "expired", .state = "expired"},    {.status = "cancelled", .state = "cancelled"},
};

static const char *state_of(struct slice status) {
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        if (batch_state_is(status, states[i].status)) {
            return states[i].state;
        }
    }
    return "running"; // one that came after this was written: it will end some day
}

static bool is_full(struct slice code, struct slice message) {
    return slice_is_nocase(code, "token_limit_exceeded") ||
           slice_has_nocase(message, "enqueued token limit");
}

// read_failure takes the first thing that the provider found wrong with the file.
static void read_failure(struct batch_step *step, struct json_object *batch) {
    struct json_object *data = json_get(json_get(batch, "errors"), "data");
    struct json_object *first = json_object_is_type(data, json_type_array) && json_object_array_length(data) > 0
                                    ? json_object_array_get_idx(data, 0)
                                    : NULL;
    struct slice code = json_text(json_get(first, "code")), message = json_text(json_get(first, "message"));
    char word[64], said[400];
    text_clean(code, word, sizeof(word));
    text_clean(message, said, sizeof(said));
    snprintf(step->done.detail, sizeof(step->done.detail), "%s%s%s", word,
             word[0] != '\0' && said[0] != '\0' ? ": " : "", said);
    step->done.bad_line = batch_number(first, "line");
    if (is_full(code, message)) {
        step->done.state = "full";
    } else if (slice_is_nocase(code, "billing_hard_limit_reached") ||
               slice_is_nocase(code, "insufficient_quota")) {
        step->done.outcome = OUTCOME_QUOTA;
    } else if (slice_is_nocase(code, "model_not_found")) {
        step->done.outcome = OUTCOME_BAD_CONFIG;
    }
}

static void read_batch(struct batch_step *step, struct json_object *batch) {
    struct json_object *counts = json_get(batch, "request_counts");
    struct batch_done *done = &step->done;
    batch_keep(json_text(json_get(batch, "id")), done->id, sizeof(done->id));
    done->state = state_of(json_text(json_get(batch, "status")));
    done->total = batch_number(counts, "total");
    done->completed = batch_number(counts, "completed");
    done->failed = batch_number(counts, "failed");
    batch_keep(json_text(json_get(batch, "output_file_id")), step->files[0], sizeof(step->files[0]));
    batch_keep(json_text(json_get(batch, "error_file_id")), step->files[1], sizeof(step->files[1]));
    if (strcmp(done->state, "failed") == 0) {
        read_failure(step, batch);
    }
}

// ---- Create, find -------------------------------------------------------------------------------

static int ask_create(struct batch_step *step) {
    int rc = batch_url(step, TRANSFER_POST, "", "/batches");
    if (rc == 0 && step->file.n == 0) {
        return batch_fail(step, OUTCOME_BAD_CONFIG, "a batch of this provider is made of an uploaded file");
    }
    rc = rc != 0 ? rc : buf_add_str(&step->text, "{\"input_file_id\":");
    rc = rc != 0 ? rc : json_add_string(&step->text, step->file);
    rc = rc != 0 ? rc : buf_addf(&step->text,
                                 ",\"endpoint\":\"/v1%s\",\"completion_window\":\"24h\","
                                 "\"metadata\":{\"headrace\":\"%.*s\"}}",
                                 step->held->model->api->path, SLICE_FMT(step->name));
    step->ask.text = buf_slice(&step->text);
    return rc;
}

// read_refusal looks whether a batch was refused for a reason that has a state of its own.
static void read_refusal(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = NULL;
    if (end->decided || end->status < 400 || json_parse(end->body, &root, NULL) != 0) {
        return;
    }
    struct provider_error error = {0};
    error_read(root, end->status, &error);
    if (is_full(error.code, error.message)) {
        step->done.state = "full";
        step->done.outcome = OUTCOME_RATE_LIMITED;
    } else if ((end->status == 404 || end->status == 400) && slice_has_nocase(error.message, "file") &&
               slice_has_nocase(error.message, "no such")) {
        batch_gone(step); // the file is, and with it what the job was to be
    }
    json_object_put(root);
}

static const struct exchange *read_create(struct batch_step *step, const struct transfer_end *end) {
    batch_made(step, end, read_batch, read_refusal);
    return NULL;
}

static int ask_find(struct batch_step *step) {
    int rc = batch_url(step, TRANSFER_GET, "", "/batches");
    rc = rc != 0 ? rc : batch_query(step, "limit", "100");
    return rc != 0 || step->cursor[0] == '\0' ? rc : batch_query(step, "after", step->cursor);
}

// read_page looks through one page of the list, newest first. True: there is nothing to look for behind.
static bool read_page(struct batch_step *step, struct json_object *data) {
    size_t n = json_object_is_type(data, json_type_array) ? json_object_array_length(data) : 0;
    bool older = n == 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *batch = json_object_array_get_idx(data, i);
        struct slice name = json_text(json_get(json_get(batch, "metadata"), "headrace"));
        int64_t ms = batch_time(json_get(batch, "created_at"));
        if (slice_eq(name, step->name)) {
            read_batch(step, batch);
            return true;
        }
        older = ms >= 0 && step->since_unix_ms > 0 && ms + SKEW_MS < step->since_unix_ms;
        batch_keep(json_text(json_get(batch, "id")), step->cursor, sizeof(step->cursor));
    }
    return older;
}

static const struct exchange *read_find(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = batch_read(step, end);
    if (root == NULL) {
        return NULL;
    }
    bool done = read_page(step, json_get(root, "data"));
    bool more = json_object_get_boolean(json_get(root, "has_more")) && step->cursor[0] != '\0';
    json_object_put(root);
    return done || !more || ++step->n_tries >= PAGES ? NULL : &find;
}

static const struct exchange create = {.ask = ask_create, .read = read_create};
static const struct exchange find = {.ask = ask_find, .read = read_find};

// ---- Poll, cancel -------------------------------------------------------------------------------

static int ask_poll(struct batch_step *step) {
    char id[BATCH_ID_MAX * 3 + 1];
    return batch_url(step, TRANSFER_GET, "", "/batches/%s", batch_escape(step->id, id, sizeof(id)));
}

static bool read_state(struct batch_step *step, const struct transfer_end *end) {
    return batch_look(step, end, read_batch);
}

static const struct exchange *read_poll(struct batch_step *step, const struct transfer_end *end) {
    (void)read_state(step, end);
    return NULL;
}

static int ask_cancel(struct batch_step *step) {
    char id[BATCH_ID_MAX * 3 + 1];
    return batch_url(step, TRANSFER_POST, "", "/batches/%s/cancel", batch_escape(step->id, id, sizeof(id)));
}

// read_cancel: one that has ended cannot be cancelled; then its state is what was wanted.
static const struct exchange *read_cancel(struct batch_step *step, const struct transfer_end *end) {
    if (!end->decided && (end->status == 400 || end->status == 409)) {
        return &poll;
    }
    return read_poll(step, end);
}

static const struct exchange poll = {.ask = ask_poll, .read = read_poll};
static const struct exchange cancel = {.ask = ask_cancel, .read = read_cancel};

// ---- Collect: the file of answers, then the file of errors --------------------------------------

static const struct exchange *read_collect(struct batch_step *step, const struct transfer_end *end) {
    if (!read_state(step, end) || !batch_ended(step)) {
        return NULL;
    }
    step->done.outcome = OUTCOME_OK; // why it failed was said at its end
    return step->files[0][0] != '\0' ? &output : step->files[1][0] != '\0' ? &errors : NULL;
}

static int ask_content(struct batch_step *step, const char *id) {
    char escaped[BATCH_ID_MAX * 3 + 1];
    int rc = batch_url(step, TRANSFER_GET, "", "/files/%s/content",
                       batch_escape(slice_of(id), escaped, sizeof(escaped)));
    step->ask.headers[step->ask.n_headers++] = "Accept: */*";
    step->ask.into = &step->replies;
    return rc;
}

static int ask_output(struct batch_step *step) {
    return ask_content(step, step->files[0]);
}

static int ask_errors(struct batch_step *step) {
    return ask_content(step, step->files[1]);
}

// is_file_read: a file that is not there any more has no answers; they will be asked for again.
static bool is_file_read(struct batch_step *step, const struct transfer_end *end) {
    if (batch_is_gone(end)) {
        snprintf(step->done.detail, sizeof(step->done.detail), "a file of answers is not there any more");
        return true;
    }
    if (end->decided || !end->in_file) {
        struct json_object *root = end->status == 200 && end->body.n == 0 && !end->decided
                                       ? NULL // an empty file
                                       : batch_read(step, end);
        bool odd = root != NULL; // no file, and no error either
        json_object_put(root);
        if (odd) {
            (void)batch_fail(step, OUTCOME_TRANSIENT, "HTTP %d in place of a file", end->status);
        }
        return !odd && step->done.outcome == OUTCOME_OK;
    }
    return true;
}

static const struct exchange *read_output(struct batch_step *step, const struct transfer_end *end) {
    return is_file_read(step, end) && step->files[1][0] != '\0' ? &errors : NULL;
}

static const struct exchange *read_errors(struct batch_step *step, const struct transfer_end *end) {
    (void)is_file_read(step, end);
    return NULL;
}

static const struct exchange collect = {.ask = ask_poll, .read = read_collect};
static const struct exchange output = {.answers = true, .ask = ask_output, .read = read_output};
static const struct exchange errors = {.answers = true, .ask = ask_errors, .read = read_errors};

// ---- Delete: the files; a batch itself stays ----------------------------------------------------

static int ask_delete(struct batch_step *step, struct slice id) {
    char escaped[BATCH_ID_MAX * 3 + 1];
    return batch_url(step, TRANSFER_DELETE, "", "/files/%s", batch_escape(id, escaped, sizeof(escaped)));
}

static int ask_remove_lines(struct batch_step *step) {
    return ask_delete(step, step->file);
}

static int ask_remove_output(struct batch_step *step) {
    return ask_delete(step, slice_of(step->files[0]));
}

static int ask_remove_errors(struct batch_step *step) {
    return ask_delete(step, slice_of(step->files[1]));
}

// after names the next file there is.
static const struct exchange *after(const struct batch_step *step, size_t i) {
    return i < 1 && step->files[0][0] != '\0'   ? &remove_output
           : i < 2 && step->files[1][0] != '\0' ? &remove_errors
                                                : NULL;
}

static const struct exchange *read_remove(struct batch_step *step, const struct transfer_end *end) {
    if (!read_state(step, end) && strcmp(step->done.state, "gone") != 0) {
        return NULL;
    }
    step->done.outcome = OUTCOME_OK; // why a batch failed does not count any more
    return step->file.n > 0 ? &remove_lines : after(step, 0);
}

static const struct exchange *read_removed_lines(struct batch_step *step, const struct transfer_end *end) {
    return batch_deleted(step, end) ? after(step, 0) : NULL;
}

static const struct exchange *read_removed_output(struct batch_step *step, const struct transfer_end *end) {
    return batch_deleted(step, end) ? after(step, 1) : NULL;
}

static const struct exchange *read_removed_errors(struct batch_step *step, const struct transfer_end *end) {
    (void)batch_deleted(step, end);
    return NULL;
}

// ask_remove: a job without an id was never made; its file may have been uploaded.
static int ask_remove(struct batch_step *step) {
    return step->id.n > 0     ? ask_poll(step)
           : step->file.n > 0 ? ask_remove_lines(step)
                              : batch_fail(step, OUTCOME_OK, "there is nothing to delete");
}

static const struct exchange *read_first_removed(struct batch_step *step, const struct transfer_end *end) {
    return step->id.n > 0 ? read_remove(step, end) : read_removed_lines(step, end);
}

static const struct exchange delete = {.ask = ask_remove, .read = read_first_removed};
static const struct exchange remove_lines = {.ask = ask_remove_lines, .read = read_removed_lines};
static const struct exchange remove_output = {.ask = ask_remove_output, .read = read_removed_output};
static const struct exchange remove_errors = {.ask = ask_remove_errors, .read = read_removed_errors};

// ---- Lines --------------------------------------------------------------------------------------

int batch_openai_nothing(const struct batch_step *step, struct buf *out) {
    return 0;
}

int batch_openai_line(const struct batch_step *step, struct slice name, struct slice body, bool first,
                      struct buf *out) {
    int rc = buf_addf(out, "{\"custom_id\":\"%.*s\",\"method\":\"POST\",\"url\":\"/v1%s\",\"body\":",
                      SLICE_FMT(name), step->held->model->api->path);
    rc = rc != 0 ? rc : buf_add_slice(out, body);
    return rc != 0 ? rc : buf_add_str(out, "}\n");
}

// read_undone: a line that was not asked has an error of the batch's in place of a response.
static void read_undone(struct json_object *error, struct batch_answer *out) {
    char code[64], said[160];
    text_clean(json_text(json_get(error, "code")), code, sizeof(code));
    text_clean(json_text(json_get(error, "message")), said, sizeof(said));
    out->undone = true;
    snprintf(out->detail, sizeof(out->detail), "%s%s%s", code, said[0] != '\0' ? ": " : "", said);
}

int batch_openai_answer(const struct batch_step *step, struct json_object *row, struct batch_answer *out) {
    struct json_object *response = json_get(row, "response");
    struct json_object *status = json_get(response, "status_code"), *body = json_get(response, "body");
    batch_keep(json_text(json_get(row, "custom_id")), out->name, sizeof(out->name));
    if (response == NULL) {
        read_undone(json_get(row, "error"), out);
        return json_get(row, "error") != NULL ? 0 : -EINVAL;
    }
    text_clean(json_text(json_get(response, "request_id")), out->request_id, sizeof(out->request_id));
    int64_t n = json_object_is_type(status, json_type_int) ? json_object_get_int64(status) : 200;
    out->status = n >= 200 && n <= 299 ? 200 : n >= 100 && n <= 999 ? (int)n : 500;
    return json_add(&out->body, body);
}

const struct exchange *const batch_openai_orders[N_BATCH_ORDERS] = {
    [BATCH_UPLOAD] = &upload,
    [BATCH_CREATE] = &create,
    [BATCH_FIND] = &find,
    [BATCH_POLL] = &poll,
    [BATCH_CANCEL] = &cancel,
    [BATCH_COLLECT] = &collect,
    [BATCH_DELETE] = &delete,
};

const struct batch_provider batch_openai = {
    .orders = batch_openai_orders,
    .begin = batch_openai_nothing,
    .line = batch_openai_line,
    .end = batch_openai_nothing,
    .answer = batch_openai_answer,
};
