// Answers of a job's lines become reports, each read as the call's answer would have been. Invariants: an
// answer's number is its place among the readable rows of the provider's files, so the same whenever they
// are read; what is sent is kept until the coordinator says that it is durable. Called by job.
#include "worker/job_state.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/mem.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define GATHERED_MOST 100000 // bound of JOB_ANSWERS.count

// ---- Messages -----------------------------------------------------------------------------------

bool job_answers_may_add(const struct job *job) {
    return job->n_ahead < JOB_AHEAD;
}

void job_answers_send(struct job *job) {
    if (job->n_gathered == 0) {
        return;
    }
    struct message m = {.kind = MESSAGE_JOB_ANSWERS};
    struct job_answers *answers = mem_zalloc(sizeof(*answers));
    m.job_answers.job = job->id;
    m.job_answers.step = job->order.step;
    m.job_answers.first = job->n_answers - job->n_gathered;
    m.job_answers.count = job->n_gathered;
    m.job_answers.reports = buf_slice(&job->gathered);
    buf_init(&answers->frame, FRAME_MAX_BYTES);
    int rc = message_pack(&m, &answers->frame);
    assert(rc == 0); // no more than one report past JOB_ANSWERS_BYTES
    answers->upto = job->n_answers;
    answers->to_send = true;
    LL_APPEND(job->answers, answers);
    job->n_ahead++;
    job->n_gathered = 0;
    buf_free(&job->gathered); // one large report must not stay
    job_flush(job);
}

void job_answers_taken(struct job *job, uint64_t upto) {
    while (job->answers != NULL && job->answers->upto <= upto) {
        struct job_answers *answers = job->answers;
        LL_DELETE(job->answers, answers);
        buf_free(&answers->frame);
        free(answers);
        job->n_ahead--;
    }
}

void job_answers_free(struct job *job) {
    job_answers_taken(job, UINT64_MAX);
    buf_free(&job->gathered);
}

// make_room sends what is gathered when n more bytes would be too many for one message.
static void make_room(struct job *job, size_t n) {
    if (job->gathered.n + n > JOB_ANSWERS_BYTES || job->n_gathered == GATHERED_MOST) {
        job_answers_send(job);
    }
}

void job_answers_add(struct job *job, struct slice line) {
    struct jobs *jobs = job->jobs;
    struct call *call = jobs->call;
    buf_clear(&jobs->scratch);
    if (report_pack(call, line, &jobs->scratch) != 0) {
        call->items = SLICE_NONE;
        call_decide(call, OUTCOME_UNREADABLE, "the answer's items are longer than a report may be");
        buf_clear(&jobs->scratch);
        int rc = report_pack(call, line, &jobs->scratch);
        assert(rc == 0);
    }
    make_room(job, jobs->scratch.n);
    int rc = pack_bin(&job->gathered, buf_slice(&jobs->scratch));
    assert(rc == 0);
    job->n_gathered++;
    job->n_answers++;
}

// ---- Rows ---------------------------------------------------------------------------------------

// is_page says that a file begins as no JSON does: a page of some gateway.
static bool is_page(const struct job *job, const struct transfer_end *end) {
    char head[64];
    int64_t n = job_spool_read(&job->step.replies, 0, head, sizeof(head));
    struct slice begun = slice_trim((struct slice){.p = head, .n = n > 0 ? (size_t)n : 0});
    return slice_has_nocase(slice_of(end->head.content_type), "html") || slice_starts(begun, "<");
}

void job_answers_begin(struct job *job, const struct transfer_end *end) {
    if (is_page(job, end)) {
        job->step.done.http_status = end->status;
        job_fail(job, OUTCOME_TRANSIENT, "HTTP %d with a page in place of answers", end->status);
        return;
    }
    job->end = *end;
    job->end.body = SLICE_NONE;
    job->n_bytes += job->step.replies.n_bytes;
    job_rows_init(&job->rows, &job->step.replies, job->exchange->array);
    job->has_rows = true;
    job_step_to(job, JOB_READING);
    job_work(job);
}

static void set_slots(struct call *call) {
    if (call->n_slots < call->count) {
        call->slots = mem_realloc(call->slots, call->count * sizeof(*call->slots));
        call->n_slots = call->count;
    }
    for (size_t i = 0; i < call->count; i++) {
        call->slots[i] = i;
    }
}

// count_tokens adds what a line used to the worker's counters.
static void count_tokens(struct status *status, const struct call *call) {
    status->job_answers++;
    if (call->usage_known) {
        status->input_tokens += call->input_tokens;
        status->cached_tokens += call->cached_tokens;
        status->output_tokens += call->output_tokens;
        status->cache_write_tokens += call->cache_write_tokens;
        status->reasoning_tokens += call->reasoning_tokens;
    }
}

// report_answer reads a line's answer as that of a call and gathers it.
static void report_answer(struct job *job, const struct batch_answer *answer, size_t count) {
    struct call *call = job->jobs->call;
    call->held = job->held;
    call->count = count;
    call->schema = job->held->schema;
    set_slots(call);
    if (answer->undone) {
        call_decide(call, OUTCOME_UNSENT, "%s", answer->detail);
    } else {
        call->status = answer->status;
        call->sent = true;
        slice_copy(slice_of(answer->request_id), call->head.request_id, sizeof(call->head.request_id));
        parse_step_read(job->jobs->config.parse, call);
        held_mask(job->held, call->detail);
        count_tokens(job->jobs->config.status, call);
    }
    job_answers_add(job, slice_of(answer->name));
}

// read_row takes one row; what is none is counted.
static void read_row(struct job *job, struct slice row) {
    struct call *call = job->jobs->call;
    struct json_object *json = NULL;
    struct batch_answer answer = {0};
    call_clear(call);
    answer.body = call->reply; // read into the call's, which has its memory already
    bool good = json_parse(row, &json, NULL) == 0 && json_object_is_type(json, json_type_object) &&
                job->provider->answer(&job->step, json, &answer) == 0;
    call->reply = answer.body;
    json_object_put(json);
    size_t count = good ? batch_name_count(slice_of(answer.name)) : 0;
    if (count == 0) {
        job->n_bad++;
    } else if (job->n_answers < job->order.skip) {
        job->n_answers++;
    } else {
        report_answer(job, &answer, count);
    }
}

void job_answers_read(struct job *job) {
    int64_t until = clock_us() + JOB_SLICE_US;
    int rc = 1;
    while (job->has_rows && job_answers_may_add(job) && clock_us() < until) {
        struct slice row;
        rc = job_rows_next(&job->rows, &row);
        if (rc == -EMSGSIZE) {
            job->n_bad++;
        } else if (rc == 1 && job->step.order == BATCH_COLLECT) {
            read_row(job, row);
        } else if (rc <= 0) {
            break;
        }
    }
    // All bytes of the answer came: what is damaged was so at the provider, and will be next time.
    job->n_bad += rc == -EPROTO;
    if (rc == 0 || rc == -EPROTO) {
        buf_free(&job->step.around);
        job->step.around = job->rows.around;
        job->rows.around = (struct buf){0};
        job_rows_free(&job->rows);
        job->has_rows = false;
    } else if (rc < 0 && rc != -EMSGSIZE) {
        job_fail(job, OUTCOME_TRANSIENT, "the answers cannot be read again: %s", strerror(-rc));
    }
}
