// Arguments and reply of permit_sync.lua as text. Called by permit_store.c and tests.
#include "coordinator/permit.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// add_arg ends one argument; its place in text is known only when text does not grow any more.
struct args {
    struct buf *text;
    size_t n, ends[PERMIT_ARGS_MAX];
};

static void end_arg(struct args *a, int rc) {
    (void)rc; // text has no ceiling that these reach
    a->ends[a->n++] = a->text->n;
}

static void add_integer(struct args *a, int64_t number) {
    end_arg(a, buf_addf(a->text, "%" PRId64, number));
}

static void add_number(struct args *a, double number) {
    end_arg(a, buf_addf(a->text, "%.6f", number));
}

static void add_mode(struct args *a, const struct permit_request *r, enum limit_kind kind) {
    bool is_day = kind == LIMIT_REQUESTS_DAY || kind == LIMIT_TOKENS_DAY;
    if (is_day && r->day_offset_min >= 0) {
        end_arg(a, buf_addf(a->text, "d%d", r->day_offset_min));
    } else {
        end_arg(a, buf_add_str(a->text, is_day ? "e" : r->is_bucket ? "b" : "w"));
    }
}

size_t permit_args(const struct permit_request *r, struct buf *text, struct slice *args) {
    struct args a = {.text = text};
    size_t start = text->n;
    add_integer(&a, (int64_t)r->number);
    add_integer(&a, r->n_want);
    add_integer(&a, r->span_us);
    add_integer(&a, r->ahead_us);
    add_integer(&a, r->calls_limit);
    add_integer(&a, r->calls_want);
    add_integer(&a, r->calls_held);
    add_integer(&a, r->calls_ms);
    add_integer(&a, r->elapsed_us);
    add_integer(&a, r->block_us);
    add_integer(&a, r->cut);
    add_integer(&a, N_LIMIT_KINDS);
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        const struct permit_kind *k = &r->of[kind];
        end_arg(&a, buf_add_str(text, limit_kind_name((enum limit_kind)kind)));
        add_integer(&a, k->limit);
        add_integer(&a, k->said);
        add_mode(&a, r, (enum limit_kind)kind);
        add_number(&a, k->share);
        add_number(&a, k->back);
        add_number(&a, k->owed);
        add_number(&a, k->largest);
        add_number(&a, k->want);
    }
    for (size_t i = 0; i < a.n; i++) {
        size_t from = i > 0 ? a.ends[i - 1] : start;
        args[i] = (struct slice){.p = text->p + from, .n = a.ends[i] - from};
    }
    return a.n;
}

#define MOST_INTEGER INT64_C(1000000000000000) // of a limit, or microseconds: 30 years

static bool read_integer(const char **at, int64_t least, int64_t *out) {
    char *end;
    *out = strtoll(*at, &end, 10);
    bool ok = end != *at && *out >= least && *out <= MOST_INTEGER;
    *at = end;
    return ok;
}

static bool read_number(const char **at, double *out) {
    char *end;
    *out = strtod(*at, &end);
    bool ok = end != *at && isfinite(*out);
    *at = end;
    return ok;
}

static int read_kind(const char **at) {
    *at += strspn(*at, " ");
    size_t n = strcspn(*at, " ");
    for (int kind = 0; kind < N_LIMIT_KINDS; kind++) {
        if (slice_is((struct slice){.p = *at, .n = n}, limit_kind_name((enum limit_kind)kind))) {
            *at += n;
            return kind;
        }
    }
    return -1;
}

bool permit_reply_parse(struct slice reply, struct permit_reply *out) {
    char text[1024];
    slice_copy(reply, text, sizeof(text));
    const char *at = text;
    int64_t n_kinds = 0;
    memset(out, 0, sizeof(*out));
    bool ok = reply.n < sizeof(text) && strlen(text) == reply.n && read_integer(&at, 0, &out->n) &&
              read_integer(&at, -MOST_INTEGER, &out->delay_us) && read_integer(&at, 0, &out->duration_us) &&
              read_integer(&at, 0, &out->calls) && read_integer(&at, 0, &out->blocked_us) &&
              read_number(&at, &out->scale) && read_integer(&at, 0, &n_kinds) && n_kinds <= N_LIMIT_KINDS;
    for (int64_t i = 0; ok && i < n_kinds; i++) {
        int kind = read_kind(&at);
        ok = kind >= 0 && read_integer(&at, 0, &out->of[kind].limit) &&
             read_number(&at, &out->of[kind].level) && read_number(&at, &out->of[kind].granted) &&
             read_number(&at, &out->of[kind].spent);
    }
    return ok && *at == '\0';
}
