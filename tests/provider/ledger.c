// The ledger. Invariant: a line is whole or not there; the lines of one turn of the loop are written
// together. Called by serve.
#include "tests/provider/ledger.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/provider/answer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define LINES_MAX (256u << 20) // lines that wait for the end of the turn
#define FLUSH     (256u << 10) // or for this many bytes

int ledger_open(struct ledger *ledger, const char *path, struct error *why) {
    *ledger = (struct ledger){.fd = -1, .start_us = clock_us()};
    buf_init(&ledger->lines, LINES_MAX);
    if (path[0] == '\0') {
        return 0;
    }
    ledger->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return ledger->fd >= 0 ? 0 : error_set(why, -errno, "--ledger '%s': %s", path, strerror(errno));
}

void ledger_close(struct ledger *ledger) {
    ledger_flush(ledger);
    if (ledger->fd >= 0) {
        close(ledger->fd);
    }
    buf_free(&ledger->lines);
}

bool ledger_is_on(const struct ledger *ledger) {
    return ledger->fd >= 0;
}

void ledger_flush(struct ledger *ledger) {
    size_t at = 0;
    while (ledger->fd >= 0 && at < ledger->lines.n) {
        ssize_t n = write(ledger->fd, ledger->lines.p + at, ledger->lines.n - at);
        if (n < 0 && errno != EINTR) {
            break;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&ledger->lines);
}

static int note_records(const struct chat *chat, bool billed, struct buf *out) {
    int rc = buf_addf(out, "\"items\":%zu,\"indices\":[", chat->n_slots);
    for (size_t i = 0; rc == 0 && i < chat->n_slots; i++) {
        rc = buf_addf(out, "%s%lld", i > 0 ? "," : "", (long long)chat->slots[i].index);
    }
    rc = rc != 0 ? rc : buf_add_str(out, "],\"records\":[");
    for (size_t i = 0; rc == 0 && i < chat->n_slots; i++) {
        rc = buf_addf(out, "%s\"%016" PRIx64 "\"", i > 0 ? "," : "",
                      answer_hash(chat_text(chat, &chat->slots[i])));
    }
    rc = rc != 0 ? rc : buf_add_str(out, "],\"answered\":[");
    bool first = true;
    for (size_t i = 0; rc == 0 && billed && i < chat->n_slots; i++) {
        if (chat->slots[i].item_end > 0) {
            rc = buf_addf(out, "%s%lld", first ? "" : ",", (long long)chat->slots[i].index);
            first = false;
        }
    }
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

void ledger_note(const struct ledger *ledger, struct job *job, const struct chat *chat, bool billed) {
    if (ledger_is_on(ledger) && note_records(chat, billed, &job->records) != 0) {
        buf_clear(&job->records);
    }
}

// add_limits writes what the limits made of the request, and what the stranger spent since.
static int add_limits(struct buf *out, const struct job *job) {
    const char *quote = job->limited != NULL ? "\"" : "";
    int rc = buf_addf(out,
                      ",\"admitted\":%s,\"limited\":%s%s%s,\"charged_input\":%lld,"
                      "\"charged_output\":%lld,\"charged_late\":%s",
                      job->admitted ? "true" : "false", quote,
                      job->limited != NULL ? job->limited : "null", quote,
                      (long long)job->charged_input, (long long)job->charged_output,
                      job->charged_late ? "true" : "false");
    int64_t spent[LIMIT_COUNT] = {0};
    if (job->pool != NULL) {
        quota_take_stranger(job->pool, spent);
    }
    bool first = true;
    for (int i = 0; rc == 0 && i < LIMIT_COUNT; i++) {
        if (spent[i] > 0) {
            rc = buf_addf(out, "%s\"%s\":%lld", first ? ",\"stranger\":{" : ",", quota_rows[i].option,
                          (long long)spent[i]);
            first = false;
        }
    }
    return rc != 0 || first ? rc : buf_add_byte(out, '}');
}

void ledger_add(struct ledger *ledger, const struct job *job, size_t sent, bool whole) {
    if (!ledger_is_on(ledger)) {
        return;
    }
    struct buf *out = &ledger->lines;
    const char *fault = fault_name(job->fault);
    const char *quote = fault != NULL ? "\"" : "";
    size_t before = out->n;
    int rc = buf_addf(out,
                      "{\"n\":%" PRIu64 ",\"time_ms\":%lld,\"unix_ms\":%lld,\"unix_us\":%lld,"
                      "\"took_ms\":%lld,\"request_id\":\"%s\",\"path\":",
                      job->n, (long long)((job->came_us - ledger->start_us) / 1000),
                      (long long)(job->unix_us / 1000), (long long)job->unix_us,
                      (long long)((clock_us() - job->came_us) / 1000), job->id);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(job->path));
    rc = rc != 0 ? rc : buf_add_str(out, ",\"client_id\":");
    rc = rc != 0 ? rc : json_add_string(out, slice_of(job->client_id));
    rc = rc != 0 ? rc : buf_addf(out, ",\"key\":\"%016" PRIx64 "\",\"model\":", job->key_hash);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(job->model));
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",%s,\"input_tokens\":%zu,\"output_tokens\":%zu,\"status\":%d,"
                            "\"finish\":\"%s\",\"fault\":%s%s%s,\"sent\":%zu,\"of\":%zu,"
                            "\"complete\":%s",
                            job->records.n > 0
                                ? job->records.p
                                : "\"items\":0,\"indices\":[],\"records\":[],\"answered\":[]",
                            job->input_tokens, job->output_tokens, job->status, job->finish, quote,
                            fault != NULL ? fault : "null", quote, sent, job->of,
                            whole ? "true" : "false");
    rc = rc != 0 ? rc : add_limits(out, job);
    rc = rc != 0 ? rc : buf_addf(out, ",\"price\":%g", job->price);
    if (rc == 0 && job->batch.n > 0) {
        rc = buf_addf(out, ",\"batch\":{%s}", job->batch.p);
    }
    rc = rc != 0 ? rc : buf_add_str(out, "}\n");
    out->n = rc != 0 ? before : out->n; // no half a line
    if (rc != 0 || out->n > FLUSH) {
        ledger_flush(ledger);
    }
}
