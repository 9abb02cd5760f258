// One job and its lines, in memory and as a row. Invariant: a line with a call is in core->lines, and the call
// is LISTED; n_live counts those. Called by jobs_*.c, and by call (job_drop_line).
#include "coordinator/job.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/call.h"
#include "coordinator/partition.h"
#include "proto/pack.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ROW_VERSION 1
#define ROW_MAX_BYTES (256 * 1024)

const char *job_state_text(enum job_state state) {
    static const char *const texts[N_JOB_STATES] = {
#define X(name, text) [JOB_##name] = text,
        JOB_STATES(X)
#undef X
    };
    return texts[state];
}

const char *job_order_text(enum job_order order) {
    static const char *const texts[] = {
        [ORDER_NONE] = "none",     [ORDER_UPLOAD] = "upload", [ORDER_CREATE] = "create",
        [ORDER_FIND] = "find",     [ORDER_POLL] = "poll",     [ORDER_CANCEL] = "cancel",
        [ORDER_COLLECT] = "collect", [ORDER_DELETE] = "delete"};
    return texts[order];
}

// ---- Life -------------------------------------------------------------------------------------------

struct job *job_new(struct core *core, uint64_t id, struct group *group) {
    struct job *job = mem_zalloc(sizeof(*job));
    job->id = id;
    job->group = group;
    job->home = &core->partitions[(id >> 52) % core->config->n_partitions];
    job->file = mem_dup_str("");
    job->provider_id = mem_dup_str("");
    job->detail = mem_dup_str("");
    if (group != NULL) {
        group->n_jobs++;
    }
    HASH_ADD(hh, core->jobs, id, sizeof(job->id), job);
    return job;
}

void job_free(struct core *core, struct job *job) {
    for (size_t i = 0; i < job->n_lines; i++) {
        assert(job->lines[i]->call == NULL);
        free(job->lines[i]);
    }
    if (job->group != NULL) {
        job->group->n_jobs--;
        job->group->filling = job->group->filling == job ? NULL : job->group->filling;
    }
    core->n_closed_jobs -= job->state == JOB_CLOSED;
    HASH_DEL(core->jobs, job);
    free(job->lines);
    free(job->file);
    free(job->provider_id);
    free(job->detail);
    free(job);
}

struct job *job_find(struct core *core, uint64_t id) {
    struct job *job;
    HASH_FIND(hh, core->jobs, &id, sizeof(id), job);
    return job;
}

void job_set_state(struct job *job, enum job_state state) {
    if (state != job->state) {
        log_info("job.state", "job=%016" PRIx64 " from=%s to=%s lines=%zu", job->id, job_state_text(job->state),
                 job_state_text(state), job->n_live);
        job->state = state;
        job->n_tries = 0;
    }
}

void job_set_text(char **field, struct slice text) {
    char *copy = slice_dup(text); // text may be the field
    free(*field);
    *field = copy;
}

// ---- Lines ------------------------------------------------------------------------------------------

static void hash_text(XXH3_state_t *state, struct slice text) {
    uint64_t n = text.n;
    XXH3_128bits_update(state, &n, sizeof(n));
    XXH3_128bits_update(state, text.p, text.n);
}

static void hash_number(XXH3_state_t *state, uint64_t n) {
    XXH3_128bits_update(state, &n, sizeof(n));
}

// job_hash says what a call asks for: XXH3-128 over the model's name and revision, the overrides, and each
// record's source (producer and sequence, or id) and values. again: how many lines of this hash there are already.
static void job_hash(const struct call *call, uint64_t again, unsigned char hash[LINE_HASH]) {
    const struct batch *batch = call->batch;
    const struct group *group = call->group;
    XXH3_state_t *state = XXH3_createState();
    assert(state != NULL);
    XXH3_128bits_reset(state);
    hash_text(state, slice_of(group->model->name));
    hash_number(state, group->model->revision);
    hash_text(state, group->options);
    hash_number(state, again);
    for (size_t i = 0; i < call->n_slots; i++) {
        const struct entry *e = &batch->entries[call->slots[i]];
        hash_text(state, e->producer != NULL ? slice_of(e->producer->name) : entry_id(batch, e));
        hash_number(state, e->seq);
        hash_text(state, entry_values(batch, e));
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    memcpy(hash, canonical.digest, LINE_HASH);
    XXH3_freeState(state);
}

void line_name(const struct line *line, char text[LINE_NAME_MAX]) {
    int n = snprintf(text, LINE_NAME_MAX, "hr1-");
    for (size_t i = 0; i < LINE_HASH; i++) {
        n += snprintf(text + n, LINE_NAME_MAX - (size_t)n, "%02x", line->hash[i]);
    }
    snprintf(text + n, LINE_NAME_MAX - (size_t)n, "-%zu", line->call != NULL ? line->call->n_slots : 0);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int line_hash(struct slice name, unsigned char hash[LINE_HASH]) {
    enum { HEAD = 4 };
    if (name.n < HEAD + 2 * LINE_HASH || !slice_starts(name, "hr1-")) {
        return -EPROTO;
    }
    for (size_t i = 0; i < LINE_HASH; i++) {
        int high = hex_digit(name.p[HEAD + 2 * i]), low = hex_digit(name.p[HEAD + 2 * i + 1]);
        if (high < 0 || low < 0) {
            return -EPROTO;
        }
        hash[i] = (unsigned char)(high << 4 | low);
    }
    return 0;
}

struct line *line_find(struct core *core, const unsigned char hash[LINE_HASH]) {
    struct line *line;
    HASH_FIND(hh, core->lines, hash, LINE_HASH, line);
    return line;
}

struct line *job_add_line(struct core *core, struct job *job, struct call *call, const unsigned char *hash) {
    struct line *line = mem_zalloc(sizeof(*line));
    line->job = job;
    line->call = call;
    if (hash != NULL) {
        memcpy(line->hash, hash, LINE_HASH);
    } else {
        uint64_t again = 0; // records without acks may have one id and one text
        do {
            job_hash(call, again++, line->hash);
        } while (line_find(core, line->hash) != NULL);
    }
    HASH_ADD(hh, core->lines, hash, LINE_HASH, line);
    if (job->n_lines == job->cap_lines) {
        job->cap_lines = job->cap_lines > 0 ? job->cap_lines * 2 : 64;
        job->lines = mem_realloc(job->lines, job->cap_lines * sizeof(struct line *));
    }
    job->lines[job->n_lines++] = line;
    job->n_live++;
    call->line = line;
    call_enter(core, call, CALL_LISTED, false);
    return line;
}

void job_drop_line(struct core *core, struct line *line) {
    struct job *job = line->job;
    HASH_DEL(core->lines, line);
    line->call->line = NULL;
    line->call = NULL;
    job->n_live--;
    job->is_stale = job->is_stale || ((job->order == ORDER_UPLOAD || job->order == ORDER_CREATE) && !job->all_sent);
}

void job_compact(struct job *job) {
    size_t n = 0;
    for (size_t i = 0; i < job->n_lines; i++) {
        if (job->lines[i]->call != NULL) {
            job->lines[n++] = job->lines[i];
        } else {
            free(job->lines[i]);
        }
    }
    job->n_lines = n;
}

void job_number(struct job *job) {
    uint32_t n = 0;
    for (size_t i = 0; i < job->n_lines; i++) {
        if (job->lines[i]->number > 0) {
            job->lines[i]->number = ++n;
        }
    }
}

static int by_hash(const void *a, const void *b) {
    const struct line *const *x = a, *const *y = b;
    return memcmp((*x)->hash, (*y)->hash, LINE_HASH);
}

void job_sort(struct job *job) {
    if (job->n_lines > 0) {
        qsort(job->lines, job->n_lines, sizeof(struct line *), by_hash);
    }
}

// ---- Rows -------------------------------------------------------------------------------------------
// [version, state, name, model, revision, options, file, id, detail, by_upload, foreign, cancelling,
//  [create_step, n_lines, n_bytes, n_tokens, made_ms, since_ms, ended_ms, deadline_ms, total, completed, failed,
//   n_answered, n_back, cost in nano-USD]]

static int pack_row(const struct job *job, struct buf *out) {
    const struct group *group = job->group;
    const uint64_t numbers[] = {
        job->create_step, job->n_made > 0 ? job->n_made : job->n_live, (uint64_t)job->n_bytes, (uint64_t)job->n_tokens,
        (uint64_t)job->made_ms, (uint64_t)job->since_ms, (uint64_t)job->ended_ms, (uint64_t)job->deadline_ms,
        job->total, job->completed, job->failed, job->n_answered, job->n_back, (uint64_t)(job->cost * 1e9)};
    int rc = pack_array(out, 13);
    rc |= pack_uint(out, ROW_VERSION);
    rc |= pack_str(out, slice_of(job_state_text(job->state)));
    rc |= pack_str(out, slice_of(job->name));
    rc |= pack_str(out, slice_of(group->model->name));
    rc |= pack_uint(out, group->model->revision);
    rc |= pack_bin(out, group->options);
    rc |= pack_str(out, slice_of(job->file));
    rc |= pack_str(out, slice_of(job->provider_id));
    rc |= pack_text(out, slice_of(job->detail), 1024);
    rc |= pack_bool(out, job->by_upload);
    rc |= pack_bool(out, job->is_foreign);
    rc |= pack_bool(out, job->is_cancelling);
    rc |= pack_array(out, sizeof(numbers) / sizeof(numbers[0]));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        rc |= pack_uint(out, numbers[i]);
    }
    return rc;
}

void job_write(struct job *job) {
    struct buf row;
    buf_init(&row, ROW_MAX_BYTES);
    int rc = pack_row(job, &row);
    assert(rc == 0); // its texts are bounded by messages.def
    txn_job(partition_txn(job->home), job->id, buf_slice(&row));
    buf_free(&row);
    job->n_pending++;
    partition_after(job->home, (struct after){.kind = AFTER_JOB, .job = {.job = job->id}});
}

static int next_text(struct slice *rest, struct slice *text) {
    struct pack_value value;
    if (pack_next(rest, &value) != 1 || (value.type != PACK_STR && value.type != PACK_BIN)) {
        return -EPROTO;
    }
    *text = value.bytes;
    return 0;
}

static int next_bool(struct slice *rest, bool *truth) {
    struct pack_value value;
    if (pack_next(rest, &value) != 1 || value.type != PACK_BOOL) {
        return -EPROTO;
    }
    *truth = value.truth;
    return 0;
}

static int state_of(struct slice text, enum job_state *state) {
    for (int i = 0; i < N_JOB_STATES; i++) {
        if (slice_is(text, job_state_text((enum job_state)i))) {
            *state = (enum job_state)i;
            return 0;
        }
    }
    return -EPROTO;
}

int job_unpack(struct job *job, struct slice blob, struct job_row *row) {
    struct slice rest = blob, state = {0}, name = {0}, file = {0}, id = {0}, detail = {0};
    uint64_t version = 0, revision = 0, n[14] = {0};
    uint32_t count = 0;
    int rc = pack_array_next(&rest, &count);
    rc = rc != 0 ? rc : pack_uint_next(&rest, &version);
    rc = rc != 0 || version != ROW_VERSION || count < 13 ? -EPROTO : next_text(&rest, &state);
    rc = rc != 0 ? rc : next_text(&rest, &name);
    rc = rc != 0 ? rc : next_text(&rest, &row->model);
    rc = rc != 0 ? rc : pack_uint_next(&rest, &revision);
    rc = rc != 0 ? rc : next_text(&rest, &row->options);
    rc = rc != 0 ? rc : next_text(&rest, &file);
    rc = rc != 0 ? rc : next_text(&rest, &id);
    rc = rc != 0 ? rc : next_text(&rest, &detail);
    rc = rc != 0 ? rc : next_bool(&rest, &job->by_upload);
    rc = rc != 0 ? rc : next_bool(&rest, &job->is_foreign);
    rc = rc != 0 ? rc : next_bool(&rest, &job->is_cancelling);
    rc = rc != 0 ? rc : pack_array_next(&rest, &count);
    for (size_t i = 0; i < sizeof(n) / sizeof(n[0]) && rc == 0; i++) {
        rc = i < count ? pack_uint_next(&rest, &n[i]) : -EPROTO;
    }
    rc = rc != 0 ? rc : state_of(state, &job->state);
    if (rc != 0) {
        return -EPROTO;
    }
    row->revision = (uint32_t)revision;
    slice_copy(name, job->name, sizeof(job->name));
    job_set_text(&job->file, file);
    job_set_text(&job->provider_id, id);
    job_set_text(&job->detail, detail);
    job->create_step = n[0];
    job->n_made = n[1];
    job->n_bytes = (int64_t)n[2];
    job->n_tokens = (int64_t)n[3];
    job->made_ms = (int64_t)n[4];
    job->since_ms = (int64_t)n[5];
    job->ended_ms = (int64_t)n[6];
    job->deadline_ms = (int64_t)n[7];
    job->total = n[8];
    job->completed = n[9];
    job->failed = n[10];
    job->n_answered = n[11];
    job->n_back = n[12];
    job->cost = (double)n[13] / 1e9;
    return 0;
}
