// The jobs of all keys, looked at and pushed while the simulator runs. Called by serve.
#include "tests/provider/control_batches.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <utlist.h>

static void do_finish(struct batch_job *job, int64_t now_us) {
    (void)now_us;
    job->is_hurried = true;
}

static void do_expire(struct batch_job *job, int64_t now_us) {
    job->expires_us = now_us;
}

static void do_cancel(struct batch_job *job, int64_t now_us) {
    int rc = batch_jobs_cancel(job, now_us);
    (void)rc; // it may have ended
}

static void do_delete(struct batch_job *job, int64_t now_us) {
    (void)now_us;
    if (job->waiting == NULL) { // else somebody waits for an answer about it
        batch_jobs_remove(job->jobs, job);
    }
}

static const struct {
    const char *name;
    void (*run)(struct batch_job *job, int64_t now_us);
} actions[] = {
    {"finish", do_finish}, {"expire", do_expire}, {"cancel", do_cancel}, {"delete", do_delete}};

int control_batches_change(struct batches *b, struct slice body, int64_t now_us,
                           struct error *why) {
    struct json_object *root = NULL;
    int rc = json_parse(body, &root, why);
    struct slice id = json_text(json_get(root, "job")), what = json_text(json_get(root, "do"));
    size_t i = 0, n = sizeof(actions) / sizeof(actions[0]), n_done = 0;
    while (i < n && !slice_is(what, actions[i].name)) {
        i++;
    }
    struct batch_job *job, *next;
    DL_FOREACH_SAFE(b->jobs.list, job, next) {
        if (rc == 0 && i < n && (slice_is(id, "all") || slice_is(id, job->id))) {
            n_done++;
            actions[i].run(job, now_us);
        }
    }
    if (rc == 0 && i == n) {
        rc = error_set(why, -EINVAL, "do: got '%.*s', want finish, expire, cancel or delete",
                       SLICE_FMT(slice_sub(what, 0, 40)));
    } else if (rc == 0 && n_done == 0 && !slice_is(id, "all")) {
        rc = error_set(why, -EINVAL, "job: got '%.*s', which is none",
                       SLICE_FMT(slice_sub(id, 0, 80)));
    }
    json_object_put(root);
    return rc;
}

static const char *const state_names[] = {
    [BATCH_VALIDATING] = "validating", [BATCH_RUNNING] = "running",
    [BATCH_FINALIZING] = "finalizing", [BATCH_CANCELLING] = "cancelling",
    [BATCH_COMPLETED] = "completed",   [BATCH_FAILED] = "failed",
    [BATCH_EXPIRED] = "expired",       [BATCH_CANCELLED] = "cancelled",
};

static int write_jobs(const struct batches *b, struct buf *out) {
    const struct batch_job *job;
    int rc = buf_add_str(out, "{\"jobs\":[");
    DL_FOREACH(b->jobs.list, job) {
        rc = rc != 0 || job == b->jobs.list ? rc : buf_add_byte(out, ',');
        rc = rc != 0
                 ? rc
                 : buf_addf(out,
                            "{\"id\":\"%s\",\"state\":\"%s\",\"rows\":%" PRIu64 ",\"done\":%" PRIu64
                            ",\"succeeded\":%" PRIu64 ",\"errored\":%" PRIu64
                            ",\"cancelled\":%" PRIu64 ",\"expired\":%" PRIu64 "}",
                            job->id, state_names[job->state], job->n_rows, job->n_done,
                            job->n_succeeded, job->n_errored, job->n_cancelled, job->n_expired);
    }
    return rc != 0 ? rc : buf_add_str(out, "]}\n");
}

void control_batches_serve(struct batches *b, struct httpd_request *request, int64_t now_us) {
    struct error why = {0};
    bool reads = slice_is(httpd_method(request), "GET");
    if (!reads && !slice_is(httpd_method(request), "POST")) {
        httpd_send_text(request, 405, "text/plain", SLICE_LIT("want GET or POST\n"));
        return;
    }
    if (!reads && control_batches_change(b, httpd_body(request), now_us, &why) != 0) {
        httpd_send_text(request, 400, "text/plain", slice_of(why.text));
        return;
    }
    batches_run(b);
    struct httpd_reply reply = {.status = 200, .type = "application/json"};
    buf_init(&reply.body, RESPOND_MAX);
    if (write_jobs(b, &reply.body) != 0) {
        buf_clear(&reply.body);
        reply.status = 500;
    }
    httpd_send(request, &reply);
}
