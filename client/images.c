// Files of images into rows. Invariant: no file is opened but below the folder, component by component,
// with O_NOFOLLOW, so that nothing a row says leads out of it; and no bytes go on that are no image.
// Called by run, submit and dry_run.
#include "client/images.h"

#include "client/merge.h"
#include "common/base64.h"
#include "common/image.h"
#include "common/json.h"
#include "common/mem.h"
#include "proto/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHOWN 160 // bytes of a path in a sentence

struct images {
    struct images_config config;
    char *file;       // whose folder is open; NULL: none yet
    int folder;       // descriptor; -1: it cannot be opened
    char *real;       // its whole path; NULL: not known
    struct buf bytes; // of one file, or of text that may be base64
    struct buf row;   // the row with its images
    struct buf fields; // of an enveloped row, as JSON
};

struct images *images_new(const struct images_config *config) {
    if (config->model->n_images == 0) {
        return NULL;
    }
    struct images *images = mem_zalloc(sizeof(*images));
    images->config = *config;
    images->folder = -1;
    buf_init(&images->bytes, RECORD_LONG_MAX_BYTES);
    buf_init(&images->row, RECORD_LONG_MAX_BYTES);
    buf_init(&images->fields, 4 * (size_t)RECORD_LONG_MAX_BYTES);
    return images;
}

static void close_folder(struct images *images) {
    if (images->folder >= 0) {
        close(images->folder);
    }
    images->folder = -1;
    free(images->real);
    free(images->file);
    images->real = images->file = NULL;
}

void images_free(struct images *images) {
    if (images == NULL) {
        return;
    }
    close_folder(images);
    buf_free(&images->bytes);
    buf_free(&images->row);
    buf_free(&images->fields);
    free(images);
}

// ---- Files --------------------------------------------------------------------------------------

// open_folder opens the folder that belongs to a file of rows, unless it is open.
static void open_folder(struct images *images, const char *file) {
    if (images->file != NULL && strcmp(images->file, file) == 0) {
        return;
    }
    close_folder(images);
    images->file = mem_dup_str(file);
    char *path = mem_dup_str(images->config.folder[0] != '\0' ? images->config.folder : file);
    if (images->config.folder[0] == '\0') {
        char *slash = strrchr(path, '/'); // standard input has none
        if (slash != NULL) {
            slash[slash == path ? 1 : 0] = '\0';
        }
        if (slash == NULL) {
            strcpy(path, ".");
        }
    }
    images->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    images->real = images->folder >= 0 ? realpath(path, NULL) : NULL;
    free(path);
}

// below cuts the folder off an absolute path; NULL: it leads elsewhere.
static const char *below(const struct images *images, const char *path) {
    if (path[0] != '/') {
        return path;
    }
    size_t n = images->real != NULL ? strlen(images->real) : 0;
    if (n == 1) { // the root
        return path + 1;
    }
    return n > 0 && strncmp(path, images->real, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

// open_below opens a path below the folder. Returns a descriptor or a negative errno; -EXDEV: the path
// leads out of it.
static int open_below(const struct images *images, const char *path) {
    char part[NAME_MAX + 1];
    int at = images->folder;
    path = below(images, path);
    if (path == NULL || at < 0) {
        return path == NULL ? -EXDEV : -ENOENT;
    }
    for (;;) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        bool is_last = path[n + strspn(path + n, "/")] == '\0';
        bool is_out = n == 2 && memcmp(path, "..", 2) == 0;
        if (n >= sizeof(part) || n == 0 || is_out) {
            if (at != images->folder) {
                close(at);
            }
            return is_out ? -EXDEV : n == 0 ? -EISDIR : -ENAMETOOLONG;
        }
        memcpy(part, path, n);
        part[n] = '\0';
        path += n;
        // O_NONBLOCK: a pipe of that name keeps nobody waiting.
        int next = openat(at, part, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
                                        (is_last ? 0 : O_DIRECTORY));
        int code = errno;
        if (at != images->folder) {
            close(at);
        }
        if (next < 0) {
            return -code;
        }
        if (is_last) {
            return next;
        }
        at = next;
    }
}

static const char *open_fault(int code) {
    switch (code) {
    case -EXDEV:
        return "leads out of the folder of images, want a file below it (--image-folder)";
    case -ELOOP:
        return "is a symbolic link, want a file";
    case -ENOTDIR:
        return "has something else than a folder on its way: a symbolic link is not followed";
    default:
        return strerror(-code);
    }
}

// read_all reads a regular file into images->bytes. Returns 0, -EINVAL for what is no such file, -EFBIG, or
// a negative errno.
static int read_all(struct images *images, int fd, size_t *size) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    *size = (size_t)st.st_size;
    if (*size > images->config.max_bytes) {
        return -EFBIG;
    }
    buf_clear(&images->bytes);
    for (;;) { // a file that grows meanwhile ends at the ceiling
        if (buf_reserve(&images->bytes, 64 * 1024) != 0 || images->bytes.n > images->config.max_bytes) {
            return -EFBIG;
        }
        ssize_t n = read(fd, images->bytes.p + images->bytes.n, 64 * 1024);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            return 0;
        }
        images->bytes.n += n > 0 ? (size_t)n : 0;
    }
}

// read_file reads the image that a path names into images->bytes.
static int read_file(struct images *images, const char *column, const char *path, struct error *why) {
    char shown[SHOWN];
    size_t size = 0;
    slice_copy(slice_of(path), shown, sizeof(shown));
    for (char *c = shown; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;
    }
    int fd = open_below(images, path);
    if (fd < 0) {
        return error_set(why, -EINVAL, "column '%s': image '%s': %s", column, shown, open_fault(fd));
    }
    int rc = read_all(images, fd, &size);
    close(fd);
    if (rc == -EFBIG) {
        return error_set(why, -EINVAL, "column '%s': image '%s': got %zu bytes, want at most %zu "
                                       "(--image-max-bytes)", column, shown, size, images->config.max_bytes);
    }
    if (rc != 0) {
        return error_set(why, -EINVAL, "column '%s': image '%s': %s", column, shown,
                         rc == -EINVAL ? "is no regular file" : strerror(-rc));
    }
    if (image_kind(buf_slice(&images->bytes)) == IMAGE_NONE) {
        return error_set(why, -EINVAL, "column '%s': image '%s': got something else, want a PNG, JPEG, GIF or "
                                       "WEBP image", column, shown);
    }
    return 0;
}

// ---- Rows ---------------------------------------------------------------------------------------

static bool is_url(struct slice text) {
    static const char *const schemes[] = {"http://", "https://", "data:"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (slice_is_nocase(slice_sub(text, 0, strlen(schemes[i])), schemes[i])) {
            return true;
        }
    }
    return false;
}

// is_path: what is neither a URL nor base64 of an image.
static bool is_path(struct images *images, struct slice text) {
    const char *fault;
    if (text.n == 0 || text.n >= PATH_MAX || is_url(text) || memchr(text.p, '\0', text.n) != NULL) {
        return false; // the coordinator says what is wrong with it
    }
    buf_clear(&images->bytes);
    return image_from_text(text, &images->bytes, &fault) != 0;
}

// Columns whose paths were replaced.
struct replaced {
    const struct model *model;
    bool is[MODEL_COLUMNS_MAX];
    size_t n;
};

static bool is_replaced(const void *arg, struct slice name) {
    const struct replaced *r = arg;
    int i = model_input_index(r->model, name);
    return i >= 0 && r->is[i];
}

// add_images appends the members of the columns that are replaced, and the closing brace.
static int add_images(struct images *images, struct replaced *r, struct json_object *fields, bool first,
                      struct error *why) {
    struct buf *out = &images->row;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->model->n_input; i++) {
        const char *name = r->model->input[i].name;
        if (!r->is[i]) {
            continue;
        }
        char *path = slice_dup(slice_trim(json_text(json_get(fields, name))));
        rc = read_file(images, name, path, why);
        free(path);
        if (rc != 0) {
            return rc;
        }
        rc = first ? 0 : buf_add_byte(out, ',');
        rc = rc != 0 ? rc : json_add_string(out, slice_of(name));
        rc = rc != 0 ? rc : buf_add_str(out, ":\"");
        rc = rc != 0 ? rc : base64_add(out, buf_slice(&images->bytes));
        rc = rc != 0 ? rc : buf_add_byte(out, '"');
        first = false;
    }
    return rc != 0 ? rc : buf_add_byte(out, '}');
}

static bool is_envelope_name(const void *arg, struct slice name) {
    static const char *const names[] = {"id", "key", "model", "options", "fields"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_is(name, names[i])) {
            return true;
        }
    }
    return false;
}

static bool is_fields(const void *arg, struct slice name) {
    return slice_is(name, "fields");
}

// is_enveloped as rows_read sees it.
static bool is_enveloped(struct json_object *row) {
    bool known = true;
    json_object_object_foreach(row, name, member) {
        known = known && is_envelope_name(member, slice_of(name));
    }
    return known && json_object_is_type(json_get(row, "fields"), json_type_object);
}

// add_row writes the row anew, with the images.
static int add_row(struct images *images, struct replaced *r, struct json_object *row, bool enveloped,
                   struct slice json, struct error *why) {
    struct json_object *fields = enveloped ? json_get(row, "fields") : row;
    struct slice text = json;
    int rc = 0;
    long kept = 0;
    buf_clear(&images->row);
    if (enveloped) {
        buf_clear(&images->fields);
        rc = json_add(&images->fields, fields);
        text = buf_slice(&images->fields);
        kept = rc == 0 ? json_drop_members(json, is_fields, NULL, &images->row) : rc;
        rc = kept < 0 ? (int)kept : buf_add_str(&images->row, kept > 0 ? ",\"fields\":" : "\"fields\":");
    }
    kept = rc == 0 ? json_drop_members(text, is_replaced, r, &images->row) : rc;
    rc = kept < 0 ? (int)kept : add_images(images, r, fields, kept == 0, why);
    return rc == 0 && enveloped ? buf_add_byte(&images->row, '}') : rc;
}

int images_fill(struct images *images, const char *file, struct slice json, struct slice *out,
                struct error *why) {
    const struct model *model = images->config.model;
    struct json_object *row = NULL;
    struct replaced r = {.model = model};
    *out = json;
    if (json_parse(json, &row, NULL) != 0 || !json_object_is_type(row, json_type_object)) {
        json_object_put(row);
        return 0; // the coordinator says what is wrong with it
    }
    bool enveloped = is_enveloped(row);
    struct slice other = enveloped ? json_text(json_get(row, "model")) : SLICE_NONE;
    struct json_object *fields = enveloped ? json_get(row, "fields") : row;
    for (size_t i = 0; (other.n == 0 || slice_is(other, model->name)) && i < model->n_input; i++) {
        struct slice text = slice_trim(json_text(json_get(fields, model->input[i].name)));
        r.is[i] = model->input[i].type == TYPE_IMAGE && is_path(images, text);
        r.n += r.is[i];
    }
    int rc = 0;
    if (r.n > 0) {
        open_folder(images, file);
        rc = add_row(images, &r, row, enveloped, json, why);
        *out = rc == 0 ? buf_slice(&images->row) : json;
    }
    json_object_put(row);
    return rc != -EMSGSIZE ? rc
                           : error_set(why, rc, "the row with its images is longer than %d bytes",
                                       RECORD_LONG_MAX_BYTES);
}
