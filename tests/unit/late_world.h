// What tests of calls that outlive a worker or a coordinator share: calls to keep, silence, a restart, and a
// worker that comes back with one.
#ifndef HEADRACE_TESTS_LATE_WORLD_H
#define HEADRACE_TESTS_LATE_WORLD_H

#include "core_world.h"
#include "proto/pack.h"

// world_call_of copies the first DISPATCH of a worker; records holds what it borrows, for the caller to free.
static inline struct message_dispatch world_call_of(struct world *w, const char *worker, char **records) {
    size_t at = 0;
    struct message_dispatch d = world_find(w, &at, worker, MESSAGE_DISPATCH)->dispatch;
    *records = slice_dup(d.records);
    d.records.p = *records;
    return d;
}

// world_silence lets 6 s pass in which nobody says anything.
static inline void world_silence(struct world *w) {
    for (int i = 0; i < 12; i++) {
        world_pass(w, 500);
    }
}

// world_restart is another process in the coordinator's place: what is durable is all that is left.
static inline void world_restart(struct world *w) {
    world_crash(w);
    memset(&w->status, 0, sizeof(w->status));
    world_start(w);
}

// world_hello_holding: a worker is back and names one call, for its first n_slots slots.
static inline void world_hello_holding(struct world *w, const char *worker, const struct message_dispatch *d,
                                       uint32_t n_slots) {
    struct buf held;
    buf_init(&held, 256);
    int rc = pack_array(&held, 1) | pack_array(&held, 3) | pack_uint(&held, d->batch) |
             pack_uint(&held, d->call) | pack_array(&held, n_slots);
    for (uint32_t slot = 0; slot < n_slots; slot++) {
        rc |= pack_uint(&held, slot);
    }
    assert_int_equal(rc, 0);
    struct message_hello hello = {.worker = slice_of(worker), .incarnation = 1, .version = SLICE_LIT("0"),
                                  .held = buf_slice(&held), .max_inflight = 4, .max_bytes = 1 << 30};
    world_message(w, worker, (struct message){.kind = MESSAGE_HELLO, .hello = hello});
    buf_free(&held);
}

#endif
