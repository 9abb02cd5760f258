// store_internal: what the files of the store share. Only store*.c include it.
//
//   store.c       life, settings of Redis, reading, acks, hints
//   store_own.c   who owns a partition: acquire, renew, release; recovery
//   store_write.c the numbered writes: pipeline, repeat, confirm
#ifndef HEADRACE_COORDINATOR_STORE_INTERNAL_H
#define HEADRACE_COORDINATOR_STORE_INTERNAL_H

#include "common/loop.h"
#include "common/redis.h"
#include "coordinator/store.h"

#define STORE_NS_MAX 64   // bytes of a namespace
#define STORE_KEY_MAX 128 // bytes of a key of a partition
#define STORE_ARG_MAX 24  // bytes of a number as text
#define STORE_OWN_MAX 48  // bytes of an epoch and a start as text

enum part_state { PART_IDLE, PART_ACQUIRING, PART_RECOVERING, PART_OWNED };

// Steps of recovery, one command each (RECOVER_BATCHES: one a chunk).
enum recover_step {
    RECOVER_OUT, RECOVER_LETTERS, RECOVER_IDS, RECOVER_BATCHES, RECOVER_MARKS, RECOVER_PRODUCERS,
    RECOVER_CONSUMERS, RECOVER_SPENT, RECOVER_JOBS
};

enum part_key { KEY_OWN, KEY_BAT, KEY_PRD, KEY_OUT, KEY_CUR, KEY_DLQ, KEY_SNT, KEY_USE, KEY_JOB, N_PART_KEYS };

// A write that is not confirmed, in part->writes; a dropped one is on no list and waits for its reply.
struct write {
    struct part *part;
    struct txn *txn;
    bool sent;    // its reply is still to come
    bool dropped; // the partition was fenced
    struct write *prev, *next;
};

struct part {
    struct store *store;
    uint32_t id;
    enum part_state state;
    uint32_t generation;     // counts acquisitions and fencings: answers to older questions are void
    uint64_t epoch;
    uint64_t confirmed;      // cseq of the last write known to be durable
    uint64_t newest;         // cseq of the newest write taken
    uint64_t oseq;           // when acquired
    int64_t lease_until_us;  // as last confirmed, by our clock
    bool unsure;             // reconnected, and not yet known to be ours still: nothing is sent
    bool releasing;          // released when the last write is confirmed
    bool stalled;            // Redis refuses writes; tried again by the timer
    bool told_held;          // "owned by another" was logged
    enum recover_step step;
    uint64_t *ids;           // of recovery's batches
    size_t n_ids, next_id;
    struct write *writes;    // utlist DL, by cseq
    struct loop_timer *timer; // next try: of acquiring, or of a stalled write
};

struct store {
    struct loop *loop;
    struct store_config config; // strings are ours
    char start[17];          // hexadecimal, of this store alone: who took an epoch
    struct store_handlers handlers;
    struct redis *redis;
    bool usable;             // connected and the settings were accepted
    int settings_left;       // answers of CONFIG GET to come
    struct error refused;    // why the settings are not acceptable; empty: they are
    struct part *parts;
    bool closed;             // being freed: nobody is called any more
    size_t n_pending;        // writes and releases not confirmed
    struct loop_timer *renewal;
};

// part_key writes the key's name into text and returns it.
struct slice part_key(const struct part *part, enum part_key key, char text[STORE_KEY_MAX]);
struct slice number_arg(uint64_t number, char text[STORE_ARG_MAX]);
// own_arg writes as whom we speak for the partition: epoch:start.
struct slice own_arg(const struct part *part, char text[STORE_OWN_MAX]);
// reply_number reads a reply that is a number or its text; false for anything else.
bool reply_number(const redisReply *reply, uint64_t *out);
struct slice reply_slice(const redisReply *reply);
// reply_is_error asks for an error whose code is prefix.
bool reply_is_error(const redisReply *reply, const char *prefix);

// part_fence stops a partition: drops its writes and tells the owner of the store.
void part_fence(struct part *part, const char *what);
// part_resume goes on after a (re)connect, wherever the partition stood.
void part_resume(struct part *part);
// part_confirm takes a write off the list, and tells. Only the head.
void part_confirm(struct part *part, struct write *write);
void part_release_if_done(struct part *part);
// part_send_writes sends every write that is not on its way.
void part_send_writes(struct part *part);
void part_drop_writes(struct part *part);
void on_renewal(void *store);
void on_part_timer(void *part);

#endif
