// steps: the two steps of the path that only compute, as calls meet them: 6 prompt and 8 parse.
// worker/prompt.h and worker/parse.h hold the work itself.
#ifndef HEADRACE_WORKER_STEPS_H
#define HEADRACE_WORKER_STEPS_H

#include "worker/call.h"
#include "worker/parse.h"
#include "worker/provider.h"

// Step 6: makes the request's body.
struct prompt_step {
    struct buf system, user; // scratch
    struct buf cut, spare;   // the only record, shorter
    struct slice inputs[MODEL_BATCH_MAX]; // scratch: VECTORS, the text of each record in user
    call_next *next;
    void *arg;
};
// max_bytes bounds each message of a prompt.
void prompt_step_init(struct prompt_step *step, size_t max_bytes, call_next *next, void *arg);
void prompt_step_free(struct prompt_step *step);
// prompt_step_make fills in call->body, slots and prompt_hash, or decides the call; it is not handed on.
void prompt_step_make(struct prompt_step *step, struct call *call);
// prompt_push fills in call->body, slots and prompt_hash, or decides the call.
void prompt_push(void *step, struct call *call);

// Step 8: reads the provider's answer and the model's text in it.
struct parse_step {
    struct parser *parser;
    struct parsed parsed; // scratch: call->items points here until the call was handed on
    call_next *next;
    void *arg;
};
void parse_step_init(struct parse_step *step, call_next *next, void *arg);
void parse_step_free(struct parse_step *step);
// parse_step_read decides the call, with its items, which stand until the next; it is not handed on.
void parse_step_read(struct parse_step *step, struct call *call);
// parse_push decides the call, with its items.
void parse_push(void *step, struct call *call);

#endif
