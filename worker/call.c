// Calls and their states. Invariant: a call is in the hash and in exactly one list, the one of its
// state; a call on the free list keeps its memory, up to SPARE_BYTES a buf. Called by receive, report
// and main.
#include "worker/call.h"

#include "common/log.h"
#include "common/mem.h"
#include "proto/frame.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define SPARE_MAX 512            // calls on the free list
#define SPARE_BYTES (64 * 1024)  // more memory than this is not kept in a spare call's buf
#define REPLY_MAX (32 * 1024 * 1024)

static const char *const state_names[] = {
#define X(name) [CALL_##name] = #name,
    CALL_STATES(X)
#undef X
};

static const bool allowed[CALL_REPORTED + 1][CALL_REPORTED + 1] = {
    [CALL_WAITING] = {[CALL_RUNNING] = true, [CALL_REPORTED] = true},
    [CALL_RUNNING] = {[CALL_REPORTED] = true},
};

void call_decide(struct call *call, enum outcome outcome, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(call->detail, sizeof(call->detail), format, args);
    va_end(args);
    // A sentence that was cut inside a character would make the REPORT unreadable.
    long bad = slice_utf8_error(slice_of(call->detail));
    if (bad >= 0) {
        call->detail[bad] = '\0';
    }
    call->outcome = outcome;
    call->decided = true;
}

struct call *calls_find(struct calls *calls, uint64_t batch, uint64_t call) {
    struct call_id id = {.batch = batch, .call = call};
    struct call *found;
    HASH_FIND(hh, calls->by_id, &id, sizeof(id), found);
    return found;
}

static void list_add(struct calls *calls, struct call *call) {
    DL_APPEND(calls->in_state[call->state], call);
    calls->n_in_state[call->state]++;
}

static void list_remove(struct calls *calls, struct call *call) {
    DL_DELETE(calls->in_state[call->state], call);
    calls->n_in_state[call->state]--;
}

struct call *call_new(void) {
    struct call *call = mem_zalloc(sizeof(*call));
    buf_init(&call->frame, FRAME_MAX_BYTES);
    buf_init(&call->body, FRAME_MAX_BYTES);
    buf_init(&call->reply, REPLY_MAX);
    buf_init(&call->report, FRAME_MAX_BYTES);
    buf_init(&call->headers, CALL_HEADERS_MAX);
    reply_head_clear(&call->head);
    limits_seen_clear(&call->limits);
    return call;
}

void call_free(struct call *call) {
    buf_free(&call->frame);
    buf_free(&call->body);
    buf_free(&call->reply);
    buf_free(&call->report);
    buf_free(&call->headers);
    free(call->slots);
    free(call);
}

// buf_spare empties a buf; memory that only one large call needed goes back.
static void buf_spare(struct buf *b) {
    if (b->cap > SPARE_BYTES) {
        buf_free(b);
    } else {
        buf_clear(b);
    }
}

void call_clear(struct call *call) {
    buf_spare(&call->frame);
    buf_spare(&call->body);
    buf_spare(&call->reply);
    buf_spare(&call->report);
    buf_clear(&call->headers);
    struct call clean = {.frame = call->frame,
                         .body = call->body,
                         .reply = call->reply,
                         .report = call->report,
                         .headers = call->headers,
                         .slots = call->slots,
                         .n_slots = call->n_slots};
    *call = clean;
    reply_head_clear(&call->head);
    limits_seen_clear(&call->limits);
}

struct call *calls_add(struct calls *calls, uint64_t batch, uint64_t number, struct slice frame) {
    struct call *call = calls->spare;
    if (call != NULL) {
        LL_DELETE(calls->spare, call);
        calls->n_spare--;
    } else {
        call = call_new();
    }
    int rc = buf_add_slice(&call->frame, frame);
    assert(rc == 0); // the socket takes no longer frames
    call->id = (struct call_id){.batch = batch, .call = number};
    call->state = CALL_WAITING;
    call->n_bytes = frame.n;
    calls->n_bytes += frame.n;
    HASH_ADD(hh, calls->by_id, id, sizeof(call->id), call);
    list_add(calls, call);
    return call;
}

void call_set_state(struct calls *calls, struct call *call, enum call_state state) {
    assert(allowed[call->state][state]);
    log_debug("call.state", "batch=%016llx call=%llu from=%s to=%s",
              (unsigned long long)call->id.batch, (unsigned long long)call->id.call,
              state_names[call->state], state_names[state]);
    list_remove(calls, call);
    call->state = state;
    list_add(calls, call);
}

void calls_remove(struct calls *calls, struct call *call) {
    assert(call->state == CALL_REPORTED && call->held == NULL);
    HASH_DEL(calls->by_id, call);
    list_remove(calls, call);
    calls->n_bytes -= call->n_bytes;
    if (calls->n_spare == SPARE_MAX) {
        call_free(call);
        return;
    }
    call_clear(call);
    LL_PREPEND(calls->spare, call);
    calls->n_spare++;
}

size_t calls_count(const struct calls *calls) {
    return HASH_COUNT(calls->by_id);
}

void calls_free(struct calls *calls) {
    struct call *call, *next;
    HASH_ITER(hh, calls->by_id, call, next) {
        HASH_DEL(calls->by_id, call);
        call_free(call);
    }
    LL_FOREACH_SAFE(calls->spare, call, next) {
        call_free(call);
    }
    *calls = (struct calls){0};
}
