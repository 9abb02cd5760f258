// limits_seen: what the headers of one answer said of the account's limits; travels in REPORT.limits.
#ifndef HEADRACE_PROTO_LIMITS_SEEN_H
#define HEADRACE_PROTO_LIMITS_SEEN_H

#include "common/bytes.h"

#include <stdint.h>

// What a limit counts. The number of a row is its key on the wire: add at the end only.
#define LIMIT_KINDS(X)                                                                             \
    X(REQUESTS, "requests")             /* requests a minute */                                    \
    X(TOKENS, "tokens")                 /* tokens a minute, in and out */                          \
    X(INPUT_TOKENS, "input-tokens")     /* tokens in a minute */                                   \
    X(OUTPUT_TOKENS, "output-tokens")   /* tokens out a minute */                                  \
    X(REQUESTS_DAY, "requests-day")     /* requests a day */                                       \
    X(TOKENS_DAY, "tokens-day")         /* tokens a day */                                         \
    X(PROJECT_TOKENS, "project-tokens") /* tokens a minute of the project that the key is of */
enum limit_kind {
#define X(name, text) LIMIT_##name,
    LIMIT_KINDS(X)
#undef X
    N_LIMIT_KINDS
};

#define LIMIT_ABSENT (-1) // the answer did not say

// One limit; each number is at least 0 or LIMIT_ABSENT.
struct limit_seen {
    int64_t limit;     // most in the window
    int64_t remaining; // still free when the answer was sent
    int64_t reset_ms;  // until it is whole again, from when the answer arrived
};

struct limits_seen {
    struct limit_seen of[N_LIMIT_KINDS];
};

const char *limit_kind_name(enum limit_kind kind); // "input-tokens", ...

// limits_seen_clear makes every number absent.
void limits_seen_clear(struct limits_seen *seen);

// limits_seen_pack appends a msgpack map: kind (its number) to [limit, remaining, reset_ms], each an
// integer or nil; kinds of which nothing is known are left out, and nothing is written when none is
// known. Returns 0 or -EMSGSIZE.
MUST_CHECK int limits_seen_pack(const struct limits_seen *seen, struct buf *out);

// limits_seen_unpack fills seen from what limits_seen_pack wrote; empty packed: all absent. Kinds it
// does not know and items past the third are skipped; a number past INT64_MAX is absent.
// Returns 0, or -EPROTO for anything else; seen is then all absent.
MUST_CHECK int limits_seen_unpack(struct slice packed, struct limits_seen *seen);

#endif
