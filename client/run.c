// `headrace run`: a file through a model, with everything that takes started and ended here. This
// file reads what the user gave and refuses what is wrong before anything starts (run_model.c: of the
// model); run_flow.c does the work, and run_tell.c says at the end how it went.
#include "client/run.h"

#include "client/commands.h"
#include "client/dry_run.h"
#include "client/run_model.h"
#include "client/run_resume.h"
#include "client/run_tell.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "proto/record.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUMMARY_MAX (64 * 1024)

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

// ---- State, input and output --------------------------------------------------------------------

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

// ---- The run ------------------------------------------------------------------------------------

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
        run_tell_end(run);
    }
    run_tell_rest(run);
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
    run_tell_end(run);
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
    state_close(&run->state, !run_is_failed(run) && !run->options.keep_state);
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
        limits_file_load(run.options.limits, &run.limits, &why) < 0 || run_model_load(&run, &why) < 0 ||
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
