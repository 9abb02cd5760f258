// call: one DISPATCH on its way through the worker, from receive to the coordinator's TAKEN.
#ifndef HEADRACE_WORKER_CALL_H
#define HEADRACE_WORKER_CALL_H

#include "common/bytes.h"
#include "proto/limits_seen.h"
#include "proto/outcome.h"
#include "worker/reply_head.h"

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

struct held;

// calls_add         receive: the model is here      report_push        calls_remove (TAKEN)
//   ──▶ WAITING ──────────────▶ RUNNING ──────────────▶ REPORTED ──────────────▶ (free list)
//          └──────────── unsent, bad options ─────────────▲
#define CALL_STATES(X) X(WAITING) X(RUNNING) X(REPORTED)
enum call_state {
#define X(name) CALL_##name,
    CALL_STATES(X)
#undef X
};

struct call_id {
    uint64_t batch, call;
};

#define CALL_HEADERS_MAX 8192 // bytes of an answer's headers that are kept for results

struct call {
    struct call_id id;
    enum call_state state;
    UT_hash_handle hh;
    struct call *prev, *next; // in the list of its state

    // What was asked.
    struct buf frame;        // copy of the DISPATCH; model, overrides and records point into it
    struct slice model, overrides, records, corrections;
    uint32_t revision;
    size_t count;            // records
    size_t n_bytes;          // of the DISPATCH: what it takes of the byte credit
    int64_t deadline_us;     // must have started by then
    struct held *held;       // NULL while WAITING
    uint64_t *slots;         // of each record, in prompt order
    size_t n_slots;          // room

    // The request and what came back.
    struct buf body;
    bool schema;             // it carries a JSON Schema
    size_t n_prompt;         // bytes of its messages
    struct buf reply;
    int status;              // HTTP; 0: no answer
    struct reply_head head;
    struct limits_seen limits; // what the headers said of the account's limits
    struct buf headers;      // of the answer, "name: value" a line; only for a model that wants them
    bool sent;               // the request went on the wire
    int64_t latency_us;
    char prompt_hash[17];

    // What became of it. A step that finds decided set hands the call on and does nothing.
    bool decided;
    enum outcome outcome;
    char detail[512];
    char cut[100];              // that its record was cut, for the warning; "": it was not
    char warning[256];
    struct slice items;      // borrowed until the report is packed
    bool usage_known;
    uint64_t input_tokens, cached_tokens, output_tokens, retry_after_ms;
    uint64_t cache_write_tokens, reasoning_tokens;
    char served_model[129];
    char service_tier[65];

    struct buf report;       // the packed REPORT
    bool to_send;            // it has yet to be given to the socket
};

// A step hands a call on to the next.
typedef void call_next(void *arg, struct call *call);

// call_decide sets what became of it; detail is a format for a sentence.
void call_decide(struct call *call, enum outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// call_new makes an empty call outside of any list; call_clear empties it and keeps its memory.
struct call *call_new(void);
void call_clear(struct call *call);
void call_free(struct call *call);

// Every call that the worker knows.
struct calls {
    struct call *by_id;                  // uthash
    struct call *in_state[CALL_REPORTED + 1]; // lists, oldest first
    size_t n_in_state[CALL_REPORTED + 1];
    size_t n_bytes;                      // of DISPATCH, all states
    struct call *spare;                  // free list
    size_t n_spare;
};

void calls_free(struct calls *calls);
struct call *calls_find(struct calls *calls, uint64_t batch, uint64_t call);
// calls_add makes a WAITING call that holds a copy of its frame; the id must be new.
struct call *calls_add(struct calls *calls, uint64_t batch, uint64_t call, struct slice frame);
// call_set_state moves a call on; only the arrows above are allowed.
void call_set_state(struct calls *calls, struct call *call, enum call_state state);
// calls_remove forgets a REPORTED call. Its held model must be given back before.
void calls_remove(struct calls *calls, struct call *call);
size_t calls_count(const struct calls *calls);

#endif
