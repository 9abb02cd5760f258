// The folder of a run. Invariant: while lock is open, no other process has the folder open by
// state_open. Called by run.c, and by embedded.c for a folder with a short name.
#include "client/state.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_WAIT_MS 2000
#define LOCK_AGAIN_MS 20

int state_temp(char *path, size_t size, const char *parent, struct error *why) {
    if (snprintf(path, size, "%s/headrace-XXXXXX", parent) >= (int)size || mkdtemp(path) == NULL) {
        int code = -errno;
        return error_set(why, code, "cannot make a folder in '%s': %s", parent, strerror(-code));
    }
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

void state_remove_folder(const char *path) {
    if (nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0) {
        log_warn("state.left", "folder=%s", path);
    }
}

static const char *tmp_folder(void) {
    const char *tmp = getenv("TMPDIR");
    return tmp != NULL && *tmp != '\0' ? tmp : "/tmp";
}

// make_folder finds or makes the folder and writes its absolute path.
static int make_folder(struct state *state, const char *wanted, struct error *why) {
    char path[STATE_PATH_MAX];
    if (*wanted == '\0') {
        int status = state_temp(path, sizeof(path), tmp_folder(), why);
        if (status < 0) {
            return status;
        }
        state->is_temporary = true;
        wanted = path;
    } else if (mkdir(wanted, 0700) != 0 && errno != EEXIST) {
        int code = -errno;
        return error_set(why, code, "--state: cannot make folder '%s': %s", wanted, strerror(-code));
    }
    char full[PATH_MAX];
    if (realpath(wanted, full) == NULL || strlen(full) >= sizeof(state->path)) {
        return error_set(why, -EINVAL, "--state: cannot use folder '%s'", wanted);
    }
    slice_copy(slice_of(full), state->path, sizeof(state->path));
    return 0;
}

// take_lock waits for a while: parts of a run that was killed hold the lock until they are gone.
static bool take_lock(int lock) {
    for (int64_t end_us = clock_us() + LOCK_WAIT_MS * 1000;;) {
        if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
            return true;
        }
        if (clock_us() >= end_us) {
            return false;
        }
        poll(NULL, 0, LOCK_AGAIN_MS);
    }
}

int state_open(struct state *state, const char *wanted, struct error *why) {
    *state = (struct state){.lock = -1};
    int status = make_folder(state, wanted, why);
    if (status < 0) {
        return status;
    }
    char file[STATE_FILE_MAX];
    state->lock = open(state_file(state, "lock", file), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (state->lock < 0) {
        int code = -errno;
        return error_set(why, code, "--state: cannot write in folder '%s': %s", state->path,
                         strerror(-code));
    }
    if (!take_lock(state->lock)) {
        close(state->lock);
        state->lock = -1;
        return error_set(why, -EBUSY,
                         "--state: another run is using folder '%s'; wait until it has ended, or name "
                         "another folder",
                         state->path);
    }
    return 0;
}

void state_close(struct state *state, bool remove) {
    if (remove && state->is_temporary && state->path[0] != '\0') {
        state_remove_folder(state->path);
    }
    if (state->lock >= 0) {
        close(state->lock);
        state->lock = -1;
    }
}

const char *state_file(const struct state *state, const char *name, char path[STATE_FILE_MAX]) {
    snprintf(path, STATE_FILE_MAX, "%s/%.60s", state->path, name);
    return path;
}

int state_remove(const struct state *state, const char *name, struct error *why) {
    char path[STATE_FILE_MAX];
    state_file(state, name, path);
    if (nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        int code = -errno;
        return error_set(why, code, "--state: cannot remove '%s': %s", path, strerror(-code));
    }
    return 0;
}

int state_sync(const char *folder, struct error *why) {
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
    if (fd >= 0) {
        close(fd);
    }
    // Some file systems cannot sync a folder; then nothing better can be done.
    if (code == 0 || code == -EINVAL || code == -EACCES) {
        return 0;
    }
    return error_set(why, code, "cannot write in folder '%s': %s", folder, strerror(-code));
}
