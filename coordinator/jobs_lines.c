// Lines on their way to the worker that writes a job's file. Invariant: at most AHEAD_BYTES are sent ahead of
// what the worker has written; a line's number is its place in the file. Called by jobs_steps and core.
#include "coordinator/jobs.h"
#include "coordinator/roster.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <assert.h>
#include <string.h>

#define AHEAD_BYTES (4 * 1024 * 1024)
#define CHUNK_BYTES (1024 * 1024) // lines are put together up to this; one alone may be larger
#define CHUNK_LINES 1000
#define LINE_MAX_BYTES (48 * 1024 * 1024) // a batch holds 8 MB, and a prompt no more

void jobs_start_lines(struct job *job) {
    job->next_line = 0;
    job->n_to_send = job->n_live;
    job->n_sent = job->n_refused = 0;
    job->n_got = job->n_taken = job->told_taken = 0; // answers of this step are lines that cannot be written
    job->all_sent = job->is_stale = false;
    job->n_ahead = 0;
    job->ahead_bytes = 0;
}

// pack_line appends [name, count of records, records, corrections].
static int pack_line(struct line *line, struct buf *part, struct buf *out) {
    struct call *call = line->call;
    char name[LINE_NAME_MAX];
    line_name(line, name);
    int rc = pack_array(out, 4);
    rc |= pack_str(out, slice_of(name));
    rc |= pack_uint(out, call->n_slots);
    buf_clear(part);
    for (size_t i = 0; i < call->n_slots; i++) { // slots of the line are places in its prompt
        rc |= record_pack(part, i, entry_values(call->batch, &call->batch->entries[call->slots[i]]));
    }
    rc |= pack_bin(out, buf_slice(part));
    buf_clear(part);
    for (size_t i = 0; i < call->n_slots; i++) {
        struct entry *e = &call->batch->entries[call->slots[i]];
        if (e->correction != NULL) {
            e->is_told = call->corrects = true;
            rc |= item_pack(part, i, OUTCOME_BAD_VALUE, slice_of(e->correction));
        }
    }
    return rc | pack_bin(out, buf_slice(part));
}

// send_chunk sends the next lines. Returns false when the worker cannot be reached.
static bool send_chunk(struct core *core, struct job *job) {
    struct buf *out = &core->scratch, part;
    uint64_t first = job->n_sent;
    buf_clear(out);
    buf_init(&part, LINE_MAX_BYTES);
    while (job->next_line < job->n_lines && out->n < CHUNK_BYTES && job->n_sent - first < CHUNK_LINES) {
        struct line *line = job->lines[job->next_line++];
        if (line->call != NULL) {
            int rc = pack_line(line, &part, out);
            assert(rc == 0);
            line->number = (uint32_t)++job->n_sent;
        }
    }
    buf_free(&part);
    job->all_sent = job->n_sent == job->n_to_send;
    struct message message = {
        .kind = MESSAGE_JOB_LINES,
        .job_lines = {.job = job->id, .step = job->step, .first = first, .count = job->n_sent - first,
                      .lines = buf_slice(out), .last = job->all_sent}};
    job->ahead[job->n_ahead++] = (struct sent_lines){.upto = job->n_sent, .n_bytes = (int64_t)out->n};
    job->ahead_bytes += (int64_t)out->n;
    return core->io->send(core->io->arg, route_slice(&job->worker), &message) == 0;
}

void jobs_send_lines(struct core *core, struct job *job) {
    while (!job->all_sent && !job->is_stale && job->ahead_bytes < AHEAD_BYTES && job->n_ahead < JOB_AHEAD) {
        if (!send_chunk(core, job)) {
            struct worker *worker = roster_find(core, route_slice(&job->worker));
            if (worker != NULL) {
                roster_lose(core, worker, "unreachable"); // jobs_pump sees it
            }
            return;
        }
    }
}

void jobs_got(struct core *core, struct slice route, const struct message_job_got *got) {
    struct job *job = job_find(core, got->job);
    if (job == NULL || job->order == ORDER_NONE || job->step != got->step) {
        roster_reported(core, route); // of a step that is not any more: the worker may forget it
        roster_taken(core, route, got->job, got->step);
        return;
    }
    job->heard_us = core->now_us;
    size_t n = 0;
    while (n < job->n_ahead && job->ahead[n].upto <= got->upto) {
        job->ahead_bytes -= job->ahead[n++].n_bytes;
    }
    memmove(job->ahead, job->ahead + n, (job->n_ahead - n) * sizeof(job->ahead[0]));
    job->n_ahead -= n;
    jobs_send_lines(core, job);
}
