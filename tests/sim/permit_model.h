// permit_model: coordinator/permit_sync.lua once more, in C: one pool's limits in Redis. Invariant: given the
// same requests at the same times it answers byte for byte as the script does (unit/permit_sync_test.c).
// Called by the simulated Redis and by that test.
#ifndef HEADRACE_TESTS_SIM_PERMIT_MODEL_H
#define HEADRACE_TESTS_SIM_PERMIT_MODEL_H

#include "common/bytes.h"
#include "coordinator/permit.h"

#define PERMIT_LEASES_MAX 256
#define PERMIT_REPLY_MAX 1024

struct permit_lease {
    char holder[32];
    double number, at, hungry, calls, calls_until;
    char granted[32], rest[PERMIT_REPLY_MAX]; // of the reply, around its delay
    double delay;
};

// What a field of the hash holds, and whether there is one.
struct permit_field {
    bool is_set;
    double value;
};

struct permit_model {
    struct permit_field at, blocked, scale, scale_at;
    struct permit_field limit[N_LIMIT_KINDS], share[N_LIMIT_KINDS], share_at[N_LIMIT_KINDS],
        level[N_LIMIT_KINDS], spent[N_LIMIT_KINDS], full[N_LIMIT_KINDS], day[N_LIMIT_KINDS], of[N_LIMIT_KINDS];
    struct permit_lease leases[PERMIT_LEASES_MAX];
    size_t n_leases;
};

// permit_model_sync carries one request out at a time of Redis's clock; zero *model: a pool that nobody asked
// for yet. reply gets the text. 0, or -ESTALE: an older number came after a newer one.
MUST_CHECK int permit_model_sync(struct permit_model *model, int64_t now_us, const char *holder,
                                 const struct permit_request *request, char reply[PERMIT_REPLY_MAX]);

#endif
