// breaker: a pool's circuit breaker. While the provider is out, no call is sent but one now and then that
// tries whether it is back. Pure: time and chance go in.
//
//          half of 20 calls of 30 s failed, or        the wait is over        breaker_sent
//          3 in a row that are nobody's fault          (breaker_room: 1)
//   CLOSED ─────────────────────────────────▶ OPEN ──────────────────────▶ TRYING
//     ▲                                        ▲     it failed: twice the wait  │ breaker_heard
//     │                                        └────────────────────────────────┤
//     └─────────────────────────────────────────────────────────────────────────┘ it was answered
#ifndef HEADRACE_COORDINATOR_BREAKER_H
#define HEADRACE_COORDINATOR_BREAKER_H

#include "proto/outcome.h"

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_WINDOW_US 30000000 // calls of so long count
#define BREAKER_LEAST_CALLS 20     // of which at least so many have to have ended
#define BREAKER_ROW 3              // failures in a row that are surely the provider's own
#define BREAKER_FIRST_WAIT_MS 1000 // full jitter, doubled with each call that fails
#define BREAKER_MOST_WAIT_MS 30000
#define BREAKER_PATIENCE_US 3600000000 // an outage is waited for so long before it costs tries again

#define BREAKER_SLICES 10

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_TRYING };

// How a call went, as far as the provider's health goes.
enum breaker_news {
    BREAKER_NOTHING,  // it was not sent, or the worker was lost: says nothing
    BREAKER_ANSWERED, // whatever the answer was
    BREAKER_REFUSED,  // for its rate: it is up, and no more is known
    BREAKER_FAILED,
    BREAKER_OUT,      // it failed, and no record can be to blame
    BREAKER_NOBODY,   // the same, and nobody is known to be there
};

struct breaker {
    enum breaker_state state;
    struct {
        uint32_t n_calls, n_failed;
    } slices[BREAKER_SLICES]; // of the window; the newest is at slice % BREAKER_SLICES
    int64_t slice;            // number of the newest
    int n_row;                // BREAKER_OUT or BREAKER_NOBODY in a row
    bool is_there;            // somebody is or was: before that, the address may be wrong
    int64_t wait_ms;          // OPEN, TRYING: the most of the last wait
    int64_t opened_us, closed_us; // when it last did; opened_us: from CLOSED
    int64_t until_us;         // OPEN
};

// breaker_news_of: outcome and status of a report.
enum breaker_news breaker_news_of(enum outcome outcome, bool sent, int http_status);

// breaker_room says how many calls may go now: INT64_MAX, 1, or 0. breaker_sent: one went.
int64_t breaker_room(const struct breaker *b, int64_t now_us);
void breaker_sent(struct breaker *b, int64_t now_us);
// breaker_heard takes how a call went.
//   tried   it is the one that went while the breaker was not closed
//   draw    in [0, 1)
// Returns true when the breaker has changed from closed to open, or back.
bool breaker_heard(struct breaker *b, enum breaker_news news, bool tried, double draw, int64_t now_us);
// breaker_again: the call that was to try is gone without news: another one may go.
void breaker_again(struct breaker *b, int64_t now_us);

// breaker_wait_ms says how long a call that failed now need not be made again, and its failure is not its
// own doing; 0: the breaker is closed, or has been open for longer than BREAKER_PATIENCE_US.
int64_t breaker_wait_ms(const struct breaker *b, int64_t now_us);

#endif
