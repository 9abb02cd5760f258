// redrive: dead letters become records again, or go for good.
#ifndef HEADRACE_COORDINATOR_REDRIVE_H
#define HEADRACE_COORDINATOR_REDRIVE_H

#include "coordinator/core.h"

// redrive_letter puts the record of a dead letter into a batch and takes the letter out of the stream,
// both in the partition's next write. The newest revision of its model is asked if it wants the same
// INPUT columns, else the one that it was given to. A record that has left as an error row comes out
// with id and key, and without producer and sequence, which had their result.
//   id, blob  as the stream has them
// Returns 0; with why -ENOENT (no such model), -EINVAL (the overrides do not fit it any more), -EPROTO (the
// blob is damaged) or -EAGAIN (no room, or the partition is not owned).
MUST_CHECK int redrive_letter(struct core *core, int64_t now_us, uint32_t partition, struct slice id,
                              struct slice blob, struct error *why);
// redrive_drop takes a letter out of the stream with the next write.
void redrive_drop(struct core *core, uint32_t partition, struct slice id);
// redrive_cseq is the number of the partition's next write.
uint64_t redrive_cseq(const struct core *core, uint32_t partition);

#endif
