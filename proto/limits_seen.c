// Limits that an answer's headers tell of, packed. Invariant: a number is at least 0 or LIMIT_ABSENT,
// whatever the bytes say. Called by the worker's report and by the coordinator's pools.
#include "proto/limits_seen.h"

#include "proto/pack.h"

#include <errno.h>
#include <stdbool.h>

static const char *const names[N_LIMIT_KINDS] = {
#define X(name, text) [LIMIT_##name] = text,
    LIMIT_KINDS(X)
#undef X
};

const char *limit_kind_name(enum limit_kind kind) {
    return names[kind];
}

void limits_seen_clear(struct limits_seen *seen) {
    for (int i = 0; i < N_LIMIT_KINDS; i++) {
        seen->of[i] = (struct limit_seen){LIMIT_ABSENT, LIMIT_ABSENT, LIMIT_ABSENT};
    }
}

static bool is_known(const struct limit_seen *one) {
    return one->limit >= 0 || one->remaining >= 0 || one->reset_ms >= 0;
}

static uint32_t count_known(const struct limits_seen *seen) {
    uint32_t n = 0;
    for (int i = 0; i < N_LIMIT_KINDS; i++) {
        n += is_known(&seen->of[i]);
    }
    return n;
}

static int pack_number(struct buf *out, int64_t n) {
    return n < 0 ? pack_nil(out) : pack_uint(out, (uint64_t)n);
}

int limits_seen_pack(const struct limits_seen *seen, struct buf *out) {
    uint32_t n = count_known(seen);
    int rc = n > 0 ? pack_map(out, n) : 0;
    for (int i = 0; rc == 0 && i < N_LIMIT_KINDS; i++) {
        const struct limit_seen *one = &seen->of[i];
        if (is_known(one)) {
            rc = pack_uint(out, (uint64_t)i);
            rc = rc != 0 ? rc : pack_array(out, 3);
            rc = rc != 0 ? rc : pack_number(out, one->limit);
            rc = rc != 0 ? rc : pack_number(out, one->remaining);
            rc = rc != 0 ? rc : pack_number(out, one->reset_ms);
        }
    }
    return rc;
}

static int unpack_number(struct slice *rest, int64_t *n) {
    struct pack_value value;
    if (pack_next(rest, &value) != 1) {
        return -EPROTO;
    }
    if (value.type != PACK_UINT && value.type != PACK_NIL) {
        return -EPROTO;
    }
    *n = value.type == PACK_UINT && value.u <= INT64_MAX ? (int64_t)value.u : LIMIT_ABSENT;
    return 0;
}

static int unpack_one(struct slice *rest, struct limits_seen *seen) {
    uint64_t kind;
    uint32_t n;
    struct limit_seen one;
    struct slice skipped;
    int rc = pack_uint_next(rest, &kind);
    rc = rc != 0 ? rc : pack_array_next(rest, &n);
    rc = rc != 0 || n >= 3 ? rc : -EPROTO;
    rc = rc != 0 ? rc : unpack_number(rest, &one.limit);
    rc = rc != 0 ? rc : unpack_number(rest, &one.remaining);
    rc = rc != 0 ? rc : unpack_number(rest, &one.reset_ms);
    for (uint32_t i = 3; rc == 0 && i < n; i++) {
        rc = pack_whole(rest, &skipped) == 1 ? 0 : -EPROTO;
    }
    if (rc == 0 && kind < N_LIMIT_KINDS) {
        seen->of[kind] = one;
    }
    return rc;
}

int limits_seen_unpack(struct slice packed, struct limits_seen *seen) {
    limits_seen_clear(seen);
    uint32_t n = 0;
    int rc = packed.n == 0 ? 0 : pack_map_next(&packed, &n);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = unpack_one(&packed, seen);
    }
    if (rc != 0 || packed.n != 0) {
        limits_seen_clear(seen);
        return -EPROTO;
    }
    return 0;
}
