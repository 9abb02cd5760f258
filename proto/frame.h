// frame: the envelope of every message, and the pre-scan of msgpack that a stranger sent.
#ifndef HEADRACE_PROTO_FRAME_H
#define HEADRACE_PROTO_FRAME_H

#include "common/bytes.h"
#include "common/error.h"

#define FRAME_VERSION 1
#define FRAME_HEAD 4                  // 'H', 'R', version, kind
#define FRAME_MAX_BYTES (80 * 1024 * 1024)
#define FRAME_MAX_DEPTH 16            // msgpack nesting

// frame_scan looks over msgpack before any unpacker does: every declared count fits into the bytes
// left, nesting is at most FRAME_MAX_DEPTH, every str is UTF-8, no ext types. Allocates nothing.
//   values  how many in a row: 1: exactly one; 0: any number, also none; -1: any number, at least one
// Returns how many values there are, or -EPROTO with why (offset, got, want).
MUST_CHECK long frame_scan(struct slice bytes, int values, struct error *why);

#endif
