// Failing on purpose. Invariant: without one of the variables in its environment a program behaves as one
// that has no hooks. Called by redis (points), loop (hanging), the worker's receive (holding).
#include "common/hook.h"

#ifdef HEADRACE_TEST_HOOKS
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void hook_point(const char *point) {
    static long n_passed;
    const char *at = getenv("HEADRACE_TEST_DIE_AT");
    size_t n = strlen(point);
    if (at != NULL && strncmp(at, point, n) == 0 && at[n] == ':' && ++n_passed == atol(at + n + 1)) {
        raise(SIGKILL);
    }
}

static long hang_ms;

static void on_hang(int signum) {
    int before = errno;
    struct timespec left = {.tv_sec = hang_ms / 1000, .tv_nsec = hang_ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    errno = before;
}

void hook_hang(void) {
    const char *ms = getenv("HEADRACE_TEST_HANG_MS");
    if (ms != NULL) {
        hang_ms = atol(ms);
        struct sigaction action = {.sa_handler = on_hang, .sa_flags = SA_RESTART};
        sigaction(SIGUSR1, &action, NULL);
    }
}

bool hook_holds(void) {
    return getenv("HEADRACE_TEST_HOLD") != NULL;
}
#endif
