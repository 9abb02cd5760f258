// Headers that tell of limits. Invariant: a value in another form than its row's leaves its number
// absent. Called by http for every header of an answer.
#include "worker/limit_header.h"

#include "worker/retry_after.h"

#include <stddef.h>

#define COUNT_MOST 1000000000000000 // more than any account has

static int64_t read_COUNT(struct slice value, int64_t now_unix_ms) {
    int64_t n = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || n > COUNT_MOST) {
            return LIMIT_ABSENT;
        }
        n = n * 10 + (value.p[i] - '0');
    }
    return value.n > 0 ? n : LIMIT_ABSENT;
}

static int64_t read_POSITIVE(struct slice value, int64_t now_unix_ms) {
    int64_t n = read_COUNT(value, now_unix_ms);
    return n > 0 ? n : LIMIT_ABSENT;
}

static int64_t read_GO(struct slice value, int64_t now_unix_ms) {
    int64_t ms = duration_parse(value);
    return ms >= 0 ? ms : retry_after_parse(value, now_unix_ms);
}

static int64_t read_SECONDS(struct slice value, int64_t now_unix_ms) {
    int64_t ms = retry_after_parse(value, now_unix_ms);
    return ms > 0 ? ms : LIMIT_ABSENT;
}

static int64_t read_TIME(struct slice value, int64_t now_unix_ms) {
    return time_until(value, now_unix_ms);
}

static const struct {
    enum limit_family family;
    const char *name;
    enum limit_kind kind;
    size_t offset; // of the number in struct limit_seen
    int64_t (*read)(struct slice value, int64_t now_unix_ms);
} rows[] = {
#define LIMIT_HEADER(FAMILY, text, KIND, field, FORM)                                              \
    {.family = LIMITS_##FAMILY, .name = text, .kind = LIMIT_##KIND,                                \
     .offset = offsetof(struct limit_seen, field), .read = read_##FORM},
#include "worker/limit_header.def"
#undef LIMIT_HEADER
};

void limit_header_read(enum limit_family family, struct slice name, struct slice value,
                       int64_t now_unix_ms, struct limits_seen *seen) {
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].family == family && slice_is_nocase(name, rows[i].name)) {
            int64_t *number = (int64_t *)((char *)&seen->of[rows[i].kind] + rows[i].offset);
            *number = rows[i].read(value, now_unix_ms);
            return;
        }
    }
}
