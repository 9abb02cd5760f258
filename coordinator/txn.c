// One numbered write to a partition: its operations as a flat list of arguments. Made by the core,
// sent by the store, read by the simulator.
#include "coordinator/txn.h"
#include "common/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TXN_MAX_BYTES (256 * 1024 * 1024) // far above what one turn takes in

struct txn *txn_new(uint32_t partition) {
    struct txn *txn = mem_zalloc(sizeof(*txn));
    txn->partition = partition;
    buf_init(&txn->bytes, TXN_MAX_BYTES);
    return txn;
}

void txn_free(struct txn *txn) {
    if (txn != NULL) {
        buf_free(&txn->bytes);
        free(txn->lengths);
        free(txn);
    }
}

static void add_arg(struct txn *txn, struct slice arg) {
    if (txn->n_args == txn->cap_args) {
        txn->cap_args = txn->cap_args > 0 ? txn->cap_args * 2 : 16;
        txn->lengths = mem_realloc(txn->lengths, txn->cap_args * sizeof(*txn->lengths));
    }
    int rc = buf_add_slice(&txn->bytes, arg);
    assert(rc == 0);
    txn->lengths[txn->n_args++] = arg.n;
}

static void add_number(struct txn *txn, uint64_t number) {
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRIu64, number);
    add_arg(txn, (struct slice){.p = text, .n = (size_t)n});
}

void txn_put(struct txn *txn, uint64_t batch, struct slice blob) {
    add_arg(txn, SLICE_LIT("P"));
    add_number(txn, batch);
    add_arg(txn, blob);
}

void txn_delete(struct txn *txn, uint64_t batch) {
    add_arg(txn, SLICE_LIT("D"));
    add_number(txn, batch);
}

void txn_producer(struct txn *txn, struct slice producer, uint64_t seq) {
    add_arg(txn, SLICE_LIT("S"));
    add_arg(txn, producer);
    add_number(txn, seq);
}

void txn_consumer(struct txn *txn, struct slice consumer, uint64_t oseq) {
    add_arg(txn, SLICE_LIT("C"));
    add_arg(txn, consumer);
    add_number(txn, oseq);
}

void txn_out(struct txn *txn, uint64_t last_oseq, struct slice blob) {
    add_arg(txn, SLICE_LIT("O"));
    add_number(txn, last_oseq);
    add_arg(txn, blob);
}

void txn_dead(struct txn *txn, struct slice blob) {
    add_arg(txn, SLICE_LIT("L"));
    add_arg(txn, blob);
}

void txn_mark(struct txn *txn, uint64_t batch, struct slice blob) {
    add_arg(txn, SLICE_LIT("M"));
    add_number(txn, batch);
    add_arg(txn, blob);
}

void txn_unmark(struct txn *txn, uint64_t batch) {
    add_arg(txn, SLICE_LIT("U"));
    add_number(txn, batch);
}

void txn_undead(struct txn *txn, struct slice id) {
    add_arg(txn, SLICE_LIT("X"));
    add_arg(txn, id);
}

void txn_job(struct txn *txn, uint64_t job, struct slice blob) {
    add_arg(txn, SLICE_LIT("J"));
    add_number(txn, job);
    add_arg(txn, blob);
}

void txn_unjob(struct txn *txn, uint64_t job) {
    add_arg(txn, SLICE_LIT("K"));
    add_number(txn, job);
}

void txn_use(struct txn *txn, struct slice field, int64_t amount) {
    char text[24];
    int n = snprintf(text, sizeof(text), "%" PRId64, amount);
    add_arg(txn, SLICE_LIT("A"));
    add_arg(txn, field);
    add_arg(txn, (struct slice){.p = text, .n = (size_t)n});
}

size_t txn_args(const struct txn *txn, char numbers[3][24], struct slice *args) {
    const uint64_t heads[3] = {txn->epoch, txn->cseq, txn->oseq};
    size_t n = 0;
    for (; n < 3; n++) {
        int len = snprintf(numbers[n], 24, "%" PRIu64, heads[n]);
        args[n] = (struct slice){.p = numbers[n], .n = (size_t)len};
    }
    const char *p = txn->bytes.p;
    for (size_t i = 0; i < txn->n_args; i++) {
        args[n++] = (struct slice){.p = p, .n = txn->lengths[i]};
        p += txn->lengths[i];
    }
    return n;
}
