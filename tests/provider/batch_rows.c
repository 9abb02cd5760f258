// The work on the lines of a job. Invariant: a line's answer depends on the line, the seed, the
// job's number and the line's place alone. Called by jobs.
#include "tests/provider/batch_rows.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "tests/provider/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RESULT_MAX   (96u << 20)
#define JOB_SHIFT    20  // a row's number: the job's, and the line's in the lower bits
#define ORDER_SALT   950 // of fault_random
#define REQUEST_SALT 951

// --- looking at lines ----------------------------------------------------------------------------

// has_id notes an id and says whether it was there before.
static bool has_id(struct batch_job *job, struct slice id) {
    if (job->n_ids_room < 2 * (job->n_rows + 1)) {
        uint64_t room = job->n_ids_room > 0 ? 4 * job->n_ids_room : 1024, *old = job->ids;
        job->ids = mem_zalloc(room * sizeof(*job->ids));
        for (uint64_t i = 0; i < job->n_ids_room; i++) {
            uint64_t at = old[i] % room;
            while (old[i] != 0 && job->ids[at] != 0) {
                at = (at + 1) % room;
            }
            job->ids[at] = old[i] != 0 ? old[i] : job->ids[at];
        }
        free(old);
        job->n_ids_room = room;
    }
    uint64_t hash = answer_hash(id), at = 0;
    hash = hash != 0 ? hash : 1;
    for (at = hash % job->n_ids_room; job->ids[at] != 0; at = (at + 1) % job->n_ids_room) {
        if (job->ids[at] == hash) {
            return true;
        }
    }
    job->ids[at] = hash;
    return false;
}

static void note_line(struct batch_job *job, uint64_t at) {
    if (job->n_rows + 1 >= job->room) {
        job->room = job->room > 0 ? 2 * job->room : 256;
        job->at = mem_realloc(job->at, job->room * sizeof(*job->at));
    }
    job->at[job->n_rows++] = at;
}

static void check_line(struct batch_job *job, struct slice text) {
    struct json_object *line = NULL;
    struct slice id = SLICE_NONE;
    struct batch_error error = {0};
    bool marked = slice_starts(text, "\xEF\xBB\xBF"); // our parser would skip it
    if (marked || json_parse(text, &line, NULL) != 0 ||
        !json_object_is_type(line, json_type_object)) {
        json_object_put(line);
        line = NULL;
    }
    if (job->kind->check(job, text, line, &id, &error) != 0) {
        batch_jobs_fail(job, error.code, job->n_rows, "%s", error.message);
    } else if (id.n > 0 && !job->kind->repeats && has_id(job, id)) {
        batch_jobs_fail(job, "duplicate_custom_id", job->n_rows,
                        "The custom_id '%.*s' is a duplicate of another "
                        "request's. Please provide a unique custom_id for each request.",
                        SLICE_FMT(slice_sub(id, 0, 64)));
    }
    json_object_put(line);
}

bool batch_rows_check(struct batch_job *job) {
    struct slice text = SLICE_NONE;
    int rc = spool_line(job->input, &job->window, job->read_at, ROW_BYTES_MAX, &text);
    if (rc == 0) {
        if (job->at != NULL) {
            job->at[job->n_rows] = job->input->n;
        }
        free(job->ids);
        job->ids = NULL;
        job->is_checked = true;
        return false;
    }
    note_line(job, job->read_at);
    if (rc < 0) {
        batch_jobs_fail(job, "invalid_json_line", job->n_rows, "This line is too long.");
        job->read_at = job->input->n;
        return true;
    }
    job->read_at += text.n + 1;
    check_line(job, text);
    return true;
}

// --- answering -----------------------------------------------------------------------------------

static uint64_t gcd(uint64_t a, uint64_t b) {
    while (b > 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// place_of is the line that is answered as the k-th. A shuffle is k * step + start, with a step
// that meets every line once.
static uint64_t place_of(const struct batch_job *job, uint64_t k) {
    if (!job->faults[BATCH_FAULT_SHUFFLE] || job->n_rows < 2) {
        return k;
    }
    uint64_t n = job->n_rows, draw = fault_random((uint64_t)job->jobs->respond->options->seed,
                                                  job->number, ORDER_SALT);
    uint64_t step = n / 3 + draw % (n / 2);
    while (gcd(step, n) != 1) {
        step++;
    }
    return (k * step + 1 + draw % (n - 1)) % n; // the first line is never the first
}

static struct spool *results_of(struct batch_job *job, bool failed) {
    struct spool **into = &job->results[failed && job->kind->two_files ? 1 : 0];
    struct error why = {0};
    if (*into == NULL) {
        *into = spool_new(job->jobs->respond->options->spool, &why);
    }
    return *into;
}

// add_result appends a row to its file. Returns where it ends there, 0 when it could not be
// written.
static uint64_t add_result(struct batch_job *job, const struct row *row, bool broken) {
    bool failed = row->end != ROW_ANSWERED || row->status / 100 != 2;
    struct spool *into = results_of(job, failed);
    struct buf text;
    buf_init(&text, RESULT_MAX);
    int rc = into != NULL ? job->kind->write(job, row, &text) : -EIO;
    text.n = broken ? text.n / 2 : text.n;
    rc = rc != 0 ? rc : buf_add_byte(&text, '\n');
    rc = rc != 0 ? rc : spool_add(into, buf_slice(&text));
    buf_free(&text);
    return rc == 0 ? into->n : 0;
}

static const char *const end_names[] = {
    [ROW_ANSWERED] = "answered",
    [ROW_TIMEOUT] = "timeout",
    [ROW_EXPIRED] = "expired",
    [ROW_CANCELLED] = "cancelled",
};

// note_row writes the row's line of the ledger. file_end: where it ends in the results; 0: it is
// not there.
static void note_row(struct batch_job *job, const struct row *row, uint64_t place,
                     uint64_t file_end) {
    bool failed = row->end != ROW_ANSWERED || row->status / 100 != 2;
    struct buf *out = &row->job->batch;
    if (!ledger_is_on(job->jobs->ledger)) {
        return;
    }
    int rc =
        buf_addf(out, "\"op\":\"row\",\"job\":\"%s\",\"row\":%" PRIu64 ",\"custom_id\":", job->id,
                 place + 1);
    rc = rc != 0 ? rc : json_add_string(out, row->id);
    rc = rc != 0 ? rc
                 : buf_addf(out, ",\"end\":\"%s\",\"file\":\"%s\",\"file_end\":%" PRIu64,
                            file_end == 0 ? "missing" : end_names[row->end],
                            failed && job->kind->two_files ? "error" : "output", file_end);
    if (rc != 0) {
        buf_clear(out);
    }
    ledger_add(job->jobs->ledger, row->job, row->job->of, true);
}

static void count_row(struct batch_job *job, const struct row *row) {
    bool ok = row->end == ROW_ANSWERED && row->status / 100 == 2;
    job->n_succeeded += ok;
    job->n_cancelled += row->end == ROW_CANCELLED;
    job->n_expired += row->end == ROW_EXPIRED;
    job->n_errored += !ok && row->end != ROW_CANCELLED && row->end != ROW_EXPIRED;
    job->input_tokens += row->job->input_tokens;
    job->output_tokens += row->job->output_tokens;
}

static bool hits(struct batch_job *job, enum batch_fault fault, uint64_t number) {
    return batch_fault_hits(&job->jobs->faults, fault, (uint64_t)job->jobs->respond->options->seed,
                            number);
}

// answer_line answers a line as the API that it is for would online.
static void answer_line(struct batch_job *job, struct row *row, struct httpd_reply *reply) {
    const struct respond *respond = job->jobs->respond;
    if (hits(job, BATCH_FAULT_ROW_TIMEOUT, row->number)) {
        row->end = ROW_TIMEOUT;
        return;
    }
    if (hits(job, BATCH_FAULT_ROW_ERROR, row->number)) {
        respond_error(respond, row->job, 500, "server_error", NULL,
                      "The server had an error while processing your request.", false, reply);
    } else {
        job->kind->answer(respond, job, row, reply);
    }
    if (reply->status == 0 || reply->ending != HTTPD_WHOLE) { // no answer ever, a cut
        row->end = ROW_TIMEOUT;
        row->job->input_tokens = row->job->output_tokens = 0;
    }
    row->status = row->job->status = reply->status;
    row->body = buf_slice(&reply->body);
    row->job->of = row->body.n;
}

// add_strange appends a copy of a row under an id that is none of the job's.
static void add_strange(struct batch_job *job, const struct row *row) {
    struct row other = *row;
    other.id = SLICE_LIT("nobody-asked-for-this");
    (void)add_result(job, &other, false);
}

static void end_row(struct batch_job *job, struct row *row, uint64_t place) {
    struct httpd_reply reply = {0};
    bool missing =
        job->faults[BATCH_FAULT_NO_FILES] || hits(job, BATCH_FAULT_ROW_MISSING, row->number);
    uint64_t file_end = 0;
    if (row->end == ROW_ANSWERED && !missing) {
        answer_line(job, row, &reply);
    }
    if (!missing) {
        file_end = add_result(job, row, hits(job, BATCH_FAULT_ROW_BROKEN, row->number));
        if (hits(job, BATCH_FAULT_ROW_TWICE, row->number)) {
            (void)add_result(job, row, false);
        }
        if (hits(job, BATCH_FAULT_ROW_STRANGE, row->number)) {
            add_strange(job, row);
        }
        count_row(job, row);
    } else {
        job->n_succeeded++; // so the provider believes
    }
    note_row(job, row, place, file_end);
    buf_free(&reply.body);
}

// job_of makes what the ledger wants to know of a row.
static void job_of(const struct batch_job *job, const struct row *row, int64_t now_us,
                   struct job *into) {
    *into = (struct job){.n = row->number,
                         .api = job->api,
                         .came_us = clock_us(),
                         .unix_us = now_us,
                         .finish = "",
                         .key_hash = job->owner,
                         .price = 0.5};
    snprintf(into->id, sizeof(into->id), "req_%016" PRIx64,
             fault_random((uint64_t)job->jobs->respond->options->seed, row->number, REQUEST_SALT));
    (void)slice_copy(slice_of(job->endpoint), into->path, sizeof(into->path));
    (void)slice_copy(slice_of(job->model), into->model, sizeof(into->model));
    buf_init(&into->records, RESPOND_MAX);
    buf_init(&into->batch, RESPOND_MAX);
}

void batch_rows_answer(struct batch_job *job, int64_t now_us) {
    uint64_t place = place_of(job, job->n_done++);
    size_t n = (size_t)(job->at[place + 1] - job->at[place]);
    struct slice text = SLICE_NONE;
    struct row row = {.number = (job->number << JOB_SHIFT) + place + 1,
                      .end = job->closing ? job->closing_end : ROW_ANSWERED};
    if (spool_read(job->input, &job->window, job->at[place], n, &text) != 0 ||
        json_parse(text, &row.line, NULL) != 0) {
        job->n_errored++; // it was read before: the disk is at fault
        return;
    }
    struct batch_error error;
    struct job ledger_job;
    (void)job->kind->check(job, text, row.line, &row.id, &error);
    job_of(job, &row, now_us, &ledger_job);
    row.job = &ledger_job;
    end_row(job, &row, place);
    buf_free(&ledger_job.records);
    buf_free(&ledger_job.batch);
    json_object_put(row.line);
}

void batch_rows_forget(struct batch_job *job) {
    free(job->at);
    free(job->ids);
    job->at = job->ids = NULL;
    spool_window_free(&job->window);
    job->window = (struct spool_window){0};
    spool_leave(&job->input);
}
