// limiter: one pool's limits as this coordinator holds them: runs of calls that the shared buckets granted,
// sent evenly; what was not used goes back. Pure: time goes in, requests for Redis come out.
//
//   limiter_request ─▶ permit_sync.lua ─▶ limiter_reply: a run of n calls from one time to another
//        ▲                                      │ limiter_may_send at each run's pace, limiter_spend
//        └── back, owed, said, cut, block ◀── limiter_settle, limiter_heard, limiter_refused
//
// Invariant: what was granted is in a run, spent, or in back; nothing is spent that was not granted, but for
// the last call of a run, which may cost more than is left (the rest is owed with the next request).
#ifndef HEADRACE_COORDINATOR_LIMITER_H
#define HEADRACE_COORDINATOR_LIMITER_H

#include "common/limit_profile.h"
#include "coordinator/others.h"
#include "coordinator/permit.h"

// What a call costs. Tokens as they are charged, not as they are paid for.
struct amount {
    double calls, input, output;
};

struct limiter_config {
    const struct limit_profile *profile;
    int64_t limit[N_LIMIT_KINDS]; // 0: none
    int64_t calls_limit;          // at once; 0: none
    int64_t calls_ms;             // a call takes no longer
};

struct run {
    int64_t n;
    int64_t next_us, duration_us, end_us; // next_us: of the next call
    double share;                 // that it was granted with
    bool is_begun;
    double granted[N_LIMIT_KINDS], left[N_LIMIT_KINDS];
    double cheaper[N_LIMIT_KINDS]; // its calls were thought to be, when it was asked for
};

struct limiter {
    struct limiter_config config;
    struct run runs[2];          // the current one and the next
    size_t n_runs;
    int64_t first_us;            // when the first call was made
    int64_t run_us, n_of_run;    // when the newest run that was begun did, and how many calls it has made
    struct amount mean, largest; // of the calls sent; zero: none was
    // What calls cost less than they were thought to, as a part of that: what comes back to a run in time for its
    // own calls, and what comes later.
    double cheaper[N_LIMIT_KINDS], unused[N_LIMIT_KINDS];
    double cheaper_asked[N_LIMIT_KINDS]; // as the newest request was made with
    double back[N_LIMIT_KINDS], owed[N_LIMIT_KINDS]; // granted and not used; used and not granted
    double before[N_LIMIT_KINDS]; // spent within about a minute while no limit was known
    int64_t said[N_LIMIT_KINDS]; // the provider's own limit; 0: not known
    int64_t higher[N_LIMIT_KINDS]; // that it says is higher now
    int n_higher[N_LIMIT_KINDS];   // so many times in a row
    int64_t most[N_LIMIT_KINDS]; // that the provider had left, ever since its limit is this
    struct others others[N_LIMIT_KINDS]; // who use the same account
    double share[N_LIMIT_KINDS]; // of the refill that may be used, as the provider's headers suggest
    double share_told[N_LIMIT_KINDS];
    bool is_share_heard[N_LIMIT_KINDS]; // since the newest request
    int64_t n_ready, n_inflight; // as the last limiter_request was told
    bool is_news;                // there is something to tell at once
    struct permit_request request; // the newest
    bool is_pending;             // it was sent, or is to be sent again, and has no reply yet
    bool is_out;                 // it is under way
    bool is_away;                // there was none: Redis is away
    uint64_t number;
    int64_t last_sync_us, waits_until_us; // waits: the buckets have nothing before that
    int64_t asked_us, tried_us;  // when the newest request was made first, and last
    int64_t calls, calls_until_us; // at once, as granted; no new ones after that
    int64_t cut_us;              // when a refusal last cut the rate
    bool cut;                    // to tell
    int64_t block_until_us;      // to tell; 0: nothing
    struct permit_reply reply;   // the newest, for people
    uint64_t n_granted;          // calls, by all replies
    int64_t minute_us, n_this_minute, n_last_minute; // calls sent
    // While Redis is away: eight tenths of what was sent before, paced.
    int64_t away_since_us, away_next_us, away_gap_us; // gap 0: nothing is sent
    int64_t looked_us;           // when somebody last asked for anything
};

void limiter_init(struct limiter *l, const struct limiter_config *config);
// limiter_configure takes limits that have changed.
void limiter_configure(struct limiter *l, const struct limiter_config *config);

// limiter_ask_anew: what the buckets held back before is asked for at once, if it is wanted.
void limiter_ask_anew(struct limiter *l);

// limiter_limit is a limit as it holds now: the lower one of the configured and the provider's own; 0: none.
int64_t limiter_limit(const struct limiter *l, int kind);
// limiter_drop_runs gives all runs back.
void limiter_drop_runs(struct limiter *l);

// limiter_has_rates says whether calls need permits; limiter_is_shared whether anything is held in Redis.
bool limiter_has_rates(const struct limiter *l);
bool limiter_is_shared(const struct limiter *l);

// limiter_may_send says whether one more call may go now.
bool limiter_may_send(struct limiter *l, int64_t n_inflight, int64_t now_us);
// limiter_at_once says how many calls may be at the provider at once, as granted; INT64_MAX: any number.
int64_t limiter_at_once(const struct limiter *l, int64_t now_us);
// limiter_left says how many calls the runs at hand hold.
int64_t limiter_left(const struct limiter *l);
// limiter_room says how many calls are to be made ready: those, or a few while Redis is away.
int64_t limiter_room(const struct limiter *l);
void limiter_spend(struct limiter *l, const struct amount *cost, int64_t now_us);
// limiter_settle corrects what a call that went out at sent_us was thought to cost.
void limiter_settle(struct limiter *l, const struct amount *reserved, const struct amount *used, int64_t sent_us,
                    int64_t now_us);

// limiter_heard takes what an answer's headers said.
void limiter_heard(struct limiter *l, const struct limits_seen *seen, int64_t now_us);
// limiter_refused: a call that was sent at sent_us was refused for its rate; the pool waits until then.
void limiter_refused(struct limiter *l, int64_t sent_us, int64_t block_until_us, int64_t now_us);

// limiter_request makes the next request when one is due, for n_ready calls of which first costs so much;
// NULL: none is. It is l's, and stays as it is until its reply but for elapsed_us.
const struct permit_request *limiter_request(struct limiter *l, int64_t n_ready, int64_t n_inflight,
                                             const struct amount *first, int64_t now_us);
// limiter_reply takes the reply, or NULL: the request may have been carried out or not, and is made again.
// Every request gets one of both.
void limiter_reply(struct limiter *l, const struct permit_reply *reply, int64_t now_us);
// limiter_next_us says when limiter_may_send or limiter_request may say something else, if all stays as the
// last limiter_request was told; INT64_MAX: not by time.
int64_t limiter_next_us(const struct limiter *l, int64_t now_us);

#endif
