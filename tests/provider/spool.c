// Bytes on disk in a file without a name. Invariant: n is what was added, and all of it but
// `waiting` is in the file. Called by uploads, files and jobs.
#include "tests/provider/spool.h"
#include "common/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define WAITING_MAX (128u << 10)
#define WINDOW      (64u << 10) // bytes read at once, at least
#define WINDOW_MAX  (128u << 20)

struct spool *spool_new(const char *folder, struct error *why) {
    char path[4200];
    const char *given = folder[0] != '\0' ? folder : getenv("TMPDIR");
    snprintf(path, sizeof(path), "%.4000s/headrace-spool-XXXXXX", given != NULL ? given : P_tmpdir);
    int fd = mkostemp(path, 02000000); // O_CLOEXEC
    if (fd < 0) {
        error_set(why, -errno, "--spool: cannot make '%s': %s", path, strerror(errno));
        return NULL;
    }
    unlink(path);
    struct spool *spool = mem_zalloc(sizeof(*spool));
    spool->fd = fd;
    spool->n_owners = 1;
    buf_init(&spool->waiting, SIZE_MAX);
    return spool;
}

struct spool *spool_share(struct spool *spool) {
    spool->n_owners++;
    return spool;
}

void spool_leave(struct spool **spool) {
    struct spool *s = *spool;
    *spool = NULL;
    if (s != NULL && --s->n_owners == 0) {
        close(s->fd);
        buf_free(&s->waiting);
        free(s);
    }
}

int spool_flush(struct spool *spool) {
    size_t at = 0;
    while (at < spool->waiting.n) {
        ssize_t n = write(spool->fd, spool->waiting.p + at, spool->waiting.n - at);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    buf_free(&spool->waiting);
    buf_init(&spool->waiting, SIZE_MAX);
    return 0;
}

int spool_add(struct spool *spool, struct slice bytes) {
    int rc = buf_add_slice(&spool->waiting, bytes);
    spool->n += rc == 0 ? bytes.n : 0;
    return rc != 0 || spool->waiting.n < WAITING_MAX ? rc : spool_flush(spool);
}

// fill makes the window begin at `at` and have n bytes, or all until the end.
static int fill(const struct spool *spool, struct spool_window *window, uint64_t at, size_t n) {
    size_t want = n > WINDOW ? n : WINDOW;
    want = spool->n - at < want ? (size_t)(spool->n - at) : want;
    if (window->bytes.cap > 4 * (size_t)WINDOW && want <= WINDOW) {
        buf_free(&window->bytes); // one long line is no reason to keep its room
    }
    buf_clear(&window->bytes);
    window->bytes.max = WINDOW_MAX;
    window->at = at;
    if (buf_reserve(&window->bytes, want) != 0) {
        return -EMSGSIZE;
    }
    while (window->bytes.n < want) {
        ssize_t got = pread(spool->fd, window->bytes.p + window->bytes.n, want - window->bytes.n,
                            (off_t)(at + window->bytes.n));
        if (got <= 0) {
            return -EIO;
        }
        window->bytes.n += (size_t)got;
    }
    return 0;
}

static struct slice part_of(const struct spool_window *window, uint64_t at) {
    return at >= window->at
               ? slice_sub(buf_slice(&window->bytes), (size_t)(at - window->at), SIZE_MAX)
               : SLICE_NONE;
}

int spool_read(const struct spool *spool, struct spool_window *window, uint64_t at, size_t n,
               struct slice *bytes) {
    if (at > spool->n || n > spool->n - at) {
        return -EIO;
    }
    if (part_of(window, at).n < n) {
        int rc = fill(spool, window, at, n);
        if (rc != 0) {
            return rc;
        }
    }
    *bytes = slice_sub(part_of(window, at), 0, n);
    return 0;
}

int spool_line(const struct spool *spool, struct spool_window *window, uint64_t at, size_t most,
               struct slice *line) {
    if (at >= spool->n) {
        return 0;
    }
    for (size_t want = WINDOW;; want *= 2) {
        struct slice part = part_of(window, at);
        const char *eol = part.n > 0 ? memchr(part.p, '\n', part.n) : NULL;
        if (eol == NULL && part.n > most) {
            return -EMSGSIZE;
        }
        if (eol != NULL || (part.n > 0 && at + part.n == spool->n)) {
            *line = eol != NULL ? slice_sub(part, 0, (size_t)(eol - part.p)) : part;
            return line->n <= most ? 1 : -EMSGSIZE;
        }
        int rc = fill(spool, window, at, part.n >= want ? 2 * part.n : want);
        if (rc != 0) {
            return rc;
        }
    }
}

void spool_window_free(struct spool_window *window) {
    buf_free(&window->bytes);
}
