// provider: the table of providers. A provider knows its URL, headers, body, how to read an answer,
// and what its errors mean; one row of the table and one file each.
#ifndef HEADRACE_WORKER_PROVIDER_H
#define HEADRACE_WORKER_PROVIDER_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"
#include "proto/outcome.h"

#include <json-c/json.h>

// What came back over HTTP. The slices are borrowed.
struct reply {
    int status;                // 100..999
    struct slice content_type; // empty: none given
    struct slice body;
    uint64_t retry_after_ms;   // from the headers; 0: nothing asked for
    int should_retry;          // header x-should-retry: 1 true, 0 false, -1 not there
};

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_FILTERED, FINISH_TOOL, FINISH_OTHER };

// What it means.
struct answer {
    enum outcome outcome;      // OK: text stands
    char detail[512];          // a sentence when outcome is not OK
    struct json_object *root;  // owned; what text borrows from
    struct slice text;         // the model's answer
    enum finish finish;
    bool usage_known;
    uint64_t input_tokens, cached_tokens, output_tokens;
    uint64_t retry_after_ms;   // from headers or body; 0: nothing asked for
    char served_model[129];
};

// answer_clear frees what answer owns and zeroes it.
void answer_clear(struct answer *answer);

struct provider {
    const char *name;          // of option 'provider'
    // Where calls go when the model has no 'endpoint'.
    const char *endpoint;
    // Appends the request's body. schema is empty when none is to be sent.
    int (*write)(const struct model *model, struct slice system, struct slice user,
                 struct slice schema, struct buf *body);
    // Appends HTTP header lines, each ended by '\n', with credentials as ${NAME}.
    int (*headers)(const struct model *model, struct buf *lines);
    // Whether a JSON Schema is known to be enforced at the model's endpoint.
    bool (*enforces_schema)(const struct model *model);
    // Reads what came back. answer is cleared.
    void (*read)(const struct reply *reply, struct answer *answer);
};

// provider_find looks one up by name, or returns NULL.
const struct provider *provider_find(const char *name);
extern const struct provider provider_openai;

// provider_schema says whether the model's calls carry a JSON Schema: structured.output, and whether
// the answer's shape is left to us (a response.path of the user's own is not).
bool provider_schema(const struct provider *provider, const struct model *model);

// ---- What providers share ---------------------------------------------------------------------

// One row of a provider's error classes; conditions that are zero always hold. Text is compared
// without case. The first row that matches wins.
struct error_class {
    int status[4];          // any of these; all zero: any status from low to high
    int low, high;          // used when status[0] is 0
    const char *code;       // equals error code or type
    const char *starts;     // message starts with
    const char *has, *has2; // message has (both)
    bool needs_delay;       // the provider asked for a delay
    enum outcome outcome;
};

struct provider_error {
    int status;
    struct slice code, type, message; // may be empty
};

// provider_classify looks rows over, then the rules for HTTP statuses that all providers share, and
// sets answer's outcome, detail and retry_after_ms.
void provider_classify(const struct error_class *rows, size_t n, const struct reply *reply,
                       const struct provider_error *error, struct answer *answer);

// provider_not_json fills answer for a body that is no JSON: by status, or what is wrong with a 200.
void provider_not_json(const struct error_class *rows, size_t n, const struct reply *reply,
                       struct answer *answer);

// retry_after_parse reads a Retry-After value: seconds, whole or not, or an HTTP date.
//   now_unix_ms  what a date is measured against
// Returns milliseconds, at least 0 and at most 86400000, or -1 for anything else.
// Source: RFC 9110, section 10.2.3.
int64_t retry_after_parse(struct slice text, int64_t now_unix_ms);
// retry_after_hint finds "try again in 9.816s" or "retry after 37 seconds" in a message; -1: none.
int64_t retry_after_hint(struct slice message);
// duration_parse reads a Go-style duration such as 6m0s, 8.64s, 12ms. Milliseconds, or -1.
int64_t duration_parse(struct slice text);

// text_clean copies what a stranger said into a fixed array: control characters become spaces, what
// is not UTF-8 becomes '?', the end is cut to fit.
void text_clean(struct slice text, char *into, size_t size);

#endif
