// letter: a record that was given up on, as the dead-letter stream keeps it: what became of it, and all
// that it takes to ask again.
#ifndef HEADRACE_COORDINATOR_LETTER_H
#define HEADRACE_COORDINATOR_LETTER_H

#include "common/bytes.h"
#include "proto/outcome.h"

struct model;

struct letter {
    struct slice model;     // name
    uint32_t revision;
    struct slice options;   // canonical overrides; empty when none
    struct slice id, key;   // key empty: none given
    struct slice producer;  // empty: came without acks
    uint64_t seq;           // the producer's; 0 without
    struct slice values;    // msgpack array, one per INPUT column of the revision
    enum outcome outcome;   // of its last call
    struct slice sentence;
    uint32_t attempts;      // calls that it was part of
    bool has_row;           // it has left as an error row too
};

// letter_pack appends the blob for Redis. Returns 0 or -EMSGSIZE.
MUST_CHECK int letter_pack(const struct letter *letter, struct buf *out);
// letter_unpack reads a blob; slices are borrowed from it. Returns 0 or -EPROTO.
MUST_CHECK int letter_unpack(struct slice blob, struct letter *letter);

// letter_json appends it as one JSON object for people.
//   partition, id  where it stands: "PARTITION/ID" is its name
//   model          its revision, for the columns' names; NULL: not known
//   fields         add what the record held
// Returns 0, -EPROTO or -EMSGSIZE.
MUST_CHECK int letter_json(const struct letter *letter, uint32_t partition, struct slice id,
                           const struct model *model, bool fields, struct buf *out);

#endif
