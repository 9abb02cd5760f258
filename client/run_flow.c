// The moving parts of `headrace run`, wired to one loop:
//
//   rows ─▶ order (holds each row) ─▶ sender ─▶ coordinator ─▶ taker ─▶ merge ─▶ order ─▶ output
//
// Invariant: a row is in the order from the moment it is read until its line is written; a result is
// acked only after the line it became was written, durably if the run can go on after a crash. The
// window bounds how far rows are read ahead of the last one that is safe. A result that is not acked
// holds back the acks of those that came after it, which are at most a window ahead of its row: two
// windows are the taker's credit, so that they can never keep the result of the first row out.
#include "client/run.h"
#include "client/run_control.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define WINDOW_ROWS 50000              // held
#define WINDOW_BYTES (64 * 1024 * 1024)
#define JOBS_ROWS 400000               // the same where answers come in jobs: so many records fill some
#define JOBS_BYTES (1024 * 1024 * 1024)
#define FEED_ROWS 2000                 // read in one turn
#define LAST_MS 1000                   // wait for the last STATUS
#define GRACE_MS 10000                 // workers may finish their calls when a run is interrupted
#define LINE_MAX_BYTES (64 * 1024 * 1024)
#define STEP_MS 100                    // lines become durable at most this often,
#define STEP_BYTES (4 * 1024 * 1024)   // or when so many wait
#define PRODUCER "run"                 // the same at every start, so that a state folder knows it

static void stop_parts(struct run *run, int64_t grace_ms) {
    if (run->embedded != NULL) {
        embedded_stop(run->embedded, grace_ms);
    } else {
        loop_stop(run->loop);
    }
}

static void end_flow(struct run *run) {
    run->is_ending = true;
    loop_timer_stop(run->poll);
    loop_timer_stop(run->last);
    loop_timer_stop(run->step);
    if (run->is_waiting_input) {
        uv_poll_stop(&run->input_wait);
        run->is_waiting_input = false;
    }
}

// ---- Steps: what is written becomes durable -----------------------------------------------------

static void fill_step(const struct run *run, struct journal_step *step) {
    struct counters used = run->before;
    counters_add(&used, &run->counters);
    *step = (struct journal_step){
        .offset = run->output.offset,
        .rows = run->n_written,
        .ok = run->n_ok,
        .n_codes = run->n_codes,
        .used = {
            [RUN_USED_CALLS] = (double)used.calls,
            [RUN_USED_FAILED] = (double)used.calls_failed,
            [RUN_USED_RETRIES] = (double)used.retries,
            [RUN_USED_AMBIGUOUS] = (double)used.calls_ambiguous,
            [RUN_USED_INPUT] = (double)used.input_tokens,
            [RUN_USED_OUTPUT] = (double)used.output_tokens,
            [RUN_USED_COST] = used.cost,
            [RUN_USED_UNPRICED] = (double)used.calls_unpriced,
            [RUN_USED_TIMEOUT] = (double)used.ambiguous_timeout,
            [RUN_USED_BROKEN] = (double)used.ambiguous_broken,
            [RUN_USED_LOST] = (double)used.ambiguous_lost,
            [RUN_USED_CRASH] = (double)used.ambiguous_crash,
            [RUN_USED_RESOLVED_LOST] = (double)used.resolved_lost,
            [RUN_USED_RESOLVED_CRASH] = (double)used.resolved_crash,
        },
    };
    for (size_t i = 0; i < run->n_codes; i++) {
        memcpy(step->codes[i].code, run->codes[i].code, sizeof(step->codes[i].code));
        step->codes[i].n = run->codes[i].n;
    }
}

static bool has_steps(const struct run *run) {
    return run->journal != NULL && !run->is_stuck;
}

// make_step writes the lines that wait. Where the run can go on after a crash they are synced, and then
// the journal says so; only after that may their results be acked.
// The loop stands still meanwhile: a few ms on a disk, ten times a second at most.
static int make_step(struct run *run, bool is_end, struct error *why) {
    struct journal_step step;
    int status = output_flush(&run->output, why);
    if (status == 0 && has_steps(run)) {
        status = output_sync(&run->output, why);
    }
    if (status == 0 && (has_steps(run) || (is_end && run->journal != NULL))) {
        fill_step(run, &step);
        step.is_end = is_end;
        status = journal_add(run->journal, &step, why);
    }
    run->stepped_us = clock_us();
    run->n_safe = status == 0 ? run->n_written : run->n_safe;
    return status;
}

// make_step_in_time makes a step when it is time to.
static int make_step_in_time(struct run *run, struct error *why) {
    int64_t since_ms = (clock_us() - run->stepped_us) / 1000;
    bool is_all = run->at_end && run_order_held(run->order) == 0;
    if (!has_steps(run) || is_all || since_ms >= STEP_MS || run->output.lines.n >= STEP_BYTES) {
        loop_timer_stop(run->step);
        return make_step(run, false, why);
    }
    loop_timer_start(run->step, STEP_MS - since_ms, 0);
    return 0;
}

static void on_step(void *arg) {
    // The end of this turn makes it.
}

void run_stop(struct run *run, int exit_code, const char *format, ...) {
    if (run->is_ending) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(run->why.text, sizeof(run->why.text), format, args);
    va_end(args);
    run->exit_code = exit_code;
    // Answers behind a gap: with a state folder they come again, otherwise this is their last chance.
    if (!has_steps(run)) {
        run_order_flush(run->order);
    }
    struct error why = {0};
    if (exit_code != EXIT_NO_START && make_step(run, false, &why) < 0) {
        log_error("output.failed", "why=\"%s\"", why.text);
    }
    end_flow(run);
    bool may_finish = (exit_code == EXIT_INTERRUPTED || run->is_detached) && has_steps(run);
    stop_parts(run, may_finish ? GRACE_MS : 0);
}

// ---- Out: results become lines ------------------------------------------------------------------

static void on_write(void *arg, const struct held *held) {
    struct run *run = arg;
    run->n_written++;
    if (has_steps(run) && run->options.unordered) {
        journal_note(run->journal, held->row);
    }
    if (held->code < 0) {
        run->n_ok++;
    } else {
        run->codes[held->code].n++;
    }
    if (output_add(&run->output, (struct slice){held->out, held->n_out}) < 0 && !run->is_ending) {
        run_stop(run, EXIT_NO_START, "output '%s': too much waits to be written", run->output.name);
    }
}

static void on_ack(void *arg, uint32_t partition, uint64_t oseq) {
    struct run *run = arg;
    if (run->taker != NULL) {
        taker_ack(run->taker, partition, oseq);
    }
}

// code_index finds or makes the counter of an error code; the last one takes all that find no room.
static int code_index(struct run *run, struct slice code) {
    for (size_t i = 0; i < run->n_codes; i++) {
        if (slice_is(code, run->codes[i].code)) {
            return (int)i;
        }
    }
    if (run->n_codes < RUN_CODES_MAX) {
        struct progress_code *made = &run->codes[run->n_codes++];
        slice_copy(run->n_codes < RUN_CODES_MAX ? code : SLICE_LIT("other"), made->code,
                   sizeof(made->code));
    }
    return (int)run->n_codes - 1;
}

static void take_line(struct run *run, struct held *held) {
    held->n_out = run->line.n;
    held->out = mem_dup(run->line.p, run->line.n);
}

// finish_row merges a result into its row.
static void finish_row(struct run *run, struct held *held, struct json_object *result) {
    struct slice text = {held->text, held->n_text};
    struct rows_row row = {.file = held->file, .line = held->line};
    if (run->merge.csv) {
        row.csv = text;
    } else {
        row.json = text;
    }
    buf_clear(&run->line);
    struct json_object *error = json_get(result, "error");
    if (error != NULL && held->why != NULL) {
        json_object_object_add(error, "message", json_object_new_string(held->why));
    }
    held->code = error != NULL ? code_index(run, json_text(json_get(error, "code"))) : -1;
    if (merge_result(&run->merge, &row, result, &run->line) < 0) {
        row.outcome = OUTCOME_TOO_LONG;
        error_set(&row.why, 0, "%s:%llu: the row and its answer are longer than %d bytes", row.file,
                  (unsigned long long)row.line, LINE_MAX_BYTES);
        held->code = code_index(run, slice_of(outcome_of(OUTCOME_TOO_LONG)->text));
        if (merge_bad(&run->merge, &row, &run->line) < 0) {
            run_stop(run, EXIT_PART_LOST, "%s", row.why.text);
        }
    }
    take_line(run, held);
}

// read_result parses a result; NULL: it was none, and the run stops.
static struct json_object *read_result(struct run *run, struct slice json) {
    struct json_object *result = NULL;
    struct error why = {0};
    if (json_parse(json, &result, &why) < 0) {
        run_stop(run, EXIT_PART_LOST, "the coordinator sent a result that is not JSON: %s", why.text);
        return NULL;
    }
    return result;
}

static void on_result(void *arg, uint32_t partition, uint64_t oseq, struct slice json) {
    struct run *run = arg;
    if (run->is_ending) {
        return;
    }
    struct json_object *result = read_result(run, json);
    if (result == NULL) {
        return;
    }
    run->n_results++;
    bool is_ours = slice_is(json_text(json_get(result, "producer")), PRODUCER);
    struct json_object *member = is_ours ? json_get(result, "seq") : NULL;
    uint64_t seq = member != NULL ? (uint64_t)json_object_get_int64(member) : 0;
    if (seq > sender_added(run->sender)) { // answered to an earlier start
        run_order_keep(run->order, seq, json, partition, oseq);
        json_object_put(result);
        return;
    }
    struct held *held = run_order_find(run->order, seq);
    if (held != NULL) {
        finish_row(run, held, result);
    }
    run_order_done(run->order, held, partition, oseq);
    json_object_put(result);
}

static void on_taker_refused(void *arg, struct slice code, struct slice message) {
    struct run *run = arg;
    run_stop(run, EXIT_PART_LOST, "the coordinator gives no results: %.*s: %.*s", SLICE_FMT(code),
             SLICE_FMT(message));
}

// ---- In: rows are read, held and sent -----------------------------------------------------------

static bool is_written(const struct run *run) {
    if (run->n_resumed > 0 && run->options.unordered) {
        return journal_is_done(run->journal, run->n_read);
    }
    return run->n_read <= run->n_resumed;
}

// use_kept finishes a row whose result was there before it.
static void use_kept(struct run *run, struct held *held, struct kept *kept) {
    struct json_object *result = held != NULL ? read_result(run, kept_json(kept)) : NULL;
    if (held != NULL && result == NULL) {
        return;
    }
    if (held != NULL) {
        finish_row(run, held, result);
    }
    run_order_done_kept(run->order, held, &kept);
    json_object_put(result);
}

// skip takes a row whose line is in the output already.
static void skip(struct run *run, const struct rows_row *row) {
    uint64_t seq = row->outcome == OUTCOME_OK ? sender_add(run->sender, row->json) : 0;
    struct kept *kept = seq > 0 ? run_order_kept(run->order, seq) : NULL;
    if (kept != NULL) {
        use_kept(run, NULL, kept);
    }
}

// with_images reads the files that a row names. A row whose files cannot be read is sent as it is: it takes
// a sequence in any case, and the coordinator refuses a path.
static struct slice with_images(struct run *run, const struct rows_row *row, struct held *held) {
    struct error why = {0};
    struct slice json = row->json;
    if (run->images != NULL && images_fill(run->images, row->file, row->json, &json, &why) != 0) {
        held->why = mem_dup_str(why.text);
    }
    return json;
}

static void hold(struct run *run, const struct rows_row *row) {
    if (is_written(run)) {
        skip(run, row);
        return;
    }
    struct held *held = mem_zalloc(sizeof(*held));
    held->row = run->n_read;
    held->file = row->file;
    held->line = row->line;
    if (row->outcome == OUTCOME_OK) {
        held->seq = sender_add(run->sender, with_images(run, row, held));
        struct slice text = run->merge.csv ? row->csv : row->json;
        held->text = mem_dup(text.p, text.n);
        held->n_text = text.n;
    } else {
        buf_clear(&run->line);
        held->code = code_index(run, slice_of(outcome_of(row->outcome)->text));
        if (merge_bad(&run->merge, row, &run->line) < 0) {
            buf_clear(&run->line);
        }
        take_line(run, held);
    }
    uint64_t seq = held->seq;
    run_order_add(run->order, &held);
    struct kept *kept = seq > 0 ? run_order_kept(run->order, seq) : NULL;
    if (kept != NULL) {
        use_kept(run, run_order_find(run->order, seq), kept);
    }
}

static void on_input(uv_poll_t *poll, int status, int events) {
    struct run *run = poll->data;
    uv_poll_stop(poll);
    run->is_waiting_input = false; // the end of this turn reads on
}

static void wait_input(struct run *run) {
    if (!run->has_input_wait) {
        int status = uv_poll_init(loop_uv(run->loop), &run->input_wait, rows_fd(run->rows));
        if (status < 0) {
            run_stop(run, EXIT_BAD_USE, "cannot wait for input: %s", uv_strerror(status));
            return;
        }
        run->input_wait.data = run;
        run->has_input_wait = true;
    }
    int status = uv_poll_start(&run->input_wait, UV_READABLE | UV_DISCONNECT, on_input);
    run->is_waiting_input = status == 0;
    if (status < 0) {
        run_stop(run, EXIT_BAD_USE, "cannot wait for input: %s", uv_strerror(status));
    }
}

static uint64_t window_rows(const struct run *run) {
    return run->model->options.mode == MODE_ONLINE ? WINDOW_ROWS : JOBS_ROWS;
}

static bool has_window(const struct run *run) {
    uint64_t most = window_rows(run);
    return run->n_read < run->n_safe + most && run_order_held(run->order) < most &&
           run_order_held_bytes(run->order) <
               (run->model->options.mode == MODE_ONLINE ? WINDOW_BYTES : JOBS_BYTES);
}

static void feed(struct run *run) {
    for (int i = 0; !run->at_end && !run->is_waiting_input && !run->is_ending; i++) {
        if (!has_window(run) || run->sender == NULL || sender_room(run->sender) == 0) {
            return;
        }
        if (i == FEED_ROWS) {
            loop_wake(run->loop);
            return;
        }
        struct rows_row row;
        struct error why = {0};
        int status = rows_next(run->rows, &row, &why);
        if (status == -EAGAIN) {
            wait_input(run);
        } else if (status < 0) {
            run_stop(run, EXIT_BAD_USE, "%s", why.text);
        } else if (status == 0) {
            run->at_end = true;
            sender_end(run->sender);
        } else {
            run->n_read++;
            hold(run, &row);
        }
    }
}

static void on_room(void *arg) {
    // The end of this turn feeds.
}

static void on_sender_refused(void *arg, struct slice code, struct slice message) {
    struct run *run = arg;
    bool is_input = slice_is(code, "unknown-model") || slice_is(code, "bad-options");
    run_stop(run, is_input ? EXIT_BAD_USE : EXIT_PART_LOST,
             "the coordinator takes no rows: %.*s: %.*s", SLICE_FMT(code), SLICE_FMT(message));
}

// ---- Beginning and end ---------------------------------------------------------------------------

static void start_dialogues(struct run *run) {
    const char *address = run->address;
    struct error why = {0};
    struct sender_config sender = {
        .address = address,
        .name = PRODUCER,
        .model = run->options.model,
        .options = buf_slice(&run->overrides),
        .id_column = run->options.id_column,
        .key_column = run->options.key_column,
    };
    struct sender_handlers on_sender = {
        .on_room = on_room, .on_refused = on_sender_refused, .arg = run};
    struct taker_config taker = {
        .address = address,
        .name = PRODUCER,
        .credit = 2 * (window_rows(run) + FEED_ROWS), // all that is held, so that the next in order always comes
        .meta = run->options.meta,
    };
    struct taker_handlers on_taker = {
        .on_result = on_result, .on_refused = on_taker_refused, .arg = run};
    run->taker = taker_new(run->loop, run->zmq, &taker, &on_taker, &why);
    run->sender = run->taker != NULL ? sender_new(run->loop, run->zmq, &sender, &on_sender, &why)
                                     : NULL;
    if (run->sender == NULL) {
        run_stop(run, EXIT_NO_START, "%s", why.text);
    }
}

void run_flow_created(struct run *run) {
    if (!run->is_created && !run->is_ending) {
        run->is_created = true;
        embedded_start_workers(run->embedded);
        start_dialogues(run);
    }
}

void run_flow_finish(struct run *run) {
    struct error why = {0};
    if (run->is_ending) {
        return;
    }
    if (make_step(run, true, &why) < 0) {
        run_stop(run, EXIT_NO_START, "%s", why.text);
        return;
    }
    end_flow(run);
    run->exit_code = run->n_ok == run->n_written ? EXIT_ALL_OK : EXIT_ROW_ERRORS;
    stop_parts(run, GRACE_MS);
}

static void on_last(void *arg) {
    run_flow_finish(arg); // without the last numbers
}

static void on_turn_end(void *arg) {
    struct run *run = arg;
    struct error why = {0};
    if (run->is_ending) {
        return;
    }
    feed(run);
    if (run->is_ending) {
        return;
    }
    if (run->sender != NULL) {
        sender_push(run->sender);
    }
    if (run->output.lines.n > 0 && make_step_in_time(run, &why) < 0) {
        run_stop(run, EXIT_NO_START, "%s", why.text);
        return;
    }
    if (run->taker != NULL && run->output.lines.n == 0) {
        taker_push(run->taker);
    }
    if (run->at_end && run_order_held(run->order) == 0 && run->output.lines.n == 0 &&
        !run->is_last_asked) {
        run->is_last_asked = true;
        run_control_ask(run);
        loop_timer_start(run->last, LAST_MS, 0);
    }
}

// ---- Life ---------------------------------------------------------------------------------------

static void on_ready(void *arg, const char *address) {
    struct run *run = arg;
    run->address = address;
    run_control_start(run);
}

static void on_lost(void *arg, const struct error *why) {
    struct run *run = arg;
    run_stop(run, run->is_created ? EXIT_PART_LOST : EXIT_NO_START, "%s", why->text);
}

static void on_again(void *arg, bool is_coordinator, const struct error *why) {
    struct run *run = arg;
    run->n_again++;
    if (is_coordinator) { // the next one counts from nothing, but for ambiguous calls
        counters_add(&run->before, &run->counters);
        run->counters = (struct counters){0};
    }
    progress_clear(run->progress);
    client_say(0, "%s", why->text);
}

static void on_stopped(void *arg) {
    struct run *run = arg;
    loop_stop(run->loop);
}

static void on_interrupt(void *arg) {
    struct run *run = arg;
    if (run->is_ending) {
        stop_parts(run, 0); // asked twice: at once
        return;
    }
    progress_clear(run->progress);
    run_stop(run, EXIT_INTERRUPTED, "interrupted");
}

int run_flow_start(struct run *run, struct error *why) {
    const struct run_options *o = &run->options;
    struct embedded_config config = {
        .state = &run->state,
        .is_scratch = run->state.is_temporary && !o->keep_state,
        .workers = o->workers,
        .max_inflight = o->max_inflight,
        .partitions = o->partitions,
        .durability = o->durability,
        .max_bytes = run->model->options.mode == MODE_ONLINE ? "32MB" : "4GB",
        .secrets = o->secrets,
        .ca_file = o->ca_file,
        .prices = o->prices,
        .limits = o->limits,
        .log_level = o->log_level,
        .secret_names = run->secret_names,
        .n_secret_names = run->n_secret_names,
    };
    struct embedded_handlers on_embedded = {
        .on_ready = on_ready,
        .on_again = on_again,
        .on_lost = on_lost,
        .on_stopped = on_stopped,
        .arg = run,
    };
    struct run_order_handlers on_order = {.write = on_write, .ack = on_ack, .arg = run};
    buf_init(&run->line, LINE_MAX_BYTES);
    run->start_us = clock_us();
    run->loop = loop_new();
    run->zmq = zmq_ctx_new();
    run->order = run_order_new(!o->unordered, &on_order);
    run->progress = progress_new(stderr, o->quiet != 0);
    run->poll = loop_add_timer(run->loop, run_control_poll, run);
    run->last = loop_add_timer(run->loop, on_last, run);
    run->step = loop_add_timer(run->loop, on_step, run);
    loop_on_signal(run->loop, SIGINT, on_interrupt, run);
    loop_on_signal(run->loop, SIGTERM, on_interrupt, run);
    loop_on_signal(run->loop, SIGHUP, on_interrupt, run);
    loop_at_turn_end(run->loop, on_turn_end, run);
    loop_timer_start(run->poll, RUN_POLL_MS, RUN_POLL_MS);
    run->embedded = embedded_new(run->loop, &config, &on_embedded, why);
    run->embedded_began = run->embedded != NULL;
    return run->embedded_began ? 0 : -ENOENT;
}

void run_flow_free(struct run *run) {
    progress_free(run->progress);
    sender_free(run->sender);
    taker_free(run->taker);
    dialogue_free(run->control);
    run_order_free(run->order);
    embedded_free(run->embedded);
    if (run->loop != NULL) {
        loop_free(run->loop);
        zmq_ctx_term(run->zmq);
    }
    buf_free(&run->line);
}
