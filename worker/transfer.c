// Requests of steps. Invariant: a POST goes on the wire at most once (see worker/http.c); what is longer
// than memory should hold goes from file to socket and from socket to file. Called by job.
#include "worker/transfer.h"

#include "common/loop.h"
#include "common/mem.h"
#include "worker/multi.h"
#include "worker/provider.h"
#include "worker/job_spool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define CONNECTIONS 16L      // kept warm
#define STILL_S 120          // least time without a byte after which a file is given up
#define BASE_HEADERS 128     // most headers of a model

struct transfer {
    struct transfers *owner;
    CURL *easy;
    curl_mime *form;
    bool is_post;
    bool failed;             // the answer could not be kept
    const struct job_spool *from; // what is sent
    uint64_t at;             // in it
    struct job_spool *into;
    struct buf reply;
    struct curl_slist headers[BASE_HEADERS + TRANSFER_HEADERS]; // texts are borrowed
    int n_requests;          // how often curl was about to write the request
    transfer_next *next_fn;
    void *arg;
    struct transfer_end end;
    struct transfer *prev, *next;
};

struct transfers {
    struct loop *loop;
    const char *ca_file;
    struct multi *multi;
    struct transfer *running;
};

// ---- What curl asks for and tells -----------------------------------------------------------------

static int on_request(void *arg, char *ip, char *local_ip, int port, int local_port) {
    struct transfer *t = arg;
    t->n_requests++;
    return t->is_post && t->n_requests > 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static size_t on_read(char *into, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    int64_t got = job_spool_read(t->from, t->at, into, size * n);
    if (got < 0) {
        return CURL_READFUNC_ABORT;
    }
    t->at += (uint64_t)got;
    t->end.n_sent += (uint64_t)got;
    return (size_t)got;
}

static int on_seek(void *arg, curl_off_t offset, int origin) {
    struct transfer *t = arg;
    if (origin != SEEK_SET || offset < 0) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    t->at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    struct slice bytes = {.p = p, .n = size * n};
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->end.n_received += bytes.n;
    t->end.in_file = t->into != NULL && status == 200;
    int rc = t->end.in_file ? job_spool_add(t->into, bytes) : buf_add_slice(&t->reply, bytes);
    if (rc != 0) {
        t->failed = true;
        snprintf(t->end.detail, sizeof(t->end.detail), "the answer cannot be kept: %s",
                 t->end.in_file ? strerror(-rc) : "it is too long");
        return 0;
    }
    return bytes.n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    struct slice line = {.p = p, .n = size * n}, name, value;
    if (slice_starts(line, "HTTP/")) { // a new answer, e.g. after 100 Continue
        reply_head_clear(&t->end.head);
        t->end.place[0] = '\0';
    } else if (header_split(line, &name, &value)) {
        reply_head_read(&t->end.head, name, value);
        if (slice_is_nocase(name, "x-goog-upload-url") && value.n < sizeof(t->end.place)) {
            text_clean(value, t->end.place, sizeof(t->end.place));
        }
    }
    return size * n;
}

// ---- What became of it ----------------------------------------------------------------------------

// take_off ends what curl does for a transfer.
static void take_off(struct transfer *t) {
    DL_DELETE(t->owner->running, t);
    multi_remove(t->owner->multi, t->easy);
    curl_easy_cleanup(t->easy);
    curl_mime_free(t->form);
}

static void transfer_free(struct transfer *t) {
    buf_free(&t->reply);
    free(t);
}

static void read_end(struct transfer *t, CURLcode code) {
    struct transfer_end *end = &t->end;
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    end->status = status >= 100 && status <= 999 ? (int)status : 0;
    end->sent = t->n_requests > 0;
    end->body = buf_slice(&t->reply);
    int rc = code == CURLE_OK && end->in_file ? job_spool_flush(t->into) : 0;
    if (rc != 0) {
        snprintf(end->detail, sizeof(end->detail), "the answer cannot be kept: %s", strerror(-rc));
    }
    if (t->failed || rc != 0) {
        end->decided = true;
        end->outcome = OUTCOME_TRANSIENT;
    } else if (code != CURLE_OK) {
        struct slice host = multi_host(t->easy);
        end->decided = true;
        end->outcome = multi_outcome(code, end->sent);
        snprintf(end->detail, sizeof(end->detail), "%s (%.*s: %s)", outcome_of(end->outcome)->sentence,
                 SLICE_FMT(host), curl_easy_strerror(code));
    }
}

static void on_ended(void *arg, CURL *easy, CURLcode code) {
    struct transfer *t;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &t);
    read_end(t, code);
    take_off(t); // before next is told, which may begin another
    t->next_fn(t->arg, &t->end);
    transfer_free(t);
}

// ---- Life -----------------------------------------------------------------------------------------

struct transfers *transfers_new(struct loop *loop, const char *ca_file) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct transfers *ts = mem_zalloc(sizeof(*ts));
    ts->loop = loop;
    ts->ca_file = ca_file != NULL ? ca_file : "";
    ts->multi = multi_new(loop, CONNECTIONS, on_ended, ts);
    return ts;
}

void transfers_free(struct transfers *ts) {
    if (ts == NULL) {
        return;
    }
    struct transfer *t, *next;
    DL_FOREACH_SAFE(ts->running, t, next) {
        take_off(t);
        transfer_free(t);
    }
    multi_free(ts->multi);
    uv_run(loop_uv(ts->loop), UV_RUN_NOWAIT); // lets its handles close
    free(ts);
}

// is_replaced says whether a header of the model's has the name of one of the request's own. A form says
// itself what it is.
static bool is_replaced(const char *line, const struct transfer_ask *ask) {
    struct slice name, value, own, own_value;
    bool is_header = header_split(slice_of(line), &name, &value);
    if (is_header && ask->n_parts > 0 && slice_is_nocase(name, "content-type")) {
        return true;
    }
    for (size_t i = 0; is_header && i < ask->n_headers; i++) {
        if (header_split(slice_of(ask->headers[i]), &own, &own_value) && own.n == name.n &&
            strncasecmp(own.p, name.p, own.n) == 0) {
            return true;
        }
    }
    return false;
}

// set_headers chains the texts of the model's headers, without copies of its credential, and our own.
static void set_headers(struct transfer *t, const struct transfer_ask *ask) {
    size_t n = 0;
    for (const struct curl_slist *line = ask->base; line != NULL && n < BASE_HEADERS; line = line->next) {
        if (!is_replaced(line->data, ask)) {
            t->headers[n++].data = line->data;
        }
    }
    for (size_t i = 0; i < ask->n_headers; i++) {
        t->headers[n++].data = (char *)ask->headers[i];
    }
    for (size_t i = 0; i + 1 < n; i++) {
        t->headers[i].next = &t->headers[i + 1];
    }
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, n > 0 ? t->headers : NULL);
}

static void set_form(struct transfer *t, const struct transfer_ask *ask) {
    t->form = curl_mime_init(t->easy);
    for (size_t i = 0; i < ask->n_parts; i++) {
        const struct transfer_part *part = &ask->parts[i];
        curl_mimepart *p = curl_mime_addpart(t->form);
        curl_mime_name(p, part->name);
        if (part->file == NULL) {
            curl_mime_data(p, part->text.p, part->text.n);
            continue;
        }
        t->from = part->file;
        curl_mime_filename(p, part->filename);
        curl_mime_type(p, part->type);
        curl_mime_data_cb(p, (curl_off_t)part->file->n_bytes, on_read, on_seek, NULL, t);
    }
    curl_easy_setopt(t->easy, CURLOPT_MIMEPOST, t->form);
}

static void set_body(struct transfer *t, const struct transfer_ask *ask) {
    CURL *e = t->easy;
    if (ask->method == TRANSFER_DELETE) {
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE");
    } else if (ask->n_parts > 0) {
        set_form(t, ask);
    } else if (ask->method == TRANSFER_POST && ask->file != NULL) {
        t->from = ask->file;
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(e, CURLOPT_READDATA, t);
        curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)ask->file->n_bytes);
    } else if (ask->method == TRANSFER_POST) {
        t->end.n_sent = ask->text.n;
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)ask->text.n);
        curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, ask->text.n > 0 ? ask->text.p : "");
    }
}

static void set_time(struct transfer *t, const struct transfer_ask *ask) {
    CURL *e = t->easy;
    bool is_long = t->from != NULL || t->into != NULL;
    long still_s = (long)(ask->timeout_ms / 1000) > STILL_S ? (long)(ask->timeout_ms / 1000) : STILL_S;
    multi_easy_connect(e, ask->timeout_ms);
    if (is_long) {
        curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, still_s);
    } else {
        curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)ask->timeout_ms);
    }
}

struct transfer *transfer_start(struct transfers *ts, const struct transfer_ask *ask, transfer_next *next,
                                void *arg) {
    static const struct multi_hooks hooks = {
        .on_request = on_request, .on_header = on_header, .on_body = on_body};
    struct transfer *t = mem_zalloc(sizeof(*t));
    t->owner = ts;
    t->is_post = ask->method == TRANSFER_POST;
    t->into = ask->into;
    t->next_fn = next;
    t->arg = arg;
    buf_init(&t->reply, TRANSFER_REPLY_MAX);
    reply_head_clear(&t->end.head);
    t->easy = multi_easy(ts->ca_file, &hooks, t);
    curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(t->easy, CURLOPT_URL, ask->url);
    // A connection that stood idle may be dead, and what became of a POST on it would not be known.
    curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, t->is_post ? 1L : 0L);
    set_headers(t, ask);
    set_body(t, ask);
    set_time(t, ask);
    DL_APPEND(ts->running, t);
    CURLMcode rc = multi_add(ts->multi, t->easy);
    assert(rc == CURLM_OK); // our own mistake, or no memory
    return t;
}

bool transfer_is_sent(const struct transfer *t) {
    return t->n_requests > 0;
}

void transfer_drop(struct transfer **transfer) {
    if (*transfer != NULL) {
        take_off(*transfer);
        transfer_free(*transfer);
        *transfer = NULL;
    }
}
