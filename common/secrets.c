// ${NAME} from the environment or a secrets file. Invariant: no value leaves through anything but
// secrets_expand, and what was read is wiped before it is freed. Called by the worker; the client
// asks only whether a name is there.
#include "common/secrets.h"

#include "common/mem.h"

#include <uthash.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1024 * 1024) // of a secrets file; ten thousand keys

struct secret {
    char *name;
    char *value;
    UT_hash_handle hh; // in secrets->by_name
};

struct secrets {
    struct secret *by_name; // of the file; the environment is asked when a name is not here
};

static void wipe(char *text) {
    if (text != NULL) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
}

void secrets_free(struct secrets *secrets) {
    if (secrets == NULL) {
        return;
    }
    struct secret *secret, *next;
    HASH_ITER(hh, secrets->by_name, secret, next) {
        HASH_DEL(secrets->by_name, secret);
        wipe(secret->value);
        free(secret->name);
        free(secret);
    }
    free(secrets);
}

// ---- The file -----------------------------------------------------------------------------------

// name_length counts the bytes at p that make a NAME: [A-Za-z_][A-Za-z0-9_]*.
static size_t name_length(struct slice text) {
    size_t n = 0;
    while (n < text.n) {
        char c = text.p[n];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!letter && (n == 0 || c < '0' || c > '9')) {
            break;
        }
        n++;
    }
    return n;
}

static void put(struct secrets *secrets, struct slice name, struct slice value) {
    struct secret *secret;
    HASH_FIND(hh, secrets->by_name, name.p, name.n, secret);
    if (secret == NULL) {
        secret = mem_zalloc(sizeof(*secret));
        secret->name = slice_dup(name);
        HASH_ADD_KEYPTR(hh, secrets->by_name, secret->name, name.n, secret);
    }
    wipe(secret->value); // the last line of a name wins
    secret->value = slice_dup(value);
}

// read_line takes one line of the file. Returns 0, or -EINVAL when it is not NAME=value.
static int read_line(struct secrets *secrets, struct slice line) {
    line = slice_trim(line);
    if (line.n == 0 || line.p[0] == '#') {
        return 0;
    }
    size_t n = name_length(line);
    struct slice name = slice_sub(line, 0, n);
    struct slice rest = slice_trim(slice_sub(line, n, line.n));
    if (n == 0 || rest.n == 0 || rest.p[0] != '=' || memchr(line.p, '\0', line.n) != NULL) {
        return -EINVAL;
    }
    struct slice value = slice_trim(slice_sub(rest, 1, rest.n));
    if (value.n > 0 && (value.p[0] == '"' || value.p[0] == '\'')) {
        if (value.n < 2 || value.p[value.n - 1] != value.p[0]) {
            return -EINVAL;
        }
        value = slice_sub(value, 1, value.n - 2);
    }
    put(secrets, name, value);
    return 0;
}

static int read_lines(struct secrets *secrets, const char *file, struct slice text,
                      struct error *why) {
    for (int number = 1; text.n > 0; number++) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.n;
        if (read_line(secrets, slice_sub(text, 0, n)) != 0) {
            return error_set(
                why, -EINVAL,
                "%s:%d: got a line that is not NAME=value (not repeated here), want that", file,
                number);
        }
        text = slice_sub(text, n + 1, text.n);
    }
    return 0;
}

// read_all reads an open file into text, at most FILE_MAX_BYTES.
static int read_all(int fd, struct buf *text) {
    for (;;) {
        if (buf_reserve(text, 4096) != 0) {
            return -EFBIG;
        }
        ssize_t n = read(fd, text->p + text->n, 4096);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        text->n += (size_t)n;
    }
}

// check_file wants a regular file that only its owner can read.
static int check_file(int fd, const char *file, struct error *why) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return error_set(why, -errno, "%s: %s", file, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(why, -EINVAL, "%s: not a regular file, want one", file);
    }
    if ((st.st_mode & 077) != 0) {
        return error_set(why, -EACCES,
                         "%s: got mode %03o, which others can use, want 600 (chmod 600)", file,
                         (unsigned)(st.st_mode & 0777));
    }
    return 0;
}

static int load_file(struct secrets *secrets, const char *file, struct error *why) {
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a named pipe must not stop us
    if (fd < 0) {
        return error_set(why, -errno, "%s: %s, want a secrets file", file, strerror(errno));
    }
    // Room for all of it at once: growing would leave copies in freed memory.
    struct buf text;
    buf_init(&text, FILE_MAX_BYTES + 4096);
    int rc = check_file(fd, file, why);
    if (rc == 0 && (rc = buf_reserve(&text, FILE_MAX_BYTES)) == 0 &&
        (rc = read_all(fd, &text)) != 0) {
        error_set(why, rc, "%s: %s", file, strerror(-rc));
    }
    close(fd);
    if (rc == 0) {
        rc = read_lines(secrets, file, buf_slice(&text), why);
    }
    if (text.p != NULL) {
        explicit_bzero(text.p, text.cap);
    }
    buf_free(&text);
    return rc;
}

struct secrets *secrets_load(const char *file, struct error *why) {
    struct secrets *secrets = mem_zalloc(sizeof(*secrets));
    if (file != NULL && file[0] != '\0' && load_file(secrets, file, why) != 0) {
        secrets_free(secrets);
        return NULL;
    }
    return secrets;
}

// ---- Names to values ----------------------------------------------------------------------------

// find borrows a value, or returns NULL when there is none or an empty one.
static const char *find(const struct secrets *secrets, struct slice name) {
    struct secret *secret;
    HASH_FIND(hh, secrets->by_name, name.p, name.n, secret);
    if (secret != NULL) {
        return secret->value[0] != '\0' ? secret->value : NULL;
    }
    char *copy = slice_dup(name);
    const char *value = getenv(copy);
    free(copy);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool secrets_has(const struct secrets *secrets, struct slice name) {
    return name.n > 0 && name_length(name) == name.n && find(secrets, name) != NULL;
}

// add_value appends the value of one name.
static int add_value(const struct secrets *secrets, struct slice name, struct buf *out,
                     struct error *why) {
    const char *value = find(secrets, name);
    if (value == NULL) {
        return error_set(why, -ENOENT,
                         "${%.*s}: not in the environment and not in the secrets file",
                         SLICE_FMT(name));
    }
    for (const char *p = value; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            return error_set(why, -EINVAL,
                             "${%.*s}: its value has a control character (a line end?), want none",
                             SLICE_FMT(name));
        }
    }
    return buf_add_str(out, value);
}

int secrets_expand(const struct secrets *secrets, struct slice text, struct buf *out,
                   struct error *why) {
    size_t start = out->n;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < text.n;) {
        struct slice rest = slice_sub(text, i, text.n);
        size_t n = slice_starts(rest, "${") ? name_length(slice_sub(rest, 2, rest.n)) : 0;
        if (n > 0 && n + 2 < rest.n && rest.p[n + 2] == '}') {
            rc = add_value(secrets, slice_sub(rest, 2, n), out, why);
            i += n + 3;
        } else {
            rc = buf_add_byte(out, text.p[i]);
            i++;
        }
    }
    if (rc != 0 && out->p != NULL) { // half a header is no use, and may hold a value
        explicit_bzero(out->p + start, out->n - start);
        out->n = start;
    }
    return rc;
}
