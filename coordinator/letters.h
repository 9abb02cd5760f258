// letters: what people ask about dead letters: list, redrive, drop. One question at a time.
#ifndef HEADRACE_COORDINATOR_LETTERS_H
#define HEADRACE_COORDINATOR_LETTERS_H

#include "coordinator/core.h"
#include "coordinator/store.h"

struct letters;

struct letters_config {
    uint32_t n_partitions;
    struct core *core;
    struct store *store;
    const struct core_io *io; // its send and model
};

struct letters *letters_new(const struct letters_config *config);
void letters_free(struct letters *letters); // may be NULL; after the store

// letters_ask takes a LETTERS. The answer is a STATUS once it is done and durable, or REFUSED: busy, away,
// bad-message.
void letters_ask(struct letters *letters, struct slice route, const struct message_letters *question);
// letters_written: the partition's writes up to cseq are durable.
void letters_written(struct letters *letters, uint32_t partition, uint64_t cseq);

#endif
