// limit_header: what an answer's headers say of the account's limits: the rows of limit_header.def.
#ifndef HEADRACE_WORKER_LIMIT_HEADER_H
#define HEADRACE_WORKER_LIMIT_HEADER_H

#include "common/bytes.h"
#include "proto/limits_seen.h"

// Who sends such headers, and in which forms.
enum limit_family { LIMITS_NONE, LIMITS_OPENAI, LIMITS_AZURE, LIMITS_ANTHROPIC };

// limit_header_read puts one header into seen, if it tells of a limit and can be read.
//   name, value  of the header, white space trimmed
//   now_unix_ms  what a time is measured against
void limit_header_read(enum limit_family family, struct slice name, struct slice value,
                       int64_t now_unix_ms, struct limits_seen *seen);

#endif
