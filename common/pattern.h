// pattern: PCRE2 with limits, so that no expression and no text can take long.
#ifndef HEADRACE_COMMON_PATTERN_H
#define HEADRACE_COMMON_PATTERN_H

#include "common/bytes.h"
#include "common/error.h"

struct pattern;

enum pattern_flag {
    PATTERN_WHOLE = 1, // must match from end to end
    PATTERN_LINES = 2, // ^ and $ also match at line breaks
};

// pattern_compile reads a PCRE2 expression over UTF-8 of at most 4096 bytes.
// Returns it (free with pattern_free), or NULL with why ("offset 4: missing closing parenthesis").
struct pattern *pattern_compile(struct slice text, int flags, struct error *why);
void pattern_free(struct pattern *pattern); // pattern may be NULL

// pattern_match looks for the next match at or after `from`, which is at a character's border.
//   text  UTF-8, checked by the caller
// Returns 1 with where it lies in *at and *end; 0: no match; -E2BIG: past the limits (100,000 steps,
// 1 MB).
MUST_CHECK int pattern_match(const struct pattern *pattern, struct slice text, size_t from,
                             size_t *at, size_t *end);

// pattern_group returns the number of a named group, or -1.
int pattern_group(const struct pattern *pattern, const char *name);
// pattern_get borrows what a group of the last match holds. Returns false when it took no part.
bool pattern_get(const struct pattern *pattern, struct slice text, int group, struct slice *found);

#endif
