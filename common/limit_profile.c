// The table of limit profiles. Called by the model checks and by the coordinator's permits.
#include "common/limit_profile.h"

static const struct limit_profile PROFILES[] = {
#define PROFILE(name, provider, refill, cap, cached, refused, offset)                              \
    {name, provider, LIMIT_REFILL_##refill, cap, cached, refused, offset},
#include "common/limit_profiles.def"
#undef PROFILE
};
#define N_PROFILES (sizeof(PROFILES) / sizeof(PROFILES[0]))

const struct limit_profile *limit_profile_find(struct slice name) {
    for (size_t i = 0; i < N_PROFILES; i++) {
        if (slice_is(name, PROFILES[i].name)) {
            return &PROFILES[i];
        }
    }
    return NULL;
}

const struct limit_profile *limit_profile_of(struct slice provider) {
    for (size_t i = 0; i < N_PROFILES; i++) {
        if (PROFILES[i].provider[0] != '\0' && slice_is(provider, PROFILES[i].provider)) {
            return &PROFILES[i];
        }
    }
    return limit_profile_find(SLICE_LIT("window"));
}

int limit_profile_names(struct buf *out) {
    int rc = 0;
    for (size_t i = 0; i < N_PROFILES; i++) {
        rc |= buf_addf(out, "%s%s", i > 0 ? "|" : "", PROFILES[i].name);
    }
    return rc;
}
