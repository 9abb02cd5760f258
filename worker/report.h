// report: the report back on the wire. Step 9 of the path: every call ends here, is packed, sent,
// and kept until the coordinator has TAKEN it.
#ifndef HEADRACE_WORKER_REPORT_H
#define HEADRACE_WORKER_REPORT_H

#include "worker/call.h"

struct status;

// report_send gives bytes to the coordinator's socket: 0, or -EAGAIN when it takes none now; then
// report_flush is due when it does.
typedef int report_send(void *arg, struct slice bytes);

struct report {
    struct calls *calls;   // borrowed
    struct status *status; // borrowed
    report_send *send;
    void *arg;
    size_t n_to_send;      // reports that the socket did not take yet
};

void report_init(struct report *report, struct calls *calls, struct status *status, report_send *send,
                 void *arg);

// report_push packs what became of a call, which becomes REPORTED, and sends it. It has the type of
// call_next.
void report_push(void *report, struct call *call);

// report_pack appends the frame of a REPORT of what became of a call.
//   line  the call was this line of a job; empty: a call of its own
// Returns 0, or -EMSGSIZE: its items are too many bytes.
MUST_CHECK int report_pack(const struct call *call, struct slice line, struct buf *out);

// report_flush sends what the socket did not take. Returns 0, or -EAGAIN when some is left.
int report_flush(struct report *report);
// report_all sends every report that is not TAKEN again: the coordinator may have missed it.
void report_all(struct report *report);
// report_again sends one call's report again.
void report_again(struct report *report, struct call *call);
// report_taken forgets the calls that TAKEN names: a msgpack array of [batch, call]. Those that are
// not known are skipped. Returns 0, or -EPROTO when it is no such array.
MUST_CHECK int report_taken(struct report *report, struct slice calls);

#endif
