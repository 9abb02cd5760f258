// The provider: answers what it is asked, bills it, and misbehaves in every way that outcome.def has a row
// for. Answers are text, read by the worker's own worker/parse.c. Called by workers.
#include "tests/sim/sim.h"
#include "worker/parse.h"

#include <assert.h>

// What becomes of one call.
enum kind {
    GOOD,
    // the answer's text is not as it should be
    MISSING_SOME, SHUFFLED, DOUBLED, SHIFTED, OUT_OF_RANGE, BAD_VALUES, CUT_OFF, GARBAGE, NOTHING, PROSE,
    // there is no answer
    HANG, HANG_FREE, CUT_BILLED, SERVER_ERROR, RATE_LIMIT, NO_ROUTE, TOO_BIG, FILTER, REFUSE, NO_AUTH,
    NO_QUOTA, BAD_OPTIONS, NO_MODEL,
    N_KINDS,
};

static struct ask *ask_of(struct sim *sim, const struct work *k) {
    assert(k->ask >= 0 && (size_t)k->ask < sim->n_asks);
    return &sim->asks[k->ask];
}

static bool has_poison(const struct sim *sim, const struct work *k) {
    for (size_t i = 0; i < k->count; i++) {
        const struct record *r = k->records[i] >= 0 ? &sim->records[k->records[i]] : NULL;
        if (r != NULL && r->poison && r->model == k->model) {
            return sim->now_us < sim->heals_us;
        }
    }
    return false;
}

static uint64_t choose(struct sim *sim, const struct work *k) {
    if (has_poison(sim, k)) {
        return FILTER;
    }
    if (!sim_faulty(sim) || !sim_chance(sim, (uint64_t)sim->fault_permille)) {
        return sim_chance(sim, 300) ? SHUFFLED : GOOD;
    }
    uint64_t kind = 1 + sim_below(sim, N_KINDS - 1);
    bool stops = kind == NO_AUTH || kind == NO_QUOTA || kind == BAD_OPTIONS || kind == NO_MODEL;
    return stops && !sim_chance(sim, 200) ? (uint64_t)CUT_BILLED : kind;
}

bool provider_has_text(uint64_t kind) {
    return kind <= PROSE;
}

int64_t provider_ask(struct sim *sim, struct work *k, uint64_t *kind) {
    struct ask *a = ask_of(sim, k);
    *kind = choose(sim, k);
    a->started = *kind != NO_ROUTE;
    a->billed = *kind <= PROSE || *kind == HANG || *kind == CUT_BILLED;
    a->tokens = a->billed ? (uint64_t)sim_between(sim, 1, 100) : 0;
    sim->n_calls += a->started;
    int64_t late = sim_chance(sim, 50) ? sim->request_timeout_ms * 900 : 0;
    int64_t latency_us = sim_between(sim, 1000, 200000) + (sim_faulty(sim) ? late : 0);
    return *kind == HANG || *kind == HANG_FREE ? sim->request_timeout_ms * 1000 : latency_us;
}

// ---- Answers with text ------------------------------------------------------------------------------

static void add_item(struct buf *text, int64_t index, int record, const struct sim *sim, const char *prefix) {
    int rc = 0;
    if (record >= 0) {
        const struct record *r = &sim->records[record];
        rc = buf_addf(text, "%s{\"index\": %d, \"sentiment\": \"%sp%d-%d\"}", text->n > 1 ? ", " : "",
                      (int)index, prefix, r->producer, (int)r->seq);
    }
    (void)rc; // a short text
}

static void write_text(struct sim *sim, const struct work *k, uint64_t kind, struct buf *text) {
    size_t n = k->count;
    size_t order[ASKED_MAX];
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (size_t i = n; i > 1 && (kind == SHUFFLED || kind == MISSING_SOME); i--) {
        size_t j = sim_below(sim, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
    int64_t shift = kind == SHIFTED ? (sim_chance(sim, 500) ? -1 : sim_between(sim, 1, 5)) : 0;
    int rc = buf_add_str(text, "[");
    for (size_t i = 0; i < n; i++) {
        size_t at = order[i];
        if ((kind == MISSING_SOME || kind == CUT_OFF) && sim_chance(sim, 300)) {
            continue;
        }
        if (kind == BAD_VALUES && sim_chance(sim, 500)) {
            rc |= buf_addf(text, "%s{\"index\": %zu, \"feeling\": 1}", text->n > 1 ? ", " : "", at + 1);
            continue;
        }
        add_item(text, (int64_t)at + 1 + shift, k->records[at], sim, "=");
        if (kind == DOUBLED && sim_chance(sim, 500)) {
            add_item(text, (int64_t)at + 1, k->records[at], sim, sim_chance(sim, 500) ? "=" : "not ");
        }
        if (kind == OUT_OF_RANGE && sim_chance(sim, 300)) {
            add_item(text, (int64_t)n + 1000, k->records[at], sim, "not ");
        }
    }
    rc |= buf_add_str(text, kind == CUT_OFF ? "" : "]");
    if (kind == PROSE) {
        rc |= buf_add_str(text, "\nI hope that this helps. ```");
    }
    (void)rc;
}

static void answer_text(struct sim *sim, const struct work *k, uint64_t kind, struct answered *out) {
    struct buf text;
    buf_init(&text, 1 << 20);
    if (kind == GARBAGE) {
        (void)!buf_add_str(&text, "As a language model I would rather not.");
    } else if (kind != NOTHING) {
        write_text(sim, k, kind, &text);
    }
    struct question question = {.model = sim->models.items[k->model].model,
                                .batched = true,
                                .cut = kind == CUT_OFF,
                                .slots = k->slots,
                                .count = k->count};
    struct parsed parsed = {0};
    buf_init(&parsed.items, 1 << 20);
    parse_answer(sim->parser, &question, buf_slice(&text), &parsed);
    out->outcome = parsed.outcome;
    out->status = 200;
    out->sent = out->usage_known = true;
    (void)!buf_add_slice(out->items, buf_slice(&parsed.items));
    buf_free(&parsed.items);
    buf_free(&text);
}

void provider_answer(struct sim *sim, struct work *k, uint64_t kind, struct answered *out) {
    static const struct {
        enum outcome outcome;
        int status;
        bool sent;
    } rows[N_KINDS] = {
        [HANG] = {OUTCOME_TIMED_OUT, 0, true},       [HANG_FREE] = {OUTCOME_TIMED_OUT, 0, true},
        [CUT_BILLED] = {OUTCOME_BROKEN, 0, true},    [SERVER_ERROR] = {OUTCOME_TRANSIENT, 500, true},
        [RATE_LIMIT] = {OUTCOME_RATE_LIMITED, 429, true},
        [NO_ROUTE] = {OUTCOME_UNREACHABLE, 0, false}, [TOO_BIG] = {OUTCOME_TOO_LARGE, 400, true},
        [FILTER] = {OUTCOME_FILTERED, 400, true},    [REFUSE] = {OUTCOME_BAD_REQUEST, 400, true},
        [NO_AUTH] = {OUTCOME_AUTH, 401, true},       [NO_QUOTA] = {OUTCOME_QUOTA, 429, true},
        [BAD_OPTIONS] = {OUTCOME_BAD_CONFIG, 400, true}, [NO_MODEL] = {OUTCOME_NO_SUCH_MODEL, 404, true},
    };
    struct ask *a = ask_of(sim, k);
    if (kind <= PROSE) {
        answer_text(sim, k, kind, out);
        out->tokens = a->tokens;
        return;
    }
    out->outcome = rows[kind].outcome;
    out->status = rows[kind].status;
    out->sent = rows[kind].sent;
    if (kind == RATE_LIMIT && sim_chance(sim, 500)) {
        out->retry_after_ms = (uint64_t)sim_between(sim, 1, 3000);
    }
}
