// transfer: one HTTP request of a step of a job: any method, a body out of memory or a file, an answer
// into memory or a file. Calls are made by worker/http.h, which is faster at one thing.
#ifndef HEADRACE_WORKER_TRANSFER_H
#define HEADRACE_WORKER_TRANSFER_H

#include "common/bytes.h"
#include "common/error.h"
#include "proto/outcome.h"
#include "worker/reply_head.h"

#include <curl/curl.h>

struct loop;
struct job_spool;
struct transfer;
struct transfers;

enum transfer_method { TRANSFER_GET, TRANSFER_POST, TRANSFER_DELETE };

#define TRANSFER_PARTS 4    // of a form
#define TRANSFER_HEADERS 6  // besides those of the model
#define TRANSFER_REPLY_MAX (8 * 1024 * 1024) // ceiling of an answer that is kept in memory
#define TRANSFER_PLACE_MAX 2048              // bytes of the header x-goog-upload-url

// One part of a form (multipart/form-data).
struct transfer_part {
    const char *name;
    struct slice text;          // borrowed; of a part that is no file
    const struct job_spool *file;   // borrowed; NULL: text
    const char *filename, *type; // of a file
};

// What is sent. All is borrowed until the transfer has ended.
struct transfer_ask {
    enum transfer_method method;
    const char *url;
    const struct curl_slist *base; // the model's headers; NULL: none
    const char *headers[TRANSFER_HEADERS]; // "Name: value"; one of base with such a name is left out
    size_t n_headers;
    struct slice text;          // the body of a POST, unless one of the next two is set
    const struct job_spool *file;   // the body, as a stream
    struct transfer_part parts[TRANSFER_PARTS];
    size_t n_parts;
    struct job_spool *into;         // where a 200's body goes; NULL: into memory
    int64_t timeout_ms;         // for all of it; with a file: without a byte
};

// What came of it. Borrowed during transfer_next.
struct transfer_end {
    bool decided;               // there is no whole answer: outcome and detail say why
    enum outcome outcome;
    char detail[512];
    bool sent;                  // the request went on the wire
    int status;                 // HTTP; 0: none
    struct reply_head head;
    char place[TRANSFER_PLACE_MAX]; // header x-goog-upload-url
    struct slice body;          // in memory; empty when it went to the file
    bool in_file;               // it did
    uint64_t n_sent, n_received; // bytes of bodies
};

typedef void transfer_next(void *arg, const struct transfer_end *end);

// transfers_new; ca_file as http_new has it.
struct transfers *transfers_new(struct loop *loop, const char *ca_file);
void transfers_free(struct transfers *transfers); // those under way are dropped without next

// transfer_start makes the request once; next is told exactly once, later, unless transfer_drop comes
// before. A POST is never repeated, whatever curl finds out about a connection.
struct transfer *transfer_start(struct transfers *transfers, const struct transfer_ask *ask,
                                transfer_next *next, void *arg);
// transfer_is_sent says whether its request may have gone on the wire.
bool transfer_is_sent(const struct transfer *transfer);
// transfer_drop ends it without next and sets the pointer to NULL; NULL is fine.
void transfer_drop(struct transfer **transfer);

#endif
