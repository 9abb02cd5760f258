// Prompt and parse as steps of the path. Invariant: a decided call passes through untouched.
// Called by receive (prompt_push) and http (parse_push) through main's wiring.
#include "worker/steps.h"

#include "common/log.h"
#include "common/mem.h"
#include "proto/record.h"
#include "worker/held.h"
#include "worker/instruct.h"
#include "worker/overflow.h"
#include "worker/vectors.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define CUTS_MOST 4 // of one prompt: what is cut off a value is longer or shorter as it stands there
#define ITEMS_MAX_BYTES (64 * 1024 * 1024) // bound of REPORT.items

void prompt_step_init(struct prompt_step *step, size_t max_bytes, call_next *next, void *arg) {
    *step = (struct prompt_step){.next = next, .arg = arg};
    buf_init(&step->system, max_bytes);
    buf_init(&step->user, max_bytes);
    buf_init(&step->cut, max_bytes);
    buf_init(&step->spare, max_bytes);
}

void prompt_step_free(struct prompt_step *step) {
    buf_free(&step->system);
    buf_free(&step->user);
    buf_free(&step->cut);
    buf_free(&step->spare);
}

static void slots_reserve(struct call *call) {
    if (call->n_slots < call->count) {
        call->slots = mem_realloc(call->slots, call->count * sizeof(*call->slots));
        call->n_slots = call->count;
    }
}

static bool is_vectors(const struct call *call) {
    return (call->held->model->api->tasks & API_TASKS_VECTORS) != 0;
}

static bool is_tensors(const struct call *call) {
    return (call->held->model->api->tasks & API_TASKS_TENSORS) != 0;
}

// read_slots is all that a call without a prompt needs.
static int read_slots(struct call *call, struct error *why) {
    struct slice rest = call->records, values;
    for (size_t i = 0; i < call->count; i++) {
        if (record_next(&rest, &call->slots[i], &values) != 1) {
            return error_set(why, -EPROTO, "record %zu of %zu cannot be read", i + 1, call->count);
        }
    }
    return 0;
}

// make_inputs renders each record alone, one after another into step->user.
static int make_inputs(struct prompt_step *step, struct call *call, struct error *why) {
    const struct held *held = call->held;
    struct slice rest = call->records;
    size_t ends[MODEL_BATCH_MAX];
    int rc = call->count <= MODEL_BATCH_MAX ? 0 : error_set(why, -EPROTO, "more than %d records", MODEL_BATCH_MAX);
    for (size_t i = 0; rc == 0 && i < call->count; i++) {
        struct slice from = rest, values;
        uint64_t slot;
        if (record_next(&rest, &slot, &values) != 1) {
            return error_set(why, -EPROTO, "record %zu of %zu cannot be read", i + 1, call->count);
        }
        rc = prompt_make(held->model, &held->plan, slice_sub(from, 0, from.n - rest.n), 1,
                         &call->slots[i], &step->system, &step->user, why);
        ends[i] = step->user.n;
    }
    for (size_t i = 0, at = 0; rc == 0 && i < call->count; at = ends[i++]) {
        step->inputs[i] = slice_sub(buf_slice(&step->user), at, ends[i] - at);
    }
    return rc;
}

// make_prompt renders records, with what is to be said of earlier answers.
static int make_prompt(struct prompt_step *step, struct call *call, struct slice records, struct error *why) {
    const struct held *held = call->held;
    buf_clear(&step->system);
    buf_clear(&step->user);
    int rc = prompt_make(held->model, &held->plan, records, call->count, call->slots, &step->system, &step->user, why);
    if (rc != 0) {
        return rc;
    }
    rc = instruct_correct(held->plan.batched, call->corrections, call->slots, call->count, &step->user);
    return rc == 0 ? 0
                   : error_set(why, rc, rc == -EPROTO ? "the DISPATCH's corrections cannot be read"
                                                      : "the prompt is longer than %zu bytes", step->user.max);
}

// fit_prompt makes the prompt, and where it is longer than the model's context does what context.overflow says. A
// single record that may not be cut is sent as it is, unless that is an error: how long it is is only guessed.
static int fit_prompt(struct prompt_step *step, struct call *call, struct error *why) {
    const struct model *model = call->held->model;
    int how = model->options.context_overflow;
    int64_t room = overflow_room(model, call->held->room);
    struct slice records = call->records;
    size_t n_cut = 0;
    call->cut[0] = '\0';
    int rc = make_prompt(step, call, records, why);
    for (int i = 0; rc == 0 && i < CUTS_MOST && (int64_t)(step->system.n + step->user.n) > room; i++) {
        size_t n = step->system.n + step->user.n, cut = 0;
        const char *column = "";
        if (call->count > 1 || how == OVERFLOW_ERROR) {
            return error_set(why, -EMSGSIZE, "the prompt has %zu bytes, and the model's context has room for about %"
                             PRId64, n, room);
        }
        if (how == OVERFLOW_SPLIT ||
            overflow_cut(model, records, n - (size_t)room, &step->cut, &cut, &column) != 0 || cut == 0) {
            return 0;
        }
        n_cut += cut;
        struct buf last = step->spare; // what was cut is cut again
        step->spare = step->cut;
        step->cut = last;
        records = buf_slice(&step->spare);
        snprintf(call->cut, sizeof(call->cut), "truncated %zu bytes of '%.60s'", n_cut, column);
        rc = make_prompt(step, call, records, why);
    }
    return rc;
}

static void make_body(struct prompt_step *step, struct call *call) {
    const struct held *held = call->held;
    struct error why = {0};
    slots_reserve(call);
    buf_clear(&step->system);
    buf_clear(&step->user);
    buf_clear(&call->body);
    int rc = is_vectors(call)   ? make_inputs(step, call, &why)
             : is_tensors(call) ? read_slots(call, &why)
                                : fit_prompt(step, call, &why);
    if (rc == 0) {
        struct ask ask = {
            .model = held->model,
            .system = buf_slice(&step->system),
            .user = buf_slice(&step->user),
            .schema = held->schema ? buf_slice(&held->plan.schema) : SLICE_NONE,
            .records = call->records,
            .count = call->count,
            .inputs = is_vectors(call) ? step->inputs : NULL,
        };
        call->schema = held->schema;
        call->n_prompt = ask.system.n + ask.user.n;
        rc = held->dialect->write(&ask, &call->body);
        size_t most = provider_images_of(held->model->provider->id)->body;
        if (rc == 0 && held->model->n_images > 0 && most > 0 && call->body.n > most) {
            rc = error_set(&why, -EMSGSIZE, "the request has %zu bytes, and %s takes %zu", call->body.n,
                           held->model->provider->name, most);
        } else if (rc != 0) {
            error_set(&why, rc, "%s",
                      rc == -EMSGSIZE ? "the request is longer than a call may be"
                      : rc == -ERANGE ? "arrays of different lengths cannot be one tensor"
                      : rc == -EPROTO ? "a record holds what this model cannot be sent"
                                      : "the request is no JSON as 'request.template' and 'params' make it");
            rc = rc == -EPROTO ? -ERANGE : rc; // some record is to blame, not the model
        }
    }
    if (rc == -EMSGSIZE || (rc == -ERANGE && call->count > 1)) {
        call_decide(call, OUTCOME_TOO_LARGE, "%s", why.text); // halves may do without the record to blame
    } else if (rc == -ERANGE) {
        call_decide(call, OUTCOME_BAD_RECORD, "%s", why.text);
    } else if (rc != 0) {
        call_decide(call, OUTCOME_BAD_CONFIG, "%s", why.text);
    } else {
        snprintf(call->prompt_hash, sizeof(call->prompt_hash), "%016" PRIx64,
                 (uint64_t)XXH3_64bits(call->body.p, call->body.n));
    }
}

void prompt_step_make(struct prompt_step *step, struct call *call) {
    make_body(step, call);
}

void prompt_push(void *arg, struct call *call) {
    struct prompt_step *step = arg;
    if (!call->decided) {
        make_body(step, call);
    }
    step->next(step->arg, call);
}

void parse_step_init(struct parse_step *step, call_next *next, void *arg) {
    *step = (struct parse_step){.parser = parser_new(), .next = next, .arg = arg};
    buf_init(&step->parsed.items, ITEMS_MAX_BYTES);
}

void parse_step_free(struct parse_step *step) {
    parser_free(step->parser);
    buf_free(&step->parsed.items);
}

// read_items reads the model's text, or its vectors, into items.
static void read_items(struct parse_step *step, struct call *call, const struct answer *answer) {
    struct question question = {
        .model = call->held->model,
        .batched = call->held->plan.batched,
        .cut = answer->finish == FINISH_LENGTH,
        .slots = call->slots,
        .count = call->count,
    };
    if (answer->vectors != NULL) {
        vectors_pack(&question, answer, &step->parsed);
    } else {
        parse_answer(step->parser, &question, answer->text, &step->parsed);
    }
    call_decide(call, step->parsed.outcome, "%s", step->parsed.detail);
    call->items = buf_slice(&step->parsed.items);
    snprintf(call->warning, sizeof(call->warning), "%s%s%s", call->cut, call->cut[0] != '\0' && step->parsed.warning[0] != '\0' ? ", " : "",
             step->parsed.warning);
}

// give_up_schema lets a model that need not have a JSON Schema do without it from now on, once its
// provider refused one.
static void give_up_schema(struct call *call, struct answer *answer) {
    bool is_auto = call->held->model->options.structured_output == STRUCTURED_AUTO;
    if (call->schema && is_auto && answer->schema_refused) {
        if (call->held->schema) {
            log_warn("schema.refused", "model=%s", call->held->model->name);
        }
        call->held->schema = false;
        answer->outcome = OUTCOME_TRANSIENT;
    }
}

static void read_reply(struct parse_step *step, struct call *call) {
    struct reply reply = {
        .status = call->status,
        .content_type = slice_of(call->head.content_type),
        .body = buf_slice(&call->reply),
        .retry_after_ms = call->head.delay_ms,
        .should_retry = call->head.should_retry,
        .model = call->held->model,
        .count = call->count,
        .n_prompt = call->n_prompt,
    };
    struct answer answer = {0};
    call->held->dialect->read(&reply, &answer);
    give_up_schema(call, &answer);
    if (answer.outcome == OUTCOME_TOO_LARGE && call->count == 1) {
        int64_t room = overflow_learn(call->held->model, slice_of(answer.detail), call->n_prompt);
        call->held->room = call->held->room == 0 || room < call->held->room ? room : call->held->room;
    }
    call->usage_known = answer.usage_known;
    call->input_tokens = answer.input_tokens;
    call->cached_tokens = answer.cached_tokens;
    call->output_tokens = answer.output_tokens;
    call->retry_after_ms = answer.retry_after_ms;
    call->cache_write_tokens = answer.cache_write_tokens;
    call->reasoning_tokens = answer.reasoning_tokens;
    memcpy(call->served_model, answer.served_model, sizeof(call->served_model));
    memcpy(call->service_tier, answer.service_tier, sizeof(call->service_tier));
    if (call->head.request_id[0] == '\0') {
        memcpy(call->head.request_id, answer.request_id, sizeof(answer.request_id));
    }
    if (answer.outcome == OUTCOME_OK) {
        read_items(step, call, &answer);
    } else {
        call_decide(call, answer.outcome, "%s", answer.detail);
    }
    answer_clear(&answer);
}

void parse_step_read(struct parse_step *step, struct call *call) {
    read_reply(step, call);
}

#ifdef HEADRACE_TEST_HOOKS
// crash_on_purpose ends the process when a record holds the text that a test names.
static void crash_on_purpose(const struct call *call) {
    const char *text = getenv("HEADRACE_TEST_ABORT_ON");
    if (text != NULL && memmem(call->records.p, call->records.n, text, strlen(text)) != NULL) {
        raise(SIGKILL);
    }
}
#else
static void crash_on_purpose(const struct call *call) {
}
#endif

void parse_push(void *arg, struct call *call) {
    struct parse_step *step = arg;
    crash_on_purpose(call);
    if (!call->decided) {
        read_reply(step, call);
    }
    step->next(step->arg, call);
}
