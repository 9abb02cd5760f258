// http: curl multis on the loop. Step 7 of the path: one call is one POST, never repeated.
#ifndef HEADRACE_WORKER_HTTP_H
#define HEADRACE_WORKER_HTTP_H

#include "common/error.h"
#include "worker/call.h"

struct http;
struct loop;

// http_new makes a client without connections.
//   ca_file  PEM file of trusted certificates; "" or NULL: the system's
//   next     gets every call that was pushed, exactly once, later or at once: with status, headers
//            and reply filled in, or decided when there was no whole answer
struct http *http_new(struct loop *loop, const char *ca_file, call_next *next, void *arg);
void http_free(struct http *http); // calls still running are dropped without next

// http_push starts the POST of call->body to the model's endpoint. A call that is decided goes on at
// once; one whose deadline has passed becomes UNSENT. It has the type of call_next.
void http_push(void *http, struct call *call);

// http_stop ends every running call: sent ones become BROKEN, others UNSENT.
void http_stop(struct http *http);
size_t http_inflight(const struct http *http);

#endif
