// embedded: private redis-server, coordinator and workers as children of this process.
//
//            embedded_new      Redis answers             coordinator listens: on_ready
//   (none) ─────────────▶ REDIS ─────────────▶ COORDINATOR ─────────────▶ RUNNING
//              embedded_stop, from any of them: workers, then coordinator, then Redis end
//   STOPPING ───────────────────────────────────────────────────────▶ STOPPED: on_stopped
// No child outlives this process, however it ends. Called by run.c.
#ifndef HEADRACE_CLIENT_EMBEDDED_H
#define HEADRACE_CLIENT_EMBEDDED_H

#include "common/error.h"
#include "common/loop.h"

struct embedded_config {
    const char *state;      // folder, made if need be; "": a new one under $TMPDIR
    bool keep;              // do not remove a folder that was made here
    int64_t workers, max_inflight, partitions;
    const char *durability; // "always", "everysec", "none"
    const char *secrets;    // file, or ""
    const char *log_level;
    char *const *secret_names; // n_secret_names: taken out of the environment of all but the workers
    size_t n_secret_names;
};

struct embedded_handlers {
    void (*on_ready)(void *arg, const char *address); // of the coordinator
    // on_lost: a part ended that was not told to; why says which, and the end of its log. Once.
    void (*on_lost)(void *arg, const struct error *why);
    void (*on_stopped)(void *arg); // every child is gone
    void *arg;
};

struct embedded;

// embedded_check_state refuses a state folder (a path, or "") that holds a run which did not finish:
// its accepted rows belong to that run. Returns 0, or -EEXIST with why.
MUST_CHECK int embedded_check_state(const char *state, struct error *why);

// embedded_new makes and locks the state folder and begins to start the parts.
// Returns NULL with why: redis-server or a program of ours is not there, the folder cannot be made or
// is in use.
struct embedded *embedded_new(struct loop *loop, const struct embedded_config *config,
                              const struct embedded_handlers *handlers, struct error *why);
// embedded_start_workers starts the workers: once the coordinator takes messages, since one that is
// refused waits a second before it asks again.
void embedded_start_workers(struct embedded *embedded);
// embedded_stop ends all parts in order.
//   grace_ms  how long workers may finish their calls before they are killed
// A second call with a smaller grace hurries.
void embedded_stop(struct embedded *embedded, int64_t grace_ms);
// embedded_free kills what still runs, and removes the folder if it was made here, is not to be kept
// and `clean` is set. embedded may be NULL.
void embedded_free(struct embedded *embedded, bool clean);

// embedded_finished notes in the state folder that every row came out: its data are not needed any
// more, and another run may use the folder.
void embedded_finished(struct embedded *embedded);

const char *embedded_state(const struct embedded *embedded); // the folder's absolute path
bool embedded_is_temporary(const struct embedded *embedded);

#endif
