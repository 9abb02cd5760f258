// The pre-scan of msgpack that a stranger sent. Invariant: bytes that pass hold whole values whose
// counts are true, nested at most FRAME_MAX_DEPTH, so whatever unpacks them reserves no more than
// they are long. Called by message_unpack and rows_read.
#include "proto/frame.h"

#include "proto/pack.h"

#include <errno.h>

struct scan {
    struct slice all;
    struct slice rest;
    uint64_t left[FRAME_MAX_DEPTH]; // values still to come in each open array or map
    int depth;                      // how many are open
    struct error *why;
};

// open_one enters an array or map of n values, whose head began at `at`.
static int open_one(struct scan *s, const char *what, uint64_t n, size_t at) {
    if (n > s->rest.n) {
        return error_set(s->why, -EPROTO, "offset %zu: got %s of %llu values, want at most the %zu"
                         " bytes that follow", at, what, (unsigned long long)n, s->rest.n);
    }
    if (s->depth == FRAME_MAX_DEPTH) {
        return error_set(s->why, -EPROTO, "offset %zu: got %s at depth %d, want at most depth %d", at,
                         what, s->depth + 1, FRAME_MAX_DEPTH);
    }
    s->left[s->depth++] = n;
    return 0;
}

static int scan_one(struct scan *s) {
    size_t at = s->all.n - s->rest.n;
    struct pack_value v;
    int rc = pack_next(&s->rest, &v);
    if (rc == 0) {
        return error_set(s->why, -EPROTO, "offset %zu: got the end, want another value", at);
    }
    if (rc < 0) {
        return error_set(s->why, -EPROTO, "offset %zu: got byte 0x%02x and %zu more, want a whole"
                         " msgpack value", at, (unsigned char)s->rest.p[0], s->rest.n - 1);
    }
    if (v.type == PACK_STR) {
        long bad = slice_utf8_error(v.bytes);
        if (bad >= 0) {
            return error_set(s->why, -EPROTO, "offset %zu: got byte 0x%02x in a string, want UTF-8",
                             (size_t)(v.bytes.p - s->all.p) + (size_t)bad,
                             (unsigned char)v.bytes.p[bad]);
        }
    }
    if (v.type == PACK_EXT) {
        return error_set(s->why, -EPROTO, "offset %zu: got an ext type, want none", at);
    }
    if (v.type == PACK_ARRAY) {
        return open_one(s, "an array", v.count, at);
    }
    return v.type == PACK_MAP ? open_one(s, "a map", 2 * (uint64_t)v.count, at) : 0;
}

// scan_value looks over one value with all that is in it.
static int scan_value(struct scan *s) {
    int rc = scan_one(s);
    while (rc == 0 && s->depth > 0) {
        if (s->left[s->depth - 1] == 0) {
            s->depth--;
            continue;
        }
        s->left[s->depth - 1]--;
        rc = scan_one(s);
    }
    return rc;
}

long frame_scan(struct slice bytes, int values, struct error *why) {
    struct scan s = {.all = bytes, .rest = bytes, .why = why};
    long n = 0;
    while (s.rest.n > 0 && !(values == 1 && n == 1)) {
        int rc = scan_value(&s);
        if (rc != 0) {
            return rc;
        }
        n++;
    }
    if (values != 0 && n == 0) {
        return error_set(why, -EPROTO, "offset 0: got no bytes, want a msgpack value");
    }
    if (s.rest.n > 0) {
        return error_set(why, -EPROTO, "offset %zu: got %zu more bytes, want the end",
                         bytes.n - s.rest.n, s.rest.n);
    }
    return n;
}
