// Base64, both ways. Invariant: what was decoded encodes to the same text, but for the alphabet and the
// padding. Called wherever bytes stand in JSON.
#include "common/base64.h"

#include <errno.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_size(size_t n) {
    return (n + 2) / 3 * 4;
}

int base64_add(struct buf *out, struct slice s) {
    int rc = buf_reserve(out, base64_size(s.n) + 1);
    if (rc != 0) {
        return rc;
    }
    char *to = out->p + out->n;
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t three = (uint32_t)(unsigned char)s.p[i] << 16 |
                         (left > 1 ? (uint32_t)(unsigned char)s.p[i + 1] << 8 : 0) |
                         (left > 2 ? (uint32_t)(unsigned char)s.p[i + 2] : 0);
        *to++ = digits[three >> 18];
        *to++ = digits[three >> 12 & 63];
        *to++ = left > 1 ? digits[three >> 6 & 63] : '=';
        *to++ = left > 2 ? digits[three & 63] : '=';
    }
    *to = '\0';
    out->n = (size_t)(to - out->p);
    return 0;
}

// sextet is the value of a digit of either alphabet, or -1.
static int sextet(char c) {
    return c >= 'A' && c <= 'Z'     ? c - 'A'
           : c >= 'a' && c <= 'z'   ? c - 'a' + 26
           : c >= '0' && c <= '9'   ? c - '0' + 52
           : c == '+' || c == '-'   ? 62
           : c == '/' || c == '_'   ? 63
                                    : -1;
}

int base64_decode(struct slice s, struct buf *out) {
    for (int i = 0; i < 2 && s.n > 0 && s.p[s.n - 1] == '=' && s.n % 4 != 1; i++) {
        s.n--;
    }
    int rc = buf_reserve(out, s.n / 4 * 3 + 3);
    if (rc != 0) {
        return rc;
    }
    char *to = out->p + out->n;
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0; i < s.n; i++) {
        int six = sextet(s.p[i]);
        if (six < 0) {
            return -EINVAL;
        }
        bits = bits << 6 | (uint32_t)six;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *to++ = (char)(bits >> n_bits);
        }
    }
    if (n_bits >= 6 || (bits & ((1u << n_bits) - 1)) != 0) {
        return -EINVAL;
    }
    out->n = (size_t)(to - out->p);
    out->p[out->n] = '\0';
    return 0;
}
