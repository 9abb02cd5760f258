// clock: monotonic and wall time; a test can set both.
#ifndef HEADRACE_COMMON_CLOCK_H
#define HEADRACE_COMMON_CLOCK_H

#include <stdint.h>

// clock_us is monotonic time in microseconds since some fixed point; never goes back.
int64_t clock_us(void);
// clock_unix_ms is wall time in milliseconds since 1970-01-01 UTC; may jump.
int64_t clock_unix_ms(void);
// clock_fake makes both stand still at the given times; clock_real undoes it. For tests.
void clock_fake(int64_t us, int64_t unix_ms);
void clock_real(void);

#endif
