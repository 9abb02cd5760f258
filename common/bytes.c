// Borrowed bytes (slice) and owned bytes with a ceiling (buf). Invariant of buf: n <= cap, n <= max,
// and p[n] is NUL whenever p is not NULL. Called by everything.
#include "common/bytes.h"
#include "common/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct slice slice_of(const char *s) {
    return (struct slice){.p = s, .n = s != NULL ? strlen(s) : 0};
}

bool slice_eq(struct slice a, struct slice b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool slice_is(struct slice a, const char *s) {
    return slice_eq(a, slice_of(s));
}

bool slice_is_nocase(struct slice a, const char *s) {
    return a.n == strlen(s) && (a.n == 0 || strncasecmp(a.p, s, a.n) == 0);
}

bool slice_starts(struct slice a, const char *prefix) {
    size_t n = strlen(prefix);
    return a.n >= n && (n == 0 || memcmp(a.p, prefix, n) == 0);
}

bool slice_has_nocase(struct slice hay, const char *needle) {
    size_t n = strlen(needle);
    if (n == 0) {
        return true; // also in a slice whose p is NULL
    }
    for (size_t i = 0; i + n <= hay.n; i++) {
        if (strncasecmp(hay.p + i, needle, n) == 0) {
            return true;
        }
    }
    return false;
}

struct slice slice_sub(struct slice a, size_t from, size_t n) {
    if (from >= a.n) {
        return SLICE_NONE;
    }
    size_t rest = a.n - from;
    return (struct slice){.p = a.p + from, .n = n < rest ? n : rest};
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice a) {
    while (a.n > 0 && is_space(a.p[0])) {
        a.p++;
        a.n--;
    }
    while (a.n > 0 && is_space(a.p[a.n - 1])) {
        a.n--;
    }
    return a;
}

char *slice_dup(struct slice a) {
    return mem_dup(a.p, a.n);
}

// utf8_sequence returns the length (1..4) of the well-formed character at p, or 0.
static size_t utf8_sequence(const unsigned char *p, size_t n) {
    if (p[0] < 0x80) {
        return 1;
    }
    size_t len;
    unsigned char low = 0x80, high = 0xBF; // bounds of the second byte, RFC 3629 section 4
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        len = 2;
    } else if ((p[0] & 0xF0) == 0xE0) {
        len = 3;
        low = p[0] == 0xE0 ? 0xA0 : 0x80;
        high = p[0] == 0xED ? 0x9F : 0xBF;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        len = 4;
        low = p[0] == 0xF0 ? 0x90 : 0x80;
        high = p[0] == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (n < len || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

long slice_utf8_error(struct slice a) {
    size_t i = 0;
    while (i < a.n) {
        uint64_t word; // eight ASCII bytes at once: most text is ASCII
        while (i + sizeof(word) <= a.n) {
            memcpy(&word, a.p + i, sizeof(word));
            if ((word & 0x8080808080808080u) != 0) {
                break;
            }
            i += sizeof(word);
        }
        if (i == a.n) {
            break;
        }
        size_t len = utf8_sequence((const unsigned char *)a.p + i, a.n - i);
        if (len == 0) {
            return (long)i;
        }
        i += len;
    }
    return -1;
}

bool slice_copy(struct slice a, char *into, size_t size) {
    size_t n = a.n;
    if (n >= size) {
        n = size - 1;
        while (n > 0 && ((unsigned char)a.p[n] & 0xC0) == 0x80) {
            n--;
        }
    }
    if (n > 0) {
        memcpy(into, a.p, n);
    }
    into[n] = '\0';
    return n == a.n;
}

void buf_init(struct buf *b, size_t max) {
    *b = (struct buf){.max = max};
}

void buf_free(struct buf *b) {
    free(b->p);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b) {
    b->n = 0;
    if (b->p != NULL) {
        b->p[0] = '\0';
    }
}

struct slice buf_slice(const struct buf *b) {
    return (struct slice){.p = b->p, .n = b->n};
}

char *buf_take(struct buf *b) {
    char *p = b->p != NULL ? b->p : mem_dup("", 0);
    *b = (struct buf){.max = b->max};
    return p;
}

int buf_reserve(struct buf *b, size_t n) {
    if (n > b->max - b->n) {
        return -EMSGSIZE;
    }
    size_t need = b->n + n + 1; // one more for the NUL
    if (need > b->cap) {
        size_t cap = b->cap > 0 ? b->cap : 64;
        while (cap < need) {
            cap *= 2;
        }
        b->p = mem_realloc(b->p, cap);
        b->cap = cap;
    }
    return 0;
}

int buf_add(struct buf *b, const void *p, size_t n) {
    int rc = buf_reserve(b, n);
    if (rc != 0) {
        return rc;
    }
    if (n > 0) {
        memcpy(b->p + b->n, p, n);
    }
    b->n += n;
    b->p[b->n] = '\0';
    return 0;
}

int buf_add_slice(struct buf *b, struct slice s) {
    return buf_add(b, s.p, s.n);
}

int buf_add_str(struct buf *b, const char *s) {
    return buf_add(b, s, strlen(s));
}

int buf_add_byte(struct buf *b, char c) {
    return buf_add(b, &c, 1);
}

int buf_addf(struct buf *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    int rc = n < 0 ? -EINVAL : buf_reserve(b, (size_t)n);
    if (rc != 0) {
        return rc;
    }
    va_start(args, format);
    vsnprintf(b->p + b->n, (size_t)n + 1, format, args);
    va_end(args);
    b->n += (size_t)n;
    return 0;
}
