// multi: a curl multi on the loop: its sockets and its timer are watched, and each transfer that has
// ended is told. Besides, what all transfers have in common.
#ifndef HEADRACE_WORKER_MULTI_H
#define HEADRACE_WORKER_MULTI_H

#include "common/bytes.h"
#include "proto/outcome.h"

#include <curl/curl.h>

#include <stdint.h>

struct loop;
struct multi;

// multi_done tells of a transfer that has ended; it still has to be removed. Transfers may be added and
// removed here.
typedef void multi_done(void *arg, CURL *easy, CURLcode code);

// multi_new makes one that keeps up to n_connections warm.
struct multi *multi_new(struct loop *loop, long n_connections, multi_done *done, void *arg);
// multi_free closes its connections; all transfers must have been removed. Its memory goes when the
// loop turns for the last time.
void multi_free(struct multi *multi);

// multi_add starts a transfer. Call from no callback of curl's. On an error it is still to be removed.
CURLMcode multi_add(struct multi *multi, CURL *easy);
// multi_remove takes a transfer off, whether it has ended or not. Call from no callback of curl's.
void multi_remove(struct multi *multi, CURL *easy);
// multi_count says how many transfers were added and not removed.
size_t multi_count(const struct multi *multi);

// What curl tells while a transfer runs; each gets its owner.
struct multi_hooks {
    curl_prereq_callback on_request; // a request is about to be written
    curl_write_callback on_header, on_body;
};

// multi_easy makes an easy handle, for curl_easy_cleanup to free, with all that no request changes.
//   ca_file  PEM file of trusted certificates; "": the system's
//   owner    of the hooks, and the handle's CURLINFO_PRIVATE
CURL *multi_easy(const char *ca_file, const struct multi_hooks *hooks, void *owner);
// multi_easy_connect bounds resolving, connecting and TLS.
//   timeout_ms  of the whole request
void multi_easy_connect(CURL *easy, int64_t timeout_ms);

// multi_outcome says what a transfer's error means.
//   sent  the request was put on the wire
enum outcome multi_outcome(CURLcode code, bool sent);
// multi_host borrows host and port of a transfer's URL, without what could be a credential.
struct slice multi_host(CURL *easy);

#endif
