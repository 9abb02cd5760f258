// `headrace run --dry-run`. Invariant: rows become records, batches and prompts by the rules of the
// coordinator and the worker (its prompt.c itself renders them), so that calls and bytes are those of
// a run in which no call fails. Called by run.c.
#include "client/dry_run.h"

#include "client/progress.h"
#include "common/batch_api.h"
#include "common/mem.h"
#include "common/tokens.h"
#include "proto/record.h"
// The one place where the client looks into the worker: a second renderer would go its own way.
#include "worker/prompt.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

// Of coordinator/dispatch.c: when a batch is full.
#define SLOT_TOKENS 8
#define BATCH_FULL_BYTES (8 * 1024 * 1024)

#define PROMPT_MAX_BYTES (64 * 1024 * 1024)
#define ITEM_OVERHEAD 2  // bytes of an item besides its fields: {}
#define FIELD_OVERHEAD 3 // quotes and colon of a field's name
#define DAY_MINUTES 1440.0

// A batch that is being filled.
struct lane {
    struct buf records; // packed
    size_t n, n_bytes;
    uint64_t tokens;    // as the coordinator estimates them
    uint64_t image_tokens; // of its images
};

// One way to ask.
struct way {
    const struct model *model;
    struct prompt_plan plan;
    struct lane *lanes;
    int64_t answer_tokens; // of one record
    struct dry_run_sum *sum;
};

struct counting {
    const struct dry_run_config *config;
    struct dry_run *out;
    struct way ways[2];
    size_t n_ways;
    struct model *single;
    const struct tokenizer *tokenizer; // NULL: tokens are estimated
    struct buf values, system, user;
    const struct rows_row *row; // being read
    int status;
    struct error *why;
};

// ---- Calls --------------------------------------------------------------------------------------

static size_t value_bytes(enum column_type type) {
    switch (type) {
    case TYPE_BOOLEAN:
        return 5;
    case TYPE_INT:
        return 4;
    case TYPE_BIGINT:
        return 8;
    case TYPE_FLOAT:
    case TYPE_DOUBLE:
        return 6;
    default:
        return 10;
    }
}

// answer_guess says how long one record's answer may be: names and numbers are known, values are not.
static int64_t answer_guess(const struct model *model, bool batched) {
    size_t bytes = ITEM_OVERHEAD;
    if (batched) {
        bytes += strlen(model->options.response_index_field) + FIELD_OVERHEAD + 4; // a number, commas
    }
    for (size_t i = 0; i < model->n_output; i++) {
        bytes += value_bytes(model->output[i].type);
        bytes += model->options.response_format == RESPONSE_JSON
                     ? strlen(prompt_value_field(model, i)) + FIELD_OVERHEAD
                     : 0;
    }
    return (int64_t)(bytes + TOKENS_BYTES - 1) / TOKENS_BYTES;
}

static void add_call(struct counting *c, struct way *way, uint64_t input, size_t n) {
    uint64_t output = (uint64_t)way->answer_tokens * n;
    int64_t most = way->model->options.max_tokens;
    if (most != MODEL_UNSET && output > (uint64_t)most) {
        output = (uint64_t)most;
    }
    way->sum->calls++;
    way->sum->records += n;
    way->sum->input_tokens += input;
    way->sum->output_tokens += output;
    if (c->out->is_priced) {
        const struct price_usage usage = {.input = (double)input, .output = (double)output};
        way->sum->cost += price_cost(&c->out->price, &usage);
    }
}

static int make_call(struct counting *c, struct way *way, struct lane *lane) {
    uint64_t slots[MODEL_BATCH_MAX];
    if (lane->n == 0) {
        return 0;
    }
    buf_clear(&c->system);
    buf_clear(&c->user);
    int rc = prompt_make(way->model, &way->plan, buf_slice(&lane->records), lane->n, slots, &c->system,
                         &c->user, c->why);
    if (rc == 0) {
        uint64_t tokens = tokens_count(c->tokenizer, buf_slice(&c->user)) + TOKENS_A_MESSAGE + lane->image_tokens;
        tokens += c->system.n > 0 ? tokens_count(c->tokenizer, buf_slice(&c->system)) + TOKENS_A_MESSAGE : 0;
        add_call(c, way, tokens, lane->n);
    }
    buf_clear(&lane->records);
    lane->n = lane->n_bytes = 0;
    lane->tokens = lane->image_tokens = 0;
    return rc;
}

static size_t no_text(const void *arg, struct slice text) {
    return 0;
}

// images_of estimates the tokens of a record's images.
static uint64_t images_of(const struct model *model, struct slice values) {
    return model->n_images > 0 ? record_weight(model, values, no_text, NULL) / TOKENS_BYTES : 0;
}

// add_record does what fill_add does.
static int add_record(struct counting *c, struct way *way, uint32_t partition, struct slice values) {
    const struct model_options *o = &way->model->options;
    struct lane *lane = &way->lanes[partition];
    size_t weight = record_weight(way->model, values, NULL, NULL);
    uint64_t tokens = weight / TOKENS_BYTES + SLOT_TOKENS;
    uint64_t most = o->batch_max_tokens != MODEL_UNSET ? (uint64_t)o->batch_max_tokens : UINT64_MAX;
    int rc = 0;
    if (lane->n > 0 && (lane->tokens + tokens > most || lane->n_bytes + values.n > BATCH_FULL_BYTES)) {
        rc = make_call(c, way, lane);
    }
    rc = rc != 0 ? rc : record_pack(&lane->records, lane->n, values);
    lane->n++;
    lane->n_bytes += values.n;
    lane->image_tokens += images_of(way->model, values);
    lane->tokens += tokens;
    if (rc == 0 && (lane->n >= (size_t)o->batch_size || lane->tokens >= most)) {
        rc = make_call(c, way, lane);
    }
    return rc;
}

// ---- Rows ---------------------------------------------------------------------------------------

static void add_bad(struct counting *c, const char *what) {
    const struct rows_row *row = c->row;
    struct error why;
    if (++c->out->bad <= DRY_RUN_SHOWN) {
        if (row->outcome != OUTCOME_OK) {
            why = row->why;
        } else {
            error_set(&why, 0, "%s:%" PRIu64 ": %s", row->file, row->line, what);
        }
        c->config->bad(c->config->arg, &why);
    }
}

// missing_column says which column that the user named has no value in a row, or NULL.
static const char *missing_column(const struct dry_run_config *config, const struct row *row) {
    return config->id_column[0] != '\0' && row->id.n == 0     ? config->id_column
           : config->key_column[0] != '\0' && row->key.n == 0 ? config->key_column
                                                              : NULL;
}

static uint32_t partition_of_row(const struct counting *c, const struct row *row) {
    char made[64];
    struct slice key = row->key.n > 0 ? row->key : row->id;
    if (key.n == 0) {
        key.n = (size_t)snprintf(made, sizeof(made), "run:%" PRIu64, c->out->rows);
        key.p = made;
    }
    return (uint32_t)(XXH3_64bits(key.p, key.n) % (uint64_t)c->config->partitions);
}

static int on_row(void *arg, const struct row *row) {
    struct counting *c = arg;
    const struct model *model = c->config->model;
    struct error why = row->why;
    bool is_bad = row->outcome != OUTCOME_OK;
    const char *missing = is_bad ? NULL : missing_column(c->config, row);
    if (missing != NULL) {
        is_bad = true;
        error_set(&why, 0, "column '%s': got nothing", missing);
    } else if (!is_bad && row->model.n > 0 && !slice_is(row->model, model->name)) {
        is_bad = true;
        error_set(&why, 0, "it names the model '%.*s'", SLICE_FMT(row->model));
    }
    buf_clear(&c->values);
    if (is_bad || record_values(model, row->fields, &c->values, &why) != 0) {
        add_bad(c, why.text);
        return 0;
    }
    uint32_t partition = partition_of_row(c, row);
    for (size_t i = 0; c->status == 0 && i < c->n_ways; i++) {
        c->status = add_record(c, &c->ways[i], partition, buf_slice(&c->values));
    }
    return c->status;
}

// wait_rows waits for more of standard input or a pipe.
static void wait_rows(struct rows *rows) {
    struct pollfd fd = {.fd = rows_fd(rows), .events = POLLIN};
    (void)poll(&fd, 1, -1);
}

static int read_rows(struct counting *c) {
    const struct dry_run_config *config = c->config;
    const struct row_columns columns = {
        .id = slice_of(config->id_column),
        .key = slice_of(config->key_column),
        .max_bytes = config->images != NULL ? RECORD_LONG_MAX_BYTES : RECORD_MAX_BYTES,
    };
    struct rows_row row;
    int status;
    while (c->status == 0 && (status = rows_next(config->rows, &row, c->why)) != 0) {
        if (status == -EAGAIN) {
            wait_rows(config->rows);
            continue;
        }
        if (status < 0) {
            return status;
        }
        c->out->rows++;
        c->row = &row;
        struct slice json = row.json;
        struct error why = {0};
        if (row.outcome != OUTCOME_OK) {
            add_bad(c, NULL);
        } else if (config->images != NULL && images_fill(config->images, row.file, json, &json, &why) != 0) {
            add_bad(c, why.text);
        } else if (rows_read(json, &columns, on_row, c) < 0 && c->status == 0) {
            c->status = -EINVAL;
        }
    }
    for (size_t i = 0; i < c->n_ways; i++) {
        for (int64_t p = 0; c->status == 0 && p < config->partitions; p++) {
            c->status = make_call(c, &c->ways[i], &c->ways[i].lanes[p]);
        }
    }
    return c->status;
}

// ---- The whole ----------------------------------------------------------------------------------

static int add_way(struct counting *c, const struct model *model, struct dry_run_sum *sum) {
    struct way *way = &c->ways[c->n_ways++];
    int64_t n = c->config->partitions;
    way->model = model;
    way->sum = sum;
    sum->batch_size = model->options.batch_size;
    way->lanes = mem_zalloc((size_t)n * sizeof(*way->lanes));
    for (int64_t i = 0; i < n; i++) {
        buf_init(&way->lanes[i].records, PROMPT_MAX_BYTES);
    }
    way->answer_tokens = c->config->answer_tokens > 0
                             ? c->config->answer_tokens
                             : answer_guess(model, model->options.batch_size > 1);
    return prompt_plan_make(model, &way->plan, c->why);
}

static void way_free(struct way *way, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        buf_free(&way->lanes[i].records);
    }
    free(way->lanes);
    prompt_plan_free(&way->plan);
}

// add_ways: as the model is, and, when it batches, one by one beside it.
static int add_ways(struct counting *c) {
    const struct model *model = c->config->model;
    int rc = add_way(c, model, &c->out->batched);
    if (rc != 0 || model->options.batch_size == 1) {
        return rc;
    }
    char name[] = "batch.size", value[] = "1";
    const struct model_setting one = {.name = name, .value = value};
    struct error ignored = {0};
    c->single = model_override(model, &one, 1, &ignored);
    c->out->has_single = c->single != NULL;
    return c->single != NULL ? add_way(c, c->single, &c->out->single) : 0;
}

int dry_run_count(const struct dry_run_config *config, struct dry_run *out, struct error *why) {
    *out = (struct dry_run){0};
    struct counting c = {.config = config, .out = out, .why = why};
    out->is_priced = prices_of(config->prices, &config->model->options, &out->price);
    buf_init(&c.values, PROMPT_MAX_BYTES);
    buf_init(&c.system, PROMPT_MAX_BYTES);
    buf_init(&c.user, PROMPT_MAX_BYTES);
    struct error unread = {0};
    c.tokenizer = tokens_tokenizer(config->model->options.tokenizer_file, &unread);
    int rc = 0;
    if (unread.text[0] != '\0') {
        rc = error_set(why, -ENOENT, "option 'tokenizer.file': %s", unread.text);
    }
    out->is_exact = c.tokenizer != NULL;
    rc = rc != 0 ? rc : add_ways(&c);
    rc = rc != 0 ? rc : read_rows(&c);
    for (size_t i = 0; i < c.n_ways; i++) {
        way_free(&c.ways[i], config->partitions);
    }
    model_free(c.single);
    buf_free(&c.values);
    buf_free(&c.system);
    buf_free(&c.user);
    return rc;
}

double dry_run_minutes(const struct model_options *o, const struct dry_run_sum *sum, const char **limit) {
    double input = (double)sum->input_tokens, output = (double)sum->output_tokens;
    const struct {
        const char *name;
        int64_t most; // in `minutes`
        double n, minutes;
    } rows[] = {
        {"limit.rpm", o->limit_rpm, (double)sum->calls, 1},
        {"limit.tpm", o->limit_tpm, input + output, 1},
        {"limit.itpm", o->limit_itpm, input, 1},
        {"limit.otpm", o->limit_otpm, output, 1},
        {"limit.rpd", o->limit_rpd, (double)sum->calls, DAY_MINUTES},
    };
    double longest = 0;
    *limit = NULL;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        double minutes = rows[i].most > 0 ? rows[i].n * rows[i].minutes / (double)rows[i].most : 0;
        if (rows[i].most > 0 && (*limit == NULL || minutes > longest)) {
            longest = minutes;
            *limit = rows[i].name;
        }
    }
    return longest;
}

// ---- The table ----------------------------------------------------------------------------------

#define CELL 40

struct cells {
    char batched[CELL], single[CELL];
};

static void time_cell(const struct dry_run_config *config, const struct dry_run_sum *sum, char text[CELL]) {
    const char *limit;
    double minutes = dry_run_minutes(&config->model->options, sum, &limit);
    if (limit == NULL) {
        snprintf(text, CELL, "no limit given");
    } else if (minutes < 2) {
        snprintf(text, CELL, "%.0f s", minutes * 60);
    } else if (minutes < 120) {
        snprintf(text, CELL, "%.0f min", minutes);
    } else if (minutes < 48 * 60) {
        snprintf(text, CELL, "%.1f h", minutes / 60);
    } else {
        snprintf(text, CELL, "%.1f days", minutes / DAY_MINUTES);
    }
}

static void cost_cell(const struct dry_run *run, const struct dry_run_sum *sum, char text[CELL]) {
    if (run->is_priced) {
        snprintf(text, CELL, "$%.4f", sum->cost);
    } else {
        snprintf(text, CELL, "unknown");
    }
}

// jobs_of says how many jobs of the provider's batch API the calls fill.
static uint64_t jobs_of(const struct model_options *o, const struct batch_api *api, uint64_t calls) {
    int64_t rows = o->batch_job_rows != MODEL_UNSET && o->batch_job_rows < api->rows ? o->batch_job_rows : api->rows;
    return (calls + (uint64_t)rows - 1) / (uint64_t)rows;
}

static int add_line(const struct dry_run *run, const char *name, const struct cells *cells,
                    const char *note, struct buf *out) {
    int rc = buf_addf(out, "  %-18s %18s", name, cells->batched);
    rc = rc == 0 && run->has_single ? buf_addf(out, " %18s", cells->single) : rc;
    return rc != 0 ? rc : buf_addf(out, "%s%s\n", note[0] != '\0' ? "   " : "", note);
}

static int add_counts(const struct dry_run *run, struct buf *out) {
    const struct {
        const char *name;
        uint64_t batched, single;
    } lines[] = {
        {"calls", run->batched.calls, run->single.calls},
        {"input tokens", run->batched.input_tokens, run->single.input_tokens},
        {"output tokens", run->batched.output_tokens, run->single.output_tokens},
    };
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(lines) / sizeof(*lines); i++) {
        struct cells cells;
        char number[32];
        snprintf(cells.batched, CELL, "%s", progress_number(lines[i].batched, number));
        snprintf(cells.single, CELL, "%s", progress_number(lines[i].single, number));
        rc = add_line(run, lines[i].name, &cells, "", out);
    }
    return rc;
}

// add_jobs sets the provider's batch API beside the calls.
static int add_jobs(const struct model *model, const struct dry_run *run, struct buf *out) {
    const struct batch_api *api = batch_api_of(model);
    if (api == NULL || !run->is_priced) {
        return 0;
    }
    struct cells cells;
    char note[160], number[32];
    uint64_t n = jobs_of(&model->options, api, run->batched.calls);
    snprintf(cells.batched, CELL, "$%.4f", run->batched.cost * run->price.batch);
    snprintf(cells.single, CELL, "$%.4f", run->single.cost * run->price.batch);
    snprintf(note, sizeof(note), "%s 'mode' = 'batch': %s job%s at the provider, answers within a day",
             model->options.mode == MODE_ONLINE ? "with" : "as the model has it,", progress_number(n, number),
             n == 1 ? "" : "s");
    return add_line(run, "cost in jobs", &cells, note, out);
}

static int add_budget(const struct dry_run_config *config, const struct dry_run *run, struct buf *out) {
    char number[32];
    if (config->budget_usd <= 0) {
        return 0;
    }
    if (!run->is_priced) {
        return buf_addf(out, "  the budget of $%.2f cannot be kept: the price is not known\n",
                        config->budget_usd);
    }
    double cost = run->batched.cost * (config->model->options.mode == MODE_BATCH ? run->price.batch : 1);
    if (cost <= config->budget_usd) {
        return buf_addf(out, "  the budget of $%.2f is enough\n", config->budget_usd);
    }
    double share = config->budget_usd / cost;
    return buf_addf(out, "  the budget of $%.2f is used up after about %s records\n", config->budget_usd,
                    progress_number((uint64_t)((double)run->batched.records * share), number));
}

int dry_run_text(const struct dry_run_config *config, const struct dry_run *run, struct buf *out) {
    const struct model *model = config->model;
    char number[32], number2[32], note[300] = "";
    struct cells cells;
    int rc = buf_addf(out, "headrace: %s (%s %s): a dry run, no call is made\n", model->name,
                      model->options.provider, model->options.model);
    rc = rc != 0 ? rc
                 : buf_addf(out, "  %-18s %18s", "records",
                            progress_number(run->batched.records, number));
    rc = rc == 0 && run->bad > 0
             ? buf_addf(out, "   of %s rows; %s cannot be asked", progress_number(run->rows, number),
                        progress_number(run->bad, number2))
             : rc;
    rc = rc != 0 ? rc : buf_add_str(out, "\n\n");
    snprintf(cells.batched, CELL, "batch.size %" PRId64, run->batched.batch_size);
    snprintf(cells.single, CELL, "batch.size 1");
    rc = rc != 0 ? rc : add_line(run, "", &cells, "", out);
    rc = rc != 0 ? rc : add_counts(run, out);
    cost_cell(run, &run->batched, cells.batched);
    cost_cell(run, &run->single, cells.single);
    if (run->is_priced && run->price.as_of[0] != '\0') {
        snprintf(note, sizeof(note), "price of %.200s as of %s", run->price.model, run->price.as_of);
    } else if (!run->is_priced) {
        snprintf(note, sizeof(note), "no price of this model is known");
    }
    rc = rc != 0 ? rc : add_line(run, "cost", &cells, note, out);
    rc = rc != 0 ? rc : add_jobs(model, run, out);
    const char *limit;
    (void)dry_run_minutes(&model->options, &run->batched, &limit);
    time_cell(config, &run->batched, cells.batched);
    time_cell(config, &run->single, cells.single);
    rc = rc != 0 ? rc : add_line(run, "time at the limits", &cells, limit != NULL ? limit : "", out);
    rc = rc != 0 ? rc : buf_add_byte(out, '\n');
    rc = rc != 0 ? rc : add_budget(config, run, out);
    const char *guessed = config->answer_tokens > 0 ? "" : "; those of the answers are guessed (--answer-tokens)";
    rc = rc != 0 ? rc
         : run->is_exact ? buf_add_str(out, "  Tokens of the prompts are counted with tokenizer.file")
                         : buf_addf(out, "  Tokens are estimated: one for %d bytes of the prompts", TOKENS_BYTES);
    return rc != 0 ? rc : buf_addf(out, "%s.\n", guessed);
}
