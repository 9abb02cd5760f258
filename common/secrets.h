// secrets: ${NAME} from the environment or a secrets file. Values are never printed or logged; only
// the worker uses them, the client only asks whether they are there.
#ifndef HEADRACE_COMMON_SECRETS_H
#define HEADRACE_COMMON_SECRETS_H

#include "common/bytes.h"
#include "common/error.h"

struct secrets;

// secrets_load reads NAME=value lines ('#' comments, optional quotes around the value); file may be
// NULL or "" (environment only). The file wins over the environment. Returns NULL with why when the
// file cannot be read, is readable by others (mode & 077), or has a line that is not NAME=value
// (the line's number is said, never its text).
struct secrets *secrets_load(const char *file, struct error *why);
// secrets_free wipes the values first.
void secrets_free(struct secrets *secrets);
// secrets_has says whether NAME resolves to a non-empty value.
bool secrets_has(const struct secrets *secrets, struct slice name);
// secrets_expand appends text with every ${NAME} replaced. Returns 0, -ENOENT with why naming the
// first name that is not there, -EINVAL for a value with control bytes (it would break a header),
// or -EMSGSIZE.
MUST_CHECK int secrets_expand(const struct secrets *secrets, struct slice text, struct buf *out,
                              struct error *why);

#endif
