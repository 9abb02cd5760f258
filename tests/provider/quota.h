// quota: a provider's limits, one pool of them for each credential and model.
//
// Pure: time comes from the caller, in microseconds since 1970 that never go back. A request is
// admitted by all limits or by none. A day's limits are fixed windows whatever the mode is.
#ifndef HEADRACE_TESTS_PROVIDER_QUOTA_H
#define HEADRACE_TESTS_PROVIDER_QUOTA_H

#include "tests/provider/meter.h"

#include <uthash.h>

enum limit {
#define LIMIT(id, ...) LIMIT_##id,
#include "tests/provider/quota.def"
#undef LIMIT
    LIMIT_COUNT,
};

// What a limit counts: requests, input and output tokens, either of them, requests at once.
enum limit_kind { LIMIT_OF_REQUESTS, LIMIT_OF_TOKENS, LIMIT_OF_INPUT, LIMIT_OF_OUTPUT, LIMIT_OF_OPEN };
enum limit_window { LIMIT_A_MINUTE, LIMIT_A_DAY, LIMIT_A_NONE };

struct limit_row {
    const char *option; // its option's name, and its name in control
    enum limit_kind kind;
    enum limit_window window;
    const char *words; // as providers name it
    const char *quota; // Gemini's name of it
};
extern const struct limit_row quota_rows[LIMIT_COUNT];

struct quota_config {
    enum meter_mode mode;
    int64_t most[LIMIT_COUNT]; // 0: not limited
    int64_t burst_us;          // what a bucket holds; 0: a minute's worth (BUCKET), 2 s (PER_SECOND)
    int64_t day_us;            // length of a day
    bool charge_max;   // output is charged at admission by what the request allows; else when it is over
    bool count_refused; // a refused request counts as a request
    bool by_key, by_model; // a pool of its own for each
    double stranger;   // 0..1: this share of every limit but concurrency is spent by somebody else, evenly
};

// A pool: the meters of one credential and model. Read by everybody, changed by quota alone.
struct quota_pool {
    uint64_t id; // made of key and model
    uint64_t key;
    char model[64];
    struct meter meters[LIMIT_COUNT]; // CONCURRENCY's is not used
    int64_t n_open;
    uint64_t n_admitted, n_refused;
    double stranger_carry[LIMIT_COUNT];
    int64_t stranger_spent[LIMIT_COUNT]; // since quota_take_stranger
    int64_t stranger_at_us;
    UT_hash_handle hh;
};

struct quota {
    struct quota_config config;
    struct quota_pool *pools;
};

struct quota_ask {
    int64_t input_tokens;
    int64_t most_output; // what the request allows; 0: not said, so it can only be charged afterwards
};

// Why a request was refused.
struct quota_refusal {
    enum limit limit; // the one that takes longest to let it in
    int64_t wait_us;  // until it would fit; -1: it never will
    int64_t asked, used;
};

void quota_init(struct quota *quota, const struct quota_config *config);
void quota_free(struct quota *quota);
// quota_are_on says whether there is any limit.
bool quota_are_on(const struct quota *quota);
// quota_pool finds or makes the pool. Lives as long as limits. After 100,000 pools the rest share one.
struct quota_pool *quota_pool(struct quota *quota, uint64_t key, struct slice model, int64_t now_us);

// quota_admit charges a request and returns true, or charges nothing (or one request, if refused ones
// count) and returns false with *refusal. What is admitted stays charged whatever becomes of it.
//   early_output  receives the output tokens charged: ask->most_output or 0
bool quota_admit(struct quota *quota, struct quota_pool *pool, const struct quota_ask *ask,
                  int64_t now_us, int64_t *early_output, struct quota_refusal *refusal);
// quota_end tells that an admitted request is over. Charges the output if it was not charged before.
// Returns the output tokens charged now.
int64_t quota_end(struct quota *quota, struct quota_pool *pool, int64_t early_output,
                   int64_t output_tokens, int64_t now_us);

// quota_set changes one limit of all pools, there and to come.
void quota_set(struct quota *quota, enum limit limit, int64_t most, int64_t now_us);
// quota_set_stranger changes the stranger's share, 0..1.
void quota_set_stranger(struct quota *quota, double share, int64_t now_us);
// quota_left is what is left now, 0 or more; INT64_MAX when not limited.
int64_t quota_left(struct quota *quota, struct quota_pool *pool, enum limit limit, int64_t now_us);
// quota_take_stranger copies what the stranger spent since the last call, and forgets it.
void quota_take_stranger(struct quota_pool *pool, int64_t spent[LIMIT_COUNT]);

#endif
