// Files of OpenAI, and of Azure OpenAI: upload as a form, look, list, content, delete. Lines are
// not looked at here: a job does that. Called through the table of APIs.
//
// Source: the API reference of OpenAI, "Files", 2026-08.
#include "tests/provider/openai_objects.h"
#include "common/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILE_MOST    UINT64_C(209715200) // of a batch's input
#define FORM_MORE    UINT64_C(65536)     // what a form may have besides
#define KEEP_DAYS    30
#define LIST_MOST    10000
#define EXPIRE_LEAST 3600
#define EXPIRE_MOST  2592000

bool openai_call_is_azure(const struct batch_call *call) {
    return call->job->api->key == API_KEY_AZURE;
}

bool openai_rest(struct slice path, bool azure, const char *collection, struct slice *rest) {
    static const char *const heads[] = {"/openai/v1", "/openai", "/v1"};
    for (size_t i = azure ? 0 : 2; i < (azure ? 2u : 3u); i++) {
        size_t n = strlen(heads[i]), n_name = strlen(collection);
        struct slice tail = slice_sub(path, n, SIZE_MAX);
        if (slice_starts(path, heads[i]) && slice_starts(tail, collection) &&
            (tail.n == n_name || tail.p[n_name] == '/')) {
            *rest = slice_sub(tail, n_name, SIZE_MAX);
            return true;
        }
    }
    return false;
}

void openai_split(struct slice rest, struct slice *id, struct slice *verb) {
    *id = slice_sub(rest, 1, SIZE_MAX);
    const char *slash = id->n > 0 ? memchr(id->p, '/', id->n) : NULL;
    *verb = slash != NULL ? slice_sub(*id, (size_t)(slash + 1 - id->p), SIZE_MAX) : SLICE_NONE;
    id->n = slash != NULL ? (size_t)(slash - id->p) : id->n;
}

int openai_add_time(struct buf *out, const char *name, int64_t us, bool as_text) {
    if (us == 0) {
        return buf_addf(out, ",\"%s\":null", name);
    }
    time_t seconds = (time_t)(us / 1000000);
    if (!as_text) {
        return buf_addf(out, ",\"%s\":%lld", name, (long long)seconds);
    }
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    return buf_addf(out, ",\"%s\":\"%s.%02d+00:00\"", name, text, (int)(us / 10000 % 100));
}

int64_t openai_keep_us(const struct batches *b) {
    int64_t keep_ms = b->respond->options->batch_keep;
    return keep_ms > 0 ? keep_ms * 1000 : KEEP_DAYS * BATCHES_DAY_US;
}

// --- upload --------------------------------------------------------------------------------------

struct upload *openai_open_file(struct batches *b, const struct httpd_request *request) {
    struct slice path = httpd_path(request), rest;
    bool is_upload =
        slice_is(httpd_method(request), "POST") &&
        (openai_rest(path, false, "/files", &rest) || openai_rest(path, true, "/files", &rest)) &&
        rest.n == 0;
    const struct provider_options *o = b->respond->options;
    return is_upload ? upload_form(o->spool, httpd_header(request, "Content-Type"),
                                   batches_most(o->batch_bytes, FILE_MOST) + FORM_MORE)
                     : NULL;
}

static int add_file(const struct batch_call *call, const struct file *file, struct buf *out) {
    bool pending = call->now_us < file->ready_us;
    int rc =
        buf_addf(out, "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%llu,\"filename\":", file->id,
                 (unsigned long long)file->spool->n);
    rc = rc != 0 ? rc : json_add_string(out, slice_of(file->name));
    rc = rc != 0 ? rc
                 : buf_addf(out, ",\"purpose\":\"%s\",\"status\":\"%s\",\"status_details\":null",
                            file->purpose, pending ? "pending" : "processed");
    rc = rc != 0 ? rc : openai_add_time(out, "created_at", file->created_us, false);
    rc = rc != 0 || file->expires_us == 0
             ? rc
             : openai_add_time(out, "expires_at", file->expires_us, false);
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

// read_expiry reads expires_after; 0 or -EINVAL after call_error.
static int read_expiry(struct batch_call *call, const struct upload *u, int64_t *keep_us) {
    const char *anchor = upload_value(u, "expires_after[anchor]");
    const char *seconds = upload_value(u, "expires_after[seconds]");
    *keep_us = openai_keep_us(call->b);
    if (anchor == NULL && seconds == NULL) {
        return 0;
    }
    char *end = NULL;
    long long n = seconds != NULL ? strtoll(seconds, &end, 10) : 0;
    long long least = openai_call_is_azure(call) ? 1209600 : EXPIRE_LEAST;
    if (anchor == NULL || strcmp(anchor, "created_at") != 0 || end == NULL || *end != '\0' ||
        n < least || n > EXPIRE_MOST) {
        call_error(call, 400, NULL,
                   "Invalid 'expires_after': expected the anchor created_at, and between %lld "
                   "and %d seconds.",
                   least, EXPIRE_MOST);
        return -EINVAL;
    }
    *keep_us = n * 1000000;
    return 0;
}

// check_form says what is wrong with an upload; 0 or -EINVAL after call_error.
static int check_form(struct batch_call *call, struct upload *u) {
    const struct provider_options *o = call->b->respond->options;
    int rc = upload_end(u);
    const char *purpose = upload_value(u, "purpose");
    size_t n = strlen(u->filename);
    if (rc == -EMSGSIZE || (rc == 0 && u->spool->n > batches_most(o->batch_bytes, FILE_MOST))) {
        call_error(call, 413, NULL, "The file is too large: want at most %llu bytes.",
                   (unsigned long long)batches_most(o->batch_bytes, FILE_MOST));
    } else if (rc != 0) {
        call_error(call, rc == -EIO ? 500 : 400, NULL, "%s", u->why.text);
    } else if (!u->has_file || u->filename[0] == '\0') {
        call_error(call, 400, NULL, "Missing required parameter: 'file'.");
    } else if (purpose == NULL) {
        call_error(call, 400, NULL, "Missing required parameter: 'purpose'.");
    } else if (strcmp(purpose, "batch") != 0) {
        call_error(call, 400, NULL, "Invalid value for 'purpose': expected 'batch'.");
    } else if (n < 6 || strcmp(u->filename + n - 6, ".jsonl") != 0) {
        call_error(call, 400, NULL, "Invalid file format for Batch API. Must be .jsonl");
    }
    return call->reply->status != 0 ? -EINVAL : 0;
}

static void create(struct batch_call *call) {
    struct upload *u = call->job->upload;
    int64_t keep_us = 0;
    enum batch_fault fault = call_fault(call, BATCH_AT_UPLOAD);
    call_note(call, "upload", NULL, NULL);
    if (call->reply->status != 0 || check_form(call, u) != 0 ||
        read_expiry(call, u, &keep_us) != 0) {
        return;
    }
    struct batches *b = call->b;
    struct file *file = files_add(&b->files, "file-", (uint64_t)b->respond->options->seed,
                                  batches_owner(call), &u->spool, call->now_us);
    (void)slice_copy(slice_of(u->filename), file->name, sizeof(file->name));
    strcpy(file->purpose, "batch");
    file->expires_us = call->now_us + keep_us;
    file->ready_us += openai_call_is_azure(call) ? b->respond->options->batch_file_time * 1000 : 0;
    call_note(call, "upload", NULL, file->id);
    if (add_file(call, file, call_reply(call)) != 0) {
        call->reply->status = 500;
    }
    call_lose(call, fault);
}

// --- look, list, content, delete -----------------------------------------------------------------

static void list(struct batch_call *call) {
    struct slice purpose = httpd_query(call->request, "purpose");
    struct slice after = httpd_query(call->request, "after"),
                 order = httpd_query(call->request, "order");
    bool rising = slice_is(order, "asc"), more = false, started = after.n == 0;
    int64_t limit = 0, n = 0;
    if (call_number(call, "limit", LIST_MOST, 1, LIST_MOST, &limit) != 0) {
        return;
    }
    struct buf *out = call_reply(call);
    const struct file *oldest = call->b->files.list, *last = NULL;
    const struct file *f = rising || oldest == NULL ? oldest : oldest->prev;
    int rc = buf_add_str(out, "{\"object\":\"list\",\"data\":[");
    while (rc == 0 && f != NULL) {
        bool seen = f->owner == batches_owner(call) && !f->is_open &&
                    (f->expires_us == 0 || f->expires_us > call->now_us) &&
                    (purpose.n == 0 || slice_is(purpose, f->purpose));
        if (seen && started && n == limit) {
            more = true;
            break;
        }
        if (seen && started) {
            rc = n++ > 0 ? buf_add_byte(out, ',') : 0;
            rc = rc != 0 ? rc : add_file(call, f, out);
            last = f;
        }
        started |= slice_is(after, f->id);
        f = rising ? f->next : f == oldest ? NULL : f->prev;
    }
    rc = rc != 0 ? rc
                 : buf_addf(out, "],\"has_more\":%s,\"last_id\":%s%s%s}", more ? "true" : "false",
                            last != NULL ? "\"" : "", last != NULL ? last->id : "null",
                            last != NULL ? "\"" : "");
    call->reply->status = rc == 0 ? 200 : 500;
}

static void remove_file(struct batch_call *call, struct file *file) {
    if (call_fault(call, BATCH_AT_REMOVE) != BATCH_FAULT_COUNT) {
        return;
    }
    int rc = buf_addf(call_reply(call), "{\"id\":\"%s\",\"object\":\"file\",\"deleted\":true}",
                      file->id);
    call->reply->status = rc == 0 ? 200 : 500;
    files_remove(&call->b->files, file);
}

static void serve_one(struct batch_call *call, struct file *file, struct slice verb) {
    if (call_is(call, "DELETE") && verb.n == 0) {
        call_note(call, "remove-file", NULL, file->id);
        remove_file(call, file);
    } else if (!call_is(call, "GET")) {
        call_error(call, 405, NULL, "Not allowed to %.*s.", SLICE_FMT(httpd_method(call->request)));
    } else if (slice_is(verb, "content")) {
        call_note(call, "download", NULL, file->id);
        call_file(call, file->spool, "application/octet-stream");
    } else if (verb.n == 0) {
        call_note(call, "get-file", NULL, file->id);
        int rc = add_file(call, file, call_reply(call));
        call->reply->status = rc == 0 ? 200 : 500;
    } else {
        call_error(call, 404, NULL, "Unknown request URL.");
    }
}

void openai_serve_files(struct batch_call *call) {
    struct slice rest, id, verb;
    bool known =
        openai_rest(httpd_path(call->request), openai_call_is_azure(call), "/files", &rest);
    openai_split(known ? rest : SLICE_NONE, &id, &verb);
    if (id.n == 0 && call->job->upload != NULL) {
        create(call);
    } else if (id.n == 0 && call_is(call, "GET")) {
        call_note(call, "list-files", NULL, NULL);
        list(call);
    } else if (id.n == 0) {
        call_error(call, 405, NULL, "Not allowed: want GET or POST.");
    } else {
        struct file *file = files_find(&call->b->files, id, batches_owner(call), call->now_us);
        if (file == NULL) {
            call_error(call, 404, NULL, "No such File object: %.*s",
                       SLICE_FMT(slice_sub(id, 0, 80)));
            return;
        }
        serve_one(call, file, verb);
    }
}

static bool owns(struct slice path) {
    struct slice rest;
    return openai_rest(path, false, "/files", &rest);
}

const struct api api_files_openai = {
    .name = "files", .owns = owns, .open = openai_open_file, .serve = openai_serve_files};
