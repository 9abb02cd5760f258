// permit_sync.lua in C, line by line, with Lua's arithmetic. Called by permits.c and permit_sync_test.c.
#include "tests/sim/permit_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE 60e6
#define DAY 86400e6
#define JITTER 200e3
#define HUNGRY 6e6
#define UNSURE 0.002
#define MOST_GAP 5e6
#define IDLE 2e6
#define REMEMBERED 600e6

// Lua's: the first of equals.
static double most(double a, double b) {
    return b > a ? b : a;
}

static double least(double a, double b) {
    return b < a ? b : a;
}

// sent is a number as it arrives: with six digits after the point.
static double sent(double number) {
    char text[400];
    snprintf(text, sizeof(text), "%.6f", number);
    return strtod(text, NULL);
}

static void keep(struct permit_field *field, double value) {
    *field = (struct permit_field){.is_set = true, .value = value};
}

static double get(const struct permit_field *field, double otherwise) {
    return field->is_set ? field->value : otherwise;
}

static struct permit_lease *lease_of(struct permit_model *m, const char *holder) {
    for (size_t i = 0; i < m->n_leases; i++) {
        if (strcmp(m->leases[i].holder, holder) == 0) {
            return &m->leases[i];
        }
    }
    return NULL;
}

static void write_reply(const struct permit_lease *lease, double delay, char reply[PERMIT_REPLY_MAX]) {
    int n = snprintf(reply, PERMIT_REPLY_MAX, "%s %.0f ", lease->granted, delay);
    snprintf(reply + n, PERMIT_REPLY_MAX - (size_t)n, "%s", lease->rest);
}

// One kind of limit while a request is carried out.
struct kind {
    int kind;
    double limit, back, owed, largest, want, level, burst, rate, day_end;
    bool is_day;
};

struct sync {
    struct permit_model *m;
    const struct permit_request *r;
    double now, my_at, gap, moved, blocked, scale, n_hungry, n_calls, hungry;
    bool leapt;
    struct kind kinds[N_LIMIT_KINDS];
    size_t n_kinds;
};

static void pass_time(struct sync *s, const struct permit_lease *mine) {
    struct permit_model *m = s->m;
    double at = get(&m->at, s->now), my_at = mine != NULL ? mine->at : get(&m->at, s->now);
    double longest = most(0, (double)s->r->elapsed_us - (at - my_at));
    s->gap = s->now - at;
    s->leapt = s->gap < -1000000;
    if (s->leapt) {
        s->moved = s->gap;
    } else if (s->r->elapsed_us < 0) {
        s->gap = least(s->gap, MOST_GAP);
    } else if (s->gap > longest + 1000000) {
        s->moved = s->gap - longest;
        s->gap = longest;
    } else {
        s->gap = least(s->gap, longest + JITTER);
    }
    s->gap = most(0, s->gap);
    s->my_at = (mine != NULL ? mine->at : s->now) + s->moved;
    m->blocked.value += s->moved;
    m->scale_at.value += s->moved;
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        m->share_at[kind].value += s->moved;
        m->full[kind].value += s->moved;
    }
    keep(&m->at, s->leapt ? s->now : most(s->now, get(&m->at, s->now)));
}

static void count_others(struct sync *s, const char *holder) {
    struct permit_model *m = s->m;
    const struct permit_lease *mine = lease_of(m, holder);
    s->hungry = mine != NULL ? mine->hungry + s->moved : 0;
    s->n_hungry = 1;
    for (size_t i = 0; i < m->n_leases;) {
        struct permit_lease *l = &m->leases[i];
        if (strcmp(l->holder, holder) != 0) {
            l->at += s->moved;
            l->hungry += s->moved;
            l->calls_until += s->moved;
            if (l->at + REMEMBERED < s->now && l->hungry < s->now && l->calls_until < s->now) {
                *l = m->leases[--m->n_leases];
                continue;
            }
            s->n_hungry += l->hungry >= s->now ? 1 : 0;
            s->n_calls += l->calls_until >= s->now ? l->calls : 0;
        }
        i++;
    }
}

static void read_pool(struct sync *s) {
    struct permit_model *m = s->m;
    s->blocked = most(get(&m->blocked, 0), s->r->block_us > 0 ? s->now + (double)s->r->block_us : 0);
    keep(&m->blocked, s->blocked);
    s->scale = get(&m->scale, 1);
    double scale_at = get(&m->scale_at, s->now), steps = most(0, floor((s->now - scale_at) / 5000000));
    bool cuts = s->r->cut && (s->now - scale_at >= 1000000 || !m->scale.is_set);
    s->scale = least(1, s->scale + 0.01 * steps);
    if (cuts) {
        s->scale = most(0.1, s->scale * 0.7);
        keep(&m->scale, s->scale);
        keep(&m->scale_at, s->now);
    }
}

static void level_of_day(struct sync *s, struct kind *k) {
    struct permit_model *m = s->m;
    double offset = s->r->day_offset_min * MINUTE, day = floor((s->now - offset) / DAY);
    bool is_same = m->level[k->kind].is_set && m->day[k->kind].is_set && m->day[k->kind].value == day;
    double used = is_same ? m->of[k->kind].value - m->level[k->kind].value : 0;
    k->is_day = true;
    k->day_end = (day + 1) * DAY + offset;
    k->level = least(k->limit, k->limit - used + k->back - k->owed);
    keep(&m->day[k->kind], day);
    keep(&m->of[k->kind], k->limit);
}

static void level_of_rate(struct sync *s, struct kind *k, bool refills_daily, double share) {
    if (refills_daily) {
        k->rate = k->limit / DAY;
    } else if (s->r->is_bucket) {
        k->rate = k->limit / MINUTE;
    } else {
        double odd = k->largest > 1 ? k->largest + least(k->largest, UNSURE * k->limit) : 0;
        k->rate = most(0.1 * k->limit, k->limit - k->burst - odd) / (MINUTE + JITTER);
    }
    k->rate = k->rate * s->scale * most(0.01, share);
    bool is_idle = s->gap > IDLE && !refills_daily;
    double most_held = is_idle ? least(k->burst, most(1, k->largest)) : k->burst;
    struct permit_field *full = &s->m->full[k->kind];
    k->level = least(s->leapt ? 0 : most_held, get(&s->m->level[k->kind], 0) + s->gap * k->rate);
    if (k->level >= most_held) {
        keep(full, s->now);
    }
    k->level = least(k->burst, k->level + (full->is_set && full->value >= s->my_at ? 0 : k->back)) - k->owed;
    if (s->r->cut) {
        k->level = least(k->level, 0);
    }
}

static void read_kind(struct sync *s, int kind) {
    struct permit_model *m = s->m;
    const struct permit_kind *from = &s->r->of[kind];
    struct kind k = {.kind = kind, .limit = (double)from->limit, .back = sent(from->back),
                     .owed = sent(from->owed), .largest = sent(from->largest), .want = sent(from->want)};
    double said = (double)from->said, share = sent(from->share);
    if (said > 0) {
        keep(&m->limit[kind], said);
    }
    said = get(&m->limit[kind], 0);
    k.limit = said > 0 && (k.limit == 0 || said < k.limit) ? said : k.limit;
    if (share >= 0) {
        keep(&m->share[kind], share);
        keep(&m->share_at[kind], s->now);
    } else {
        double since = most(0, s->now - get(&m->share_at[kind], s->now));
        share = least(1, get(&m->share[kind], 1) + 0.1 * most(0, since - 2000000) / 1000000);
    }
    if (k.limit <= 0) {
        return;
    }
    k.burst = least(least(most(1, 0.005 * k.limit), most(0, k.limit - k.largest)), 0.5 * k.limit);
    bool is_daily = kind == LIMIT_REQUESTS_DAY || kind == LIMIT_TOKENS_DAY;
    if (is_daily && s->r->day_offset_min >= 0) {
        level_of_day(s, &k);
    } else {
        level_of_rate(s, &k, is_daily, share);
    }
    s->kinds[s->n_kinds++] = k;
}

static double grant(struct sync *s, double *delay) {
    double n_want = (double)s->r->n_want, n = n_want, span = (double)s->r->span_us / s->n_hungry;
    for (size_t i = 0; i < s->n_kinds; i++) {
        const struct kind *k = &s->kinds[i];
        if (!k->is_day) {
            *delay = most(*delay, -k->level / k->rate);
            n = k->want > 0 ? least(n, n_want * (span * k->rate + most(k->level, 0)) / k->want) : n;
        } else if (k->level < k->largest && n > 0) {
            n = 0;
            s->blocked = most(s->blocked, k->day_end);
        } else if (k->want > k->level) {
            n = least(n, most(1, floor(n * k->level / k->want)));
        }
    }
    n = n > 0 ? most(1, floor(n)) : 0;
    return s->blocked > s->now || *delay > (double)s->r->ahead_us ? 0 : n;
}

static double calls_at_once(const struct sync *s) {
    double calls = (double)s->r->calls_want, limit = (double)s->r->calls_limit;
    if (limit > 0) {
        calls = most(0, least(least(calls, ceil(limit / s->n_hungry)), limit - s->n_calls));
    }
    return calls;
}

int permit_model_sync(struct permit_model *m, int64_t now_us, const char *holder,
                      const struct permit_request *r, char reply[PERMIT_REPLY_MAX]) {
    struct sync s = {.m = m, .r = r, .now = (double)now_us};
    struct permit_lease *mine = lease_of(m, holder);
    if (mine != NULL && (double)r->number == mine->number) {
        write_reply(mine, mine->delay - most(0, s.now - mine->at), reply);
        return 0;
    }
    if (mine != NULL && (double)r->number < mine->number) {
        return -ESTALE;
    }
    pass_time(&s, mine);
    count_others(&s, holder);
    read_pool(&s);
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        read_kind(&s, kind);
    }
    mine = lease_of(m, holder);
    if (mine == NULL && m->n_leases == PERMIT_LEASES_MAX) {
        return -ENOSPC;
    }
    mine = mine != NULL ? mine : &m->leases[m->n_leases++];
    double delay = 0, n = grant(&s, &delay), duration = 0;
    char rows[PERMIT_REPLY_MAX / 2] = "";
    int n_rows = 0;
    for (size_t i = 0; i < s.n_kinds; i++) {
        struct kind *k = &s.kinds[i];
        double granted = n > 0 ? k->want * n / (double)r->n_want : 0;
        duration = k->is_day ? duration : most(duration, (granted - most(k->level, 0)) / k->rate);
        k->level -= granted;
        keep(&m->level[k->kind], k->level);
        double spent = get(&m->spent[k->kind], 0) + granted - k->back + k->owed;
        keep(&m->spent[k->kind], spent);
        n_rows += snprintf(rows + n_rows, sizeof(rows) - (size_t)n_rows, " %s %.0f %.3f %.3f %.3f",
                           limit_kind_name((enum limit_kind)k->kind), k->limit, k->level, granted, spent);
    }
    double calls = calls_at_once(&s);
    snprintf(mine->holder, sizeof(mine->holder), "%s", holder);
    snprintf(mine->granted, sizeof(mine->granted), "%.0f", n);
    snprintf(mine->rest, sizeof(mine->rest), "%.0f %.0f %.0f %.4f %zu%s", duration, calls,
             most(0, s.blocked - s.now), s.scale, s.n_kinds, rows);
    mine->number = (double)r->number;
    mine->at = s.now;
    mine->delay = delay;
    bool wants = r->n_want > 0 || calls < (double)r->calls_want;
    mine->hungry = wants ? s.now + HUNGRY : s.hungry;
    mine->calls = r->calls_limit > 0 ? most(calls, (double)r->calls_held) : 0;
    mine->calls_until = s.now + (double)r->calls_ms * 1000;
    write_reply(mine, delay, reply);
    return 0;
}
