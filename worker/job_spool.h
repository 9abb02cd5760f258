// job_spool: a file without a name in the spool folder, written once from beginning to end and then read.
// It is gone with the process, however that ends.
#ifndef HEADRACE_WORKER_JOB_SPOOL_H
#define HEADRACE_WORKER_JOB_SPOOL_H

#include "common/bytes.h"
#include "common/error.h"

struct job_spool {
    int fd;            // -1: not open
    uint64_t n_bytes;  // written, what is still in the buf included
    struct buf buf;    // not yet in the file
};

// job_spool_folder finds the folder: the option's value, else $TMPDIR, else /tmp.
const char *job_spool_folder(const char *option);

// job_spool_open makes an empty one in a folder. Returns 0 or a negative errno with why.
MUST_CHECK int job_spool_open(struct job_spool *spool, const char *folder, struct error *why);
// job_spool_close frees it; one that is all zero or not open is fine.
void job_spool_close(struct job_spool *spool);

// job_spool_add appends. job_spool_flush puts all into the file. job_spool_reset makes it empty again.
// Return 0 or a negative errno (-ENOSPC, -EIO, ...).
MUST_CHECK int job_spool_add(struct job_spool *spool, struct slice bytes);
MUST_CHECK int job_spool_flush(struct job_spool *spool);
MUST_CHECK int job_spool_reset(struct job_spool *spool);

// job_spool_read copies up to n bytes from offset at on; flushed ones alone. Returns how many, 0 at the end,
// or a negative errno.
MUST_CHECK int64_t job_spool_read(const struct job_spool *spool, uint64_t at, void *into, size_t n);

#endif
