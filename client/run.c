// `headrace run`: a file through a model, with everything that takes started and ended here. This
// file reads what the user gave, refuses what is wrong before anything starts, and tells at the end
// how it went; run_flow.c does the work in between.
#include "client/run.h"

#include "client/commands.h"
#include "client/dry_run.h"
#include "client/run_resume.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/secrets.h"
#include "proto/record.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SQL_MAX (1024 * 1024)
#define SUMMARY_MAX (64 * 1024)
#define BUDGET_NAME "run"

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(run_options, __VA_ARGS__)
#include "client/run_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace run",
    .args = "",
    .text = "Sends the rows of files through a model and writes each row with its answer. Starts a "
            "private redis-server, a coordinator and workers, and ends them.",
    .after = EXIT_CODES_TEXT,
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
};

// ---- The model ----------------------------------------------------------------------------------

static int add_secret(void *arg, struct slice name) {
    struct run *run = arg;
    size_t n = run->n_secret_names;
    run->secret_names = mem_realloc(run->secret_names, (n + 1) * sizeof(*run->secret_names));
    run->secret_names[n] = slice_dup(name);
    run->n_secret_names++;
    return 0;
}

// check_secrets makes sure that the workers will find every ${NAME} of the run's models.
static int check_secrets(struct run *run, struct error *why) {
    struct secrets *secrets = secrets_load(run->options.secrets, why);
    if (secrets == NULL) {
        return -EINVAL;
    }
    const struct model *chain[MODEL_CHAIN_MAX];
    int n = setup_chain(&run->statements, run->model, chain, why);
    int status = n < 0 ? n : model_secrets(run->model, add_secret, run);
    for (int i = 0; status == 0 && i < n; i++) {
        status = model_secrets(chain[i], add_secret, run);
    }
    for (size_t i = 0; status == 0 && i < run->n_secret_names; i++) {
        const char *name = run->secret_names[i];
        if (!secrets_has(secrets, slice_of(name))) {
            status = error_set(why, -ENOENT,
                               "model '%s' needs ${%s}, which is neither in the environment nor in a "
                               "secrets file: export %s=... or say --secrets FILE",
                               run->model->name, name, name);
        }
    }
    secrets_free(secrets);
    return status;
}

// add_create adds a statement for the coordinator: it replaces what a state folder holds.
static int add_create(struct buf *out, const struct model *model) {
    static const char plain[] = "CREATE MODEL", replace[] = "CREATE OR REPLACE MODEL";
    struct buf sql;
    buf_init(&sql, SQL_MAX);
    int status = model_to_sql(model, &sql);
    bool is_plain = status == 0 && slice_starts(buf_slice(&sql), plain);
    struct slice rest = buf_slice(&sql);
    if (is_plain) {
        status = buf_add_str(out, replace);
        rest = slice_sub(rest, strlen(plain), rest.n);
    }
    status = status ? status : buf_add_slice(out, rest);
    buf_free(&sql);
    return status;
}

// make_create writes the statements of a model and of those that may be asked instead, also by --set.
static int make_create(struct run *run, const struct model *model, struct error *why) {
    const struct model *chain[MODEL_CHAIN_MAX], *set[MODEL_CHAIN_MAX];
    int n = setup_chain(&run->statements, model, chain, why);
    int n_set = n < 0 ? n : setup_chain(&run->statements, run->model, set, why);
    if (n_set < 0) {
        return n_set;
    }
    buf_init(&run->create, SQL_MAX);
    int status = 0;
    for (int i = 0; status == 0 && i < n; i++) {
        status = add_create(&run->create, chain[i]);
    }
    bool is_other = strcmp(model->options.fallback_model, run->model->options.fallback_model) != 0;
    for (int i = 0; is_other && status == 0 && i < n_set; i++) {
        status = add_create(&run->create, set[i]);
    }
    status = status ? status : add_create(&run->create, model);
    return status == 0 ? 0 : error_set(why, status, "the models are longer than %d bytes", SQL_MAX);
}

// check_budget refuses a budget that could not be kept.
static int check_budget(const struct run *run, struct error *why) {
    const struct model_options *o = &run->model->options;
    struct price price;
    if ((isnan(o->budget_usd) && isnan(o->budget_usd_day)) || prices_of(run->prices, o, &price) ||
        run->options.dry_run) {
        return 0;
    }
    return error_set(why, -EINVAL,
                     "a budget needs a price: none of model '%s' is known; say --set price.input=... "
                     "--set price.output=..., or price.call, or --prices FILE", o->model);
}

static int load_model(struct run *run, struct error *why) {
    const struct run_options *o = &run->options;
    int status = setup_load_models(o->file, &run->statements, why);
    if (status < 0) {
        return status;
    }
    const struct model *model = setup_find_model(&run->statements, o->file, o->model, why);
    if (model == NULL) {
        return -ENOENT;
    }
    struct model_setting *overrides = NULL;
    status = setup_overrides(&o->set, &overrides, why);
    size_t n = o->set.n;
    buf_init(&run->overrides, 64 * 1024);
    buf_init(&run->asked, 64 * 1024);
    status = status ? status : setup_pack_overrides(overrides, n, &run->asked, why);
    if (status == 0) {
        int n_all = setup_budget(&overrides, n, o->budget_usd, BUDGET_NAME, why);
        status = n_all < 0 ? n_all : 0;
        n = n_all < 0 ? n : (size_t)n_all;
    }
    if (status == 0) {
        run->model = model_override(model, overrides, n, why);
        status = run->model == NULL ? -EINVAL : 0;
        if (status < 0) {
            error_prefix(why, "--set: ");
        }
    }
    if (status == 0 && run->model->options.on_error == ON_ERROR_DEAD_LETTER) {
        status = error_set(why, -EINVAL,
                           "option 'on.error': got 'dead-letter', want 'error-row' or 'fail': every row of a "
                           "run comes out (say --set on.error=error-row)");
    }
    status = status ? status : setup_pack_overrides(overrides, n, &run->overrides, why);
    status = status ? status : make_create(run, model, why);
    status = status ? status : check_budget(run, why);
    setup_free_overrides(overrides, n);
    return status || o->dry_run ? status : check_secrets(run, why);
}

// choose_state: answers that may take a day want a folder to go on from, also when none is named.
static int choose_state(struct run *run, struct error *why) {
    struct run_options *o = &run->options;
    if (run->model->options.mode == MODE_ONLINE) {
        return o->detach ? error_set(why, -EINVAL, "--detach: the mode of model '%s' is online, want batch or auto",
                                     run->model->name)
                         : 0;
    }
    if (o->dry_run || *o->state != '\0') {
        return 0;
    }
    if (strcmp(o->output, "-") == 0) {
        return error_set(why, -EINVAL,
                         "--state: got nothing, want a folder to go on from: the answers to jobs may take a day "
                         "(with --output FILE it is FILE.state)");
    }
    struct buf path;
    buf_init(&path, STATE_PATH_MAX);
    int status = buf_addf(&path, "%s.state", o->output);
    if (status == 0) {
        free((char *)o->state);
        o->state = mem_dup(path.p, path.n + 1);
    } else {
        error_set(why, status, "--state: '%s.state' is too long a name, name another", o->output);
    }
    buf_free(&path);
    return status;
}

// ---- Input and output ---------------------------------------------------------------------------

static int open_input(struct run *run, struct error *why) {
    const struct run_options *o = &run->options;
    struct rows_config config = {
        .files = o->input.items,
        .n_files = o->input.n,
        .column = run->model->n_input == 1 ? run->model->input[0].name : NULL,
        .max_bytes = run->model->n_images > 0 ? RECORD_LONG_MAX_BYTES : RECORD_MAX_BYTES,
    };
    int status = rows_format_parse("--format", o->format, &config.format, why);
    if (status < 0) {
        return status;
    }
    const struct images_config images = {
        .model = run->model, .folder = o->image_folder, .max_bytes = (size_t)o->image_max_bytes};
    run->images = images_new(&images);
    run->rows = rows_open(&config, why);
    return run->rows != NULL ? 0 : -EINVAL;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

static int choose_output(struct run *run, struct error *why) {
    const struct run_options *o = &run->options;
    enum rows_format format = ROWS_AUTO;
    int status = rows_format_parse("--output-format", o->output_format, &format, why);
    if (status < 0) {
        return status;
    }
    if (format == ROWS_TEXT) {
        return error_set(why, -EINVAL, "--output-format: got text, want auto, jsonl or csv");
    }
    bool in_csv = rows_format(run->rows) == ROWS_CSV;
    bool is_tsv = ends_with(o->output, ".tsv"), is_table = is_tsv || ends_with(o->output, ".csv");
    run->merge = (struct merge){
        .model = run->model,
        .meta = o->meta != 0,
        .csv = format == ROWS_CSV || (format == ROWS_AUTO && in_csv && is_table),
        .delimiter = is_tsv ? '\t' : is_table ? ',' : rows_delimiter(run->rows),
    };
    if (run->merge.csv && !in_csv) {
        return error_set(why, -EINVAL,
                         "--output-format: CSV can only be written from CSV: is --format csv meant?");
    }
    if (run->merge.csv && rows_await_header(run->rows, why) < 0) {
        return -EINVAL;
    }
    run->merge.header = rows_header(run->rows, &run->merge.n_header);
    if (run->merge.csv && run->merge.delimiter != rows_delimiter(run->rows)) {
        return error_set(why, -EINVAL, "input and output must be both .csv or both .tsv");
    }
    return 0;
}

static int check_output_name(const struct run_options *o, struct error *why) {
    for (size_t i = 0; i < o->input.n; i++) {
        if (strcmp(o->input.items[i], o->output) == 0 && strcmp(o->output, "-") != 0) {
            return error_set(why, -EINVAL, "'%s' is input and output", o->output);
        }
    }
    return 0;
}

static int open_output(struct run *run, struct error *why) {
    int64_t offset = run->journal != NULL ? journal_last(run->journal)->offset : 0;
    int status = run->journal != NULL && !run->is_stuck
                     ? output_open_at(&run->output, run->options.output, offset, why)
                     : output_open(&run->output, run->options.output, false, why);
    if (status == 0 && offset == 0) {
        status = merge_header(&run->merge, &run->output.lines);
    }
    return status;
}

// sync_folder_of makes the name of a new output file survive a power cut.
static int sync_folder_of(const char *file, struct error *why) {
    char *copy = mem_dup_str(file);
    int status = state_sync(dirname(copy), why);
    free(copy);
    return status;
}

// take_last goes on with the counts of the earlier starts.
static void take_last(struct run *run) {
    const struct journal_step *last = journal_last(run->journal);
    run->n_resumed = run->n_written = run->n_safe = last->rows;
    run->n_ok = last->ok;
    for (size_t i = 0; i < last->n_codes; i++) {
        memcpy(run->codes[i].code, last->codes[i].code, sizeof(run->codes[i].code));
        run->codes[i].n = last->codes[i].n;
    }
    run->n_codes = last->n_codes;
    run->before = (struct counters){
        .calls = (uint64_t)last->used[RUN_USED_CALLS],
        .calls_failed = (uint64_t)last->used[RUN_USED_FAILED],
        .retries = (uint64_t)last->used[RUN_USED_RETRIES],
        .calls_ambiguous = (uint64_t)last->used[RUN_USED_AMBIGUOUS],
        .input_tokens = (uint64_t)last->used[RUN_USED_INPUT],
        .output_tokens = (uint64_t)last->used[RUN_USED_OUTPUT],
        .cost = last->used[RUN_USED_COST],
        .calls_unpriced = (uint64_t)last->used[RUN_USED_UNPRICED],
        .ambiguous_timeout = (uint64_t)last->used[RUN_USED_TIMEOUT],
        .ambiguous_broken = (uint64_t)last->used[RUN_USED_BROKEN],
        .ambiguous_lost = (uint64_t)last->used[RUN_USED_LOST],
        .ambiguous_crash = (uint64_t)last->used[RUN_USED_CRASH],
        .resolved_lost = (uint64_t)last->used[RUN_USED_RESOLVED_LOST],
        .resolved_crash = (uint64_t)last->used[RUN_USED_RESOLVED_CRASH],
    };
}

// prepare_state locks the state folder, and looks whether there is something to go on with.
// Returns an enum resume_kind or a negative errno with why.
static int prepare_state(struct run *run, struct error *why) {
    int kind = state_open(&run->state, run->options.state, why);
    if (kind < 0 || run->state.is_temporary) {
        return kind < 0 ? kind : (int)RESUME_ANEW;
    }
    kind = run_resume_decide(run, &program, why);
    if (kind == RESUME_ON || kind == RESUME_DONE) {
        take_last(run);
    }
    return kind;
}

static int check_choices(const struct run_options *o, struct error *why) {
    static const char *const durabilities[] = {"always", "everysec", "none"};
    enum log_level level;
    if (o->output[0] == '\0' && !o->dry_run) {
        return error_set(why, -EINVAL, "--output: got nothing, want where the rows go (or --dry-run)");
    }
    if (o->ca_file[0] != '\0' && access(o->ca_file, R_OK) != 0) {
        return error_set(why, -errno, "--ca-file %s: %s", o->ca_file, strerror(errno));
    }
    int status = log_level_parse(o->log_level, &level, why);
    if (status < 0) {
        error_prefix(why, "--log-level: ");
        return status;
    }
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(o->durability, durabilities[i]) == 0) {
            return 0;
        }
    }
    return error_set(why, -EINVAL, "--durability: got '%s', want always, everysec or none",
                     o->durability);
}

// ---- The end ------------------------------------------------------------------------------------

static const char *ended_text(const struct run *run) {
    if (run->is_detached) {
        return "detached";
    }
    switch (run->exit_code) {
    case EXIT_ALL_OK:
    case EXIT_ROW_ERRORS:
        return "finished";
    case EXIT_PROVIDER:
        return "stopped by the provider";
    case EXIT_BUDGET:
        return "stopped by the budget";
    case EXIT_INTERRUPTED:
        return "interrupted";
    default:
        return "not finished";
    }
}

static void tell(const struct run *run) {
    const struct model_options *o = &run->model->options;
    char model[512], price_text[256];
    snprintf(model, sizeof(model), "%s (%s %s)", run->model->name, o->provider, o->model);
    struct price price;
    bool is_priced = prices_of(run->prices, o, &price);
    if (is_priced && price.as_of[0] != '\0') {
        snprintf(price_text, sizeof(price_text), "price of %s as of %s", price.model, price.as_of);
    } else {
        snprintf(price_text, sizeof(price_text), "price as the model says");
    }
    uint64_t asked = run->n_written;
    for (size_t i = 0; i < run->n_codes; i++) {
        if (strcmp(run->codes[i].code, outcome_of(OUTCOME_BAD_RECORD)->text) == 0 ||
            strcmp(run->codes[i].code, outcome_of(OUTCOME_TOO_LONG)->text) == 0) {
            asked -= run->codes[i].n;
        }
    }
    struct counters total = run->before;
    counters_add(&total, &run->counters);
    const struct counters *c = &total;
    struct progress_summary summary = {
        .ended = ended_text(run),
        .model = model,
        .rows = run->n_written,
        .ok = run->n_ok,
        .codes = run->codes,
        .n_codes = run->n_codes,
        .missing = run->n_read > run->n_written ? run->n_read - run->n_written : 0,
        .has_more = !run->at_end,
        .is_detached = run->is_detached,
        .asked = asked,
        .resumed = run->n_resumed,
        .calls = c->calls,
        .calls_failed = c->calls_failed,
        .retries = c->retries,
        .outages = c->outages,
        .outage_seconds = c->outage_seconds,
        .is_out = run->counters.pools_out > 0,
        .ambiguous = c->calls_ambiguous - c->resolved_lost - c->resolved_crash,
        .timed_out = c->ambiguous_timeout,
        .broken = c->ambiguous_broken,
        .lost = c->ambiguous_lost - c->resolved_lost,
        .crashed = c->ambiguous_crash - c->resolved_crash,
        .again = run->n_again,
        .input_tokens = c->input_tokens,
        .output_tokens = c->output_tokens,
        .cost = c->cost,
        .unpriced = c->calls_unpriced,
        .price = is_priced ? price_text : NULL,
        .seconds = (double)(clock_us() - run->start_us) / 1e6,
        .output = run->output.name,
    };
    struct buf text;
    buf_init(&text, SUMMARY_MAX);
    if (progress_summary_text(&summary, &text) == 0) {
        fputs(text.p, stderr);
    }
    buf_free(&text);
}

// tell_errors is what --quiet leaves of that.
static void tell_errors(const struct run *run) {
    struct progress_summary summary = {
        .rows = run->n_written,
        .ok = run->n_ok,
        .codes = run->codes,
        .n_codes = run->n_codes,
    };
    struct buf text;
    buf_init(&text, SUMMARY_MAX);
    if (run->n_written > run->n_ok && progress_errors(&summary, &text) == 0) {
        client_say(0, "rows that ended as errors: %s", text.p);
    }
    buf_free(&text);
}

static void tell_end(const struct run *run) {
    if (run->options.quiet) {
        tell_errors(run);
    } else {
        tell(run);
    }
}

static void run_free(struct run *run) {
    for (size_t i = 0; i < run->n_secret_names; i++) {
        free(run->secret_names[i]);
    }
    free(run->secret_names);
    rows_close(run->rows);
    images_free(run->images);
    output_close(&run->output);
    buf_free(&run->create);
    buf_free(&run->overrides);
    buf_free(&run->asked);
    free(run->journal_path);
    journal_close(run->journal);
    prices_free(run->prices);
    limits_file_free(run->limits);
    model_free(run->model);
    statements_free(&run->statements);
    options_free(&program, &run->options);
}

// is_failed says whether the logs of the parts may tell why the run ended.
static bool is_failed(const struct run *run) {
    return run->exit_code == EXIT_PART_LOST ||
           (run->exit_code == EXIT_NO_START && run->embedded_began);
}

// tell_rest says how to go on after a run that did not finish, and what it leaves in which folder.
static void tell_rest(const struct run *run) {
    int code = run->exit_code;
    bool is_cut = code > EXIT_ROW_ERRORS || run->is_detached;
    const char *folder = run->state.path;
    if (run->journal != NULL && !run->is_stuck && is_cut) {
        client_say(0, "to go on: headrace run --resume --state %s%s", folder,
                   code == EXIT_BUDGET && *run->options.budget_usd != '\0' ? " --budget-usd MORE" : "");
        return;
    }
    if (run->journal != NULL && (is_cut || run->options.keep_state)) {
        client_say(0, "the state folder is %s", folder);
    }
    if (run->journal == NULL && (is_failed(run) || run->options.keep_state)) {
        client_say(0, "the logs are in folder %s, to be removed when they are read", folder);
    }
    if (run->journal == NULL && is_cut && code != EXIT_BAD_USE) {
        client_say(0, "this run cannot go on: only one that is started with --state DIR can");
    }
}

// move runs the loop and tells how it went.
static int move(struct run *run, struct error *why) {
    if (run_flow_start(run, why) < 0) {
        run->exit_code = EXIT_NO_START;
        run_flow_free(run);
        return client_say(EXIT_NO_START, "%s", why->text);
    }
    loop_run(run->loop);
    progress_clear(run->progress);
    int code = run->exit_code;
    if (run->why.text[0] != '\0') {
        client_say(code, "%s", run->why.text);
    }
    if (code != EXIT_NO_START) {
        tell_end(run);
    }
    tell_rest(run);
    run_flow_free(run);
    return code;
}

// say_done tells of a run that had finished already.
static int say_done(struct run *run) {
    run->exit_code = run->n_ok == run->n_written ? EXIT_ALL_OK : EXIT_ROW_ERRORS;
    client_say(0, "this run has finished already, nothing is asked again; to ask anew remove folder %s, "
                  "or name another", run->state.path);
    run->start_us = clock_us();
    run->output.name = run->options.output;
    tell_end(run);
    return run->exit_code;
}

// start does what follows once the words of the command are known to be right.
static int start(struct run *run, struct error *why) {
    int kind = check_output_name(&run->options, why);
    kind = kind < 0 ? kind : prepare_state(run, why);
    int code;
    if (kind == RESUME_DONE) {
        code = say_done(run);
    } else if (kind < 0 || open_output(run, why) < 0 ||
               (run->journal != NULL && sync_folder_of(run->options.output, why) < 0)) {
        code = client_say(EXIT_NO_START, "%s", why->text);
    } else {
        code = move(run, why);
    }
    if (kind == RESUME_ANEW && !run->is_created && run->journal != NULL) {
        run_resume_forget(run); // no row was sent
    }
    // The logs of what went wrong stay to be looked at.
    state_close(&run->state, !is_failed(run) && !run->options.keep_state);
    return code;
}

// ---- Without a call -----------------------------------------------------------------------------

static void say_bad_row(void *arg, const struct error *why) {
    client_say(0, "%s", why->text);
}

// try_out is --dry-run.
static int try_out(struct run *run, struct error *why) {
    const struct run_options *o = &run->options;
    const struct limits_row *row = limits_file_find(run->limits, &run->model->options);
    struct model model = *run->model; // borrows
    if (row != NULL) {
        limits_row_apply(row, &model.options);
    }
    const struct dry_run_config config = {
        .model = &model,
        .prices = run->prices,
        .rows = run->rows,
        .images = run->images,
        .id_column = o->id_column,
        .key_column = o->key_column,
        .partitions = o->partitions,
        .answer_tokens = o->answer_tokens,
        .budget_usd = isnan(run->model->options.budget_usd) ? 0 : run->model->options.budget_usd,
        .bad = say_bad_row,
    };
    struct dry_run sums;
    if (dry_run_count(&config, &sums, why) < 0) {
        return client_say(EXIT_BAD_USE, "%s", why->text);
    }
    if (sums.bad > DRY_RUN_SHOWN) {
        client_say(0, "... and %llu more rows that cannot be asked",
                   (unsigned long long)(sums.bad - DRY_RUN_SHOWN));
    }
    struct buf text;
    buf_init(&text, SUMMARY_MAX);
    if (dry_run_text(&config, &sums, &text) == 0) {
        fputs(text.p, stdout);
    }
    buf_free(&text);
    return sums.bad > 0 ? EXIT_ROW_ERRORS : EXIT_ALL_OK;
}

int run_main(int argc, char **argv) {
    struct run run = {.output.fd = -1, .state.lock = -1};
    struct error why = {0};
    log_setup("run", LOG_WARN);
    int code = EXIT_BAD_USE;
    if (run_resume_args(&program, &argc, &argv, &why) < 0 ||
        options_parse(&program, argc, argv, &run.options, NULL, &why) < 0 ||
        check_choices(&run.options, &why) < 0 ||
        prices_load(run.options.prices, &run.prices, &why) < 0 ||
        limits_file_load(run.options.limits, &run.limits, &why) < 0 || load_model(&run, &why) < 0 ||
        choose_state(&run, &why) < 0) {
        client_say(code, "%s", why.text);
        run_free(&run);
        return code;
    }
    run_resume_order(&run);
    if (open_input(&run, &why) < 0 || (!run.options.dry_run && choose_output(&run, &why) < 0)) {
        client_say(code, "%s", why.text);
    } else if (run.options.dry_run) {
        code = try_out(&run, &why);
    } else {
        code = start(&run, &why);
    }
    run_free(&run);
    return code;
}
