// httpd: an HTTP/1.1 server on the loop (libmicrohttpd), for metrics, health and simulators.
//
// The handler is called once the whole request has been read; it may answer at once, later, or
// never. Each request ends in exactly one on_done, whatever becomes of the client.
#ifndef HEADRACE_COMMON_HTTPD_H
#define HEADRACE_COMMON_HTTPD_H

#include "common/bytes.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

#define HTTPD_HEADERS_MAX 16 // headers of one reply, besides Content-Type

struct httpd;
struct httpd_request;
struct loop;

// How a reply ends. All but HTTPD_WHOLE are for simulators of bad servers.
enum httpd_ending {
    HTTPD_WHOLE, // status, headers, the whole body
    HTTPD_CUT,   // announces the whole length, closes after cut_at bytes of the body
    HTTPD_RESET, // no answer at all: the connection is reset (TCP RST)
};

struct httpd_header {
    const char *name; // lives for ever
    char value[248];  // one line, NUL-ended
};

struct httpd_reply {
    int status;              // 100..599
    const char *type;        // Content-Type; lives for ever; NULL: none
    struct httpd_header headers[HTTPD_HEADERS_MAX];
    size_t n_headers;
    struct buf body;         // taken by httpd_send; may be empty
    bool from_file;          // the body is file_n bytes of fd from file_at on instead; read as they go out
    int fd;                  // from_file: taken by httpd_send, closed when the request is over
    uint64_t file_at, file_n;
    int64_t after_ms;        // wait this long before the first byte; 0: at once
    enum httpd_ending ending;
    size_t cut_at;           // HTTPD_CUT: bytes of the body that are sent, fewer than it has
    size_t chunk;            // 0: as fast as it goes; else bytes sent every chunk_ms
    int64_t chunk_ms;
};

// httpd_reply_header adds a header; value is formatted and cut to fit. Ignored past
// HTTPD_HEADERS_MAX.
void httpd_reply_header(struct httpd_reply *reply, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// on_request gets a whole request, valid until its on_done. Call httpd_send now or later.
typedef void httpd_handler(void *arg, struct httpd_request *request);
// on_open, if there is one, sees a request when its headers are there and its body is yet to come. It may
// call httpd_stream.
typedef void httpd_opener(void *arg, struct httpd_request *request);
// A sink gets a streamed body piece by piece, borrowed for the call. Returns 0, or a negative errno, which
// closes the connection.
typedef int httpd_sink(void *arg, struct httpd_request *request, struct slice piece);
// on_done tells that the request is over; it is gone when this returns. It comes for each request that
// on_request has seen, and for each whose body is streamed, even if its client left in the middle of it.
//   sent   bytes of the body given to the client's connection; 0 when the client left before
//   whole  true when the whole reply was given; a client that left while it waited is noticed
typedef void httpd_finished(void *arg, struct httpd_request *request, size_t sent, bool whole);

struct httpd_config {
    httpd_handler *on_request;
    httpd_finished *on_done; // may be NULL
    httpd_opener *on_open;   // may be NULL
    void *arg;
    size_t max_body;         // a longer body is answered 413 and never seen; 0: bodies are refused
    unsigned max_clients;    // connections at once; 0: 1024
    unsigned idle_s;         // an idle connection is closed after this; 0: never
};

// httpd_new listens and answers from then on, while the loop runs.
//   address  as listener_open takes it (common/listener.h)
// Returns NULL with why (bad address, port in use).
struct httpd *httpd_new(struct loop *loop, const char *address, const struct httpd_config *config,
                        struct error *why);
// httpd_free closes all connections; each open request gets its on_done. Before loop_free. May be
// called from no callback of the httpd itself. NULL is fine.
void httpd_free(struct httpd *httpd);
// httpd_port is the port in use, 1..65535.
int httpd_port(const struct httpd *httpd);

// What was asked. All borrowed until on_done.
struct slice httpd_method(const struct httpd_request *request);
struct slice httpd_path(const struct httpd_request *request); // decoded, without the query
struct slice httpd_body(const struct httpd_request *request);
// httpd_query returns an argument of the query, decoded; empty when it is not there.
struct slice httpd_query(const struct httpd_request *request, const char *name);
// httpd_header returns a request header, names case-folded; empty when not there.
struct slice httpd_header(const struct httpd_request *request, const char *name);

// httpd_stream, from on_open alone, has the body given to sink (with the config's arg) instead of holding
// it: httpd_body is empty then, and max_body does not apply; the sink bounds what it takes.
void httpd_stream(struct httpd_request *request, httpd_sink *sink);

// httpd_send answers; takes reply->body (empty after) and reply->fd. Once a request, at most.
void httpd_send(struct httpd_request *request, struct httpd_reply *reply);
// httpd_send_text answers at once with a copy of text.
void httpd_send_text(struct httpd_request *request, int status, const char *type, struct slice text);

// A handler's own pointer, NULL at first.
void httpd_set_state(struct httpd_request *request, void *state);
void *httpd_state(const struct httpd_request *request);

#endif
