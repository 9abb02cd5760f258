// Faults. Invariant: what happens to a request depends on the seed and on its number alone, so a
// run can be repeated. Called by the simulator's server.
#include "tests/provider/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char *const names[FAULT_COUNT] = {
#define FAULT(id, name, text) [FAULT_##id] = name,
#include "tests/provider/fault.def"
#undef FAULT
};

const char *fault_name(enum fault fault) {
    return names[fault];
}

enum fault fault_find(struct slice name) {
    for (int i = 1; i < FAULT_COUNT; i++) {
        if (slice_is(name, names[i])) {
            return (enum fault)i;
        }
    }
    return FAULT_NONE;
}

int fault_rates_add(struct fault_rates *rates, const char *text, struct error *why) {
    const char *equals = strchr(text, '=');
    if (equals == NULL) {
        return error_set(why, -EINVAL, "--fault: got '%s', want KIND=RATE", text);
    }
    enum fault fault = fault_find((struct slice){.p = text, .n = (size_t)(equals - text)});
    if (fault == FAULT_NONE) {
        return error_set(why, -EINVAL, "--fault: got kind '%.*s', want one of the kinds in --help",
                         (int)(equals - text), text);
    }
    char *end = NULL;
    double rate = strtod(equals + 1, &end);
    if (end != equals + 1 && *end == '%') {
        rate /= 100;
        end++;
    }
    if (end == equals + 1 || *end != '\0' || !(rate >= 0 && rate <= 1)) {
        return error_set(why, -EINVAL, "--fault %s: got rate '%s', want 0..1 or 0%%..100%%",
                         names[fault], equals + 1);
    }
    rates->rate[fault] = rate;
    double sum = 0;
    for (int i = 0; i < FAULT_COUNT; i++) {
        sum += rates->rate[i];
    }
    return sum <= 1 + 1e-9
               ? 0
               : error_set(why, -EINVAL, "--fault: the rates sum up to %g, want at most 1", sum);
}

uint64_t fault_random(uint64_t seed, uint64_t n, uint64_t salt) {
    uint64_t parts[] = {seed, n, salt};
    return XXH3_64bits(parts, sizeof(parts));
}

enum fault fault_draw(const struct fault_rates *rates, uint64_t seed, uint64_t n) {
    double left = (double)(fault_random(seed, n, 0) >> 11) / 9007199254740992.0; // 53 bits
    for (int i = 1; i < FAULT_COUNT; i++) {
        left -= rates->rate[i];
        if (left < 0) {
            return (enum fault)i;
        }
    }
    return FAULT_NONE;
}
