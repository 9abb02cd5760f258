// Changes while the simulator runs. Invariant: a request changes all that it names or nothing. Called by
// serve.
#include "tests/provider/control.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BODY_MAX     (64u << 20)
#define FAULT_MS_MAX INT64_C(86400000)

// What a request wants to be in force.
struct wish {
    int64_t most[LIMIT_COUNT]; // -1: as it is
    double stranger;           // -1: as it is
    struct fault_rates rates;
    bool has_rates;
    struct batch_faults batch_faults;
    int64_t fault_ms;
};

const struct fault_rates *control_rates(struct control *control, int64_t now_us) {
    if (control->until_us != 0 && now_us >= control->until_us) {
        control->rates = control->after;
        control->until_us = 0;
    }
    return &control->rates;
}

// --- reading -------------------------------------------------------------------------------------

static int read_whole(const char *name, struct json_object *value, int64_t most, int64_t *into,
                      struct error *why) {
    *into = json_object_get_int64(value);
    return json_object_is_type(value, json_type_int) && *into >= 0 && *into <= most
               ? 0
               : error_set(why, -EINVAL, "%s: want a whole number, 0 to %lld", name, (long long)most);
}

static int read_rates(struct json_object *value, struct wish *wish, struct error *why) {
    if (!json_object_is_type(value, json_type_object)) {
        return error_set(why, -EINVAL, "fault: want an object of rates");
    }
    wish->has_rates = true;
    json_object_object_foreach(value, kind, rate) {
        char text[128];
        snprintf(text, sizeof(text), "%.64s=%.12g", kind, json_object_get_double(rate));
        int rc = fault_rates_add(&wish->rates, text, why);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int read_batch_faults(struct json_object *value, struct wish *wish, struct error *why) {
    if (!json_object_is_type(value, json_type_object)) {
        return error_set(why, -EINVAL, "batch-fault: want an object of rates");
    }
    json_object_object_foreach(value, kind, rate) {
        char text[128];
        if (json_object_is_type(rate, json_type_string)) {
            snprintf(text, sizeof(text), "%.64s=%.50s", kind, json_object_get_string(rate));
        } else {
            snprintf(text, sizeof(text), "%.64s=%.12g", kind, json_object_get_double(rate));
        }
        int rc = batch_faults_add(&wish->batch_faults, text, why);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int read_member(const char *name, struct json_object *value, struct wish *wish,
                       struct error *why) {
    struct slice member = slice_of(name);
    if (slice_is(member, "fault")) {
        return read_rates(value, wish, why);
    }
    if (slice_is(member, "batch-fault")) {
        return read_batch_faults(value, wish, why);
    }
    if (slice_is(member, "fault-ms")) {
        return read_whole(name, value, FAULT_MS_MAX, &wish->fault_ms, why);
    }
    if (slice_is(member, "stranger")) {
        wish->stranger = json_object_get_double(value);
        return wish->stranger >= 0 && wish->stranger <= 1
                   ? 0
                   : error_set(why, -EINVAL, "stranger: want 0..1");
    }
    for (int i = 0; i < LIMIT_COUNT; i++) {
        if (slice_is(member, quota_rows[i].option)) {
            return read_whole(name, value, METER_MOST, &wish->most[i], why);
        }
    }
    return error_set(why, -EINVAL, "'%s': got no name of something to control", name);
}

static int read_wish(struct slice body, struct wish *wish, struct error *why) {
    struct json_object *root = NULL;
    int rc = json_parse(body, &root, why);
    if (rc == 0 && !json_object_is_type(root, json_type_object)) {
        rc = error_set(why, -EINVAL, "want an object");
    }
    if (rc == 0) {
        json_object_object_foreach(root, name, value) {
            rc = rc != 0 ? rc : read_member(name, value, wish, why);
        }
    }
    json_object_put(root);
    return rc;
}

int control_change(struct control *control, struct slice body, int64_t now_us, struct error *why) {
    struct wish wish = {.stranger = -1,
                        .rates = *control_rates(control, now_us),
                        .batch_faults = *control->batch_faults};
    for (int i = 0; i < LIMIT_COUNT; i++) {
        wish.most[i] = -1;
    }
    int rc = read_wish(body, &wish, why);
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < LIMIT_COUNT; i++) {
        if (wish.most[i] >= 0) {
            quota_set(control->quota, (enum limit)i, wish.most[i], now_us);
        }
    }
    if (wish.stranger >= 0) {
        quota_set_stranger(control->quota, wish.stranger, now_us);
    }
    *control->batch_faults = wish.batch_faults;
    if (wish.has_rates) {
        control->after = control->until_us != 0 ? control->after : control->rates;
        control->rates = wish.rates;
        control->until_us = wish.fault_ms > 0 ? now_us + wish.fault_ms * 1000 : 0;
    }
    return 0;
}

// --- answering -----------------------------------------------------------------------------------

static int write_pool(struct quota *quota, struct quota_pool *pool, int64_t now_us, struct buf *out) {
    int rc = buf_addf(out, "{\"key\":\"%016" PRIx64 "\",\"model\":", pool->key);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(pool->model));
    rc = rc != 0 ? rc
                 : buf_addf(out,
                            ",\"admitted\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"open\":%lld,\"left\":{",
                            pool->n_admitted, pool->n_refused, (long long)pool->n_open);
    bool first = true;
    for (int i = 0; rc == 0 && i < LIMIT_COUNT; i++) {
        if (quota->config.most[i] > 0) {
            rc = buf_addf(out, "%s\"%s\":%lld", first ? "" : ",", quota_rows[i].option,
                          (long long)quota_left(quota, pool, (enum limit)i, now_us));
            first = false;
        }
    }
    return rc != 0 ? rc : buf_add_str(out, "}}");
}

static int write_rates(const struct control *control, int64_t now_us, struct buf *out) {
    int rc = buf_add_str(out, "\"fault\":{");
    bool first = true;
    for (int i = 1; rc == 0 && i < FAULT_COUNT; i++) {
        if (control->rates.rate[i] > 0) {
            rc = buf_addf(out, "%s\"%s\":%g", first ? "" : ",", fault_name((enum fault)i),
                          control->rates.rate[i]);
            first = false;
        }
    }
    rc = rc != 0 ? rc : buf_add_str(out, "},\"batch-fault\":{");
    first = true;
    for (int i = 0; rc == 0 && i < BATCH_FAULT_COUNT; i++) {
        const struct batch_faults *faults = control->batch_faults;
        if (faults->rate[i] > 0) {
            rc = buf_addf(out, "%s\"%s\":\"%g", first ? "" : ",", batch_fault_name((enum batch_fault)i),
                          faults->rate[i]);
            rc = rc != 0                ? rc
                 : faults->times[i] >= 0 ? buf_addf(out, "*%lld\"", (long long)faults->times[i])
                                         : buf_add_byte(out, '"');
            first = false;
        }
    }
    int64_t left_us = control->until_us != 0 ? control->until_us - now_us : 0;
    return rc != 0 ? rc : buf_addf(out, "},\"fault-ms\":%lld,", (long long)(left_us / 1000));
}

static int write_state(struct control *control, int64_t now_us, struct buf *out) {
    struct quota *quota = control->quota;
    (void)control_rates(control, now_us);
    int rc = buf_add_byte(out, '{');
    for (int i = 0; rc == 0 && i < LIMIT_COUNT; i++) {
        rc = buf_addf(out, "\"%s\":%lld,", quota_rows[i].option, (long long)quota->config.most[i]);
    }
    rc = rc != 0 ? rc : buf_addf(out, "\"stranger\":%g,", quota->config.stranger);
    rc = rc != 0 ? rc : write_rates(control, now_us, out);
    rc = rc != 0 ? rc : buf_add_str(out, "\"pools\":[");
    struct quota_pool *pool, *next;
    HASH_ITER(hh, quota->pools, pool, next) {
        rc = rc != 0 || pool == quota->pools ? rc : buf_add_byte(out, ',');
        rc = rc != 0 ? rc : write_pool(quota, pool, now_us, out);
    }
    return rc != 0 ? rc : buf_add_str(out, "]}\n");
}

void control_serve(struct control *control, struct httpd_request *request, int64_t now_us) {
    struct error why = {0};
    bool reads = slice_is(httpd_method(request), "GET");
    if (!reads && !slice_is(httpd_method(request), "POST")) {
        httpd_send_text(request, 405, "text/plain", SLICE_LIT("want GET or POST\n"));
        return;
    }
    if (!reads && control_change(control, httpd_body(request), now_us, &why) != 0) {
        httpd_send_text(request, 400, "text/plain", slice_of(why.text));
        return;
    }
    struct httpd_reply reply = {.status = 200, .type = "application/json"};
    buf_init(&reply.body, BODY_MAX);
    if (write_state(control, now_us, &reply.body) != 0) {
        buf_clear(&reply.body);
        reply.status = 500;
    }
    httpd_send(request, &reply);
}
