// provider: what a provider does with a call: headers, body, reading the answer. Its facts are a row
// of common/providers.def; its functions are a file of their own, worker/provider_NAME.c, which
// defines the struct provider_NAME below. What its errors mean is in error_class.def, its headers
// about limits in limit_header.def.
#ifndef HEADRACE_WORKER_PROVIDER_H
#define HEADRACE_WORKER_PROVIDER_H

#include "common/bytes.h"
#include "common/error.h"
#include "common/model.h"
#include "common/providers.h"
#include "proto/outcome.h"
#include "worker/error_class.h"
#include "worker/limit_header.h"

#include <json-c/json.h>

// What is asked in one call. Slices are borrowed.
struct ask {
    const struct model *model;
    struct slice system, user;  // the two messages of a TEXT task; system may be empty
    struct slice schema;        // JSON Schema of the answer; empty: none is to be sent
    struct slice records;       // count times [slot, values]: see proto/record.h
    size_t count;               // records, at least 1
    const struct slice *inputs; // VECTORS: the text of each record, in prompt order; NULL otherwise
};

// What came back over HTTP. The slices are borrowed.
struct reply {
    int status;                // 100..999
    struct slice content_type; // empty: none given
    struct slice body;
    uint64_t retry_after_ms;   // from the headers; 0: nothing asked for
    int should_retry;          // header x-should-retry: 1 true, 0 false, -1 not there
    const struct model *model; // that was called
    size_t count;              // records of the call
    size_t n_prompt;           // bytes of its messages
};

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_FILTERED, FINISH_TOOL, FINISH_OTHER };

// The vector of one input: n numbers in answer->made, from *at* on. n is 0 when it is missing.
struct vector {
    size_t at, n;
};

// What it means.
struct answer {
    enum outcome outcome;      // OK: text or vectors stand
    char detail[512];          // a sentence when outcome is not OK
    struct json_object *root;  // owned; what text borrows from
    struct buf made;           // owned; text or floats that were put together here
    struct slice text;         // the model's answer; borrows from root or made
    struct vector *vectors;    // owned; VECTORS: one for each record, in prompt order
    enum finish finish;
    bool usage_known;
    uint64_t input_tokens;     // cached ones and those written to a cache included
    uint64_t cached_tokens;    // of them, read from a cache
    uint64_t cache_write_tokens; // of them, written to a cache
    uint64_t output_tokens;    // reasoning included
    uint64_t reasoning_tokens; // of them, spent on reasoning
    uint64_t retry_after_ms;   // from headers or body; 0: nothing asked for
    bool schema_refused;       // the fault is the JSON Schema that was sent along
    char served_model[129];
    char service_tier[65];
    char request_id[129];      // when the body has it; a header's counts more
};

#define ANSWER_TEXT_MAX (64 * 1024 * 1024) // ceiling of answer->made: more than any reply has

// answer_clear frees what answer owns and zeroes it.
void answer_clear(struct answer *answer);

// One form of requests and answers.
struct dialect {
    // Appends the request's body. 0; -EMSGSIZE; -EINVAL: options 'params' and 'request.template' make
    // no JSON; -ERANGE: the records' arrays cannot be one tensor; -EPROTO: they cannot be read.
    int (*write)(const struct ask *ask, struct buf *body);
    // Reads what came back; answer is cleared before.
    void (*read)(const struct reply *reply, struct answer *answer);
};

struct provider {
    // Appends HTTP header lines, each ended by '\n', with credentials as ${NAME}.
    int (*headers)(const struct model *model, struct buf *lines);
    enum limit_family limits;                // how its headers tell of limits
    const struct dialect *dialects[N_APIS]; // those of its rows API(...)
};

#define PROVIDER(ID, name, text, host, root, tokens, own) extern const struct provider provider_##name;
#define API(ID, KIND, path, tasks, schema, images, inputs)
#include "common/providers.def"
#undef PROVIDER
#undef API

// provider_of and provider_dialect look up what a checked model's calls need.
const struct provider *provider_of(const struct model *model);
const struct dialect *provider_dialect(const struct model *model);

// provider_schema says whether the model's calls carry a JSON Schema: structured.output, whether it is
// known to be kept to, and whether the answer's shape is left to us (a response.path of the user's own
// is not).
bool provider_schema(const struct model *model);

// ---- What writers share -------------------------------------------------------------------------

// body_add_number and body_add_count append a member with a comma before it; nothing when the option is
// not given. Return 0 or -EMSGSIZE.
MUST_CHECK int body_add_number(const char *name, double value, struct buf *out);
MUST_CHECK int body_add_count(const char *name, int64_t value, struct buf *out);
// body_merge applies option 'params' to a whole body as a merge patch. Source: RFC 7396.
// Returns 0; -EMSGSIZE; -EINVAL: it is no object.
MUST_CHECK int body_merge(const struct model *model, struct buf *body);

// ---- What readers share -------------------------------------------------------------------------

// reply_json parses a reply's body into answer->root. Returns it when it is an object of a good answer;
// otherwise NULL, and answer says what went wrong.
struct json_object *reply_json(enum provider_id id, const struct reply *reply, struct answer *answer);
// answer_fail sets outcome and detail.
void answer_fail(struct answer *answer, enum outcome outcome, const char *sentence);
// answer_count reads a member that is a whole number of at least 0; false: there is none.
bool answer_count(struct json_object *object, const char *name, uint64_t *count);

// text_clean copies what a stranger said into a fixed array: control characters become spaces, what
// is not UTF-8 ends it, the end is cut to fit.
void text_clean(struct slice text, char *into, size_t size);

#endif
