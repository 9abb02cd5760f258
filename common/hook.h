// hook: how a test makes a program fail on purpose. Only builds with HEADRACE_TEST_HOOKS have it; in any
// other every hook is empty, whatever the environment says.
//
//   HEADRACE_TEST_DIE_AT=POINT:N   SIGKILL to itself the N-th time that it passes POINT. Points are the names
//                                  of the scripts of Redis, passed before one is sent and when its reply came,
//                                  and job_ORDER, passed when a worker begins such a step and when it ended, and
//                                  order_ORDER, passed when a coordinator has ordered one
//   HEADRACE_TEST_HANG_MS=N        at each SIGUSR1 the loop stands still for N ms; threads of libraries go on
//   HEADRACE_TEST_HOLD=1           a worker keeps what it was sent and makes no call
#ifndef HEADRACE_COMMON_HOOK_H
#define HEADRACE_COMMON_HOOK_H

#include <stdbool.h>

#ifdef HEADRACE_TEST_HOOKS
// hook_point passes a point by name.
void hook_point(const char *point);
// hook_hang makes the calling thread the one that SIGUSR1 stops. Libraries block signals in theirs.
void hook_hang(void);
// hook_holds asks for HEADRACE_TEST_HOLD.
bool hook_holds(void);
#else
static inline void hook_point(const char *point) {
}
static inline void hook_hang(void) {
}
static inline bool hook_holds(void) {
    return false;
}
#endif

#endif
