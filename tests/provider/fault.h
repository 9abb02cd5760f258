// fault: how the simulator misbehaves, and how often. Drawn from (seed, request number) alone.
#ifndef HEADRACE_TESTS_PROVIDER_FAULT_H
#define HEADRACE_TESTS_PROVIDER_FAULT_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdint.h>

enum fault {
    FAULT_NONE,
#define FAULT(id, name, text) FAULT_##id,
#include "tests/provider/fault.def"
#undef FAULT
    FAULT_COUNT,
};

struct fault_rates {
    double rate[FAULT_COUNT]; // 0..1 each, at most 1 together
};

// fault_name is the row's name; NULL for FAULT_NONE.
const char *fault_name(enum fault fault);
// fault_find reads a name; FAULT_NONE when there is none such.
enum fault fault_find(struct slice name);
// fault_rates_add reads "KIND=RATE", a rate as 0.05 or 5%. Returns 0 or -EINVAL with why.
MUST_CHECK int fault_rates_add(struct fault_rates *rates, const char *text, struct error *why);
// fault_draw says what happens to request number n, at most one fault.
enum fault fault_draw(const struct fault_rates *rates, uint64_t seed, uint64_t n);
// fault_random is the number that (seed, n, salt) stands for, evenly spread.
uint64_t fault_random(uint64_t seed, uint64_t n, uint64_t salt);

#endif
