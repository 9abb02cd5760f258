// One half of libsynced.so, which is loaded before redis-server (LD_PRELOAD). It writes down how much of
// each file was synced: what a power cut would leave. Invariant: a row of the table never says more than a
// finished fsync covered. The table is the file $HEADRACE_SYNCED_FILE: rows of inode and bytes, 64 bits each,
// in the machine's order; an inode of 0 is a free row. Used by tests/chaoskit.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 256 // files synced in the life of a test

struct row {
    _Atomic uint64_t inode;
    _Atomic uint64_t bytes;
};

static struct row *table; // shared with the children that rewrite the file; NULL: none

__attribute__((constructor)) static void synced_open(void) {
    const char *path = getenv("HEADRACE_SYNCED_FILE");
    int fd = path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd < 0) {
        return;
    }
    if (ftruncate(fd, ROWS * sizeof(*table)) == 0) {
        void *p = mmap(NULL, ROWS * sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        table = p != MAP_FAILED ? p : NULL;
    }
    close(fd);
}

static void note(uint64_t inode, uint64_t bytes) {
    for (size_t i = 0; table != NULL && i < ROWS; i++) {
        uint64_t free_row = 0;
        if (table[i].inode == inode || atomic_compare_exchange_strong(&table[i].inode, &free_row, inode) ||
            free_row == inode) {
            table[i].bytes = bytes;
            return;
        }
    }
}

typedef int sync_function(int fd);

static int sync_and_note(const char *name, int fd) {
    struct stat before;
    int known = fstat(fd, &before) == 0;
    sync_function *real = (sync_function *)dlsym(RTLD_NEXT, name);
    int rc = real(fd);
    if (rc == 0 && known) {
        note(before.st_ino, (uint64_t)before.st_size);
    }
    return rc;
}

int fdatasync(int fd) {
    return sync_and_note("fdatasync", fd);
}

int fsync(int fd) {
    return sync_and_note("fsync", fd);
}
