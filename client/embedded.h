// embedded: private redis-server, coordinator and workers as children of this process.
//
//            embedded_new      Redis answers             coordinator listens: on_ready
//   (none) ─────────────▶ REDIS ─────────────▶ COORDINATOR ─────────────▶ RUNNING
//              embedded_stop, from any of them: workers, then coordinator, then Redis end
//   In RUNNING a part that ends by itself is started again, a few times: on_again.
//   STOPPING ───────────────────────────────────────────────────────▶ STOPPED: on_stopped
// No child outlives this process, however it ends. Called by run.c.
#ifndef HEADRACE_CLIENT_EMBEDDED_H
#define HEADRACE_CLIENT_EMBEDDED_H

#include "client/state.h"
#include "common/error.h"
#include "common/loop.h"

struct embedded_config {
    const struct state *state; // locked; borrowed
    bool is_scratch;        // nobody will look at the folder again
    int64_t workers, max_inflight, partitions;
    const char *max_bytes;  // for records at the coordinator
    const char *durability; // "always", "everysec", "none"
    const char *secrets;    // file, or ""
    const char *ca_file;    // PEM file, or ""
    const char *prices;     // file, or ""
    const char *limits;     // file, or ""
    const char *log_level;
    char *const *secret_names; // n_secret_names: taken out of the environment of all but the workers
    size_t n_secret_names;
};

struct embedded_handlers {
    void (*on_ready)(void *arg, const char *address); // of the coordinator
    // on_again: a part ended that was not told to, and is started again; why says which and how.
    void (*on_again)(void *arg, bool is_coordinator, const struct error *why);
    // on_lost: a part ended too often, or before all were ready; why says which, and the end of its log. Once.
    void (*on_lost)(void *arg, const struct error *why);
    void (*on_stopped)(void *arg); // every child is gone
    void *arg;
};

struct embedded;

// embedded_new begins to start the parts, which go on with what the state folder holds.
// Returns NULL with why: redis-server or a program of ours is not there.
struct embedded *embedded_new(struct loop *loop, const struct embedded_config *config,
                              const struct embedded_handlers *handlers, struct error *why);
// embedded_start_workers starts the workers: once the coordinator takes messages, since one that is
// refused waits a second before it asks again.
void embedded_start_workers(struct embedded *embedded);
// embedded_stop ends all parts in order.
//   grace_ms  how long workers may finish their calls before they are killed
// A second call with a smaller grace hurries.
void embedded_stop(struct embedded *embedded, int64_t grace_ms);
// embedded_free kills what still runs. embedded may be NULL.
void embedded_free(struct embedded *embedded);

#endif
