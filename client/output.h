// output: whole lines to a file or standard output. A line is written whole or not at all.
#ifndef HEADRACE_CLIENT_OUTPUT_H
#define HEADRACE_CLIENT_OUTPUT_H

#include "common/bytes.h"
#include "common/error.h"

struct output {
    int fd;            // -1: closed
    const char *name;  // for people; borrowed
    bool is_regular;   // a file that can be cut back and synced
    int64_t offset;    // of a regular file: where its last whole line ends
    struct buf lines;  // whole lines, not yet written
};

// output_open opens a file anew, or behind what it holds when append is set (a torn last line is cut
// off). output_open_at opens one that an earlier process has written, and cuts it back to `offset`.
// "-" is standard output. While a regular file is open no other process can open it by these calls.
// Returns 0; -EBUSY when another one has it open; or another negative errno; with why.
MUST_CHECK int output_open(struct output *output, const char *file, bool append, struct error *why);
MUST_CHECK int output_open_at(struct output *output, const char *file, int64_t offset,
                              struct error *why);
// output_add takes a line, its line break included. Returns 0 or -EMSGSIZE when far too much waits.
MUST_CHECK int output_add(struct output *output, struct slice line);
// output_flush writes what was added. After a failure a regular file ends with its last whole line.
// Returns 0 or a negative errno with why.
MUST_CHECK int output_flush(struct output *output, struct error *why);
// output_sync makes what was written survive a power cut, where it can.
MUST_CHECK int output_sync(struct output *output, struct error *why);
void output_close(struct output *output);

#endif
