// run_order: rows on their way, from input to output. Keeps input order when asked to, and knows up
// to which result of each partition everything is written, so that no result is acked too early.
#ifndef HEADRACE_CLIENT_RUN_ORDER_H
#define HEADRACE_CLIENT_RUN_ORDER_H

#include "common/bytes.h"

// A row on its way.
struct held {
    uint64_t row;        // its place in the input, from 1; the owner's
    uint64_t seq;        // of the producer, from 1; 0: a row that was never sent
    const char *file;    // where it stood; borrowed
    uint64_t line;
    char *text;          // n_text bytes of input (JSON or CSV), owned; NULL once done
    size_t n_text;
    char *out;           // n_out bytes: its finished line, owned; NULL until done
    size_t n_out;
    int code;            // the owner's: what became of it
    char *why;           // the owner's: what was wrong with it before it was sent; owned; NULL: nothing
    // run_order's own
    struct ack_entry *ack;     // the result it came from; NULL: none
    struct held *prev, *next;  // input order
    struct held *same;         // next of its bucket
};

struct run_order_handlers {
    // write takes one finished line, held->out; it is written before any ack that follows counts.
    void (*write)(void *arg, const struct held *held);
    // ack: every result of partition up to oseq is written.
    void (*ack)(void *arg, uint32_t partition, uint64_t oseq);
    void *arg;
};

struct run_order;

struct run_order *run_order_new(bool ordered, const struct run_order_handlers *handlers);
void run_order_free(struct run_order *order); // order may be NULL

// run_order_add takes a row; rows come in input order. A row that is done already (out is set) is
// written as soon as it is its turn.
void run_order_add(struct run_order *order, struct held **held);
// run_order_find returns the row of a sequence that is held and not done, or NULL.
struct held *run_order_find(struct run_order *order, uint64_t seq);
// run_order_done says that the result oseq of partition has finished held, whose out is set.
// Results of a partition come in the order of oseq. held may be NULL: a result that nobody waits
// for is only acked in its turn.
void run_order_done(struct run_order *order, struct held *held, uint32_t partition, uint64_t oseq);
// run_order_keep keeps the result of a row that was not read yet: after a restart, results of an
// earlier life may be there first. json is copied.
void run_order_keep(struct run_order *order, uint64_t seq, struct slice json, uint32_t partition,
                    uint64_t oseq);
// run_order_kept returns the kept result of a sequence (free with run_order_done_kept), or NULL.
struct kept;
struct kept *run_order_kept(struct run_order *order, uint64_t seq);
struct slice kept_json(const struct kept *kept);
// run_order_done_kept does what run_order_done does, for a result that was kept. Takes kept.
void run_order_done_kept(struct run_order *order, struct held *held, struct kept **kept);
// run_order_flush writes every row that is done, past those that are not: for a run that ends early.
void run_order_flush(struct run_order *order);

size_t run_order_held(const struct run_order *order);       // rows not yet written
size_t run_order_held_bytes(const struct run_order *order); // of their texts and lines

#endif
