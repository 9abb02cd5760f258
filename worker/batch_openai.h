// batch_openai: the batch API of OpenAI, which Azure speaks with differences of its own. What their two
// files share.
#ifndef HEADRACE_WORKER_BATCH_OPENAI_H
#define HEADRACE_WORKER_BATCH_OPENAI_H

#include "worker/batch.h"

// The exchanges ask the model's provider where Azure differs.
extern const struct exchange *const batch_openai_orders[N_BATCH_ORDERS];

// The form of lines and of their answers.
int batch_openai_line(const struct batch_step *step, struct slice name, struct slice body, bool first,
                      struct buf *out);
int batch_openai_nothing(const struct batch_step *step, struct buf *out);
int batch_openai_answer(const struct batch_step *step, struct json_object *row, struct batch_answer *out);

#endif
