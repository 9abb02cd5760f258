// receive: dispatches off the wire. Step 5 of the path: a DISPATCH becomes a call with its model, and
// is handed on; one that cannot be honoured is handed on decided, so that it is reported.
#ifndef HEADRACE_WORKER_RECEIVE_H
#define HEADRACE_WORKER_RECEIVE_H

#include "worker/call.h"
#include "worker/held.h"
#include "worker/link.h"
#include "worker/report.h"
#include "worker/status.h"

struct loop;

struct receive {
    struct calls *calls;      // borrowed, as all that follow
    struct report *report;
    struct status *status;
    struct link *link;        // set by receive_start
    struct jobs *jobs;        // borrowed; NULL: none are taken
    struct held_cache models;
    struct loop_timer *timer; // runs while calls wait for a model
    uint64_t max_inflight, max_bytes; // the credit we gave
    bool draining;
    void (*on_superseded)(void *arg); // the coordinator has another worker of this name
    void *superseded_arg;
    call_next *next;
    void *arg;
};

struct secrets;

// receive_init; report must be the last step of the same path: TAKEN and resending go there.
void receive_init(struct receive *receive, struct loop *loop, struct calls *calls,
                  struct report *report, struct status *status, const struct secrets *secrets,
                  call_next *next, void *arg);
// receive_start connects to the coordinator; config is copied, its strings are borrowed.
// Returns 0, or a negative errno with why.
MUST_CHECK int receive_start(struct receive *receive, struct loop *loop,
                             const struct link_config *config, struct error *why);
// receive_free closes the link (with BYE) and forgets the models.
void receive_free(struct receive *receive);

// receive_drain: calls that wait are reported as unsent, as is every DISPATCH that still comes.
void receive_drain(struct receive *receive);

// receive_send is a report_send: it gives bytes to the link of the receive at arg.
int receive_send(void *arg, struct slice bytes);

#endif
