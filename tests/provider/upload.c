// A request's body on its way to disk. Invariant: after the first error bytes are counted and
// dropped. Called by the APIs of files and batches.
#include "tests/provider/upload.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ELEMENT_MAX (32u << 20)

static int on_element(void *arg, struct slice element) {
    struct upload *u = arg;
    u->n_elements++;
    int rc = spool_add(u->spool, element);
    return rc != 0 ? rc : spool_add(u->spool, SLICE_LIT("\n"));
}

static int add_value(struct upload *u, const char *name, struct slice bytes) {
    struct upload_field *field = NULL;
    for (size_t i = 0; i < u->n_fields && field == NULL; i++) {
        field = strcmp(u->fields[i].name, name) == 0 ? &u->fields[i] : NULL;
    }
    if (field == NULL) {
        if (u->n_fields == UPLOAD_FIELDS_MAX) {
            return error_set(&u->why, -EINVAL, "form: more than %d fields", UPLOAD_FIELDS_MAX);
        }
        field = &u->fields[u->n_fields++];
        strcpy(field->name, name);
    }
    if (bytes.n > 0 && memchr(bytes.p, '\0', bytes.n) != NULL) {
        return error_set(&u->why, -EINVAL, "form: a NUL stands in the field %.40s", name);
    }
    size_t n = strlen(field->value);
    return slice_copy(bytes, field->value + n, sizeof(field->value) - n)
               ? 0
               : error_set(&u->why, -EINVAL, "form: the field %.40s is too long", name);
}

static int on_part(void *arg, const char *name, const char *filename, struct slice bytes) {
    struct upload *u = arg;
    if (strcmp(name, "file") != 0) {
        return add_value(u, name, bytes);
    }
    u->has_file = true;
    memcpy(u->filename, filename, strlen(filename) + 1);
    return bytes.n > 0 ? spool_add(u->spool, bytes) : 0;
}

static struct upload *upload_new(enum upload_kind kind, const char *folder, struct spool *spool,
                                 uint64_t most) {
    struct upload *u = mem_zalloc(sizeof(*u));
    u->kind = kind;
    u->most = most;
    u->spool = spool != NULL ? spool_share(spool) : spool_new(folder, &u->why);
    u->rc = u->spool != NULL ? 0 : -EIO;
    return u;
}

struct upload *upload_form(const char *folder, struct slice content_type, uint64_t most) {
    struct upload *u = upload_new(UPLOAD_FORM, folder, NULL, most);
    int rc = multipart_init(&u->form, content_type, on_part, u, u->rc == 0 ? &u->why : NULL);
    u->rc = u->rc != 0 ? u->rc : rc;
    return u;
}

struct upload *upload_array(const char *folder, const char *const *path, size_t n_path,
                            uint64_t most) {
    struct upload *u = upload_new(UPLOAD_ARRAY, folder, NULL, most);
    elements_init(&u->array, path, n_path, ELEMENT_MAX, on_element, u);
    return u;
}

struct upload *upload_bytes(const char *folder, struct spool *spool, uint64_t most) {
    return upload_new(UPLOAD_BYTES, folder, spool, most);
}

void upload_free(struct upload *upload) {
    if (upload == NULL) {
        return;
    }
    if (upload->kind == UPLOAD_FORM) {
        multipart_free(&upload->form);
    } else if (upload->kind == UPLOAD_ARRAY) {
        elements_free(&upload->array);
    }
    spool_leave(&upload->spool);
    free(upload);
}

void upload_add(struct upload *upload, struct slice bytes) {
    upload->n += bytes.n;
    upload->too_long |= upload->n > upload->most;
    if (upload->rc != 0 || upload->too_long) {
        return;
    }
    switch (upload->kind) {
    case UPLOAD_FORM:
        upload->rc = multipart_add(&upload->form, bytes, &upload->why);
        break;
    case UPLOAD_ARRAY:
        upload->rc = elements_add(&upload->array, bytes, &upload->why);
        break;
    case UPLOAD_BYTES:
        upload->rc = spool_add(upload->spool, bytes);
        break;
    }
}

int upload_end(struct upload *upload) {
    if (upload->too_long) {
        return error_set(&upload->why, -EMSGSIZE,
                         "the request is too large: want at most %llu bytes",
                         (unsigned long long)upload->most);
    }
    if (upload->rc == 0 && upload->kind == UPLOAD_FORM) {
        upload->rc = multipart_end(&upload->form, &upload->why);
    } else if (upload->rc == 0 && upload->kind == UPLOAD_ARRAY) {
        upload->rc = elements_end(&upload->array, &upload->why);
    }
    upload->rc = upload->rc != 0 ? upload->rc : spool_flush(upload->spool);
    if (upload->rc != 0 && upload->why.text[0] == '\0') {
        error_set(&upload->why, 0, "the body cannot be kept: %s", strerror(-upload->rc));
    }
    return upload->rc != -EINVAL && upload->rc != 0 ? -EIO : upload->rc;
}

const char *upload_value(const struct upload *upload, const char *name) {
    for (size_t i = 0; i < upload->n_fields; i++) {
        if (strcmp(upload->fields[i].name, name) == 0) {
            return upload->fields[i].value;
        }
    }
    return NULL;
}
