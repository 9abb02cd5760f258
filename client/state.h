// state: the folder of a run: locked while the run lives, so that nobody else works on it.
#ifndef HEADRACE_CLIENT_STATE_H
#define HEADRACE_CLIENT_STATE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

#define STATE_PATH_MAX 512             // of the folder
#define STATE_FILE_MAX (STATE_PATH_MAX + 64) // of a file in it

struct state {
    char path[STATE_PATH_MAX]; // absolute
    int lock;                  // -1: closed
    bool is_temporary;         // made here, to be removed at the end
};

// state_open makes the folder if need be and locks it.
//   wanted  its path, or "": a new one under $TMPDIR
// Returns 0; -EBUSY with why when another process holds it; another negative errno with why.
MUST_CHECK int state_open(struct state *state, const char *wanted, struct error *why);
// state_close unlocks, and removes a temporary folder when `remove` is set.
void state_close(struct state *state, bool remove);

// state_file writes the path of a file in the folder into path, which is returned.
const char *state_file(const struct state *state, const char *name, char path[STATE_FILE_MAX]);
// state_remove removes a file or a folder in it, if it is there. Returns 0 or a negative errno with why.
MUST_CHECK int state_remove(const struct state *state, const char *name, struct error *why);
// state_sync makes the names of new and removed files survive a power cut.
//   folder  path of any folder
MUST_CHECK int state_sync(const char *folder, struct error *why);

// state_temp makes an empty folder and writes its path. Returns 0 or a negative errno with why.
MUST_CHECK int state_temp(char *path, size_t size, const char *parent, struct error *why);
// state_remove_folder removes a folder with all that is in it; what cannot be removed is logged.
void state_remove_folder(const char *path);

#endif
