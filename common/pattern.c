// PCRE2 with limits. Invariant: every match runs under a step limit and a heap limit, without JIT,
// so that its time and memory are bounded whatever the expression. Called by iregexp and by the
// reader of answers.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/pattern.h"

#include "common/mem.h"

#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>

#define MOST_BYTES  4096   // of an expression
#define MOST_STEPS  100000 // of one match
#define MOST_HEAP   1024   // KiB of one match
#define MOST_NESTED 64     // parentheses in one another

struct pattern {
    pcre2_code *code;
    pcre2_match_data *match;     // of the last match
    pcre2_match_context *limits;
};

void pattern_free(struct pattern *pattern) {
    if (pattern != NULL) {
        pcre2_match_data_free(pattern->match);
        pcre2_match_context_free(pattern->limits);
        pcre2_code_free(pattern->code);
        free(pattern);
    }
}

struct pattern *pattern_compile(struct slice text, int flags, struct error *why) {
    if (text.n > MOST_BYTES) {
        error_set(why, -EINVAL, "got %zu bytes, want at most %d", text.n, MOST_BYTES);
        return NULL;
    }
    uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY;
    options |= flags & PATTERN_WHOLE ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0;
    options |= flags & PATTERN_LINES ? PCRE2_MULTILINE : 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        abort();
    }
    pcre2_set_parens_nest_limit(context, MOST_NESTED);
    int code;
    PCRE2_SIZE at;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)(text.n > 0 ? text.p : ""), text.n, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (compiled == NULL) {
        PCRE2_UCHAR says[256];
        pcre2_get_error_message(code, says, sizeof(says));
        error_set(why, -EINVAL, "offset %zu: %s", (size_t)at, (const char *)says);
        return NULL;
    }
    struct pattern *pattern = mem_zalloc(sizeof(*pattern));
    pattern->code = compiled;
    pattern->match = pcre2_match_data_create_from_pattern(compiled, NULL);
    pattern->limits = pcre2_match_context_create(NULL);
    if (pattern->match == NULL || pattern->limits == NULL) {
        abort();
    }
    pcre2_set_match_limit(pattern->limits, MOST_STEPS);
    pcre2_set_depth_limit(pattern->limits, MOST_STEPS);
    pcre2_set_heap_limit(pattern->limits, MOST_HEAP);
    return pattern;
}

int pattern_match(const struct pattern *pattern, struct slice text, size_t from, size_t *at,
                  size_t *end) {
    int rc = pcre2_match(pattern->code, (PCRE2_SPTR)(text.n > 0 ? text.p : ""), text.n, from,
                         PCRE2_NO_UTF_CHECK, pattern->match, pattern->limits);
    if (rc == PCRE2_ERROR_NOMATCH) {
        return 0;
    }
    if (rc < 0) {
        return -E2BIG;
    }
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(pattern->match);
    *end = place[1];
    *at = place[0] <= place[1] ? place[0] : place[1]; // \K in a look-ahead can turn them round
    return 1;
}

int pattern_group(const struct pattern *pattern, const char *name) {
    int group = pcre2_substring_number_from_name(pattern->code, (PCRE2_SPTR)name);
    return group >= 0 ? group : -1;
}

bool pattern_get(const struct pattern *pattern, struct slice text, int group, struct slice *found) {
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(pattern->match);
    uint32_t n = pcre2_get_ovector_count(pattern->match);
    if (group < 0 || (uint32_t)group >= n || place[2 * group] == PCRE2_UNSET ||
        place[2 * group] > place[2 * group + 1] || place[2 * group + 1] > text.n) {
        return false;
    }
    *found = slice_sub(text, place[2 * group], place[2 * group + 1] - place[2 * group]);
    return true;
}
