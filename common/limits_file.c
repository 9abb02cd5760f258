// Limits of shared accounts. Invariant: rows that name one pool have the same limits and profile, so that
// it does not matter through which of them a model finds it. Called by the coordinator's permits and by
// the client's dry run.
#include "common/limits_file.h"

#include "common/limit_profile.h"
#include "common/mem.h"
#include "common/model.h"
#include "common/options.h"
#include "common/sheet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1024 * 1024)
#define ROWS_MAX 10000
#define POOL_MAX 64
#define PROVIDER_MAX 64
#define ACCOUNT_MAX 256
#define MODEL_MAX 256
#define CALLS_MAX 1000000000
#define TOKENS_MAX 1000000000000
#define AT_ONCE_MAX 100000

struct limits_file {
    struct limits_row *rows; // their texts are ours
    size_t n;
};

// ---- Reading a file -----------------------------------------------------------------------------

enum cell_type { CELL_POOL, CELL_PROVIDER, CELL_ACCOUNT, CELL_MODEL, CELL_NUMBER, CELL_PROFILE };
struct limits_column {
    const char *name;
    enum cell_type type;
    int64_t most;     // of a number; of a text, bytes
    size_t offset;    // in struct limits_row
    const char *want; // of a text
};

static const struct limits_column columns[] = {
#define COLUMN(field, type_, most_, want_)                                                         \
    {.name = #field, .type = type_, .most = most_, .offset = offsetof(struct limits_row, field), .want = want_}
    COLUMN(pool, CELL_POOL, POOL_MAX, "1 to 64 of a-z A-Z 0-9 . _ -"),
    COLUMN(provider, CELL_PROVIDER, PROVIDER_MAX, "a provider's name or *"),
    COLUMN(account, CELL_ACCOUNT, ACCOUNT_MAX, "the NAME of the credential ${NAME}, or *"),
    COLUMN(model, CELL_MODEL, MODEL_MAX, "a model's name, with * at most at its end"),
    COLUMN(rpm, CELL_NUMBER, CALLS_MAX, NULL),
    COLUMN(tpm, CELL_NUMBER, TOKENS_MAX, NULL),
    COLUMN(itpm, CELL_NUMBER, TOKENS_MAX, NULL),
    COLUMN(otpm, CELL_NUMBER, TOKENS_MAX, NULL),
    COLUMN(rpd, CELL_NUMBER, CALLS_MAX, NULL),
    COLUMN(tpd, CELL_NUMBER, TOKENS_MAX, NULL),
    COLUMN(concurrency, CELL_NUMBER, AT_ONCE_MAX, NULL),
    COLUMN(profile, CELL_PROFILE, 0, NULL),
#undef COLUMN
};

static const struct sheet_kind kind = {
    .columns = {"pool", "provider", "account", "model", "rpm", "tpm", "itpm", "otpm", "rpd", "tpd",
                "concurrency", "profile"},
    .n_columns = sizeof(columns) / sizeof(columns[0]),
    .n_needed = 4,
    .needed = "pool, provider, account and model",
    .rows = "pool",
    .most_bytes = FILE_MAX,
};

struct reading {
    struct limits_file *limits;
    struct limits_row row; // being read
};

// is_word says whether all of s are letters, digits or one of more.
static bool is_word(struct slice s, const char *more) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && (c == '\0' || strchr(more, c) == NULL)) {
            return false;
        }
    }
    return true;
}

static bool is_pattern(struct slice s, bool may_begin) {
    if (memchr(s.p, '"', s.n) != NULL || memchr(s.p, '\0', s.n) != NULL || slice_utf8_error(s) >= 0) {
        return false;
    }
    const char *star = memchr(s.p, '*', s.n);
    return star == NULL || s.n == 1 || (may_begin && star == s.p + s.n - 1);
}

static bool is_text(const struct limits_column *column, struct slice s) {
    if (s.n == 0 || s.n > (size_t)column->most) {
        return false;
    }
    switch (column->type) {
    case CELL_POOL:
        return is_word(s, "._-");
    case CELL_ACCOUNT:
        return slice_is(s, "*") || is_word(s, "_");
    case CELL_PROVIDER:
        return is_pattern(s, false);
    default:
        return is_pattern(s, true);
    }
}

static int read_number(const struct sheet *at, const struct limits_column *column, struct slice cell,
                       int64_t *number) {
    char text[SHEET_CELL_SHOWN], want[64];
    if (cell.n == 0) {
        return 0;
    }
    if (memchr(cell.p, '\0', cell.n) == NULL && slice_copy(cell, text, sizeof(text)) &&
        option_value_parse(column->name, OPTION_COUNT, text, 1, column->most, number, NULL) == 0) {
        return 0;
    }
    snprintf(want, sizeof(want), "a whole number, 1 to %lld", (long long)column->most);
    return sheet_refuse(at, column->name, cell, want);
}

static int read_profile(const struct sheet *at, struct slice cell, const char **profile) {
    const struct limit_profile *found = cell.n > 0 ? limit_profile_find(cell) : NULL;
    if (cell.n == 0 || found != NULL) {
        *profile = found != NULL ? found->name : NULL;
        return 0;
    }
    struct buf names;
    buf_init(&names, 4096);
    int rc = limit_profile_names(&names);
    rc = sheet_refuse(at, "profile", cell, rc == 0 ? names.p : "the name of a profile");
    buf_free(&names);
    return rc;
}

static int read_cell(void *arg, const struct sheet *at, size_t i, struct slice cell) {
    struct limits_row *row = &((struct reading *)arg)->row;
    const struct limits_column *column = &columns[i];
    void *field = (char *)row + column->offset;
    if (column->type == CELL_NUMBER) {
        return read_number(at, column, cell, field);
    }
    if (column->type == CELL_PROFILE) {
        return read_profile(at, cell, &row->profile);
    }
    if (is_text(column, cell)) {
        *(const char **)field = slice_dup(cell);
        return 0;
    }
    if (column->type == CELL_ACCOUNT) { // who put the credential itself there must not find it in a log
        return error_set(at->why, -EINVAL, "%s:%zu: account: got %zu bytes that are none, want %s", at->file,
                         at->line, cell.n, column->want);
    }
    return sheet_refuse(at, column->name, cell, column->want);
}

static bool has_same_limits(const struct limits_row *a, const struct limits_row *b) {
    return a->rpm == b->rpm && a->tpm == b->tpm && a->itpm == b->itpm && a->otpm == b->otpm &&
           a->rpd == b->rpd && a->tpd == b->tpd && a->concurrency == b->concurrency &&
           a->profile == b->profile; // both from the table of profiles
}

// check_pool makes sure of the invariant.
static int check_pool(const struct limits_file *limits, const struct limits_row *row, const struct sheet *at) {
    for (size_t i = 0; i < limits->n; i++) {
        const struct limits_row *other = &limits->rows[i];
        if (strcmp(other->pool, row->pool) == 0) {
            return has_same_limits(other, row)
                       ? 0
                       : error_set(at->why, -EINVAL,
                                   "%s:%zu: pool: got '%s' with other limits, want those of line %zu", at->file,
                                   at->line, row->pool, other->line);
        }
    }
    return 0;
}

static void row_free(struct limits_row *row) {
    free((char *)row->pool);
    free((char *)row->provider);
    free((char *)row->account);
    free((char *)row->model);
}

static void begin_row(void *arg, const struct sheet *at) {
    ((struct reading *)arg)->row = (struct limits_row){.line = at->line};
}

static void drop_row(void *arg) {
    row_free(&((struct reading *)arg)->row);
}

static int end_row(void *arg, const struct sheet *at) {
    struct reading *r = arg;
    struct limits_file *limits = r->limits;
    if (limits->n == ROWS_MAX) {
        return error_set(at->why, -EINVAL, "%s:%zu: got one more row, want at most %d", at->file, at->line,
                         ROWS_MAX);
    }
    int rc = check_pool(limits, &r->row, at);
    if (rc == 0) {
        limits->rows = mem_realloc(limits->rows, (limits->n + 1) * sizeof(*limits->rows));
        limits->rows[limits->n++] = r->row;
    }
    return rc;
}

static struct sheet_handlers handlers_of(struct reading *r) {
    r->limits = mem_zalloc(sizeof(*r->limits));
    return (struct sheet_handlers){
        .begin = begin_row, .cell = read_cell, .end = end_row, .drop = drop_row, .arg = r};
}

static int hand_out(struct reading *r, int rc, struct limits_file **out) {
    if (rc != 0) {
        limits_file_free(r->limits);
        r->limits = NULL;
    }
    *out = r->limits;
    return rc;
}

int limits_file_parse(struct slice text, const char *file, struct limits_file **out, struct error *why) {
    struct reading r;
    struct sheet_handlers on = handlers_of(&r);
    return hand_out(&r, sheet_parse(&kind, text, file, &on, why), out);
}

int limits_file_load(const char *file, struct limits_file **out, struct error *why) {
    *out = NULL;
    if (file[0] == '\0') {
        return 0;
    }
    struct reading r;
    struct sheet_handlers on = handlers_of(&r);
    return hand_out(&r, sheet_load(&kind, file, &on, why), out);
}

void limits_file_free(struct limits_file *limits) {
    for (size_t i = 0; limits != NULL && i < limits->n; i++) {
        row_free(&limits->rows[i]);
    }
    if (limits != NULL) {
        free(limits->rows);
        free(limits);
    }
}

// ---- Finding a row ------------------------------------------------------------------------------

// account_of returns NAME of ${NAME}; empty: the model has no credential.
static struct slice account_of(const char *api_key) {
    const char *from = strstr(api_key, "${");
    const char *to = from != NULL ? strchr(from, '}') : NULL;
    return to != NULL ? (struct slice){.p = from + 2, .n = (size_t)(to - from) - 2} : SLICE_NONE;
}

static bool fits(const char *pattern, struct slice text) {
    struct slice p = slice_of(pattern);
    if (p.n == 0 || p.p[p.n - 1] != '*') {
        return slice_eq(p, text);
    }
    return slice_eq(slice_sub(text, 0, p.n - 1), slice_sub(p, 0, p.n - 1));
}

const struct limits_row *limits_file_find(const struct limits_file *limits, const struct model_options *o) {
    struct slice account = account_of(o->api_key), model = slice_of(o->model);
    if (slice_starts(model, "models/")) {
        model = slice_sub(model, sizeof("models/") - 1, model.n);
    }
    for (size_t i = 0; limits != NULL && i < limits->n; i++) {
        const struct limits_row *row = &limits->rows[i];
        bool is_provider = strcmp(row->provider, "*") == 0 || slice_is_nocase(slice_of(o->provider), row->provider);
        if (is_provider && fits(row->account, account) && fits(row->model, model)) {
            return row;
        }
    }
    return NULL;
}

static void lower(int64_t *own, int64_t limit) {
    if (limit > 0 && (*own == MODEL_UNSET || *own > limit)) {
        *own = limit;
    }
}

void limits_row_apply(const struct limits_row *row, struct model_options *o) {
    lower(&o->limit_rpm, row->rpm);
    lower(&o->limit_tpm, row->tpm);
    lower(&o->limit_itpm, row->itpm);
    lower(&o->limit_otpm, row->otpm);
    lower(&o->limit_rpd, row->rpd);
    lower(&o->limit_tpd, row->tpd);
    lower(&o->limit_concurrency, row->concurrency);
    o->limit_profile = row->profile != NULL ? row->profile : o->limit_profile;
}
