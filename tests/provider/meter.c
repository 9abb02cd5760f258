// One limit, enforced in one of four ways. Invariant: every call first brings the meter to the time it
// is given (advance), so that its state always is that of at_us. Called by quota.
#include "tests/provider/meter.h"
#include "common/mem.h"

#include <stdlib.h>

#define SECOND_US      INT64_C(1000000)
#define LOG_SIZE_LEAST 64

enum meter_mode meter_mode_find(struct slice name) {
    static const char *const names[METER_MODES] = {
        [METER_BUCKET] = "bucket",
        [METER_FIXED] = "fixed-window",
        [METER_SLIDING] = "sliding-log",
        [METER_PER_SECOND] = "per-second",
    };
    int i = 0;
    while (i < METER_MODES && !slice_is(name, names[i])) {
        i++;
    }
    return (enum meter_mode)i;
}

// has_level says which modes keep a level in hand; the others keep a count of what was used.
static bool has_level(const struct meter *m) {
    return m->mode == METER_BUCKET || m->mode == METER_PER_SECOND;
}

// level_most is a full level: at least one unit.
static int64_t level_most(const struct meter *m) {
    int64_t most = m->most * m->burst_us; // 10^10 * 6 * 10^7 at most
    return most > m->window_us ? most : m->window_us;
}

static int64_t divide_up(int64_t a, int64_t b) {
    return a <= 0 ? 0 : (a - 1) / b + 1;
}

void meter_init(struct meter *meter, enum meter_mode mode, int64_t most, int64_t window_us,
                int64_t burst_us, int64_t now_us) {
    *meter = (struct meter){
        .mode = mode, .most = most, .window_us = window_us, .burst_us = burst_us, .at_us = now_us};
    meter->level = level_most(meter);
}

void meter_free(struct meter *meter) {
    free(meter->log);
    *meter = (struct meter){0};
}

// --- the sliding log -----------------------------------------------------------------------------

static struct meter_entry *log_entry(const struct meter *m, size_t i) {
    return &m->log[(m->log_first + i) & (m->log_size - 1)];
}

static int64_t log_sum(const struct meter *m) {
    return m->log_n > 0 ? log_entry(m, m->log_n - 1)->sum : m->log_gone;
}

static void log_expire(struct meter *m) {
    while (m->log_n > 0 && m->at_us - log_entry(m, 0)->at_us >= m->window_us) {
        m->log_gone = log_entry(m, 0)->sum;
        m->log_first = (m->log_first + 1) & (m->log_size - 1);
        m->log_n--;
    }
}

static void log_grow(struct meter *m) {
    size_t size = m->log_size > 0 ? 2 * m->log_size : LOG_SIZE_LEAST;
    struct meter_entry *log = mem_alloc(size * sizeof(*log));
    for (size_t i = 0; i < m->log_n; i++) {
        log[i] = *log_entry(m, i);
    }
    free(m->log);
    m->log = log;
    m->log_size = size;
    m->log_first = 0;
}

static void log_add(struct meter *m, int64_t n) {
    int64_t sum = log_sum(m) + n;
    if (m->log_n > 0 && log_entry(m, m->log_n - 1)->at_us == m->at_us) {
        log_entry(m, m->log_n - 1)->sum = sum;
        return;
    }
    if (m->log_n == m->log_size) {
        log_grow(m);
    }
    *log_entry(m, m->log_n++) = (struct meter_entry){.at_us = m->at_us, .sum = sum};
}

// log_when is the time at which `units` of the oldest will have left.
static int64_t log_when(const struct meter *m, int64_t units) {
    size_t low = 0, high = m->log_n - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (log_entry(m, middle)->sum - m->log_gone >= units) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return log_entry(m, low)->at_us + m->window_us;
}

// --- time ----------------------------------------------------------------------------------------

static void level_rise(struct meter *m, int64_t by_us) {
    __int128 level = (__int128)m->most * by_us + m->level; // a long time times a large limit
    int64_t most = level_most(m);
    m->level = level < most ? (int64_t)level : most;
}

static void advance(struct meter *m, int64_t now_us) {
    if (now_us <= m->at_us) {
        return;
    }
    int64_t before_us = m->at_us;
    m->at_us = now_us;
    switch (m->mode) {
    case METER_BUCKET:
        level_rise(m, now_us - before_us);
        break;
    case METER_PER_SECOND:
        level_rise(m, (now_us / SECOND_US - before_us / SECOND_US) * SECOND_US);
        break;
    case METER_FIXED:
        m->used = now_us / m->window_us == before_us / m->window_us ? m->used : 0;
        break;
    default:
        log_expire(m);
        break;
    }
}

void meter_set(struct meter *meter, int64_t most, int64_t now_us) {
    advance(meter, now_us);
    bool was_limited = meter->most > 0;
    meter->most = most;
    if (!was_limited || meter->level > level_most(meter)) {
        meter->level = level_most(meter);
    }
}

// --- use -----------------------------------------------------------------------------------------

// used is what counts against the limit now, where there is no level.
static int64_t used(const struct meter *m) {
    return m->mode == METER_FIXED ? m->used : log_sum(m) - m->log_gone;
}

// level_for is the level at which n units may be used.
static int64_t level_for(const struct meter *m, int64_t n) {
    int64_t full = level_most(m);
    return n > full / m->window_us ? full : n * m->window_us;
}

bool meter_fits(struct meter *meter, int64_t n, int64_t now_us) {
    if (meter->most == 0) {
        return true;
    }
    advance(meter, now_us);
    if (n > meter->most) {
        return false;
    }
    return has_level(meter) ? meter->level >= level_for(meter, n) : used(meter) + n <= meter->most;
}

void meter_add(struct meter *meter, int64_t n, int64_t now_us) {
    if (meter->most == 0 || n == 0) {
        return;
    }
    advance(meter, now_us);
    if (has_level(meter)) {
        meter->level -= n * meter->window_us;
    } else if (meter->mode == METER_FIXED) {
        meter->used += n;
    } else {
        log_add(meter, n);
    }
}

int64_t meter_left(struct meter *meter, int64_t now_us) {
    if (meter->most == 0) {
        return INT64_MAX;
    }
    advance(meter, now_us);
    return has_level(meter) ? meter->level / meter->window_us : meter->most - used(meter);
}

// rise_us is the time until the level has risen to what is wanted.
static int64_t rise_us(const struct meter *m, int64_t wanted) {
    if (m->mode == METER_BUCKET || m->level >= wanted) {
        return divide_up(wanted - m->level, m->most);
    }
    int64_t seconds = divide_up(wanted - m->level, m->most * SECOND_US);
    return (m->at_us / SECOND_US + seconds) * SECOND_US - m->at_us;
}

int64_t meter_wait_us(struct meter *meter, int64_t n, int64_t now_us) {
    if (meter_fits(meter, n, now_us)) {
        return 0;
    }
    if (n > meter->most) {
        return -1;
    }
    if (has_level(meter)) {
        return rise_us(meter, level_for(meter, n));
    }
    if (meter->mode == METER_FIXED) {
        return meter->window_us - meter->at_us % meter->window_us;
    }
    return log_when(meter, used(meter) + n - meter->most) - meter->at_us;
}

int64_t meter_full_us(struct meter *meter, int64_t now_us) {
    if (meter->most == 0) {
        return 0;
    }
    advance(meter, now_us);
    if (has_level(meter)) {
        return rise_us(meter, level_most(meter));
    }
    if (used(meter) == 0) {
        return 0;
    }
    return meter->mode == METER_FIXED ? meter->window_us - meter->at_us % meter->window_us
                                      : log_when(meter, used(meter)) - meter->at_us;
}
