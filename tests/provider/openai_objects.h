// openai_objects: what the APIs of files and batches of OpenAI and Azure OpenAI have in common.
#ifndef HEADRACE_TESTS_PROVIDER_OPENAI_OBJECTS_H
#define HEADRACE_TESTS_PROVIDER_OPENAI_OBJECTS_H

#include "tests/provider/batches.h"

// openai_call_is_azure says whether a call came by Azure's paths.
bool openai_call_is_azure(const struct batch_call *call);
// openai_rest cuts the name of a collection, "/files" or "/batches", off a path, behind the head of
// either vendor. Returns false when the path is another's; rest is "" or "/..." then.
bool openai_rest(struct slice path, bool azure, const char *collection, struct slice *rest);
// openai_split cuts "/ID/VERB"; what is not there is empty.
void openai_split(struct slice rest, struct slice *id, struct slice *verb);
// openai_add_time appends ,"name":time in whole seconds, or as text for Azure now and then; 0
// becomes null.
MUST_CHECK int openai_add_time(struct buf *out, const char *name, int64_t us, bool as_text);
// openai_keep_us is how long a file is kept.
int64_t openai_keep_us(const struct batches *b);

// The rows' functions, for both vendors.
struct upload *openai_open_file(struct batches *b, const struct httpd_request *request);
void openai_serve_files(struct batch_call *call);
void openai_serve_batches(struct batch_call *call);

#endif
