// The second half of libsynced.so: a clock for redis-server that a test can set. Invariant: monotonic time is
// left alone, as it is when somebody sets a machine's clock. $HEADRACE_CLOCK_FILE holds one number, 64 bits in
// the machine's order: seconds to be added to the time. Used by tests/chaoskit.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead_s; // NULL: the true time

__attribute__((constructor)) static void clock_open(void) {
    const char *path = getenv("HEADRACE_CLOCK_FILE");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void *p = mmap(NULL, sizeof(*ahead_s), PROT_READ, MAP_SHARED, fd, 0);
    ahead_s = p != MAP_FAILED ? p : NULL;
    close(fd);
}

typedef int gettimeofday_function(struct timeval *tv, void *zone);
typedef int clock_gettime_function(clockid_t clock, struct timespec *t);

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    static gettimeofday_function *real;
    if (real == NULL) {
        real = (gettimeofday_function *)dlsym(RTLD_NEXT, "gettimeofday");
    }
    int rc = real(tv, zone);
    tv->tv_sec += ahead_s != NULL ? (time_t)*ahead_s : 0;
    return rc;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    static clock_gettime_function *real;
    if (real == NULL) {
        real = (clock_gettime_function *)dlsym(RTLD_NEXT, "clock_gettime");
    }
    int rc = real(clock, t);
    if (rc == 0 && clock == CLOCK_REALTIME && ahead_s != NULL) {
        t->tv_sec += (time_t)*ahead_s;
    }
    return rc;
}

time_t time(time_t *out) {
    struct timeval tv;
    gettimeofday(&tv, NULL);
    if (out != NULL) {
        *out = tv.tv_sec;
    }
    return tv.tv_sec;
}
