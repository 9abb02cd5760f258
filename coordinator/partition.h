// partition: key to partition; what each partition gathers in a turn, writes in one piece, and does
// once that write is durable. Its states: core_recover.c.
#ifndef HEADRACE_COORDINATOR_PARTITION_H
#define HEADRACE_COORDINATOR_PARTITION_H

#include "coordinator/core_state.h"

// partition_of says which partition a key belongs to: XXH3_64bits(key) mod n. Part of the protocol.
uint32_t partition_of(struct slice key, uint32_t n);

// partition_all_leased says whether every partition is still ours for certain: after a long pause of this
// process another may have taken them, has its own calls made, and delivers its own results.
bool partition_all_leased(const struct core *core);

// partition_next_batch makes an id that is unique over all partitions, epochs and restarts:
// 12 bits partition, 20 bits epoch, 32 bits counter.
uint64_t partition_next_batch(struct partition *p);

// partition_touch puts a batch into the partition's next write, as it will be by then.
void partition_touch(struct partition *p, struct batch *batch);
// partition_txn borrows the write that this turn gathers.
struct txn *partition_txn(struct partition *p);
// partition_after notes what happens once the turn's write is durable; its cseq is filled in.
void partition_after(struct partition *p, struct after after);
// partition_after_pending is the same for what waits only for writes that are under way; false: none is.
bool partition_after_pending(struct partition *p, struct after after);
// partition_accept notes that the record (producer, seq) of this partition will be durable with the
// turn's write.
void partition_accept(struct partition *p, struct producer *producer, uint64_t seq);

// partition_flush writes what the turn gathered, if anything.
void partition_flush(struct core *core, struct partition *p);
// partition_written does what waited for writes up to cseq.
void partition_written(struct core *core, struct partition *p, uint64_t cseq);
// partition_forget drops all that the partition gathered (fenced, or the core ends).
void partition_forget(struct core *core, struct partition *p);

#endif
