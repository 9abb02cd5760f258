// respond: what a request to an API is answered with, whether it came alone or as a line of a job.
#ifndef HEADRACE_TESTS_PROVIDER_RESPOND_H
#define HEADRACE_TESTS_PROVIDER_RESPOND_H

#include "common/httpd.h"
#include "tests/provider/chat.h"
#include "tests/provider/control.h"
#include "tests/provider/ledger.h"
#include "tests/provider/setup.h"

#define RESPOND_MAX (64u << 20) // bytes of an answer

// respond_admit lets limits look at a request. Returns true, or false with their refusal in reply.
typedef bool respond_admit(void *arg, struct job *job, const struct chat *chat,
                           struct httpd_reply *reply);

struct respond {
    const struct provider_options *options;
    const struct setup *setup;
    struct control *control;
    const struct ledger *ledger;
};

// respond_to_body answers the body of a request to job->api, respond_to_value one that is parsed
// already; that takes root. job's number draws its faults.
//   model  for an API that has it in the path
//   admit  may be NULL: no limits
//   reply  zeroed; gets all but the headers that every answer has. Its status stays 0 when there is
//   to be
//          no answer ever
void respond_to_body(const struct respond *r, struct slice body, struct slice model,
                     struct job *job, respond_admit *admit, void *arg, struct httpd_reply *reply);
void respond_to_value(const struct respond *r, struct json_object *root, struct slice model,
                      struct job *job, respond_admit *admit, void *arg, struct httpd_reply *reply);

// respond_error makes an error in the shape of the API's vendor; type and code are OpenAI's.
//   code   may be NULL
//   delay  say when to come again
void respond_error(const struct respond *r, const struct job *job, int status, const char *type,
                   const char *code, const char *message, bool delay, struct httpd_reply *reply);
// respond_html is what an edge says that cannot reach the API.
void respond_html(int status, struct httpd_reply *reply);
// respond_style is how errors and headers are worded: as the API's vendor does, or as
// --limit-headers says.
enum tell_style respond_style(const struct respond *r, const struct job *job);
// respond_delay is how long an answer takes, ms.
int64_t respond_delay(const struct respond *r, const struct job *job, size_t n_items);

#endif
