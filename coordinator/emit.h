// emit: what has ended goes into the outbox, or becomes a dead letter.
#ifndef HEADRACE_COORDINATOR_EMIT_H
#define HEADRACE_COORDINATOR_EMIT_H

#include "coordinator/core_state.h"

// emit_ready puts into the outbox what may leave the batch now.
void emit_ready(struct core *core, struct batch *batch);
// emit_refused makes the error result of a row that is no record. Its partition is that of its id.
void emit_refused(struct core *core, const struct group *group, struct slice id, struct slice key,
                  struct producer *producer, uint64_t seq, enum outcome outcome, struct slice why);
// emit_skipped makes the result of a record that is not asked about: null in every column, no error.
void emit_skipped(struct core *core, const struct group *group, struct slice id, struct slice key,
                  struct producer *producer, uint64_t seq);
// emit_stop_on_error: on.error = fail ends the job with its first error. group may be NULL: none.
void emit_stop_on_error(const struct group *group, enum outcome outcome, struct slice sentence);

#endif
