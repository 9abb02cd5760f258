// limit_profile: how providers count against their limits: the rows of limit_profiles.def.
#ifndef HEADRACE_COMMON_LIMIT_PROFILE_H
#define HEADRACE_COMMON_LIMIT_PROFILE_H

#include "common/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum limit_refill { LIMIT_REFILL_UNKNOWN, LIMIT_REFILL_BUCKET };

struct limit_profile {
    const char *name;
    const char *provider;
    enum limit_refill refill;
    bool charges_cap;
    bool charges_cached;
    bool charges_refused;
    int day_offset_min; // -1: the day's limit refills evenly
};

// limit_profile_find returns the row of that name, or NULL.
const struct limit_profile *limit_profile_find(struct slice name);
// limit_profile_of returns the row of a provider; one that is in no row gets "window".
const struct limit_profile *limit_profile_of(struct slice provider);
// limit_profile_names appends all names with '|' between them. 0, or not: no room.
MUST_CHECK int limit_profile_names(struct buf *out);

#endif
