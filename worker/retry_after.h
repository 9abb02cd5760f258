// retry_after: the forms in which providers say when to try again, and how long until a limit is whole.
#ifndef HEADRACE_WORKER_RETRY_AFTER_H
#define HEADRACE_WORKER_RETRY_AFTER_H

#include "common/bytes.h"

// retry_after_parse reads a Retry-After value: seconds, whole or not, or an HTTP date.
//   now_unix_ms  what a date is measured against
// Returns milliseconds, at least 0 and at most 86400000, or -1 for anything else.
// Source: RFC 9110, section 10.2.3.
int64_t retry_after_parse(struct slice text, int64_t now_unix_ms);
// retry_after_hint finds "try again in 9.816s" or "retry after 37 seconds" in a message; -1: none.
int64_t retry_after_hint(struct slice message);
// duration_parse reads a Go-style duration such as 6m0s, 8.64s, 12ms. Milliseconds, or -1.
int64_t duration_parse(struct slice text);
// time_until reads an RFC 3339 time. Milliseconds from now_unix_ms, 0 when it has passed, or -1.
int64_t time_until(struct slice text, int64_t now_unix_ms);

#endif
