// Dispatches. Invariant: each DISPATCH ends in a REPORT, whatever is wrong with it; one that comes
// twice makes one call. Called by the link; hands on to prompt.
#include "worker/receive.h"

#include "common/clock.h"
#include "common/hook.h"
#include "common/log.h"
#include "common/loop.h"
#include "worker/job.h"
#include "proto/record.h"

#include <errno.h>
#include <inttypes.h>
#include <msgpack.h>
#include <utlist.h>

#define MODELS_MAX 64    // revisions, with and without overrides
#define WAITING_MS 50    // how often calls that wait for a model are looked at

int receive_send(void *arg, struct slice bytes) {
    struct receive *receive = arg;
    return receive->link != NULL && link_is_welcome(receive->link)
               ? link_send_bytes(receive->link, bytes)
               : -EAGAIN; // sent at on_welcome
}

// ---- Models -------------------------------------------------------------------------------------

static void ask_model(struct receive *receive, const struct call *call) {
    struct message m = {.kind = MESSAGE_MODEL_GET};
    m.model_get.model = call->model;
    m.model_get.revision = call->revision;
    (void)link_send(receive->link, &m); // not taken: asked again at on_welcome
}

// is_asked says whether an older call already waits for the same revision.
static bool is_asked(const struct receive *receive, const struct call *call) {
    const struct call *other;
    DL_FOREACH(receive->calls->in_state[CALL_WAITING], other) {
        if (other != call && other->revision == call->revision && slice_eq(other->model, call->model)) {
            return true;
        }
    }
    return false;
}

// start finds a call's model and hands it on. Returns -EAGAIN when it has to wait.
static int start(struct receive *receive, struct call *call) {
    struct error why = {0};
    int rc = held_take(&receive->models, call->model, call->revision, call->overrides, &call->held, &why);
    if (rc == -EAGAIN) {
        return rc;
    }
    if (rc != 0) {
        call_decide(call, rc == -ENOKEY ? OUTCOME_NO_CREDENTIAL : OUTCOME_BAD_CONFIG, "%s", why.text);
        report_push(receive->report, call);
        return 0;
    }
    call_set_state(receive->calls, call, CALL_RUNNING);
    if (hook_holds()) {
        return 0;
    }
    receive->next(receive->arg, call);
    return 0;
}

static void on_waiting(void *arg) {
    struct receive *receive = arg;
    struct call *call, *next;
    int64_t now = clock_us();
    DL_FOREACH_SAFE(receive->calls->in_state[CALL_WAITING], call, next) {
        if (now > call->deadline_us) {
            call_decide(call, OUTCOME_UNSENT, "the model's revision did not come in time");
            report_push(receive->report, call);
        }
    }
    if (receive->calls->n_in_state[CALL_WAITING] == 0) {
        loop_timer_stop(receive->timer);
    }
}

static void on_model(struct receive *receive, const struct message *m) {
    held_add(&receive->models, m->model.model, (uint32_t)m->model.revision, m->model.sql);
    struct call *call, *next;
    DL_FOREACH_SAFE(receive->calls->in_state[CALL_WAITING], call, next) {
        (void)start(receive, call);
    }
    if (receive->jobs != NULL) {
        jobs_on_model(receive->jobs);
    }
}

// ---- Dispatches ---------------------------------------------------------------------------------

// rebase moves a slice from the frame as received to the call's copy of it.
static struct slice rebase(struct slice s, struct slice from, const struct call *call) {
    return s.n > 0 ? slice_sub(buf_slice(&call->frame), (size_t)(s.p - from.p), s.n) : SLICE_NONE;
}

static struct call *make_call(struct receive *receive, const struct message *m, struct slice frame) {
    const struct message_dispatch *d = &m->dispatch;
    struct call *call = calls_add(receive->calls, d->batch, d->call, frame);
    call->model = rebase(d->model, frame, call);
    call->overrides = rebase(d->overrides, frame, call);
    call->records = rebase(d->records, frame, call);
    call->corrections = rebase(d->corrections, frame, call);
    call->revision = (uint32_t)d->revision;
    call->count = (size_t)d->count;
    call->deadline_us = clock_us() + (int64_t)d->valid_ms * 1000;
    if (d->not_after > 0 && d->not_after < (uint64_t)call->deadline_us) {
        call->deadline_us = (int64_t)d->not_after; // it stood somewhere on its way, or we stood still
    }
    return call;
}

static void on_dispatch(struct receive *receive, const struct message *m, struct slice frame) {
    receive->status->n_dispatches++;
    struct call *call = calls_find(receive->calls, m->dispatch.batch, m->dispatch.call);
    if (call != NULL) {
        if (call->state == CALL_REPORTED) {
            report_again(receive->report, call);
        }
        return;
    }
    call = make_call(receive, m, frame);
    bool over = calls_count(receive->calls) > receive->max_inflight ||
                receive->calls->n_bytes > receive->max_bytes + frame.n;
    if (receive->draining) {
        call_decide(call, OUTCOME_UNSENT, "the worker is stopping");
    } else if (over) {
        call_decide(call, OUTCOME_UNSENT, "the worker was given more than its credit");
    } else if (call->count == 0) {
        call_decide(call, OUTCOME_UNSENT, "got a call without records, want at least one");
    }
    if (call->decided) {
        report_push(receive->report, call);
        return;
    }
    if (start(receive, call) == -EAGAIN) {
        if (!is_asked(receive, call)) {
            ask_model(receive, call);
        }
        loop_timer_start(receive->timer, WAITING_MS, WAITING_MS);
    }
}

static void on_message(void *arg, const struct message *m, struct slice frame) {
    struct receive *receive = arg;
    switch (m->kind) {
    case MESSAGE_DISPATCH:
        on_dispatch(receive, m, frame);
        return;
    case MESSAGE_MODEL:
        on_model(receive, m);
        return;
    case MESSAGE_JOB:
    case MESSAGE_JOB_LINES:
    case MESSAGE_JOB_TAKEN:
        if (receive->jobs != NULL) {
            jobs_on_message(receive->jobs, m, frame);
        }
        return;
    case MESSAGE_TAKEN:
        if (report_taken(receive->report, m->taken.calls) != 0) {
            log_warn("receive.bad_message", "message=TAKEN why=\"not an array of [batch, call]\"");
        } else if (receive->jobs != NULL) {
            jobs_on_taken(receive->jobs, m->taken.calls);
        }
        return;
    default:
        log_warn("receive.unexpected", "message=%s", message_name(m->kind));
    }
}

// ---- The link -----------------------------------------------------------------------------------

static void on_welcome(void *arg) {
    struct receive *receive = arg;
    struct call *call;
    DL_FOREACH(receive->calls->in_state[CALL_WAITING], call) {
        ask_model(receive, call); // an answer that comes twice does no harm
    }
    report_all(receive->report);
    if (receive->jobs != NULL) {
        jobs_on_welcome(receive->jobs);
    }
}

static void on_ping(void *arg) {
    struct receive *receive = arg;
    if (receive->jobs != NULL) {
        jobs_on_ping(receive->jobs);
    }
}

static void on_writable(void *arg) {
    struct receive *receive = arg;
    if (report_flush(receive->report) != 0) {
        log_debug("receive.full", "reports=%zu", receive->report->n_to_send);
    }
    if (receive->jobs != NULL) {
        jobs_on_writable(receive->jobs);
    }
}

static int write_buf(void *arg, const char *p, size_t n) {
    return buf_add(arg, p, n);
}

// pack_slots names the records of a call. Returns 0 or what msgpack returned.
static int pack_slots(msgpack_packer *packer, const struct call *call) {
    struct slice rest = call->records, values;
    uint64_t slot;
    int rc = msgpack_pack_array(packer, call->count);
    for (size_t n = 0; n < call->count; n++) {
        if (record_next(&rest, &slot, &values) <= 0) {
            return -EPROTO; // the DISPATCH was checked when it came
        }
        rc |= msgpack_pack_uint64(packer, slot);
    }
    return rc;
}

static int on_held(void *arg, struct buf *out) {
    struct receive *receive = arg;
    const struct call *call;
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, write_buf);
    int rc = msgpack_pack_array(&packer, calls_count(receive->calls));
    for (int state = CALL_WAITING; state <= CALL_REPORTED; state++) {
        DL_FOREACH(receive->calls->in_state[state], call) {
            rc |= msgpack_pack_array(&packer, 3);
            rc |= msgpack_pack_uint64(&packer, call->id.batch);
            rc |= msgpack_pack_uint64(&packer, call->id.call);
            rc |= pack_slots(&packer, call);
        }
    }
    return rc == 0 ? 0 : -EMSGSIZE;
}

static void on_superseded(void *arg) {
    struct receive *receive = arg;
    if (receive->on_superseded != NULL) {
        receive->on_superseded(receive->superseded_arg);
    }
}

void receive_init(struct receive *receive, struct loop *loop, struct calls *calls,
                  struct report *report, struct status *status, const struct secrets *secrets,
                  call_next *next, void *arg) {
    *receive = (struct receive){
        .calls = calls, .report = report, .status = status, .next = next, .arg = arg};
    held_init(&receive->models, secrets, MODELS_MAX);
    receive->timer = loop_add_timer(loop, on_waiting, receive);
}

int receive_start(struct receive *receive, struct loop *loop, const struct link_config *config,
                  struct error *why) {
    struct link_handlers handlers = {
        .on_message = on_message,
        .on_welcome = on_welcome,
        .on_writable = on_writable,
        .held = on_held,
        .on_superseded = on_superseded,
        .on_ping = on_ping,
        .arg = receive,
    };
    receive->max_inflight = config->max_inflight;
    receive->max_bytes = config->max_bytes;
    receive->link = link_new(loop, config, &handlers, why);
    return receive->link != NULL ? 0 : -EINVAL;
}

void receive_free(struct receive *receive) {
    loop_timer_stop(receive->timer);
    link_free(receive->link);
    receive->link = NULL;
    held_free(&receive->models);
}

void receive_drain(struct receive *receive) {
    struct call *call, *next;
    receive->draining = true;
    DL_FOREACH_SAFE(receive->calls->in_state[CALL_WAITING], call, next) {
        call_decide(call, OUTCOME_UNSENT, "the worker is stopping");
        report_push(receive->report, call);
    }
}
