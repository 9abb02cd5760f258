// iregexp: regular expressions of RFC 9485 (I-Regexp), run by PCRE2 with limits.
#ifndef HEADRACE_COMMON_IREGEXP_H
#define HEADRACE_COMMON_IREGEXP_H

#include "common/bytes.h"

struct iregexp;

// iregexp_compile reads an expression. whole: it must match a text from end to end, not just
// somewhere in it.
// Returns it (free with iregexp_free), or NULL for what is no I-Regexp, or past 4096 bytes, or
// nested deeper than 64.
// Source: RFC 9485 sections 4 and 5.3. '^' and '$' outside of classes are anchors, as the public
// compliance suite of RFC 9535 has it, where the grammar would take them for themselves.
struct iregexp *iregexp_compile(struct slice text, bool whole);
void iregexp_free(struct iregexp *re); // re may be NULL

// iregexp_matches says whether it matches: 1 or 0, or -E2BIG when that takes more than 100,000
// steps.
//   text  UTF-8
MUST_CHECK int iregexp_matches(const struct iregexp *re, struct slice text);

#endif
