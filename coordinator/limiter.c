// Runs of permits: asked for, paced, given back. Called by permits.c and by tests.
#include "coordinator/limiter.h"
#include "common/plant.h"

#include <math.h>
#include <string.h>

#define SYNC_GAP_US 100000     // at most ten round trips a second
#define RUN_CALLS 48           // a run is this many calls long,
#define FIRST_US 3000000       // so long it is not known what calls cost
#define UNUSED_FIRST 0.5       // of the tokens that a call is thought to cost
#define RUN_LEAST_US 250000    // but no shorter
#define RUN_MOST_US 5000000    // and no longer
#define CREDIT_US 400000       // of it come back at most: others' runs are not moved up, but overlap then
#define RUN_SMALL_US 800000    // where others draw from a bucket that holds a few seconds' worth
#define LATE_US 2000000        // a reply that took longer lay about while this process was stopped
#define LEAD_US 60000          // the next run is asked for so long before the end of this one
#define GRACE_US 200000        // what is left of a run may still go so long after its end
#define CATCH_UP_US 20000      // calls that are later than this do not hurry to make up for it
#define RETRY_US 250000        // a request without a reply is made again
#define IDLE_BACK_US 1000000   // what was not used goes back, though nothing is ready
#define AWAY_MOST_US 120000000 // longer than this nothing is sent without Redis
#define AWAY_PART 0.8
#define UNSEEN_US 1000000      // nobody looked for so long: the records' Redis was away too
#define AWAY_CALLS 8           // that are kept ready meanwhile
#define CALLS_SPARE_US 30000000 // without Redis, new calls go out so long; the lease is as much longer
#define MOST_PACE_US 1e14        // of one call: never
#define MINUTE_US 60000000
#define WAIT_MOST_US 15000000  // the buckets are asked again, should they fill at the full rate by then

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t sooner(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static double of_kind(const struct amount *a, enum limit_kind kind) {
    switch (kind) {
    case LIMIT_REQUESTS:
    case LIMIT_REQUESTS_DAY:
        return a->calls;
    case LIMIT_INPUT_TOKENS:
        return a->input;
    case LIMIT_OUTPUT_TOKENS:
        return a->output;
    case LIMIT_TOKENS:
    case LIMIT_TOKENS_DAY:
    case LIMIT_PROJECT_TOKENS:
    case N_LIMIT_KINDS:
        break;
    }
    return a->input + a->output;
}

int64_t limiter_limit(const struct limiter *l, int kind) {
    int64_t limit = l->config.limit[kind], said = l->said[kind];
    return said > 0 && (limit == 0 || said < limit) ? said : limit;
}

void limiter_init(struct limiter *l, const struct limiter_config *config) {
    memset(l, 0, sizeof(*l));
    l->config = *config;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        l->share[kind] = l->share_told[kind] = 1;
        bool is_calls = kind == LIMIT_REQUESTS || kind == LIMIT_REQUESTS_DAY;
        l->unused[kind] = is_calls ? 0 : UNUSED_FIRST;
    }
}

void limiter_configure(struct limiter *l, const struct limiter_config *config) {
    l->is_news = l->is_news || memcmp(config->limit, l->config.limit, sizeof(config->limit)) != 0;
    l->config = *config;
}

void limiter_ask_anew(struct limiter *l) {
    l->waits_until_us = 0;
}

bool limiter_has_rates(const struct limiter *l) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        if (limiter_limit(l, kind) > 0) {
            return true;
        }
    }
    return false;
}

bool limiter_is_shared(const struct limiter *l) {
    return l->config.calls_limit > 0 || limiter_has_rates(l);
}

// ---- Runs -------------------------------------------------------------------------------------------

static void give_back(struct limiter *l, struct run *run) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        double left = run->left[kind];
        l->back[kind] += left > 0 ? left * (PLANT(REFUND_TWICE) ? 2 : 1) : 0;
        l->owed[kind] += left < 0 ? -left : 0;
    }
}

static void end_run(struct limiter *l, size_t i) {
    give_back(l, &l->runs[i]);
    l->runs[i] = l->runs[--l->n_runs];
}

void limiter_drop_runs(struct limiter *l) {
    while (l->n_runs > 0) {
        end_run(l, l->n_runs - 1);
    }
}

static void drop_spent_runs(struct limiter *l, int64_t now_us) {
    for (size_t i = l->n_runs; i-- > 0;) {
        if (l->runs[i].n <= 0 || l->runs[i].end_us + GRACE_US < now_us) {
            end_run(l, i);
        }
    }
}

// has_left says whether a run has something left of everything; what its calls did not cost comes back to it.
static bool has_left(const struct limiter *l, const struct run *run) {
    bool has = true;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        has = has && (run->granted[kind] <= 0 || run->left[kind] > 0 || limiter_limit(l, kind) == 0);
    }
    return has;
}

// next_run is the run of the next call. Runs overlap where calls cost less than they were thought to.
static struct run *next_run(struct limiter *l) {
    struct run *first = NULL;
    for (size_t i = 0; i < l->n_runs; i++) {
        struct run *run = &l->runs[i];
        first = has_left(l, run) && (first == NULL || run->next_us < first->next_us) ? run : first;
    }
    return first;
}

// look notes that somebody looks. Nobody does while no call can be made at all: after that a request, and not
// a call without permit, is the first.
static void look(struct limiter *l, int64_t now_us) {
    if (l->is_away && now_us - l->looked_us > UNSEEN_US) {
        l->away_next_us = later(l->away_next_us, now_us + RETRY_US);
    }
    l->looked_us = now_us;
}

// away_may_send: without Redis, paced at a part of what was sent in the minute before.
static bool away_may_send(const struct limiter *l, int64_t now_us) {
    return l->is_away && now_us - l->away_since_us < AWAY_MOST_US && l->away_gap_us > 0 &&
           now_us >= l->away_next_us;
}

// While a request is under way, it may have given calls back that were not running.
int64_t limiter_at_once(const struct limiter *l, int64_t now_us) {
    if (l->config.calls_limit == 0) {
        return INT64_MAX;
    }
    if (now_us >= l->calls_until_us) {
        return 0;
    }
    return l->is_pending && l->request.calls_held < l->calls ? l->request.calls_held : l->calls;
}

bool limiter_may_send(struct limiter *l, int64_t n_inflight, int64_t now_us) {
    if (n_inflight >= limiter_at_once(l, now_us)) {
        return false;
    }
    if (!limiter_has_rates(l)) {
        return true;
    }
    look(l, now_us);
    drop_spent_runs(l, now_us);
    const struct run *run = next_run(l);
    return run != NULL ? run->next_us <= now_us : l->n_runs == 0 && away_may_send(l, now_us);
}

int64_t limiter_left(const struct limiter *l) {
    int64_t n = 0;
    for (size_t i = 0; i < l->n_runs; i++) {
        n += l->runs[i].n;
    }
    return n;
}

int64_t limiter_room(const struct limiter *l) {
    int64_t left = limiter_left(l);
    return l->is_away && left < AWAY_CALLS ? AWAY_CALLS : left;
}

static double least_share(const struct limiter *l) {
    double least = 1;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        least = limiter_limit(l, kind) > 0 ? fmin(least, l->share[kind]) : least;
    }
    return least;
}

static void learn(struct limiter *l, const struct amount *cost) {
    if (l->mean.calls == 0) {
        l->mean = l->largest = *cost;
        return;
    }
    l->mean.input += 0.05 * (cost->input - l->mean.input);
    l->mean.output += 0.05 * (cost->output - l->mean.output);
    // The largest is forgotten slowly.
    l->largest.input = fmax(cost->input, l->largest.input * 0.999);
    l->largest.output = fmax(cost->output, l->largest.output * 0.999);
}

static void turn_minute(struct limiter *l, int64_t now_us) {
    if (now_us - l->minute_us >= MINUTE_US) {
        bool is_next = now_us - l->minute_us < 2 * MINUTE_US;
        l->n_last_minute = is_next ? l->n_this_minute : 0;
        l->n_this_minute = 0;
        l->minute_us = is_next ? l->minute_us + MINUTE_US : now_us;
        memset(l->before, 0, sizeof(l->before));
    }
}

// charge takes off what no run has paid for. Of a limit that is not known, it is kept for when one is.
static void charge(struct limiter *l, int kind, double amount) {
    if (limiter_limit(l, kind) > 0) {
        l->owed[kind] += amount > 0 ? amount : 0;
        l->back[kind] += amount < 0 ? -amount : 0;
    } else {
        l->before[kind] += amount;
    }
}

// wait_as_even: the calls of a run went faster than this coordinator's part of the limit: others send meanwhile.
static void wait_as_even(struct limiter *l) {
    int64_t even_us = l->run_us + (int64_t)fmin((double)l->n_of_run * (double)l->away_gap_us, MOST_PACE_US);
    l->away_next_us = l->is_away ? later(l->away_next_us, even_us) : l->away_next_us;
}

void limiter_spend(struct limiter *l, const struct amount *cost, int64_t now_us) {
    turn_minute(l, now_us);
    l->first_us = l->first_us > 0 ? l->first_us : now_us;
    l->n_this_minute++;
    learn(l, cost);
    struct run *run = next_run(l);
    double part = 0; // of the run that this call takes
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        double c = of_kind(cost, (enum limit_kind)kind);
        if (run == NULL || run->granted[kind] <= 0) {
            charge(l, kind, c);
        } else {
            run->left[kind] -= c;
            part = fmax(part, c * (1 - run->cheaper[kind]) / run->granted[kind]);
        }
    }
    if (run != NULL) {
        run->n--;
        run->next_us = run->next_us > now_us - CATCH_UP_US ? run->next_us : now_us - CATCH_UP_US;
        double slower = fmax(1, run->share / least_share(l)); // others have begun to spend since
        run->next_us += (int64_t)fmin(part * slower * (double)run->duration_us, MOST_PACE_US);
        l->run_us = run->is_begun ? l->run_us : now_us;
        l->n_of_run = run->is_begun ? l->n_of_run + 1 : 1;
        run->is_begun = true;
        wait_as_even(l);
    } else if (l->is_away) {
        l->away_next_us = now_us + l->away_gap_us;
    }
}

// run_of finds the run that what a call did not cost comes back to. Long ago is too late: the buckets may have been
// full since.
static struct run *run_of(struct limiter *l, int kind, int64_t sent_us, int64_t now_us) {
    bool is_calls = kind == LIMIT_REQUESTS || kind == LIMIT_REQUESTS_DAY;
    for (size_t i = 0; i < l->n_runs && !is_calls && now_us - sent_us < RUN_MOST_US; i++) {
        struct run *run = &l->runs[i];
        if (run->is_begun && run->granted[kind] > 0 && now_us < run->end_us) {
            return run;
        }
    }
    return NULL;
}

void limiter_settle(struct limiter *l, const struct amount *reserved, const struct amount *used, int64_t sent_us,
                    int64_t now_us) {
    // The first calls cost much less than they were thought to. That is given up: a minute later there would be more
    // than the limit.
    bool is_first = l->first_us > 0 && sent_us - l->first_us < FIRST_US && used->calls > 0;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        double thought = of_kind(reserved, (enum limit_kind)kind), was = of_kind(used, (enum limit_kind)kind);
        struct run *run = run_of(l, kind, sent_us, now_us);
        if (run != NULL && !is_first) {
            run->left[kind] += thought - was;
        } else if (!is_first || was > thought) {
            charge(l, kind, was - thought);
        }
        if (thought > 0) {
            double less = fmax(0, 1 - was / thought);
            l->cheaper[kind] += 0.05 * ((run != NULL ? less : 0) - l->cheaper[kind]);
            l->unused[kind] += 0.05 * ((run != NULL ? 0 : less) - l->unused[kind]);
        }
    }
}

// ---- Redis ----------------------------------------------------------------------------------------------

// rate_of is calls a second at the limits, for calls of the mean cost; INFINITY: no limit known. *binds gets
// the kind of limit that says so.
static double rate_of(const struct limiter *l, int *binds) {
    double rate = INFINITY;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        bool is_day = kind == LIMIT_REQUESTS_DAY || kind == LIMIT_TOKENS_DAY;
        double cost = of_kind(&l->mean, (enum limit_kind)kind);
        int64_t limit = limiter_limit(l, kind);
        double most = limit > 0 && cost > 0 && !is_day ? (double)limit * l->share[kind] / 60 / cost : INFINITY;
        *binds = most < rate ? kind : *binds;
        rate = fmin(rate, most);
    }
    return rate;
}

// has_small_bucket: somebody else draws from a bucket that would be empty before a long run ends.
static bool has_small_bucket(const struct limiter *l) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        if (l->others[kind].is_small && l->share[kind] < 1) {
            return true;
        }
    }
    return false;
}

static int64_t span_of(const struct limiter *l) {
    int binds = 0;
    double us = RUN_CALLS / rate_of(l, &binds) * 1e6;
    us = fmin(us, CREDIT_US / fmax(0.01, l->unused[binds]));
    int64_t most_us = has_small_bucket(l) ? RUN_SMALL_US : RUN_MOST_US;
    return us < RUN_LEAST_US ? RUN_LEAST_US : us > (double)most_us ? most_us : (int64_t)us;
}

// lead_us: how long before the end of the last run the next one is asked for. What its calls give back lets the
// next one begin the sooner.
static int64_t lead_us(const struct limiter *l) {
    int64_t duration_us = l->runs[l->n_runs - 1].duration_us;
    int binds = 0;
    (void)rate_of(l, &binds);
    double lead = fmin(LEAD_US, (double)duration_us / 4) + (double)duration_us * fmin(0.5, l->unused[binds]);
    return (int64_t)fmin(lead, RUN_MOST_US);
}

// run_due_us says when another run is to be asked for.
static int64_t run_due_us(const struct limiter *l) {
    if (!limiter_has_rates(l) || l->n_ready == 0 || l->n_runs > 1) {
        return INT64_MAX;
    }
    if (l->n_runs == 0) {
        return l->waits_until_us;
    }
    const struct run *last = &l->runs[0];
    if (l->n_ready <= limiter_left(l)) {
        return INT64_MAX;
    }
    int64_t at_us = last->end_us - lead_us(l);
    return last->n <= 1 || last->next_us >= at_us ? l->waits_until_us : later(at_us, l->waits_until_us);
}

static bool wants_run(const struct limiter *l, int64_t now_us) {
    return run_due_us(l) <= now_us;
}

// calls_due_us says when the calls at once are to be asked for: more of them in turns with others; less when
// there are too many for a while; the same before their lease ends.
static int64_t calls_due_us(const struct limiter *l) {
    int64_t limit = l->config.calls_limit, wanted = l->n_ready + l->n_inflight;
    if (limit == 0 || (wanted == 0 && l->calls == 0)) {
        return INT64_MAX;
    }
    if (l->number == 0) {
        return 0;
    }
    bool more = l->n_ready > 0 && l->n_inflight >= l->calls && l->calls < limit;
    return l->last_sync_us + (more                ? RUN_LEAST_US
                              : wanted < l->calls ? IDLE_BACK_US
                                                  : CALLS_SPARE_US / 3);
}

static bool has_back(const struct limiter *l) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        if (limiter_limit(l, kind) > 0 && (l->back[kind] >= 1 || l->owed[kind] >= 1)) {
            return true;
        }
    }
    return false;
}

static int64_t back_due_us(const struct limiter *l) {
    if (!has_back(l)) {
        return INT64_MAX;
    }
    int64_t ends_us = 0;
    for (size_t i = 0; i < l->n_runs; i++) {
        ends_us = later(ends_us, l->runs[i].end_us);
    }
    return later(l->last_sync_us + IDLE_BACK_US, ends_us);
}

// due_us says when the next request is due, if all stays as it is.
static int64_t due_us(const struct limiter *l) {
    if (l->is_pending) {
        return l->is_out ? INT64_MAX : l->last_sync_us + RETRY_US;
    }
    if (!limiter_is_shared(l)) {
        return INT64_MAX;
    }
    int64_t at_us = sooner(run_due_us(l), sooner(calls_due_us(l), back_due_us(l)));
    at_us = l->is_news ? 0 : at_us;
    return l->number > 0 ? later(at_us, l->last_sync_us + SYNC_GAP_US) : at_us;
}

static void fill_kinds(struct limiter *l, struct permit_request *r, const struct amount *first) {
    struct amount mean = l->mean, largest = l->largest;
    mean = mean.calls > 0 ? mean : *first;
    largest.calls = 1;
    largest.input = fmax(largest.input, first->input);
    largest.output = fmax(largest.output, first->output);
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        double cost = of_kind(&mean, (enum limit_kind)kind);
        cost = r->n_want == 1 ? of_kind(first, (enum limit_kind)kind) : cost;
        r->of[kind] = (struct permit_kind){
            .limit = l->config.limit[kind],
            .said = l->is_news ? l->said[kind] : 0,
            // Only what an answer has said since: the pool's share recovers when nothing is heard.
            .share = l->is_share_heard[kind] ? l->share[kind] : -1,
            .back = l->back[kind],
            .owed = l->owed[kind],
            .largest = of_kind(&largest, (enum limit_kind)kind),
            .want = cost * (double)r->n_want * (r->n_want > 1 ? 1 - l->cheaper[kind] : 1),
        };
        l->back[kind] = l->owed[kind] = 0;
        l->cheaper_asked[kind] = l->cheaper[kind];
        l->share_told[kind] = l->share[kind];
        l->is_share_heard[kind] = false;
    }
}

const struct permit_request *limiter_request(struct limiter *l, int64_t n_ready, int64_t n_inflight,
                                             const struct amount *first, int64_t now_us) {
    l->n_ready = n_ready;
    l->n_inflight = n_inflight;
    look(l, now_us);
    drop_spent_runs(l, now_us);
    if (due_us(l) > now_us) {
        return NULL;
    }
    int64_t n_more = wants_run(l, now_us) ? n_ready - limiter_left(l) : 0;
    l->last_sync_us = now_us;
    l->is_out = true;
    if (l->is_pending && !PLANT(FORGET_NUMBER)) {
        l->request.elapsed_us += l->number > 1 ? now_us - l->tried_us : 0;
        l->tried_us = now_us;
        return &l->request;
    }
    int64_t elapsed_us = l->number > 0 ? now_us - l->asked_us : -1;
    l->asked_us = l->tried_us = now_us;
    int64_t calls_want = n_inflight + n_ready;
    l->request = (struct permit_request){
        .number = ++l->number,
        .n_want = n_more > 0 ? n_more : 0,
        .span_us = span_of(l),
        .ahead_us = 2 * span_of(l),
        .calls_limit = l->config.calls_limit,
        .calls_want = calls_want < l->config.calls_limit ? calls_want : l->config.calls_limit,
        .calls_held = n_inflight,
        .calls_ms = l->config.calls_ms + CALLS_SPARE_US / 1000,
        .elapsed_us = elapsed_us,
        .block_us = l->block_until_us > now_us ? l->block_until_us - now_us : 0,
        .cut = l->cut,
        .is_bucket = l->config.profile->refill == LIMIT_REFILL_BUCKET,
        .day_offset_min = l->config.profile->day_offset_min,
    };
    fill_kinds(l, &l->request, first);
    l->cut = l->is_news = false;
    l->block_until_us = 0;
    l->is_pending = true;
    return &l->request;
}

static void add_run(struct limiter *l, const struct permit_reply *reply, int64_t now_us) {
    struct run *run = &l->runs[l->n_runs++];
    *run = (struct run){
        .n = reply->n,
        .next_us = now_us + reply->delay_us,
        .duration_us = reply->duration_us,
        .share = least_share(l),
        .end_us = now_us + reply->delay_us + reply->duration_us,
    };
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        run->granted[kind] = run->left[kind] = reply->of[kind].granted;
        run->cheaper[kind] = l->request.n_want > 1 ? l->cheaper_asked[kind] : 0;
    }
}

// go_away fixes what is sent without Redis.
static void go_away(struct limiter *l, int64_t now_us) {
    turn_minute(l, now_us);
    double past = (double)(now_us - l->minute_us) / MINUTE_US;
    double n = (double)l->n_last_minute * (1 - past) + (double)l->n_this_minute;
    l->is_away = true;
    l->away_since_us = now_us;
    l->away_gap_us = n > 0 ? (int64_t)(MINUTE_US / (AWAY_PART * n)) : 0;
    l->away_next_us = now_us + l->away_gap_us;
    wait_as_even(l);
}

// tell_others: what is below zero of a level is granted, and goes out until the run's end.
static void tell_others(struct limiter *l, const struct permit_reply *reply, int64_t now_us) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        double ahead = fmax(0, -reply->of[kind].level);
        int64_t ahead_us = later(0, reply->delay_us) + (reply->n > 0 ? reply->duration_us : 0);
        if (reply->of[kind].limit > 0) {
            others_told(&l->others[kind], reply->of[kind].spent - ahead, ahead, ahead_us, now_us);
        }
    }
}

// wait_at_most_us: the rate may be low for a while only, by what refusals or others have done to it.
static int64_t wait_at_most_us(const struct permit_reply *reply) {
    double most = WAIT_MOST_US;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        bool is_day = kind == LIMIT_REQUESTS_DAY || kind == LIMIT_TOKENS_DAY;
        if (reply->of[kind].limit > 0) {
            double minutes = -reply->of[kind].level / (double)reply->of[kind].limit * (is_day ? 1440 : 1);
            most = fmax(most, 1.1 * minutes * MINUTE_US);
        }
    }
    return (int64_t)fmin(most, MOST_PACE_US);
}

void limiter_reply(struct limiter *l, const struct permit_reply *reply, int64_t now_us) {
    l->is_out = false;
    if (reply == NULL) {
        if (!l->is_away) {
            go_away(l, now_us);
        }
        return;
    }
    l->is_away = l->is_pending = false;
    l->reply = *reply;
    l->n_granted += (uint64_t)reply->n;
    l->calls = reply->calls;
    l->calls_until_us = l->asked_us + CALLS_SPARE_US;
    drop_spent_runs(l, now_us);
    if (l->tried_us == l->asked_us) { // else it may be an old one
        tell_others(l, reply, now_us);
    }
    if (reply->n > 0 && l->n_runs < 2) {
        // It tells of a time that is past then.
        int64_t late_us = now_us - l->tried_us - LATE_US;
        add_run(l, reply, late_us > 0 ? now_us - late_us : now_us);
    } else if (l->request.n_want > 0) {
        int64_t full_us = later(SYNC_GAP_US, sooner(reply->delay_us, wait_at_most_us(reply)) - l->request.ahead_us);
        l->waits_until_us = now_us + (reply->blocked_us > 0 ? reply->blocked_us : full_us);
    }
}

// send_us says when the next call may go; INT64_MAX: not by time alone, or already.
static int64_t send_us(const struct limiter *l, int64_t now_us) {
    int64_t at_us = INT64_MAX;
    for (size_t i = 0; i < l->n_runs; i++) {
        at_us = has_left(l, &l->runs[i]) ? sooner(at_us, l->runs[i].next_us) : at_us;
    }
    bool paces = l->is_away && l->away_gap_us > 0 && l->away_next_us - l->away_since_us < AWAY_MOST_US;
    at_us = l->n_runs == 0 && paces ? l->away_next_us : at_us;
    return l->n_ready > 0 && at_us > now_us ? at_us : INT64_MAX;
}

int64_t limiter_next_us(const struct limiter *l, int64_t now_us) {
    int64_t next = sooner(due_us(l), send_us(l, now_us));
    for (size_t i = 0; i < l->n_runs; i++) { // then what is left of the run goes back
        next = sooner(next, l->runs[i].end_us + GRACE_US + 1);
    }
    return next;
}
