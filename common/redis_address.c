// Reads the address of a Redis. Invariant: the password is in no message. Called by redis_new.
#include "common/redis_address.h"
#include "common/bytes.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REDIS_PORT 6379 // Redis's own default
#define REDIS_MAX_DB 65535

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// unescape copies text with %XX replaced; a lone % stays as it is.
static char *unescape(struct slice text) {
    char *out = mem_alloc(text.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '%' && i + 2 < text.n && hex_digit(text.p[i + 1]) >= 0 &&
            hex_digit(text.p[i + 2]) >= 0) {
            out[n++] = (char)(hex_digit(text.p[i + 1]) * 16 + hex_digit(text.p[i + 2]));
            i += 2;
        } else {
            out[n++] = text.p[i];
        }
    }
    out[n] = '\0';
    return out;
}

static void wipe(char *secret) {
    if (secret != NULL) {
        explicit_bzero(secret, strlen(secret));
        free(secret);
    }
}

// read_number reads decimal digits up to most; -1 for anything else.
static int read_number(struct slice text, int most) {
    int value = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || value > most) {
            return -1;
        }
        value = value * 10 + (text.p[i] - '0');
    }
    return text.n > 0 && value <= most ? value : -1;
}

// read_login reads "user:password", "user" or ":password".
static int read_login(struct slice login, struct redis_address *out, struct error *why) {
    const char *colon = memchr(login.p, ':', login.n);
    if (colon == NULL) {
        return error_set(why, -EINVAL, "Redis address: got no ':' before '@', want "
                                       "redis://user:password@host or redis://:password@host");
    }
    size_t n_user = (size_t)(colon - login.p);
    if (n_user > 0) {
        out->user = unescape(slice_sub(login, 0, n_user));
    }
    struct slice secret = slice_sub(login, n_user + 1, login.n);
    if (secret.n > 3 && slice_starts(secret, "${") && secret.p[secret.n - 1] == '}') {
        char *name = slice_dup(slice_sub(secret, 2, secret.n - 3));
        const char *value = getenv(name);
        int rc = value != NULL && *value != '\0'
                     ? 0
                     : error_set(why, -EINVAL,
                                 "Redis address: the environment has no %s, want the password there",
                                 name);
        out->password = rc == 0 ? mem_dup_str(value) : NULL;
        free(name);
        return rc;
    }
    out->password = unescape(secret);
    return 0;
}

// read_place reads "host[:port][/db]".
static int read_place(struct slice place, struct redis_address *out, struct error *why) {
    const char *slash = memchr(place.p, '/', place.n);
    if (slash != NULL) {
        struct slice db = slice_sub(place, (size_t)(slash - place.p) + 1, place.n);
        place.n = (size_t)(slash - place.p);
        out->db = db.n > 0 ? read_number(db, REDIS_MAX_DB) : 0;
        if (out->db < 0) {
            return error_set(why, -EINVAL, "Redis address: got database '%.*s', want 0..%d",
                             SLICE_FMT(db), REDIS_MAX_DB);
        }
    }
    struct slice host = place, port = SLICE_NONE;
    const char *bracket = place.n > 0 && place.p[0] == '[' ? memchr(place.p, ']', place.n) : NULL;
    const char *colon = bracket != NULL ? bracket + 1 : memrchr(place.p, ':', place.n);
    if (bracket != NULL) {
        host = slice_sub(place, 1, (size_t)(bracket - place.p) - 1);
        colon = colon < place.p + place.n ? colon : NULL;
    } else if (colon != NULL) {
        host.n = (size_t)(colon - place.p);
    }
    if (colon != NULL) {
        port = slice_sub(place, (size_t)(colon - place.p) + 1, place.n);
    }
    out->port = colon != NULL ? read_number(port, 65535) : REDIS_PORT;
    if (host.n == 0 || out->port < 1 || (colon != NULL && *colon != ':')) {
        return error_set(why, -EINVAL, "Redis address: got place '%.*s', want host or host:port",
                         SLICE_FMT(place));
    }
    out->host = slice_dup(host);
    return 0;
}

static int parse(struct slice text, struct redis_address *out, struct error *why) {
    if (slice_starts(text, "redis://")) {
        struct slice rest = slice_sub(text, strlen("redis://"), text.n);
        const char *at = rest.n > 0 ? memrchr(rest.p, '@', rest.n) : NULL;
        if (at != NULL) {
            size_t n = (size_t)(at - rest.p);
            int rc = read_login(slice_sub(rest, 0, n), out, why);
            if (rc != 0) {
                return rc;
            }
            rest = slice_sub(rest, n + 1, rest.n);
        }
        if (rest.n == 0) {
            return error_set(why, -EINVAL, "Redis address: got no host, want redis://host[:port]");
        }
        return read_place(rest, out, why);
    }
    if (slice_starts(text, "rediss://")) {
        return error_set(why, -EINVAL, "Redis address: got rediss://, want redis:// (TLS goes through "
                                       "a tunnel on this machine, such as stunnel)");
    }
    if (slice_starts(text, "unix:")) {
        text = slice_sub(text, strlen("unix:"), text.n);
    } else if (text.n == 0 || memchr(text.p, '/', text.n) == NULL || memchr(text.p, '@', text.n)) {
        // Not repeated: what looks like no address may hold a password.
        return error_set(why, -EINVAL, "Redis address: got neither redis://host[:port][/db] nor "
                                       "unix:/path/to/socket");
    }
    if (text.n == 0) {
        return error_set(why, -EINVAL, "Redis address: got no path after unix:, want unix:/path");
    }
    out->path = slice_dup(text);
    return 0;
}

int redis_address_parse(const char *text, struct redis_address *out, struct error *why) {
    *out = (struct redis_address){0};
    int rc = parse(slice_of(text), out, why);
    if (rc != 0) {
        redis_address_free(out);
    }
    return rc;
}

void redis_address_free(struct redis_address *address) {
    free(address->path);
    free(address->host);
    free(address->user);
    wipe(address->password);
    *address = (struct redis_address){0};
}
