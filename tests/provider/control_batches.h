// control_batches: the jobs of all keys, looked at and pushed while the simulator runs, for tests.
//
//   GET /control/batches    {"jobs": [...]}, the oldest first: id, state, rows and how they ended
//   POST /control/batches   {"job": ID, or "all", "do": WHAT}; the answer is that of GET:
//     "finish"   it does not wait for its time any more
//     "expire"   the lines that are left expire
//     "cancel"   as its owner would cancel it
//     "delete"   it is gone, its files are not
#ifndef HEADRACE_TESTS_PROVIDER_CONTROL_BATCHES_H
#define HEADRACE_TESTS_PROVIDER_CONTROL_BATCHES_H

#include "tests/provider/batches.h"

// control_batches_change does what the body of a POST asks for. Returns 0, or -EINVAL with why and
// nothing done.
MUST_CHECK int control_batches_change(struct batches *b, struct slice body, int64_t now_us,
                                      struct error *why);
// control_batches_serve answers a request to /control/batches.
void control_batches_serve(struct batches *b, struct httpd_request *request, int64_t now_us);

#endif
