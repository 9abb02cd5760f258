// Whole lines to a file. Invariant: up to offset a regular file holds whole lines. Called by run.c
// and collect.c.
#include "client/output.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_MAX ((size_t)1 << 30)

// cut_torn finds the end of the last whole line, and cuts off what follows it.
static int cut_torn(struct output *output, struct error *why) {
    int64_t end = lseek(output->fd, 0, SEEK_END);
    char block[4096];
    while (end > 0) {
        int64_t from = end > (int64_t)sizeof(block) ? end - (int64_t)sizeof(block) : 0;
        ssize_t n = pread(output->fd, block, (size_t)(end - from), from);
        if (n <= 0) {
            return error_set(why, -EIO, "cannot read output '%s'", output->name);
        }
        const char *last = memrchr(block, '\n', (size_t)n);
        if (last != NULL) {
            end = from + (last - block) + 1;
            break;
        }
        end = from;
    }
    if (end < 0 || ftruncate(output->fd, end) != 0 || lseek(output->fd, end, SEEK_SET) < 0) {
        return error_set(why, -EIO, "cannot go on at the end of output '%s'", output->name);
    }
    output->offset = end;
    return 0;
}

// take keeps other processes from writing the same file. Returns 0 or a negative errno.
static int take(struct output *output) {
    struct stat st;
    if (fstat(output->fd, &st) != 0) {
        return -errno;
    }
    output->is_regular = S_ISREG(st.st_mode);
    // A file system without locks (EOPNOTSUPP, ENOLCK) is written to as it is.
    bool is_taken = output->is_regular && flock(output->fd, LOCK_EX | LOCK_NB) != 0 &&
                    errno == EWOULDBLOCK;
    return is_taken ? -EBUSY : 0;
}

static int say_unusable(const struct output *output, const char *what, int code, struct error *why) {
    return error_set(why, code, "%s output '%s': %s", what, output->name,
                     code == -EBUSY ? "another headrace is writing it; wait until it has ended, or "
                                      "name another file"
                                    : strerror(-code));
}

int output_open(struct output *output, const char *file, bool append, struct error *why) {
    *output = (struct output){.fd = -1, .name = file};
    buf_init(&output->lines, LINES_MAX);
    if (strcmp(file, "-") == 0) {
        output->name = "standard output";
        output->fd = STDOUT_FILENO;
        return 0;
    }
    output->fd = open(file, (append ? O_RDWR : O_WRONLY) | O_CREAT | O_CLOEXEC, 0666);
    int status = output->fd < 0 ? -errno : take(output);
    if (status == 0 && !append && output->is_regular && ftruncate(output->fd, 0) != 0) {
        status = -errno;
    }
    if (status < 0) {
        return say_unusable(output, "cannot write", status, why);
    }
    return append && output->is_regular ? cut_torn(output, why) : 0;
}

int output_open_at(struct output *output, const char *file, int64_t offset, struct error *why) {
    *output = (struct output){.fd = -1, .name = file};
    buf_init(&output->lines, LINES_MAX);
    output->fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct stat st;
    int status = output->fd < 0 ? -errno : take(output);
    if (status == 0 && (!output->is_regular || fstat(output->fd, &st) != 0 || st.st_size < offset)) {
        status = -EIO;
    }
    if (status == 0 && (ftruncate(output->fd, offset) != 0 || lseek(output->fd, offset, SEEK_SET) < 0)) {
        status = -errno;
    }
    output->offset = offset;
    return status == 0 ? 0 : say_unusable(output, "cannot go on in", status, why);
}

int output_add(struct output *output, struct slice line) {
    return buf_add_slice(&output->lines, line);
}

// write_some writes once, waiting for a slow reader of a pipe.
static ssize_t write_some(int fd, struct slice rest) {
    ssize_t n = write(fd, rest.p, rest.n);
    if (n < 0 && errno == EAGAIN) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        return poll(&p, 1, -1) < 0 && errno != EINTR ? -1 : 0;
    }
    return n < 0 && errno == EINTR ? 0 : n;
}

int output_flush(struct output *output, struct error *why) {
    struct slice rest = buf_slice(&output->lines);
    while (rest.n > 0) {
        ssize_t n = write_some(output->fd, rest);
        if (n < 0) {
            int code = -errno;
            if (output->is_regular && ftruncate(output->fd, output->offset) != 0) {
                log_warn("output.torn", "the last line of the output may not be whole");
            }
            buf_clear(&output->lines);
            return error_set(why, code, "cannot write output '%s': %s", output->name,
                             strerror(-code));
        }
        rest = slice_sub(rest, (size_t)n, rest.n);
    }
    output->offset += (int64_t)output->lines.n;
    buf_clear(&output->lines);
    return 0;
}

int output_sync(struct output *output, struct error *why) {
    if (output->is_regular && fdatasync(output->fd) != 0) {
        int code = -errno;
        return error_set(why, code, "cannot write output '%s': %s", output->name, strerror(-code));
    }
    return 0;
}

void output_close(struct output *output) {
    if (output->fd > STDERR_FILENO) {
        close(output->fd);
    }
    output->fd = -1;
    buf_free(&output->lines);
}
