// What a coordinator says of itself in STATUS. Called by run.c and submit.c.
#include "client/counters.h"

#include "common/json.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
#define NUMBER(name) {#name, offsetof(struct counters, name)}
    NUMBER(records_in),   NUMBER(results),      NUMBER(errors),        NUMBER(calls),
    NUMBER(calls_ok),     NUMBER(calls_failed), NUMBER(retries),       NUMBER(input_tokens),
    NUMBER(output_tokens), NUMBER(inflight_calls), NUMBER(queued_records), NUMBER(workers),
    NUMBER(calls_ambiguous), NUMBER(calls_unpriced), NUMBER(ambiguous_timeout),
    NUMBER(ambiguous_broken), NUMBER(ambiguous_lost), NUMBER(ambiguous_crash),
    NUMBER(resolved_lost), NUMBER(resolved_crash), NUMBER(jobs_at_provider),
    NUMBER(records_at_provider), NUMBER(outages), NUMBER(pools_out),
#undef NUMBER
};

static void read_stopped(struct counters *counters, struct json_object *value) {
    static const char prefix[] = "stopped: ";
    struct slice stopped = json_text(json_get(value, "stopped"));
    if (strncmp(counters->waiting, prefix, strlen(prefix)) == 0) { // the same with the reason
        stopped = slice_of(counters->waiting + strlen(prefix));
    }
    slice_copy(stopped, counters->stopped, sizeof(counters->stopped));
}

int counters_read(struct slice json, struct counters *counters, struct error *why) {
    *counters = (struct counters){0};
    struct json_object *value = NULL;
    int status = json_parse(json, &value, why);
    if (status == 0 && !json_object_is_type(value, json_type_object)) {
        status = error_set(why, -EINVAL, "got no JSON object");
    }
    for (size_t i = 0; status == 0 && i < sizeof(numbers) / sizeof(*numbers); i++) {
        struct json_object *number = json_get(value, numbers[i].name);
        int64_t n = number != NULL ? json_object_get_int64(number) : 0;
        *(uint64_t *)((char *)counters + numbers[i].offset) = n > 0 ? (uint64_t)n : 0;
    }
    if (status == 0) {
        struct json_object *cost = json_get(value, "cost");
        counters->cost = cost != NULL ? json_object_get_double(cost) : 0;
        struct json_object *seconds = json_get(value, "outage_seconds");
        counters->outage_seconds = seconds != NULL ? json_object_get_double(seconds) : 0;
        slice_copy(json_text(json_get(value, "waiting")), counters->waiting,
                   sizeof(counters->waiting));
        slice_copy(json_text(json_get(value, "budget")), counters->budget, sizeof(counters->budget));
        read_stopped(counters, value);
    }
    json_object_put(value);
    return status;
}

static void raise(uint64_t *number, uint64_t to) {
    *number = to > *number ? to : *number;
}

void counters_add(struct counters *counters, const struct counters *more) {
    counters->calls += more->calls;
    counters->calls_ok += more->calls_ok;
    counters->calls_failed += more->calls_failed;
    raise(&counters->calls_ambiguous, more->calls_ambiguous);
    raise(&counters->ambiguous_timeout, more->ambiguous_timeout);
    raise(&counters->ambiguous_broken, more->ambiguous_broken);
    raise(&counters->ambiguous_lost, more->ambiguous_lost);
    raise(&counters->ambiguous_crash, more->ambiguous_crash);
    raise(&counters->resolved_lost, more->resolved_lost);
    raise(&counters->resolved_crash, more->resolved_crash);
    counters->calls_unpriced += more->calls_unpriced;
    counters->retries += more->retries;
    counters->input_tokens += more->input_tokens;
    counters->output_tokens += more->output_tokens;
    counters->cost += more->cost;
    counters->outages += more->outages;
    counters->outage_seconds += more->outage_seconds;
}
