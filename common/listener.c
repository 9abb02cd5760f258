// Listening. Invariant: a descriptor that is not returned is closed. Called by httpd.
#include "common/listener.h"
#include "common/bytes.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

// split_address cuts "host:port" into two strings; an empty host is 127.0.0.1.
static int split_address(const char *address, char *host, char *port, size_t size,
                         struct error *why) {
    const char *colon = strrchr(address, ':');
    struct slice h = slice_of(address), p = slice_of(address);
    if (colon != NULL) {
        h.n = (size_t)(colon - address);
        p = slice_of(colon + 1);
    } else {
        h.n = 0;
    }
    if (h.n >= 2 && h.p[0] == '[' && h.p[h.n - 1] == ']') {
        h = slice_sub(h, 1, h.n - 2);
    }
    if (h.n == 0) {
        h = SLICE_LIT("127.0.0.1");
    }
    char *end = NULL;
    long number = strtol(p.p, &end, 10);
    bool digits = p.n > 0 && p.p[0] >= '0' && p.p[0] <= '9' && *end == '\0';
    if (!digits || number > 65535 || !slice_copy(h, host, size) || !slice_copy(p, port, size)) {
        return error_set(why, -EINVAL, "address: got '%s', want host:port with port 0..65535",
                         address);
    }
    return 0;
}

static int listen_on(const struct addrinfo *info) {
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int listener_open(const char *address, struct error *why) {
    char host[256], port[256];
    int rc = split_address(address, host, port, sizeof(host), why);
    if (rc != 0) {
        return rc;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        return error_set(why, -EADDRNOTAVAIL, "address '%s': %s", address, gai_strerror(rc));
    }
    int fd = -EADDRNOTAVAIL;
    for (struct addrinfo *i = found; i != NULL && fd < 0; i = i->ai_next) {
        fd = listen_on(i);
    }
    freeaddrinfo(found);
    if (fd < 0) {
        return error_set(why, fd, "cannot listen on '%s': %s", address, strerror(-fd));
    }
    return fd;
}

int listener_port(int fd) {
    struct sockaddr_storage at = {0};
    socklen_t n = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0) {
        return 0;
    }
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}
