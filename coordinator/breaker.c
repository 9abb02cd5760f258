// A pool's circuit breaker. Invariant: while it is not closed, at most one call that went out since it
// opened is under way. Called by permits.
#include "coordinator/breaker.h"

#include <string.h>

#define SLICE_US (BREAKER_WINDOW_US / BREAKER_SLICES)
#define BEHIND_MS 50 // it is another call's turn to try

enum breaker_news breaker_news_of(enum outcome outcome, bool sent, int http_status) {
    switch (outcome) {
    case OUTCOME_UNSENT:
    case OUTCOME_NO_CREDENTIAL:
    case OUTCOME_WORKER_LOST:
        return BREAKER_NOTHING;
    case OUTCOME_RATE_LIMITED:
        return BREAKER_REFUSED;
    case OUTCOME_UNREACHABLE:
        return BREAKER_NOBODY;
    case OUTCOME_TRANSIENT:
        // A 500 may be one record's doing; what these say is said before anybody has read the request.
        return http_status == 502 || http_status == 503 || http_status == 504 || http_status == 529
                   ? BREAKER_OUT
                   : BREAKER_FAILED;
    case OUTCOME_TIMED_OUT:
    case OUTCOME_BROKEN:
        return BREAKER_FAILED;
    default:
        return sent ? BREAKER_ANSWERED : BREAKER_NOTHING;
    }
}

int64_t breaker_room(const struct breaker *b, int64_t now_us) {
    if (b->state == BREAKER_CLOSED) {
        return INT64_MAX;
    }
    return b->state == BREAKER_OPEN && b->until_us <= now_us ? 1 : 0;
}

void breaker_sent(struct breaker *b, int64_t now_us) {
    if (b->state == BREAKER_OPEN && b->until_us <= now_us) {
        b->state = BREAKER_TRYING;
    }
}

void breaker_again(struct breaker *b, int64_t now_us) {
    if (b->state == BREAKER_TRYING) {
        b->state = BREAKER_OPEN;
        b->until_us = now_us;
    }
}

static void wait(struct breaker *b, double draw, int64_t now_us) {
    b->state = BREAKER_OPEN;
    b->until_us = now_us + (int64_t)((double)b->wait_ms * draw * 1000);
}

// open_again doubles the wait; one that comes soon after it closed goes on where it was.
static void open_again(struct breaker *b, double draw, int64_t now_us) {
    bool goes_on = b->wait_ms > 0 && (b->state != BREAKER_CLOSED || now_us - b->closed_us < BREAKER_WINDOW_US);
    int64_t more = goes_on ? b->wait_ms * 2 : BREAKER_FIRST_WAIT_MS;
    b->wait_ms = more < BREAKER_MOST_WAIT_MS ? more : BREAKER_MOST_WAIT_MS;
    wait(b, draw, now_us);
}

static void forget(struct breaker *b) {
    memset(b->slices, 0, sizeof(b->slices));
    b->n_row = 0;
}

// count adds a call to the window, and forgets what is past it.
static void count(struct breaker *b, bool failed, int64_t now_us) {
    int64_t slice = now_us / SLICE_US;
    for (int64_t i = slice - b->slice < BREAKER_SLICES ? b->slice + 1 : slice - BREAKER_SLICES + 1; i <= slice; i++) {
        memset(&b->slices[i % BREAKER_SLICES], 0, sizeof(b->slices[0]));
    }
    b->slice = slice > b->slice ? slice : b->slice;
    b->slices[b->slice % BREAKER_SLICES].n_calls++;
    b->slices[b->slice % BREAKER_SLICES].n_failed += failed;
}

static bool is_too_much(const struct breaker *b) {
    uint64_t n_calls = 0, n_failed = 0;
    for (size_t i = 0; i < BREAKER_SLICES; i++) {
        n_calls += b->slices[i].n_calls;
        n_failed += b->slices[i].n_failed;
    }
    return (n_calls >= BREAKER_LEAST_CALLS && n_failed * 2 >= n_calls) || b->n_row >= BREAKER_ROW;
}

static bool heard_closed(struct breaker *b, enum breaker_news news, double draw, int64_t now_us) {
    bool failed = news >= BREAKER_FAILED;
    b->n_row = news >= BREAKER_OUT ? b->n_row + 1 : 0;
    count(b, failed, now_us);
    if (!failed || !is_too_much(b)) {
        return false;
    }
    open_again(b, draw, now_us);
    b->opened_us = now_us;
    forget(b);
    return true;
}

bool breaker_heard(struct breaker *b, enum breaker_news news, bool tried, double draw, int64_t now_us) {
    b->is_there = b->is_there || (news != BREAKER_NOTHING && news != BREAKER_NOBODY);
    if (b->state == BREAKER_CLOSED) {
        bool counts = news != BREAKER_NOTHING && news != BREAKER_REFUSED && b->is_there;
        return counts && heard_closed(b, news, draw, now_us);
    }
    if (!tried || b->state != BREAKER_TRYING) {
        return false; // sent before it opened: old news
    }
    switch (news) {
    case BREAKER_NOTHING:
        breaker_again(b, now_us);
        return false;
    case BREAKER_FAILED:
    case BREAKER_OUT:
    case BREAKER_NOBODY:
        open_again(b, draw, now_us);
        return false;
    case BREAKER_ANSWERED:
    case BREAKER_REFUSED:
        break;
    }
    b->state = BREAKER_CLOSED;
    b->closed_us = now_us;
    return true;
}

int64_t breaker_wait_ms(const struct breaker *b, int64_t now_us) {
    if (b->state == BREAKER_CLOSED || now_us - b->opened_us > BREAKER_PATIENCE_US) {
        return 0;
    }
    int64_t left_ms = b->state == BREAKER_OPEN && b->until_us > now_us ? (b->until_us - now_us) / 1000 : 0;
    return left_ms + BEHIND_MS;
}
