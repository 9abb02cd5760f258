// spool: bytes on disk in a file without a name: added at its end, read anywhere, gone with its
// last owner.
#ifndef HEADRACE_TESTS_PROVIDER_SPOOL_H
#define HEADRACE_TESTS_PROVIDER_SPOOL_H

#include "common/bytes.h"
#include "common/error.h"

struct spool {
    int fd;
    uint64_t n;         // bytes, those that wait included
    struct buf waiting; // not written yet
    unsigned n_owners;
};

// A window on a spool, so that lines are not read one system call each. {0} is an empty one.
struct spool_window {
    struct buf bytes;
    uint64_t at; // of bytes in the spool
};

// spool_new makes an empty one with one owner.
//   folder  where; "": $TMPDIR, or else the system's folder for temporary files
// Returns NULL with why.
struct spool *spool_new(const char *folder, struct error *why);
// spool_share adds an owner and returns the spool.
struct spool *spool_share(struct spool *spool);
// spool_leave takes an owner away and sets its pointer to NULL; the last one frees. NULL is fine.
void spool_leave(struct spool **spool);

// spool_add appends. Returns 0 or a negative errno (a full disk).
MUST_CHECK int spool_add(struct spool *spool, struct slice bytes);
// spool_flush writes what waits, so that fd has all. Returns 0 or a negative errno.
MUST_CHECK int spool_flush(struct spool *spool);
// spool_read borrows n bytes from at on, until the next read of the window. The spool is flushed.
// Returns 0 or -EIO (it has fewer).
MUST_CHECK int spool_read(const struct spool *spool, struct spool_window *window, uint64_t at,
                          size_t n, struct slice *bytes);
// spool_line borrows the line from at on, without its line feed, until the next read of the window.
//   most  bytes of a line
// Returns 1 with *line, 0 at the end, -EMSGSIZE (a longer line) or -EIO.
MUST_CHECK int spool_line(const struct spool *spool, struct spool_window *window, uint64_t at,
                          size_t most, struct slice *line);
void spool_window_free(struct spool_window *window);

#endif
