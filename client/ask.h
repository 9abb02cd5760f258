// ask: one question to a coordinator and its answer, for the subcommands that want just that.
#ifndef HEADRACE_CLIENT_ASK_H
#define HEADRACE_CLIENT_ASK_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"
#include "proto/messages.h"

#include <json-c/json.h>

// ask sends a question until it is answered, for at most timeout_ms. REFUSED with a code that passes
// (starting, busy, away) is asked again.
//   want    kind of the answer
//   text    receives STATUS.json; may be NULL for other kinds
//   number  receives CREATED.models; may be NULL
// Returns 0; or with why -ETIMEDOUT, -EINVAL (an address that cannot be used), or -EPERM (refused).
MUST_CHECK int ask(const char *address, const struct message *question, enum message_kind want,
                   int64_t timeout_ms, struct buf *text, uint64_t *number, struct error *why);

// ask_json asks a question that is answered by STATUS. Returns 0 and fills value (json_object_put); or with why what
// ask returns, or -EINVAL: the answer is no JSON.
MUST_CHECK int ask_json(const char *address, const struct message *question, int64_t timeout_ms,
                        struct json_object **value, struct error *why);

// ask_create carries out CREATE MODEL statements: a file's text that was checked before.
MUST_CHECK int ask_create(const char *address, const char *file, int64_t timeout_ms,
                          uint64_t *n_changed, struct error *why);

// ask_model parses a model as the coordinator has it. Returns 0 and fills list (free with statements_free);
// with why -ENOENT (it has none of that name), or what ask returns.
MUST_CHECK int ask_model(const char *address, const char *name, int64_t timeout_ms, struct statements *list,
                         struct error *why);

#endif
