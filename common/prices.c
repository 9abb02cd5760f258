// List prices and what a call costs. Invariant: a model that no row and no option prices has no price,
// which is not the price 0. Called by the coordinator's accounts and by the client's summaries.
#include "common/prices.h"

#include "common/mem.h"
#include "common/model.h"
#include "common/sheet.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-1) // not applicable or not known
#define FILE_MAX (1024 * 1024)
#define USD_MAX 1000000.0
#define TOKENS_MAX 1e12
#define FACTOR_MAX 1000.0

static const struct price builtin[] = {
#define PRICE(provider_, model_, input_, cached_, write_, output_, batch_, long_at_, long_in_,     \
              long_out_, as_of_, grade_)                                                           \
    {.provider = provider_,                                                                        \
     .model = model_,                                                                              \
     .input = input_,                                                                              \
     .cached = cached_,                                                                            \
     .write = write_,                                                                              \
     .output = output_,                                                                            \
     .batch = batch_,                                                                              \
     .long_at = long_at_,                                                                          \
     .long_in = long_in_,                                                                          \
     .long_out = long_out_,                                                                        \
     .as_of = as_of_},
#include "common/prices.def"
#undef PRICE
};

struct prices {
    struct price *rows; // their texts are ours
    size_t n;
};

// ---- Reading a file -----------------------------------------------------------------------------

// What a cell may hold, and where it goes.
enum cell_type { CELL_PROVIDER, CELL_MODEL, CELL_DATE, CELL_NUMBER, CELL_TOKENS };
struct price_column {
    const char *name;
    enum cell_type type;
    double most;
    const char *want;
    size_t offset; // in struct price
};

static const struct price_column columns[] = {
#define COLUMN(name_, field, type_, most_, want_)                                                  \
    {.name = name_, .type = type_, .most = most_, .want = want_, .offset = offsetof(struct price, field)}
    COLUMN("provider", provider, CELL_PROVIDER, 64, "a provider's name or *"),
    COLUMN("model", model, CELL_MODEL, 256, "a model's name, with * at most at its end"),
    COLUMN("as_of", as_of, CELL_DATE, 10, "a date, YYYY-MM-DD"),
    COLUMN("input", input, CELL_NUMBER, USD_MAX, "USD per million tokens"),
    COLUMN("cached_input", cached, CELL_NUMBER, USD_MAX, "USD per million tokens"),
    COLUMN("cache_write", write, CELL_NUMBER, USD_MAX, "USD per million tokens"),
    COLUMN("output", output, CELL_NUMBER, USD_MAX, "USD per million tokens"),
    COLUMN("batch", batch, CELL_NUMBER, FACTOR_MAX, "a factor"),
    COLUMN("call", call, CELL_NUMBER, USD_MAX, "USD per call"),
    COLUMN("long_at", long_at, CELL_TOKENS, TOKENS_MAX, "a number of tokens"),
    COLUMN("long_in", long_in, CELL_NUMBER, FACTOR_MAX, "a factor"),
    COLUMN("long_out", long_out, CELL_NUMBER, FACTOR_MAX, "a factor"),
#undef COLUMN
};

static const struct sheet_kind kind = {
    .columns = {"provider", "model", "as_of", "input", "cached_input", "cache_write", "output", "batch",
                "call", "long_at", "long_in", "long_out"},
    .n_columns = sizeof(columns) / sizeof(columns[0]),
    .n_needed = 3,
    .needed = "provider, model and as_of",
    .rows = "price",
    .most_bytes = FILE_MAX,
};

struct reading {
    struct prices *prices;
    struct price row; // being read
};

static bool is_date(struct slice s) {
    static const char form[] = "0000-00-00";
    if (s.n != sizeof(form) - 1) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (form[i] == '0' ? s.p[i] < '0' || s.p[i] > '9' : s.p[i] != form[i]) {
            return false;
        }
    }
    int month = (s.p[5] - '0') * 10 + s.p[6] - '0', day = (s.p[8] - '0') * 10 + s.p[9] - '0';
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

static bool is_text(const struct price_column *column, struct slice s) {
    if (s.n == 0 || (double)s.n > column->most || memchr(s.p, '"', s.n) != NULL ||
        slice_utf8_error(s) >= 0 || memchr(s.p, '\0', s.n) != NULL) {
        return false;
    }
    const char *star = memchr(s.p, '*', s.n);
    size_t last = column->type == CELL_PROVIDER ? 0 : s.n - 1; // where a star may stand
    return star == NULL || ((size_t)(star - s.p) == last && (column->type != CELL_PROVIDER || s.n == 1));
}

static bool read_number(struct slice s, double most, double *out) {
    char text[SHEET_CELL_SHOWN], *end;
    if (s.n == 0 || s.n >= sizeof(text) || !slice_copy(s, text, sizeof(text)) ||
        strspn(text, "0123456789.eE+-") != s.n) { // strtod also takes "nan", "inf", hexadecimal
        return false;
    }
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out) && *out >= 0 && *out <= most;
}

static int read_cell(void *arg, const struct sheet *at, size_t i, struct slice cell) {
    const struct price_column *column = &columns[i];
    void *field = (char *)&((struct reading *)arg)->row + column->offset;
    double number = 0;
    switch (column->type) {
    case CELL_PROVIDER:
    case CELL_MODEL:
    case CELL_DATE:
        if (column->type == CELL_DATE ? !is_date(cell) : !is_text(column, cell)) {
            return sheet_refuse(at, column->name, cell, column->want);
        }
        *(const char **)field = slice_dup(cell);
        return 0;
    case CELL_NUMBER:
    case CELL_TOKENS:
        break;
    }
    if (cell.n == 0) {
        return 0; // as it was: not known
    }
    if (!read_number(cell, column->most, &number)) {
        char want[128];
        snprintf(want, sizeof(want), "%s, 0 to %.0f", column->want, column->most);
        return sheet_refuse(at, column->name, cell, want);
    }
    if (column->type == CELL_TOKENS) {
        *(int64_t *)field = (int64_t)number;
    } else {
        *(double *)field = number;
    }
    return 0;
}

static void row_free(struct price *row) {
    free((char *)row->provider);
    free((char *)row->model);
    free((char *)row->as_of);
}

static void begin_row(void *arg, const struct sheet *at) {
    (void)at;
    ((struct reading *)arg)->row =
        (struct price){.input = NONE, .cached = NONE, .write = NONE, .output = NONE,
                       .batch = 1, .long_in = 1, .long_out = 1, .call = NONE};
}

static void drop_row(void *arg) {
    row_free(&((struct reading *)arg)->row);
}

static int end_row(void *arg, const struct sheet *at) {
    struct reading *r = arg;
    struct price *row = &r->row;
    struct prices *p = r->prices;
    if (row->input < 0 && row->call < 0) {
        return error_set(at->why, -EINVAL, "%s:%zu: got no price of '%s', want input or call", at->file,
                         at->line, row->model);
    }
    row->input = row->input < 0 ? 0 : row->input;
    row->call = row->call < 0 ? 0 : row->call;
    p->rows = mem_realloc(p->rows, (p->n + 1) * sizeof(*p->rows));
    p->rows[p->n++] = *row;
    return 0;
}

static struct sheet_handlers handlers_of(struct reading *r) {
    r->prices = mem_zalloc(sizeof(*r->prices));
    return (struct sheet_handlers){
        .begin = begin_row, .cell = read_cell, .end = end_row, .drop = drop_row, .arg = r};
}

static int hand_out(struct reading *r, int rc, struct prices **out) {
    if (rc != 0) {
        prices_free(r->prices);
        r->prices = NULL;
    }
    *out = r->prices;
    return rc;
}

int prices_parse(struct slice text, const char *file, struct prices **out, struct error *why) {
    struct reading r;
    struct sheet_handlers on = handlers_of(&r);
    return hand_out(&r, sheet_parse(&kind, text, file, &on, why), out);
}

int prices_load(const char *file, struct prices **out, struct error *why) {
    *out = NULL;
    if (file[0] == '\0') {
        return 0;
    }
    struct reading r;
    struct sheet_handlers on = handlers_of(&r);
    return hand_out(&r, sheet_load(&kind, file, &on, why), out);
}

void prices_free(struct prices *prices) {
    for (size_t i = 0; prices != NULL && i < prices->n; i++) {
        row_free(&prices->rows[i]);
    }
    if (prices != NULL) {
        free(prices->rows);
        free(prices);
    }
}

// ---- Finding a row ------------------------------------------------------------------------------

static bool is_provider(const struct price *row, struct slice provider) {
    return strcmp(row->provider, "*") == 0 || slice_is_nocase(provider, row->provider);
}

// find_exactly finds the last row of that name: of two in a file the later one counts.
static const struct price *find_exactly(const struct price *rows, size_t n, struct slice provider,
                                        struct slice model) {
    for (size_t i = n; i-- > 0;) {
        if (is_provider(&rows[i], provider) && slice_is(model, rows[i].model)) {
            return &rows[i];
        }
    }
    return NULL;
}

static const struct price *find_pattern(const struct price *rows, size_t n, struct slice provider,
                                        struct slice model) {
    const struct price *best = NULL;
    size_t n_best = 0;
    for (size_t i = n; i-- > 0;) {
        struct slice pattern = slice_of(rows[i].model);
        if (pattern.n == 0 || pattern.p[pattern.n - 1] != '*' || !is_provider(&rows[i], provider)) {
            continue;
        }
        pattern.n--;
        if (slice_eq(slice_sub(model, 0, pattern.n), pattern) && (best == NULL || pattern.n > n_best)) {
            best = &rows[i];
            n_best = pattern.n;
        }
    }
    return best;
}

// ends_like says whether text ends as pattern, where '0' is any digit.
static bool ends_like(struct slice text, struct slice pattern) {
    if (text.n <= pattern.n) {
        return false;
    }
    const char *end = text.p + text.n - pattern.n;
    for (size_t i = 0; i < pattern.n; i++) {
        bool digit = end[i] >= '0' && end[i] <= '9';
        if (pattern.p[i] == '0' ? !digit : end[i] != pattern.p[i]) {
            return false;
        }
    }
    return true;
}

static const struct price *find(const struct price *rows, size_t n, struct slice provider,
                                struct slice model) {
    const struct slice suffixes[] = {SLICE_LIT("-0000-00-00"), SLICE_LIT("-00000000"),
                                     SLICE_LIT("-latest")};
    const struct price *price = find_exactly(rows, n, provider, model);
    for (size_t i = 0; price == NULL && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (ends_like(model, suffixes[i])) {
            price = find_exactly(rows, n, provider, slice_sub(model, 0, model.n - suffixes[i].n));
        }
    }
    return price != NULL ? price : find_pattern(rows, n, provider, model);
}

const struct price *prices_find(const struct prices *own, struct slice provider, struct slice model) {
    if (slice_starts(model, "models/")) {
        model = slice_sub(model, sizeof("models/") - 1, model.n);
    }
    const struct price *price = own != NULL ? find(own->rows, own->n, provider, model) : NULL;
    return price != NULL ? price
                         : find(builtin, sizeof(builtin) / sizeof(builtin[0]), provider, model);
}

static void override(double *field, double own) {
    *field = isnan(own) ? *field : own;
}

bool prices_of(const struct prices *own, const struct model_options *o, struct price *price) {
    const struct price *row = prices_find(own, slice_of(o->provider), slice_of(o->model));
    bool is_by_call = !isnan(o->price_call) && isnan(o->price_input);
    bool is_own = is_by_call || (!isnan(o->price_input) && !isnan(o->price_output));
    *price = (struct price){.provider = o->provider, .model = o->model, .as_of = "",
                            .cached = NONE, .write = NONE, .batch = 1, .long_in = 1, .long_out = 1};
    if (row != NULL && !is_own) {
        *price = *row;
    }
    override(&price->input, o->price_input);
    override(&price->cached, o->price_cached);
    override(&price->write, o->price_write);
    override(&price->output, o->price_output);
    override(&price->call, o->price_call);
    return row != NULL || is_own;
}

double price_cost(const struct price *price, const struct price_usage *usage) {
    bool is_long = price->long_at > 0 && usage->input > (double)price->long_at;
    double per_cached = price->cached >= 0 ? price->cached : price->input;
    double per_write = price->write >= 0 ? price->write : price->input;
    double per_output = price->output >= 0 ? price->output : 0;
    double in = (usage->input - usage->cached - usage->write) * price->input +
                usage->cached * per_cached + usage->write * per_write;
    double out = usage->output * per_output;
    return price->call +
           (in * (is_long ? price->long_in : 1) + out * (is_long ? price->long_out : 1)) / 1e6;
}
