// base64: bytes as text and back. Source: RFC 4648, sections 4 and 5.
#ifndef HEADRACE_COMMON_BASE64_H
#define HEADRACE_COMMON_BASE64_H

#include "common/bytes.h"

// base64_add appends bytes as text of section 4, padded. Returns 0 or -EMSGSIZE.
MUST_CHECK int base64_add(struct buf *out, struct slice bytes);

// base64_size is how many characters n bytes become.
size_t base64_size(size_t n);

// base64_decode appends what text of either alphabet stands for; '=' at the end may be left out.
// Returns 0; -EINVAL for anything else: another character, spaces, bits left over; -EMSGSIZE. Then out
// is as it was.
MUST_CHECK int base64_decode(struct slice text, struct buf *out);

#endif
