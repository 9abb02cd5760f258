// How near each minute of a ledger came to its limits. Invariant: the lines may come in any order, as
// they are written when a request is over; charges are sorted by their time before they are summed up.
// Called by main.
#include "tests/provider/report.h"
#include "common/json.h"
#include "common/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_US       INT64_C(60000000)
#define STEADY_LEAST_US INT64_C(1000000)
#define OUT_MAX         (64u << 20)
#define COUNT_MOST      INT64_C(1000000000000) // of tokens, and of milliseconds
#define TIME_MOST_US    INT64_C(1000000000000000000)

struct charge {
    int64_t at_us, n;
};

struct charges {
    struct charge *items;
    size_t n, size;
};

// What is summed up: the limits of a minute.
enum { SUM_COUNT = LIMIT_OTPM + 1 };
_Static_assert(LIMIT_RPM == 0 && LIMIT_TPM == 1 && LIMIT_ITPM == 2 && LIMIT_OTPM == 3, "quota.def");

struct pool {
    char id[128]; // key, space, model
    char key[32], model[64];
    uint64_t n_admitted, n_limited, n_other_429;
    int64_t first_us, last_us; // requests admitted
    struct charges own[SUM_COUNT], stranger[SUM_COUNT];
    UT_hash_handle hh;
};

// What is said of one limit of a pool.
struct sum {
    int64_t peak;
    double mean, stranger; // a minute; -1: not known
};

// --- reading -------------------------------------------------------------------------------------

static void add_charge(struct charges *charges, int64_t at_us, int64_t n) {
    if (n <= 0) {
        return;
    }
    if (charges->n == charges->size) {
        charges->size = charges->size > 0 ? 2 * charges->size : 256;
        charges->items = mem_realloc(charges->items, charges->size * sizeof(*charges->items));
    }
    charges->items[charges->n++] = (struct charge){.at_us = at_us, .n = n};
}

// number reads a member, 0 where there is none such; bounded, so that sums of a million fit.
static int64_t number(struct json_object *row, const char *name, int64_t most) {
    int64_t n = json_object_get_int64(json_get(row, name));
    return n < 0 ? 0 : n < most ? n : most;
}

static int64_t count(struct json_object *row, const char *name) {
    return number(row, name, COUNT_MOST);
}

static bool is_true(struct json_object *row, const char *name) {
    return json_object_get_boolean(json_get(row, name));
}

static struct pool *find_pool(struct pool **pools, const struct report_config *config,
                              struct json_object *row) {
    char id[128], key[32] = "", model[64] = "";
    if (config->by_key) {
        (void)slice_copy(json_text(json_get(row, "key")), key, sizeof(key));
    }
    if (config->by_model) {
        (void)slice_copy(json_text(json_get(row, "model")), model, sizeof(model));
    }
    snprintf(id, sizeof(id), "%s %s", key, model);
    struct pool *pool = NULL;
    HASH_FIND_STR(*pools, id, pool);
    if (pool == NULL) {
        pool = mem_zalloc(sizeof(*pool));
        memcpy(pool->id, id, sizeof(id));
        memcpy(pool->key, key, sizeof(key));
        memcpy(pool->model, model, sizeof(model));
        HASH_ADD_STR(*pools, id, pool);
    }
    return pool;
}

static void add_admitted(struct pool *pool, struct json_object *row, int64_t at_us) {
    int64_t input = count(row, "charged_input"), output = count(row, "charged_output");
    int64_t output_us = is_true(row, "charged_late") ? at_us + count(row, "took_ms") * 1000 : at_us;
    pool->first_us = pool->n_admitted == 0 || at_us < pool->first_us ? at_us : pool->first_us;
    pool->last_us = at_us > pool->last_us ? at_us : pool->last_us;
    pool->n_admitted++;
    add_charge(&pool->own[LIMIT_RPM], at_us, 1);
    add_charge(&pool->own[LIMIT_TPM], at_us, input);
    add_charge(&pool->own[LIMIT_TPM], output_us, output);
    add_charge(&pool->own[LIMIT_ITPM], at_us, input);
    add_charge(&pool->own[LIMIT_OTPM], output_us, output);
}

static int add_row(struct pool **pools, const struct report_config *config, struct json_object *row,
                   struct error *why) {
    int64_t at_us = number(row, "unix_us", TIME_MOST_US);
    if (at_us <= 0 || json_get(row, "admitted") == NULL) {
        return error_set(why, -EINVAL, "got no line of a ledger, want unix_us and admitted");
    }
    if (json_get(row, "batch") != NULL) {
        return 0; // jobs have limits of their own
    }
    bool limited = json_get(row, "limited") != NULL;
    bool other = !limited && count(row, "status") == 429;
    if (!limited && !other && !is_true(row, "admitted")) {
        return 0; // /v1/models, a refused key and the like: no pool knows of it
    }
    struct pool *pool = find_pool(pools, config, row);
    pool->n_limited += limited;
    pool->n_other_429 += other;
    if (is_true(row, "admitted")) {
        add_admitted(pool, row, at_us);
    }
    struct json_object *stranger = json_get(row, "stranger");
    for (int i = 0; stranger != NULL && i < SUM_COUNT; i++) {
        add_charge(&pool->stranger[i], at_us, count(stranger, quota_rows[i].option));
    }
    return 0;
}

static int read_ledger(FILE *ledger, const struct report_config *config, struct pool **pools,
                       struct error *why) {
    char *line = NULL;
    size_t size = 0;
    int rc = 0;
    long long n_lines = 0;
    for (ssize_t n; rc == 0 && (n = getline(&line, &size, ledger)) >= 0;) {
        struct json_object *row = NULL;
        n_lines++;
        rc = json_parse((struct slice){.p = line, .n = (size_t)n}, &row, why);
        rc = rc != 0 ? rc : add_row(pools, config, row, why);
        json_object_put(row);
    }
    if (rc != 0) {
        error_prefix(why, "line %lld: ", n_lines);
    } else if (ferror(ledger)) {
        rc = error_set(why, -EIO, "the ledger cannot be read");
    }
    free(line);
    return rc;
}

// --- summing up ----------------------------------------------------------------------------------

static int by_time(const void *a, const void *b) {
    const struct charge *x = a, *y = b;
    return (x->at_us > y->at_us) - (x->at_us < y->at_us);
}

static int64_t peak_of(struct charges *charges) {
    int64_t sum = 0, peak = 0;
    if (charges->n > 0) {
        qsort(charges->items, charges->n, sizeof(*charges->items), by_time);
    }
    for (size_t i = 0, first = 0; i < charges->n; i++) {
        sum += charges->items[i].n;
        while (charges->items[i].at_us - charges->items[first].at_us >= MINUTE_US) {
            sum -= charges->items[first++].n;
        }
        peak = sum > peak ? sum : peak;
    }
    return peak;
}

static double mean_of(const struct charges *charges, int64_t from_us, int64_t to_us) {
    if (to_us - from_us < STEADY_LEAST_US) {
        return -1;
    }
    int64_t sum = 0;
    for (size_t i = 0; i < charges->n; i++) {
        bool inside = charges->items[i].at_us >= from_us && charges->items[i].at_us < to_us;
        sum += inside ? charges->items[i].n : 0;
    }
    return (double)sum * (double)MINUTE_US / (double)(to_us - from_us);
}

static struct sum sum_up(struct pool *pool, int i, int64_t skip_us) {
    int64_t from_us = pool->first_us + skip_us, to_us = pool->last_us - skip_us;
    return (struct sum){.peak = peak_of(&pool->own[i]),
                        .mean = mean_of(&pool->own[i], from_us, to_us),
                        .stranger = mean_of(&pool->stranger[i], from_us, to_us)};
}

// --- writing -------------------------------------------------------------------------------------

// add_number adds a figure or, when it is not known (below 0), null.
static int add_number(struct buf *out, const char *name, double n) {
    return n < 0 ? buf_addf(out, ",\"%s\":null", name) : buf_addf(out, ",\"%s\":%.3f", name, n);
}

static double percent(double n, int64_t of) {
    return n < 0 || of <= 0 ? -1 : 100 * n / (double)of;
}

static int write_json(struct pool *pool, const struct report_config *config, struct buf *out) {
    int rc = buf_addf(out, "{\"key\":\"%s\",\"model\":", pool->key);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(pool->model));
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",\"admitted\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"other_429\":%" PRIu64
                            ",\"seconds\":%.3f",
                            pool->n_admitted, pool->n_limited, pool->n_other_429,
                            (double)(pool->last_us - pool->first_us) / 1e6);
    for (int i = 0; rc == 0 && i < SUM_COUNT; i++) {
        int64_t most = config->most[i];
        struct sum sum = sum_up(pool, i, config->skip_us);
        rc = buf_addf(out, ",\"%s\":{\"limit\":%lld,\"peak\":%lld", quota_rows[i].option, (long long)most,
                      (long long)sum.peak);
        rc = rc != 0 ? rc : add_number(out, "peak_percent", percent((double)sum.peak, most));
        rc = rc != 0 ? rc : add_number(out, "mean", sum.mean);
        rc = rc != 0 ? rc : add_number(out, "mean_percent", percent(sum.mean, most));
        rc = rc != 0 ? rc : add_number(out, "stranger", sum.stranger);
        rc = rc != 0 ? rc : add_number(out, "stranger_percent", percent(sum.stranger, most));
        rc = rc != 0 ? rc : buf_add_byte(out, '}');
    }
    return rc != 0 ? rc : buf_add_str(out, "}\n");
}

// add_cell adds a figure in a column of the table.
static int add_cell(struct buf *out, double n, const char *unit) {
    return n < 0 ? buf_addf(out, " %11s", "-") : buf_addf(out, " %*.1f%s", 11 - (int)strlen(unit), n, unit);
}

static int write_table(struct pool *pool, const struct report_config *config, struct buf *out) {
    int rc = buf_addf(out,
                      "key %s model %s: %" PRIu64 " admitted in %.1f s, %" PRIu64
                      " refused for a limit, %" PRIu64 " other 429\n",
                      pool->key, pool->model, pool->n_admitted,
                      (double)(pool->last_us - pool->first_us) / 1e6, pool->n_limited,
                      pool->n_other_429);
    rc = rc != 0 ? rc
                 : buf_addf(out, "  %-10s %11s %11s %11s %11s %11s %11s\n", "a minute", "limit", "peak",
                            "of limit", "mean", "of limit", "stranger");
    for (int i = 0; rc == 0 && i < SUM_COUNT; i++) {
        int64_t most = config->most[i];
        struct sum sum = sum_up(pool, i, config->skip_us);
        rc = buf_addf(out, "  %-10s", quota_rows[i].option);
        rc = rc != 0 ? rc : add_cell(out, most > 0 ? (double)most : -1, "");
        rc = rc != 0 ? rc : add_cell(out, (double)sum.peak, "");
        rc = rc != 0 ? rc : add_cell(out, percent((double)sum.peak, most), " %");
        rc = rc != 0 ? rc : add_cell(out, sum.mean, "");
        rc = rc != 0 ? rc : add_cell(out, percent(sum.mean, most), " %");
        rc = rc != 0 ? rc : add_cell(out, sum.stranger, "");
        rc = rc != 0 ? rc : buf_add_byte(out, '\n');
    }
    return rc;
}

static void free_pools(struct pool *pools) {
    struct pool *pool, *next;
    HASH_ITER(hh, pools, pool, next) {
        HASH_DEL(pools, pool);
        for (int i = 0; i < SUM_COUNT; i++) {
            free(pool->own[i].items);
            free(pool->stranger[i].items);
        }
        free(pool);
    }
}

int report_write(FILE *ledger, const struct report_config *config, FILE *out, struct error *why) {
    struct pool *pools = NULL, *pool, *next;
    struct buf text = {.max = OUT_MAX};
    int rc = read_ledger(ledger, config, &pools, why);
    HASH_ITER(hh, pools, pool, next) {
        if (rc == 0 && (config->json ? write_json : write_table)(pool, config, &text) != 0) {
            rc = error_set(why, -EMSGSIZE, "the report is too long: want fewer keys and models");
        }
    }
    if (rc == 0 && (fwrite(text.p != NULL ? text.p : "", 1, text.n, out) != text.n || fflush(out) != 0)) {
        rc = error_set(why, -EIO, "the report cannot be written");
    }
    buf_free(&text);
    free_pools(pools);
    return rc;
}
