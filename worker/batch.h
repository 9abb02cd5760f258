// batch: what a provider's batch API needs: the requests of each order of a JOB, the reading of each
// answer, and the form of a line and of a line's answer. Its facts are a row of common/batch_apis.def; its
// functions are a file of their own, worker/batch_NAME.c, which defines the struct batch_NAME below.
// docs/providers.md shows how to add one.
#ifndef HEADRACE_WORKER_BATCH_H
#define HEADRACE_WORKER_BATCH_H

#include "common/batch_api.h"
#include "worker/held.h"
#include "worker/job_spool.h"
#include "worker/transfer.h"

#include <json-c/json.h>

// What JOB.order may be.
#define BATCH_ORDERS(X)                                                                              \
    X(UPLOAD, "upload")                                                                              \
    X(CREATE, "create")                                                                              \
    X(FIND, "find")                                                                                  \
    X(POLL, "poll")                                                                                  \
    X(CANCEL, "cancel")                                                                              \
    X(COLLECT, "collect")                                                                            \
    X(DELETE, "delete")
enum batch_order {
#define X(NAME, text) BATCH_##NAME,
    BATCH_ORDERS(X)
#undef X
    N_BATCH_ORDERS
};
// batch_order_of reads one, or returns -1.
int batch_order_of(struct slice text);

#define BATCH_ID_MAX 1024       // bytes of an id of the provider's
#define BATCH_NAME_MAX 64       // bytes of our name for a job, and of a line's
#define BATCH_TEXT_MAX 65536    // ceiling of a request's body that is made in memory
#define BATCH_URL_MAX 8192

// Where the API is, borrowed from the URL of the model's calls without the path of its API:
// https://h:1 | /v1 | ?api-version=x. A deployment's name in the path is cut out:
// https://h | /openai | deployment | ?api-version=x
struct batch_place {
    struct slice site, root, query, deployment; // deployment: empty: none is named
};

// How a step ended: what JOB_DONE says.
struct batch_done {
    enum outcome outcome;
    char detail[512];
    int http_status;
    bool sent;
    uint64_t retry_after_ms;
    const char *state;           // of JOB_DONE.state; "": not told
    char file[BATCH_ID_MAX + 1], id[BATCH_ID_MAX + 1];
    uint64_t total, completed, failed, bad_line;
};

struct exchange;

// A step under way, as a provider's functions see it.
struct batch_step {
    const struct held *held;     // the model; borrowed, as are the slices
    enum batch_order order;
    struct slice name, file, id; // of the JOB
    struct slice others;         // find: of the JOB
    uint64_t n_lines;            // of the job
    int64_t since_unix_ms;
    struct batch_place place;
    bool uploads;                // upload: the file is for an upload; otherwise lines go with the request
    struct job_spool lines;          // the file or body that was written
    struct job_spool replies;        // answers that are long

    // The next request, made by an exchange's ask.
    struct transfer_ask ask;
    struct buf url, text, header[2];

    // What exchanges keep for the next one.
    char files[2][BATCH_ID_MAX + 1]; // the provider's files of answers; "": none
    char cursor[BATCH_ID_MAX + 1];   // where a list goes on
    struct buf around;           // what is around the array of answers
    int64_t found_unix_ms;       // find: when the job found so far was created
    unsigned n_tries;            // of waiting, or pages of a list
    int64_t wait_ms;             // before the next exchange
    struct batch_done done;
};

// One request and the reading of its answer.
struct exchange {
    bool answers; // a 200's body goes to step->replies and holds the lines' answers; when the order is
                  // another than collect they are passed by
    const char *array; // they are the elements of this member's array (job_rows.h); NULL: lines
    // Makes step->ask. Returns 0, or a negative errno when step->done says why it cannot be asked.
    int (*ask)(struct batch_step *step);
    // Reads what came and returns the next exchange, or NULL: the step has ended as step->done says. After
    // answers it is called with those read.
    const struct exchange *(*read)(struct batch_step *step, const struct transfer_end *end);
};

// What a line's answer turned out to be: the reply that a call would have had, or that it was never asked.
struct batch_answer {
    char name[BATCH_NAME_MAX + 1]; // of the line
    bool undone;                 // the provider has not asked it: nothing was used
    int status;                  // HTTP, as the call would have had it
    struct buf body;
    char detail[256];            // undone: a sentence
    char request_id[257];
};

struct batch_provider {
    const struct exchange *const *orders; // N_BATCH_ORDERS; the first of each; NULL: the API has no such thing
    // The file of lines, or the body that holds them: before the first, a line, after the last.
    // Append; return 0, -EMSGSIZE, or -EINVAL: such a line cannot be asked.
    int (*begin)(const struct batch_step *step, struct buf *out);
    int (*line)(const struct batch_step *step, struct slice name, struct slice body, bool first,
                struct buf *out);
    int (*end)(const struct batch_step *step, struct buf *out);
    // Reads a line's answer out of what came for it; out->body is empty before. Returns 0, or -EINVAL: it
    // is none.
    int (*answer)(const struct batch_step *step, struct json_object *row, struct batch_answer *out);
};

#define BATCH_API(ID, name, rows, bytes, inline, hours, TAG) extern const struct batch_provider batch_##name;
#include "common/batch_apis.def"
#undef BATCH_API

// batch_provider_of finds what a model's jobs need, with the facts; NULL: there is no batch API.
const struct batch_provider *batch_provider_of(const struct model *model, const struct batch_api **facts);

// batch_place_of cuts up the URL of a model's calls. Returns 0, or -EINVAL: it does not end in the path of
// its API, so nothing can be known of the rest.
MUST_CHECK int batch_place_of(const struct held *held, struct batch_place *place);

// batch_step_init makes an empty step of a complete held model; batch_step_free frees it, spools too.
void batch_step_init(struct batch_step *step, const struct held *held, enum batch_order order);
void batch_step_free(struct batch_step *step);

// ---- What providers share -----------------------------------------------------------------------

// batch_url begins a request: method and URL of place.site + prefix + place.root + path + place.query.
// path is a format; what is put in must be escaped (batch_escape). Returns 0, or fails the step.
MUST_CHECK int batch_url(struct batch_step *step, enum transfer_method method, const char *prefix,
                         const char *path, ...) __attribute__((format(printf, 4, 5)));
// batch_query appends name=value to the URL. Returns 0, or fails the step.
MUST_CHECK int batch_query(struct batch_step *step, const char *name, const char *value);
// batch_escape writes text as one segment of a path into a fixed array, and returns it; cut to fit.
const char *batch_escape(struct slice text, char *into, size_t size);

// batch_fail ends the step with a sentence; returns -EINVAL.
int batch_fail(struct batch_step *step, enum outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// batch_read parses what came of an exchange. Returns the object of a good answer (json_object_put), or
// NULL after the step was failed by what it is: no answer, an error by error_class.def, a page of some
// gateway.
struct json_object *batch_read(struct batch_step *step, const struct transfer_end *end);
// batch_is_gone says whether an answer is a provider's own "there is no such thing", which no page is.
bool batch_is_gone(const struct transfer_end *end);
// batch_ended says whether a job's state is an end at which answers can be collected; if it still runs, the step
// is failed: what it has not given yet must not be taken for missing.
bool batch_ended(struct batch_step *step);
// batch_gone ends a step well: the job is not there.
void batch_gone(struct batch_step *step);
// batch_look reads what a request for a job brought: told puts the job into step->done. Returns whether its state
// is known now; if not, the job is gone, or the step is failed.
bool batch_look(struct batch_step *step, const struct transfer_end *end,
                void (*told)(struct batch_step *step, struct json_object *job));
// batch_made reads what a request that makes a job brought: told puts the job into step->done; refused says more of
// a step that was failed. The step has ended then.
void batch_made(struct batch_step *step, const struct transfer_end *end,
                void (*told)(struct batch_step *step, struct json_object *job),
                void (*refused)(struct batch_step *step, const struct transfer_end *end));
// batch_deleted reads what a DELETE brought: what is not there need not be deleted. False: the step is failed.
bool batch_deleted(struct batch_step *step, const struct transfer_end *end);
// batch_wait returns next, to be asked after a wait that grows, while an uploaded file is being processed; or NULL
// after the last: the step is failed.
const struct exchange *batch_wait(struct batch_step *step, const struct exchange *next);

// batch_is_other says whether an id is that of another job of ours, as the JOB names them.
bool batch_is_other(const struct batch_step *step, struct slice id);
// batch_keep copies a text of an answer into a fixed array; what is longer, or holds control characters,
// is not kept.
void batch_keep(struct slice text, char *into, size_t size);
// batch_number reads a whole number, which Google writes as a string; 0: there is none.
uint64_t batch_number(struct json_object *object, const char *name);
// batch_time reads Unix seconds or RFC 3339 as Unix ms; -1: neither.
int64_t batch_time(struct json_object *value);
// batch_state_is compares a provider's state with a word: case, and a prefix BATCH_STATE_ or JOB_STATE_, do
// not count.
bool batch_state_is(struct slice state, const char *word);

// batch_name_count reads how many records a line of this name asks for; 0: it is no name of ours.
size_t batch_name_count(struct slice name);

#endif
