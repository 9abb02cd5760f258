// control: limits, stranger and faults changed while the simulator runs, for tests.
//
//   GET /control    what is in force, and each pool: what is left of its limits, requests admitted,
//                   refused and open
//   POST /control   a JSON object; all of it is taken or nothing, and the answer is that of GET:
//     "limit-rpm" and the other limits by their options' names: a whole number, 0 for none
//     "stranger": 0..1
//     "fault": {"overloaded": 1, "500": 0.1}: the rates of these; others stay
//     "batch-fault": {"expire": 1, "create-lost": "100%*1"}: the same for the faults of batches, which stay
//     "fault-ms": how long these rates hold; then those before are back. 0 or not there: for good
#ifndef HEADRACE_TESTS_PROVIDER_CONTROL_H
#define HEADRACE_TESTS_PROVIDER_CONTROL_H

#include "common/httpd.h"
#include "tests/provider/batch_fault.h"
#include "tests/provider/fault.h"
#include "tests/provider/quota.h"

struct control {
    struct quota *quota;
    struct fault_rates rates, after; // in force; and from until_us on
    int64_t until_us;                // 0: the rates stay
    struct batch_faults *batch_faults;
};

// control_rates is what is in force now.
const struct fault_rates *control_rates(struct control *control, int64_t now_us);
// control_change does what the body of a POST asks for. Returns 0, or -EINVAL with why and nothing done.
MUST_CHECK int control_change(struct control *control, struct slice body, int64_t now_us,
                              struct error *why);
// control_serve answers a request to /control.
void control_serve(struct control *control, struct httpd_request *request, int64_t now_us);

#endif
