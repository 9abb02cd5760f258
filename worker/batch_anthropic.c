// Anthropic's message batches: the lines go with the request that creates the batch, the answers come as
// one file. A batch carries no name of ours: after a lost reply it is known by its time and by how many
// lines it has, and its lines' names confirm it. Invariant: results are read only of a batch that has ended.
// Source: platform.claude.com/docs/en/api/creating-message-batches, 2026-11.
#include "worker/batch.h"

#include "common/json.h"

#include <errno.h>
#include <string.h>

#define PAGES 20      // most pages of a list, each of 1,000
#define SKEW_MS 5000  // a batch of ours may seem to be older by so much

static const struct exchange find, poll, results;

// ---- The batch as it is told of -----------------------------------------------------------------

static void read_counts(struct batch_step *step, struct json_object *counts) {
    uint64_t done = batch_number(counts, "succeeded"), errored = batch_number(counts, "errored");
    step->done.total = done + errored + batch_number(counts, "processing") +
                       batch_number(counts, "canceled") + batch_number(counts, "expired");
    step->done.completed = done;
    step->done.failed = errored;
}

// state_of: all ends are one; how it came to it is told by what else there is.
static const char *state_of(struct json_object *batch) {
    if (json_get(batch, "archived_at") != NULL) {
        return "gone"; // its results are
    }
    if (!batch_state_is(json_text(json_get(batch, "processing_status")), "ended")) {
        return "running";
    }
    return json_get(batch, "cancel_initiated_at") != NULL                      ? "cancelled"
           : batch_number(json_get(batch, "request_counts"), "expired") > 0 ? "expired"
                                                                               : "ended";
}

static void read_batch(struct batch_step *step, struct json_object *batch) {
    batch_keep(json_text(json_get(batch, "id")), step->done.id, sizeof(step->done.id));
    step->done.state = state_of(batch);
    read_counts(step, json_get(batch, "request_counts"));
}

// ---- Create, find -------------------------------------------------------------------------------

static int ask_create(struct batch_step *step) {
    int rc = batch_url(step, TRANSFER_POST, "", "/messages/batches");
    step->ask.file = &step->lines;
    return rc;
}

static void read_refusal(struct batch_step *step, const struct transfer_end *end) {
    (void)end;
    step->done.state = step->done.outcome == OUTCOME_TOO_LARGE ? "too-large" : "";
}

static const struct exchange *read_create(struct batch_step *step, const struct transfer_end *end) {
    batch_made(step, end, read_batch, read_refusal);
    return NULL;
}

static int ask_find(struct batch_step *step) {
    int rc = batch_url(step, TRANSFER_GET, "", "/messages/batches");
    rc = rc != 0 ? rc : batch_query(step, "limit", "1000");
    return rc != 0 || step->cursor[0] == '\0' ? rc : batch_query(step, "after_id", step->cursor);
}

// read_page looks through one page of the list, newest first: of several batches that fit, the last is the
// likeliest. True: there is nothing to look for behind.
static bool read_page(struct batch_step *step, struct json_object *data) {
    size_t n = json_object_is_type(data, json_type_array) ? json_object_array_length(data) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *batch = json_object_array_get_idx(data, i);
        int64_t ms = batch_time(json_get(batch, "created_at"));
        if (ms >= 0 && ms + SKEW_MS < step->since_unix_ms) {
            return true;
        }
        read_counts(step, json_get(batch, "request_counts"));
        bool is_other = batch_is_other(step, json_text(json_get(batch, "id")));
        if (ms >= 0 && step->done.total == step->n_lines && !is_other) {
            read_batch(step, batch);
            return true;
        }
        batch_keep(json_text(json_get(batch, "id")), step->cursor, sizeof(step->cursor));
    }
    return n == 0;
}

static const struct exchange *read_find(struct batch_step *step, const struct transfer_end *end) {
    struct json_object *root = batch_read(step, end);
    if (root == NULL) {
        return NULL;
    }
    bool done = read_page(step, json_get(root, "data"));
    bool more = json_object_get_boolean(json_get(root, "has_more")) && step->cursor[0] != '\0';
    json_object_put(root);
    if (step->done.id[0] == '\0') {
        step->done.total = step->done.completed = step->done.failed = 0; // another batch's
    }
    return done || !more || ++step->n_tries >= PAGES ? NULL : &find;
}

static const struct exchange create = {.ask = ask_create, .read = read_create};
static const struct exchange find = {.ask = ask_find, .read = read_find};

// ---- Poll, cancel, delete -----------------------------------------------------------------------

static int ask_batch(struct batch_step *step, enum transfer_method method, const char *what) {
    char id[BATCH_ID_MAX * 3 + 1];
    return batch_url(step, method, "", "/messages/batches/%s%s", batch_escape(step->id, id, sizeof(id)), what);
}

static int ask_poll(struct batch_step *step) {
    return ask_batch(step, TRANSFER_GET, "");
}

static bool read_state(struct batch_step *step, const struct transfer_end *end) {
    return batch_look(step, end, read_batch);
}

static const struct exchange *read_poll(struct batch_step *step, const struct transfer_end *end) {
    (void)read_state(step, end);
    return NULL;
}

static int ask_cancel(struct batch_step *step) {
    return ask_batch(step, TRANSFER_POST, "/cancel");
}

// read_cancel: one that has ended cannot be cancelled; then its state is what was wanted.
static const struct exchange *read_cancel(struct batch_step *step, const struct transfer_end *end) {
    if (!end->decided && (end->status == 400 || end->status == 409)) {
        return &poll;
    }
    return read_poll(step, end);
}

static int ask_delete(struct batch_step *step) {
    return ask_batch(step, TRANSFER_DELETE, "");
}

static const struct exchange *read_delete(struct batch_step *step, const struct transfer_end *end) {
    if (batch_is_gone(end)) {
        step->done.http_status = end->status;
        batch_gone(step);
        return NULL;
    }
    json_object_put(batch_read(step, end));
    return NULL;
}

static const struct exchange poll = {.ask = ask_poll, .read = read_poll};
static const struct exchange cancel = {.ask = ask_cancel, .read = read_cancel};
static const struct exchange delete = {.ask = ask_delete, .read = read_delete};

// ---- Collect ------------------------------------------------------------------------------------

static const struct exchange *read_collect(struct batch_step *step, const struct transfer_end *end) {
    bool ended = read_state(step, end) && batch_ended(step);
    return ended && strcmp(step->done.state, "gone") != 0 ? &results : NULL;
}

static int ask_results(struct batch_step *step) {
    int rc = ask_batch(step, TRANSFER_GET, "/results");
    step->ask.headers[step->ask.n_headers++] = "Accept: */*";
    step->ask.into = &step->replies;
    return rc;
}

static const struct exchange *read_results(struct batch_step *step, const struct transfer_end *end) {
    if (batch_is_gone(end)) {
        batch_gone(step);
    } else if (end->decided || end->status != 200) {
        json_object_put(batch_read(step, end));
    }
    return NULL;
}

static const struct exchange collect = {.ask = ask_poll, .read = read_collect};
static const struct exchange results = {.answers = true, .ask = ask_results, .read = read_results};

// ---- Lines --------------------------------------------------------------------------------------

static int begin(const struct batch_step *step, struct buf *out) {
    return buf_add_str(out, "{\"requests\":[");
}

static int line(const struct batch_step *step, struct slice name, struct slice body, bool first,
                struct buf *out) {
    int rc = buf_addf(out, "%s{\"custom_id\":\"%.*s\",\"params\":", first ? "" : ",", SLICE_FMT(name));
    rc = rc != 0 ? rc : buf_add_slice(out, body);
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static int finish(const struct batch_step *step, struct buf *out) {
    return buf_add_str(out, "]}");
}

// answer: an error stands as a call's body does, in an error of its own.
static int answer(const struct batch_step *step, struct json_object *row, struct batch_answer *out) {
    struct json_object *result = json_get(row, "result");
    struct slice type = json_text(json_get(result, "type"));
    batch_keep(json_text(json_get(row, "custom_id")), out->name, sizeof(out->name));
    if (slice_is(type, "succeeded")) {
        out->status = 200;
        return json_add(&out->body, json_get(result, "message"));
    }
    if (slice_is(type, "errored")) {
        struct json_object *body = json_get(result, "error");
        struct json_object *inner = json_get(body, "error");
        out->status = error_status(json_text(json_get(inner != NULL ? inner : body, "type")));
        return json_add(&out->body, body);
    }
    out->undone = true;
    text_clean(type, out->detail, sizeof(out->detail));
    return type.n > 0 ? 0 : -EINVAL;
}

static const struct exchange *const orders[N_BATCH_ORDERS] = {
    [BATCH_CREATE] = &create,
    [BATCH_FIND] = &find,
    [BATCH_POLL] = &poll,
    [BATCH_CANCEL] = &cancel,
    [BATCH_COLLECT] = &collect,
    [BATCH_DELETE] = &delete,
};

const struct batch_provider batch_anthropic = {
    .orders = orders,
    .begin = begin,
    .line = line,
    .end = finish,
    .answer = answer,
};
