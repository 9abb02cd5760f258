// batches: what the APIs of files and batches share: files, jobs, their clock, and the way to an
// answer.
#ifndef HEADRACE_TESTS_PROVIDER_BATCHES_H
#define HEADRACE_TESTS_PROVIDER_BATCHES_H

#include "tests/provider/api.h"
#include "tests/provider/files.h"
#include "tests/provider/batch_jobs.h"
#include "tests/provider/respond.h"
#include "tests/provider/upload.h"

#define BATCHES_DAY_US INT64_C(86400000000)

struct loop;
struct loop_timer;

// A call that is answered later. job is what is known of it.
typedef void batches_send(void *arg, struct httpd_request *request, struct job *job,
                          struct httpd_reply *reply);

struct batches {
    const struct respond *respond;
    struct files files;
    struct batch_jobs jobs;
    struct loop_timer *timer;
    int64_t epoch_us; // to be added to monotonic time for the time since 1970
    batches_send *send;
    void *arg;
};

// One request to an API of files or batches.
struct batch_call {
    struct batches *b;
    struct httpd_request *request;
    struct job *job;
    struct httpd_reply *reply; // zeroed
    int64_t now_us;            // since 1970
    bool later;                // set when batches->send will answer
};

// The kinds of jobs, each in the file of its API.
extern const struct batch_kind openai_batch, azure_batch, anthropic_batch, gemini_batch;

// batches_init begins; respond and ledger outlive it.
void batches_init(struct batches *b, struct loop *loop, const struct respond *respond,
                  struct ledger *ledger, int64_t epoch_us, batches_send *send, void *arg);
void batches_free(struct batches *b);
// batches_left tells that a request is over: its job, if one waits for it, waits no more.
void batches_left(struct batches *b, struct httpd_request *request);
// batches_run lets the clock of the jobs run, after one was added or changed.
void batches_run(struct batches *b);

// batches_most is a limit: an option's value, or the vendor's when that is 0.
uint64_t batches_most(int64_t option, uint64_t vendor);
// batches_owner is whose files and jobs a call may see.
uint64_t batches_owner(const struct batch_call *call);

#define BATCHES_TIME_MAX 32
// batches_time writes a time as RFC 3339 has it, in UTC.
void batches_time(int64_t unix_us, char into[BATCHES_TIME_MAX]);

// call_is says whether the call has this method.
bool call_is(const struct batch_call *call, const char *method);
// call_error answers with an error in the vendor's shape.
//   code  OpenAI's; may be NULL
void call_error(struct batch_call *call, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// call_reply begins an answer of JSON, status 200, and returns its body.
struct buf *call_reply(struct batch_call *call);
// call_file answers with a file's bytes, unless a fault of a download hits.
void call_file(struct batch_call *call, struct spool *spool, const char *type);
// call_fault draws the faults of a time. Those that are an answer of their own are answered:
// reply->status is not 0 then. Returns what was drawn, for call_lose.
enum batch_fault call_fault(struct batch_call *call, enum batch_when when);
// call_lose spoils the answer to what was done: faults ending in -lost and -made.
void call_lose(struct batch_call *call, enum batch_fault fault);
// call_note tells the ledger what was done, and to what.
//   job, file  ids; may be NULL
void call_note(struct batch_call *call, const char *op, const char *job, const char *file);
// call_number reads an argument of the query, least..most. Returns 0, or -EINVAL after call_error.
MUST_CHECK int call_number(struct batch_call *call, const char *name, int64_t def, int64_t least,
                           int64_t most, int64_t *number);
// call_body parses the body, a JSON object, with no members but the n names. Returns 0 with *root,
// which the caller frees, or -EINVAL after call_error.
MUST_CHECK int call_body(struct batch_call *call, const char *const *names, size_t n,
                         struct json_object **root);

#endif
