// What calls have cost. Invariant: a sum here is the sum of what Redis holds in all partitions and of what
// is in their writes under way. Called by collect (a call has ended), partition (flush), core (recovery)
// and by budget, which compares sums with limits.
#include "coordinator/spend.h"
#include "common/json.h"
#include "common/mem.h"
#include "coordinator/partition.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const names[] = {
#define SPEND(what, name, text) [SPEND_##what] = name,
#include "coordinator/spend.def"
#undef SPEND
};

// What a partition's next write adds to one sum.
struct spend_pending {
    struct spend *spend;
    struct spend_amounts amounts;
};

// ---- Scopes -------------------------------------------------------------------------------------------

static void day_text(int64_t day, char text[11]) {
    time_t seconds = (time_t)(day * 86400);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(text, 11, "%Y-%m-%d", &tm);
}

const char *spend_day_scope(int64_t day, const char *model, char text[SPEND_SCOPE_MAX]) {
    char date[11];
    day_text(day, date);
    snprintf(text, SPEND_SCOPE_MAX, "%s/%s", date, model);
    return text;
}

const char *spend_budget_scope(const char *name, char text[SPEND_SCOPE_MAX]) {
    snprintf(text, SPEND_SCOPE_MAX, "budget/%s", name);
    return text;
}

int64_t spend_today(const struct core *core) {
    return core->io->day != NULL ? core->io->day(core->io->arg) : 0;
}

struct spend *spend_get(struct core *core, const char *scope) {
    struct spend *spend;
    HASH_FIND_STR(core->spends, scope, spend);
    if (spend == NULL) {
        spend = mem_zalloc(sizeof(*spend));
        spend->scope = mem_dup_str(scope);
        HASH_ADD_KEYPTR(hh, core->spends, spend->scope, strlen(spend->scope), spend);
    }
    return spend;
}

// ---- Adding -------------------------------------------------------------------------------------------

static struct spend_pending *pending_of(struct partition *p, struct spend *spend) {
    for (size_t i = 0; i < p->n_spend; i++) {
        if (p->spend[i].spend == spend) {
            return &p->spend[i];
        }
    }
    if (p->n_spend == p->cap_spend) {
        p->cap_spend = p->cap_spend > 0 ? p->cap_spend * 2 : 4;
        p->spend = mem_realloc(p->spend, p->cap_spend * sizeof(*p->spend));
    }
    struct spend_pending *pending = &p->spend[p->n_spend++];
    *pending = (struct spend_pending){.spend = spend};
    return pending;
}

void spend_add(struct partition *p, struct spend *spend, const struct spend_amounts *amounts) {
    struct spend_pending *pending = pending_of(p, spend);
    for (size_t i = 0; i < SPEND_COUNT; i++) {
        pending->amounts.n[i] += amounts->n[i];
        spend->n[i] += amounts->n[i];
    }
    partition_txn(p); // there is something to write
}

void spend_flush(struct partition *p) {
    char field[SPEND_SCOPE_MAX + 16];
    for (size_t i = 0; i < p->n_spend; i++) {
        const struct spend_pending *pending = &p->spend[i];
        for (size_t what = 0; what < SPEND_COUNT; what++) {
            if (pending->amounts.n[what] != 0) {
                snprintf(field, sizeof(field), "%s/%s", pending->spend->scope, names[what]);
                txn_use(partition_txn(p), slice_of(field), pending->amounts.n[what]);
            }
        }
    }
    p->n_spend = 0;
}

void spend_recovered(struct core *core, struct slice field, int64_t value) {
    size_t n = field.n;
    while (n > 0 && field.p[n - 1] != '/') {
        n--;
    }
    struct slice what = slice_sub(field, n, field.n);
    char scope[SPEND_SCOPE_MAX];
    if (n == 0 || !slice_copy(slice_sub(field, 0, n - 1), scope, sizeof(scope))) {
        return; // of a later version
    }
    for (size_t i = 0; i < SPEND_COUNT; i++) {
        if (slice_is(what, names[i])) {
            spend_get(core, scope)->n[i] += value;
        }
    }
}

void spend_forget(struct partition *p) {
    free(p->spend);
    p->spend = NULL;
    p->n_spend = p->cap_spend = 0;
}

void spend_free(struct core *core) {
    struct spend *spend, *next;
    HASH_ITER(hh, core->spends, spend, next) {
        HASH_DEL(core->spends, spend);
        free(spend->scope);
        free(spend);
    }
}

// ---- What people see ------------------------------------------------------------------------------------

// is_day says whether a scope is a day's, and cuts it into date and model.
static bool is_day(const struct spend *spend, struct slice *day, const char **model) {
    const char *slash = strchr(spend->scope, '/');
    if (slash == NULL || slash - spend->scope != 10) {
        return false;
    }
    *day = (struct slice){.p = spend->scope, .n = 10};
    *model = slash + 1;
    return spend->scope[4] == '-';
}

// by_day: the newest day first, then by model.
static int by_day(const void *a, const void *b) {
    const struct spend *x = *(const struct spend *const *)a, *y = *(const struct spend *const *)b;
    int order = strncmp(y->scope, x->scope, 10);
    return order != 0 ? order : strcmp(x->scope, y->scope);
}

// days_of lists the days' sums in order; free it.
static const struct spend **days_of(const struct core *core, size_t *n) {
    const struct spend **list = mem_alloc((HASH_COUNT(core->spends) + 1) * sizeof(const struct spend *));
    struct slice day;
    const char *model;
    *n = 0;
    for (const struct spend *s = core->spends; s != NULL; s = s->hh.next) {
        if (is_day(s, &day, &model)) {
            list[(*n)++] = s;
        }
    }
    qsort(list, *n, sizeof(*list), by_day);
    return list;
}

int spend_json(const struct core *core, struct buf *out) {
    size_t n;
    const struct spend **list = days_of(core, &n);
    int rc = buf_add_byte(out, '[');
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct slice day = SLICE_NONE;
        const char *model = "";
        (void)is_day(list[i], &day, &model);
        const int64_t *v = list[i]->n;
        rc = buf_addf(out, "%s{\"day\":\"%.*s\",\"model\":", i > 0 ? "," : "", SLICE_FMT(day));
        rc = rc != 0 ? rc : json_add_string(out, slice_of(model));
        rc = rc != 0 ? rc
                     : buf_addf(out,
                                ",\"calls\":%" PRId64 ",\"input_tokens\":%" PRId64
                                ",\"cached_tokens\":%" PRId64 ",\"cache_write_tokens\":%" PRId64
                                ",\"output_tokens\":%" PRId64
                                ",\"cost\":%.9f,\"calls_unpriced\":%" PRId64 ",\"cost_maybe\":%.9f}",
                                v[SPEND_CALLS], v[SPEND_INPUT], v[SPEND_CACHED], v[SPEND_WRITE],
                                v[SPEND_OUTPUT],
                                (double)v[SPEND_USD] / SPEND_NANO, v[SPEND_UNKNOWN],
                                (double)v[SPEND_MAYBE] / SPEND_NANO);
    }
    free(list);
    return rc != 0 ? rc : buf_add_byte(out, ']');
}

// add_label writes a label's value as Prometheus wants it.
static int add_label(struct buf *out, const char *text) {
    int rc = buf_add_byte(out, '"');
    for (; rc == 0 && *text != '\0'; text++) {
        rc = *text == '\\' || *text == '"' ? buf_add_byte(out, '\\') : 0;
        rc = rc != 0 ? rc : buf_add_byte(out, *text);
    }
    return rc != 0 ? rc : buf_add_byte(out, '"');
}

// add_family writes one metric for each of the days listed.
static int add_family(const struct spend *const *list, size_t n, const char *name, const char *help,
                      enum spend_what what, double scale, struct buf *out) {
    int rc = buf_addf(out, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct slice day = SLICE_NONE;
        const char *model = "";
        (void)is_day(list[i], &day, &model);
        rc = buf_addf(out, "%s{day=\"%.*s\",model=", name, SLICE_FMT(day));
        rc = rc != 0 ? rc : add_label(out, model);
        rc = rc != 0 ? rc : buf_addf(out, "} %.12g\n", (double)list[i]->n[what] / scale);
    }
    return rc;
}

int spend_metrics(const struct core *core, struct buf *out) {
    char since[11];
    day_text(spend_today(core) - 1, since);
    size_t n_all, n = 0;
    const struct spend **list = days_of(core, &n_all);
    while (n < n_all && strncmp(list[n]->scope, since, 10) >= 0) {
        n++;
    }
    const struct spend *const *days = list;
    int rc = add_family(days, n, "headrace_spend_usd_total",
                        "USD of a model on a UTC day, at the prices known; over restarts", SPEND_USD,
                        SPEND_NANO, out);
    rc = rc != 0 ? rc
                 : add_family(days, n, "headrace_spend_maybe_usd_total",
                              "USD that calls of unknown cost may have cost, as was reserved for them",
                              SPEND_MAYBE, SPEND_NANO, out);
    rc = rc != 0 ? rc
                 : add_family(days, n, "headrace_spend_calls_total",
                              "calls of a model on a UTC day that were answered, or may have been billed",
                              SPEND_CALLS, 1, out);
    rc = rc != 0 ? rc
                 : add_family(days, n, "headrace_spend_input_tokens_total",
                              "input tokens of a model on a UTC day", SPEND_INPUT, 1, out);
    rc = rc != 0 ? rc
                 : add_family(days, n, "headrace_spend_output_tokens_total",
                              "output tokens of a model on a UTC day", SPEND_OUTPUT, 1, out);
    free(list);
    return rc;
}
