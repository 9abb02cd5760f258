// `headrace submit`: the rows of files into a coordinator, until every one is durable there.
// A row that cannot be read goes in as a JSON string that says why, so that an error result comes out
// in its place: nothing is dropped.
#include "client/ask.h"
#include "client/commands.h"
#include "client/images.h"
#include "client/progress.h"
#include "client/rows.h"
#include "client/sender.h"
#include "client/setup.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "proto/record.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#define FEED_ROWS 2000
#define AHEAD_ROWS 50000 // added and not yet acked
#define WATCH_MS 250
#define STILL_MS 3000    // when nothing is taken for this long it is said

struct submit_options {
#define OPTION OPTION_FIELD
#include "client/submit_options.def"
#undef OPTION
};

static const struct option_spec rows_of_options[] = {
#define OPTION(...) OPTION_ROW(submit_options, __VA_ARGS__)
#include "client/submit_options.def"
#undef OPTION
};

static const struct option_program program = {
    .name = "headrace submit",
    .args = "",
    .text = "Sends the rows of files to a coordinator and waits until all of them are durable there.",
    .after = "Exit status: 0 all rows accepted; 1 some rows could not be read (they become error "
             "results); 2 wrong options, models or input; 5 no coordinator; 130 interrupted.",
    .rows = rows_of_options,
    .n_rows = sizeof(rows_of_options) / sizeof(*rows_of_options),
};

struct submit {
    struct submit_options options;
    struct rows *rows;
    struct statements statements; // that hold the model of --model, if any was found
    struct images *images; // NULL: that has no column of IMAGE
    struct loop *loop;
    struct sender *sender;
    struct progress *progress;
    struct loop_timer *retry; // standard input had nothing
    bool at_end, is_waiting;
    bool has_model;     // the first row can be answered
    int exit_code;
    uint64_t n_bad;
    uint64_t last_acked;
    int64_t acked_us;   // when that last grew
    int64_t start_us, moved_us; // moved: acked grew, or there was nothing to wait for
    struct buf bad;
    char producer[160]; // its name
};

static void stop(struct submit *submit, int code) {
    submit->exit_code = code;
    loop_stop(submit->loop);
}

static struct slice bad_row(struct submit *submit, const struct rows_row *row) {
    progress_clear(submit->progress);
    submit->n_bad++;
    client_say(0, "%s", row->why.text);
    buf_clear(&submit->bad);
    return json_add_string(&submit->bad, slice_of(row->why.text)) == 0 ? buf_slice(&submit->bad)
                                                                       : SLICE_LIT("\"\"");
}

// with_images reads the files that a row names. A row whose files cannot be read goes in as it is: it keeps
// its id, and the coordinator refuses a path.
static struct slice with_images(struct submit *submit, const struct rows_row *row) {
    struct error why = {0};
    struct slice json = row->json;
    if (submit->images != NULL && images_fill(submit->images, row->file, row->json, &json, &why) != 0) {
        progress_clear(submit->progress);
        submit->n_bad++;
        client_say(0, "%s:%llu: %s", row->file, (unsigned long long)row->line, why.text);
    }
    return json;
}

static void on_retry(void *arg) {
    struct submit *submit = arg;
    submit->is_waiting = false;
}

static int take_model(void *arg, const struct row *row) {
    bool *has_model = arg;
    *has_model = row->model.n > 0;
    return 0;
}

// names_model says whether a row is enveloped and names a model.
static bool names_model(struct slice json) {
    bool has_model = false;
    return rows_read(json, NULL, take_model, &has_model) > 0 && has_model;
}

// check_model looks at the first row that can be read. Returns false when no model would answer it;
// then no row of the files is sent.
static bool check_model(struct submit *submit, const struct rows_row *row) {
    if (!submit->has_model && row->outcome == OUTCOME_OK) {
        submit->has_model = *submit->options.model != '\0' || names_model(row->json);
        if (!submit->has_model) {
            progress_clear(submit->progress);
            stop(submit, client_say(EXIT_BAD_USE,
                                    "%s:%llu: names no model: say --model NAME, or send rows "
                                    "{\"model\": NAME, \"fields\": {...}}",
                                    row->file, (unsigned long long)row->line));
        }
        return submit->has_model;
    }
    return true;
}

static void feed(struct submit *submit) {
    for (int i = 0; !submit->at_end && !submit->is_waiting; i++) {
        uint64_t ahead = sender_added(submit->sender) - sender_acked(submit->sender);
        bool is_full = sender_added(submit->sender) > sender_acked(submit->sender) &&
                       ahead >= AHEAD_ROWS;
        if (is_full || sender_room(submit->sender) == 0) {
            return;
        }
        if (i == FEED_ROWS) {
            loop_wake(submit->loop);
            return;
        }
        struct rows_row row;
        struct error why = {0};
        int status = rows_next(submit->rows, &row, &why);
        if (status == -EAGAIN) {
            submit->is_waiting = true;
            loop_timer_start(submit->retry, 20, 0);
        } else if (status < 0) {
            stop(submit, client_say(EXIT_BAD_USE, "%s", why.text));
            return;
        } else if (status == 0) {
            submit->at_end = true;
            sender_end(submit->sender);
        } else if (!check_model(submit, &row)) {
            return;
        } else {
            sender_add(submit->sender, row.outcome == OUTCOME_OK ? with_images(submit, &row) : bad_row(submit, &row));
        }
    }
}

static void on_turn_end(void *arg) {
    struct submit *submit = arg;
    feed(submit);
    if (submit->exit_code == EXIT_BAD_USE) {
        return;
    }
    sender_push(submit->sender);
    uint64_t acked = sender_acked(submit->sender);
    if (acked != submit->last_acked || submit->is_waiting) {
        submit->last_acked = acked;
        submit->moved_us = submit->acked_us = clock_us();
    }
    if (submit->at_end && acked >= sender_added(submit->sender)) {
        stop(submit, submit->n_bad > 0 ? EXIT_ROW_ERRORS : EXIT_ALL_OK);
    }
}

static void on_watch(void *arg) {
    struct submit *submit = arg;
    struct progress_view view = {
        .done = submit->last_acked,
        .total = submit->at_end ? sender_added(submit->sender) : 0,
        .total_is_exact = true,
        .seconds = (double)(clock_us() - submit->start_us) / 1e6,
        .errors = submit->n_bad,
    };
    char waiting[96] = "";
    int64_t still_ms = (clock_us() - submit->acked_us) / 1000;
    if (still_ms > STILL_MS) {
        snprintf(waiting, sizeof(waiting), "no row was taken for %lld s: headrace status says why",
                 (long long)still_ms / 1000);
        view.waiting = waiting;
    }
    progress_show(submit->progress, &view, false);
    // An open dialogue whose acks do not grow is back-pressure, and may last.
    int64_t silent_ms = (clock_us() - submit->moved_us) / 1000;
    if (!sender_is_open(submit->sender) && silent_ms > submit->options.timeout) {
        progress_clear(submit->progress);
        stop(submit, client_say(EXIT_PART_LOST, "coordinator '%s': no connection for %lld s",
                                submit->options.coordinator, (long long)silent_ms / 1000));
    } else if (sender_is_open(submit->sender)) {
        submit->moved_us = clock_us();
    }
}

static void on_room(void *arg) {
    // The end of this turn feeds.
}

static void on_refused(void *arg, struct slice code, struct slice message) {
    struct submit *submit = arg;
    progress_clear(submit->progress);
    stop(submit, client_say(EXIT_BAD_USE, "the coordinator takes no rows: %.*s: %.*s",
                            SLICE_FMT(code), SLICE_FMT(message)));
}

static void on_interrupt(void *arg) {
    stop(arg, EXIT_INTERRUPTED);
}

static void tell(const struct submit *submit, const char *producer) {
    char a[32], b[32];
    uint64_t acked = sender_acked(submit->sender), accepted = sender_accepted(submit->sender);
    fprintf(stderr, "headrace: %s rows accepted as producer %s", progress_number(acked, a), producer);
    if (accepted > 0) {
        fprintf(stderr, ", %s of them earlier", progress_number(accepted, b));
    }
    if (submit->n_bad > 0) {
        fprintf(stderr, "; %s could not be read", progress_number(submit->n_bad, b));
    }
    fprintf(stderr, ", %.1f s\n", (double)(clock_us() - submit->start_us) / 1e6);
}

static int move(struct submit *submit, struct slice overrides) {
    const struct submit_options *o = &submit->options;
    struct sender_config config = {
        .address = o->coordinator,
        .name = submit->producer,
        .model = o->model,
        .options = overrides,
        .id_column = o->id_column,
        .key_column = o->key_column,
    };
    struct sender_handlers handlers = {.on_room = on_room, .on_refused = on_refused, .arg = submit};
    struct error why = {0};
    void *zmq = zmq_ctx_new();
    buf_init(&submit->bad, 64 * 1024);
    submit->loop = loop_new();
    submit->start_us = submit->moved_us = submit->acked_us = clock_us();
    submit->progress = progress_new(stderr, o->quiet != 0);
    submit->retry = loop_add_timer(submit->loop, on_retry, submit);
    submit->sender = sender_new(submit->loop, zmq, &config, &handlers, &why);
    if (submit->sender == NULL) {
        submit->exit_code = client_say(EXIT_BAD_USE, "%s", why.text);
    } else {
        loop_on_signal(submit->loop, SIGINT, on_interrupt, submit);
        loop_on_signal(submit->loop, SIGTERM, on_interrupt, submit);
        loop_at_turn_end(submit->loop, on_turn_end, submit);
        loop_timer_start(loop_add_timer(submit->loop, on_watch, submit), WATCH_MS, WATCH_MS);
        loop_run(submit->loop);
        progress_clear(submit->progress);
        if (!o->quiet) {
            tell(submit, config.name);
        }
    }
    progress_free(submit->progress);
    sender_free(submit->sender);
    loop_free(submit->loop);
    zmq_ctx_term(zmq);
    buf_free(&submit->bad);
    return submit->exit_code;
}

static const struct model *model_named(const struct statements *list, const char *name) {
    for (size_t i = list->n; i > 0; i--) {
        if (strcmp(list->items[i - 1].model->name, name) == 0) {
            return list->items[i - 1].model;
        }
    }
    return NULL;
}

// find_images looks whether the model of --model has columns of IMAGE: in the file of models, or at the
// coordinator. One that cannot be found has none; whoever takes the rows says so. Returns 0, or -ETIMEDOUT
// with why.
static int find_images(struct submit *submit, struct error *why) {
    const struct submit_options *o = &submit->options;
    int status = 0;
    const struct model *model = NULL;
    if (*o->model != '\0' && *o->file != '\0' && setup_load_models(o->file, &submit->statements, why) == 0) {
        model = model_named(&submit->statements, o->model);
    }
    if (*o->model != '\0' && model == NULL) {
        statements_free(&submit->statements);
        status = ask_model(o->coordinator, o->model, o->timeout, &submit->statements, why);
        model = status == 0 ? model_named(&submit->statements, o->model) : NULL;
    }
    const struct images_config config = {
        .model = model, .folder = o->image_folder, .max_bytes = (size_t)o->image_max_bytes};
    submit->images = model != NULL ? images_new(&config) : NULL;
    return status == -ETIMEDOUT ? status : 0;
}

// prepare reads what the user gave, and creates the models. Returns 0 or the exit code.
static int prepare(struct submit *submit, struct buf *overrides) {
    const struct submit_options *o = &submit->options;
    struct error why = {0};
    if (find_images(submit, &why) != 0) {
        return client_say(EXIT_PART_LOST, "%s", why.text);
    }
    struct rows_config config = {
        .files = o->input.items,
        .n_files = o->input.n,
        .column = o->column,
        .max_bytes = submit->images != NULL ? RECORD_LONG_MAX_BYTES : RECORD_MAX_BYTES,
    };
    struct model_setting *settings = NULL;
    int status = rows_format_parse("--format", o->format, &config.format, &why);
    status = status ? status : setup_overrides(&o->set, &settings, &why);
    size_t n = settings != NULL ? o->set.n : 0;
    if (status == 0) {
        int n_all = setup_budget(&settings, n, o->budget_usd, submit->producer, &why);
        status = n_all < 0 ? n_all : 0;
        n = n_all < 0 ? n : (size_t)n_all;
    }
    status = status ? status : setup_pack_overrides(settings, n, overrides, &why);
    setup_free_overrides(settings, n);
    if (status == 0) {
        submit->rows = rows_open(&config, &why);
        status = submit->rows == NULL ? -EINVAL : 0;
    }
    if (status == 0 && *o->file != '\0') {
        struct statements list = {0};
        status = setup_load_models(o->file, &list, &why);
        statements_free(&list);
        status = status ? status
                        : ask_create(o->coordinator, o->file, o->timeout, NULL, &why);
    }
    if (status == 0) {
        return 0;
    }
    return client_say(status == -ETIMEDOUT ? EXIT_PART_LOST : EXIT_BAD_USE, "%s", why.text);
}

int submit_main(int argc, char **argv) {
    struct submit submit = {0};
    struct error why = {0};
    struct buf overrides;
    buf_init(&overrides, 64 * 1024);
    log_setup("submit", LOG_WARN);
    int code = EXIT_BAD_USE;
    if (options_parse(&program, argc, argv, &submit.options, NULL, &why) < 0) {
        client_say(code, "%s", why.text);
    } else {
        const char *given = submit.options.producer;
        snprintf(submit.producer, sizeof(submit.producer), "submit-%lld-%d", (long long)clock_unix_ms(),
                 (int)getpid());
        if (*given != '\0') {
            slice_copy(slice_of(given), submit.producer, sizeof(submit.producer));
        }
        code = prepare(&submit, &overrides);
        code = code ? code : move(&submit, buf_slice(&overrides));
    }
    rows_close(submit.rows);
    images_free(submit.images);
    statements_free(&submit.statements);
    buf_free(&overrides);
    options_free(&program, &submit.options);
    return code;
}
