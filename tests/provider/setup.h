// setup: the simulator's options, and what they mean.
#ifndef HEADRACE_TESTS_PROVIDER_SETUP_H
#define HEADRACE_TESTS_PROVIDER_SETUP_H

#include "common/error.h"
#include "common/options.h"
#include "tests/provider/batch_fault.h"
#include "tests/provider/fault.h"
#include "tests/provider/quota.h"
#include "tests/provider/tell.h"

#define OPTION OPTION_FIELD
struct provider_options {
#include "tests/provider/options.def"
};
#undef OPTION

// What the options mean once they are read.
struct setup {
    struct fault_rates rates;
    enum fault poison_kind;
    struct quota_config limits;
    enum tell_style style;
    struct batch_faults batch_faults;
    double batch_stop_at, batch_jitter; // 0..1
    bool states_job, states_mixed;      // names of Gemini's states
};

// setup_read reads all options but those that open something. Returns 0 or -EINVAL with why.
MUST_CHECK int setup_read(const struct provider_options *options, struct setup *setup,
                          struct error *why);
// setup_share reads a share, "0.3" or "30%", 0..1. Returns 0 or -EINVAL with why.
MUST_CHECK int setup_share(const char *what, const char *text, double *share, struct error *why);

#endif
