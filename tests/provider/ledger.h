// ledger: one JSON line for each request to the simulator, written when the request is over.
#ifndef HEADRACE_TESTS_PROVIDER_LEDGER_H
#define HEADRACE_TESTS_PROVIDER_LEDGER_H

#include "common/bytes.h"
#include "common/error.h"
#include "tests/provider/chat.h"
#include "tests/provider/fault.h"
#include "tests/provider/quota.h"

#include <stdbool.h>
#include <stdint.h>

struct api;

// What is known of one request until its line is written.
struct job {
    const struct api *api; // that it asks; NULL: none
    uint64_t n; // its number, from 1
    char id[24]; // as x-request-id says
    int64_t came_us, unix_us; // when the whole of it was there: monotonic, and since 1970
    enum fault fault;
    int status; // 0: no answer was meant to be sent
    const char *finish;
    size_t input_tokens, output_tokens, of;
    char path[64];
    char client_id[64]; // X-Client-Request-Id; "": none
    char model[64];
    uint64_t key_hash;
    struct quota_pool *pool;  // NULL: no limit has looked at it
    bool admitted;             // the limits let it in
    const char *limited;       // the limit that did not; NULL: none
    int64_t charged_input, charged_output; // tokens
    bool charged_late;         // the output when the request was over, not when it came
    struct buf records;        // JSON members: items, indices, records, answered
    struct buf batch;          // JSON members that say what was done to a file or a job; empty: nothing
    double price;              // of a token: 1, or 0.5 for a line of a job
    struct upload *upload;     // its body, when that goes to disk; NULL: none
};

struct ledger {
    int fd; // -1: none
    int64_t start_us;
    struct buf lines; // that wait for the end of the turn
};

// ledger_open appends to a file; an empty name makes a ledger that keeps nothing. Returns 0 or a
// negative errno with why.
MUST_CHECK int ledger_open(struct ledger *ledger, const char *path, struct error *why);
// ledger_close writes what waits.
void ledger_close(struct ledger *ledger);
bool ledger_is_on(const struct ledger *ledger);
// ledger_flush writes what waits.
void ledger_flush(struct ledger *ledger);

// ledger_note writes down in the job which records a chat asked for, and which got a right item.
//   billed  false: none did
void ledger_note(const struct ledger *ledger, struct job *job, const struct chat *chat, bool billed);
// ledger_add writes the job's line.
//   sent, whole  how much of the answer was delivered, as httpd says
void ledger_add(struct ledger *ledger, const struct job *job, size_t sent, bool whole);

#endif
