// journal: what a run has durably written, step by step, in a file of its state folder. A run that
// goes on cuts its output back to the last step and writes from there, so that no row is torn, doubled
// or left out.
//
// One JSON object a line, appended and synced after the output was:
//   {"offset": bytes of output, "rows": written, "ok": of these with a value,
//    "codes": {code: rows}, "done": [[first, last], …], "used": {…}, "end": true}
// rows, ok, codes and used stand for everything since the run began; done names the rows of this step
// by their place in the input, from 1, and is only there when rows are not written in input order.
// end: all rows are out.
#ifndef HEADRACE_CLIENT_JOURNAL_H
#define HEADRACE_CLIENT_JOURNAL_H

#include "common/bytes.h"
#include "common/error.h"

struct journal;

#define JOURNAL_CODES_MAX 32
#define JOURNAL_USED_MAX 16

struct journal_code {
    char code[32];
    uint64_t n;
};

struct journal_step {
    int64_t offset;       // bytes of output
    uint64_t rows, ok;
    struct journal_code codes[JOURNAL_CODES_MAX]; // n_codes
    size_t n_codes;
    double used[JOURNAL_USED_MAX]; // the owner's numbers: calls, tokens, cost
    bool is_end;
};

// journal_open reads the steps there are (a torn last one is cut off) and opens the file for more.
//   path  of the file, made when it is not there; borrowed
// Returns NULL with why.
struct journal *journal_open(const char *path, struct error *why);
void journal_close(struct journal *journal); // journal may be NULL

// journal_last is the last step, all zero when there is none. Valid until the next step.
const struct journal_step *journal_last(const struct journal *journal);
// journal_is_done says whether a row was named by a step of before journal_open.
bool journal_is_done(const struct journal *journal, uint64_t row);
// journal_note names a row for the next step.
void journal_note(struct journal *journal, uint64_t row);
// journal_add appends a step and syncs it. Returns 0 or a negative errno with why.
MUST_CHECK int journal_add(struct journal *journal, const struct journal_step *step,
                           struct error *why);

#endif
