// repair: JSON that is almost JSON, as models write it, made strict.
#ifndef HEADRACE_WORKER_REPAIR_H
#define HEADRACE_WORKER_REPAIR_H

#include "common/bytes.h"

// What was put right, as bits.
enum repair {
    REPAIR_TRAILING_COMMA = 1 << 0, // [1,] {"a":1,}
    REPAIR_SINGLE_QUOTES = 1 << 1,  // 'a'
    REPAIR_NAN = 1 << 2,            // NaN, Infinity, -Infinity: null
    REPAIR_LITERAL = 1 << 3,        // True, False, None
    REPAIR_BARE_KEY = 1 << 4,       // {a: 1}
    REPAIR_CONTROL = 1 << 5,        // a line break or tab inside of a string; \' in one
    REPAIR_COMMENT = 1 << 6,        // // to the end of the line, /* ... */
};

// repair_json reads the array or object at the start of text and appends it as strict JSON. It puts
// right what the bits name and guesses nothing: what is left open, a missing comma or colon, a quote
// inside of quotes, and the same key twice in an object are refused.
//   text   UTF-8, starts with '[' or '{'
//   what   receives the bits of what was put right
// Returns how many bytes of text it took, or 0 when it cannot be; out is then as it was.
size_t repair_json(struct slice text, struct buf *out, unsigned *what);

// repair_name returns the name of one bit, for warnings; NULL for a number that is none.
const char *repair_name(unsigned bit);

#endif
