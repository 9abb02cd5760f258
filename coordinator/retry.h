// retry: when and how what failed is tried again: wait, split, re-ask, give up. Pure: a table of
// rules over proto/outcome.def, no clock, no chance of its own.
#ifndef HEADRACE_COORDINATOR_RETRY_H
#define HEADRACE_COORDINATOR_RETRY_H

#include "common/model.h"
#include "proto/outcome.h"

enum retry_action {
    RETRY_SAME,    // the same records in one call, after delay_ms
    RETRY_HALVES,  // two calls, half of the records each, after delay_ms
    RETRY_SINGLES, // one call a record, at once
    RETRY_POOL,    // the pool waits, then the same records in one call
    RETRY_STOP,    // the pool stops; the records stay
    RETRY_GIVE_UP, // the records end as errors
};

struct retry_case {
    enum outcome outcome;    // of the call, or of the records that are left
    size_t n_asked;          // records that the call asked for, at least 1
    size_t n_left;           // of these without a result, 1..n_asked
    int tries;               // of max_retries used so far
    int n_ambiguous;         // earlier calls for these records that were sent and never answered,
                             // those of lost workers not counted
    int n_lost;              // workers that were lost with earlier calls for these records
    bool reasked;            // they were missing from an answer before
    bool corrects;           // all that are left have an answer that did not fit, and were not told why before
    bool new_kind;           // a record alone: it failed before, and never with this outcome
    bool ambiguous;          // this call was sent and never answered
    int64_t retry_after_ms;  // what the provider asked for; 0: nothing
    int64_t out_ms;          // the provider is out, and nobody is asked before that; 0: it is not
    double draw;             // in [0, 1)
};

struct retry_decision {
    enum retry_action action;
    int64_t delay_ms;        // RETRY_SAME, RETRY_HALVES
    int tries;               // used after this
    bool reasked;            // for the new call
};

// A call that two workers were lost with is a suspect: something in it may have killed them. It goes
// alone to a worker that does nothing else meanwhile, so that the next loss is its own doing.
#define RETRY_LOST_SUSPECT 2
#define RETRY_LOST_MOST 3 // a record alone that lost so many workers ends

#define RETRY_BASE_MS 500 // first back-off at most; doubled each time
#define RETRY_CAP_MS 30000

// retry_decide applies the rules of docs/models.md, "What becomes of a failed call".
struct retry_decision retry_decide(const struct model_options *options, const struct retry_case *c);

#endif
