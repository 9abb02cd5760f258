// txn: one numbered write to a partition. Everything that a turn of the loop decided for a partition
// goes to Redis in one script call (part_write.lua): all of it or nothing.
//
// The numbers of a partition's writes (cseq) have no gaps, so a write that is sent again is known
// to have run already, and a Redis that lost writes is noticed at the next one.
#ifndef HEADRACE_COORDINATOR_TXN_H
#define HEADRACE_COORDINATOR_TXN_H

#include "common/bytes.h"

#include <stddef.h>
#include <stdint.h>

struct txn {
    uint32_t partition;
    uint64_t epoch;      // of the owner
    uint64_t cseq;       // number of this write, from 1
    uint64_t oseq;       // last result number of the partition after this write
    struct buf bytes;    // the arguments of the operations, one after another
    size_t *lengths;     // n_args lengths of them
    size_t n_args, cap_args;
};

struct txn *txn_new(uint32_t partition);
void txn_free(struct txn *txn); // txn may be NULL

// Operations, carried out in the order added. Bytes are copied.
void txn_put(struct txn *txn, uint64_t batch, struct slice blob);       // a batch, new or changed
void txn_delete(struct txn *txn, uint64_t batch);                       // a batch that is done
void txn_producer(struct txn *txn, struct slice producer, uint64_t seq); // accepted up to seq
void txn_consumer(struct txn *txn, struct slice consumer, uint64_t oseq); // a consumer's first position
void txn_out(struct txn *txn, uint64_t last_oseq, struct slice blob);   // results, the last one's number
void txn_dead(struct txn *txn, struct slice blob);                      // a record given up on
void txn_mark(struct txn *txn, uint64_t batch, struct slice blob);      // what is out of a batch; 0: the tally
void txn_unmark(struct txn *txn, uint64_t batch);                       // nothing is
void txn_undead(struct txn *txn, struct slice id);                      // it is no more: stream id
void txn_job(struct txn *txn, uint64_t job, struct slice blob);         // a job's row, new or changed
void txn_unjob(struct txn *txn, uint64_t job);                          // a job is forgotten
void txn_use(struct txn *txn, struct slice field, int64_t amount);      // added to a sum; see spend.h

// txn_args fills args (n_args + 3 of them) as part_write.lua wants them (the store adds to the epoch who took it): epoch, cseq, oseq, then the
// operations: "P" id blob | "D" id | "S" producer seq | "C" consumer oseq | "O" oseq blob | "L" blob |
// "X" id | "M" id blob | "U" id | "A" field amount | "J" id blob | "K" id. numbers holds the
// text of the first three. Slices are valid until the txn changes.
size_t txn_args(const struct txn *txn, char numbers[3][24], struct slice *args);

#endif
