// multipart/form-data, piece by piece. Invariant: `held` is shorter than a delimiter between two
// calls inside a part, and than HEADERS_MAX outside. Called by uploads.
//
//   BEFORE ──first boundary──▶ HEADERS ──empty line──▶ PART ──boundary──▶ HEADERS
//                                                        └───boundary --──▶ AFTER
#include "tests/provider/multipart.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HEADERS_MAX  4096
#define HELD_MAX     (1u << 20) // what is held and a piece of the body
#define BOUNDARY_MAX 70         // RFC 2046

int multipart_init(struct multipart *m, struct slice content_type, multipart_sink *sink, void *arg,
                   struct error *why) {
    *m = (struct multipart){.sink = sink, .arg = arg};
    buf_init(&m->held, HELD_MAX);
    const char *at =
        content_type.n > 0 ? memmem(content_type.p, content_type.n, "boundary=", 9) : NULL;
    if (!slice_starts(content_type, "multipart/form-data") || at == NULL) {
        return error_set(why, -EINVAL, "Content-Type: want multipart/form-data with a boundary");
    }
    struct slice rest = slice_sub(content_type, (size_t)(at + 9 - content_type.p), SIZE_MAX);
    if (rest.n > 0 && rest.p[0] == '"') {
        const char *quote = memchr(rest.p + 1, '"', rest.n - 1);
        rest = slice_sub(rest, 1, quote != NULL ? (size_t)(quote - rest.p - 1) : 0);
    } else {
        const char *semicolon = rest.n > 0 ? memchr(rest.p, ';', rest.n) : NULL;
        rest =
            slice_trim(semicolon != NULL ? slice_sub(rest, 0, (size_t)(semicolon - rest.p)) : rest);
    }
    if (rest.n == 0 || rest.n > BOUNDARY_MAX) {
        return error_set(why, -EINVAL, "Content-Type: want a boundary of 1 to %d bytes",
                         BOUNDARY_MAX);
    }
    m->n_delimiter =
        (size_t)snprintf(m->delimiter, sizeof(m->delimiter), "\r\n--%.*s", SLICE_FMT(rest));
    return buf_add_str(&m->held, "\r\n"); // so that the first boundary looks like the others
}

void multipart_free(struct multipart *m) {
    buf_free(&m->held);
}

// drop forgets the first n bytes of what is held.
static void drop(struct multipart *m, size_t n) {
    m->held.n -= n;
    memmove(m->held.p, m->held.p + n, m->held.n);
}

// parameter copies name="value" of a header; false: there is none.
static bool parameter(struct slice header, const char *name, char *into) {
    char want[32];
    size_t n = (size_t)snprintf(want, sizeof(want), "; %s=\"", name);
    const char *at = header.n > 0 ? memmem(header.p, header.n, want, n) : NULL;
    into[0] = '\0';
    if (at == NULL) {
        return false;
    }
    struct slice value = slice_sub(header, (size_t)(at - header.p) + n, SIZE_MAX);
    const char *quote = value.n > 0 ? memchr(value.p, '"', value.n) : NULL;
    if (quote == NULL) {
        return false;
    }
    value.n = (size_t)(quote - value.p);
    bool is_text = slice_utf8_error(value) < 0 && memchr(value.p, '\0', value.n) == NULL;
    return is_text && slice_copy(value, into, MULTIPART_NAME_MAX);
}

static int read_headers(struct multipart *m, struct slice headers, struct error *why) {
    m->name[0] = m->filename[0] = '\0';
    while (headers.n > 0) {
        const char *eol = memmem(headers.p, headers.n, "\r\n", 2);
        struct slice line =
            slice_sub(headers, 0, eol != NULL ? (size_t)(eol - headers.p) : headers.n);
        headers = slice_sub(headers, line.n + 2, SIZE_MAX);
        if (!slice_has_nocase(slice_sub(line, 0, 20), "content-disposition:")) {
            continue;
        }
        struct slice value = slice_trim(slice_sub(line, 20, SIZE_MAX));
        if (!slice_starts(value, "form-data") || !parameter(value, "name", m->name)) {
            return error_set(why, -EINVAL, "form: a part has no name");
        }
        (void)parameter(value, "filename", m->filename);
    }
    return m->name[0] != '\0' ? 0 : error_set(why, -EINVAL, "form: a part has no name");
}

// step_boundary reads what follows a delimiter. Returns 1 when it understood something, 0 when more
// bytes are needed.
static int step_boundary(struct multipart *m, size_t after, struct error *why) {
    struct slice rest = slice_sub(buf_slice(&m->held), after, SIZE_MAX);
    if (rest.n < 2) {
        return 0;
    }
    bool last = slice_starts(rest, "--");
    if (!last && !slice_starts(rest, "\r\n")) {
        return error_set(why, -EINVAL,
                         "form: a boundary is followed by neither a line's end nor --");
    }
    m->state = last ? MULTIPART_AFTER : MULTIPART_HEADERS;
    drop(m, last ? m->held.n : after + 2);
    return 1;
}

static int step_headers(struct multipart *m, struct error *why) {
    struct slice all = buf_slice(&m->held);
    const char *end = all.n > 0 ? memmem(all.p, all.n, "\r\n\r\n", 4) : NULL;
    if (end == NULL) {
        return all.n <= HEADERS_MAX
                   ? 0
                   : error_set(why, -EINVAL, "form: a part's headers are too long");
    }
    size_t n = (size_t)(end - all.p);
    int rc = read_headers(m, slice_sub(all, 0, n), why);
    if (rc != 0) {
        return rc;
    }
    drop(m, n + 4);
    m->state = MULTIPART_PART;
    rc = m->sink(m->arg, m->name, m->filename, SLICE_NONE);
    return rc != 0 ? rc : 1;
}

static int step_part(struct multipart *m, struct error *why) {
    struct slice all = buf_slice(&m->held);
    const char *at = all.n > 0 ? memmem(all.p, all.n, m->delimiter, m->n_delimiter) : NULL;
    size_t n = at != NULL                ? (size_t)(at - all.p)
               : all.n >= m->n_delimiter ? all.n - m->n_delimiter + 1
                                         : 0;
    if (n > 0) {
        int rc = m->sink(m->arg, m->name, m->filename, slice_sub(all, 0, n));
        if (rc != 0) {
            return rc;
        }
        drop(m, n);
    }
    return at != NULL ? step_boundary(m, m->n_delimiter, why) : 0;
}

static int step(struct multipart *m, struct error *why) {
    struct slice all = buf_slice(&m->held);
    switch (m->state) {
    case MULTIPART_BEFORE:
        if (all.n < m->n_delimiter) {
            return 0;
        }
        return memcmp(all.p, m->delimiter, m->n_delimiter) == 0
                   ? step_boundary(m, m->n_delimiter, why)
                   : error_set(why, -EINVAL, "form: it does not begin with the boundary");
    case MULTIPART_HEADERS:
        return step_headers(m, why);
    case MULTIPART_PART:
        return step_part(m, why);
    default:
        drop(m, m->held.n);
        return 0;
    }
}

int multipart_add(struct multipart *m, struct slice bytes, struct error *why) {
    while (bytes.n > 0) {
        struct slice piece = slice_sub(bytes, 0, HELD_MAX / 2);
        bytes = slice_sub(bytes, piece.n, SIZE_MAX);
        int rc = buf_add_slice(&m->held, piece);
        while (rc == 0 && (rc = step(m, why)) > 0) {
            rc = 0;
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int multipart_end(const struct multipart *m, struct error *why) {
    return m->state == MULTIPART_AFTER
               ? 0
               : error_set(why, -EINVAL, "form: the closing boundary is missing");
}
