// Pools and what their limits allow now. Invariant: n_inflight is the number of the pool's calls that
// are SENT. Called by dispatch (may_send, spend, pump), collect (what came back) and core (replies).
#include "coordinator/permits.h"
#include "common/json.h"
#include "common/limits_file.h"
#include "common/log.h"
#include "common/mem.h"
#include "coordinator/call.h"
#include "coordinator/flow.h"
#include "coordinator/roster.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POOL_BACKOFF_FIRST_MS 500
#define POOL_BACKOFF_MOST_MS 30000
#define WINDOW_FIRST 64   // calls at once, when no limit is given and nothing is known
#define WINDOW_MOST 65536
#define REPEATS_A_CALL 0.1
#define REPEATS_MOST 50
#define READY_MOST 100000 // more calls than this are not counted for what a pool wants

// ---- Pools --------------------------------------------------------------------------------------------

static int add_word(struct buf *out, const char *text, size_t n) {
    int rc = 0;
    for (size_t i = 0; i < n; i++) { // { } would end the hash tag in Redis, $ is no part of a name
        rc |= strchr("${} \n", text[i]) == NULL ? buf_add(out, text + i, 1) : 0;
    }
    return rc;
}

// family_length says how much of a provider's model name stands before the date of a snapshot:
// "-2026-01-31" or "-20260131".
static size_t family_length(const char *model) {
    size_t n = strlen(model), digits = 0, from = n;
    while (from > 0 && ((model[from - 1] >= '0' && model[from - 1] <= '9') || model[from - 1] == '-')) {
        digits += model[--from] != '-';
    }
    return digits == 8 && from < n && model[from] == '-' ? from : n;
}

// pool_name names what the provider's limits apply to: provider:host:account:model family. The account is
// the credential's name, never its value: options hold ${NAME} only. A row of the limits file names its
// pool itself, without the colons that all others have.
static char *pool_name(const struct limits_row *row, const struct model_options *o) {
    struct buf name;
    if (row != NULL) {
        return slice_dup(slice_of(row->pool));
    }
    buf_init(&name, 16384);
    const char *host = strstr(o->endpoint, "://");
    host = host != NULL ? host + 3 : o->endpoint;
    int rc = add_word(&name, o->provider, strlen(o->provider));
    rc |= buf_add_str(&name, ":");
    rc |= add_word(&name, host, strcspn(host, "/?"));
    rc |= buf_add_str(&name, ":");
    rc |= add_word(&name, o->api_key, strlen(o->api_key));
    rc |= buf_add_str(&name, ":");
    rc |= add_word(&name, o->model, family_length(o->model));
    assert(rc == 0); // options are at most 2 kB each
    return buf_take(&name);
}

static int64_t given(int64_t option) {
    return option != MODEL_UNSET ? option : 0;
}

static struct limiter_config limits_of(const struct model_options *o) {
    struct slice profile = slice_of(o->limit_profile);
    struct limiter_config config = {
        .profile = profile.n > 0 ? limit_profile_find(profile) : NULL,
        .limit = {[LIMIT_REQUESTS] = given(o->limit_rpm), [LIMIT_TOKENS] = given(o->limit_tpm),
                  [LIMIT_INPUT_TOKENS] = given(o->limit_itpm), [LIMIT_OUTPUT_TOKENS] = given(o->limit_otpm),
                  [LIMIT_REQUESTS_DAY] = given(o->limit_rpd), [LIMIT_TOKENS_DAY] = given(o->limit_tpd)},
        .calls_limit = given(o->limit_concurrency),
        .calls_ms = o->request_timeout_ms,
    };
    if (config.profile == NULL) {
        config.profile = limit_profile_of(slice_of(o->provider));
    }
    return config;
}

static int64_t lower_of(int64_t a, int64_t b) {
    return a <= 0 || (b > 0 && b < a) ? b : a;
}

// join makes what one model more wants of a row's pool into what all its models hold to: of limits the lower.
static void join(struct limiter_config *config, const struct limiter_config *others) {
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        config->limit[kind] = lower_of(config->limit[kind], others->limit[kind]);
    }
    config->calls_limit = lower_of(config->calls_limit, others->calls_limit);
    config->calls_ms = config->calls_ms > others->calls_ms ? config->calls_ms : others->calls_ms;
}

// limits_of_model returns the name of a model's pool and fills in its limits; *has_row: those of a row.
static char *limits_of_model(const struct core *core, const struct model *model, struct limiter_config *config,
                             bool *has_row) {
    const struct limits_row *row = limits_file_find(core->config->limits, &model->options);
    struct model_options options = model->options;
    if (row != NULL) {
        limits_row_apply(row, &options);
    }
    *has_row = row != NULL;
    *config = limits_of(&options);
    return pool_name(row, &options);
}

struct pool *pool_get(struct core *core, const struct model *model) {
    struct limiter_config config;
    bool has_row;
    char *name = limits_of_model(core, model, &config, &has_row);
    struct pool *pool;
    HASH_FIND_STR(core->pools, name, pool);
    if (pool != NULL) {
        free(name);
        if (has_row && pool->n_groups > 0) {
            join(&config, &pool->limiter.config);
        }
        limiter_configure(&pool->limiter, &config);
        return pool;
    }
    pool = mem_zalloc(sizeof(*pool));
    pool->name = name;
    pool->id = ++core->n_pools;
    pool->backoff_ms = POOL_BACKOFF_FIRST_MS;
    pool->window = config.calls_limit > 0 ? (double)config.calls_limit : WINDOW_FIRST;
    pool->is_growing = true;
    pool->repeats = REPEATS_MOST;
    pool->repeats_us = core->now_us;
    limiter_init(&pool->limiter, &config);
    HASH_ADD_KEYPTR(hh, core->pools, pool->name, strlen(pool->name), pool);
    return pool;
}

void pool_free(struct core *core, struct pool *pool) {
    core->turn = core->turn == pool ? NULL : core->turn;
    HASH_DEL(core->pools, pool);
    free(pool->name);
    free(pool);
}

bool pool_is_idle(const struct core *core, const struct pool *pool) {
    return pool->stopped == NULL && pool->blocked_until_us <= core->now_us && pool->limiter.number == 0 &&
           pool->breaker.state == BREAKER_CLOSED;
}

// ---- Calls at once --------------------------------------------------------------------------------------

int64_t pool_at_once(const struct pool *pool) {
    int64_t most = pool->window < WINDOW_MOST ? (int64_t)pool->window : INT64_MAX;
    if (pool->limiter.config.calls_limit > 0 && pool->limiter.config.calls_limit < most) {
        most = pool->limiter.config.calls_limit;
    }
    return most;
}

static int64_t room_at_once(const struct core *core, const struct pool *pool) {
    int64_t room = pool_at_once(pool) - pool->n_inflight, tries = breaker_room(&pool->breaker, core->now_us);
    return room < tries ? room : tries;
}

int64_t pool_room(const struct core *core, const struct pool *pool) {
    int64_t room = room_at_once(core, pool);
    if (core->io->permit == NULL || !limiter_has_rates(&pool->limiter)) {
        return room;
    }
    int64_t permitted = limiter_room(&pool->limiter);
    return room < permitted ? room : permitted;
}

// The window grows by one a good call until the provider is first overloaded, then by one a round of calls.
static void grow_window(struct pool *pool) {
    if (pool->window < WINDOW_MOST && pool->n_inflight + 1 >= (int64_t)(pool->window / 2)) {
        pool->window += pool->is_growing ? 1 : 1 / pool->window;
    }
}

// shrink_window answers an overload, once for all calls that were out together.
static void shrink_window(struct pool *pool, int64_t sent_us, int64_t now_us) {
    if (sent_us <= pool->shrunk_us) {
        return;
    }
    double most = pool->n_inflight < pool->window ? (double)pool->n_inflight : pool->window;
    pool->window = most * 0.7 > 1 ? most * 0.7 : 1;
    pool->is_growing = false;
    pool->shrunk_us = now_us;
}

// ---- Permits --------------------------------------------------------------------------------------------

bool pool_may_send(const struct core *core, struct pool *pool) {
    if (pool->stopped != NULL || pool->blocked_until_us > core->now_us || room_at_once(core, pool) <= 0) {
        return false;
    }
    return core->io->permit == NULL || limiter_may_send(&pool->limiter, pool->n_inflight, core->now_us);
}

static struct amount cost_of(struct call *call) {
    const struct group *group = call->group;
    return estimate_of(&group->estimate, group->model, group->pool->limiter.config.profile, call_size(call));
}

// The retry budget: a repeat for each ten calls that are none, and one a second, so that the last ones go too.
bool permits_repeat(struct core *core, struct pool *pool) {
    pool->repeats += (double)(core->now_us - pool->repeats_us) / 1e6;
    pool->repeats = pool->repeats < REPEATS_MOST ? pool->repeats : REPEATS_MOST;
    pool->repeats_us = core->now_us;
    if (pool->repeats < 1) {
        core->status->retries_held++;
        return false;
    }
    pool->repeats--;
    return true;
}

void permits_spend(struct core *core, struct call *call) {
    struct breaker *breaker = &call->group->pool->breaker;
    call->group->pool->repeats += call->is_retry ? 0 : REPEATS_A_CALL;
    call->tries_out = breaker->state != BREAKER_CLOSED;
    breaker_sent(breaker, core->now_us);
    if (core->io->permit != NULL) {
        call->reserved = cost_of(call);
        limiter_spend(&call->group->pool->limiter, &call->reserved, core->now_us);
    }
}

// used_of says what a call was charged; what is not known stays as it was reserved.
static struct amount used_of(const struct call *call, const struct message_report *report, enum outcome outcome) {
    const struct group *group = call->group;
    const struct limit_profile *profile = group->pool->limiter.config.profile;
    if (!report->sent || outcome == OUTCOME_UNSENT) {
        return (struct amount){0};
    }
    if (report->http_status >= 400) {
        bool charged = report->http_status != 429 || profile->charges_refused;
        return (struct amount){.calls = charged};
    }
    if (report->usage_known) {
        return estimate_used(group->model, profile, (double)report->input_tokens,
                             (double)report->cached_tokens, (double)report->output_tokens);
    }
    return call->reserved;
}

// tell_breaker: after an outage the calls at once grow as they did at the start.
static void tell_breaker(struct core *core, struct call *call, const struct message_report *report,
                         enum outcome outcome) {
    struct pool *pool = call->group->pool;
    struct breaker *b = &pool->breaker;
    enum breaker_news news = breaker_news_of(outcome, report->sent, (int)report->http_status);
    bool failed = news >= BREAKER_FAILED;
    double draw = failed ? core->io->draw(core->io->arg) : 0;
    bool changed = breaker_heard(b, news, call->tries_out, draw, core->now_us);
    call->tries_out = call->tries_out && b->state == BREAKER_TRYING;
    if (changed && b->state == BREAKER_OPEN) {
        core->status->outages++;
        log_warn("pool.out", "pool=%s outcome=%s why=\"%.*s\"", pool->name, outcome_of(outcome)->text,
                 SLICE_FMT(report->detail));
    } else if (changed) {
        double seconds = (double)(core->now_us - b->opened_us) / 1e6;
        core->status->outage_seconds += seconds;
        pool->window = pool->window < WINDOW_FIRST ? pool->window : WINDOW_FIRST;
        pool->is_growing = true;
        log_info("pool.back", "pool=%s seconds=%.1f", pool->name, seconds);
    }
}

void permits_settle(struct core *core, struct call *call, const struct message_report *report,
                    enum outcome outcome) {
    struct group *group = call->group;
    struct pool *pool = group->pool;
    struct limits_seen seen;
    tell_breaker(core, call, report, outcome);
    if (call->reserved.calls > 0) {
        struct amount used = used_of(call, report, outcome);
        limiter_settle(&pool->limiter, &call->reserved, &used, call->sent_us, core->now_us);
        call->reserved = (struct amount){0};
    }
    if (report->usage_known && report->http_status == 200) {
        estimate_learn(&group->estimate, call_size(call), (double)report->input_tokens,
                       (double)report->output_tokens);
        pool->backoff_ms = POOL_BACKOFF_FIRST_MS; // the next back-off starts small again
        grow_window(pool);
    }
    if (report->http_status == 503 || report->http_status == 529) {
        shrink_window(pool, call->sent_us, core->now_us);
    }
    if (report->limits.n > 0 && limits_seen_unpack(report->limits, &seen) == 0) {
        limiter_heard(&pool->limiter, &seen, core->now_us);
    }
}

// ---- Redis ----------------------------------------------------------------------------------------------

// ready_of counts the calls that could go now, no more than the workers have room for.
static int64_t ready_of(const struct core *core, const struct pool *pool, struct amount *first) {
    struct call *call = flow_first(pool);
    *first = call != NULL ? cost_of(call) : pool->limiter.mean;
    first->calls = 1;
    return roster_room(core, pool, pool->n_ready + pool->n_due);
}

void permits_pump(struct core *core) {
    if (core->io->permit == NULL) {
        return;
    }
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        struct amount first;
        bool waits = pool->stopped != NULL || pool->blocked_until_us > core->now_us ||
                     breaker_room(&pool->breaker, core->now_us) <= 0;
        int64_t n = ready_of(core, pool, &first);
        const struct permit_request *request =
            limiter_request(&pool->limiter, waits ? 0 : n, pool->n_inflight, &first, core->now_us);
        if (request != NULL) {
            core->status->permit_syncs++;
            core->io->permit(core->io->arg, slice_of(pool->name), request);
        }
    }
}

void permits_reply(struct core *core, struct slice name, const struct permit_reply *reply) {
    struct pool *pool;
    HASH_FIND(hh, core->pools, name.p, name.n, pool);
    if (pool == NULL) {
        return;
    }
    limiter_reply(&pool->limiter, reply, core->now_us);
    core->status->permits_granted += reply != NULL ? (uint64_t)reply->n : 0;
    if (reply != NULL && core->now_us + reply->blocked_us > pool->blocked_until_us && reply->blocked_us > 0) {
        pool->blocked_until_us = core->now_us + reply->blocked_us;
    }
}

int64_t permits_next_us(const struct core *core) {
    int64_t next = INT64_MAX;
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        int64_t at = pool->blocked_until_us > core->now_us ? pool->blocked_until_us : INT64_MAX;
        int64_t out_until_us = pool->breaker.until_us;
        if (pool->breaker.state == BREAKER_OPEN && out_until_us > core->now_us) {
            at = out_until_us < at ? out_until_us : at;
        }
        if (core->io->permit != NULL && core->store_ready && !core->halted) { // else nothing is asked
            int64_t limiter = limiter_next_us(&pool->limiter, core->now_us);
            at = limiter < at ? limiter : at;
        }
        next = at < next ? at : next;
    }
    return next;
}

// ---- Waiting and stopping ---------------------------------------------------------------------------------

void pool_wait(struct core *core, struct pool *pool, int64_t sent_us, int64_t retry_after_ms, double draw) {
    int64_t wait_ms = retry_after_ms, now_us = core->now_us;
    if (wait_ms <= 0) {
        wait_ms = pool->backoff_ms;
        // Only the first of many refusals that come together doubles the back-off.
        if (pool->blocked_until_us <= now_us) {
            pool->backoff_ms = pool->backoff_ms * 2 < POOL_BACKOFF_MOST_MS ? pool->backoff_ms * 2
                                                                           : POOL_BACKOFF_MOST_MS;
        }
    }
    int64_t until_us = now_us + (int64_t)((double)wait_ms * (1 + 0.1 * draw) * 1000);
    if (until_us > pool->blocked_until_us) {
        pool->blocked_until_us = until_us;
    }
    if (until_us > pool->refused_until_us) {
        pool->refused_until_us = until_us;
    }
    limiter_refused(&pool->limiter, sent_us, pool->blocked_until_us, now_us);
}

void pool_stop(struct pool *pool, const char *outcome, struct slice detail) {
    pool->stopped = outcome;
    pool->is_keyless = pool->is_full = false;
    slice_copy(detail, pool->stopped_why.text, sizeof(pool->stopped_why.text));
}

void pool_resume(struct core *core, struct pool *pool) {
    pool->stopped = NULL;
    pool->is_keyless = pool->is_full = false;
    pool->id = ++core->n_pools; // no worker is known to lack the credential of this one
    pool->blocked_until_us = pool->refused_until_us;
    limiter_ask_anew(&pool->limiter);
}

// newest_of is the newest revision of a group's model; NULL: the group has it.
static const struct model *newest_of(const struct core *core, const struct group *group) {
    const struct model *model = core->io->model(core->io->arg, slice_of(group->model->name), 0);
    return model != NULL && model->revision != group->model->revision ? model : NULL;
}

// join_pool takes the limits of a row's pool anew: of all models that have records, as they are now.
static void join_pool(struct core *core, struct pool *pool) {
    struct limiter_config all = {0};
    for (const struct group *group = core->groups; group != NULL; group = group->hh.next) {
        const struct model *model = newest_of(core, group);
        struct limiter_config one;
        bool has_row;
        char *name = limits_of_model(core, model != NULL ? model : group->model, &one, &has_row);
        if (group->pool == pool && has_row && strcmp(name, pool->name) == 0) {
            if (all.profile != NULL) {
                join(&one, &all);
            }
            all = one;
        }
        free(name);
    }
    if (all.profile != NULL) {
        limiter_configure(&pool->limiter, &all);
    }
}

void permits_models_changed(struct core *core) {
    for (const struct group *group = core->groups; group != NULL; group = group->hh.next) {
        const struct model *model = newest_of(core, group);
        struct limiter_config config;
        bool has_row;
        char *name = model != NULL ? limits_of_model(core, model, &config, &has_row) : NULL;
        struct pool *pool = NULL;
        if (name != NULL) {
            HASH_FIND_STR(core->pools, name, pool);
        }
        if (pool != NULL && has_row) {
            join_pool(core, pool);
        } else if (pool != NULL) {
            limiter_configure(&pool->limiter, &config);
        }
        free(name);
    }
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        pool_resume(core, pool);
    }
}

int permits_resume(struct core *core, struct slice name, struct buf *out) {
    bool found = name.n == 0, first = true;
    int rc = buf_add_str(out, "{\"resumed\":[");
    for (struct pool *pool = core->pools; pool != NULL; pool = pool->hh.next) {
        if (name.n > 0 && !slice_is(name, pool->name)) {
            continue;
        }
        found = true;
        if (pool->stopped != NULL) {
            log_info("pool.resumed", "pool=%s outcome=%s", pool->name, pool->stopped);
            rc |= first ? 0 : buf_add_byte(out, ',');
            rc |= json_add_string(out, slice_of(pool->name));
            first = false;
        }
        pool_resume(core, pool);
    }
    rc |= buf_add_str(out, "]}");
    return !found ? -ENOENT : rc;
}
