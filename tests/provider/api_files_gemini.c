// Gemini's files: a resumable upload, look, list, delete, and the download of what a job has made.
// Called through the table of APIs.
//
//   start ─▶ upload ... upload ─▶ upload, finalize        query says how far it came; cancel ends
//   it
//
// Source: the API reference of Gemini, "Files" and "Using files", 2026-08.
#include "tests/provider/batches.h"
#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MOST   UINT64_C(2147483648)
#define KEEP_US     (2 * BATCHES_DAY_US)
#define LIST_MOST   100
#define LIST_USUAL  10
#define UPLOAD_PATH "/upload/v1beta/files"
#define FILES_PATH  "/v1beta/files"
#define LOAD_HEAD   "/download/v1beta/"
#define TICKET_SALT 903 // of fault_random

static bool owns(struct slice path) {
    size_t n = sizeof(FILES_PATH) - 1;
    return slice_is(path, UPLOAD_PATH) || slice_starts(path, LOAD_HEAD "files/") ||
           (slice_starts(path, FILES_PATH) && (path.n == n || path.p[n] == '/'));
}

static struct slice ticket_of(const struct httpd_request *request) {
    return httpd_query(request, "upload_id");
}

// is_open lets in who has the URL of an upload.
static bool is_open(const struct httpd_request *request) {
    return slice_is(httpd_path(request), UPLOAD_PATH) && ticket_of(request).n > 0;
}

static struct file *find_open(struct batches *b, struct slice ticket) {
    char text[20];
    struct file *file = b->files.list;
    for (; file != NULL; file = file->next) {
        snprintf(text, sizeof(text), "%016" PRIx64, file->ticket);
        if (file->is_open && slice_is(ticket, text)) {
            return file;
        }
    }
    return NULL;
}

static bool has_command(const struct httpd_request *request, const char *command) {
    return slice_has_nocase(httpd_header(request, "X-Goog-Upload-Command"), command);
}

// offset_of reads X-Goog-Upload-Offset; UINT64_MAX when it is none.
static uint64_t offset_of(const struct httpd_request *request) {
    char text[24], *end = NULL;
    struct slice header = httpd_header(request, "X-Goog-Upload-Offset");
    if (header.n == 0 || header.p[0] == '-' || !slice_copy(header, text, sizeof(text))) {
        return UINT64_MAX;
    }
    unsigned long long n = strtoull(text, &end, 10);
    return *end == '\0' ? n : UINT64_MAX;
}

static uint64_t most_of(const struct batches *b) {
    return batches_most(b->respond->options->batch_bytes, FILE_MOST);
}

static struct upload *open_bytes(struct batches *b, const struct httpd_request *request) {
    struct file *file = is_open(request) ? find_open(b, ticket_of(request)) : NULL;
    if (file == NULL || !has_command(request, "upload")) {
        return NULL;
    }
    bool fits = offset_of(request) == file->spool->n;
    return upload_bytes(b->respond->options->spool, file->spool,
                        fits ? most_of(b) - file->spool->n : 0);
}

// --- the object ----------------------------------------------------------------------------------

static int add_file(const struct batch_call *call, const struct file *file, struct buf *out) {
    char created[BATCHES_TIME_MAX], expires[BATCHES_TIME_MAX];
    struct slice host = httpd_header(call->request, "Host");
    bool pending = call->now_us < file->ready_us;
    batches_time(file->created_us, created);
    batches_time(file->expires_us, expires);
    int rc = buf_addf(out, "{\"name\":\"%s\",\"displayName\":", file->id);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(file->name));
    rc = rc != 0 ? rc : buf_add_str(out, ",\"mimeType\":");
    rc = rc != 0 ? rc : json_add_string(out, slice_of(file->type));
    return rc != 0
               ? rc
               : buf_addf(
                     out,
                     ",\"sizeBytes\":\"%" PRIu64 "\",\"createTime\":\"%s\",\"updateTime\":\"%s\","
                     "\"expirationTime\":\"%s\",\"uri\":\"http://%.*s/v1beta/%s\",\"state\":\"%s\","
                     "\"source\":\"%s\"}",
                     file->spool->n, created, created, expires, SLICE_FMT(host), file->id,
                     pending ? "PROCESSING" : "ACTIVE", file->is_result ? "GENERATED" : "UPLOADED");
}

// --- upload --------------------------------------------------------------------------------------

// read_start reads the body of a start; 0 or -EINVAL after call_error.
static int read_start(struct batch_call *call, char *name, size_t size) {
    struct slice body = httpd_body(call->request);
    struct json_object *root = NULL;
    struct error why = {0};
    name[0] = '\0';
    if (slice_trim(body).n == 0) {
        return 0;
    }
    if (json_parse(body, &root, &why) != 0) {
        call_error(call, 400, NULL, "Invalid JSON payload received. %s", why.text);
        return -EINVAL;
    }
    struct json_object *file = json_get(root, "file");
    struct json_object *given = json_get(file, "displayName");
    given = given != NULL ? given : json_get(file, "display_name");
    (void)slice_copy(json_text(given), name, size);
    json_object_put(root);
    return 0;
}

static void start(struct batch_call *call) {
    struct batches *b = call->b;
    struct slice length = httpd_header(call->request, "X-Goog-Upload-Header-Content-Length");
    struct slice type = httpd_header(call->request, "X-Goog-Upload-Header-Content-Type");
    struct slice host = httpd_header(call->request, "Host");
    char text[24] = "", name[sizeof(((struct file *)0)->name)], *end = text;
    struct error why = {0};
    bool whole = slice_copy(length, text, sizeof(text)) && text[0] != '-';
    unsigned long long announced = strtoull(text, &end, 10);
    if (!slice_is_nocase(httpd_header(call->request, "X-Goog-Upload-Protocol"), "resumable")) {
        call_error(call, 400, NULL, "X-Goog-Upload-Protocol: want resumable");
    } else if (!whole || *end != '\0' || announced > most_of(b)) {
        call_error(call, 400, NULL, "X-Goog-Upload-Header-Content-Length: want at most %" PRIu64,
                   most_of(b));
    } else if (type.n == 0) {
        call_error(call, 400, NULL, "X-Goog-Upload-Header-Content-Type: want the file's type");
    }
    if (call->reply->status != 0 || read_start(call, name, sizeof(name)) != 0) {
        return;
    }
    struct spool *spool = spool_new(b->respond->options->spool, &why);
    if (spool == NULL) {
        call_error(call, 500, NULL, "%s", why.text);
        return;
    }
    uint64_t seed = (uint64_t)b->respond->options->seed;
    struct file *file =
        files_add(&b->files, "files/", seed, batches_owner(call), &spool, call->now_us);
    file->is_open = true;
    file->ticket = fault_random(seed, file->number, TICKET_SALT);
    file->announced = length.n > 0 ? announced : UINT64_MAX;
    (void)slice_copy(slice_of(name), file->name, sizeof(file->name));
    (void)slice_copy(type, file->type, sizeof(file->type));
    (void)call_reply(call);
    httpd_reply_header(call->reply, "X-Goog-Upload-Status", "active");
    httpd_reply_header(call->reply, "X-Goog-Upload-URL",
                       "http://%.*s" UPLOAD_PATH "?upload_id=%016" PRIx64
                       "&upload_protocol=resumable",
                       SLICE_FMT(slice_sub(host, 0, 140)), file->ticket);
    call_note(call, "start-upload", NULL, file->id);
}

static void finalize(struct batch_call *call, struct file *file) {
    struct batches *b = call->b;
    if (file->announced != UINT64_MAX && file->announced != file->spool->n) {
        call_error(call, 400, NULL,
                   "The upload has %" PRIu64 " bytes, and %" PRIu64 " were announced.",
                   file->spool->n, file->announced);
        return;
    }
    if (spool_flush(file->spool) != 0) {
        call_error(call, 500, NULL, "The file cannot be kept.");
        return;
    }
    int64_t keep_ms = b->respond->options->batch_keep;
    file->is_open = false;
    file->created_us = call->now_us;
    file->ready_us = call->now_us + b->respond->options->batch_file_time * 1000;
    file->expires_us = call->now_us + (keep_ms > 0 ? keep_ms * 1000 : KEEP_US);
    struct buf *out = call_reply(call);
    int rc = buf_add_str(out, "{\"file\":");
    rc = rc != 0 ? rc : add_file(call, file, out);
    rc = rc != 0 ? rc : buf_add_byte(out, '}');
    call->reply->status = rc == 0 ? 200 : 500;
    httpd_reply_header(call->reply, "X-Goog-Upload-Status", "final");
}

static void add_bytes(struct batch_call *call, struct file *file) {
    struct upload *u = call->job->upload;
    enum batch_fault fault = call_fault(call, BATCH_AT_UPLOAD);
    if (call->reply->status != 0) {
        return;
    }
    int rc = u != NULL ? upload_end(u) : -EINVAL;
    if (rc == -EMSGSIZE && u->most == 0) {
        call_error(call, 400, NULL, "X-Goog-Upload-Offset: want %" PRIu64, file->spool->n);
    } else if (rc != 0) {
        call_error(call, rc == -EIO ? 500 : 400, NULL, "The bytes cannot be taken.");
    } else if (has_command(call->request, "finalize")) {
        finalize(call, file);
        call_lose(call, fault);
    } else {
        (void)call_reply(call);
        httpd_reply_header(call->reply, "X-Goog-Upload-Status", "active");
        httpd_reply_header(call->reply, "X-Goog-Upload-Size-Received", "%" PRIu64, file->spool->n);
    }
}

static void upload(struct batch_call *call) {
    struct file *file = find_open(call->b, ticket_of(call->request));
    bool posted = call_is(call, "POST") || call_is(call, "PUT");
    if (ticket_of(call->request).n == 0 && posted && has_command(call->request, "start")) {
        call_note(call, "start-upload", NULL, NULL);
        start(call);
    } else if (file == NULL || !posted) {
        call_error(call, 404, NULL, "There is no such upload.");
    } else if (has_command(call->request, "query")) {
        (void)call_reply(call);
        httpd_reply_header(call->reply, "X-Goog-Upload-Status", "active");
        httpd_reply_header(call->reply, "X-Goog-Upload-Size-Received", "%" PRIu64, file->spool->n);
    } else if (has_command(call->request, "cancel")) {
        (void)call_reply(call);
        files_remove(&call->b->files, file);
    } else if (has_command(call->request, "upload")) {
        call_note(call, "upload", NULL, file->id);
        add_bytes(call, file);
    } else if (has_command(call->request, "finalize")) {
        call_note(call, "upload", NULL, file->id);
        finalize(call, file);
    } else {
        call_error(call, 400, NULL,
                   "X-Goog-Upload-Command: want start, upload, finalize, query or cancel");
    }
}

// --- look, list, delete, download ----------------------------------------------------------------

static bool is_seen(const struct batch_call *call, const struct file *file) {
    return file->owner == batches_owner(call) && !file->is_open &&
           slice_starts(slice_of(file->id), "files/") && file->expires_us > call->now_us;
}

static void list(struct batch_call *call) {
    struct slice token = httpd_query(call->request, "pageToken");
    int64_t limit = 0, n = 0;
    char last[20] = "";
    if (call_number(call, "pageSize", LIST_USUAL, 1, LIST_MOST, &limit) != 0) {
        return;
    }
    struct buf *out = call_reply(call);
    const struct file *oldest = call->b->files.list, *file = oldest != NULL ? oldest->prev : NULL;
    uint64_t below = token.n > 0 ? strtoull(token.p, NULL, 16) : UINT64_MAX;
    bool more = false;
    int rc = buf_add_str(out, "{\"files\":[");
    for (; rc == 0 && file != NULL && !more; file = file == oldest ? NULL : file->prev) {
        if (!is_seen(call, file) || file->number >= below) {
            continue;
        }
        more = n == limit;
        if (!more) {
            rc = n++ > 0 ? buf_add_byte(out, ',') : 0;
            rc = rc != 0 ? rc : add_file(call, file, out);
            snprintf(last, sizeof(last), "%" PRIx64, file->number);
        }
    }
    rc = rc != 0 ? rc : buf_add_byte(out, ']');
    rc = rc == 0 && more ? buf_addf(out, ",\"nextPageToken\":\"%s\"", last) : rc;
    rc = rc != 0 ? rc : buf_add_byte(out, '}');
    call->reply->status = rc == 0 ? 200 : 500;
}

static void serve_one(struct batch_call *call, struct file *file) {
    int rc = 0;
    if (call_is(call, "GET")) {
        call_note(call, "get-file", NULL, file->id);
        rc = add_file(call, file, call_reply(call));
    } else if (call_is(call, "DELETE")) {
        call_note(call, "remove-file", NULL, file->id);
        (void)call_fault(call, BATCH_AT_REMOVE);
        if (call->reply->status != 0) {
            return;
        }
        rc = buf_add_str(call_reply(call), "{}");
        files_remove(&call->b->files, file);
    } else {
        call_error(call, 405, NULL, "Method Not Allowed");
    }
    call->reply->status = rc == 0 ? call->reply->status : 500;
}

static struct file *find(struct batch_call *call, struct slice id) {
    struct file *file = files_find(&call->b->files, id, batches_owner(call), call->now_us);
    if (file == NULL || !is_seen(call, file)) {
        call_error(call, 403, NULL,
                   "You do not have permission to access the File %.*s or it may not exist.",
                   SLICE_FMT(slice_sub(id, 0, 80)));
        return NULL;
    }
    return file;
}

static void download(struct batch_call *call, struct slice path) {
    struct slice id = slice_sub(path, sizeof(LOAD_HEAD) - 1, SIZE_MAX);
    size_t n_end = sizeof(":download") - 1;
    bool right = id.n > n_end && slice_is(slice_sub(id, id.n - n_end, n_end), ":download");
    if (!right || !slice_is(httpd_query(call->request, "alt"), "media") || !call_is(call, "GET")) {
        call_error(call, 400, NULL, "Want GET .../files/NAME:download?alt=media");
        return;
    }
    id.n -= n_end;
    struct file *file = find(call, id);
    if (file == NULL) {
        return;
    }
    call_note(call, "download", NULL, file->id);
    if (!file->is_result) {
        call_error(call, 400, NULL, "Only generated files can be downloaded.");
        return;
    }
    call_file(call, file->spool, "application/jsonl");
}

static void serve(struct batch_call *call) {
    struct slice path = httpd_path(call->request);
    if (slice_is(path, UPLOAD_PATH)) {
        upload(call);
    } else if (slice_starts(path, LOAD_HEAD)) {
        download(call, path);
    } else if (slice_is(path, FILES_PATH)) {
        call_note(call, "list-files", NULL, NULL);
        if (call_is(call, "GET")) {
            list(call);
        } else {
            call_error(call, 405, NULL, "Method Not Allowed");
        }
    } else {
        struct file *file = find(call, slice_sub(path, strlen("/v1beta/"), SIZE_MAX));
        if (file != NULL) {
            serve_one(call, file);
        }
    }
}

const struct api api_files_gemini = {.name = "gemini files",
                                     .key = API_KEY_GEMINI,
                                     .style = TELL_GEMINI,
                                     .owns = owns,
                                     .open = open_bytes,
                                     .serve = serve,
                                     .is_open = is_open};
