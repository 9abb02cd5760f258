// Prompts that are too long. Invariant: a cut is between two characters, in one STRING value, and the rest of the
// record stands as it was. Called by the prompt step and, with what a provider refused, by the parse step.
#include "worker/overflow.h"

#include "common/tokens.h"
#include "proto/pack.h"
#include "proto/record.h"

#include <errno.h>

#define NUMBER_LEAST 64  // smaller numbers in a sentence are no tokens of a context
#define NUMBERS_MOST 2   // the limit and the prompt's length, in either order
#define LEARNED_PART 0.9 // of what the provider's count leaves, since parts of a text differ
#define BLIND_PART 0.6   // of a prompt, when the sentence tells nothing

int64_t overflow_room(const struct model *model, int64_t learned) {
    const struct model_options *o = &model->options;
    int64_t room = INT64_MAX;
    if (o->context_size != MODEL_UNSET) {
        int64_t answer = o->max_tokens != MODEL_UNSET && o->max_tokens < o->context_size ? o->max_tokens : 0;
        room = (o->context_size - answer) * TOKENS_BYTES;
    }
    return learned > 0 && learned < room ? learned : room;
}

// read_numbers finds the first numbers in a sentence that may be tokens; "200,000" is one.
static size_t read_numbers(struct slice s, double numbers[NUMBERS_MOST]) {
    size_t n = 0;
    for (size_t i = 0; i < s.n && n < NUMBERS_MOST;) {
        double value = 0;
        size_t from = i;
        for (; i < s.n && ((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] == ',' && i > from && i - from < 16)); i++) {
            value = s.p[i] == ',' ? value : value * 10 + (s.p[i] - '0');
        }
        if (i > from && value >= NUMBER_LEAST && value < 1e9) {
            numbers[n++] = value;
        }
        i += i == from;
    }
    return n;
}

// after_status leaves "HTTP 400 " out of a sentence.
static struct slice after_status(struct slice s) {
    return slice_starts(s, "HTTP ") ? slice_sub(s, 8, s.n) : s;
}

int64_t overflow_learn(const struct model *model, struct slice sentence, size_t n_prompt) {
    double numbers[NUMBERS_MOST], bytes = (double)n_prompt;
    size_t n = read_numbers(after_status(sentence), numbers);
    double limit = n == 2 && numbers[1] < numbers[0] ? numbers[1] : n > 0 ? numbers[0] : 0;
    double got = n == 2 && numbers[1] > numbers[0] ? numbers[1] : n == 2 ? numbers[0] : 0;
    int64_t answer = model->options.max_tokens;
    double room = BLIND_PART * bytes;
    if (got > limit && limit > 0) {
        double left = limit - (answer != MODEL_UNSET && (double)answer < limit ? (double)answer : 0);
        room = LEARNED_PART * bytes * left / got;
    }
    room = room < bytes - 1 ? room : bytes - 1;
    return room < 1 ? 1 : (int64_t)room;
}

// ---- Cutting ------------------------------------------------------------------------------------------

// is_inside says whether a byte continues a character of UTF-8.
static bool is_inside(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

// shorten takes whole characters off a text; what is written of it in a prompt is at least as long.
static struct slice shorten(struct slice text, size_t n_bytes, bool at_head) {
    n_bytes = n_bytes < text.n ? n_bytes : text.n;
    if (at_head) {
        while (n_bytes < text.n && is_inside(text.p[n_bytes])) {
            n_bytes++;
        }
        return slice_sub(text, n_bytes, text.n - n_bytes);
    }
    size_t n = text.n - n_bytes;
    while (n > 0 && n < text.n && is_inside(text.p[n])) {
        n--;
    }
    return slice_sub(text, 0, n);
}

// longest finds the largest STRING value of a record. Returns its place, -1: none.
static long longest(const struct model *model, struct slice values, size_t *n_bytes) {
    uint32_t n;
    long best = -1;
    *n_bytes = 0;
    if (pack_array_next(&values, &n) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < n && i < model->n_input; i++) {
        struct slice whole, rest;
        struct pack_value v;
        if (pack_whole(&values, &whole) != 1) {
            return -1;
        }
        rest = whole;
        bool is_text = model->input[i].type == TYPE_STRING && pack_next(&rest, &v) == 1 && v.type == PACK_STR;
        if (is_text && v.bytes.n > *n_bytes) {
            *n_bytes = v.bytes.n;
            best = (long)i;
        }
    }
    return best;
}

static int pack_cut(const struct model *model, struct slice values, long which, size_t n_bytes,
                    struct buf *out, size_t *cut) {
    uint32_t n;
    int rc = pack_array_next(&values, &n);
    rc = rc == 0 ? pack_array(out, n) : rc;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        struct slice whole, rest;
        struct pack_value v;
        if (pack_whole(&values, &whole) != 1) {
            return -EPROTO;
        }
        rest = whole;
        if ((long)i == which && pack_next(&rest, &v) == 1) {
            struct slice kept = shorten(v.bytes, n_bytes, model->options.context_overflow == OVERFLOW_HEAD);
            *cut = v.bytes.n - kept.n;
            rc = pack_str(out, kept);
        } else {
            rc = buf_add_slice(out, whole);
        }
    }
    return rc;
}

int overflow_cut(const struct model *model, struct slice record, size_t n_bytes, struct buf *out,
                 size_t *cut, const char **column) {
    uint64_t slot;
    struct slice values;
    size_t n_text;
    if (record_next(&record, &slot, &values) != 1) {
        return -EPROTO;
    }
    long which = longest(model, values, &n_text);
    if (which < 0) {
        return -ENODATA;
    }
    struct buf made;
    buf_init(&made, values.n + 16);
    int rc = pack_cut(model, values, which, n_bytes, &made, cut);
    buf_clear(out);
    rc = rc == 0 ? record_pack(out, slot, buf_slice(&made)) : rc;
    buf_free(&made);
    *column = model->input[which].name;
    return rc;
}
