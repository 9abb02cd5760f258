// bytes: slice is borrowed bytes, buf is owned bytes with a ceiling.
#ifndef HEADRACE_COMMON_BYTES_H
#define HEADRACE_COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A slice points into bytes that somebody else owns. It is not NUL-terminated.
struct slice {
    const char *p; // may be NULL when n is 0
    size_t n;      // bytes
};

#define SLICE_NONE ((struct slice){0})
#define SLICE_LIT(s) ((struct slice){.p = (s), .n = sizeof(s) - 1})
// For printf: "%.*s", SLICE_FMT(s)
#define SLICE_FMT(s) (int)(s).n, (s).n > 0 ? (s).p : ""

// slice_of borrows a C string, which may be NULL (then the slice is empty).
struct slice slice_of(const char *s);
bool slice_eq(struct slice a, struct slice b);
// slice_is compares with a C string.
bool slice_is(struct slice a, const char *s);
// slice_is_nocase compares with a C string, ASCII letters case-folded.
bool slice_is_nocase(struct slice a, const char *s);
bool slice_starts(struct slice a, const char *prefix);
// slice_has_nocase looks for an ASCII needle anywhere, case-folded.
bool slice_has_nocase(struct slice hay, const char *needle);
// slice_sub returns a[from..from+n), clipped to a.
struct slice slice_sub(struct slice a, size_t from, size_t n);
// slice_trim cuts ASCII white space (space, \t, \r, \n) from both ends.
struct slice slice_trim(struct slice a);
// slice_dup copies to a NUL-terminated string; free with free().
char *slice_dup(struct slice a);
// slice_utf8_error returns the offset of the first byte that is not well-formed UTF-8 (RFC 3629:
// no overlong forms, no surrogates, at most U+10FFFF), or -1 when all of it is.
long slice_utf8_error(struct slice a);
// slice_copy copies into a fixed array, cut at a UTF-8 character's border to fit, always NUL-ended.
// Returns true when nothing was cut. size >= 1.
bool slice_copy(struct slice a, char *into, size_t size);

// A buf owns its bytes. {0} with max set, or buf_init, is an empty one. The bytes past n are not
// initialised; p[n] is always NUL once something was added, so p can be read as a C string.
struct buf {
    char *p;    // NULL until the first byte
    size_t n;   // bytes in use
    size_t cap; // bytes allocated
    size_t max; // most bytes it may ever hold
};

// buf_init makes an empty buf that refuses to grow past max bytes.
void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);
// buf_clear forgets the content and keeps the memory.
void buf_clear(struct buf *b);
// buf_slice borrows the content, valid until the buf changes.
struct slice buf_slice(const struct buf *b);
// buf_take gives the bytes (NUL-terminated) to the caller, who frees them; the buf is empty after.
char *buf_take(struct buf *b);

// Adding returns 0, or -EMSGSIZE past the ceiling; then the content is as it was.
MUST_CHECK int buf_add(struct buf *b, const void *p, size_t n);
MUST_CHECK int buf_add_slice(struct buf *b, struct slice s);
MUST_CHECK int buf_add_str(struct buf *b, const char *s);
MUST_CHECK int buf_add_byte(struct buf *b, char c);
MUST_CHECK int buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
// buf_reserve makes room for n more bytes at p + n; the caller writes there and raises n.
MUST_CHECK int buf_reserve(struct buf *b, size_t n);

#endif
