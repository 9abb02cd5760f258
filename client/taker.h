// taker: the acked dialogue of who takes results out. Each result is handed on once, in the order
// of its partition, however often it is sent.
//
//   SUBSCRIBE(taker, credit) → SUBSCRIBED; RESULTS(partition, first_oseq, …) → ACK(partition, upto)
#ifndef HEADRACE_CLIENT_TAKER_H
#define HEADRACE_CLIENT_TAKER_H

#include "client/dialogue.h"
#include "common/bytes.h"

struct taker_config {
    const char *address; // of the coordinator
    const char *name;    // stays the same over restarts
    uint64_t credit;     // most results on their way or not acked
    bool meta;           // results carry meta
};

struct taker_handlers {
    // on_result: one result as a JSON object's text, valid during the call.
    void (*on_result)(void *arg, uint32_t partition, uint64_t oseq, struct slice json);
    // on_refused: the coordinator will not serve this taker, or results are missing.
    void (*on_refused)(void *arg, struct slice code, struct slice message);
    void *arg;
};

struct taker;

struct taker *taker_new(struct loop *loop, void *zmq, const struct taker_config *config,
                              const struct taker_handlers *handlers, struct error *why);
void taker_free(struct taker *taker); // taker may be NULL

// taker_ack notes that everything of partition up to oseq is used.
void taker_ack(struct taker *taker, uint32_t partition, uint64_t upto);
// taker_push sends the acks that were noted: call it once what they stand for is safe.
void taker_push(struct taker *taker);
// taker_was_subscribed says whether the coordinator has ever answered.
bool taker_was_subscribed(const struct taker *taker);
// taker_dropped counts results that came more than once.
uint64_t taker_dropped(const struct taker *taker);

#endif
