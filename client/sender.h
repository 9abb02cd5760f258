// sender: the acked dialogue of who sends records in. Keeps what is not ACKED, and sends it again
// after a reconnect, from where the coordinator says.
//
//   OPEN(sender) → OPENED(upto, limit); APPEND(first_seq, rows) → ACKED(upto, limit) …; FLUSH
#ifndef HEADRACE_CLIENT_SENDER_H
#define HEADRACE_CLIENT_SENDER_H

#include "client/dialogue.h"
#include "common/bytes.h"

struct sender_config {
    const char *address;   // of the coordinator
    const char *name;      // stays the same over restarts
    const char *model;     // of all rows
    struct slice options;  // msgpack map of overrides, or empty; copied
    const char *id_column, *key_column; // "" for the defaults
};

struct sender_handlers {
    void (*on_room)(void *arg);  // rows may be added, or everything is acked: also when it was so before
    // on_refused: the coordinator will not take this sender; it stays as it is.
    void (*on_refused)(void *arg, struct slice code, struct slice message);
    void *arg;
};

struct sender;

struct sender *sender_new(struct loop *loop, void *zmq, const struct sender_config *config,
                              const struct sender_handlers *handlers, struct error *why);
void sender_free(struct sender *sender); // sender may be NULL

// sender_room says how many rows may be added now; 0 until the coordinator has answered, and while 64 MiB
// of rows are not acked.
uint64_t sender_room(const struct sender *sender);
// sender_add takes the next row, one JSON value without a line break, and returns its sequence,
// from 1. A row that the coordinator accepted in an earlier life is counted and not sent.
// Only while sender_room is not 0.
uint64_t sender_add(struct sender *sender, struct slice row);
// sender_end says that no row follows: what is there is sent, then FLUSH.
void sender_end(struct sender *sender);
// sender_push sends what was added; call once after adding many.
void sender_push(struct sender *sender);

uint64_t sender_added(const struct sender *sender);   // last sequence given
uint64_t sender_acked(const struct sender *sender);   // durable up to here
uint64_t sender_accepted(const struct sender *sender); // accepted before this life began
bool sender_is_open(const struct sender *sender);

#endif
