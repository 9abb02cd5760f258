// Faults of the batch APIs. Invariant: whether one happens depends on the seed, on the number of
// the thing it happens to, and on how often it may. Called by jobs and the APIs of batches.
#include "tests/provider/batch_fault.h"
#include "tests/provider/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SALT 1000 // of fault_random: the first kind's

static const struct {
    const char *name;
    enum batch_when when;
} rows[BATCH_FAULT_COUNT] = {
#define BATCH_FAULT(id, name_, when_, text)                                                        \
    [BATCH_FAULT_##id] = {.name = name_, .when = BATCH_AT_##when_},
#include "tests/provider/batch_fault.def"
#undef BATCH_FAULT
};

const char *batch_fault_name(enum batch_fault fault) {
    return rows[fault].name;
}

void batch_faults_init(struct batch_faults *faults) {
    *faults = (struct batch_faults){0};
    for (int i = 0; i < BATCH_FAULT_COUNT; i++) {
        faults->times[i] = -1;
    }
}

static enum batch_fault find(struct slice name) {
    int i = 0;
    while (i < BATCH_FAULT_COUNT && !slice_is(name, rows[i].name)) {
        i++;
    }
    return (enum batch_fault)i;
}

int batch_faults_add(struct batch_faults *faults, const char *text, struct error *why) {
    const char *equals = strchr(text, '=');
    struct slice name = {.p = text, .n = equals != NULL ? (size_t)(equals - text) : 0};
    enum batch_fault fault = find(name);
    if (fault == BATCH_FAULT_COUNT) {
        return error_set(
            why, -EINVAL,
            "--batch-fault: got '%.60s', want KIND=RATE with one of the kinds in --help", text);
    }
    char *end = NULL;
    double rate = strtod(equals + 1, &end);
    bool has_rate = end != equals + 1;
    if (has_rate && *end == '%') {
        rate /= 100;
        end++;
    }
    long long times = -1;
    if (has_rate && *end == '*') {
        const char *from = end + 1;
        times = strtoll(from, &end, 10);
        has_rate = end != from && times >= 0;
    }
    if (!has_rate || *end != '\0' || !(rate >= 0 && rate <= 1)) {
        return error_set(
            why, -EINVAL,
            "--batch-fault %s: got '%.40s', want a rate of 0..1 or 0%%..100%%, and after a * how "
            "many times",
            rows[fault].name, equals + 1);
    }
    faults->rate[fault] = rate;
    faults->times[fault] = times;
    return 0;
}

bool batch_fault_hits(struct batch_faults *faults, enum batch_fault fault, uint64_t seed,
                      uint64_t n) {
    if (faults->rate[fault] <= 0 || faults->times[fault] == 0) {
        return false;
    }
    double draw =
        (double)(fault_random(seed, n, SALT + (uint64_t)fault) >> 11) / 9007199254740992.0;
    bool hits = draw < faults->rate[fault];
    faults->times[fault] -= hits && faults->times[fault] > 0;
    return hits;
}

enum batch_fault batch_fault_at(struct batch_faults *faults, enum batch_when when, uint64_t seed,
                                uint64_t n) {
    for (int i = 0; i < BATCH_FAULT_COUNT; i++) {
        if (rows[i].when == when && batch_fault_hits(faults, (enum batch_fault)i, seed, n)) {
            return (enum batch_fault)i;
        }
    }
    return BATCH_FAULT_COUNT;
}
