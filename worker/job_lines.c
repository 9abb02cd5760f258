// Lines of a job become a file, each as the call that it stands for would have been sent. Invariant: a line
// that cannot be written is not in the file, and is reported as the call would have been. Called by job.
#include "worker/job_state.h"

#include "common/clock.h"
#include "common/mem.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define LINE_FIELDS 4

void job_lines_free(struct job *job) {
    struct job_lines *lines, *next;
    LL_FOREACH_SAFE(job->lines, lines, next) {
        buf_free(&lines->frame);
        free(lines);
    }
    job->lines = NULL;
}

// add_bytes puts what is in jobs->line into the file; the step fails when it cannot.
static bool add_bytes(struct job *job) {
    int rc = job_spool_add(&job->step.lines, buf_slice(&job->jobs->line));
    job->n_bytes = job->step.lines.n_bytes;
    if (rc != 0) {
        job_fail(job, OUTCOME_TRANSIENT, "the lines cannot be kept in the spool folder: %s", strerror(-rc));
    }
    return rc == 0;
}

void job_lines_begin(struct job *job) {
    struct error why = {0};
    if (job_spool_open(&job->step.lines, job_spool_folder(job->jobs->config.spool), &why) != 0) {
        job_fail(job, OUTCOME_TRANSIENT, "%s", why.text);
        return;
    }
    job_step_to(job, JOB_WRITING);
    buf_clear(&job->jobs->line);
    int rc = job->provider->begin(&job->step, &job->jobs->line);
    assert(rc == 0); // a few words
    if (add_bytes(job) && job->lines != NULL) {
        job_work(job);
    }
}

// keep copies a message that is next; the slices point into the copy.
static void keep(struct job *job, const struct message *m, struct slice frame) {
    struct job_lines *lines = mem_zalloc(sizeof(*lines));
    buf_init(&lines->frame, FRAME_MAX_BYTES);
    int rc = buf_add_slice(&lines->frame, frame);
    assert(rc == 0); // the socket takes no longer frames
    lines->m = *m;
    if (m->job_lines.lines.n > 0) {
        size_t at = (size_t)(m->job_lines.lines.p - frame.p);
        lines->rest = slice_sub(buf_slice(&lines->frame), at, m->job_lines.lines.n);
    }
    LL_APPEND(job->lines, lines);
}

void job_lines_add(struct job *job, const struct message *m, struct slice frame) {
    if (m->job_lines.first != job->n_expected || job->last) {
        job->got_to_send = job->state == JOB_WRITING; // it came twice, or one before it did not come
        job_flush(job);
        return;
    }
    job->n_expected += m->job_lines.count;
    job->last = m->job_lines.last;
    keep(job, m, frame);
    if (job->state == JOB_WRITING) {
        job_work(job);
    }
}

// next_line reads one off a message. 0 or -EPROTO.
static int next_line(struct slice *rest, struct slice *name, struct call *call) {
    uint32_t n;
    uint64_t count;
    struct pack_value records, corrections;
    if (pack_array_next(rest, &n) != 0 || n != LINE_FIELDS || pack_str_next(rest, name) != 0 ||
        pack_uint_next(rest, &count) != 0 || pack_next(rest, &records) != 1 ||
        pack_next(rest, &corrections) != 1 || records.type != PACK_BIN ||
        (corrections.type != PACK_BIN && corrections.type != PACK_NIL)) {
        return -EPROTO;
    }
    call->records = records.bytes;
    call->corrections = corrections.type == PACK_BIN ? corrections.bytes : SLICE_NONE;
    call->count = (size_t)count;
    return count > 0 && count <= MODEL_BATCH_MAX && batch_name_count(*name) == count ? 0 : -EPROTO;
}

// write_line writes one line, or reports why it cannot be. False: the step has failed.
static bool write_line(struct job *job, struct slice name, struct call *call) {
    struct buf *line = &job->jobs->line;
    call->held = job->held;
    prompt_step_make(job->jobs->config.prompt, call);
    buf_clear(line);
    if (!call->decided) {
        int rc = job->provider->line(&job->step, name, buf_slice(&call->body), job->n_written == 0, line);
        if (rc != 0) {
            call_decide(call, OUTCOME_TOO_LARGE, "%s",
                        rc == -EINVAL ? "a line of this provider's jobs asks for one record"
                                      : "the request is longer than a line may be");
        }
    }
    if (call->decided) {
        held_mask(job->held, call->detail);
        job_answers_add(job, name);
        return true;
    }
    job->n_written++;
    job->jobs->config.status->job_lines++;
    return add_bytes(job);
}

// is_over says that the file is more than the provider takes, and ends the step then.
static bool is_over(struct job *job) {
    int64_t most = job->step.uploads || job->facts->inline_bytes == 0 ? job->facts->bytes
                                                                      : job->facts->inline_bytes;
    if ((int64_t)job->step.lines.n_bytes <= most) {
        return false;
    }
    job->step.done.state = "too-large";
    job_fail(job, OUTCOME_TOO_LARGE, "%" PRIu64 " lines are more than %lld bytes", job->n_written,
             (long long)most);
    return true;
}

// finish sends the file off.
static void finish(struct job *job) {
    struct buf *line = &job->jobs->line;
    if (job->n_written == 0) {
        job_fail(job, OUTCOME_UNSENT, "no line of the job could be written");
        return;
    }
    buf_clear(line);
    int rc = job->provider->end(&job->step, line);
    assert(rc == 0); // a few words
    if (!add_bytes(job)) {
        return;
    }
    rc = job_spool_flush(&job->step.lines);
    if (rc != 0) {
        job_fail(job, OUTCOME_TRANSIENT, "the lines cannot be kept in the spool folder: %s", strerror(-rc));
        return;
    }
    job_ask(job, job->provider->orders[job->step.order]);
}

// end_message forgets a message whose lines are all written, and says so.
static void end_message(struct job *job) {
    struct job_lines *lines = job->lines;
    LL_DELETE(job->lines, lines);
    buf_free(&lines->frame);
    free(lines);
    job_answers_send(job);
    job->got_to_send = true;
    job_flush(job);
}

// write_next writes one line of the oldest message. False: the step has failed.
static bool write_next(struct job *job) {
    struct job_lines *lines = job->lines;
    struct call *call = job->jobs->call;
    struct slice name;
    call_clear(call);
    if (next_line(&lines->rest, &name, call) != 0) {
        job_fail(job, OUTCOME_BAD_CONFIG, "line %" PRIu64 " of the job cannot be read", job->n_lines);
        return false;
    }
    lines->n_read++;
    job->n_lines++;
    return write_line(job, name, call) && !is_over(job);
}

void job_lines_write(struct job *job) {
    int64_t until = clock_us() + JOB_SLICE_US;
    while (job->lines != NULL && job_answers_may_add(job) && clock_us() < until) {
        if (job->lines->n_read < job->lines->m.job_lines.count && !write_next(job)) {
            return;
        }
        if (job->lines->n_read == job->lines->m.job_lines.count) {
            end_message(job);
        }
    }
    if (job->lines == NULL && job->last) {
        finish(job);
    }
}
