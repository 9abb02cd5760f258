// openai: the three APIs of OpenAI, which many other servers speak with differences of their own. What
// the files openai_*.c and the providers that speak them share.
#ifndef HEADRACE_WORKER_OPENAI_H
#define HEADRACE_WORKER_OPENAI_H

#include "worker/provider.h"

extern const struct dialect openai_chat, openai_responses, openai_embeddings;

// openai_bearer is the headers function of servers that take a bearer token or nothing.
int openai_bearer(const struct model *model, struct buf *lines);

// openai_max_tokens names the field of a chat request that carries option 'max.tokens'.
const char *openai_max_tokens(const struct model *model);

// openai_add_detail appends the member that option 'image.detail' wants, with a comma before it.
int openai_add_detail(const struct model *model, struct buf *out);

// openai_finish_body closes the object and applies option 'params' to it.
int openai_finish_body(const struct model *model, struct buf *body);

// openai_read_usage reads either form of usage: prompt_tokens or input_tokens, and their details.
void openai_read_usage(struct json_object *usage, struct answer *answer);
// openai_read_top reads the members that all answers have: model, service_tier, id.
void openai_read_top(struct json_object *root, struct answer *answer);

#endif
