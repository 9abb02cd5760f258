// Byte-pair encoding, for counting only: which tokens there are does not matter. Invariant: every single
// byte has a rank, so that any text can be counted. Called by tokens.c.
#include "common/tokenizer.h"
#include "common/mem.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define PIECE_MAX 4096     // bytes that are merged at once
#define TOKEN_MAX 1024     // bytes of a token
#define MANY_RANKS 150000
#define NO_RANK UINT32_MAX

// How text is split before its pieces are merged; the two that OpenAI's models use.
// Source: tiktoken_ext/openai_public.py of github.com/openai/tiktoken.
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
static const char SPLIT_CL100K[] = CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                                               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char SPLIT_O200K[] = "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTION "?|"
                                  "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CONTRACTION "?|"
                                  "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

struct rank {
    uint32_t at, n; // bytes of the token, in the tokenizer's; n 0: an empty place
    uint32_t rank;
};

struct tokenizer {
    struct buf bytes;      // of all tokens
    struct rank *ranks;    // a hash table with open addressing
    size_t n_ranks, n_places; // places: a power of two
    pcre2_code *split;
};

// ---- Ranks ----------------------------------------------------------------------------------------------

static struct rank *place_of(const struct tokenizer *t, const char *p, size_t n) {
    size_t i = XXH3_64bits(p, n) & (t->n_places - 1);
    while (t->ranks[i].n > 0 &&
           (t->ranks[i].n != n || memcmp(t->bytes.p + t->ranks[i].at, p, n) != 0)) {
        i = (i + 1) & (t->n_places - 1);
    }
    return &t->ranks[i];
}

static uint32_t rank_of(const struct tokenizer *t, const char *p, size_t n) {
    const struct rank *place = place_of(t, p, n);
    return place->n > 0 ? place->rank : NO_RANK;
}

static int sextet(char c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    return c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

// decode reads base64 into out, which has room for 3/4 of it; returns how many bytes, or 0: it is none.
static size_t decode(struct slice text, char *out) {
    size_t n = 0, n_bits = 0;
    uint32_t bits = 0;
    while (text.n > 0 && text.p[text.n - 1] == '=') {
        text.n--;
    }
    for (size_t i = 0; i < text.n; i++) {
        int six = sextet(text.p[i]);
        if (six < 0) {
            return 0;
        }
        bits = bits << 6 | (uint32_t)six;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[n++] = (char)(bits >> n_bits);
        }
    }
    return n;
}

// read_line adds one "BASE64 RANK"; 0, or -EINVAL with why.
static int read_line(struct tokenizer *t, struct slice line, struct error *why) {
    char token[TOKEN_MAX], number[16];
    const char *space = memchr(line.p, ' ', line.n);
    size_t n_base = space != NULL ? (size_t)(space - line.p) : 0;
    struct slice rest = space != NULL ? slice_sub(line, n_base + 1, line.n) : SLICE_NONE;
    size_t n = n_base > 0 && n_base <= TOKEN_MAX ? decode(slice_sub(line, 0, n_base), token) : 0;
    char *end = number;
    bool fits = slice_copy(rest, number, sizeof(number));
    unsigned long rank = strtoul(number, &end, 10);
    if (n == 0 || !fits || end == number || *end != '\0' || rank >= NO_RANK) {
        return error_set(why, -EINVAL, "got '%.40s', want a token in base64, a space and its rank",
                         slice_copy(slice_sub(line, 0, 40), token, sizeof(token)) ? token : "");
    }
    struct rank *place = place_of(t, token, n);
    if (place->n > 0) {
        return error_set(why, -EINVAL, "got a token that is there already, with rank %u", place->rank);
    }
    *place = (struct rank){.at = (uint32_t)t->bytes.n, .n = (uint32_t)n, .rank = (uint32_t)rank};
    t->n_ranks++;
    return buf_add(&t->bytes, token, n);
}

static int read_lines(struct tokenizer *t, struct slice text, const char *name, struct error *why) {
    for (size_t number = 1; text.n > 0; number++) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        struct slice line = slice_sub(text, 0, n);
        line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
        int rc = line.n > 0 ? read_line(t, line, why) : 0;
        if (rc != 0) {
            char where[300];
            snprintf(where, sizeof(where), "%.200s:%zu: ", name, number);
            error_prefix(why, "%s", where);
            return rc;
        }
        text = slice_sub(text, n + (end != NULL), text.n);
    }
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        if (rank_of(t, &c, 1) == NO_RANK) {
            return error_set(why, -EINVAL, "%.200s: byte 0x%02x has no rank, want one for every byte", name, byte);
        }
    }
    return 0;
}

static int compile_split(struct tokenizer *t, struct error *why) {
    int code;
    size_t at;
    const char *pattern = t->n_ranks > MANY_RANKS ? SPLIT_O200K : SPLIT_CL100K;
    t->split = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF,
                             &code, &at, NULL);
    if (t->split == NULL) {
        return error_set(why, -ENOTSUP, "this PCRE2 has no Unicode properties (error %d)", code);
    }
    (void)pcre2_jit_compile(t->split, PCRE2_JIT_COMPLETE); // without it, slower
    return 0;
}

struct tokenizer *tokenizer_read(struct slice text, const char *name, struct error *why) {
    size_t n_lines = 1;
    for (size_t i = 0; i < text.n; i++) {
        n_lines += text.p[i] == '\n';
    }
    struct tokenizer *t = mem_zalloc(sizeof(*t));
    buf_init(&t->bytes, TOKENIZER_FILE_MAX);
    for (t->n_places = 1024; t->n_places < 2 * n_lines;) {
        t->n_places *= 2;
    }
    t->ranks = mem_zalloc(t->n_places * sizeof(*t->ranks));
    if (read_lines(t, text, name, why) != 0 || compile_split(t, why) != 0) {
        tokenizer_free(t);
        return NULL;
    }
    return t;
}

struct tokenizer *tokenizer_load(const char *path, struct error *why) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        error_set(why, -errno, "%s: %s", path, strerror(errno));
        return NULL;
    }
    struct buf text;
    buf_init(&text, TOKENIZER_FILE_MAX);
    char chunk[65536];
    size_t n;
    int rc = 0;
    while (rc == 0 && (n = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = buf_add(&text, chunk, n);
    }
    struct tokenizer *t = NULL;
    if (rc != 0) {
        error_set(why, rc, "%s: got more than %d MB, want a rank file", path, TOKENIZER_FILE_MAX >> 20);
    } else if (ferror(file)) {
        error_set(why, -EIO, "%s: cannot be read", path);
    } else {
        t = tokenizer_read(buf_slice(&text), path, why);
    }
    fclose(file);
    buf_free(&text);
    return t;
}

void tokenizer_free(struct tokenizer *t) {
    if (t != NULL) {
        pcre2_code_free(t->split);
        buf_free(&t->bytes);
        free(t->ranks);
        free(t);
    }
}

// ---- Counting -------------------------------------------------------------------------------------------

// A part of a piece: where it starts, and the rank that it and the next would have together.
struct part {
    uint32_t at, rank;
};

// pair_rank says which rank parts i and i + 1 have together; parts[n] ends the last.
static uint32_t pair_rank(const struct tokenizer *t, const char *p, const struct part *parts, size_t i, size_t n) {
    return i + 2 <= n ? rank_of(t, p + parts[i].at, parts[i + 2].at - parts[i].at) : NO_RANK;
}

// merge joins neighbours, lowest rank first, until none has a rank; returns how many parts are left.
static size_t merge(const struct tokenizer *t, const char *p, size_t n_bytes) {
    struct part parts[PIECE_MAX + 1];
    size_t n = n_bytes;
    for (size_t i = 0; i <= n; i++) {
        parts[i].at = (uint32_t)i;
    }
    for (size_t i = 0; i < n; i++) {
        parts[i].rank = pair_rank(t, p, parts, i, n);
    }
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++) {
            best = parts[i].rank < parts[best].rank ? i : best;
        }
        if (n < 2 || parts[best].rank == NO_RANK) {
            return n;
        }
        memmove(&parts[best + 1], &parts[best + 2], (n - best - 1) * sizeof(*parts));
        n--;
        parts[best].rank = pair_rank(t, p, parts, best, n);
        if (best > 0) {
            parts[best - 1].rank = pair_rank(t, p, parts, best - 1, n);
        }
    }
}

static uint64_t count_piece(const struct tokenizer *t, const char *p, size_t n) {
    uint64_t count = 0;
    while (n > 0) {
        size_t some = n < PIECE_MAX ? n : PIECE_MAX;
        count += rank_of(t, p, some) != NO_RANK ? 1 : merge(t, p, some);
        p += some;
        n -= some;
    }
    return count;
}

uint64_t tokenizer_count(const struct tokenizer *t, struct slice text) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    uint64_t count = 0;
    size_t at = 0;
    while (at < text.n) {
        int rc = pcre2_match(t->split, (PCRE2_SPTR)text.p, text.n, at, 0, match, NULL);
        const size_t *found = pcre2_get_ovector_pointer(match);
        if (rc < 1 || found[1] <= at) {
            break;
        }
        count += count_piece(t, text.p + at, found[0] - at); // bytes that are no UTF-8
        count += count_piece(t, text.p + found[0], found[1] - found[0]);
        at = found[1];
    }
    count += count_piece(t, text.p + at, text.n - at);
    pcre2_match_data_free(match);
    return count;
}
