// Spool files. Invariant: no name of them is ever left in the folder: they have none, or lose it before a
// byte is written. Called by transfer and job.
#include "worker/job_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUF_BYTES (256 * 1024) // what is gathered for one write

const char *job_spool_folder(const char *option) {
    const char *folder = option != NULL && option[0] != '\0' ? option : getenv("TMPDIR");
    return folder != NULL && folder[0] != '\0' ? folder : "/tmp";
}

// open_named is for file systems that have no files without a name.
static int open_named(const char *folder) {
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/headrace-XXXXXX", folder);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return -ENAMETOOLONG;
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    unlink(path);
    return fd;
}

int job_spool_open(struct job_spool *spool, const char *folder, struct error *why) {
    *spool = (struct job_spool){.fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    if (spool->fd < 0) {
        int rc = errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ? open_named(folder) : -errno;
        spool->fd = rc >= 0 ? rc : -1;
        if (rc < 0) {
            return error_set(why, rc, "no file can be made in the spool folder %s: %s", folder, strerror(-rc));
        }
    }
    buf_init(&spool->buf, BUF_BYTES);
    return 0;
}

void job_spool_close(struct job_spool *spool) {
    if (spool->buf.max > 0 && spool->fd >= 0) {
        close(spool->fd);
    }
    buf_free(&spool->buf);
    *spool = (struct job_spool){.fd = -1};
}

static int write_all(struct job_spool *spool, struct slice bytes) {
    while (bytes.n > 0) {
        ssize_t n = write(spool->fd, bytes.p, bytes.n);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        bytes = slice_sub(bytes, n > 0 ? (size_t)n : 0, bytes.n);
    }
    return 0;
}

int job_spool_flush(struct job_spool *spool) {
    int rc = write_all(spool, buf_slice(&spool->buf));
    buf_clear(&spool->buf);
    return rc;
}

int job_spool_add(struct job_spool *spool, struct slice bytes) {
    spool->n_bytes += bytes.n;
    if (buf_add_slice(&spool->buf, bytes) == 0) {
        return 0;
    }
    int rc = job_spool_flush(spool);
    return rc != 0 || buf_add_slice(&spool->buf, bytes) == 0 ? rc : write_all(spool, bytes);
}

int job_spool_reset(struct job_spool *spool) {
    buf_clear(&spool->buf);
    spool->n_bytes = 0;
    return ftruncate(spool->fd, 0) == 0 && lseek(spool->fd, 0, SEEK_SET) == 0 ? 0 : -errno;
}

int64_t job_spool_read(const struct job_spool *spool, uint64_t at, void *into, size_t n) {
    ssize_t got;
    do {
        got = pread(spool->fd, into, n, (off_t)at);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}
