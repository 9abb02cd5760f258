// Monotonic and wall time. A test calls clock_fake, and both stand still until it moves them.
#include "common/clock.h"

#include <stdbool.h>
#include <time.h>

static struct {
    bool on;
    int64_t us, unix_ms;
} fake;

int64_t clock_us(void) {
    if (fake.on) {
        return fake.us;
    }
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_unix_ms(void) {
    if (fake.on) {
        return fake.unix_ms;
    }
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void clock_fake(int64_t us, int64_t unix_ms) {
    fake.on = true;
    fake.us = us;
    fake.unix_ms = unix_ms;
}

void clock_real(void) {
    fake.on = false;
}
